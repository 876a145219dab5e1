"""Pooling that halves the rows of contiguous volumes: windows two or three wide, two steps apart, of any other size.

These are nearly all the pooling that networks do. A vector of outputs takes the rows of its windows one after another,
all taps of a row at once in registers; it asks for rows further on itself, since the processor does not do so for loads
under a mask (4.6 ms instead of 1.4 for 2 x 2 of (32, 64, 56, 56)).
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
    load,
    load_masked,
    load_part,
    odds,
    prefetch,
    select,
    store_part,
    zip_high,
    zip_low,
)

_SERIAL = 1 << 15  # elements below which waking threads (30 to 90 us) costs more than they save
_AHEAD = 1 << 10  # elements from a load to what is asked for


@device_function
def _masks(edges, block):
    """The lanes inside a row, of the vectors for a block of outputs."""
    return lanes_of(edges[block, 0]), lanes_of(edges[block, 1]), lanes_of(edges[block, 2]), lanes_of(edges[block, 3])


# The loops over the rows of a window end at a -1, and not after a count: LLVM would make four rows of one, with a
# preparation that takes longer than the two or three rows that there are.


@jit(serial_below=_SERIAL)
def _max_halving(x, y, winner, rows, names, widths, edges, width):
    """Of float32, with winners of one byte."""
    f4 = np.float32
    planes, size = len(x), x[0].size
    lines, Q = len(rows), y.shape[3]
    for plane in prange(planes):
        source, target, which = begin(x), begin(y), begin(winner)
        lowest, zero, one = broadcast(f4(-np.inf)), broadcast(f4(0)), broadcast(f4(1))
        end = (plane + 1) * lines * Q
        for line in range(lines):
            to = (plane * lines + line) * Q
            for q in range(0, Q, LANES):
                w, i, late = widths[q, 0], 0, lanes_of(edges[q // LANES, 4])
                best, tap = lowest, broadcast(names[line, 0]) + select(late, one, zero)
                in_a, in_b, in_c, in_d = _masks(edges, q // LANES)
                while rows[line, i] >= 0:
                    at, name = plane * size + rows[line, i] + w, names[line, i]
                    prefetch(source, at + _AHEAD)
                    prefetch(source, at + LANES + _AHEAD)
                    a = select(in_a, load_masked(source, at, in_a), lowest)
                    b = select(in_b, load_masked(source, at + LANES, in_b), lowest)
                    best, tap = _take(evens(a, b), broadcast(name), best, tap)
                    best, tap = _take(odds(a, b), broadcast(name + f4(1)), best, tap)
                    if width == 3:
                        c = select(in_c, load_masked(source, at + 2, in_c), lowest)
                        d = select(in_d, load_masked(source, at + 2 + LANES, in_d), lowest)
                        best, tap = _take(evens(c, d), broadcast(name + f4(2)), best, tap)
                    i += 1
                store_part(target, to + q, best, end - to - q)
                store_part(which, to + q, tap, end - to - q)


@jit(serial_below=_SERIAL)
def _max_halving_backward(gy, winner, gx, rows, names, widths, tiled):
    """The same for windows two wide that do not meet; with `tiled` ones nothing lies between them."""
    f4 = np.float32
    planes, lines, Q, size = len(gx), len(rows), gy.shape[3], gx[0].size
    flat = gx.reshape(planes, size)
    for plane in prange(planes):
        if not tiled:
            _fill(flat[plane], f4(0))
        source, target, which, zero = begin(gy), begin(gx), begin(winner), broadcast(f4(0))
        for line in range(lines):
            start = (plane * lines + line) * Q
            for q in range(0, Q, LANES):
                count, i = Q - q, 0
                g, tap = load_part(source, start + q, count), load_part(which, start + q, count)
                while rows[line, i] >= 0:
                    at, name = plane * size + rows[line, i] + widths[q, 0], names[line, i]
                    even = select(equal(tap, broadcast(name)), g, zero)
                    odd = select(equal(tap, broadcast(name + f4(1))), g, zero)
                    store_part(target, at, zip_low(even, odd), 2 * count)
                    store_part(target, at + LANES, zip_high(even, odd), 2 * count - LANES)
                    i += 1


@jit(serial_below=_SERIAL)
def _avg_halving(x, y, rows, widths, edges, shares_d, shares_h, shares_w, width):
    planes, size = len(x), x[0].size
    _, E, P, Q = y.shape
    for plane in prange(planes):
        source, target, shares, zero = begin(x), begin(y), begin(shares_w), broadcast(x.dtype.type(0))
        end = (plane + 1) * E * P * Q
        for e in range(E):
            for p in range(P):
                line, share = e * P + p, broadcast(shares_d[e] * shares_h[p])
                to = (plane * E * P + line) * Q
                for q in range(0, Q, LANES):
                    w, i, sums = widths[q, 0], 0, zero
                    in_a, in_b, in_c, in_d = _masks(edges, q // LANES)
                    while rows[line, i] >= 0:
                        at = plane * size + rows[line, i] + w
                        prefetch(source, at + _AHEAD)
                        prefetch(source, at + LANES + _AHEAD)
                        a, b = load_masked(source, at, in_a), load_masked(source, at + LANES, in_b)
                        sums = sums + (evens(a, b) + odds(a, b))
                        if width == 3:
                            c, d = load_masked(source, at + 2, in_c), load_masked(source, at + 2 + LANES, in_d)
                            sums = sums + evens(c, d)
                        i += 1
                    store_part(target, to + q, sums * (share * load(shares, q)), end - to - q)


@jit(serial_below=_SERIAL)
def _avg_halving_backward(gy, gx, rows, widths, shares_d, shares_h, shares_w, tiled):
    """The same for windows two wide that do not meet; with `tiled` ones nothing lies between them."""
    planes, size = len(gx), gx[0].size
    _, E, P, Q = gy.shape
    flat = gx.reshape(planes, size)
    for plane in prange(planes):
        if not tiled:
            _fill(flat[plane], gx.dtype.type(0))
        source, target, shares = begin(gy), begin(gx), begin(shares_w)
        for e in range(E):
            for p in range(P):
                line, share = e * P + p, broadcast(shares_d[e] * shares_h[p])
                start = (plane * E * P + line) * Q
                for q in range(0, Q, LANES):
                    count, i = Q - q, 0
                    g = load_part(source, start + q, count) * (share * load(shares, q))
                    while rows[line, i] >= 0:
                        at = plane * size + rows[line, i] + widths[q, 0]
                        store_part(target, at, zip_low(g, g), 2 * count)
                        store_part(target, at + LANES, zip_high(g, g), 2 * count - LANES)
                        i += 1
