"""Batch normalisation on the CPU; the maths stands in kdl/ops/batchnorm.py.

Arrays are (N, C, inner). Where inner > 1, a channel is N contiguous runs, and a thread takes blocks of whole channels:
its second pass finds in the cache what its first has read. Where inner = 1, loops run along the channels; the rows are
cut into chunks, and the chunks' sums are added in order.

Sums are float64, of x - pivot, the pivot being the channel's first value: one pass over the data, as exact as two
whatever the mean. A mean rounded to float32 is 3e-5 standard deviations off where it is 1000 of them away from 0, so
forward carries the remainder along, and backward finds it again: it is the mean of x - mean.
"""
import numpy as np
from numba import get_num_threads

from kdl.kernels.cpu.launch import device_function, jit, prange, widened

_SERIAL = 1 << 17  # elements below which waking threads (30 to 90 us) costs more than they save
_CHUNK = 1 << 14  # elements of a chunk of rows
_BLOCK = 1 << 10  # elements of a block of channels


# --- kernels ---
@widened("y")
def batch_norm_forward_training(x, weight, bias, y, mean, rstd, running_mean, running_var, momentum, eps):
    """Also updates running_mean and running_var in place, which may be None, as weight and bias may."""
    weight, bias = _affine_of(mean, weight, bias)
    if running_mean is None:
        running_mean, running_var = np.zeros_like(mean), np.zeros_like(mean)
    arrays = weight, bias, _view(y), mean, rstd, running_mean, running_var
    if x.shape[2] == 1:
        _train_columns(_view(x), *arrays, momentum, eps)
    else:
        _train_runs(x, *arrays, momentum, eps, _width(x))


@widened("y")
def batch_norm_forward_inference(x, weight, bias, running_mean, running_var, y, eps):
    """weight and bias may be None."""
    weight, bias = _affine_of(running_mean, weight, bias)
    loop = _infer_columns if x.shape[2] == 1 else _infer_runs
    loop(_view(x), weight, bias, running_mean, running_var, _view(y), eps)


@widened("gx")
def batch_norm_backward(x, gy, weight, mean, rstd, gx, gw, gb):
    """gx, gw and gb may be None where nobody asks for them."""
    _backward(x, gy, weight, mean, rstd, gx, gw, gb, True)


@widened("gx")
def batch_norm_backward_inference(x, gy, weight, running_mean, running_var, gx, gw, gb, eps):
    """gx, gw and gb may be None where nobody asks for them."""
    _backward(x, gy, weight, running_mean, _rstd(running_var, eps), gx, gw, gb, False)


# --- launch ---
def _width(x):
    """How many channels a thread takes at a time: enough for some contiguous kilobytes per image, and work for all."""
    return max(1, min(_BLOCK // x.shape[2], -(-x.shape[1] // get_num_threads())))


def _view(array):
    """(N, C) of an (N, C, 1) array."""
    return array[:, :, 0] if array.shape[2] == 1 else array


def _affine_of(mean, weight, bias):
    return np.ones_like(mean) if weight is None else weight, np.zeros_like(mean) if bias is None else bias


def _rstd(var, eps):
    with np.errstate(invalid="ignore", divide="ignore"):
        return (1 / np.sqrt(var.astype(np.float64) + eps)).astype(var.dtype)


def _backward(x, gy, weight, mean, rstd, gx, gw, gb, training):
    reduce = training or gw is not None or gb is not None
    weight = np.ones_like(mean) if weight is None else weight
    gw, gb = np.empty_like(mean) if gw is None else gw, np.empty_like(mean) if gb is None else gb
    gx = np.empty((0, *x.shape[1:]), x.dtype) if gx is None else gx
    if x.shape[2] == 1:
        _backward_columns(_view(x), _view(gy), weight, mean, rstd, _view(gx), gw, gb, training, reduce)
    else:
        _backward_runs(x, gy, weight, mean, rstd, gx, gw, gb, training, reduce, _width(x))


# --- one channel ---
@device_function
def _statistics(total, squares, pivot, count, c, mean, rstd, running_mean, running_var, momentum, eps):
    """From the sums of x - pivot and of its square to the channel's statistics; returns mean and rstd in float64."""
    shifted = total / count
    var = squares / count - shifted * shifted
    var = 0.0 if var < 0.0 else var
    m, r = pivot + shifted, 1.0 / np.sqrt(var + eps)
    mean[c], rstd[c] = m, r
    running_mean[c] += momentum * (m - running_mean[c])
    running_var[c] += momentum * (var * count / (count - 1) - running_var[c])
    return m, r


@device_function
def _gradients(total, along, remainder, count, c, rstd, gw, gb):
    """From the sums of gy, gy (x - mean) and x - mean to gw and gb, and to offset and slope:
    gx = w r (gy - offset - slope (x - mean))."""
    rest = remainder / count
    along -= rest * total
    gw[c], gb[c] = along * rstd[c], total
    slope = along * rstd[c] * rstd[c] / count
    return total / count - slope * rest, slope


@device_function
def _scales(weight, var, eps):
    scale = np.empty_like(weight)
    for c in range(scale.size):
        scale[c] = weight[c] / np.sqrt(var[c] + eps)
    return scale


@device_function
def _scale_run(x, pivot, scale, shift, y):
    for i in range(x.size):
        y[i] = (x[i] - pivot) * scale + shift


# --- inner > 1: runs ---
@jit(reassociate=True, serial_below=_SERIAL)
def _train_runs(x, weight, bias, y, mean, rstd, running_mean, running_var, momentum, eps, width):
    T = x.dtype.type
    N, C, inner = x.shape
    for block in prange((C + width - 1) // width):
        first, last = block * width, min(C, (block + 1) * width)
        sums = np.zeros((2, last - first))
        for n in range(N):
            for c in range(first, last):
                run, pivot = x[n, c], np.float64(x[0, c, 0])
                total, squares = 0.0, 0.0
                for i in range(inner):
                    d = np.float64(run[i]) - pivot
                    total += d
                    squares += d * d
                sums[0, c - first] += total
                sums[1, c - first] += squares
        coefficients = np.empty((3, last - first), x.dtype)
        for c in range(first, last):
            m, r = _statistics(sums[0, c - first], sums[1, c - first], np.float64(x[0, c, 0]), N * inner, c, mean, rstd,
                               running_mean, running_var, momentum, eps)
            coefficients[0, c - first] = m
            coefficients[1, c - first] = r * weight[c]
            coefficients[2, c - first] = bias[c] - (m - T(m)) * r * weight[c]
        for n in range(N):
            for c in range(first, last):
                m, scale, shift = coefficients[:, c - first]
                _scale_run(x[n, c], m, scale, shift, y[n, c])


@jit(serial_below=_SERIAL)
def _infer_runs(x, weight, bias, mean, var, y, eps):
    N, C, _ = x.shape
    scale = _scales(weight, var, eps)
    for i in prange(N * C):
        n, c = i // C, i % C
        _scale_run(x[n, c], mean[c], scale[c], bias[c], y[n, c])


@jit(reassociate=True, serial_below=_SERIAL)
def _backward_runs(x, gy, weight, mean, rstd, gx, gw, gb, training, reduce, width):
    T = x.dtype.type
    N, C, inner = x.shape
    for block in prange((C + width - 1) // width):
        first, last = block * width, min(C, (block + 1) * width)
        sums = np.zeros((3, last - first))
        for n in range(N if reduce else 0):
            for c in range(first, last):
                run, g, m = x[n, c], gy[n, c], np.float64(mean[c])
                total, along, remainder = 0.0, 0.0, 0.0
                for i in range(inner):
                    d, h = np.float64(run[i]) - m, np.float64(g[i])
                    total += h
                    along += h * d
                    remainder += d
                sums[0, c - first] += total
                sums[1, c - first] += along
                sums[2, c - first] += remainder
        offset, slope = np.zeros(last - first, x.dtype), np.zeros(last - first, x.dtype)
        for c in range(first, last):
            total, along, remainder = sums[:, c - first]
            if training:
                take, lean = _gradients(total, along, remainder, N * inner, c, rstd, gw, gb)
                offset[c - first], slope[c - first] = T(take), T(lean)
            else:
                gw[c], gb[c] = along * rstd[c], total
        for n in range(len(gx)):
            for c in range(first, last):
                scale = weight[c] * rstd[c]
                if training:
                    _combine(x[n, c], gy[n, c], mean[c], scale, offset[c - first], slope[c - first], gx[n, c])
                else:
                    _scale_run(gy[n, c], T(0), scale, T(0), gx[n, c])


@device_function
def _combine(x, gy, mean, scale, offset, slope, gx):
    for i in range(x.size):
        gx[i] = scale * (gy[i] - offset - (x[i] - mean) * slope)


# --- inner = 1: columns ---
@device_function
def _chunks(rows, C):
    """How many chunks of how many rows; by the shape alone, so that sums do not depend on the number of threads."""
    height = max(_CHUNK // C, 16)
    return (rows + height - 1) // height, height


@device_function
def _add_up(parts):
    """parts[0] becomes the sum of all, in their order."""
    for k in range(1, len(parts)):
        for j in range(parts.shape[1]):
            for c in range(parts.shape[2]):
                parts[0, j, c] += parts[k, j, c]


@jit(reassociate=True, serial_below=_SERIAL)
def _train_columns(x, weight, bias, y, mean, rstd, running_mean, running_var, momentum, eps):
    T = x.dtype.type
    rows, C = x.shape
    chunks, height = _chunks(rows, C)
    sums = np.zeros((chunks, 2, C))
    pivot = np.empty(C)
    for c in range(C):
        pivot[c] = x[0, c]
    for chunk in prange(chunks):
        total, squares = sums[chunk]
        for r in range(chunk * height, min(rows, (chunk + 1) * height)):
            row = x[r]
            for c in range(C):
                d = np.float64(row[c]) - pivot[c]
                total[c] += d
                squares[c] += d * d
    _add_up(sums)
    pivots, scale, shift = np.empty(C, x.dtype), np.empty(C, x.dtype), np.empty(C, x.dtype)
    for c in range(C):
        m, r = _statistics(sums[0, 0, c], sums[0, 1, c], pivot[c], rows, c, mean, rstd, running_mean, running_var,
                           momentum, eps)
        pivots[c], scale[c] = T(m), T(r * weight[c])
        shift[c] = T(bias[c] - (m - T(m)) * r * weight[c])
    for chunk in prange(chunks):
        for r in range(chunk * height, min(rows, (chunk + 1) * height)):
            _scale_row(x[r], pivots, scale, shift, y[r])


@device_function
def _scale_row(x, pivots, scale, shift, y):
    for c in range(x.size):
        y[c] = (x[c] - pivots[c]) * scale[c] + shift[c]


@jit(serial_below=_SERIAL)
def _infer_columns(x, weight, bias, mean, var, y, eps):
    rows, C = x.shape
    chunks, height = _chunks(rows, C)
    scale = _scales(weight, var, eps)
    for chunk in prange(chunks):
        for r in range(chunk * height, min(rows, (chunk + 1) * height)):
            _scale_row(x[r], mean, scale, bias, y[r])


@jit(reassociate=True, serial_below=_SERIAL)
def _backward_columns(x, gy, weight, mean, rstd, gx, gw, gb, training, reduce):
    T = x.dtype.type
    rows, C = x.shape
    chunks, height = _chunks(rows, C)
    parts = np.zeros((chunks, 3, C))
    pivot = np.empty(C)
    for c in range(C):
        pivot[c] = mean[c]
    for chunk in prange(chunks if reduce else 0):
        total, along, remainder = parts[chunk]
        for r in range(chunk * height, min(rows, (chunk + 1) * height)):
            row, g = x[r], gy[r]
            for c in range(C):
                d, h = np.float64(row[c]) - pivot[c], np.float64(g[c])
                total[c] += h
                along[c] += h * d
                remainder[c] += d
    _add_up(parts)
    offset, slope = np.zeros(C, x.dtype), np.zeros(C, x.dtype)
    for c in range(C):
        total, along, remainder = parts[0, :, c]
        if training:
            take, lean = _gradients(total, along, remainder, rows, c, rstd, gw, gb)
            offset[c], slope[c] = T(take), T(lean)
        else:
            gw[c], gb[c] = along * rstd[c], total
    scale = np.empty(C, x.dtype)
    for c in range(C):
        scale[c] = weight[c] * rstd[c]
    for chunk in prange(chunks if len(gx) else 0):
        for r in range(chunk * height, min(rows, (chunk + 1) * height)):
            if training:
                _combine_row(x[r], gy[r], mean, scale, offset, slope, gx[r])
            else:
                _scale_row(gy[r], offset, scale, offset, gx[r])


@device_function
def _combine_row(x, gy, mean, scale, offset, slope, gx):
    for c in range(x.size):
        gx[c] = scale[c] * (gy[c] - offset[c] - (x[c] - mean[c]) * slope[c])
