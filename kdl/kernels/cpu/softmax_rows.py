"""The loops of softmax and cross-entropy along contiguous rows (outer, C). Called by softmax.py."""
import numpy as np
from numba import types
from numba.extending import overload

from kdl.kernels.cpu.launch import device_function, jit, prange
from kdl.kernels.cpu.math import decay, log

SMALL = 1 << 15  # elements: 10 to 40 us of work


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
def log_p(x, peak, log_total):
    """log p, in this order even inside a loop that reassociates: the peak may be so large that log total gets lost."""
    return (x - peak) - log_total


# --- softmax ---
@jit(reassociate=True, serial_below=SMALL)
def softmax(x, y):
    T = x.dtype.type
    for i in prange(x.shape[0]):
        peak = _largest(x, i)
        total = T(0)
        for j in range(x.shape[1]):
            e = decay(x[i, j] - peak)
            y[i, j] = e
            total += e
        scale = T(1) / total
        for j in range(x.shape[1]):
            y[i, j] *= scale


@jit(reassociate=True, serial_below=SMALL)
def softmax_backward(y, gy, gx):
    T = y.dtype.type
    for i in prange(y.shape[0]):
        dot = T(0)
        for j in range(y.shape[1]):
            dot += y[i, j] * gy[i, j]
        for j in range(y.shape[1]):
            gx[i, j] = y[i, j] * (gy[i, j] - dot)


@jit(reassociate=True, serial_below=SMALL)
def log_softmax(x, y):
    T = x.dtype.type
    for i in prange(x.shape[0]):
        peak = _largest(x, i)
        total = T(0)
        for j in range(x.shape[1]):
            total += decay(x[i, j] - peak)
        log_total = log(total)
        for j in range(x.shape[1]):
            y[i, j] = log_p(x[i, j], peak, log_total)


@jit(reassociate=True, serial_below=SMALL)
def log_softmax_backward(y, gy, gx):
    T = y.dtype.type
    for i in prange(y.shape[0]):
        total = T(0)
        for j in range(y.shape[1]):
            total += gy[i, j]
        for j in range(y.shape[1]):
            gx[i, j] = gy[i, j] - decay(y[i, j]) * total


@jit(reassociate=True, serial_below=SMALL)
def cross_entropy(x, target, loss, peak, total, gx, weight, gy, ignore_index, label_smoothing):
    T = x.dtype.type
    C = x.shape[1]
    g, spread = T(gy), T(label_smoothing / C)
    spread_mass = spread * weight.sum() if weight.size else T(label_smoothing)
    for i in prange(x.shape[0]):
        if target[i] == ignore_index:
            loss[i], peak[i], total[i] = T(0), T(0), T(1)
            for j in range(gx.shape[1]):
                gx[i, j] = T(0)
        else:
            largest = _largest(x, i)
            sum_exp = T(0)
            if gx.size:
                for j in range(C):
                    e = decay(x[i, j] - largest)
                    gx[i, j] = e
                    sum_exp += e
            else:  # in one loop with the condition inside, this would take 1.2 times as long
                for j in range(C):
                    sum_exp += decay(x[i, j] - largest)
            peak[i], total[i] = largest, sum_exp
            log_total = log(sum_exp)
            hit = T(1 - label_smoothing) * (weight[target[i]] if weight.size else T(1))
            loss[i] = -hit * log_p(x[i, target[i]], largest, log_total)
            if label_smoothing > 0:
                sum_log_p = T(0)
                for j in range(C):
                    w = weight[j] if weight.size else T(1)
                    sum_log_p += w * log_p(x[i, j], largest, log_total)
                loss[i] -= spread * sum_log_p
            if gx.size:
                scale = g * (hit + spread_mass) / sum_exp
                for j in range(C):
                    w = weight[j] if weight.size else T(1)
                    gx[i, j] = gx[i, j] * scale - g * spread * w
                gx[i, target[i]] -= g * hit


@jit(serial_below=SMALL)
def cross_entropy_backward(x, target, peak, total, gy, gx, weight, ignore_index, label_smoothing):
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
                gx[i, j] = decay(x[i, j] - peak[i]) * scale - gy[i] * spread * w
            gx[i, target[i]] -= gy[i] * hit


@jit(reassociate=True, serial_below=SMALL)
def soft_cross_entropy(x, target, loss, peak, total, mass, gx, weight, gy, label_smoothing):
    T = x.dtype.type
    C = x.shape[1]
    g = T(gy)
    for i in prange(x.shape[0]):
        largest = _largest(x, i)
        sum_exp, sum_q, sum_q_x = T(0), T(0), T(0)
        for j in range(C):
            below = x[i, j] - largest
            e = decay(below)
            sum_exp += e
            if gx.size:
                gx[i, j] = e
            q = T(1 - label_smoothing) * target[i, j] + T(label_smoothing / C)
            q *= weight[j] if weight.size else T(1)
            sum_q += q
            sum_q_x += q * below
        peak[i], total[i], mass[i] = largest, sum_exp, sum_q
        loss[i] = sum_q * log(sum_exp) - sum_q_x
        if gx.size:
            scale = g * sum_q / sum_exp
            for j in range(C):
                q = T(1 - label_smoothing) * target[i, j] + T(label_smoothing / C)
                q *= weight[j] if weight.size else T(1)
                gx[i, j] = gx[i, j] * scale - g * q


@jit(serial_below=SMALL)
def soft_cross_entropy_backward(x, target, peak, total, mass, gy, gx, weight, label_smoothing):
    T = x.dtype.type
    C = x.shape[1]
    for i in prange(x.shape[0]):
        scale = gy[i] * mass[i] / total[i]
        for j in range(C):
            q = T(1 - label_smoothing) * target[i, j] + T(label_smoothing / C)
            q *= weight[j] if weight.size else T(1)
            gx[i, j] = decay(x[i, j] - peak[i]) * scale - gy[i] * q
