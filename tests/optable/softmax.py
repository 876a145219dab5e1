from tests.optable import case, integers, normal, op, positive, probabilities


def along_a_dimension(name):
    op(name, case(normal(4, 5), 1), case(normal(4, 5), 0), case(normal(2, 3, 4, 5), 1), case(normal(2, 3, 4, 5), -2),
       case(normal(2, 3, 4, 5), dim=-1), case(normal(2, 3, 2, 3, 2), 1), case(normal(7), 0), case(normal(), -1),
       case(normal(1, 1), 1), case(normal(3, 1, 2), 1), case(normal(0, 3), 1), case(normal(3, 0), 1),
       case(normal(2, 0, 3), 1), case(normal(3, 300), 1), case(normal(1, 2, 300), 1), case(normal(40, 900), 1),
       case(normal(2, 40, 450), 1))


along_a_dimension("softmax")
along_a_dimension("log_softmax")
op("softmin", case(normal(4, 5), 1), case(normal(2, 3, 4), dim=0), case(normal(0, 3), 1))




def over_classes(name, *more):
    weight = positive(5).constant()
    op(name, case(normal(4, 5), integers(0, 5, 4)), case(normal(4, 5), integers(0, 5, 4), weight),
       case(normal(4, 5), integers(0, 5, 4), reduction="sum"), case(normal(4, 5), integers(0, 5, 4), reduction="none"),
       case(normal(8, 5), integers(-1, 5, 8), ignore_index=-1),
       case(normal(8, 5), integers(-1, 5, 8), weight, ignore_index=-1, reduction="sum"),
       case(normal(8, 5), integers(0, 5, 8), weight, None, 2, None, "none"),
       case(normal(2, 5, 3), integers(0, 5, 2, 3), weight=weight),
       case(normal(2, 5, 3, 4), integers(-1, 5, 2, 3, 4), weight, ignore_index=-1),
       case(normal(2, 5, 3, 4), integers(0, 5, 2, 3, 4), reduction="none"),
       case(normal(2, 5, 2, 3, 2), integers(0, 5, 2, 2, 3, 2), weight=weight, reduction="sum"),
       case(normal(5), integers(0, 5)), case(normal(5), integers(0, 5), weight, reduction="none"),
       case(normal(1, 1), integers(0, 1, 1)), case(normal(0, 5), integers(0, 5, 0)),
       case(normal(0, 5), integers(0, 5, 0), reduction="sum"), case(normal(2, 5, 0), integers(0, 5, 2, 0), weight),
       case(normal(40, 900), integers(0, 900, 40)), *more)


over_classes("nll_loss")
over_classes(
    "cross_entropy",
    *[case(normal(6, 5), integers(-1, 5, 6), *weight, ignore_index=-1, label_smoothing=0.3, reduction=reduction)
      for weight in ([], [positive(5).constant()]) for reduction in ("mean", "sum", "none")],
    *[case(normal(2, 5, 3, 4), integers(-1, 5, 2, 3, 4), *weight, ignore_index=-1, label_smoothing=1.0)
      for weight in ([], [positive(5).constant()])],
    case(normal(5), integers(0, 5), label_smoothing=0.1), case(normal(3, 70, 300), integers(0, 70, 3, 300)),
    case(normal(3, 70, 300), integers(-1, 70, 3, 300), positive(70).constant(), ignore_index=-1, label_smoothing=0.1),
    *[case(normal(4, 5), probabilities(4, 5), *weight, reduction=reduction)
      for weight in ([], [positive(5)]) for reduction in ("mean", "sum", "none")],
    case(normal(4, 5), probabilities(4, 5), positive(5), label_smoothing=0.2),
    case(normal(2, 5, 3, 4), probabilities(2, 5, 3, 4), label_smoothing=0.2, reduction="none"),
    case(normal(2, 5, 3), probabilities(2, 5, 3), positive(5), label_smoothing=1.0),
    case(normal(5), probabilities(5, axis=0)), case(normal(1, 5), normal(1, 5), reduction="sum"),
    case(normal(0, 5), probabilities(0, 5)), case(normal(3, 70, 300), probabilities(3, 70, 300)),
    case(normal(40, 900), probabilities(40, 900).constant(), label_smoothing=0.1))
