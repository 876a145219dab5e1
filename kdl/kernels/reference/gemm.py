"""Matrix products in NumPy: the formulas of kdl/ops/gemm.py, a line each.

`tf32` lets tensor cores round float32 operands to TF32; there are none here.
"""
import numpy as np

from kdl.kernels.reference import wide


def matmul_forward(a, b, y, tf32):
    """y = a b for a (..., M, K), b (..., K, N), y (..., M, N), with up to two leading dimensions that broadcast.

    An operand may be transposed: one of its last two strides is an element, the other at least that row's length;
    its leading strides are free. y is contiguous. Any numeric dtype.
    """
    y[...] = wide(a) @ wide(b)


def linear_forward(x, w, b, y, relu, tf32):
    """y = x w' + b, with relu max(y, 0), for x (rows, K), w (N, K), b (N) or None, y (rows, N).

    x and w are laid out as in matmul_forward.
    """
    product = wide(x) @ wide(w).T + (0 if b is None else wide(b))
    y[...] = np.maximum(product, 0) if relu else product


def linear_backward_b(gy, gb):
    """gb = the sum of the rows of gy (rows, N), which is laid out as in matmul_forward."""
    gb[...] = wide(gy).sum(0)
