from tests.optable import case, normal, op, uniform

op("matrix_exp", case(normal(3, 3)), case(uniform(-4, 4, 2, 3, 3)), case(normal(1, 1)), case(normal(0, 2, 2)))
