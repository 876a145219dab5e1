"""Sums by index in plain NumPy. The maths stands in kdl/ops/indexing.py."""
import numpy as np

from kdl.kernels.reference import wide


def take(x, index, y):
    """y[i] = x[index[i]]; indices wrap around."""
    np.take(x, index, axis=0, out=y, mode="wrap")


def add_slices(index, source, values, total):
    """total[:, index[i]] += values[:, source[i]], or values[:, i] where source is None; total holds zeros."""
    sums = np.zeros(total.shape, wide(values).dtype)
    np.add.at(sums, (slice(None), index), wide(values if source is None else values[:, source]))
    total[...] = sums
