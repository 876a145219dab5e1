"""What is not random: evaluation, p = 0 and p = 1. The rest is tested in test_dropout.py."""
from tests.optable import case, normal, op


def certain(name, *shapes):
    options = (0.5, False), (0.0, True), (1.0, True)
    op(name, *[case(normal(*shape), p, training) for shape in shapes for p, training in options])


certain("dropout", (4, 5), (), (0, 3), (2, 3, 4, 5))
certain("dropout1d", (2, 3, 4), (3, 4), (0, 3, 4))
certain("dropout2d", (2, 3, 4, 5))
certain("dropout3d", (2, 3, 2, 2, 2), (1, 2, 2, 0, 3))
certain("alpha_dropout", (4, 5), (0, 3), (2, 3, 4, 5))
certain("feature_alpha_dropout", (2, 3), (2, 3, 4, 5))
