"""The multilayer perceptron."""
from itertools import pairwise

from kdl import nn

__all__ = ["MLP"]


class MLP(nn.Sequential):
    """Linear layers of the given sizes with an activation between them, and dropout after each activation if wanted.

    MLP([784, 512, 10]) takes (..., 784) to (..., 10).
    """

    def __init__(self, sizes, activation=nn.ReLU, dropout=0.0):
        layers = []
        for i, (n, m) in enumerate(pairwise(sizes)):
            if i:
                layers += [activation(), nn.Dropout(dropout)] if dropout else [activation()]
            layers.append(nn.Linear(n, m))
        super().__init__(*layers)
