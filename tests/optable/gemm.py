from tests.optable import case, normal, op

op("matmul",
   case(normal(3, 4), normal(4, 5)), case(normal(4), normal(4)), case(normal(3, 4), normal(4)),
   case(normal(4), normal(4, 5)), case(normal(2, 3, 4), normal(4, 5)), case(normal(3, 4), normal(2, 4, 5)),
   case(normal(2, 1, 3, 4), normal(3, 4, 2)), case(normal(2, 1, 2, 3, 4), normal(2, 1, 4, 2)),
   case(normal(5, 2, 3), normal(3)), case(normal(3), normal(5, 3, 2)), case(normal(0, 4), normal(4, 3)),
   case(normal(3, 0), normal(0, 2)), case(normal(0), normal(0)), case(normal(1, 1), normal(1, 1)),
   case(normal(2, 1, 1), normal(1, 1, 3)), case(normal(0, 2, 3), normal(3, 2)), case(normal(2, 3, 0), normal(0, 4)),
   case(normal(0, 3, 1, 3, 4), normal(3, 1, 4, 2)), case(normal(4, 5), normal(5, 3).constant()))
op("mm", case(normal(3, 4), normal(4, 2)), case(normal(3, 0), normal(0, 2)), case(normal(1, 4), normal(4, 1)))
op("bmm", case(normal(2, 3, 4), normal(2, 4, 5)), case(normal(0, 3, 4), normal(0, 4, 5)))
op("mv", case(normal(3, 4), normal(4)), case(normal(0, 4), normal(4)))
op("dot", case(normal(4), normal(4)), case(normal(0), normal(0)), case(normal(1), normal(1)))
op("outer", case(normal(3), normal(4)), case(normal(0), normal(4)))
op("addmm",
   case(normal(3, 2), normal(3, 4), normal(4, 2)), case(normal(), normal(3, 4), normal(4, 2), alpha=2),
   case(normal(2), normal(3, 4), normal(4, 2), beta=0.5, alpha=2.0),
   case(normal(3, 1), normal(3, 4), normal(4, 2), alpha=0),
   case(normal(3, 2).constant(), normal(3, 4), normal(4, 2), beta=0))
op("baddbmm",
   case(normal(2, 3, 5), normal(2, 3, 4), normal(2, 4, 5), beta=2.0),
   case(normal(5), normal(2, 3, 4), normal(2, 4, 5), alpha=0.5))
op("linear",
   case(normal(5, 4), normal(3, 4), normal(3)), case(normal(5, 4), normal(3, 4)), case(normal(4), normal(3, 4)),
   case(normal(4), normal(3, 4), normal(3)), case(normal(2, 3, 4), normal(5, 4), normal(5)),
   case(normal(0, 4), normal(3, 4), normal(3)), case(normal(2, 0), normal(3, 0), normal(3)),
   case(normal(2, 4), normal(4)), case(normal(4), normal(4), normal()), case(normal(2, 2, 1), normal(1, 1), normal(1)),
   case(normal(5, 4).constant(), normal(3, 4), normal(3)), case(normal(300, 70), normal(110, 70), normal(110)))
op("bilinear",
   case(normal(5, 3), normal(5, 4), normal(2, 3, 4), normal(2)), case(normal(3), normal(4), normal(2, 3, 4)),
   case(normal(2, 3, 3), normal(2, 3, 1), normal(4, 3, 1)), case(normal(0, 3), normal(0, 2), normal(2, 3, 2)))
