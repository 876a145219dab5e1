"""Reductions in plain NumPy: the twins of the kernels behind kdl/kernels/gpu.py.

y has x's rank; the dimensions in which y is 1 and x is not are reduced.
"""
from kdl.kernels.reference import wide


def sum(x, y):
    """Halves are added in float32, integers and bools in int64."""
    y[...] = wide(x).sum(_reduced(x, y), keepdims=True)


def max(x, y):
    y[...] = wide(x).max(_reduced(x, y), keepdims=True)


def argmax(x, y):
    """The place in C order among the reduced elements."""
    axes = _reduced(x, y)
    kept = [d for d in range(x.ndim) if d not in axes]
    rows = wide(x).transpose(*kept, *axes).reshape(*[x.shape[d] for d in kept], -1)
    y[...] = rows.argmax(-1).reshape(y.shape)


def _reduced(x, y):
    return tuple(d for d in range(x.ndim) if y.shape[d] == 1 != x.shape[d])
