"""Normalisation within examples on the CPU; the maths stands in kdl/ops/norm.py.

A row (of a layer, or of a group: channels times places) is read twice for its moments and once more to be written, out
of the cache. The gradients of weight and bias are added up over blocks of rows, whose number and order do not depend
on the number of threads.
"""
import numpy as np

from kdl.kernels.cpu.launch import device_function, jit, prange, widened

_SMALL = 1 << 14  # elements below which waking threads takes longer than the loop


@widened("y")
def layer_norm_forward(x, weight, bias, y, mean, rstd, eps):
    """With mean None it is RMS normalisation: nothing is subtracted."""
    _layer_rows(x, _or_empty(weight, x), _or_empty(bias, x), y, _or_empty(mean, rstd), rstd, eps)


@widened("gx")
def layer_norm_backward(x, gy, weight, mean, rstd, gx, gw, gb):
    """gx, gw and gb may be None where nobody asks for them."""
    _layer_backward_rows(x, gy, _or_empty(weight, x), _or_empty(mean, rstd), rstd,
                         np.empty((0, 0), x.dtype) if gx is None else gx, _or_empty(gw, rstd), _or_empty(gb, rstd))


@widened("y")
def group_norm_forward(x, weight, bias, y, mean, rstd, eps):
    _group_rows(x, _or_empty(weight, x), _or_empty(bias, x), y, mean, rstd, eps)


@widened("gx")
def group_norm_backward(x, gy, weight, mean, rstd, gx, gw, gb):
    """gx, gw and gb may be None where nobody asks for them."""
    channels = 0 if gw is None and gb is None else x.shape[1] * x.shape[2]
    sums = np.zeros((2, len(x) if channels else 0, channels), rstd.dtype)  # per example, of gy xh and gy
    _group_backward_rows(x, gy, _or_empty(weight, x), mean, rstd, np.empty((0, 0, 0, 0), x.dtype) if gx is None else gx,
                         sums[0], sums[1])
    for g, total in ((gw, sums[0]), (gb, sums[1])):
        if g is not None:
            np.sum(total, axis=0, out=g)


def _or_empty(array, like):
    """What is not there as an array without elements, so that the loops need one compilation."""
    return np.empty(0, like.dtype) if array is None else array


# --- layers ---
@jit(reassociate=True, serial_below=_SMALL)
def _layer_rows(x, weight, bias, y, mean, rstd, eps):
    T = x.dtype.type
    rows, cols = x.shape
    for i in prange(rows):
        m = T(0)
        if mean.size:
            for j in range(cols):
                m += x[i, j]
            m /= T(cols)
            mean[i] = m
        square = T(0)
        for j in range(cols):
            square += (x[i, j] - m) * (x[i, j] - m)
        r = T(1) / np.sqrt(square / T(cols) + T(eps))
        rstd[i] = r
        if weight.size and bias.size:
            for j in range(cols):
                y[i, j] = (x[i, j] - m) * r * weight[j] + bias[j]
        elif weight.size:
            for j in range(cols):
                y[i, j] = (x[i, j] - m) * r * weight[j]
        else:
            for j in range(cols):
                y[i, j] = (x[i, j] - m) * r
            if bias.size:
                for j in range(cols):
                    y[i, j] += bias[j]


@jit(reassociate=True, serial_below=_SMALL)
def _layer_backward_rows(x, gy, weight, mean, rstd, gx, gw, gb):
    T = x.dtype.type
    rows, cols = x.shape
    blocks = min(16, rows // 16 + 1)
    sums_w, sums_b = np.zeros((blocks, gw.size), x.dtype), np.zeros((blocks, gb.size), x.dtype)
    for block in prange(blocks):
        for i in range(rows * block // blocks, rows * (block + 1) // blocks):
            m = mean[i] if mean.size else T(0)
            r = rstd[i]
            if gx.size:
                total, along = T(0), T(0)
                for j in range(cols):
                    g = gy[i, j] * weight[j] if weight.size else gy[i, j]
                    total += g
                    along += g * (x[i, j] - m)
                total = total / T(cols) if mean.size else T(0)
                along *= r * r / T(cols)
                for j in range(cols):
                    g = gy[i, j] * weight[j] if weight.size else gy[i, j]
                    gx[i, j] = r * (g - total - (x[i, j] - m) * along)
            if gw.size:
                for j in range(cols):
                    sums_w[block, j] += gy[i, j] * (x[i, j] - m) * r
            if gb.size:
                for j in range(cols):
                    sums_b[block, j] += gy[i, j]
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
