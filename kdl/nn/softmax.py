"""Softmax and its relatives as layers."""
from kdl.errors import expect
from kdl.nn import functional as F
from kdl.nn.module import Module

__all__ = ["LogSoftmax", "Softmax", "Softmax2d", "Softmin"]


class _AlongDim(Module):

    def __init__(self, dim=None):
        super().__init__()
        self.dim = dim


class Softmax(_AlongDim):
    """F.softmax: exp(x) over the sum of exp(x) along `dim`."""

    def forward(self, input):
        return F.softmax(input, self.dim)

    def extra_repr(self):
        return f"dim={self.dim}"


class Softmin(_AlongDim):
    """F.softmin: softmax of -x along `dim`."""

    def forward(self, input):
        return F.softmin(input, self.dim)

    def extra_repr(self):
        return f"dim={self.dim}"


class LogSoftmax(_AlongDim):
    """F.log_softmax: the logarithm of softmax along `dim`, without the way through it."""

    def forward(self, input):
        return F.log_softmax(input, self.dim)

    def extra_repr(self):
        return f"dim={self.dim}"


class Softmax2d(Module):
    """Softmax over the channels of (N, C, H, W) or (C, H, W) images, at every place. Raises ValueError."""

    def forward(self, input):
        expect(input.ndim in (3, 4), "Softmax2d", "a 3-D or 4-D input", input=input)
        return F.softmax(input, -3)
