from tests.optable import case, normal, op, positive, uniform


def running(channels):
    """Running statistics: arguments 1 and 2, which training updates."""
    return normal(channels).constant(), positive(channels).constant()


op("batch_norm",
   case(normal(4, 3), None, None, positive(3), normal(3), True),
   case(normal(5, 4), *running(4), positive(4), normal(4)),
   case(normal(2, 3, 5), *running(3), training=True, momentum=0.3), case(normal(2, 3, 5), *running(3), eps=0.1),
   case(normal(2, 3, 4, 5), None, None, normal(3), None, True), case(normal(2, 3, 4, 5), *running(3), normal(3)),
   case(normal(2, 3, 4, 5), *running(3), None, normal(3), True, 1.0, 1e-3),
   case(normal(2, 3, 4, 5), *running(3), None, normal(3)), case(normal(2, 2, 2, 3, 4), *running(2)),
   case(normal(2, 3, 2, 3, 4), *running(3), positive(3), normal(3), True, 0.0), case(normal(1, 3), *running(3)),
   case(normal(3, 2, 1, 1), *running(2), training=True), case(normal(1, 2, 1, 2), *running(2), training=True),
   case(normal(300, 3), *running(3), positive(3), normal(3), True), case(normal(40, 17), *running(17)),
   case(normal(2, 3, 1, 2, 1, 2), None, None, positive(3), normal(3), True),
   case(uniform(100, 101, 6, 2, 3), *running(2), positive(2), normal(2), True),
   case(normal(0, 3, 2), *running(3), positive(3), normal(3), True), case(normal(0, 3), *running(3)),
   case(normal(2, 0, 3), None, None, training=True), updates=(1, 2))
