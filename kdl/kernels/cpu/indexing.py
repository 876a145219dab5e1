"""Sums by index on the CPU. The maths stands in kdl/ops/indexing.py.

Every thread has columns, or outer slices, of its own and meets the values in their order: no atomics, and the same
sums for any number of threads.
"""
import numpy as np

from kdl.kernels.cpu.launch import device_function, jit, prange
from kdl.types import FLOATS, HALVES

_COLUMNS = 128  # per task where there is one outer slice: 512 bytes of float32
_SERIAL = 1 << 21  # values below which one thread is done before others are awake: 1 ms


def take(x, index, y):
    """y[i] = x[index[i]]; indices wrap around."""
    np.take(x, index, axis=0, out=y, mode="wrap")


def add_slices(index, values, total):
    """Adds to a total that holds zeros: the system gives those of a large table untouched, 5 ms sooner for 30 MB."""
    if total.dtype in HALVES:
        sums = np.zeros(total.shape, np.float32)
        add_slices(index, values.astype(np.float32), sums)
        total[...] = sums
        return
    if total.dtype not in FLOATS:
        np.add.at(total, (slice(None), index), values)
        return
    outer, _, inner = total.shape
    blocks = 1 if outer > 1 else max(inner // _COLUMNS, 1)
    if outer * blocks == 1 or values.size < _SERIAL:
        _add_serial(values, index, total)
    else:
        _add(values, index, total, blocks)


@jit
def _add(values, index, total, blocks):
    outer, _, inner = total.shape
    for task in prange(outer * blocks):
        block = task % blocks
        _add_columns(values[task // blocks], index, total[task // blocks], inner * block // blocks,
                     inner * (block + 1) // blocks)


@jit(parallel=False)
def _add_serial(values, index, total):
    for o in range(len(total)):
        _add_columns(values[o], index, total[o], 0, total.shape[2])


@device_function
def _add_columns(values, index, total, first, last):
    for i in range(len(index)):
        row = index[i]
        for j in range(first, last):
            total[row, j] += values[i, j]
