"""The loops of softmax and cross-entropy along inner of (outer, C, inner), a block of columns at a time, so that what a
block reads more than once stays in the cache. The exponentials of a block are computed once and kept in an array of its
own: where inner is a power of two, the rows of x and gx share a few sets of a cache and drive one another out.

Columns are counted without a sign: a signed number might count from the end, and such loops are not vectorised. (Those
over slices of rows are, but it takes 20 ns to make a slice, a tenth of what is done with its 256 elements.) Called by
softmax.py.
"""
import numpy as np

from kdl.kernels.cpu.launch import device_function, jit, prange
from kdl.kernels.cpu.math import decay, log
from kdl.kernels.cpu.softmax_rows import SMALL, log_p

_ELEMENTS = 1 << 13  # of a block: in float32 32 KB


@device_function
def _width(x):
    """The columns of a block: 64 to 256."""
    return min(max(_ELEMENTS // max(x.shape[1], 1), 64), 256)


@device_function
def _blocks(x):
    return x.shape[0] * ((x.shape[2] + _width(x) - 1) // _width(x))


@device_function
def _block(x, i):
    """Of the i-th block of columns: n, the first column and how many there are."""
    width = _width(x)
    blocks = (x.shape[2] + width - 1) // width
    first = i % blocks * width
    return i // blocks, np.uintp(first), np.uintp(min(width, x.shape[2] - first))


@device_function
def _peaks(x, n, first, width, peak):
    peak[:] = x.dtype.type(-np.inf)
    for c in range(x.shape[1]):
        for j in range(width):
            peak[j] = x[n, c, first + j] if x[n, c, first + j] > peak[j] else peak[j]


@device_function
def _exponentials(x, n, first, width, peak, total):
    """exp(x - peak), and their sums in total."""
    block = np.empty((x.shape[1], width), x.dtype)
    total[:] = x.dtype.type(0)
    for c in range(x.shape[1]):
        for j in range(width):
            e = decay(x[n, c, first + j] - peak[j])
            block[c, j] = e
            total[j] += e
    return block


@jit(serial_below=SMALL)
def softmax(x, y):
    T = x.dtype.type
    for i in prange(_blocks(x)):
        n, first, width = _block(x, i)
        peak, total = np.empty(width, x.dtype), np.empty(width, x.dtype)
        _peaks(x, n, first, width, peak)
        block = _exponentials(x, n, first, width, peak, total)
        for j in range(width):
            total[j] = T(1) / total[j]
        for c in range(x.shape[1]):
            for j in range(width):
                y[n, c, first + j] = block[c, j] * total[j]


@jit(serial_below=SMALL)
def softmax_backward(y, gy, gx):
    for i in prange(_blocks(y)):
        n, first, width = _block(y, i)
        dot = np.zeros(width, y.dtype)
        for c in range(y.shape[1]):
            for j in range(width):
                dot[j] += y[n, c, first + j] * gy[n, c, first + j]
        for c in range(y.shape[1]):
            for j in range(width):
                gx[n, c, first + j] = y[n, c, first + j] * (gy[n, c, first + j] - dot[j])


@jit(serial_below=SMALL)
def log_softmax(x, y):
    for i in prange(_blocks(x)):
        n, first, width = _block(x, i)
        peak, total = np.empty(width, x.dtype), np.zeros(width, x.dtype)
        _peaks(x, n, first, width, peak)
        for c in range(x.shape[1]):
            for j in range(width):
                total[j] += decay(x[n, c, first + j] - peak[j])
        for j in range(width):
            total[j] = log(total[j])
        for c in range(x.shape[1]):
            for j in range(width):
                y[n, c, first + j] = log_p(x[n, c, first + j], peak[j], total[j])


@jit(serial_below=SMALL)
def log_softmax_backward(y, gy, gx):
    for i in prange(_blocks(y)):
        n, first, width = _block(y, i)
        total = np.zeros(width, y.dtype)
        for c in range(y.shape[1]):
            for j in range(width):
                total[j] += gy[n, c, first + j]
        for c in range(y.shape[1]):
            for j in range(width):
                gx[n, c, first + j] = gy[n, c, first + j] - decay(y[n, c, first + j]) * total[j]


@device_function
def _gradient(block, label, total, g, gx, weight, ignore_index, label_smoothing, n, first):
    """Of one block's cross-entropy, from its exponentials and the gradients g of the losses."""
    T = block.dtype.type
    C, width = len(block), np.uintp(label.size)
    spread = T(label_smoothing / C)
    spread_mass = spread * weight.sum() if weight.size else T(label_smoothing)
    scale, shift = np.empty(width, block.dtype), np.empty(width, block.dtype)
    target, used = np.empty(width, np.int32), np.empty(width, np.bool_)
    for j in range(width):
        target[j], used[j] = label[j], label[j] != ignore_index
        hit = T(1 - label_smoothing) * (weight[label[j]] if used[j] and weight.size else T(1))
        scale[j] = g[j] * (hit + spread_mass) / total[j]
        shift[j] = g[j] * hit
    for c in range(C):
        w = spread * (weight[c] if weight.size else T(1))
        for j in range(width):
            of_label = shift[j] if target[j] == np.int32(c) else T(0)
            gx[n, c, first + j] = block[c, j] * scale[j] - g[j] * w - of_label if used[j] else T(0)


@jit(serial_below=SMALL)
def cross_entropy(x, target, loss, peak, total, gx, weight, gy, ignore_index, label_smoothing):
    T = x.dtype.type
    C = x.shape[1]
    for i in prange(_blocks(x)):
        n, first, width = _block(x, i)
        label, row_loss = target[n, first:first + width], loss[n, first:first + width]
        row_peak, row_total = peak[n, first:first + width], total[n, first:first + width]
        _peaks(x, n, first, width, row_peak)
        block = _exponentials(x, n, first, width, row_peak, row_total)
        log_total, sum_log_p = np.empty(width, x.dtype), np.zeros(width, x.dtype)
        for j in range(width):
            log_total[j] = log(row_total[j])
        if label_smoothing > 0:
            for c in range(C):
                w = weight[c] if weight.size else T(1)
                for j in range(width):
                    sum_log_p[j] += w * log_p(x[n, c, first + j], row_peak[j], log_total[j])
        for j in range(width):
            t = label[j]
            if t == ignore_index:
                row_loss[j], row_peak[j], row_total[j] = T(0), T(0), T(1)
            else:
                hit = T(1 - label_smoothing) * (weight[t] if weight.size else T(1))
                of_label = log_p(x[n, t, first + j], row_peak[j], log_total[j])
                row_loss[j] = -hit * of_label - T(label_smoothing / C) * sum_log_p[j]
        if gx.size:
            _gradient(block, label, row_total, np.full(width, T(gy)), gx, weight, ignore_index, label_smoothing, n,
                      first)


@jit(serial_below=SMALL)
def cross_entropy_backward(x, target, peak, total, gy, gx, weight, ignore_index, label_smoothing):
    for i in prange(_blocks(x)):
        n, first, width = _block(x, i)
        block = _exponentials(x, n, first, width, peak[n, first:first + width], np.empty(width, x.dtype))
        _gradient(block, target[n, first:first + width], total[n, first:first + width], gy[n, first:first + width], gx,
                  weight, ignore_index, label_smoothing, n, first)


@device_function
def _soft_gradient(block, target, total, mass, g, gx, weight, label_smoothing, n, first):
    T = block.dtype.type
    C, width = len(block), np.uintp(mass.size)
    scale = np.empty(width, block.dtype)
    for j in range(width):
        scale[j] = g[j] * mass[j] / total[j]
    for c in range(C):
        w = weight[c] if weight.size else T(1)
        for j in range(width):
            q = w * (T(1 - label_smoothing) * target[n, c, first + j] + T(label_smoothing / C))
            gx[n, c, first + j] = block[c, j] * scale[j] - g[j] * q


@jit(serial_below=SMALL)
def soft_cross_entropy(x, target, loss, peak, total, mass, gx, weight, gy, label_smoothing):
    T = x.dtype.type
    C = x.shape[1]
    for i in prange(_blocks(x)):
        n, first, width = _block(x, i)
        row_loss, row_mass = loss[n, first:first + width], mass[n, first:first + width]
        row_peak, row_total = peak[n, first:first + width], total[n, first:first + width]
        _peaks(x, n, first, width, row_peak)
        block = _exponentials(x, n, first, width, row_peak, row_total)
        row_loss[:], row_mass[:] = T(0), T(0)
        for c in range(C):
            w = weight[c] if weight.size else T(1)
            for j in range(width):
                q = w * (T(1 - label_smoothing) * target[n, c, first + j] + T(label_smoothing / C))
                row_mass[j] += q
                row_loss[j] -= q * (x[n, c, first + j] - row_peak[j])
        for j in range(width):
            row_loss[j] += row_mass[j] * log(row_total[j])
        if gx.size:
            _soft_gradient(block, target, row_total, row_mass, np.full(width, T(gy)), gx, weight, label_smoothing, n,
                           first)


@jit(serial_below=SMALL)
def soft_cross_entropy_backward(x, target, peak, total, mass, gy, gx, weight, label_smoothing):
    for i in prange(_blocks(x)):
        n, first, width = _block(x, i)
        block = _exponentials(x, n, first, width, peak[n, first:first + width], np.empty(width, x.dtype))
        _soft_gradient(block, target, total[n, first:first + width], mass[n, first:first + width],
                       gy[n, first:first + width], gx, weight, label_smoothing, n, first)
