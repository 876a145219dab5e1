from tests.optable import case, integers, normal, op

op("zeros", case((2, 3)), case(2, 3), case(()), case(0, 3), case([2]), case(size=(1, 2)), case(4))
op("ones", case((2, 3)), case(2, 3), case(()), case(0, 3), case(size=[2]))
op("full", case((2, 3), 2.5), case((2,), 7), case((2, 2), True), case((), 1.0), case((0,), 1))
op("eye", case(3), case(2, 4), case(4, 2), case(0), case(0, 3), case(n=2, m=3))
op("arange", case(5), case(2, 7), case(1, 10, 3), case(5, 1, -2), case(5.0), case(0.5, 3), case(1, 2, 0.3), case(0),
   case(0, 1, 0.1), case(3, -3, -0.7), case(end=4), case(1, end=3), case(True))
op("linspace", case(0, 1, 5), case(-2.5, 7.5, 9), case(3, -3, 4), case(1, 5, 1), case(1, 5, 0), case(2, 2, 3),
   case(start=0, end=1, steps=2))
op("logspace", case(0, 2, 5), case(-1, 1, 4, 2), case(0, 3, 1), case(1, 2, 3, base=0.5))
op("zeros_like", case(normal(2, 3)), case(integers(0, 5, 3)), case(normal()), case(normal(0, 2)))
op("ones_like", case(normal(2, 3)), case(integers(0, 5, 3)), case(normal()))
op("full_like", case(normal(2, 3), 2), case(integers(0, 5, 3), 2.75), case(normal(), fill_value=1.5))
op("triu_indices", case(3, 4), case(4, 3, 1), case(3, 3, -1), case(0, 3), case(2, 5, offset=2))
op("tril_indices", case(3, 4), case(4, 3, 1), case(3, 3, -1), case(3, 0), case(5, 2, offset=-2))
