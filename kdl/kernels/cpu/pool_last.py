"""Pooling of channels-last arrays: loops over volumes (N, D, H, W, C), vectorised along the channels.

The windows are those of windows.py. An output's row of channels is itself the accumulator: it stays in the L1 cache
while the taps of its window pass by.
"""
import numpy as np

from kdl.kernels.cpu.launch import device_function, jit, prange
from kdl.kernels.cpu.pool_taps import _add, _fill, _initial, _keep_larger, _take, _window
from kdl.kernels.cpu.simd import LANES, begin, broadcast, equal, load_part, select, store_part

_SERIAL = 1 << 15  # elements below which waking threads (30 to 90 us) costs more than they save


@jit(serial_below=_SERIAL)
def _max_last(x, y, winner, depths, heights, widths, taps, dilation):
    """`winner` is the tap; the flat position in the volume where the window is adaptive."""
    T, U = x.dtype.type, winner.dtype.type
    _, _, H, W, _ = x.shape
    N, E, P, Q, _ = y.shape
    K, R, S = taps
    dd, dh, dw = dilation
    for line in prange(N * E * P):
        n, e, p = line // (E * P), line // P % E, line % P
        z, front, back = _window(depths, e)
        h, top, bottom = _window(heights, p)
        for q in range(Q):
            w, left, right = _window(widths, q)
            best, which = y[n, e, p, q], winner[n, e, p, q]
            first = _initial((front, back), (top, bottom), (left, right), (z * H + h) * W + w, taps)
            _fill(best, T(-np.inf))
            _fill(which, U(first))
            for k in range(front, back):
                for r in range(top, bottom):
                    for s in range(left, right):
                        at = ((z + k) * H + h + r) * W + w + s if K == 0 else (k * R + r) * S + s
                        _keep_larger(x[n, z + k * dd, h + r * dh, w + s * dw], best, which, U(at))


@device_function
def _inside(window, taps, dilation, H, W, places, names):
    """The taps of one window that lie inside the input: their places in it, their numbers; returns how many."""
    (z, front, back), (h, top, bottom), (w, left, right) = window
    count = 0
    for k in range(front, back):
        for r in range(top, bottom):
            for s in range(left, right):
                places[count] = ((z + k * dilation[0]) * H + h + r * dilation[1]) * W + w + s * dilation[2]
                names[count] = np.float32((k * taps[1] + r) * taps[2] + s)
                count += 1
    return count


@jit(serial_below=_SERIAL)
def _max_last_float32(x, y, winner, depths, heights, widths, taps, dilation):
    """The same for float32 and few taps: a vector of channels stays in registers while its taps are compared."""
    f4 = np.float32
    _, D, H, W, C = x.shape
    N, E, P, Q, _ = y.shape
    K, R, S = taps
    for line in prange(N * E * P):
        source, target, which = begin(x), begin(y), begin(winner)
        n, e, p = line // (E * P), line // P % E, line % P
        image, start = n * D * H * W, line * Q * C
        places, names = np.empty(K * R * S, np.int64), np.empty(K * R * S, f4)
        for q in range(Q):
            window = _window(depths, e), _window(heights, p), _window(widths, q)
            inside = _inside(window, taps, dilation, H, W, places, names)
            initial = names[0] if inside else f4(K * R * S)
            for c in range(0, C, LANES):
                best, tap = broadcast(f4(-np.inf)), broadcast(initial)
                for t in range(inside):
                    v = load_part(source, (image + places[t]) * C + c, C - c)
                    best, tap = _take(v, broadcast(names[t]), best, tap)
                store_part(target, start + q * C + c, best, C - c)
                store_part(which, start + q * C + c, tap, C - c)


@jit(serial_below=_SERIAL)
def _max_last_backward(gy, winner, gx, depths, heights, widths, offsets):
    N, _, H, W, C = gx.shape
    _, E, P, Q, _ = gy.shape
    flat = gx.reshape(N, -1)
    for n in prange(N):
        _fill(flat[n], gx.dtype.type(0))
        for e in range(E):
            for p in range(P):
                for q in range(Q):
                    start = (depths[e, 0] * H + heights[p, 0]) * W + widths[q, 0]
                    for c in range(C):
                        tap = winner[n, e, p, q, c]
                        if tap < offsets.size:
                            flat[n, (start + offsets[tap]) * C + c] += gy[n, e, p, q, c]


@jit(serial_below=_SERIAL)
def _max_last_backward_float32(gy, winner, gx, depths, heights, widths, taps, dilation, tiled):
    """The same for float32 and few taps. With `tiled` windows every input lies in one, and is written once."""
    f4 = np.float32
    N, D, H, W, C = gx.shape
    _, E, P, Q, _ = gy.shape
    K, R, S = taps
    flat = gx.reshape(N, -1)
    for n in prange(N):
        source, target, which, zero, image = begin(gy), begin(gx), begin(winner), broadcast(f4(0)), n * D * H * W
        places, names = np.empty(K * R * S, np.int64), np.empty(K * R * S, f4)
        if not tiled:
            _fill(flat[n], f4(0))
        for e in range(E):
            for p in range(P):
                start = ((n * E + e) * P + p) * Q * C
                for q in range(Q):
                    window = _window(depths, e), _window(heights, p), _window(widths, q)
                    inside = _inside(window, taps, dilation, H, W, places, names)
                    for c in range(0, C, LANES):
                        at = start + q * C + c
                        g, tap = load_part(source, at, C - c), load_part(which, at, C - c)
                        for t in range(inside):
                            at, value = (image + places[t]) * C + c, select(equal(tap, broadcast(names[t])), g, zero)
                            if not tiled:
                                value = value + load_part(target, at, C - c)
                            store_part(target, at, value, C - c)


@jit(serial_below=_SERIAL)
def _max_last_positions(winner, indices, depths, heights, widths, offsets, size):
    N, E, P, Q, C = winner.shape
    for line in prange(N * E * P):
        n, e, p = line // (E * P), line // P % E, line % P
        for q in range(Q):
            start = (depths[e, 0] * size[1] + heights[p, 0]) * size[2] + widths[q, 0]
            for c in range(C):
                tap = winner[n, e, p, q, c]
                indices[n, e, p, q, c] = start + offsets[tap] if tap < offsets.size else -1


@jit(serial_below=_SERIAL)
def _adaptive_max_last_backward(gy, index, gx):
    N, C = len(gx), gx.shape[4]
    values, places, flat = gy.reshape(N, -1, C), index.reshape(N, -1, C), gx.reshape(N, -1)
    for n in prange(N):
        _fill(flat[n], gx.dtype.type(0))
        for i in range(values.shape[1]):
            for c in range(C):
                flat[n, places[n, i, c] * C + c] += values[n, i, c]


@jit(serial_below=_SERIAL)
def _avg_last(x, y, depths, heights, widths, shares_d, shares_h, shares_w):
    T = x.dtype.type
    N, E, P, Q, _ = y.shape
    for line in prange(N * E * P):
        n, e, p = line // (E * P), line // P % E, line % P
        z, front, back = _window(depths, e)
        h, top, bottom = _window(heights, p)
        for q in range(Q):
            w, left, right = _window(widths, q)
            total = y[n, e, p, q]
            _fill(total, T(0))
            for k in range(front, back):
                for r in range(top, bottom):
                    for s in range(left, right):
                        _add(x[n, z + k, h + r, w + s], total)
            share = shares_d[e] * shares_h[p] * shares_w[q]
            for c in range(total.size):
                total[c] *= share


@jit(serial_below=_SERIAL)
def _avg_last_backward(gy, gx, depths, heights, widths, shares_d, shares_h, shares_w, tiled):
    """With `tiled` windows every input lies in one window: each tap's row is written once, without adding."""
    T = gx.dtype.type
    N, E, P, Q, C = gy.shape
    flat = gx.reshape(N, -1)
    for n in prange(N):
        share = np.empty(C, gy.dtype)
        if not tiled:
            _fill(flat[n], T(0))
        for e in range(E):
            z, front, back = _window(depths, e)
            for p in range(P):
                h, top, bottom = _window(heights, p)
                for q in range(Q):
                    w, left, right = _window(widths, q)
                    g, scale = gy[n, e, p, q], shares_d[e] * shares_h[p] * shares_w[q]
                    for c in range(C):
                        share[c] = g[c] * scale
                    for k in range(front, back):
                        for r in range(top, bottom):
                            for s in range(left, right):
                                row = gx[n, z + k, h + r, w + s]
                                if tiled:
                                    for c in range(C):
                                        row[c] = share[c]
                                else:
                                    _add(share, row)
