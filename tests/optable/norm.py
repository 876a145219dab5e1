from tests.optable import case, normal, op, positive, uniform

op("layer_norm", case(normal(4, 6), (6,), positive(6), normal(6)), case(normal(2, 3, 4), [3, 4], normal(3, 4)),
   case(normal(2, 3, 4), (4,), None, normal(4), 0.1), case(normal(5), (5,)),
   case(normal(3, 1), (1,), normal(1), eps=0.1),
   case(normal(2, 3, 2, 2), (3, 2, 2), positive(3, 2, 2), normal(3, 2, 2)), case(normal(0, 4), (4,), normal(4)),
   case(uniform(50, 51, 4, 33), (33,), positive(33), normal(33)), case(normal(2, 0), (0,)),
   case(normal(70, 5), (5,), positive(5), normal(5)), case(normal(3, 150), (150,), positive(150), normal(150)))
op("rms_norm", case(normal(4, 6), (6,), positive(6)), case(normal(2, 3, 4), [3, 4], normal(3, 4), 0.1),
   case(normal(2, 3, 4), (4,)), case(normal(5), (5,), eps=1e-3), case(normal(0, 4), (4,), normal(4)),
   case(normal(70, 5), (5,), positive(5)), case(normal(3, 150), (150,), positive(150)))
op("group_norm", case(normal(3, 6), 2, positive(6), normal(6)), case(normal(2, 6, 5), 3, positive(6), normal(6)),
   case(normal(2, 4, 3, 5), 1, normal(4), normal(4)), case(normal(2, 4, 3, 5), 4, positive(4), None, 0.1),
   case(normal(2, 4, 2, 3, 2), 2), case(normal(0, 4, 3), 2, normal(4), normal(4)))
op("instance_norm", case(normal(2, 3, 5), weight=positive(3), bias=normal(3)), case(normal(2, 3, 4, 5)),
   case(normal(2, 3, 5), normal(3).constant(), positive(3).constant(), positive(3), normal(3), True, 0.3),
   case(normal(2, 3, 4, 5), normal(3).constant(), positive(3).constant(), positive(3), normal(3), False),
   case(normal(2, 2, 2, 3, 2), None, None, normal(2), eps=0.1), updates=(1, 2))
op("local_response_norm", case(normal(2, 5, 4), 3), case(normal(2, 6, 3, 4), 2, 0.1, 0.5, 2.0),
   case(normal(2, 4, 2, 3, 2), 5, alpha=1.0), case(normal(0, 4, 3), 2), halves=False)
op("normalize", case(normal(4, 5)), case(normal(4, 5), 1.0, 0), case(normal(2, 3, 4), dim=-1, p=3.0),
   case(normal(5), dim=0), case(normal(2, 3, 4), 2.0, (1, 2)), case(normal(0, 3)))
