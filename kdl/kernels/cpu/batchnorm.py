"""Batch normalisation on the CPU; the maths stands in kdl/ops/batchnorm.py.

Arrays are (N, C, inner). Where inner > 1 a channel is a set of contiguous runs, and each thread takes whole channels.
Where inner = 1, as for (N, C) and channels-last inputs, loops run along the channels, and rows are cut into chunks
whose sums are added in order: the same bits for any number of threads.

Sums are taken in float64, of x - pivot with the channel's first value as pivot: one pass over the data, exact to a few
parts in 1e16 times count / variance of the distance to the pivot, whatever the mean.
"""
import numpy as np

from kdl.kernels.cpu.launch import device_function, jit, prange, widened

_SERIAL = 1 << 15  # elements below which waking threads (30 to 90 us) costs more than they save
_ROWS = 512  # rows of a chunk


# --- kernels ---
@widened("y")
def batch_norm_forward_training(x, weight, bias, y, mean, rstd, running_mean, running_var, momentum, eps):
    """Also updates running_mean and running_var in place, which may be None, as weight and bias may."""
    moments = _moments(x)
    loop = _normalize_columns if x.shape[2] == 1 else _normalize_runs


