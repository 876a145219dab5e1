from tests.optable import boolean, case, distinct, integers, normal, op

op("cumsum", case(normal(3, 4), 0), case(normal(3, 4), -1), case(normal(), 0), case(normal(0, 3), 0),
   case(integers(0, 9, 4), 0), case(normal(2, 3, 4, 5), 2), case(boolean(4), dim=0))
op("cumprod", case(normal(3, 4), 0), case(normal(3, 4), -1), case(normal(), 0), case(normal(0, 3), 0),
   case(integers(1, 4, 4), 0), case(normal(2, 3, 2, 3), 2))
op("logcumsumexp", case(normal(3, 4), 0), case(normal(3, 4), -1), case(normal(2, 3, 4), dim=1), case(normal(), 0),
   case(normal(0, 3), 0))
for _name in ("cummax", "cummin"):
    op(_name, case(distinct(3, 5), 0), case(distinct(3, 5), -1), case(distinct(2, 3, 4), dim=1), case(normal(), 0),
       case(integers(0, 3, 9), 0), case(integers(0, 2, 4, 5), 1), case(distinct(0, 3), 1))
op("diff", case(normal(3, 4)), case(normal(3, 4), 1, 0), case(normal(3, 5), n=3), case(normal(5), 7),
   case(normal(3), 0), case(normal(2, 3), 1, -1, normal(2, 1), normal(2, 2)), case(integers(0, 9, 5), 2),
   case(boolean(2, 5)), case(normal(2, 1)), case(normal(0, 3), 1, 0))
op("trapezoid", case(normal(3, 4)), case(normal(3, 4), dx=0.5, dim=0), case(normal(3, 4), normal(4)),
   case(normal(3, 4), normal(3, 4), dim=0), case(normal(3), normal(3)), case(normal(1)))
op("cumulative_trapezoid", case(normal(3, 4)), case(normal(3, 4), dx=2, dim=0), case(normal(3, 4), normal(4)),
   case(normal(2, 3, 4), normal(3), dim=1))
