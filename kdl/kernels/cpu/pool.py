"""Pooling on the CPU. The maths stands in kdl/ops/pool.py.

Channels-last arrays have loops of their own (pool_last.py). Contiguous arrays are volumes (planes, D, H, W): planes is
N C, and D = 1 in 2-D. Windows that halve the rows have the fastest loops (pool_halving.py; pool_short.py where rows are
short). Others go by lines (pool_lines.py), or output by output: for adaptive pooling, where windows differ, for planes
with so few outputs that a line would be short, and for small planes with large strides. That is done for many planes at
once (pool_lanes.py), as it is where the window is the whole plane, or one by one here.
"""
from math import prod

import numpy as np

from kdl.kernels.cpu.launch import device_function, jit, prange, widened
from kdl.kernels.cpu.pool_halving import _avg_halving, _avg_halving_backward, _max_halving, _max_halving_backward
from kdl.kernels.cpu.pool_lanes import (
    LARGEST,
    _avg_lanes,
    _avg_lanes_backward,
    _avg_planes,
    _avg_planes_backward,
    _max_lanes,
    _max_planes,
)
from kdl.kernels.cpu.pool_last import (
    _adaptive_max_last_backward,
    _avg_last,
    _avg_last_backward,
    _max_last,
    _max_last_backward,
    _max_last_backward_float32,
    _max_last_float32,
    _max_last_positions,
)
from kdl.kernels.cpu.pool_lines import _avg_lines, _avg_lines_backward, _max_lines
from kdl.kernels.cpu.pool_short import _avg_short, _avg_short_backward, _max_short, _max_short_backward
from kdl.kernels.cpu.pool_taps import _fill, _window
from kdl.kernels.cpu.simd import LANES
from kdl.kernels.cpu.windows import plan_of, shares_of
from kdl.tensor import channels_to_end

_SHORT = 16  # outputs of a plane below which windows beat lines: two vectors of float32
_MANY = 26  # taps from which a loop over the outputs alone beats one over the taps
_FLOAT_INTEGERS = 1 << 24  # below it float32 has every integer
_SERIAL = 1 << 15  # elements below which waking threads (30 to 90 us) costs more than they save


# --- kernels ---
@widened("y")
def max_pool2d_forward(x, y, winner, kernel_size, stride, padding, dilation):
    plan = plan_of(x.shape[2:], y.shape[2:], kernel_size, stride, padding, dilation)
    vectors = x.dtype == np.float32 and winner.dtype == np.uint8
    if _are_last(x, y, winner):
        loop = _max_last_float32 if vectors else _max_last
        loop(*_last(x, y, winner), *plan.windows, plan.kernel, plan.dilation)
    elif vectors and plan.short:
        _max_short(*_volumes(x, y, winner), *plan.pieces)
    elif vectors and plan.halves:
        _max_halving(*_volumes(x, y, winner), *plan.rows, plan.windows[2], plan.edges, plan.kernel[2])
    elif plan.whole and x.dtype == np.float32 and prod(plan.size) < _FLOAT_INTEGERS:
        _max_planes(_planes(x), y.reshape(-1), winner.reshape(-1))
    elif _by_windows(plan, x):
        loop = _max_lanes if _suits_lanes(x) else _max_windows
        loop(*_volumes(x, y, winner), *plan.windows, plan.kernel, plan.dilation)
    else:
        _max_lines(*_volumes(x, y, winner), *plan.windows, plan.kernel, plan.padding, plan.dilation, plan.starts,
                   plan.cells)


@widened("gx")
def max_pool2d_backward(gy, winner, gx, kernel_size, stride, padding, dilation):
    plan = plan_of(gx.shape[2:], gy.shape[2:], kernel_size, stride, padding, dilation)
    vectors = gy.dtype == np.float32 and winner.dtype == np.uint8
    if _are_last(gy, winner, gx) and vectors and prod(plan.kernel) < _MANY:
        _max_last_backward_float32(*_last(gy, winner, gx), *plan.windows, plan.kernel, plan.dilation, plan.tiles)
    elif _are_last(gy, winner, gx):
        _max_last_backward(*_last(gy, winner, gx), *plan.windows, plan.offsets)
    elif vectors and plan.short and plan.parts:
        _max_short_backward(*_volumes(gy, winner, gx), *plan.pieces, plan.tiles)
    elif vectors and plan.halves and plan.kernel[2] == 2 and plan.parts:
        _max_halving_backward(*_volumes(gy, winner, gx), *plan.rows, plan.windows[2], plan.tiles)
    else:
        _max_scatter(*_volumes(gy, winner, gx), *plan.windows, plan.offsets)


def max_pool2d_indices(winner, indices, kernel_size, stride, padding, dilation, input_size):
    plan = plan_of(input_size, winner.shape[2:], kernel_size, stride, padding, dilation)
    if _are_last(winner, indices):
        _max_last_positions(*_last(winner, indices), *plan.windows, plan.offsets, plan.size)
    else:
        _max_positions(*_volumes(winner, indices), *plan.windows, plan.offsets, plan.size)


@widened("y")
def avg_pool2d_forward(x, y, kernel_size, stride, padding, count_include_pad, divisor_override):
    plan = plan_of(x.shape[2:], y.shape[2:], kernel_size, stride, padding)
    shares = shares_of(plan, count_include_pad, divisor_override, x.dtype)
    if _are_last(x, y):
        _avg_last(*_last(x, y), *plan.windows, *shares)
    elif plan.short:
        _avg_short(*_volumes(x, y), *plan.pieces, _share(shares))
    elif plan.halves:
        _avg_halving(*_volumes(x, y), plan.rows[0], plan.windows[2], plan.edges, *shares, plan.kernel[2])
    elif plan.whole and x.dtype == np.float32:
        _avg_planes(_planes(x), y.reshape(-1), _share(shares))
    elif _by_windows(plan, x):
        loop = _avg_lanes if _suits_lanes(x) else _avg_windows
        loop(*_volumes(x, y), *plan.windows, *shares)
    else:
        _avg_lines(*_volumes(x, y), *plan.windows, *shares, plan.padding, plan.starts, plan.cells)


@widened("gx")
def avg_pool2d_backward(gy, gx, kernel_size, stride, padding, count_include_pad, divisor_override):
    plan = plan_of(gx.shape[2:], gy.shape[2:], kernel_size, stride, padding)
    shares = shares_of(plan, count_include_pad, divisor_override, gy.dtype)
    if _are_last(gy, gx):
        _avg_last_backward(*_last(gy, gx), *plan.windows, *shares, plan.tiles)
    elif plan.short and plan.parts:
        _avg_short_backward(*_volumes(gy, gx), *plan.pieces, _share(shares), plan.tiles)
    elif plan.halves and plan.kernel[2] == 2 and plan.parts:
        _avg_halving_backward(*_volumes(gy, gx), plan.rows[0], plan.windows[2], *shares, plan.tiles)
    elif plan.whole and gx.dtype == np.float32:
        _avg_planes_backward(gy.reshape(-1), _planes(gx), _share(shares))
    elif _by_windows(plan, gx):
        loop = _avg_lanes_backward if _suits_lanes(gx) else _avg_windows_backward
        loop(*_volumes(gy, gx), *plan.windows, *shares)
    else:
        _avg_lines_backward(*_volumes(gy, gx), *plan.windows, *shares, plan.padding, plan.starts, plan.cells)


@widened("y")
def adaptive_avg_pool2d_forward(x, y):
    if x.shape == y.shape:
        y[...] = x
        return
    plan = plan_of(x.shape[2:], y.shape[2:])
    shares = shares_of(plan, False, 0, x.dtype)
    if _are_last(x, y):
        _avg_last(*_last(x, y), *plan.windows, *shares)
    elif plan.whole and x.dtype == np.float32:
        _avg_planes(_planes(x), y.reshape(-1), _share(shares))
    else:
        loop = _avg_lanes if _suits_lanes(x) else _avg_windows
        loop(*_volumes(x, y), *plan.windows, *shares)


@widened("gx")
def adaptive_avg_pool2d_backward(gy, gx):
    if gx.shape == gy.shape:
        gx[...] = gy
        return
    plan = plan_of(gx.shape[2:], gy.shape[2:])
    shares = shares_of(plan, False, 0, gy.dtype)
    if _are_last(gy, gx):
        _avg_last_backward(*_last(gy, gx), *plan.windows, *shares, plan.tiles)
    elif plan.whole and gx.dtype == np.float32:
        _avg_planes_backward(gy.reshape(-1), _planes(gx), _share(shares))
    else:
        loop = _avg_lanes_backward if _suits_lanes(gx) else _avg_windows_backward
        loop(*_volumes(gy, gx), *plan.windows, *shares)


@widened("y")
def adaptive_max_pool2d_forward(x, y, index):
    if x.shape == y.shape:
        y[...], index[...] = x, np.arange(prod(x.shape[2:])).reshape(x.shape[2:])
        return
    plan = plan_of(x.shape[2:], y.shape[2:])
    if _are_last(x, y, index):
        _max_last(*_last(x, y, index), *plan.windows, plan.kernel, plan.dilation)
    elif plan.whole and x.dtype == np.float32 and prod(plan.size) < _FLOAT_INTEGERS:
        _max_planes(_planes(x), y.reshape(-1), index.reshape(-1))
    elif _suits_lanes(x):
        _max_lanes(*_volumes(x, y, index), *plan.windows, plan.kernel, plan.dilation)
    else:
        _max_windows(*_volumes(x, y, index), *plan.windows, plan.kernel, plan.dilation)


@widened("gx")
def adaptive_max_pool2d_backward(gy, index, gx):
    if _are_last(gy, index, gx):
        _adaptive_max_last_backward(*_last(gy, index, gx))
    else:
        _adaptive_max_scatter(*_volumes(gy, index, gx))


max_pool3d_forward, max_pool3d_backward = max_pool2d_forward, max_pool2d_backward
max_pool3d_indices = max_pool2d_indices
avg_pool3d_forward, avg_pool3d_backward = avg_pool2d_forward, avg_pool2d_backward
adaptive_avg_pool3d_forward, adaptive_avg_pool3d_backward = adaptive_avg_pool2d_forward, adaptive_avg_pool2d_backward
adaptive_max_pool3d_forward, adaptive_max_pool3d_backward = adaptive_max_pool2d_forward, adaptive_max_pool2d_backward


# --- launch ---
def _are_last(*arrays):
    """Whether the arrays are channels-last, and not contiguous too (as with one channel or one pixel)."""
    return not all(a.flags.c_contiguous for a in arrays)


def _by_windows(plan, x):
    """Whether lines would be short, or be dealt out to many phases where lanes need not."""
    return prod(plan.outputs) < _SHORT or (plan.stride[2] > 2 and _suits_lanes(x))


def _suits_lanes(x):
    """Whether there are many planes of float32, and small ones."""
    return x.dtype == np.float32 and x.shape[0] * x.shape[1] >= LANES and prod(x.shape[2:]) <= LARGEST


def _share(shares):
    """The factor of all outputs, where it is one."""
    d, h, w = shares
    return d[0] * h[0] * w[0]


def _volumes(*arrays):
    """Contiguous (N, C, H, W) or (N, C, D, H, W) arrays as (planes, D, H, W)."""
    return [a.reshape(a.shape[0] * a.shape[1], *(1,) * (5 - a.ndim), *a.shape[2:]) for a in arrays]


def _last(*arrays):
    """Channels-last arrays as contiguous (N, D, H, W, C)."""
    return [last.reshape(last.shape[0], *(1,) * (5 - last.ndim), *last.shape[1:])
            for last in map(channels_to_end, arrays)]


def _planes(array):
    """Contiguous (N, C, ...) as (planes, elements)."""
    return array.reshape(array.shape[0] * array.shape[1], -1)


# --- windows ---
@jit(serial_below=_SERIAL)
def _max_windows(x, y, winner, depths, heights, widths, taps, dilation):
    """`winner` is the tap; the flat position in the volume where the window is adaptive."""
    T = x.dtype.type
    planes, _, H, W = x.shape
    _, E, P, Q = y.shape
    K, R, S = taps
    dd, dh, dw = dilation
    flat = x.reshape(planes, -1)
    for plane in prange(planes):
        for e in range(E):
            z, front, back = _window(depths, e)
            for p in range(P):
                h, top, bottom = _window(heights, p)
                for q in range(Q):
                    w, left, right = _window(widths, q)
                    best, at = T(-np.inf), ((z + front * dd) * H + h + top * dh) * W + w + left * dw
                    for k in range(front, back):
                        for r in range(top, bottom):
                            start = ((z + k * dd) * H + h + r * dh) * W + w
                            for s in range(left, right):
                                v = flat[plane, start + s * dw]
                                if not v <= best:  # one comparison for the usual case
                                    if v > best or v != v:
                                        best, at = v, start + s * dw
                    y[plane, e, p, q] = best
                    if K == 0:
                        winner[plane, e, p, q] = at
                    elif front >= back or top >= bottom or left >= right:
                        winner[plane, e, p, q] = K * R * S
                    else:
                        k, r, s = (at // (H * W) - z) // dd, (at // W % H - h) // dh, (at % W - w) // dw
                        winner[plane, e, p, q] = (k * R + r) * S + s


@jit(serial_below=_SERIAL)
def _max_scatter(gy, winner, gx, depths, heights, widths, offsets):
    planes, _, H, W = gx.shape
    _, E, P, Q = gy.shape
    flat = gx.reshape(planes, -1)
    for plane in prange(planes):
        g = flat[plane]
        _fill(g, g.dtype.type(0))
        for e in range(E):
            for p in range(P):
                start = (depths[e, 0] * H + heights[p, 0]) * W
                for q in range(Q):
                    tap = winner[plane, e, p, q]
                    if tap < offsets.size:
                        g[start + widths[q, 0] + offsets[tap]] += gy[plane, e, p, q]


@jit(serial_below=_SERIAL)
def _max_positions(winner, indices, depths, heights, widths, offsets, size):
    planes, E, P, Q = winner.shape
    for plane in prange(planes):
        for e in range(E):
            for p in range(P):
                start = (depths[e, 0] * size[1] + heights[p, 0]) * size[2]
                for q in range(Q):
                    tap = winner[plane, e, p, q]
                    indices[plane, e, p, q] = start + widths[q, 0] + offsets[tap] if tap < offsets.size else -1


@jit(serial_below=_SERIAL)
def _adaptive_max_scatter(gy, index, gx):
    planes = len(gy)
    values, places, flat = gy.reshape(planes, -1), index.reshape(planes, -1), gx.reshape(planes, -1)
    for plane in prange(planes):
        g = flat[plane]
        _fill(g, g.dtype.type(0))
        for i in range(values.shape[1]):
            g[places[plane, i]] += values[plane, i]


@device_function
def _runs(H, W, h, top, bottom, w, left, right):
    """The contiguous runs of a window in one depth: where the first starts, how many, how long. A window as wide as the
    input is one run."""
    start = (h + top) * W + w + left
    return (start, 1, (bottom - top) * W) if right - left == W else (start, bottom - top, right - left)


@jit(reassociate=True, serial_below=_SERIAL)
def _avg_windows(x, y, depths, heights, widths, shares_d, shares_h, shares_w):
    T = x.dtype.type
    planes, _, H, W = x.shape
    _, E, P, Q = y.shape
    flat = x.reshape(planes, -1)
    for plane in prange(planes):
        for e in range(E):
            z, front, back = _window(depths, e)
            for p in range(P):
                h, top, bottom = _window(heights, p)
                for q in range(Q):
                    w, left, right = _window(widths, q)
                    start, runs, length = _runs(H, W, h, top, bottom, w, left, right)
                    total = T(0)
                    for k in range(front, back):
                        for r in range(runs):
                            run = flat[plane, ((z + k) * H + r) * W + start:]
                            for i in range(length):
                                total += run[i]
                    y[plane, e, p, q] = total * (shares_d[e] * shares_h[p] * shares_w[q])


@jit(serial_below=_SERIAL)
def _avg_windows_backward(gy, gx, depths, heights, widths, shares_d, shares_h, shares_w):
    planes, _, H, W = gx.shape
    _, E, P, Q = gy.shape
    flat = gx.reshape(planes, -1)
    for plane in prange(planes):
        _fill(flat[plane], gx.dtype.type(0))
        for e in range(E):
            z, front, back = _window(depths, e)
            for p in range(P):
                h, top, bottom = _window(heights, p)
                for q in range(Q):
                    w, left, right = _window(widths, q)
                    start, runs, length = _runs(H, W, h, top, bottom, w, left, right)
                    share = gy[plane, e, p, q] * (shares_d[e] * shares_h[p] * shares_w[q])
                    for k in range(front, back):
                        for r in range(runs):
                            run = flat[plane, ((z + k) * H + r) * W + start:]
                            for i in range(length):
                                run[i] += share
