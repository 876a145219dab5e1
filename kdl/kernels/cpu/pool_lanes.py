"""Pooling of small contiguous volumes (planes, D, H, W) of float32 by windows of any kind, LANES planes at a time.

The planes are transposed into a room where neighbouring numbers belong to neighbouring planes: there every tap of a
window is one vector, however short the window, and no sum or maximum has to be taken across a vector.
"""
import numpy as np

from kdl.kernels.cpu.launch import device_function, jit, prange
from kdl.kernels.cpu.simd import LANES, begin, broadcast, larger, load, select, store, transpose

LARGEST = 1 << 10  # elements of a volume: LANES of them take 64 KB
_SERIAL = 1 << 15  # elements below which waking threads (30 to 90 us) costs more than they save


@device_function
def _gather(x, start, here, size, room):
    """room[i, lane] = x[start + lane, i], for `here` planes."""
    source, target, whole = begin(x), begin(room), size // LANES * LANES if here == LANES else 0
    for i in range(0, whole, LANES):
        transpose(source, start * size + i, size, target, i * LANES, LANES)
    flat = x.reshape(-1)
    for lane in range(here):
        for i in range(whole, size):
            room[i * LANES + lane] = flat[(start + lane) * size + i]


@device_function
def _scatter(room, start, here, size, y):
    """The way back."""
    source, target, whole = begin(room), begin(y), size // LANES * LANES if here == LANES else 0
    for i in range(0, whole, LANES):
        transpose(source, i * LANES, LANES, target, start * size + i, size)
    flat = y.reshape(-1)
    for lane in range(here):
        for i in range(whole, size):
            flat[(start + lane) * size + i] = room[i * LANES + lane]


@jit(serial_below=_SERIAL)
def _max_lanes(x, y, winner, depths, heights, widths, taps, dilation):
    """`winner` is the tap; the flat position in the volume where the window is adaptive."""
    f4 = np.float32
    planes, D, H, W = x.shape
    _, E, P, Q = y.shape
    K, R, S = taps
    dd, dh, dw = dilation
    size, outputs = D * H * W, E * P * Q
    for group in prange((planes + LANES - 1) // LANES):
        start = group * LANES
        here = min(LANES, planes - start)
        room, most = np.empty(size * LANES, f4), np.empty(outputs * LANES, f4)
        which, places = np.empty(outputs * LANES, f4), winner.reshape(-1)
        _gather(x, start, here, size, room)
        lines, best_of, at_of = begin(room), begin(most), begin(which)
        for e in range(E):
            z, front, back = depths[e]
            for p in range(P):
                h, top, bottom = heights[p]
                for q in range(Q):
                    w, left, right = widths[q]
                    origin = (z * H + h) * W + w
                    number = ((front * R + top) * S + left if K else origin + ((front * dd) * H + top * dh) * W
                              + left * dw)
                    if K and (front >= back or top >= bottom or left >= right):
                        number = K * R * S
                    best, at = broadcast(f4(-np.inf)), broadcast(f4(number))
                    for k in range(front, back):
                        for r in range(top, bottom):
                            for s in range(left, right):
                                place = origin + (k * dd * H + r * dh) * W + s * dw
                                number = (k * R + r) * S + s if K else place
                                v = load(lines, place * LANES)
                                taken = larger(v, best)
                                best, at = select(taken, v, best), select(taken, broadcast(f4(number)), at)
                    to = ((e * P + p) * Q + q) * LANES
                    store(best_of, to, best)
                    store(at_of, to, at)
        _scatter(most, start, here, outputs, y)
        for lane in range(here):
            for i in range(outputs):
                places[(start + lane) * outputs + i] = np.int64(which[i * LANES + lane])


@jit(serial_below=_SERIAL)
def _avg_lanes(x, y, depths, heights, widths, shares_d, shares_h, shares_w):
    f4 = np.float32
    planes, D, H, W = x.shape
    _, E, P, Q = y.shape
    size, outputs = D * H * W, E * P * Q
    for group in prange((planes + LANES - 1) // LANES):
        start = group * LANES
        here = min(LANES, planes - start)
        room, means = np.empty(size * LANES, f4), np.empty(outputs * LANES, f4)
        _gather(x, start, here, size, room)
        lines, target = begin(room), begin(means)
        for e in range(E):
            z, front, back = depths[e]
            for p in range(P):
                h, top, bottom = heights[p]
                for q in range(Q):
                    w, left, right = widths[q]
                    sums = broadcast(f4(0))
                    for k in range(front, back):
                        for r in range(top, bottom):
                            place, line = ((z + k) * H + h + r) * W + w, broadcast(f4(0))
                            for s in range(left, right):
                                line = line + load(lines, (place + s) * LANES)
                            sums = sums + line
                    share = broadcast(shares_d[e] * shares_h[p] * shares_w[q])
                    store(target, ((e * P + p) * Q + q) * LANES, sums * share)
        _scatter(means, start, here, outputs, y)


@jit(serial_below=_SERIAL)
def _avg_lanes_backward(gy, gx, depths, heights, widths, shares_d, shares_h, shares_w):
    f4 = np.float32
    planes, D, H, W = gx.shape
    _, E, P, Q = gy.shape
    size, outputs = D * H * W, E * P * Q
    for group in prange((planes + LANES - 1) // LANES):
        start = group * LANES
        here = min(LANES, planes - start)
        room, grads = np.zeros(size * LANES, f4), np.empty(outputs * LANES, f4)
        _gather(gy, start, here, outputs, grads)
        lines, source = begin(room), begin(grads)
        for e in range(E):
            z, front, back = depths[e]
            for p in range(P):
                h, top, bottom = heights[p]
                for q in range(Q):
                    w, left, right = widths[q]
                    share = broadcast(shares_d[e] * shares_h[p] * shares_w[q])
                    g = load(source, ((e * P + p) * Q + q) * LANES) * share
                    for k in range(front, back):
                        for r in range(top, bottom):
                            place = ((z + k) * H + h + r) * W + w
                            for s in range(left, right):
                                to = (place + s) * LANES
                                store(lines, to, load(lines, to) + g)
        _scatter(room, start, here, size, gx)
