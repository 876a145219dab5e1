from tests.optable import case, normal, op, positive, uniform

op("matrix_exp", case(normal(3, 3)), case(uniform(-4, 4, 2, 3, 3)), case(normal(1, 1)), case(normal(0, 2, 2)))
op("inverse", case(normal(3, 3)), case(normal(2, 4, 4)), case(positive(1, 1)), halves=False)
op("det", case(normal(3, 3)), case(normal(2, 4, 4)), case(normal(1, 1)), halves=False)
op("matrix_power", case(normal(2, 3, 3).constant(), 0), *[case(normal(2, 3, 3), n) for n in (1, 2, 5, -1)],
   halves=False)
op("vander", *[case(normal(4).constant(), *args) for args in ((), (2, True), (0,), (5,))])
