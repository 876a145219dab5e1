"""Matrix products on the CPU: NumPy's BLAS multiplies large and small ones, tiles those between (see panels.py).

For large products one of our own would gain nothing: NumPy's reaches 85 to 90 % of the machine's peak. `tf32` is for
tensor cores and changes nothing.
"""
import numpy as np

from kdl.kernels.cpu.blas import matmul, multiply
from kdl.kernels.cpu.launch import jit, prange, widened
from kdl.kernels.cpu.panels import product, way_of

_SERIAL = 1 << 15  # elements below which waking threads takes longer than the loop


@widened("y")
def matmul_forward(a, b, y, tf32):
    if y.ndim > 2:
        matmul(a, b, y)
    elif way := way_of(a, b, y):
        product(way, a, b, None, y)
    else:
        multiply(a, b, None, y)


@widened("y")
def linear_forward(x, w, b, y, relu, tf32):
    w = w.T
    b = None if b is None else np.ascontiguousarray(b)
    if way := way_of(x, w, y):
        product(way, x, w, b, y)
        if relu:
            np.maximum(y, 0, out=y)
    else:
        multiply(x, w, b, y, relu)


@widened("gb")
def linear_backward_b(gy, gb):
    if gy.flags.c_contiguous:
        _sum_rows(gy, gb)
    else:
        np.sum(gy, axis=0, out=gb)


@jit(serial_below=_SERIAL)
def _sum_rows(gy, gb):
    rows, cols = gy.shape
    blocks = min(16, rows // 16 + 1)  # of rows, whatever the number of threads: the sum is always the same
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
