"""Depthwise convolution of small images, and of channels-last ones, in float32: a vector is LANES channels of a pixel.

A filter meets one channel, so nothing is summed over channels and there is no product of matrices. Some channels of an
image are brought to pixels, with the padding; then every tap of every output is one load and one multiply-add, whatever
the stride and the dilation, and however short the lines. The gradient of the input is the same sum over gy, one for
each phase of the stride (cells.py); that of the filters has a vector of sums for each tap.

Measured on one thread of a Zen 4 against rows of outputs (rows.py): 960 channels of 7 x 7 with 3 x 3 filters forward
1.5 times as fast, gradients 1.6 and 1.3; 576 of 14 x 14 with stride 2 1.7 and 1.4 (gradient of the filters); 96
channels-last ones of 56 x 56 1.6, 1.5 and 1.4. In planes of 14 x 14 and more rows of outputs are as fast or faster.
"""
from functools import lru_cache
from math import prod

import numba
import numpy as np

from kdl.kernels.cpu.cells import backward_pieces, forward_piece
from kdl.kernels.cpu.launch import jit, prange
from kdl.kernels.cpu.layouts import flat, is_pixels, planes_to_pixels
from kdl.kernels.cpu.scratch import room, whole_lines
from kdl.kernels.cpu.simd import LANES, begin, broadcast, fma, load, load_part, store, store_part

_OUTPUTS, _TAPS = 4, 3  # that have sums at a time: forward, and for the gradient of the filters
_PARTS = 16  # jobs of that gradient


def fits(w, v, groups, are_pixels):
    """Whether each filter of a shape meets a channel of its own, and rows of outputs leave half a vector empty."""
    return w[0] == groups >= LANES // 2 and w[1] == 1 and (are_pixels or v[3] <= LANES // 2)


class _Geometry:
    """What depends on sizes alone, in floats of a room for LANES channels of an image and its padding.

    `starts` are where the outputs' first taps are, and `stops` the outputs' pixels; those of a piece fill up a multiple
    of _OUTPUTS, where the last one is there again. `pieces` are rows of (first and last but one of the outputs, of the
    taps), `places` how far the taps are from the first, and `order` which ones they are.
    """

    def __init__(self, axes, width, backward):
        pieces = backward_pieces(*axes) if backward else [forward_piece(*axes)]
        deal, step = pieces[0].deal[1:], pieces[0].step[1:]
        met = np.concatenate([np.zeros((1, 2), np.int64), *[piece.met[:, 1:] for piece in pieces]])
        low, high = met.min(0), met.max(0)
        down, across = [max(piece.outputs[axis] for piece in pieces) for axis in (1, 2)]
        self.margin, self.columns = tuple((-low).tolist()), int(-low[1] + (across - 1) * deal[1] + high[1] + 1)
        self.rows = int(-low[0] + (down - 1) * deal[0] + high[0] + 1)
        self.pieces = np.zeros((len(pieces), 4), np.int64)
        starts, stops, places, order = [], [], [], []
        for row, piece in zip(self.pieces, pieces, strict=True):
            row[::2] = len(starts), len(order)
            p, q = [a.ravel() for a in np.meshgrid(*map(np.arange, piece.outputs[1:]), indexing="ij")]
            more = np.minimum(np.arange(-(-len(p) // _OUTPUTS) * _OUTPUTS), len(p) - 1)
            starts += ((p * deal[0] * self.columns + q * deal[1]) * LANES)[more].tolist()
            stops += ((piece.first[1] + p * step[0]) * width + piece.first[2] + q * step[1])[more].tolist()
            places += ((piece.met[:, 1:] - low) @ [self.columns, 1] * LANES).tolist()
            order += piece.order.tolist()
            row[1::2] = len(starts), len(order)
        self.starts, self.stops, self.places, self.order = [np.array(a, np.int64) for a in
                                                            (starts, stops, places, order)]


_geometry = lru_cache(maxsize=256)(_Geometry)


# --- forward, and the gradient of the input ---
def correlate(u, w, b, v, axes, backward):
    """v = b + the convolution of u, or with `backward` v = gx of u = gy, for dense arrays in any layout."""
    g, blocks = _geometry(axes, v.shape[3], backward), -(-len(w) // LANES)
    weights = np.zeros((len(g.order), blocks * LANES), np.float32)
    weights[:, :len(w)] = w.reshape(len(w), -1).T[g.order]
    rooms = whole_lines(*[LANES * n for n in (g.rows * g.columns, prod(u.shape[2:]), prod(v.shape[2:]))])
    chunks = min(numba.get_num_threads(), len(u) * blocks)
    b = np.zeros(len(w), w.dtype) if b is None else b
    _sums(flat(u, is_pixels(u)), is_pixels(u), u.shape, weights, b, flat(v, is_pixels(v)), is_pixels(v),
          prod(v.shape[2:]), g.pieces, g.starts, g.stops, g.places, g.rows, g.columns, g.margin,
          room(chunks * sum(rooms)), rooms, chunks)


@jit
def _sums(u, u_is_pixels, u_shape, weights, b, v, v_is_pixels, pixels, pieces, starts, stops, places, rows, columns,
          margin, work, rooms, chunks):
    N, C, H, W = u_shape
    blocks, per_chunk = -(-C // LANES), rooms[0] + rooms[1] + rooms[2]
    for chunk in prange(chunks):
        image_at, numbers, filters, jobs = chunk * per_chunk, begin(work), begin(weights), N * blocks
        spare_at = image_at + rooms[0]
        output_at = spare_at + rooms[1]
        for i in range(image_at, output_at):  # the padding, and lanes beyond C: these might be slow to multiply
            work[i] = 0
        for job in range(jobs * chunk // chunks, jobs * (chunk + 1) // chunks):
            n, c = job // blocks, job % blocks * LANES
            here = min(LANES, C - c)
            target, to, pitch = (begin(v), n * pixels * C + c, C) if v_is_pixels else (numbers, output_at, LANES)
            _to_lanes(u, u_is_pixels, n, c, C, H, W, work, image_at, rows, columns, margin, spare_at)
            bias = load_part(begin(b), c, here)
            for piece in range(len(pieces)):
                first, last, tap, beyond = pieces[piece]
                taps, filter_at, step = places[tap:beyond], tap * blocks * LANES + c, blocks * LANES
                for o in range(first, last, _OUTPUTS):
                    at1, at2, at3, at4 = starts[o], starts[o + 1], starts[o + 2], starts[o + 3]
                    one, two, three, four = bias, bias, bias, bias
                    for t in range(taps.size):
                        weight, i = load(filters, filter_at + t * step), image_at + taps[t]
                        one = fma(weight, load(numbers, at1 + i), one)
                        two = fma(weight, load(numbers, at2 + i), two)
                        three = fma(weight, load(numbers, at3 + i), three)
                        four = fma(weight, load(numbers, at4 + i), four)
                    store_part(target, to + stops[o] * pitch, one, here)
                    store_part(target, to + stops[o + 1] * pitch, two, here)
                    store_part(target, to + stops[o + 2] * pitch, three, here)
                    store_part(target, to + stops[o + 3] * pitch, four, here)
            if not v_is_pixels:
                planes_to_pixels(work, output_at, LANES, v, (n * C + c) * pixels, pixels, pixels, here)


@jit(parallel=False)
def _to_lanes(u, u_is_pixels, n, c, C, H, W, work, to, rows, columns, margin, spare):
    """work[to + ((h + margin) columns + w + margin) LANES + lane] = u[n, c + lane, h, w], where there is such a row.

    layouts.image_to_pixels writes the padding each time, which took two fifths of the time at 7 x 7; here it stays.
    """
    numbers, source, here = begin(work), begin(u), min(LANES, C - c)
    if not u_is_pixels:
        planes_to_pixels(u, (n * C + c) * H * W, H * W, work, spare, here, LANES, H * W)
    for h in range(max(0, -margin[0]), min(H, rows - margin[0])):
        line = to + ((h + margin[0]) * columns + margin[1]) * LANES
        for w in range(max(0, -margin[1]), min(W, columns - margin[1])):
            pixel = h * W + w
            if u_is_pixels:
                store(numbers, line + w * LANES, load_part(source, (n * H * W + pixel) * C + c, here))
            else:
                store(numbers, line + w * LANES, load(numbers, spare + pixel * LANES))


# --- the gradient of the filters ---
def backward_w(x, gy, gw, axes):
    """gw[c, t] = the sum over n and outputs of gy[n, c] times x[n, c] shifted by t."""
    g, size = _geometry(axes, gy.shape[3], False), prod(gw.shape[2:])
    entries, blocks = -(-size // _TAPS) * _TAPS, -(-len(gw) // LANES)
    parts = max(1, min(len(x), -(-_PARTS // blocks)))  # whatever the number of threads: the sum is always the same
    sums = np.zeros((blocks, parts, entries, LANES), np.float32)
    spare = max(prod(x.shape[2:]), prod(gy.shape[2:]))
    rooms = whole_lines(*[LANES * n for n in (g.rows * g.columns, spare, prod(gy.shape[2:]))])
    chunks = min(numba.get_num_threads(), blocks * parts)
    _products(flat(x, is_pixels(x)), is_pixels(x), x.shape, flat(gy, is_pixels(gy)), is_pixels(gy), gy.shape[2:],
              sums.reshape(-1), parts, g.places[np.arange(entries) % size], g.rows, g.columns, g.margin,
              axes[1][3], axes[2][3] * LANES, room(chunks * sum(rooms)), rooms, chunks)
    gw[...] = sums.sum(1)[:, :size].swapaxes(1, 2).reshape(-1, size)[:len(gw)].reshape(gw.shape)


@jit
def _products(x, x_is_pixels, x_shape, gy, gy_is_pixels, gy_size, sums, parts, places, rows, columns, margin, down,
              across, work, rooms, chunks):
    N, C, H, W = x_shape
    P, Q = gy_size
    jobs, per_chunk = -(-C // LANES) * parts, rooms[0] + rooms[1] + rooms[2]
    for chunk in prange(chunks):
        image_at, numbers, totals, nothing = chunk * per_chunk, begin(work), begin(sums), broadcast(np.float32(0))
        spare_at = image_at + rooms[0]
        made_at = spare_at + rooms[1]
        for i in range(image_at, made_at + rooms[2]):
            work[i] = 0
        for job in range(jobs * chunk // chunks, jobs * (chunk + 1) // chunks):
            c, part = job // parts * LANES, job % parts
            for n in range(N * part // parts, N * (part + 1) // parts):
                _to_lanes(x, x_is_pixels, n, c, C, H, W, work, image_at, rows, columns, margin, spare_at)
                _to_lanes(gy, gy_is_pixels, n, c, C, P, Q, work, made_at, P, Q, (0, 0), spare_at)
                for t in range(0, places.size, _TAPS):
                    to = (job * places.size + t) * LANES
                    a, b, d = load(totals, to), load(totals, to + LANES), load(totals, to + 2 * LANES)
                    e, f, g = nothing, nothing, nothing  # of every other output: sums that need not wait
                    for p in range(P):
                        made, line = made_at + p * Q * LANES, image_at + p * down * columns * LANES
                        one, two, three = line + places[t], line + places[t + 1], line + places[t + 2]
                        for q in range(0, Q - 1, 2):
                            y, z, i = load(numbers, made), load(numbers, made + LANES), q * across
                            a, e = fma(y, load(numbers, one + i), a), fma(z, load(numbers, one + i + across), e)
                            b, f = fma(y, load(numbers, two + i), b), fma(z, load(numbers, two + i + across), f)
                            d, g = fma(y, load(numbers, three + i), d), fma(z, load(numbers, three + i + across), g)
                            made += 2 * LANES
                        if Q % 2:
                            y, i = load(numbers, made), (Q - 1) * across
                            a = fma(y, load(numbers, one + i), a)
                            b = fma(y, load(numbers, two + i), b)
                            d = fma(y, load(numbers, three + i), d)
                    store(totals, to, a + e)
                    store(totals, to + LANES, b + f)
                    store(totals, to + 2 * LANES, d + g)
