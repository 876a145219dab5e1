from tests.optable import case, normal, op

op("relu", case(normal(4, 5)), case(normal(2, 3, 4, 5)), case(normal(0, 3)), case(normal()), case(normal(1)))
op("leaky_relu", case(normal(4, 5)), case(normal(2, 3, 4, 5), negative_slope=0.3), case(normal(7), -0.5),
   case(normal(0)))
