"""Pooling of contiguous volumes (planes, D, H, W) of float32, LANES planes at a time.

Small planes are transposed into a room where neighbouring numbers belong to neighbouring planes: there every tap of a
window is one vector, however short the window, and no sum or maximum has to be taken across a vector. Where the window
is the whole plane, of any size, a plane becomes one vector first, and LANES of those are transposed.
"""
import numpy as np

from kdl.kernels.cpu.launch import device_function, jit, prange
from kdl.kernels.cpu.pool_taps import _initial, _take, _window
from kdl.kernels.cpu.simd import (
    LANES,
    begin,
    broadcast,
    equal,
    first,
    larger,
    less,
    load,
    load_masked,
    load_part,
    prefetch,
    select,
    store,
    store_part,
    transpose,
)

LARGEST = 1 << 10  # elements of a volume: LANES of them take 64 KB
_CHUNKS = 128  # whole planes are shared out in so many chunks at most, each with its own room
_SERIAL = 1 << 15  # elements below which waking threads (30 to 90 us) costs more than they save


# --- windows ---
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
def _scatter(room, start, here, size, target):
    """The way back, to where an array begins."""
    source, whole = begin(room), size // LANES * LANES if here == LANES else 0
    for i in range(0, whole, LANES):
        transpose(source, i * LANES, LANES, target, start * size + i, size)
    for lane in range(here):
        for i in range(whole, size):
            target[(start + lane) * size + i] = room[i * LANES + lane]


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
        which, places = np.empty(outputs * LANES, f4), begin(winner)
        _gather(x, start, here, size, room)
        lines, best_of, at_of = begin(room), begin(most), begin(which)
        for e in range(E):
            z, front, back = _window(depths, e)
            for p in range(P):
                h, top, bottom = _window(heights, p)
                for q in range(Q):
                    w, left, right = _window(widths, q)
                    origin = (z * H + h) * W + w
                    number = _initial((front, back), (top, bottom), (left, right), origin, taps)
                    best, at = broadcast(f4(-np.inf)), broadcast(f4(number))
                    for k in range(front, back):
                        for r in range(top, bottom):
                            for s in range(left, right):
                                place = origin + (k * dd * H + r * dh) * W + s * dw
                                number = (k * R + r) * S + s if K else place
                                v = load(lines, place * LANES)
                                best, at = _take(v, broadcast(f4(number)), best, at)
                    to = ((e * P + p) * Q + q) * LANES
                    store(best_of, to, best)
                    store(at_of, to, at)
        _scatter(most, start, here, outputs, begin(y))
        _scatter(which, 0, here, outputs, best_of)
        for i in range(0, here * outputs, LANES):
            store_part(places, start * outputs + i, load(best_of, i), here * outputs - i)


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
            z, front, back = _window(depths, e)
            for p in range(P):
                h, top, bottom = _window(heights, p)
                for q in range(Q):
                    w, left, right = _window(widths, q)
                    sums = broadcast(f4(0))
                    for k in range(front, back):
                        for r in range(top, bottom):
                            place, line = ((z + k) * H + h + r) * W + w, broadcast(f4(0))
                            for s in range(left, right):
                                line = line + load(lines, (place + s) * LANES)
                            sums = sums + line
                    share = broadcast(shares_d[e] * shares_h[p] * shares_w[q])
                    store(target, ((e * P + p) * Q + q) * LANES, sums * share)
        _scatter(means, start, here, outputs, begin(y))


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
            z, front, back = _window(depths, e)
            for p in range(P):
                h, top, bottom = _window(heights, p)
                for q in range(Q):
                    w, left, right = _window(widths, q)
                    share = broadcast(shares_d[e] * shares_h[p] * shares_w[q])
                    g = load(source, ((e * P + p) * Q + q) * LANES) * share
                    for k in range(front, back):
                        for r in range(top, bottom):
                            place = ((z + k) * H + h + r) * W + w
                            for s in range(left, right):
                                to = (place + s) * LANES
                                store(lines, to, load(lines, to) + g)
        _scatter(room, start, here, size, begin(gx))


# --- the whole plane is the window: a vector per plane, and these are transposed ---
@jit(serial_below=_SERIAL)
def _avg_planes(x, y, share):
    f4 = np.float32
    planes, size = x.shape
    groups = (planes + LANES - 1) // LANES
    chunks = min(groups, _CHUNKS)
    for chunk in prange(chunks):
        source, target, room, zero = begin(x), begin(y), np.empty(LANES * LANES, f4), broadcast(f4(0))
        for start in range(groups * chunk // chunks * LANES, groups * (chunk + 1) // chunks * LANES, LANES):
            here = min(LANES, planes - start)
            for lane in range(here):
                at, a, b, pairs = (start + lane) * size, zero, zero, size // (2 * LANES) * (2 * LANES)
                for i in range(at, at + pairs, 2 * LANES):
                    a, b = a + load(source, i), b + load(source, i + LANES)
                for i in range(pairs, size, LANES):
                    a = a + load_part(source, at + i, size - i)
                store(room, lane * LANES, a + b)
            transpose(room, 0, LANES, room, 0, LANES)
            sums = zero
            for i in range(LANES):
                sums = sums + load(room, i * LANES)
            store_part(target, start, sums * broadcast(share), here)


@jit(serial_below=_SERIAL)
def _avg_planes_backward(gy, gx, share):
    planes, size = gx.shape
    for plane in prange(planes):
        target, g, end = begin(gx), broadcast(gy[plane] * share), (plane + 1) * size
        for i in range(plane * size, end, LANES):
            store_part(target, i, g, end - i)


@jit(serial_below=_SERIAL)
def _max_planes(x, y, index):
    """The first maximum, or the last NaN."""
    f4 = np.float32
    planes, size = x.shape
    groups = (planes + LANES - 1) // LANES
    chunks, lanes = min(groups, _CHUNKS), np.arange(LANES).astype(f4)
    for chunk in prange(chunks):
        source, target, room = begin(x), begin(y), np.empty(2 * LANES * LANES, f4)
        lowest, step, numbers, half = broadcast(f4(-np.inf)), broadcast(f4(LANES)), load(lanes, 0), LANES * LANES
        whole, inside = size // LANES * LANES, first(size % LANES)
        for start in range(groups * chunk // chunks * LANES, groups * (chunk + 1) // chunks * LANES, LANES):
            here = min(LANES, planes - start)
            for lane in range(0, here, 2):  # two planes, since a comparison waits for the one before
                one, two = (start + lane) * size, (start + min(lane + 1, here - 1)) * size
                best_of_one, at_of_one, best_of_two, at_of_two, at = lowest, numbers, lowest, numbers, numbers
                for i in range(0, whole, LANES):
                    prefetch(source, one + i + 2 * size)
                    prefetch(source, two + i + 2 * size)
                    best_of_one, at_of_one = _take(load(source, one + i), at, best_of_one, at_of_one)
                    best_of_two, at_of_two = _take(load(source, two + i), at, best_of_two, at_of_two)
                    at = at + step
                if whole < size:
                    v = select(inside, load_masked(source, one + whole, inside), lowest)
                    w = select(inside, load_masked(source, two + whole, inside), lowest)
                    best_of_one, at_of_one = _take(v, at, best_of_one, at_of_one)
                    best_of_two, at_of_two = _take(w, at, best_of_two, at_of_two)
                store(room, lane * LANES, best_of_one)
                store(room, half + lane * LANES, at_of_one)
                store(room, (lane + 1) * LANES, best_of_two)
                store(room, half + (lane + 1) * LANES, at_of_two)
            transpose(room, 0, LANES, room, 0, LANES)
            transpose(room, half, LANES, room, half, LANES)
            best, place = load(room, 0), load(room, half)
            for i in range(LANES, half, LANES):
                best, place = _earlier(load(room, i), load(room, half + i), best, place)
            store_part(target, start, best, here)
            store_part(index, start, place, here)
            for lane in range(here):
                if y[start + lane] != y[start + lane]:
                    for i in range(size):
                        if x[start + lane, i] != x[start + lane, i]:
                            index[start + lane] = i


@device_function
def _earlier(v, i, best, place):
    """Take over what is larger, or as large and further in front."""
    taken, tied = larger(v, best), equal(v, best)
    return select(taken, v, best), select(taken, i, select(tied, select(less(i, place), i, place), place))
