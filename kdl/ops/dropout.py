"""Dropout: set elements, or whole channels, to 0 at random in training, and make up for it in what remains.

y = m x / (1 - p), gx = m gy / (1 - p), where m is 0 with probability p and 1 otherwise, so that the mean of y is x. In
evaluation nothing happens. Masks are drawn from the default generator: with one seed they are the same on every device.
(Srivastava et al., 2014; channels: Tompson et al., 2015; for SELU networks: Klambauer et al., 2017.)
"""
import numpy as np

from kdl import random, types
from kdl.autograd import Function
from kdl.errors import expect
from kdl.ops.common import array_of, assign_, floating
from kdl.tensor import array_module

__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"]


def dropout(input, p=0.5, training=True, inplace=False):
    """x / (1 - p), with every element set to 0 with probability p; x itself unless training.

    Shape: any. Raises ValueError for p outside [0, 1], TypeError unless floating-point.
    """
    return _drop("dropout", Dropout, input, p, training, inplace)


def dropout1d(input, p=0.5, training=True, inplace=False):
    """`dropout` of whole channels. Shape: (N, C, L) or (C, L). Raises ValueError for others."""
    return _drop("dropout1d", Dropout, input, p, training, inplace, {2: 1, 3: 2})


def dropout2d(input, p=0.5, training=True, inplace=False):
    """`dropout` of whole channels. Shape: (N, C, H, W) or (N, C, L). Raises ValueError for others."""
    return _drop("dropout2d", Dropout, input, p, training, inplace, {3: 2, 4: 2})


def dropout3d(input, p=0.5, training=True, inplace=False):
    """`dropout` of whole channels. Shape: (N, C, D, H, W) or (C, D, H, W). Raises ValueError for others."""
    return _drop("dropout3d", Dropout, input, p, training, inplace, {4: 1, 5: 2})


def alpha_dropout(input, p=0.5, training=False, inplace=False):
    """a x + b, with x replaced by the lowest value of SELU, -1.7581, with probability p; x itself unless training.

    a and b keep the mean and the variance of inputs with mean 0 and variance 1. Shape: any. Raises ValueError for p
    outside [0, 1], TypeError unless floating-point.
    """
    return _drop("alpha_dropout", AlphaDropout, input, p, training, inplace)


def feature_alpha_dropout(input, p=0.5, training=False, inplace=False):
    """`alpha_dropout` of whole channels. Shape: (N, C, ...). Raises ValueError for others."""
    ndim = array_of("feature_alpha_dropout", input).ndim
    expect(ndim >= 2, "feature_alpha_dropout", "a tensor of at least 2 dimensions", input=input)
    return _drop("feature_alpha_dropout", AlphaDropout, input, p, training, inplace, {ndim: 2})


def _drop(op, function, input, p, training, inplace, masked=None):
    """`masked` says, for each allowed number of dimensions, how many the mask has; None: the mask is like the input."""
    array = array_of(op, input)
    expect(0 <= p <= 1, op, "p in [0, 1]", p=p)
    if masked is not None:
        expect(array.ndim in masked, op, f"a tensor of {' or '.join(map(str, masked))} dimensions", input=input)
    if not training or p == 0:
        return input
    floating(op, input=input)
    shape = None
    if masked is not None:
        n = masked[array.ndim]
        shape = array.shape[:n] + (1,) * (array.ndim - n)
    y = function(p, shape)(input)
    return assign_(input, y) if inplace else y


def kept(array, p):
    """A mask that is False with probability p, of the array's shape and memory order."""
    if p == 1:
        return array_module(array).zeros(array.shape, bool)
    drawn = random.default_generator.bernoulli(array.size, 1 - p)
    return array_module(array).asarray(random.as_it_lies(drawn, array))


class Dropout(Function):
    """y = s m x, gx = s m gy, with s = 1 / (1 - p)."""

    def __init__(self, p, shape):
        self.p, self.shape = p, shape
        self.scale = 1 / (1 - p) if p < 1 else 0.0

    def forward(self, x):
        self.mask = kept(x if self.shape is None else self.k.empty(self.shape, bool), self.p)
        return self.scaled(x)

    def backward(self, gy, wanted):
        return self.scaled(gy)

    def scaled(self, x):
        """s m x."""
        y = x * self.mask
        if x.dtype in types.HALVES:
            return (y.astype(np.float32) * np.float32(self.scale)).astype(x.dtype)
        y *= self.scale
        return y


class AlphaDropout(Dropout):
    """y = s (m x - (1 - m) A) + s p A, gx = s m gy, with s = 1 / sqrt((1 - p) (1 + p A^2)); y = 0 for p = 1."""
    LOWEST = 1.7580993408473766  # A: scale times alpha of SELU

    def __init__(self, p, shape):
        self.p, self.shape = p, shape
        self.scale = ((1 - p) * (1 + p * self.LOWEST**2))**-0.5 if p < 1 else 0.0

    def forward(self, x):
        y = super().forward(x)
        shift = x.dtype.type(self.scale * self.LOWEST)
        y += (self.mask - x.dtype.type(1)) * shift + x.dtype.type(self.p) * shift
        return y
