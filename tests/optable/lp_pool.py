from math import inf

from tests.optable import case, normal, op, positive

op("lp_pool1d",
   case(positive(2, 3, 11), 2, 3), case(positive(3, 7), 1.5, 2, 1), case(normal(2, 2, 10), 2, 4, 3, True),
   case(normal(2, 3, 9), inf, 2), case(positive(2, 3, 9), 3, 3, 2), case(positive(2, 3, 9), -1, 2))
op("lp_pool2d",
   case(positive(2, 3, 6, 8), 2, 2), case(positive(2, 5, 7), 3.5, (2, 3), (1, 2)),
   case(normal(1, 2, 7, 5), 2.0, 3, 2, True), case(normal(1, 2, 6, 6), -inf, 2), case(normal(2, 2, 4, 4), 1, 2),
   case(normal(0, 2, 4, 4), 2, 2))
op("lp_pool3d", case(positive(2, 2, 4, 6, 4), 2, 2), case(normal(1, 2, 5, 4, 7), 4, (2, 1, 3), 2, ceil_mode=True))
