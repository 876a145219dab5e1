"""Matrix products on the CPU: NumPy's BLAS multiplies, and Numba adds what stands around the product.

A product of one's own would gain nothing: NumPy's reaches 85-90 % of the machine's peak.
"""
import numpy as np

from kdl.kernels.cpu.launch import jit, prange, widened


@widened("y")
def matmul_forward(a, b, y):
    np.matmul(a, b, out=y)


@widened("y")
def linear_forward(x, w, b, y):
    np.matmul(x, w.T, out=y)
    if b is not None:
        _add_bias(b, y)


@widened("gb")
def linear_backward_b(gy, gb):
    if gy.size < _SMALL or not gy.flags.c_contiguous or gy.dtype.kind != "f":
        np.sum(gy, axis=0, out=gb)
    else:
        _sum_rows(gy, gb)


# Below this many elements NumPy's one thread is done before a second one wakes.
_SMALL = 1 << 14


def _add_bias(b, y):
    if y.size < _SMALL or y.dtype.kind != "f":
        np.add(y, b, out=y)
    else:
        _add_to_rows(b, y)


@jit
def _add_to_rows(b, y):
    for i in prange(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] += b[j]


@jit
def _sum_rows(gy, gb):
    rows, cols = gy.shape
    blocks = 16  # fixed, so that the sum does not depend on the number of threads
    partial = np.zeros((blocks, cols), gy.dtype)
    for block in prange(blocks):
        for i in range(rows * block // blocks, rows * (block + 1) // blocks):
            for j in range(cols):
                partial[block, j] += gy[i, j]
    for j in range(cols):
        total = partial[0, j]
        for block in range(1, blocks):
            total += partial[block, j]
        gb[j] = total
