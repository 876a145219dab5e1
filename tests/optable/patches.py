from tests.optable import case, normal, op

op("unfold", case(normal(2, 3, 5, 6), 2), case(normal(2, 2, 6, 5), (2, 3), (2, 1), (1, 2), (3, 2)),
   case(normal(2, 4, 4), 3, padding=1), case(normal(1, 1, 1, 1), 1), case(normal(0, 2, 3, 3), 2))
op("fold", case(normal(2, 12, 20), (5, 6), 2), case(normal(2, 12, 8), (6, 5), (2, 3), (2, 1), (1, 2), (3, 2)),
   case(normal(18, 16), 4, 3, padding=1))
op("pixel_shuffle", case(normal(2, 8, 2, 3), 2), case(normal(9, 2, 1), 3), case(normal(2, 1, 4, 3, 2), 1))
op("pixel_unshuffle", case(normal(2, 2, 4, 6), 2), case(normal(1, 3, 3), 3))
op("channel_shuffle", case(normal(2, 6, 3), 3), case(normal(1, 4, 2, 3), 2), case(normal(2, 4, 2, 1, 2), 4))
