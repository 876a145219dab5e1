"""The error functions in NumPy, through the C library: the maths of kdl/ops/maths.py."""
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
