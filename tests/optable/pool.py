from tests.optable import case, distinct, integers, normal, op

op("max_pool1d",
   case(distinct(2, 3, 11), 3), case(distinct(3, 7), 2, 1), case(distinct(2, 2, 10), 4, 3, 2, 2),
   case(distinct(2, 3, 12), 5, 2, 1, 1, True, True), case(distinct(0, 2, 4), 2), case(distinct(1, 1, 1), 1),
   case(distinct(2, 2, 40), 2), case(distinct(1, 2, 300), 260, 13))
op("max_pool2d",
   case(distinct(2, 3, 6, 8), 2), case(distinct(2, 3, 9, 7), 3, 2, 1),
   case(distinct(1, 2, 5, 9), (2, 3), (1, 2), (0, 1)), case(distinct(2, 1, 8, 9), (3, 2), 1, (1, 1), (2, 3)),
   case(distinct(2, 2, 7, 6), 3, 2, 1, ceil_mode=True),
   case(distinct(2, 2, 7, 8), 2, 3, ceil_mode=True, return_indices=True), case(distinct(3, 5, 6), 2),
   case(distinct(0, 2, 4, 4), 2), case(distinct(1, 1, 1, 1), 1), case(distinct(2, 2, 7, 7), 7),
   case(distinct(1, 2, 17, 18), (16, 17), 1, return_indices=True), case(distinct(2, 3, 5, 40), 5, (1, 4), 2, 1))
op("max_pool3d",
   case(distinct(2, 2, 4, 6, 4), 2), case(distinct(1, 2, 5, 4, 7), 3, 2, 1),
   case(distinct(2, 3, 4, 5), (2, 1, 3), 1),
   case(distinct(1, 2, 6, 5, 7), (2, 3, 2), (2, 1, 3), (1, 1, 0), (2, 1, 2), True, True),
   case(distinct(0, 1, 2, 2, 2), 2), case(distinct(2, 2, 3, 3, 3), 3))
op("max_pool1d_with_indices", case(distinct(2, 3, 11), 3, 2))
op("max_pool2d_with_indices", case(distinct(2, 3, 6, 8), 2), case(distinct(5, 6, 7), 3, 1, 1))
op("max_pool3d_with_indices", case(distinct(2, 3, 4, 4, 4), 2))

op("avg_pool1d",
   case(normal(2, 3, 11), 3), case(normal(3, 7), 2, 1), case(normal(2, 2, 10), 4, 3, 2, True, False),
   case(normal(2, 2, 40), 3, 2, 1), case(normal(0, 2, 4), 2), case(normal(1, 1, 1), 1))
op("avg_pool2d",
   case(normal(2, 3, 6, 8), 2), case(normal(2, 3, 9, 7), 3, 2, 1), case(normal(1, 2, 5, 9), (2, 3), (1, 2), (0, 1)),
   case(normal(2, 2, 7, 6), 3, 2, 1, ceil_mode=True), case(normal(2, 2, 7, 6), 3, 2, 1, True, False),
   case(normal(2, 2, 7, 8), 2, 3, ceil_mode=True), case(normal(3, 5, 6), 2, divisor_override=3),
   case(normal(2, 2, 9, 8), (4, 3), 1, (2, 1), count_include_pad=False),
   case(normal(2, 1, 5, 9), 3, 1, 1, divisor_override=-2), case(normal(0, 2, 4, 4), 2), case(normal(1, 1, 1, 1), 1),
   case(normal(2, 2, 7, 7), 7))
op("avg_pool3d",
   case(normal(2, 2, 4, 6, 4), 2), case(normal(1, 2, 5, 4, 7), 3, 2, 1), case(normal(2, 3, 4, 5), (2, 1, 3), 1),
   case(normal(1, 2, 6, 5, 7), (2, 3, 2), (2, 1, 3), (1, 1, 0), True, False),
   case(normal(1, 1, 3, 4, 5), 2, divisor_override=5), case(normal(0, 1, 2, 2, 2), 2),
   case(normal(2, 2, 3, 3, 3), 3))

op("adaptive_avg_pool1d",
   case(normal(2, 3, 11), 4), case(normal(3, 7), 7), case(normal(2, 2, 3), 5), case(normal(0, 2, 4), 2),
   case(normal(2, 1, 6), (1,)))
op("adaptive_avg_pool2d",
   case(normal(2, 3, 7, 9), 1), case(normal(2, 3, 7, 9), (3, 4)), case(normal(2, 6, 5), (None, 2)),
   case(normal(1, 2, 3, 2), 5), case(normal(0, 2, 4, 4), 2), case(normal(2, 0, 4, 4).constant(), 2))
op("adaptive_avg_pool3d",
   case(normal(2, 2, 4, 5, 6), 1), case(normal(1, 2, 4, 5, 6), (2, 3, 4)), case(normal(2, 3, 4, 5), (None, 2, 7)),
   case(normal(0, 2, 2, 2, 2), 2))

op("adaptive_max_pool1d",
   case(distinct(2, 3, 11), 4), case(distinct(3, 7), 7, True), case(distinct(2, 2, 3), 5),
   case(distinct(0, 2, 4), 2))
op("adaptive_max_pool2d",
   case(distinct(2, 3, 7, 9), 1), case(distinct(2, 3, 7, 9), (3, 4), True), case(distinct(2, 6, 5), (None, 2)),
   case(distinct(1, 2, 3, 2), 5), case(distinct(0, 2, 4, 4), 2))
op("adaptive_max_pool3d",
   case(distinct(2, 2, 4, 5, 6), 1), case(distinct(1, 2, 4, 5, 6), (2, 3, 4), return_indices=True),
   case(distinct(2, 3, 4, 5), (None, 2, 7)), case(distinct(0, 2, 2, 2, 2), 2))
op("adaptive_max_pool1d_with_indices", case(distinct(2, 3, 11), 4))
op("adaptive_max_pool2d_with_indices", case(distinct(2, 3, 6, 8), (2, 3)))
op("adaptive_max_pool3d_with_indices", case(distinct(2, 3, 4, 4, 4), 2))

# One input per plane: random indices would repeat, and torch does not say which of equals stays.
op("max_unpool1d",
   case(normal(2, 3, 1), integers(0, 2, 2, 3, 1), 2),
   case(normal(3, 1), integers(0, 4, 3, 1), 3, 2, output_size=[4]))
op("max_unpool2d",
   case(normal(2, 3, 1, 1), integers(0, 6, 2, 3, 1, 1), (3, 2)),
   case(normal(0, 3, 4, 2), integers(0, 1, 0, 3, 4, 2), 2),
   case(normal(3, 1, 1), integers(0, 2, 3, 1, 1), 3, 2, 1, output_size=(1, 2)),
   case(normal(1, 2, 1, 1), integers(0, 6, 1, 2, 1, 1), 2, output_size=(1, 2, 2, 3)))
op("max_unpool3d", case(normal(2, 3, 1, 1, 1), integers(0, 12, 2, 3, 1, 1, 1), (3, 2, 2)))
