from tests.optable import case, integers, normal, op

W = normal(7, 4)
op("embedding", case(integers(0, 7, 5), W), case(integers(0, 7), W), case(integers(0, 7, 0), W),
   case(integers(0, 7, 3, 0, 2), W), case(integers(0, 2, 2, 3), W), case(integers(0, 1, 3), normal(1, 1)))
op("embedding", case(integers(0, 7, 2, 3), W, 2), case(integers(0, 7, 2, 3), W, -3),
   case(integers(0, 3, 9), W, scale_grad_by_freq=True), case(integers(0, 4, 6), W, None, 0.7),
   case(integers(0, 4, 6), W, None, 1.0, 1.0), updates=(1,), gradcheck=False)  # other gradients than the value's
op("embedding_bag",
   *[case(integers(0, 7, 3, 5), W, mode=mode) for mode in ("sum", "mean", "max")],
   *[case(integers(0, 7, 9), W, integers(0, 1, 1), mode=mode) for mode in ("sum", "mean", "max")],
   *[case(integers(0, 4, 3, 5), W, mode=mode, padding_idx=2) for mode in ("sum", "mean", "max")],
   case(integers(0, 7, 3, 5), W, mode="sum", per_sample_weights=normal(3, 5)),
   case(integers(0, 3, 3, 5), W, mode="sum", per_sample_weights=normal(3, 5), padding_idx=1),
   case(integers(0, 7, 0, 5), W))
op("embedding_bag", case(integers(0, 4, 2, 3), W, None, 0.7), updates=(1,), gradcheck=False)
