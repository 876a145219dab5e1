from math import inf

from tests.optable import boolean, case, distinct, integers, normal, op, positive

_DIMS = (case(normal(3, 4)), case(normal(3, 4), 0), case(normal(2, 3, 4, 5), (0, 2, 3)),
         case(normal(2, 3, 4), (-1, 0), True), case(normal(3, 4), 1, keepdim=True), case(normal(3, 4), dim=()),
         case(normal()), case(normal(), 0), case(normal(1, 5), 0))
_INTEGERS = (case(integers(-3, 3, 3, 4)), case(integers(-3, 3, 3, 4), 1), case(boolean(3, 4), 0))

op("sum", *_DIMS, *_INTEGERS, case(normal(0, 3)), case(normal(2, 0), 1))
op("mean", *_DIMS, case(normal(0, 3), 1))
op("nansum", *_DIMS, *_INTEGERS)
op("nanmean", *_DIMS)
op("var", *_DIMS[:5], case(normal(3, 4), correction=2), case(normal(3, 4), 1, correction=0, keepdim=True),
   case(normal(3, 4), False), case(normal(3, 4), 1, False), case(normal(3, 4), 1, True, True),
   case(normal(3, 4), correction=0.5), gradcheck=False)
op("var", case(normal(3, 4)), case(normal(2, 3, 4), (0, 2), correction=0), case(normal(5), unbiased=False))
op("std", case(normal(3, 4)), case(normal(3, 4), 1), case(normal(2, 3, 4, 5), (0, 2, 3)), case(normal(5), correction=3),
   case(normal(3, 4), 0, False, True), case(normal(3, 4), False))
op("var_mean", case(normal(3, 4)), case(normal(3, 4), 1, correction=0, keepdim=True))
op("std_mean", case(normal(3, 4)), case(normal(3, 4), 1, correction=0, keepdim=True))
op("prod", case(normal(3, 4)), case(normal(3, 4), 0), case(normal(3, 4, 2), 1, True), case(normal()), case(normal(), 0),
   case(normal(0, 3)), case(normal(2, 0), 1), case(integers(-2, 3, 4)),
   case(integers(0, 2, 3, 4), 1), case(normal(1)))
op("norm", *(case(normal(3, 4), p) for p in (1, 2, 3, 1.5, 0.5, "fro", None)), case(positive(3, 4), -1),
   case(distinct(3, 5), inf), case(normal(2, 3, 4), 2, 1), case(normal(2, 3, 4), "fro", (0, 2), True),
   case(normal(2, 3, 4), 3, (1, 2)), case(normal(2, 3, 4), inf, 0), case(normal(2, 3, 4), -inf, -1),
   case(normal(3, 4).constant(), 0), case(normal()), case(normal(0, 3), 2, 0), case(normal(0)))
op("logsumexp", case(normal(3, 4), 1), case(normal(3, 4), 0, True), case(normal(2, 3, 4), (0, 2)), case(normal(), 0),
   case(normal(0, 3), 0))
op("all", case(boolean(3, 4)), case(integers(0, 2, 3, 4), 1), case(integers(0, 2, 3, 4), (0, 1), True),
   case(integers(0, 2, 2, 2), ()), case(boolean(0)), case(boolean(2, 0), 1))
op("any", case(boolean(3, 4)), case(integers(0, 2, 3, 4), 1), case(integers(0, 2, 3, 4), (0, 1), True),
   case(integers(0, 2, 2, 2), ()), case(boolean(0)), case(boolean(2, 0), 1))
op("count_nonzero", case(integers(0, 2, 3, 4)), case(integers(0, 2, 3, 4), 1), case(integers(0, 2, 3, 4), (0, 1)))

for _name in ("max", "min"):
    op(_name, case(distinct(3, 5)), case(distinct(3, 5), 0), case(distinct(2, 3, 4, 2), 1, True), case(distinct(3), -1),
       case(normal(), 0), case(normal(0, 3), 1), case(distinct(3, 4), normal(4)), case(integers(-99, 99, 9)),
       case(boolean(4)), case(normal(3, 1), dim=1, keepdim=True))
for _name in ("amax", "amin"):
    op(_name, case(distinct(3, 5)), case(distinct(3, 5), 0), case(distinct(2, 3, 4, 2), (1, 3), True), case(normal()),
       case(distinct(3, 4), (0, 1)), case(integers(-99, 99, 9)), case(normal(0, 3), 1))
for _name in ("argmax", "argmin"):
    op(_name, *(case(distinct(3, 5).constant(), *args) for args in ((), (0,), (-1, True), (None, True))),
       case(integers(-99, 99, 9)), case(normal().constant(), 0))
op("median", case(distinct(3, 5)), case(distinct(4, 4)), case(distinct(4, 4), 0), case(distinct(2, 3, 4), 1, True),
   case(normal(), 0), case(normal()), case(normal(1)))
op("nanmedian", case(distinct(3, 5)), case(distinct(4, 4), 0), case(distinct(2, 3, 4), 1, True), case(normal()),
   case(normal(), 0))
op("aminmax", case(distinct(3, 5)), case(distinct(3, 5), dim=0), case(distinct(2, 3, 4), dim=1, keepdim=True),
   case(integers(-99, 99, 9)))
