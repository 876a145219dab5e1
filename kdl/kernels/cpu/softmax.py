"""Softmax, log-softmax and cross-entropy on the CPU, along axis 1 of (outer, C, inner). The maths: kdl/ops/softmax.py.

With inner == 1 the loops run along contiguous rows; otherwise along inner, a block of columns at a time, so that what a
block reads more than once stays in the cache. A row belongs to one thread: results do not depend on their number.
"""
import numpy as np

from kdl.kernels.cpu import softmax_columns as columns
from kdl.kernels.cpu import softmax_rows as rows
from kdl.kernels.cpu.launch import NOTHING, widened


@widened("y")
def softmax_forward(x, y):
    _run(rows.softmax, columns.softmax, (x, y))


@widened("gx")
def softmax_backward(y, gy, gx):
    _run(rows.softmax_backward, columns.softmax_backward, (y, gy, gx))


@widened("y")
def log_softmax_forward(x, y):
    _run(rows.log_softmax, columns.log_softmax, (x, y))


@widened("gx")
def log_softmax_backward(y, gy, gx):
    _run(rows.log_softmax_backward, columns.log_softmax_backward, (y, gy, gx))


@widened()
def cross_entropy_forward(x, target, weight, loss, peak, total, ignore_index, label_smoothing):
    """An ignored row gets loss 0, peak 0 and total 1."""
    _run(rows.cross_entropy, columns.cross_entropy, (x, target, loss, peak, total, _no_gradient(x)),
         _or_empty(weight, x), 0.0, ignore_index, label_smoothing)


@widened("gx")
def cross_entropy_forward_backward(x, target, weight, loss, peak, total, gx, gy, ignore_index, label_smoothing):
    """Both, where the gradient of every loss is gy: a row of the gradient is made while x's is in the cache."""
    _run(rows.cross_entropy, columns.cross_entropy, (x, target, loss, peak, total, gx), _or_empty(weight, x),
         gy, ignore_index, label_smoothing)


@widened("gx")
def cross_entropy_backward(x, target, weight, peak, total, gy, gx, ignore_index, label_smoothing):
    _run(rows.cross_entropy_backward, columns.cross_entropy_backward, (x, target, peak, total, gy, gx),
         _or_empty(weight, x), ignore_index, label_smoothing)


@widened()
def soft_cross_entropy_forward(x, target, weight, loss, peak, total, mass, label_smoothing):
    _run(rows.soft_cross_entropy, columns.soft_cross_entropy, (x, target, loss, peak, total, mass, _no_gradient(x)),
         _or_empty(weight, x), 0.0, label_smoothing)


@widened("gx")
def soft_cross_entropy_forward_backward(x, target, weight, loss, peak, total, mass, gx, gy, label_smoothing):
    """Both; the gradient of every loss is gy."""
    _run(rows.soft_cross_entropy, columns.soft_cross_entropy, (x, target, loss, peak, total, mass, gx),
         _or_empty(weight, x), gy, label_smoothing)


@widened("gx")
def soft_cross_entropy_backward(x, target, weight, peak, total, mass, gy, gx, label_smoothing):
    _run(rows.soft_cross_entropy_backward, columns.soft_cross_entropy_backward,
         (x, target, peak, total, mass, gy, gx), _or_empty(weight, x), label_smoothing)


def _run(along_rows, along_columns, arrays, *parameters):
    """The loop along rows where inner is 1, over arrays without that axis; the loop along columns otherwise."""
    if arrays[0].shape[2] == 1:
        along_rows(*[a[..., 0] for a in arrays], *parameters)
    else:
        along_columns(*arrays, *parameters)


def _or_empty(weight, x):
    """No weights as an array without elements, so that the loops need one compilation."""
    return NOTHING[x.dtype] if weight is None else weight


def _no_gradient(x):
    """What loops that also make a gradient get where there is none to make."""
    return np.empty((0, 0, 1), x.dtype)
