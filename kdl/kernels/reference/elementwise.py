"""The error functions in NumPy, through the C library: the maths of kdl/ops/maths.py. And what NumPy has already: the
twins of the kernels behind kdl/kernels/gpu.py, for arrays of any strides and operands that may be numbers.
"""
import math

import numpy as np

from kdl.kernels.reference import wide

_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def erf_forward(x, y):
    y[...] = _erf(wide(x))


def erf_backward(x, gy, gx):
    x, gy = wide(x), wide(gy)
    gx[...] = gy * np.exp(-x * x) * (2 / math.sqrt(math.pi))


def erfc_forward(x, y):
    y[...] = _erfc(wide(x))


def erfc_backward(x, gy, gx):
    x, gy = wide(x), wide(gy)
    gx[...] = gy * np.exp(-x * x) * (-2 / math.sqrt(math.pi))


# --- what NumPy has already ---
def add(x, y, z):
    np.add(x, y, out=z)


def subtract(x, y, z):
    np.subtract(x, y, out=z)


def multiply(x, y, z):
    np.multiply(x, y, out=z)


def divide(x, y, z):
    np.divide(x, y, out=z)


def equal(x, y, z):
    np.equal(x, y, out=z)


def not_equal(x, y, z):
    np.not_equal(x, y, out=z)


def copy(x, y):
    """Broadcasts x to y's shape and casts it to y's dtype."""
    y[...] = x


def fill(y, value):
    y[...] = value
