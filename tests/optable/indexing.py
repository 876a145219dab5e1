from tests.optable import boolean, case, distinct, integers, normal, op, uniform

op("where", case(boolean(3, 4), normal(3, 4), normal(3, 4)), case(boolean(3, 1), normal(4), normal(2, 1, 4)),
   case(boolean(3), normal(3), 2.5), case(boolean(3), 1, normal(3)), case(boolean(2, 3), 1.0, 0), case(boolean(3, 4)),
   case(boolean(3), integers(0, 5, 3), normal(3)), case(boolean(0, 2), normal(0, 2), normal(2)),
   case(boolean(), normal(), 1))
op("gather", case(normal(3, 4), 1, integers(0, 4, 3, 2)), case(normal(3, 4), 0, integers(0, 3, 5, 4)),
   case(normal(2, 3, 4), -1, integers(0, 4, 2, 2, 6)), case(normal(5), 0, integers(0, 5, 8)),
   case(normal(3, 4), 1, integers(0, 1, 0, 4)), case(normal(), 0, integers(0, 1)), case(normal(), 0, integers(0, 1, 3)),
   case(normal(4), 0, integers(0, 4)), case(normal(3, 4), 1, index=integers(0, 4, 1, 7)))
op("take_along_dim", case(normal(3, 4), integers(-4, 4, 3, 2), 1), case(normal(3, 4), integers(0, 3, 2, 1), 0),
   case(normal(1, 4), integers(0, 4, 3, 2), dim=1), case(normal(3, 4), integers(0, 12, 5)),
   case(normal(2, 3, 4), integers(0, 3, 2, 5, 1), -2))
op("take", case(normal(3, 4), integers(-12, 12, 5)), case(normal(3, 4), integers(0, 12, 2, 3)),
   case(normal(3), integers(0, 3)), case(normal(3), integers(0, 3, 0)))
op("scatter_add", case(normal(3, 4), 1, integers(0, 4, 3, 2), normal(3, 2)),
   case(normal(3, 4), 0, integers(0, 3, 5, 4), normal(5, 4)),
   case(normal(3, 4), 1, integers(0, 4, 2, 6), normal(3, 7).constant()),
   case(normal(4), 0, integers(0, 4, 9), normal(9)), case(normal(), 0, integers(0, 1), normal()),
   case(normal(3, 4), 1, integers(0, 4, 0, 2), normal(3, 2).constant()))
op("index_select", case(normal(3, 4), 1, integers(0, 4, 6)), case(normal(3, 4), 0, integers(0, 3, 2)),
   case(normal(2, 3, 4), -2, integers(0, 3, 5)), case(normal(3, 4), 0, integers(0, 3)),
   case(normal(3, 4), 1, integers(0, 4, 0)), case(normal(), 0, integers(0, 1, 1)),
   case(normal(0, 4), 1, index=integers(0, 4, 3)))
op("index_add", case(normal(3, 4), 1, integers(0, 4, 6), normal(3, 6)),
   case(normal(3, 4), 0, integers(0, 3, 2), normal(2, 4), alpha=-2.5),
   case(normal(2, 3, 4), 1, integers(0, 3, 0), normal(2, 0, 4)), case(normal(5), 0, integers(0, 5, 9), normal(9)))
op("index_fill", case(normal(3, 4), 1, integers(-4, 4, 3), 2.5), case(normal(3, 4), 0, integers(0, 3, 1), normal()),
   case(normal(3), 0, integers(0, 3), -1), case(integers(0, 9, 3, 2), 0, integers(0, 3, 1), 7),
   case(normal(), 0, integers(0, 1, 1), 3.0))
op("masked_fill", case(normal(3, 4), boolean(3, 4), 1.5), case(normal(3, 4), boolean(4), normal()),
   case(normal(4), boolean(3, 4), -1), case(normal(0, 4), boolean(4), 1.0), case(integers(0, 9, 3), boolean(3), 2),
   case(normal(), boolean(), 2.0))
op("masked_select", case(normal(3, 4), boolean(3, 4)), case(normal(3, 4), boolean(4)), case(normal(4), boolean(3, 4)),
   case(normal(0, 4), boolean(4)), case(normal(), boolean()))
op("nonzero", case(integers(0, 2, 3, 4)), case(integers(0, 2, 5)), case(boolean(2, 3), as_tuple=True), case(normal()),
   case(normal(0, 3)), case(normal(), as_tuple=True))
op("argwhere", case(integers(0, 2, 3, 4)), case(normal()), case(boolean(2, 0)))

# order and counting
op("sort", case(distinct(3, 4)), case(distinct(3, 4), 0), case(distinct(3, 4), -1, True),
   case(distinct(2, 3, 4), dim=1, descending=True), case(normal()), case(normal(0, 3)), case(normal(3, 0)),
   case(distinct(7), descending=True))
op("argsort", case(distinct(3, 4)), case(distinct(3, 4), 0), case(distinct(3, 4), 1, True), case(normal()),
   case(normal(0, 3)))
op("topk", case(distinct(3, 8), 2), case(distinct(3, 8), 1, 0), case(distinct(3, 8), 3, -1, False),
   case(distinct(30), 3), case(distinct(30), 3, largest=False), case(distinct(30, 2), 4, 0), case(distinct(3, 4), 4),
   case(distinct(3, 4), 0), case(normal(), 1), case(normal(0, 3), 2))
op("kthvalue", case(distinct(3, 4), 2), case(distinct(3, 4), 1, 0), case(distinct(3, 4), 3, 0, True),
   case(distinct(9), 9), case(normal(), 1), case(normal(0, 3), 2))
op("unique", case(integers(0, 4, 9)), case(integers(0, 4, 3, 3), return_inverse=True),
   case(integers(0, 4, 9), return_counts=True),
   case(integers(0, 2, 6, 2), dim=0, return_inverse=True, return_counts=True),
   case(integers(0, 2, 2, 6), dim=1, return_inverse=True), case(normal().constant(), return_inverse=True),
   case(integers(0, 4, 0), return_counts=True), case(boolean(5)))
op("searchsorted", case(integers(0, 1, 1), integers(0, 3, 4)),
   case(integers(3, 4, 5), integers(2, 5, 2, 4), right=True), case(integers(3, 4, 5), 3, side="right"),
   case(integers(3, 4, 2, 5), integers(2, 6, 2, 7)),
   case(integers(3, 4, 2, 5), integers(2, 6, 2, 7), right=True, out_int32=True),
   case(integers(3, 4, 0), integers(2, 6, 3)))
op("bucketize", case(integers(2, 6, 2, 4), integers(3, 4, 5)), case(integers(2, 6, 2), integers(3, 4, 5), right=True),
   case(4, integers(3, 4, 5)))
op("bincount", case(integers(0, 5, 9)), case(integers(0, 5, 9), minlength=8),
   case(integers(0, 5, 9), normal(9).constant()), case(integers(0, 5, 0)), case(integers(0, 5, 0), minlength=2),
   case(integers(0, 5, 4), integers(0, 9, 4)))
op("isin", case(integers(0, 9, 3, 4), integers(0, 9, 5)), case(integers(0, 9, 7), integers(0, 9, 2, 2), invert=True),
   case(integers(0, 3, 7), 2), case(2, integers(0, 3, 4)), case(integers(0, 3, 0), integers(0, 3, 2)))
op("one_hot", case(integers(0, 5, 3, 2)), case(integers(0, 5, 4), 7), case(integers(0, 5), num_classes=5),
   case(integers(0, 5, 0), 3))
op("msort", case(distinct(4, 3)), case(distinct(2, 3, 2)))
op("mode", case(integers(0, 3, 4, 9)), case(integers(0, 2, 3, 2, 5), 1, True), case(distinct(3, 4), 0), case(normal()))
for _name in ("quantile", "nanquantile"):
    op(_name, case(distinct(3, 5), 0.3), case(distinct(3, 5), 0.7, 1), case(distinct(2, 3, 4), 0.25, 0, True),
       case(distinct(5, 4), uniform(0, 1, 3).constant(), 1),
       case(distinct(5, 4), uniform(0, 1, 3).constant(), -2, True),
       case(normal(), 0.5), case(distinct(3, 4), 1.0, keepdim=True), case(distinct(4), uniform(0, 1, 0).constant()),
       *(case(distinct(9), q, interpolation=how) for q in (0.1, 0.44) for how in ("lower", "higher", "midpoint")),
       *(case(distinct(6), q, interpolation="nearest") for q in (0.13, 0.35, 0.5)), halves=False)
op("histc", case(normal(30).constant()), case(normal(3, 9).constant(), 5), case(normal(30).constant(), 4, -1, 1),
   case(normal(1).constant(), bins=3), case(normal(0).constant(), 2, 0, 1), halves=False)
op("unique_consecutive", case(integers(0, 2, 9)), case(integers(0, 2, 3, 3), return_inverse=True),
   case(integers(0, 2, 9), return_counts=True), case(integers(0, 2, 1, 6), dim=1),
   case(integers(0, 2, 9, 1), dim=0, return_inverse=True, return_counts=True),
   case(integers(0, 2, 0), return_counts=True))
