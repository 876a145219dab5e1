"""Pooling that halves short rows of contiguous volumes: windows two wide, two steps apart, inside the input as a whole.

A row of so few outputs would leave most of a vector empty. Here a vector of outputs takes several rows, and planes: for
every row of their windows it puts two vectors together from pieces, of which a table says where each lies and which
lanes it is for (Plan.pieces). 2 x 2 of (64, 64, 8, 8) takes 65 us instead of 170 (Zen 4).
"""
import numpy as np

from kdl.kernels.cpu.launch import device_function, jit, prange
from kdl.kernels.cpu.pool_taps import _fill, _take
from kdl.kernels.cpu.simd import (
    LANES,
    begin,
    broadcast,
    equal,
    evens,
    lanes_of,
    load_masked,
    load_part,
    odds,
    select,
    store_masked,
    store_part,
    zip_high,
    zip_low,
)

_SERIAL = 1 << 15  # elements below which waking threads (30 to 90 us) costs more than they save


@device_function
def _inside(count):
    """As bits, the lanes 0 to count - 1."""
    return (1 << max(0, min(count, LANES))) - 1


@device_function
def _gathered(source, at, pieces, v, half, inside, nothing):
    """The elements under one half of a vector of windows, in one of their rows."""
    elements, i = nothing, 0
    while pieces[v, half, i, 1]:
        mask = lanes_of(pieces[v, half, i, 1] & inside)
        elements = select(mask, load_masked(source, at + pieces[v, half, i, 0], mask), elements)
        i += 1
    return elements


@device_function
def _scatter(target, at, pieces, v, half, inside, elements):
    """The other way round."""
    i = 0
    while pieces[v, half, i, 1]:
        store_masked(target, at + pieces[v, half, i, 0], elements, lanes_of(pieces[v, half, i, 1] & inside))
        i += 1


@device_function
def _clear(flat, first, count):
    """0 for so many planes, or those that there are."""
    for plane in range(first, min(len(flat), first + count)):
        _fill(flat[plane], flat.dtype.type(0))


@jit(serial_below=_SERIAL)
def _max_short(x, y, winner, pieces, together, rows):
    """Of float32, with winners of one byte; `rows` are those of a window, and their first taps are two apart."""
    f4 = np.float32
    planes, size, each = len(x), x[0].size, y[0].size
    for group in prange(-(-planes // together)):
        source, target, which = begin(x), begin(y), begin(winner)
        lowest, nothing = broadcast(f4(-np.inf)), broadcast(f4(0))
        for v in range(len(pieces)):
            to = group * together * each + v * LANES
            count = planes * each - to
            in_a, in_b = _inside(2 * count), _inside(2 * count - LANES)
            best, taps = lowest, nothing
            for i in range(rows.size):
                at = group * together * size + rows[i]
                a = _gathered(source, at, pieces, v, 0, in_a, nothing)
                b = _gathered(source, at, pieces, v, 1, in_b, nothing)
                best, taps = _take(evens(a, b), broadcast(f4(2 * i)), best, taps)
                best, taps = _take(odds(a, b), broadcast(f4(2 * i + 1)), best, taps)
            store_part(target, to, best, count)
            store_part(which, to, taps, count)


@jit(serial_below=_SERIAL)
def _max_short_backward(gy, winner, gx, pieces, together, rows, tiled):
    """For windows that do not meet; with `tiled` ones nothing lies between them."""
    f4 = np.float32
    planes, size, each = len(gx), gx[0].size, gy[0].size
    flat = gx.reshape(planes, size)
    for group in prange(-(-planes // together)):
        source, target, which, nothing = begin(gy), begin(gx), begin(winner), broadcast(f4(0))
        if not tiled:
            _clear(flat, group * together, together)
        for v in range(len(pieces)):
            start = group * together * each + v * LANES
            count = planes * each - start
            in_a, in_b = _inside(2 * count), _inside(2 * count - LANES)
            g, taps = load_part(source, start, count), load_part(which, start, count)
            for i in range(rows.size):
                at = group * together * size + rows[i]
                even = select(equal(taps, broadcast(f4(2 * i))), g, nothing)
                odd = select(equal(taps, broadcast(f4(2 * i + 1))), g, nothing)
                _scatter(target, at, pieces, v, 0, in_a, zip_low(even, odd))
                _scatter(target, at, pieces, v, 1, in_b, zip_high(even, odd))


@jit(serial_below=_SERIAL)
def _avg_short(x, y, pieces, together, rows, share):
    T = x.dtype.type
    planes, size, each = len(x), x[0].size, y[0].size
    for group in prange(-(-planes // together)):
        source, target, nothing = begin(x), begin(y), broadcast(T(0))
        for v in range(len(pieces)):
            to = group * together * each + v * LANES
            count = planes * each - to
            in_a, in_b = _inside(2 * count), _inside(2 * count - LANES)
            sums = nothing
            for i in range(rows.size):
                at = group * together * size + rows[i]
                a = _gathered(source, at, pieces, v, 0, in_a, nothing)
                b = _gathered(source, at, pieces, v, 1, in_b, nothing)
                sums = sums + (evens(a, b) + odds(a, b))
            store_part(target, to, sums * broadcast(share), count)


@jit(serial_below=_SERIAL)
def _avg_short_backward(gy, gx, pieces, together, rows, share, tiled):
    """For windows that do not meet; with `tiled` ones nothing lies between them."""
    planes, size, each = len(gx), gx[0].size, gy[0].size
    flat = gx.reshape(planes, size)
    for group in prange(-(-planes // together)):
        source, target = begin(gy), begin(gx)
        if not tiled:
            _clear(flat, group * together, together)
        for v in range(len(pieces)):
            start = group * together * each + v * LANES
            count = planes * each - start
            in_a, in_b = _inside(2 * count), _inside(2 * count - LANES)
            g = load_part(source, start, count) * broadcast(share)
            for i in range(rows.size):
                at = group * together * size + rows[i]
                _scatter(target, at, pieces, v, 0, in_a, zip_low(g, g))
                _scatter(target, at, pieces, v, 1, in_b, zip_high(g, g))
