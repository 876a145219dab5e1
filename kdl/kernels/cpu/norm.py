"""Normalisation within examples on the CPU; the maths stands in kdl/ops/norm.py.

A row (of a layer, or of a group: channels times places) is read twice for its moments and once more to be written, out
of the cache. The gradients of weight and bias are added up over blocks of rows, whose number and order do not depend
on the number of threads.
"""
import numpy as np

from kdl.kernels.cpu.launch import NOTHING, device_function, jit, prange, widened
from kdl.kernels.cpu.simd import (
    LANES,
    begin,
    broadcast,
    first,
    fma,
    load,
    load_masked,
    load_part,
    prefetch,
    select,
    store,
    store_masked,
    store_part,
    total,
)

_SMALL = 1 << 14  # elements below which waking threads takes longer than the loop


@widened("y")
def layer_norm_forward(x, weight, bias, y, mean, rstd, eps):
    """With mean None it is RMS normalisation: nothing is subtracted."""
    none = NOTHING[rstd.dtype]
    _layer_rows(x, none if weight is None else weight, none if bias is None else bias, y,
                none if mean is None else mean, rstd, eps)


@widened("gx")
def layer_norm_backward(x, gy, weight, mean, rstd, gx, gw, gb):
    """gx, gw and gb may be None where nobody asks for them."""
    none = NOTHING[rstd.dtype]
    _layer_backward_rows(x, gy, none if weight is None else weight, none if mean is None else mean, rstd,
                         none.reshape(0, 0) if gx is None else gx, none if gw is None else gw,
                         none if gb is None else gb)


@widened("y")
def group_norm_forward(x, weight, bias, y, mean, rstd, eps):
    none = NOTHING[rstd.dtype]
    _group_rows(x, none if weight is None else weight, none if bias is None else bias, y, mean, rstd, eps)


@widened("gx")
def group_norm_backward(x, gy, weight, mean, rstd, gx, gw, gb):
    """gx, gw and gb may be None where nobody asks for them."""
    channels = 0 if gw is None and gb is None else x.shape[1] * x.shape[2]
    sums = np.zeros((2, len(x) if channels else 0, channels), rstd.dtype)  # per example, of gy xh and gy
    none = NOTHING[rstd.dtype]
    _group_backward_rows(x, gy, none if weight is None else weight, mean, rstd,
                         none.reshape(0, 0, 0, 0) if gx is None else gx, sums[0], sums[1])
    for g, parts in ((gw, sums[0]), (gb, sums[1])):
        if g is not None:
            np.sum(parts, axis=0, out=g)


# --- a row of `cols` elements, which stays in the first cache from one pass to the next ---
@device_function
def _sum(x, at, cols, zero):
    a, b, c, d, fours = zero, zero, zero, zero, cols // (4 * LANES) * (4 * LANES)
    for j in range(at, at + fours, 4 * LANES):
        a, b = a + load(x, j), b + load(x, j + LANES)
        c, d = c + load(x, j + 2 * LANES), d + load(x, j + 3 * LANES)
    for j in range(fours, cols, LANES):
        a = a + load_part(x, at + j, cols - j)
    return total((a + b) + (c + d))


@device_function
def _sum_of_squares(x, at, cols, mean, zero):
    """Of x - mean."""
    a, b, c, d, fours = zero, zero, zero, zero, cols // (4 * LANES) * (4 * LANES)
    for j in range(at, at + fours, 4 * LANES):
        e, f, g, h = load(x, j), load(x, j + LANES), load(x, j + 2 * LANES), load(x, j + 3 * LANES)
        e, f, g, h = e - mean, f - mean, g - mean, h - mean
        a, b, c, d = fma(e, e, a), fma(f, f, b), fma(g, g, c), fma(h, h, d)
    for j in range(fours, cols, LANES):
        e = select(first(cols - j), load_part(x, at + j, cols - j) - mean, zero)
        a = fma(e, e, a)
    return total((a + b) + (c + d))


@device_function
def _products(x, gy, at, j, count, mean, rstd, weight, gw, gb, sums, along):
    """At column j: adds to the gradients of weight and bias, and to the sums of g and g (x - mean)."""
    g = load_part(gy, at + j, count)
    share = g * (load_part(x, at + j, count) - mean)
    w = load_part(weight, j, count)
    store_part(gw, j, fma(share, rstd, load_part(gw, j, count)), count)
    store_part(gb, j, load_part(gb, j, count) + g, count)
    return fma(g, w, sums), fma(share, w, along)


# --- layers ---
@jit(serial_below=_SMALL)
def _layer_rows(x, weight, bias, y, mean, rstd, eps):
    T = x.dtype.type
    rows, cols = x.shape
    weight = weight if weight.size else np.ones(cols, x.dtype)
    bias = bias if bias.size else np.zeros(cols, x.dtype)
    for i in prange(rows):
        source, target, w, b, at, zero = begin(x), begin(y), begin(weight), begin(bias), i * cols, broadcast(T(0))
        m = T(0)
        if mean.size:
            m = _sum(source, at, cols, zero) / T(cols)
            mean[i] = m
        r = T(1) / np.sqrt(_sum_of_squares(source, at, cols, broadcast(m), zero) / T(cols) + T(eps))
        rstd[i] = r
        m, r, whole = broadcast(m), broadcast(r), cols // LANES * LANES
        for j in range(0, whole, LANES):
            prefetch(source, at + cols + j)
            prefetch(target, at + cols + j)
            store(target, at + j, fma((load(source, at + j) - m) * r, load(w, j), load(b, j)))
        if whole < cols:
            here = first(cols - whole)
            v = (load_masked(source, at + whole, here) - m) * r
            store_masked(target, at + whole, fma(v, load_masked(w, whole, here), load_masked(b, whole, here)), here)


@jit(serial_below=_SMALL)
def _layer_backward_rows(x, gy, weight, mean, rstd, gx, gw, gb):
    T = x.dtype.type
    rows, cols = x.shape
    weight = weight if weight.size else np.ones(cols, x.dtype)
    blocks = min(16, rows // 16 + 1)
    sums_w, sums_b = np.zeros((blocks, cols), x.dtype), np.zeros((blocks, cols), x.dtype)
    for block in prange(blocks):
        source, grad, target, w, zero = begin(x), begin(gy), begin(gx), begin(weight), broadcast(T(0))
        added_w, added_b = begin(sums_w[block]), begin(sums_b[block])
        for i in range(rows * block // blocks, rows * (block + 1) // blocks):
            at, r = i * cols, rstd[i]
            m, wide = broadcast(mean[i] if mean.size else T(0)), broadcast(r)
            a, b, c, d, pairs = zero, zero, zero, zero, cols // (2 * LANES) * (2 * LANES)
            for j in range(0, pairs, 2 * LANES):
                a, b = _products(source, grad, at, j, LANES, m, wide, w, added_w, added_b, a, b)
                c, d = _products(source, grad, at, j + LANES, LANES, m, wide, w, added_w, added_b, c, d)
            for j in range(pairs, cols, LANES):
                a, b = _products(source, grad, at, j, cols - j, m, wide, w, added_w, added_b, a, b)
            if gx.size:
                offset = broadcast(total(a + c) / T(cols) * r if mean.size else T(0))
                slope = broadcast(total(b + d) / T(cols) * r * r * r)
                for j in range(0, cols, LANES):
                    prefetch(source, at + cols + j)
                    prefetch(grad, at + cols + j)
                    prefetch(target, at + cols + j)
                    g = load_part(grad, at + j, cols - j) * load_part(w, j, cols - j)
                    lean = fma(load_part(source, at + j, cols - j) - m, slope, offset)
                    store_part(target, at + j, g * wide - lean, cols - j)
    _add_blocks(sums_w, gw)
    _add_blocks(sums_b, gb)


@device_function
def _add_blocks(sums, total):
    for j in range(total.size):
        total[j] = sums[0, j]
    for block in range(1, len(sums)):
        for j in range(total.size):
            total[j] += sums[block, j]


# --- groups ---
@jit(reassociate=True, serial_below=_SMALL)
def _group_rows(x, weight, bias, y, mean, rstd, eps):
    T = x.dtype.type
    N, G, channels, inner = x.shape
    for row in prange(N * G):
        n, group = row // G, row % G
        values = x[n, group].reshape(channels * inner)
        m = T(0)
        for j in range(values.size):
            m += values[j]
        m /= T(values.size)
        square = T(0)
        for j in range(values.size):
            square += (values[j] - m) * (values[j] - m)
        r = T(1) / np.sqrt(square / T(values.size) + T(eps))
        mean[n, group], rstd[n, group] = m, r
        for c in range(channels):
            scale = r * weight[group * channels + c] if weight.size else r
            shift = bias[group * channels + c] if bias.size else T(0)
            for j in range(inner):
                y[n, group, c, j] = (x[n, group, c, j] - m) * scale + shift


@jit(reassociate=True, serial_below=_SMALL)
def _group_backward_rows(x, gy, weight, mean, rstd, gx, sums_w, sums_b):
    T = x.dtype.type
    N, G, channels, inner = x.shape
    for row in prange(N * G):
        n, group = row // G, row % G
        m, r = mean[n, group], rstd[n, group]
        total, along = T(0), T(0)
        for c in range(channels):
            sum_g, sum_gx = T(0), T(0)
            for j in range(inner):
                sum_g += gy[n, group, c, j]
                sum_gx += gy[n, group, c, j] * (x[n, group, c, j] - m)
            w = weight[group * channels + c] if weight.size else T(1)
            total += w * sum_g
            along += w * sum_gx
            if sums_w.size:
                sums_w[n, group * channels + c], sums_b[n, group * channels + c] = sum_gx * r, sum_g
        if gx.size:
            total /= T(channels * inner)
            along *= r * r / T(channels * inner)
            for c in range(channels):
                w = weight[group * channels + c] if weight.size else T(1)
                for j in range(inner):
                    gx[n, group, c, j] = r * (gy[n, group, c, j] * w - total - (x[n, group, c, j] - m) * along)
