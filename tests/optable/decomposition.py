from tests.optable import case, normal, op, positive, uniform

op("slogdet", case(normal(3, 3)), case(normal(2, 4, 4)), case(normal(1, 1)), halves=False)
op("logdet", case(normal(3, 3)), case(uniform(1, 2, 3, 1, 1)), halves=False)
op("pinverse", case(normal(3, 3)), case(normal(2, 4, 2)), case(normal(2, 5)), halves=False)
op("cholesky_solve", case(normal(3, 2), positive(3, 3).constant()),
   case(normal(2, 3, 1), positive(2, 3, 3).constant(), upper=True), halves=False)
op("cholesky_inverse", case(positive(3, 3).constant()), case(positive(2, 3, 3).constant(), upper=True), halves=False)
