"""Batch normalisation on the CPU; the maths stands in kdl/ops/batchnorm.py.

Arrays are (N, C, inner). Where inner is long, a channel is N runs: a thread takes blocks of whole channels, image by
image, and its second pass finds in the cache what its first has read. Where inner is short, or 1, every one of the
C inner columns is summed by itself, by vectors of neighbours, and then those of a channel together; the rows are cut
into chunks, whose sums are added in order.

Sums are float64, of x - pivot, the pivot being the channel's first value: one pass over the data, as exact as two
whatever the mean. A mean rounded to float32 is 3e-5 standard deviations off where it is 1000 of them away from 0, so
forward carries the remainder along, and backward finds it again: it is the mean of x - mean.
"""
import numpy as np
from numba import get_num_threads

from kdl.kernels.cpu.launch import NOTHING, device_function, jit, prange, widened
from kdl.kernels.cpu.simd import (
    LANES,
    begin,
    broadcast,
    first,
    fma,
    load,
    load_masked,
    select,
    store,
    store_masked,
    total,
    widen,
)

_SERIAL = 1 << 17  # elements below which waking threads (30 to 90 us) costs more than they save
_SHORT = 2 * LANES  # elements of a run below which columns are faster
_CHUNK = 1 << 14  # elements of a chunk of rows, at least
_CHUNKS = 64  # at most
_ROWS = 4  # rows in a go down a vector of columns
_BLOCK = 1 << 20  # elements of a block of channels


# --- kernels ---
@widened("y")
def batch_norm_forward_training(x, weight, bias, y, mean, rstd, running_mean, running_var, momentum, eps):
    """Also updates running_mean and running_var in place, which may be None, as weight and bias may."""
    none = NOTHING[mean.dtype]
    loop, width = _loop_of(x, _train_runs, _train_columns)
    loop(x, none if weight is None else weight, none if bias is None else bias, y, mean, rstd,
         none if running_mean is None else running_mean, none if running_var is None else running_var, momentum, eps,
         width)


@widened("y")
def batch_norm_forward_inference(x, weight, bias, running_mean, running_var, y, eps):
    """weight and bias may be None."""
    none = NOTHING[running_mean.dtype]
    loop, width = _loop_of(x, _infer_runs, _infer_columns)
    loop(x, none if weight is None else weight, none if bias is None else bias, running_mean, running_var, y, eps,
         width)


@widened("gx")
def batch_norm_backward(x, gy, weight, mean, rstd, gx, gw, gb):
    """gx, gw and gb may be None where nobody asks for them."""
    _backward(x, gy, weight, mean, rstd, gx, gw, gb, True, 0.0)


@widened("gx")
def batch_norm_backward_inference(x, gy, weight, running_mean, running_var, gx, gw, gb, eps):
    """gx, gw and gb may be None where nobody asks for them."""
    _backward(x, gy, weight, running_mean, running_var, gx, gw, gb, False, eps)


def _backward(x, gy, weight, mean, spread, gx, gw, gb, training, eps):
    """`spread` is rstd in training and the variance in inference."""
    none = NOTHING[mean.dtype]
    loop, width = _loop_of(x, _backward_runs, _backward_columns, not training)
    loop(x, gy, none if weight is None else weight, mean, spread, none.reshape(0, 0, 0) if gx is None else gx,
         none if gw is None else gw, none if gb is None else gb, training, eps, width)


def _loop_of(x, runs, columns, once=False):
    """The loop for an array, and how many channels a thread takes at a time: contiguous kilobytes in every image, and
    no more in all than the third cache holds, unless it reads them `once`."""
    N, C, inner = x.shape
    if inner < _SHORT:
        return columns, 0
    share = -(-C // get_num_threads())
    return runs, share if once else max(1, min(_BLOCK // (N * inner), share))


# --- some vectors: `count` of them, `step` apart, of which the first `lanes` are to be used ---
@device_function
def _moments(x, at, step, count, lanes, pivot, sums, squares):
    """Adds to the sums of x - pivot and of its square."""
    if lanes >= LANES:
        for _ in range(count // 2):
            a, b = widen(load(x, at)) - pivot, widen(load(x, at + step)) - pivot
            sums, squares, at = sums + (a + b), squares + fma(a, a, b * b), at + 2 * step
        if count % 2:
            a = widen(load(x, at)) - pivot
            sums, squares = sums + a, fma(a, a, squares)
    else:
        here = first(lanes)
        for k in range(count):
            a = select(here, widen(load_masked(x, at + k * step, here)) - pivot, broadcast(0.0))
            sums, squares = sums + a, fma(a, a, squares)
    return sums, squares


@device_function
def _products(x, gy, at, step, count, lanes, mean, sums, along, remainder):
    """Adds to the sums of gy, gy (x - mean) and x - mean."""
    if lanes >= LANES:
        for _ in range(count):
            a, g = widen(load(x, at)) - mean, widen(load(gy, at))
            sums, along, remainder, at = sums + g, fma(g, a, along), remainder + a, at + step
    else:
        here = first(lanes)
        for k in range(count):
            a = select(here, widen(load_masked(x, at + k * step, here)) - mean, broadcast(0.0))
            g = widen(load_masked(gy, at + k * step, here))
            sums, along, remainder = sums + g, fma(g, a, along), remainder + a
    return sums, along, remainder


@device_function
def _normalise(x, at, step, count, lanes, mean, scale, shift, y):
    if lanes >= LANES:
        for _ in range(count):
            store(y, at, fma(load(x, at) - mean, scale, shift))
            at += step
    else:
        here = first(lanes)
        for k in range(count):
            store_masked(y, at + k * step, fma(load_masked(x, at + k * step, here) - mean, scale, shift), here)


@device_function
def _combine(x, gy, at, step, count, lanes, mean, scale, offset, slope, gx):
    if lanes >= LANES:
        for _ in range(count):
            store(gx, at, (load(gy, at) - offset - (load(x, at) - mean) * slope) * scale)
            at += step
    else:
        here = first(lanes)
        for k in range(count):
            to = at + k * step
            lean = (load_masked(x, to, here) - mean) * slope
            store_masked(gx, to, (load_masked(gy, to, here) - offset - lean) * scale, here)


# --- channels, from `start` on ---
@device_function
def _train_channels(sums, squares, pivots, count, start, weight, bias, mean, rstd, running_mean, running_var, momentum,
                    eps, scale, shift):
    """From the sums of x - pivot and of its square to the statistics, and to y = (x - mean) scale + shift."""
    T = mean.dtype.type
    roots = np.empty(sums.size)
    for i in range(sums.size):
        shifted = sums[i] / count
        var = squares[i] / count - shifted * shifted
        sums[i], squares[i] = shifted + pivots[i], 0.0 if var < 0.0 else var
        roots[i] = 1.0 / np.sqrt(squares[i] + eps)
    for i in range(sums.size):
        c, m, r = start + i, sums[i], roots[i]
        w = r * weight[c] if weight.size else r
        mean[c], rstd[c] = m, r
        scale[i], shift[i] = w, (bias[c] if bias.size else T(0)) - (m - T(m)) * w
        if running_mean.size:
            running_mean[c] += momentum * (m - running_mean[c])
            running_var[c] += momentum * (squares[i] * count / (count - 1) - running_var[c])


@device_function
def _gradient_channels(sums, along, remainder, count, start, rstd, gw, gb, training, offset, slope):
    """From the sums of gy, gy (x - mean) and x - mean to gw, gb and gx = scale (gy - offset - slope (x - mean))."""
    for i in range(sums.size):
        c = start + i
        r = np.float64(rstd[c])
        rest = remainder[i] / count if training else 0.0
        lean = along[i] - rest * sums[i]
        if gw.size:
            gw[c] = lean * r
        if gb.size:
            gb[c] = sums[i]
        slope[i] = lean * r * r / count
        offset[i] = sums[i] / count - lean * r * r / count * rest


@device_function
def _rstd(var, eps):
    rstd = np.empty_like(var)
    for c in range(var.size):
        rstd[c] = 1.0 / np.sqrt(var[c] + eps)
    return rstd


@device_function
def _scales(weight, rstd):
    scale = rstd.copy()
    for c in range(weight.size):
        scale[c] *= weight[c]
    return scale


# --- runs ---
@device_function
def _totals(sums, kinds, totals):
    """totals[kind, c] = the sum over the lanes of sums[c, kind]."""
    for c in range(totals.shape[1]):
        for kind in range(kinds):
            totals[kind, c] = total(load(sums, (c * kinds + kind) * LANES))


@jit(serial_below=_SERIAL)
def _train_runs(x, weight, bias, y, mean, rstd, running_mean, running_var, momentum, eps, width):
    N, C, inner = x.shape
    whole, rest = inner // LANES, inner % LANES
    for block in prange((C + width - 1) // width):
        start, stop = block * width, min(C, (block + 1) * width)
        sums, totals = np.zeros(2 * width * LANES), np.empty((3, stop - start))
        source, target = begin(x), begin(y)
        for n in range(N):
            for c in range(start, stop):
                at, to, pivot = (n * C + c) * inner, 2 * (c - start) * LANES, broadcast(np.float64(x[0, c, 0]))
                a, b = load(sums, to), load(sums, to + LANES)
                a, b = _moments(source, at, LANES, whole, LANES, pivot, a, b)
                if rest:
                    a, b = _moments(source, at + whole * LANES, 0, 1, rest, pivot, a, b)
                store(sums, to, a)
                store(sums, to + LANES, b)
        _totals(sums, 2, totals)
        for c in range(start, stop):
            totals[2, c - start] = x[0, c, 0]
        scale, shift = np.empty(stop - start, x.dtype), np.empty(stop - start, x.dtype)
        _train_channels(totals[0], totals[1], totals[2], N * inner, start, weight, bias, mean, rstd, running_mean,
                        running_var, momentum, eps, scale, shift)
        for n in range(N):
            for c in range(start, stop):
                at = (n * C + c) * inner
                coefficients = broadcast(mean[c]), broadcast(scale[c - start]), broadcast(shift[c - start])
                _normalise(source, at, LANES, whole, LANES, *coefficients, target)
                if rest:
                    _normalise(source, at + whole * LANES, 0, 1, rest, *coefficients, target)


@jit(serial_below=_SERIAL)
def _infer_runs(x, weight, bias, mean, var, y, eps, width):
    T = x.dtype.type
    N, C, inner = x.shape
    whole, rest = inner // LANES, inner % LANES
    scale = _scales(weight, _rstd(var, eps))
    for i in prange(N * C):
        source, target, c, at = begin(x), begin(y), i % C, i * inner
        shift = bias[c] if bias.size else T(0)
        coefficients = broadcast(mean[c]), broadcast(scale[c]), broadcast(shift)
        _normalise(source, at, LANES, whole, LANES, *coefficients, target)
        if rest:
            _normalise(source, at + whole * LANES, 0, 1, rest, *coefficients, target)


@jit(serial_below=_SERIAL)
def _backward_runs(x, gy, weight, mean, spread, gx, gw, gb, training, eps, width):
    T = x.dtype.type
    rstd = spread if training else _rstd(spread, eps)
    scale = _scales(weight, rstd)
    N, C, inner = x.shape
    whole, rest = inner // LANES, inner % LANES
    for block in prange((C + width - 1) // width):
        start, stop = block * width, min(C, (block + 1) * width)
        sums, totals = np.zeros(3 * width * LANES), np.empty((3, stop - start))
        source, grad, target, zero = begin(x), begin(gy), begin(gx), broadcast(T(0))
        for n in range(N):
            for c in range(start, stop):
                at, to, m = (n * C + c) * inner, 3 * (c - start) * LANES, broadcast(np.float64(mean[c]))
                a, b, d = load(sums, to), load(sums, to + LANES), load(sums, to + 2 * LANES)
                a, b, d = _products(source, grad, at, LANES, whole, LANES, m, a, b, d)
                if rest:
                    a, b, d = _products(source, grad, at + whole * LANES, 0, 1, rest, m, a, b, d)
                store(sums, to, a)
                store(sums, to + LANES, b)
                store(sums, to + 2 * LANES, d)
                if not training and gx.size:
                    _normalise(grad, at, LANES, whole, LANES, zero, broadcast(scale[c]), zero, target)
                    if rest:
                        _normalise(grad, at + whole * LANES, 0, 1, rest, zero, broadcast(scale[c]), zero, target)
        _totals(sums, 3, totals)
        offset, slope = np.empty(stop - start, x.dtype), np.empty(stop - start, x.dtype)
        _gradient_channels(totals[0], totals[1], totals[2], N * inner, start, rstd, gw, gb, training, offset, slope)
        for n in range(N if training and gx.size else 0):
            for c in range(start, stop):
                i, at = c - start, (n * C + c) * inner
                coefficients = broadcast(mean[c]), broadcast(scale[c]), broadcast(offset[i]), broadcast(slope[i])
                _combine(source, grad, at, LANES, whole, LANES, *coefficients, target)
                if rest:
                    _combine(source, grad, at + whole * LANES, 0, 1, rest, *coefficients, target)


# --- columns ---
@device_function
def _chunks(rows, cols):
    """How many chunks of how many rows; by the shape alone, so that sums do not depend on the number of threads."""
    height = max(_CHUNK // cols, (rows + _CHUNKS - 1) // _CHUNKS, 64)
    return (rows + height - 1) // height, height


@device_function
def _spread(values, inner, columns):
    """Every channel's value for all of its columns."""
    for c in range(values.size):
        for i in range(inner):
            columns[c * inner + i] = values[c]


@device_function
def _gather(sums, inner, totals):
    """totals[kind, c] = the sum over chunks, in their order, and over the channel's columns of sums."""
    chunks, kinds, _ = sums.shape
    for kind in range(kinds):
        for chunk in range(1, chunks):
            for j in range(inner * totals.shape[1]):
                sums[0, kind, j] += sums[chunk, kind, j]
        for c in range(totals.shape[1]):
            totals[kind, c] = 0.0
            for i in range(inner):
                totals[kind, c] += sums[0, kind, c * inner + i]


@jit(serial_below=_SERIAL)
def _train_columns(x, weight, bias, y, mean, rstd, running_mean, running_var, momentum, eps, _):
    rows, C, inner = x.shape
    cols = C * inner
    pitch = (cols + LANES - 1) // LANES * LANES
    chunks, height = _chunks(rows, cols)
    sums, totals, pivots = np.zeros((chunks, 2, pitch)), np.empty((3, C)), np.zeros(pitch)
    for c in range(C):
        totals[2, c] = x[0, c, 0]
    _spread(totals[2], inner, pivots)
    for chunk in prange(chunks):
        source, added, bottom = begin(x), begin(sums), min(rows, (chunk + 1) * height)
        for top in range(chunk * height, bottom, _ROWS):
            for j in range(0, cols, LANES):
                to = chunk * 2 * pitch + j
                a, b = _moments(source, top * cols + j, cols, min(_ROWS, bottom - top), cols - j, load(pivots, j),
                                load(added, to), load(added, to + pitch))
                store(added, to, a)
                store(added, to + pitch, b)
    _gather(sums, inner, totals)
    channels, coefficients = np.empty((2, C), x.dtype), np.zeros((3, pitch), x.dtype)
    _train_channels(totals[0], totals[1], totals[2], rows * inner, 0, weight, bias, mean, rstd, running_mean,
                    running_var, momentum, eps, channels[0], channels[1])
    _spread(mean, inner, coefficients[0])
    _spread(channels[0], inner, coefficients[1])
    _spread(channels[1], inner, coefficients[2])
    for chunk in prange(chunks):
        _normalise_rows(x, chunk * height, min(rows, (chunk + 1) * height), cols, coefficients, y)


@device_function
def _normalise_rows(x, top, bottom, cols, coefficients, y):
    pitch, source, target, values = coefficients.shape[1], begin(x), begin(y), begin(coefficients)
    for r in range(top, bottom, _ROWS):
        for j in range(0, cols, LANES):
            _normalise(source, r * cols + j, cols, min(_ROWS, bottom - r), cols - j, load(values, j),
                       load(values, pitch + j), load(values, 2 * pitch + j), target)


@jit(serial_below=_SERIAL)
def _infer_columns(x, weight, bias, mean, var, y, eps, _):
    rows, C, inner = x.shape
    cols = C * inner
    chunks, height = _chunks(rows, cols)
    scale = _scales(weight, _rstd(var, eps))
    coefficients = np.zeros((3, (cols + LANES - 1) // LANES * LANES), x.dtype)
    _spread(mean, inner, coefficients[0])
    _spread(scale, inner, coefficients[1])
    _spread(bias, inner, coefficients[2])
    for chunk in prange(chunks):
        _normalise_rows(x, chunk * height, min(rows, (chunk + 1) * height), cols, coefficients, y)


@jit(serial_below=_SERIAL)
def _backward_columns(x, gy, weight, mean, spread, gx, gw, gb, training, eps, _):
    T = x.dtype.type
    rstd = spread if training else _rstd(spread, eps)
    rows, C, inner = x.shape
    cols = C * inner
    pitch = (cols + LANES - 1) // LANES * LANES
    chunks, height = _chunks(rows, cols)
    sums, totals, coefficients = np.zeros((chunks, 3, pitch)), np.empty((3, C)), np.zeros((4, pitch), x.dtype)
    _spread(mean, inner, coefficients[0])
    _spread(_scales(weight, rstd), inner, coefficients[1])
    for chunk in prange(chunks):
        bottom, zero = min(rows, (chunk + 1) * height), broadcast(T(0))
        source, grad, target, added, values = begin(x), begin(gy), begin(gx), begin(sums), begin(coefficients)
        for top in range(chunk * height, bottom, _ROWS):
            for j in range(0, cols, LANES):
                at, count, to = top * cols + j, min(_ROWS, bottom - top), chunk * 3 * pitch + j
                a, b, d = _products(source, grad, at, cols, count, cols - j, widen(load(values, j)), load(added, to),
                                    load(added, to + pitch), load(added, to + 2 * pitch))
                store(added, to, a)
                store(added, to + pitch, b)
                store(added, to + 2 * pitch, d)
                if not training and gx.size:
                    _normalise(grad, at, cols, count, cols - j, zero, load(values, pitch + j), zero, target)
    _gather(sums, inner, totals)
    offset, slope = np.empty(C, x.dtype), np.empty(C, x.dtype)
    _gradient_channels(totals[0], totals[1], totals[2], rows * inner, 0, rstd, gw, gb, training, offset, slope)
    _spread(offset, inner, coefficients[2])
    _spread(slope, inner, coefficients[3])
    for chunk in prange(chunks if training and gx.size else 0):
        bottom, source, grad = min(rows, (chunk + 1) * height), begin(x), begin(gy)
        target, values = begin(gx), begin(coefficients)
        for top in range(chunk * height, bottom, _ROWS):
            for j in range(0, cols, LANES):
                _combine(source, grad, top * cols + j, cols, min(_ROWS, bottom - top), cols - j, load(values, j),
                         load(values, pitch + j), load(values, 2 * pitch + j),
                         load(values, 3 * pitch + j), target)
