"""Pooling that halves contiguous images: 2 x 2 windows, and for the maximum 3 x 3 ones, with stride 2.

These are nearly all the pooling that networks do. A row of outputs is one loop over its two or three input rows, all
taps at once in registers, so that each element is read once and the memory sets the pace.
"""
import numpy as np

from kdl.kernels.cpu.launch import device_function, jit, prange
from kdl.kernels.cpu.simd import (
    LANES,
    broadcast,
    equal,
    evens,
    larger,
    load_part,
    odds,
    select,
    store_part,
    zip_high,
    zip_low,
)

_SERIAL = 1 << 15  # elements below which waking threads (30 to 90 us) costs more than they save


@device_function
def _take(v, tap, best, taps):
    """Take over what is larger, or NaN: in the order of taps the first maximum stays, and the last NaN."""
    taken = larger(v, best)
    return select(taken, v, best), select(taken, broadcast(tap), taps)


@device_function
def _to_bytes(taps, winner):
    for i in range(winner.size):
        winner[i] = np.uint8(np.int32(taps[i]))


@device_function
def _clear_rest(image, rows, columns):
    """Zeros where no window reaches: in the last row and column of an odd size."""
    T = image.dtype.type
    for h in range(rows, image.shape[0]):
        for w in range(image.shape[1]):
            image[h, w] = T(0)
    for w in range(columns, image.shape[1]):
        for h in range(rows):
            image[h, w] = T(0)


# --- the maximum, of float32 ---
@jit(serial_below=_SERIAL)
def _max_halving_2x2(x, y, winner):
    f4 = np.float32
    planes, _, H, W = x.shape
    _, _, P, Q = y.shape
    source, target, bytes = x.reshape(-1), y.reshape(-1), winner.reshape(-1)
    for plane in prange(planes):
        taps = np.empty(P * Q, f4)
        for p in range(P):
            top, to = (plane * H + 2 * p) * W, (plane * P + p) * Q
            for q in range(0, Q, LANES):
                at, left = top + 2 * q, Q - q
                a, b = load_part(source, at, 2 * left), load_part(source, at + LANES, 2 * left - LANES)
                c, d = load_part(source, at + W, 2 * left), load_part(source, at + W + LANES, 2 * left - LANES)
                best, tap = _take(odds(a, b), f4(1), evens(a, b), broadcast(f4(0)))
                best, tap = _take(evens(c, d), f4(2), best, tap)
                best, tap = _take(odds(c, d), f4(3), best, tap)
                store_part(target, to + q, best, left)
                store_part(taps, p * Q + q, tap, left)
        _to_bytes(taps, bytes[plane * P * Q:(plane + 1) * P * Q])


@jit(serial_below=_SERIAL)
def _max_halving_3x3(x, y, winner, heights, widths):
    """Padded or not: vectors where windows have all their columns, one by one where some are clipped."""
    f4 = np.float32
    planes, _, H, W = x.shape
    _, _, P, Q = y.shape
    source, target, bytes = x.reshape(-1), y.reshape(-1), winner.reshape(-1)
    low, high = 0, Q
    while low < high and widths[low, 1] > 0:
        low += 1
    while high > low and widths[high - 1, 2] < 3:
        high -= 1
    for plane in prange(planes):
        taps = np.empty(P * Q, f4)
        for p in range(P):
            h, top, bottom = heights[p]
            row, to = (plane * H + h) * W, (plane * P + p) * Q
            for q in range(low, high, LANES):
                left = high - q
                best, tap = broadcast(f4(-np.inf)), broadcast(f4(3 * top))
                for r in range(top, bottom):
                    at = row + r * W + widths[q, 0]
                    a, b = load_part(source, at, 2 * left), load_part(source, at + LANES, 2 * left - LANES)
                    c = load_part(source, at + 2, 2 * left - 1)
                    d = load_part(source, at + 2 + LANES, 2 * left - 1 - LANES)
                    best, tap = _take(evens(a, b), f4(3 * r), best, tap)
                    best, tap = _take(odds(a, b), f4(3 * r + 1), best, tap)
                    best, tap = _take(evens(c, d), f4(3 * r + 2), best, tap)
                store_part(target, to + q, best, left)
                store_part(taps, p * Q + q, tap, left)
            for i in range(Q - high + low):
                q = i if i < low else high + i - low
                w, left, right = widths[q]
                best, tap = broadcast(f4(-np.inf)), broadcast(f4(3 * top + left))
                for r in range(top, bottom):
                    for s in range(left, right):
                        best, tap = _take(load_part(source, row + r * W + w + s, 1), f4(3 * r + s), best, tap)
                store_part(target, to + q, best, 1)
                store_part(taps, p * Q + q, tap, 1)
        _to_bytes(taps, bytes[plane * P * Q:(plane + 1) * P * Q])


@jit(serial_below=_SERIAL)
def _max_halving_2x2_backward(gy, winner, gx):
    f4 = np.float32
    planes, _, H, W = gx.shape
    _, _, P, Q = gy.shape
    source, target, bytes = gy.reshape(-1), gx.reshape(-1), winner.reshape(-1)
    for plane in prange(planes):
        taps, zero = np.empty(P * Q, f4), broadcast(f4(0))
        part = bytes[plane * P * Q:(plane + 1) * P * Q]
        for i in range(part.size):
            taps[i] = f4(part[i])
        for p in range(P):
            top = (plane * H + 2 * p) * W
            for q in range(0, Q, LANES):
                at, left = top + 2 * q, Q - q
                g, tap = load_part(source, (plane * P + p) * Q + q, left), load_part(taps, p * Q + q, left)
                for r in range(2):
                    even = select(equal(tap, broadcast(f4(2 * r))), g, zero)
                    odd = select(equal(tap, broadcast(f4(2 * r + 1))), g, zero)
                    store_part(target, at + r * W, zip_low(even, odd), 2 * left)
                    store_part(target, at + r * W + LANES, zip_high(even, odd), 2 * left - LANES)
        _clear_rest(gx[plane, 0], 2 * P, 2 * Q)


# --- the mean ---
@jit(serial_below=_SERIAL)
def _avg_halving_2x2(x, y, share):
    planes, _, P, Q = y.shape
    for plane in prange(planes):
        for p in range(P):
            a, b, row = x[plane, 0, 2 * p], x[plane, 0, 2 * p + 1], y[plane, 0, p]
            for q in range(Q):
                row[q] = (a[2 * q] + a[2 * q + 1] + b[2 * q] + b[2 * q + 1]) * share


@jit(serial_below=_SERIAL)
def _avg_halving_2x2_backward(gy, gx, share):
    planes, _, P, Q = gy.shape
    for plane in prange(planes):
        image = gx[plane, 0]
        for p in range(P):
            g, a, b = gy[plane, 0, p], image[2 * p], image[2 * p + 1]
            for q in range(Q):
                value = g[q] * share
                a[2 * q] = value
                a[2 * q + 1] = value
                b[2 * q] = value
                b[2 * q + 1] = value
        _clear_rest(image, 2 * P, 2 * Q)
