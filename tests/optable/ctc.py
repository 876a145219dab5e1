"""Gradients are those of a log_softmax before it: they are checked in test_ctc.py."""
from tests.optable import case, integers, op, uniform


def log_probs(*shape):
    return uniform(-4, -1, *shape)


op("ctc_loss", *[case(log_probs(7, 3, 5), integers(1, 5, 3, 3), [7, 6, 7], [3, 2, 0], **options) for options in (
    {}, {"reduction": "sum"}, {"reduction": "none"})],
   case(log_probs(7, 3, 5), integers(1, 3, 6), [7, 5, 7], [1, 2, 3]),
   case(log_probs(6, 4), integers(1, 4, 3), [6], [3]), case(log_probs(6, 4), integers(1, 4, 3), [6], [3], 0, "none"),
   case(log_probs(5, 2, 3), integers(0, 2, 2, 2), (5, 4), (2, 2), 2, "none"),
   case(log_probs(2, 2, 4), integers(1, 4, 2, 3), (2, 2), (3, 1), reduction="none", zero_infinity=True),
   gradcheck=False, halves=False)
