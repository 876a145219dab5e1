"""Pooling on the CPU. The maths stands in kdl/ops/pool.py.

The loops work on volumes (planes, D, H, W): planes = N C, and D = 1 in 2-D. There are two ways through a volume. By
lines: it is dealt out into cells, padded, one plane for every phase of the stride; there a tap (one place of the
window) meets all output rows as one contiguous line, so that each tap is one vectorised pass. By windows, output by
output: for adaptive pooling, where windows differ, and for planes with so few outputs that a line would be short.
"""
from math import prod

import numpy as np

from kdl.kernels.cpu.launch import device_function, jit, prange, widened
from kdl.kernels.cpu.windows import counts_of, plan_of

_SHORT = 16  # outputs of a plane below which windows beat lines: two vectors of float32
_CHUNKS = 128  # planes are shared out in so many chunks at most, each with its own cells
_SERIAL = 1 << 15  # elements below which waking threads (30 to 90 us) costs more than they save


# --- kernels ---
@widened("y")
def max_pool2d_forward(x, y, winner, kernel_size, stride, padding, dilation):
    plan = plan_of(x.shape[2:], y.shape[2:], kernel_size, stride, padding, dilation)
    if prod(plan.outputs) < _SHORT:
        _run(_max_windows, (x,), (y, winner), *plan.windows, plan.kernel, plan.dilation)
    else:
        _run(_max_lines, (x,), (y, winner), *plan.windows, plan.kernel, plan.padding, plan.dilation, plan.starts,
             plan.cells)


@widened("gx")
def max_pool2d_backward(gy, winner, gx, kernel_size, stride, padding, dilation):
    plan = plan_of(gx.shape[2:], gy.shape[2:], kernel_size, stride, padding, dilation)
    _run(_max_scatter, (gy, winner), (gx,), *plan.windows, plan.offsets)


def max_pool2d_indices(winner, indices, kernel_size, stride, padding, dilation, input_size):
    plan = plan_of(input_size, winner.shape[2:], kernel_size, stride, padding, dilation)
    _run(_max_positions, (winner,), (indices,), *plan.windows, plan.offsets, plan.size)


@widened("y")
def avg_pool2d_forward(x, y, kernel_size, stride, padding, count_include_pad, divisor_override):
    plan = plan_of(x.shape[2:], y.shape[2:], kernel_size, stride, padding)
    counts = counts_of(plan, count_include_pad, divisor_override, x.dtype)
    if prod(plan.outputs) < _SHORT:
        _run(_avg_windows, (x,), (y,), *plan.windows, *counts)
    else:
        _run(_avg_lines, (x,), (y,), *plan.windows, *counts, plan.padding, plan.starts, plan.cells)


@widened("gx")
def avg_pool2d_backward(gy, gx, kernel_size, stride, padding, count_include_pad, divisor_override):
    plan = plan_of(gx.shape[2:], gy.shape[2:], kernel_size, stride, padding)
    counts = counts_of(plan, count_include_pad, divisor_override, gy.dtype)
    if prod(plan.outputs) < _SHORT:
        _run(_avg_windows_backward, (gy,), (gx,), *plan.windows, *counts)
    else:
        _run(_avg_lines_backward, (gy,), (gx,), *plan.windows, *counts, plan.padding, plan.starts, plan.cells)


@widened("y")
def adaptive_avg_pool2d_forward(x, y):
    plan = plan_of(x.shape[2:], y.shape[2:])
    _run(_avg_windows, (x,), (y,), *plan.windows, *counts_of(plan, False, 0, x.dtype))


@widened("gx")
def adaptive_avg_pool2d_backward(gy, gx):
    plan = plan_of(gx.shape[2:], gy.shape[2:])
    _run(_avg_windows_backward, (gy,), (gx,), *plan.windows, *counts_of(plan, False, 0, gy.dtype))


@widened("y")
def adaptive_max_pool2d_forward(x, y, index):
    plan = plan_of(x.shape[2:], y.shape[2:])
    _run(_max_windows, (x,), (y, index), *plan.windows, plan.kernel, plan.dilation)


@widened("gx")
def adaptive_max_pool2d_backward(gy, index, gx):
    _run(_adaptive_max_scatter, (gy, index), (gx,))


max_pool3d_forward, max_pool3d_backward = max_pool2d_forward, max_pool2d_backward
max_pool3d_indices = max_pool2d_indices
avg_pool3d_forward, avg_pool3d_backward = avg_pool2d_forward, avg_pool2d_backward
adaptive_avg_pool3d_forward, adaptive_avg_pool3d_backward = adaptive_avg_pool2d_forward, adaptive_avg_pool2d_backward
adaptive_max_pool3d_forward, adaptive_max_pool3d_backward = adaptive_max_pool2d_forward, adaptive_max_pool2d_backward


# --- launch ---
def _run(loop, inputs, outputs, *parameters):
    """Run a loop on (N, C, H, W) or (N, C, D, H, W) arrays as volumes, by way of copies where not contiguous."""
    targets = [y if y.flags.c_contiguous else np.empty(y.shape, y.dtype) for y in outputs]
    loop(*[_volumes(np.ascontiguousarray(x)) for x in inputs], *[_volumes(y) for y in targets], *parameters)
    for y, target in zip(outputs, targets, strict=True):
        if y is not target:
            y[...] = target


def _volumes(array):
    n, c, *size = array.shape
    return array.reshape(n * c, *(1,) * (3 - len(size)), *size)


# --- lines ---
@device_function
def _deal(x, cells, padding):
    """cells[z, a, b, i, j] = x[z, i sh + a - ph, j sw + b - pw], where that exists."""
    D, H, W = x.shape
    _, sh, sw, rows, columns = cells.shape
    _, ph, pw = padding
    for z in range(D):
        a, i = ph % sh, ph // sh
        for h in range(min(H, rows * sh - ph)):
            row = x[z, h]
            if sw == 1:
                cell = cells[z, a, 0, i, pw:]
                for w in range(min(W, cell.size)):
                    cell[w] = row[w]
            elif sw == 2:
                even, odd = cells[z, a, pw % 2, i, pw // 2:], cells[z, a, (pw + 1) % 2, i, (pw + 1) // 2:]
                pairs = min(W // 2, even.size, odd.size)
                for j in range(pairs):
                    even[j] = row[2 * j]
                    odd[j] = row[2 * j + 1]
                for w in range(2 * pairs, min(W, 2 * columns - pw)):
                    cells[z, a, (w + pw) % 2, i, (w + pw) // 2] = row[w]
            else:
                for b in range(min(sw, W)):
                    cell = cells[z, a, (b + pw) % sw, i, (b + pw) // sw:]
                    for j in range(min(cell.size, (W - 1 - b) // sw + 1)):
                        cell[j] = row[b + j * sw]
            a, i = (a + 1, i) if a + 1 < sh else (0, i + 1)


@device_function
def _collect(cells, gx, padding):
    """The way back: gx[z, h, w] = cells[z, a, b, i, j], and 0 where no window reaches."""
    D, H, W = gx.shape
    _, sh, sw, rows, columns = cells.shape
    _, ph, pw = padding
    if H > rows * sh - ph or W > columns * sw - pw:
        gx[:] = 0
    for z in range(D):
        a, i = ph % sh, ph // sh
        for h in range(min(H, rows * sh - ph)):
            row = gx[z, h]
            if sw == 1:
                cell = cells[z, a, 0, i, pw:]
                for w in range(min(W, cell.size)):
                    row[w] = cell[w]
            elif sw == 2:
                even, odd = cells[z, a, pw % 2, i, pw // 2:], cells[z, a, (pw + 1) % 2, i, (pw + 1) // 2:]
                pairs = min(W // 2, even.size, odd.size)
                for j in range(pairs):
                    row[2 * j] = even[j]
                    row[2 * j + 1] = odd[j]
                for w in range(2 * pairs, min(W, 2 * columns - pw)):
                    row[w] = cells[z, a, (w + pw) % 2, i, (w + pw) // 2]
            else:
                for b in range(min(sw, W)):
                    cell = cells[z, a, (b + pw) % sw, i, (b + pw) // sw:]
                    for j in range(min(cell.size, (W - 1 - b) // sw + 1)):
                        row[b + j * sw] = cell[j]
            a, i = (a + 1, i) if a + 1 < sh else (0, i + 1)


@device_function
def _fill(array, value):
    for i in range(array.size):  # a slice assignment takes 40 ns, however short
        array[i] = value


@device_function
def _add(values, total):
    for i in range(total.size):
        total[i] += values[i]


@device_function
def _keep_larger(values, best, which, tap):
    """Take over what is larger, or NaN: in the order of taps the first maximum stays, and the last NaN."""
    for i in range(best.size):
        v, b, w = values[i], best[i], which[i]
        larger = (v > b) | (v != v)
        best[i] = v if larger else b
        which[i] = tap if larger else w


@jit(serial_below=_SERIAL)
def _max_lines(x, y, winner, depths, heights, widths, taps, padding, dilation, starts, shape):
    T, U = x.dtype.type, winner.dtype.type
    planes, D = x.shape[:2]
    _, E, P, Q = y.shape
    K, R, S = taps
    columns, none = shape[4], K * R * S
    chunks = min(planes, _CHUNKS)
    for chunk in prange(chunks):
        cells = np.full(shape, T(-np.inf))
        flat = cells.reshape(D, -1)
        best, which = np.empty(P * columns, x.dtype), np.zeros(P * columns, winner.dtype)
        best_rows, which_rows = best.reshape(P, columns), which.reshape(P, columns)
        for plane in range(planes * chunk // chunks, planes * (chunk + 1) // chunks):
            _deal(x[plane], cells, padding)
            for e in range(E):
                z, front, back = depths[e]
                _fill(best, T(-np.inf))
                for p in range(P):  # a window of -inf gets its first tap inside, if it has one
                    _, top, bottom = heights[p]
                    row = (front * R + top) * S if front < back and top < bottom else none
                    _fill(which_rows[p], U(row))
                    for q in range(Q if row < none else 0):
                        _, left, right = widths[q]
                        if left == 0 < right:  # so are the outputs to come
                            break
                        which_rows[p, q] = U(row + left if left < right else none)
                for k in range(front, back):
                    for r in range(R):
                        for s in range(S):
                            line = flat[z + k * dilation[0], starts[r, s]:]
                            _keep_larger(line, best, which, U((k * R + r) * S + s))
                for p in range(P):
                    for q in range(Q):
                        y[plane, e, p, q] = best_rows[p, q]
                        winner[plane, e, p, q] = which_rows[p, q]


@jit(serial_below=_SERIAL)
def _avg_lines(x, y, depths, heights, widths, counts_d, counts_h, counts_w, padding, starts, shape):
    T = x.dtype.type
    planes, D = x.shape[:2]
    _, E, P, Q = y.shape
    R, S = starts.shape
    chunks = min(planes, _CHUNKS)
    for chunk in prange(chunks):
        cells = np.zeros(shape, x.dtype)
        flat = cells.reshape(D, -1)
        total = np.empty(P * shape[4], x.dtype)
        total_rows = total.reshape(P, -1)
        for plane in range(planes * chunk // chunks, planes * (chunk + 1) // chunks):
            _deal(x[plane], cells, padding)
            for e in range(E):
                z, first, last = depths[e]
                _fill(total, T(0))
                for k in range(first, last):
                    for r in range(R):
                        for s in range(S):
                            _add(flat[z + k, starts[r, s]:], total)
                for p in range(P):
                    area = counts_d[e] * counts_h[p]
                    for q in range(Q):
                        y[plane, e, p, q] = total_rows[p, q] / (area * counts_w[q])


@jit(serial_below=_SERIAL)
def _avg_lines_backward(gy, gx, depths, heights, widths, counts_d, counts_h, counts_w, padding, starts, shape):
    T = gy.dtype.type
    planes, D = gx.shape[:2]
    _, E, P, Q = gy.shape
    R, S = starts.shape
    chunks = min(planes, _CHUNKS)
    for chunk in prange(chunks):
        cells = np.empty(shape, gy.dtype)
        flat = cells.reshape(D, -1)
        share = np.zeros(P * shape[4], gy.dtype)  # the columns past Q stay 0
        share_rows = share.reshape(P, -1)
        for plane in range(planes * chunk // chunks, planes * (chunk + 1) // chunks):
            for z in range(D):
                _fill(flat[z], T(0))
            for e in range(E):
                for p in range(P):
                    area = counts_d[e] * counts_h[p]
                    for q in range(Q):
                        share_rows[p, q] = gy[plane, e, p, q] / (area * counts_w[q])
                z, first, last = depths[e]
                for k in range(first, last):
                    for r in range(R):
                        for s in range(S):
                            _add(share, flat[z + k, starts[r, s]:starts[r, s] + share.size])
            _collect(cells, gx[plane], padding)


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
            z, front, back = depths[e]
            for p in range(P):
                h, top, bottom = heights[p]
                for q in range(Q):
                    w, left, right = widths[q]
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
def _avg_windows(x, y, depths, heights, widths, counts_d, counts_h, counts_w):
    T = x.dtype.type
    planes, _, H, W = x.shape
    _, E, P, Q = y.shape
    flat = x.reshape(planes, -1)
    for plane in prange(planes):
        for e in range(E):
            z, front, back = depths[e]
            for p in range(P):
                h, top, bottom = heights[p]
                for q in range(Q):
                    w, left, right = widths[q]
                    start, runs, length = _runs(H, W, h, top, bottom, w, left, right)
                    total = T(0)
                    for k in range(front, back):
                        for r in range(runs):
                            run = flat[plane, ((z + k) * H + r) * W + start:]
                            for i in range(length):
                                total += run[i]
                    y[plane, e, p, q] = total / (counts_d[e] * counts_h[p] * counts_w[q])


@jit(serial_below=_SERIAL)
def _avg_windows_backward(gy, gx, depths, heights, widths, counts_d, counts_h, counts_w):
    planes, _, H, W = gx.shape
    _, E, P, Q = gy.shape
    flat = gx.reshape(planes, -1)
    for plane in prange(planes):
        _fill(flat[plane], gx.dtype.type(0))
        for e in range(E):
            z, front, back = depths[e]
            for p in range(P):
                h, top, bottom = heights[p]
                for q in range(Q):
                    w, left, right = widths[q]
                    start, runs, length = _runs(H, W, h, top, bottom, w, left, right)
                    share = gy[plane, e, p, q] / (counts_d[e] * counts_h[p] * counts_w[q])
                    for k in range(front, back):
                        for r in range(runs):
                            run = flat[plane, ((z + k) * H + r) * W + start:]
                            for i in range(length):
                                run[i] += share
