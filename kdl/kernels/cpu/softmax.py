"""Softmax, log-softmax and cross-entropy on the CPU, along axis 1 of (outer, C, inner). The maths: kdl/ops/softmax.py.

With inner == 1 the loops run along contiguous rows; otherwise along inner, a block of columns at a time, so that what a
block reads more than once stays in the cache. A row belongs to one thread: results do not depend on their number.
"""
import numpy as np
from numba import types
from numba.extending import overload

from kdl.kernels.cpu.launch import device_function, jit, prange, widened
from kdl.kernels.cpu.math import exp, log

_BLOCK = 256  # columns: of 250 classes in float32 they fill 256 KB, a quarter of a core's L2 cache
_SMALL = 1 << 15  # elements: 10 to 40 us of work


@widened("y")
def softmax_forward(x, y):
    _run(_softmax_rows, _softmax_columns, (x, y))


@widened("gx")
def softmax_backward(y, gy, gx):
    _run(_softmax_backward_rows, _softmax_backward_columns, (y, gy, gx))


@widened("y")
def log_softmax_forward(x, y):
    _run(_log_softmax_rows, _log_softmax_columns, (x, y))


@widened("gx")
def log_softmax_backward(y, gy, gx):
    _run(_log_softmax_backward_rows, _log_softmax_backward_columns, (y, gy, gx))


@widened()
def cross_entropy_forward(x, target, weight, loss, peak, total, ignore_index, label_smoothing):
    """An ignored row gets loss 0, peak 0 and total 1."""
    _run(_cross_entropy_rows, _cross_entropy_columns, (x, target, loss, peak, total), _or_empty(weight, x),
         ignore_index, label_smoothing)


@widened("gx")
def cross_entropy_backward(x, target, weight, peak, total, gy, gx, ignore_index, label_smoothing):
    _run(_cross_entropy_backward_rows, _cross_entropy_backward_columns, (x, target, peak, total, gy, gx),
         _or_empty(weight, x), ignore_index, label_smoothing)


@widened()
def soft_cross_entropy_forward(x, target, weight, loss, peak, total, mass, label_smoothing):
    _run(_soft_cross_entropy_rows, _soft_cross_entropy_columns, (x, target, loss, peak, total, mass),
         _or_empty(weight, x), label_smoothing)


@widened("gx")
def soft_cross_entropy_backward(x, target, weight, peak, total, mass, gy, gx, label_smoothing):
    _run(_soft_cross_entropy_backward_rows, _soft_cross_entropy_backward_columns,
         (x, target, peak, total, mass, gy, gx), _or_empty(weight, x), label_smoothing)


def _run(rows, columns, arrays, *parameters):
    """The loop along rows where inner is 1, over arrays without that axis; the loop along columns otherwise."""
    if arrays[0].shape[2] == 1:
        rows(*[a[..., 0] for a in arrays], *parameters)
    else:
        columns(*arrays, *parameters)


def _or_empty(weight, x):
    """No weights as an array without elements, so that the loops need one compilation."""
    return np.empty(0, x.dtype) if weight is None else weight


# --- the largest of a row ---
# As integers the bits of non-negative floats are ordered as the floats are, and those of negative ones the other way
# round: turned over they are ordered too, and a maximum of integers vectorises where one of floats does not.
@device_function
def _ordered_float32(x):
    bits = np.float32(x).view(np.int32)
    return bits if bits >= np.int32(0) else np.int32(bits ^ np.int32(0x7FFFFFFF))


@device_function
def _ordered_float64(x):
    bits = np.float64(x).view(np.int64)
    return bits if bits >= 0 else bits ^ np.int64(0x7FFFFFFFFFFFFFFF)


@device_function
def _largest_float32(x, i):
    """The largest of x[i], -inf where it is empty; where it has a NaN, a NaN or the largest of the rest."""
    largest = _ordered_float32(np.float32(-np.inf))
    for j in range(x.shape[1]):
        largest = max(largest, _ordered_float32(x[i, j]))
    return np.int32(largest if largest >= np.int32(0) else largest ^ np.int32(0x7FFFFFFF)).view(np.float32)


@device_function
def _largest_float64(x, i):
    largest = _ordered_float64(-np.inf)
    for j in range(x.shape[1]):
        largest = max(largest, _ordered_float64(x[i, j]))
    return np.int64(largest if largest >= 0 else largest ^ np.int64(0x7FFFFFFFFFFFFFFF)).view(np.float64)


def _largest(x, i):
    raise NotImplementedError("for kernels only")


@overload(_largest, jit_options=_largest_float32.targetoptions)
def _choose_largest(x, i):
    return _largest_float32.py_func if x.dtype == types.float32 else _largest_float64.py_func


@device_function
def _log_p(x, peak, log_total):
    """log p, in this order even inside a loop that reassociates: the peak may be so large that log total gets lost."""
    return (x - peak) - log_total


# --- along rows (outer, C) ---
@jit(reassociate=True, serial_below=_SMALL)
def _softmax_rows(x, y):
    T = x.dtype.type
    for i in prange(x.shape[0]):
        peak = _largest(x, i)
        total = T(0)
        for j in range(x.shape[1]):
            e = exp(x[i, j] - peak)
            y[i, j] = e
            total += e
        scale = T(1) / total
        for j in range(x.shape[1]):
            y[i, j] *= scale


@jit(reassociate=True, serial_below=_SMALL)
def _softmax_backward_rows(y, gy, gx):
    T = y.dtype.type
    for i in prange(y.shape[0]):
        dot = T(0)
        for j in range(y.shape[1]):
            dot += y[i, j] * gy[i, j]
        for j in range(y.shape[1]):
            gx[i, j] = y[i, j] * (gy[i, j] - dot)


@jit(reassociate=True, serial_below=_SMALL)
def _log_softmax_rows(x, y):
    T = x.dtype.type
    for i in prange(x.shape[0]):
        peak = _largest(x, i)
        total = T(0)
        for j in range(x.shape[1]):
            total += exp(x[i, j] - peak)
        log_total = log(total)
        for j in range(x.shape[1]):
            y[i, j] = _log_p(x[i, j], peak, log_total)


@jit(reassociate=True, serial_below=_SMALL)
def _log_softmax_backward_rows(y, gy, gx):
    T = y.dtype.type
    for i in prange(y.shape[0]):
        total = T(0)
        for j in range(y.shape[1]):
            total += gy[i, j]
        for j in range(y.shape[1]):
            gx[i, j] = gy[i, j] - exp(y[i, j]) * total


@jit(reassociate=True, serial_below=_SMALL)
def _cross_entropy_rows(x, target, loss, peak, total, weight, ignore_index, label_smoothing):
    T = x.dtype.type
    C = x.shape[1]
    for i in prange(x.shape[0]):
        if target[i] == ignore_index:
            loss[i], peak[i], total[i] = T(0), T(0), T(1)
        else:
            largest = _largest(x, i)
            sum_exp = T(0)
            for j in range(C):
                sum_exp += exp(x[i, j] - largest)
            peak[i], total[i] = largest, sum_exp
            log_total = log(sum_exp)
            w = weight[target[i]] if weight.size else T(1)
            loss[i] = -T(1 - label_smoothing) * w * _log_p(x[i, target[i]], largest, log_total)
            if label_smoothing > 0:
                sum_log_p = T(0)
                for j in range(C):
                    w = weight[j] if weight.size else T(1)
                    sum_log_p += w * _log_p(x[i, j], largest, log_total)
                loss[i] -= T(label_smoothing / C) * sum_log_p


@jit(serial_below=_SMALL)
def _cross_entropy_backward_rows(x, target, peak, total, gy, gx, weight, ignore_index, label_smoothing):
    T = x.dtype.type
    C = x.shape[1]
    spread = T(label_smoothing / C)
    spread_mass = spread * weight.sum() if weight.size else T(label_smoothing)
    for i in prange(x.shape[0]):
        if target[i] == ignore_index:
            for j in range(C):
                gx[i, j] = T(0)
        else:
            hit = T(1 - label_smoothing) * (weight[target[i]] if weight.size else T(1))
            scale = gy[i] * (hit + spread_mass) / total[i]
            for j in range(C):
                w = weight[j] if weight.size else T(1)
                gx[i, j] = exp(x[i, j] - peak[i]) * scale - gy[i] * spread * w
            gx[i, target[i]] -= gy[i] * hit


@jit(reassociate=True, serial_below=_SMALL)
def _soft_cross_entropy_rows(x, target, loss, peak, total, mass, weight, label_smoothing):
    T = x.dtype.type
    C = x.shape[1]
    for i in prange(x.shape[0]):
        largest = _largest(x, i)
        sum_exp = T(0)
        for j in range(C):
            sum_exp += exp(x[i, j] - largest)
        peak[i], total[i] = largest, sum_exp
        log_total = log(sum_exp)
        sum_q, sum_q_log_p = T(0), T(0)
        for j in range(C):
            q = T(1 - label_smoothing) * target[i, j] + T(label_smoothing / C)
            q *= weight[j] if weight.size else T(1)
            sum_q += q
            sum_q_log_p += q * _log_p(x[i, j], largest, log_total)
        mass[i], loss[i] = sum_q, -sum_q_log_p


@jit(serial_below=_SMALL)
def _soft_cross_entropy_backward_rows(x, target, peak, total, mass, gy, gx, weight, label_smoothing):
    T = x.dtype.type
    C = x.shape[1]
    for i in prange(x.shape[0]):
        scale = gy[i] * mass[i] / total[i]
        for j in range(C):
            q = T(1 - label_smoothing) * target[i, j] + T(label_smoothing / C)
            q *= weight[j] if weight.size else T(1)
            gx[i, j] = exp(x[i, j] - peak[i]) * scale - gy[i] * q


# --- along columns (outer, C, inner) ---
@device_function
def _blocks(x):
    return x.shape[0] * ((x.shape[2] + _BLOCK - 1) // _BLOCK)


@device_function
def _block(x, i):
    """Of the i-th block of columns: n, the first column and the one after the last."""
    blocks = (x.shape[2] + _BLOCK - 1) // _BLOCK
    first = i % blocks * _BLOCK
    return i // blocks, first, min(first + _BLOCK, x.shape[2])


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
            total[j] += exp(row[j] - peak[j])


@jit(serial_below=_SMALL)
def _softmax_columns(x, y):
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
                out[j] = exp(row[j] - peak[j]) * total[j]


@jit(serial_below=_SMALL)
def _softmax_backward_columns(y, gy, gx):
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


@jit(serial_below=_SMALL)
def _log_softmax_columns(x, y):
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
                out[j] = _log_p(row[j], peak[j], total[j])


@jit(serial_below=_SMALL)
def _log_softmax_backward_columns(y, gy, gx):
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
                out[j] = g[j] - exp(row[j]) * total[j]


@jit(serial_below=_SMALL)
def _cross_entropy_columns(x, target, loss, peak, total, weight, ignore_index, label_smoothing):
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
                    sum_log_p[j] += w * _log_p(row[j], row_peak[j], log_total[j])
        for j in range(label.size):
            t = label[j]
            if t == ignore_index:
                row_loss[j], row_peak[j], row_total[j] = T(0), T(0), T(1)
            else:
                hit = T(1 - label_smoothing) * (weight[t] if weight.size else T(1))
                log_p = _log_p(x[n, t, first + j], row_peak[j], log_total[j])
                row_loss[j] = -hit * log_p - T(label_smoothing / C) * sum_log_p[j]


@jit(serial_below=_SMALL)
def _cross_entropy_backward_columns(x, target, peak, total, gy, gx, weight, ignore_index, label_smoothing):
    T = x.dtype.type
    C = x.shape[1]
    spread = T(label_smoothing / C)
    spread_mass = spread * weight.sum() if weight.size else T(label_smoothing)
    for i in prange(_blocks(x)):
        n, first, last = _block(x, i)
        label, row_peak = target[n, first:last], peak[n, first:last]
        scale, shift = np.empty(last - first, x.dtype), np.empty(last - first, x.dtype)
        used = np.empty(last - first, np.bool_)
        g = gy[n, first:last]
        for j in range(label.size):
            used[j] = label[j] != ignore_index
            hit = T(1 - label_smoothing) * (weight[label[j]] if used[j] and weight.size else T(1))
            scale[j] = g[j] * (hit + spread_mass) / total[n, first + j]
            shift[j] = g[j] * hit
        for c in range(C):
            w = spread * (weight[c] if weight.size else T(1))
            row, out = x[n, c, first:last], gx[n, c, first:last]
            for j in range(row.size):
                out[j] = exp(row[j] - row_peak[j]) * scale[j] - g[j] * w if used[j] else T(0)
        for j in range(label.size):
            if used[j]:
                gx[n, label[j], first + j] -= shift[j]


@jit(serial_below=_SMALL)
def _soft_cross_entropy_columns(x, target, loss, peak, total, mass, weight, label_smoothing):
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
                row_loss[j] -= q * _log_p(row[j], row_peak[j], log_total[j])


@jit(serial_below=_SMALL)
def _soft_cross_entropy_backward_columns(x, target, peak, total, mass, gy, gx, weight, label_smoothing):
    T = x.dtype.type
    C = x.shape[1]
    for i in prange(_blocks(x)):
        n, first, last = _block(x, i)
        row_peak, g = peak[n, first:last], gy[n, first:last]
        scale = np.empty(last - first, x.dtype)
        for j in range(scale.size):
            scale[j] = g[j] * mass[n, first + j] / total[n, first + j]
        for c in range(C):
            w = weight[c] if weight.size else T(1)
            row, goal, out = x[n, c, first:last], target[n, c, first:last], gx[n, c, first:last]
            for j in range(row.size):
                q = w * (T(1 - label_smoothing) * goal[j] + T(label_smoothing / C))
                out[j] = exp(row[j] - row_peak[j]) * scale[j] - g[j] * q
