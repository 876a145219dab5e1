from tests.optable import boolean, case, distinct, integers, normal, op

op("index_copy", case(normal(3, 4), 0, integers(1, 2, 1), normal(1, 4)),
   case(normal(3, 1), 1, integers(0, 1, 1), normal(3, 1)), case(normal(2, 3, 4), 1, integers(0, 3, 0), normal(2, 0, 4)),
   case(normal(), 0, integers(0, 1, 1), normal(1)), case(integers(0, 9, 4), 0, integers(2, 3, 1), integers(0, 9, 1)))
op("masked_scatter", case(normal(3, 4), boolean(3, 4), normal(12)), case(normal(3, 4), boolean(4), normal(3, 5)),
   case(normal(3, 1), boolean(3, 1), normal(2, 3)), case(normal(0, 2), boolean(2), normal(0)))
op("put", case(normal(3, 4), integers(-12, -11, 1), normal(1)), case(normal(3, 4), integers(0, 12, 9), normal(9), True),
   case(normal(3), integers(0, 3, 2, 2), normal(4), accumulate=True), case(normal(3, 4), integers(0, 9, 0), normal(0)))
op("select_scatter", case(normal(3, 4), normal(4), 0, 1), case(normal(3, 4), normal(3), 1, -1),
   case(normal(2, 3, 4), normal(2, 4), dim=-2, index=0))
op("slice_scatter", case(normal(5, 3), normal(2, 3), 0, 1, 3), case(normal(3, 6), normal(3, 3), 1, None, None, 2),
   case(normal(3, 5), normal(3, 2), dim=-1, start=-2), case(normal(3, 5), normal(3, 5), 1))
op("diagonal_scatter", case(normal(3, 3), normal(3)), case(normal(3, 4), normal(2), 2),
   case(normal(3, 4), normal(2), -1), case(normal(2, 3, 4), normal(3, 2), 0, 0, 2),
   case(normal(2, 4, 3), normal(2, 3), dim1=1, dim2=-1))
for _reduce in ("sum", "prod", "mean", "amax", "amin"):
    op("scatter_reduce", *[
        case(distinct(3, 4), 1, integers(0, 4, 3, 6), normal(3, 6), reduce=_reduce, include_self=include_self)
        for include_self in (True, False)],
        case(distinct(3, 4).constant(), 0, integers(0, 3, 5, 3), normal(6, 4).constant(), _reduce),
        case(distinct(4), 0, integers(0, 4, 7), distinct(7), _reduce),
        case(normal(), 0, integers(0, 1), normal(), _reduce),
        case(integers(1, 4, 4), 0, integers(0, 4, 7), integers(1, 4, 7), _reduce), halves=_reduce != "prod")
    if _reduce != "sum":
        op("index_reduce", *[
            case(normal(3, 4), 0, integers(0, 3, 5), normal(5, 4), _reduce, include_self=include_self)
            for include_self in (True, False)],
            case(normal(2, 3), 1, integers(0, 3, 7), normal(2, 7), reduce=_reduce), halves=_reduce != "prod")
