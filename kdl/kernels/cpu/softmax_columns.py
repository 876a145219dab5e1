"""The loops of softmax and cross-entropy along inner of (outer, C, inner), a block of columns at a time, so that what a
block reads more than once stays in the cache. Called by softmax.py.
"""
import numpy as np

from kdl.kernels.cpu.launch import device_function, jit, prange
from kdl.kernels.cpu.math import decay, log
from kdl.kernels.cpu.softmax_rows import SMALL, log_p

_ELEMENTS = 1 << 16  # of a block: in float32 256 KB, a quarter of a core's L2 cache


@device_function
def _width(x):
    """The columns of a block: up to 1024, so that what a row costs by itself is little."""
    return min(max(_ELEMENTS // max(x.shape[1], 1), 64), 1024)


@device_function
def _blocks(x):
    return x.shape[0] * ((x.shape[2] + _width(x) - 1) // _width(x))


@device_function
def _block(x, i):
    """Of the i-th block of columns: n, the first column and the one after the last."""
    width = _width(x)
    blocks = (x.shape[2] + width - 1) // width
    first = i % blocks * width
    return i // blocks, first, min(first + width, x.shape[2])


@device_function
def _peaks(x, n, first, last, peak):
    peak[:] = x.dtype.type(-np.inf)
    for c in range(x.shape[1]):
        row = x[n, c, first:last]
        for j in range(row.size):
            peak[j] = row[j] if row[j] > peak[j] else peak[j]


@device_function
def _totals(x, n, first, last, peak, total):
    total[:] = x.dtype.type(0)
    for c in range(x.shape[1]):
        row = x[n, c, first:last]
        for j in range(row.size):
            total[j] += decay(row[j] - peak[j])


@jit(serial_below=SMALL)
def softmax(x, y):
    T = x.dtype.type
    for i in prange(_blocks(x)):
        n, first, last = _block(x, i)
        peak, total = np.empty(last - first, x.dtype), np.empty(last - first, x.dtype)
        _peaks(x, n, first, last, peak)
        _totals(x, n, first, last, peak, total)
        for j in range(total.size):
            total[j] = T(1) / total[j]
        for c in range(x.shape[1]):
            row, out = x[n, c, first:last], y[n, c, first:last]
            for j in range(row.size):
                out[j] = decay(row[j] - peak[j]) * total[j]


@jit(serial_below=SMALL)
def softmax_backward(y, gy, gx):
    for i in prange(_blocks(y)):
        n, first, last = _block(y, i)
        dot = np.zeros(last - first, y.dtype)
        for c in range(y.shape[1]):
            row, g = y[n, c, first:last], gy[n, c, first:last]
            for j in range(row.size):
                dot[j] += row[j] * g[j]
        for c in range(y.shape[1]):
            row, g, out = y[n, c, first:last], gy[n, c, first:last], gx[n, c, first:last]
            for j in range(row.size):
                out[j] = row[j] * (g[j] - dot[j])


@jit(serial_below=SMALL)
def log_softmax(x, y):
    for i in prange(_blocks(x)):
        n, first, last = _block(x, i)
        peak, total = np.empty(last - first, x.dtype), np.empty(last - first, x.dtype)
        _peaks(x, n, first, last, peak)
        _totals(x, n, first, last, peak, total)
        for j in range(total.size):
            total[j] = log(total[j])
        for c in range(x.shape[1]):
            row, out = x[n, c, first:last], y[n, c, first:last]
            for j in range(row.size):
                out[j] = log_p(row[j], peak[j], total[j])


@jit(serial_below=SMALL)
def log_softmax_backward(y, gy, gx):
    for i in prange(_blocks(y)):
        n, first, last = _block(y, i)
        total = np.zeros(last - first, y.dtype)
        for c in range(y.shape[1]):
            g = gy[n, c, first:last]
            for j in range(g.size):
                total[j] += g[j]
        for c in range(y.shape[1]):
            row, g, out = y[n, c, first:last], gy[n, c, first:last], gx[n, c, first:last]
            for j in range(row.size):
                out[j] = g[j] - decay(row[j]) * total[j]


@device_function
def _gradient(x, label, peak, total, g, gx, weight, ignore_index, label_smoothing, n, first, last):
    """Of one block's cross-entropy, where g are the gradients of the losses."""
    T = x.dtype.type
    C = x.shape[1]
    spread = T(label_smoothing / C)
    spread_mass = spread * weight.sum() if weight.size else T(label_smoothing)
    scale, shift = np.empty(last - first, x.dtype), np.empty(last - first, x.dtype)
    used = np.empty(last - first, np.bool_)
    for j in range(label.size):
        used[j] = label[j] != ignore_index
        hit = T(1 - label_smoothing) * (weight[label[j]] if used[j] and weight.size else T(1))
        scale[j] = g[j] * (hit + spread_mass) / total[j]
        shift[j] = g[j] * hit
    for c in range(C):
        w = spread * (weight[c] if weight.size else T(1))
        row, out = x[n, c, first:last], gx[n, c, first:last]
        for j in range(row.size):
            out[j] = decay(row[j] - peak[j]) * scale[j] - g[j] * w if used[j] else T(0)
    for j in range(label.size):
        if used[j]:
            gx[n, label[j], first + j] -= shift[j]


@jit(serial_below=SMALL)
def cross_entropy(x, target, loss, peak, total, gx, weight, gy, ignore_index, label_smoothing):
    T = x.dtype.type
    C = x.shape[1]
    for i in prange(_blocks(x)):
        n, first, last = _block(x, i)
        label, row_loss = target[n, first:last], loss[n, first:last]
        row_peak, row_total = peak[n, first:last], total[n, first:last]
        _peaks(x, n, first, last, row_peak)
        _totals(x, n, first, last, row_peak, row_total)
        log_total, sum_log_p = np.empty(last - first, x.dtype), np.zeros(last - first, x.dtype)
        for j in range(label.size):
            log_total[j] = log(row_total[j])
        if label_smoothing > 0:
            for c in range(C):
                w = weight[c] if weight.size else T(1)
                row = x[n, c, first:last]
                for j in range(row.size):
                    sum_log_p[j] += w * log_p(row[j], row_peak[j], log_total[j])
        for j in range(label.size):
            t = label[j]
            if t == ignore_index:
                row_loss[j], row_peak[j], row_total[j] = T(0), T(0), T(1)
            else:
                hit = T(1 - label_smoothing) * (weight[t] if weight.size else T(1))
                of_label = log_p(x[n, t, first + j], row_peak[j], log_total[j])
                row_loss[j] = -hit * of_label - T(label_smoothing / C) * sum_log_p[j]
        if gx.size:
            _gradient(x, label, row_peak, row_total, np.full(last - first, T(gy)), gx, weight, ignore_index,
                      label_smoothing, n, first, last)


@jit(serial_below=SMALL)
def cross_entropy_backward(x, target, peak, total, gy, gx, weight, ignore_index, label_smoothing):
    for i in prange(_blocks(x)):
        n, first, last = _block(x, i)
        _gradient(x, target[n, first:last], peak[n, first:last], total[n, first:last], gy[n, first:last], gx, weight,
                  ignore_index, label_smoothing, n, first, last)


@device_function
def _soft_gradient(x, target, peak, total, mass, g, gx, weight, label_smoothing, n, first, last):
    T = x.dtype.type
    C = x.shape[1]
    scale = np.empty(last - first, x.dtype)
    for j in range(scale.size):
        scale[j] = g[j] * mass[j] / total[j]
    for c in range(C):
        w = weight[c] if weight.size else T(1)
        row, goal, out = x[n, c, first:last], target[n, c, first:last], gx[n, c, first:last]
        for j in range(row.size):
            q = w * (T(1 - label_smoothing) * goal[j] + T(label_smoothing / C))
            out[j] = decay(row[j] - peak[j]) * scale[j] - g[j] * q


@jit(serial_below=SMALL)
def soft_cross_entropy(x, target, loss, peak, total, mass, gx, weight, gy, label_smoothing):
    T = x.dtype.type
    C = x.shape[1]
    for i in prange(_blocks(x)):
        n, first, last = _block(x, i)
        row_loss, row_mass = loss[n, first:last], mass[n, first:last]
        row_peak, row_total = peak[n, first:last], total[n, first:last]
        _peaks(x, n, first, last, row_peak)
        _totals(x, n, first, last, row_peak, row_total)
        log_total = np.empty(last - first, x.dtype)
        for j in range(row_loss.size):
            log_total[j] = log(row_total[j])
            row_loss[j], row_mass[j] = T(0), T(0)
        for c in range(C):
            w = weight[c] if weight.size else T(1)
            row, goal = x[n, c, first:last], target[n, c, first:last]
            for j in range(row.size):
                q = w * (T(1 - label_smoothing) * goal[j] + T(label_smoothing / C))
                row_mass[j] += q
                row_loss[j] -= q * log_p(row[j], row_peak[j], log_total[j])
        if gx.size:
            _soft_gradient(x, target, row_peak, row_total, row_mass, np.full(last - first, T(gy)), gx, weight,
                           label_smoothing, n, first, last)


@jit(serial_below=SMALL)
def soft_cross_entropy_backward(x, target, peak, total, mass, gy, gx, weight, label_smoothing):
    for i in prange(_blocks(x)):
        n, first, last = _block(x, i)
        _soft_gradient(x, target, peak[n, first:last], total[n, first:last], mass[n, first:last], gy[n, first:last],
                       gx, weight, label_smoothing, n, first, last)
