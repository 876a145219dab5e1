from math import inf

from tests.optable import case, distinct, integers, normal, op, uniform

op("cdist", *[case(normal(3, 4), normal(5, 4), p) for p in (0.5, 1, 1.5, 2.0, 3, inf)],
   case(normal(2, 1, 3, 4), normal(3, 5, 4)), case(normal(30, 4), normal(27, 4)),
   case(normal(2, 30, 3), normal(1, 2, 3)), case(normal(0, 4), normal(3, 4)), case(normal(30, 4), normal(0, 4)),
   case(normal(3, 4), normal(5, 4), compute_mode="use_mm_for_euclid_dist"),
   case(normal(30, 4), normal(3, 4), compute_mode="donot_use_mm_for_euclid_dist"))
op("pdist", *[case(normal(5, 4), p) for p in (1, 1.5, 2.0, 3, inf)], case(normal(1, 4)), case(normal(5, 4)))
op("dist", case(normal(3, 4), normal(3, 4)), case(normal(3, 4), normal(4), 1), case(normal(3), normal(3), inf))
op("renorm", case(normal(3, 4), 2, 0, 1.0), case(normal(3, 4), 1, 1, 2.0), case(normal(2, 3, 4), 3, -1, 1.5))
op("cross", case(normal(3, 4), normal(3, 4), 0), case(normal(4, 3), normal(4, 3), dim=-1),
   case(normal(2, 3), normal(1, 3), dim=1), case(integers(-9, 9, 3), integers(-9, 9, 3), dim=0))
op("cov", case(normal(3, 6)), case(normal(6)), case(normal(3, 6), correction=0),
   case(normal(3, 5), fweights=integers(1, 4, 5)), case(normal(3, 5), aweights=uniform(0.1, 1, 5).constant()),
   case(normal(3, 5), fweights=integers(1, 4, 5), aweights=uniform(0.1, 1, 5).constant(), correction=0))
op("corrcoef", case(normal(3, 6)), case(distinct(5)))
