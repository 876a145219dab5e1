"""Winograd convolution with 3 x 3 filters, in float32: m x m outputs at a time by (m + 2)^2 products instead of 9 m^2.

With d a square of m + 2 inputs and g a filter, y = A^T [(G g G^T) * (B^T d B)] A, where * multiplies element by element
(Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, section 4). Over channels and filters each of the
(m + 2)^2 elements is a matrix product, tiles x channels by channels x filters. The gradient of the input is the same
with filters turned round; that of the filters is gw = G^T [sum over tiles of (B^T d B) * (A gy A^T)] G.

The matrices are those of Toom and Cook for the points 0, +-1, inf (m = 2), whose results are as exact as direct ones,
and 0, +-2/3, +-4/3, inf (m = 4), with errors 3 to 6 times as large; with the usual points 0, +-1, +-2, inf they are
5 times as large again.
"""
from fractions import Fraction
from functools import cache
from itertools import combinations
from math import prod

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kdl.kernels.cpu import simd
from kdl.kernels.cpu.launch import device_function, jit, prange
from kdl.kernels.cpu.layouts import (
    copy_line,
    flat,
    image_to_pixels,
    is_pixels,
    pack_filters,
    pixels_to_planes,
    planes_to_pixels,
)
from kdl.kernels.cpu.scratch import room, whole_lines
from kdl.kernels.cpu.simd import LANES, VECTOR, index
from kdl.kernels.cpu.tiles import ROWS, WIDTH, panel_strip, width_for

_POINTS = {2: (0, 1, -1), 4: (0, Fraction(2, 3), Fraction(-2, 3), Fraction(4, 3), Fraction(-4, 3))}
_CHANNELS = 16  # and as many filters at least, of one of both twice as many: fewer are as fast without the transform
_DEPTH = 256  # channels that are met at a time: a panel's filters stay in the L1 cache
_SLAB = LANES  # channels that lie together for the gradient of the filters
_JOBS = 16  # that this gradient is cut into, where it can be
_TILES = 256  # of a part at least: its sum is written once, and then added to
_SUMS = 1 << 22  # floats that the sums of all its parts may take


def outputs_side(outputs, w, images, stride, padding, dilation, groups, exact, of_filters=False):
    """m for a convolution with so many outputs (P, Q) and filters of a shape, or 0 where there is a faster way for it.

    Each of the (m + 2)^2 products meets all filters, which takes long where there are few tiles and many channels.
    `exact` is for m = 2 at most, `of_filters` for the gradient of the filters. Measured with AVX-512.
    """
    fewer, more = sorted(w[:2])
    if (w[2:] != (3, 3) or groups != 1 or stride != (1, 1) or dilation != (1, 1)
            or max(padding) > 2 or fewer < _CHANNELS or more < (_CHANNELS if of_filters else 2 * _CHANNELS)):
        return 0
    twos, fours = [images * prod(-(-size // m) for size in outputs) for m in (2, 4)]
    if not exact and fours >= max(32, more / 8):
        return 4
    return 2 if twos > more / (4 if of_filters else 8) else 0


# --- matrices ---
@cache
def _matrices(m):
    """A^T (m, m + 2), G (m + 2, 3), B^T (m + 2, m + 2), in float64."""
    points = [Fraction(p) for p in _POINTS[m]]
    others = [[q for q in points if q != p] for p in points]
    at = [[p**i for p in points] + [int(i == m - 1)] for i in range(m)]
    scale = [prod(p - q for q in rest) for p, rest in zip(points, others, strict=True)]
    g = [[p**i / s for i in range(3)] for p, s in zip(points, scale, strict=True)] + [[0, 0, 1]]
    bt = [np.polynomial.polynomial.polyfromroots(rest).tolist() + [0] for rest in [*others]] + [
        np.polynomial.polynomial.polyfromroots(points).tolist()]
    at, g, bt = [np.array(matrix, np.float64) for matrix in (at, g, bt)]
    balance = 2.0 ** np.round(np.log2(np.abs(g).max(1)))[:, None]  # exact, and keeps both factors near 1
    return at, g / balance, bt * balance


def _multiply(builder, matrix, vectors):
    """matrix times a column of vectors. Rows and columns come in pairs p, -p, of which the common part is made once."""
    columns = _pairs(matrix.T)
    if columns:
        (i, j), *_ = columns
        rest = [k for k in range(matrix.shape[1]) if k not in (i, j)]
        both = [builder.fadd(vectors[i], vectors[j]), builder.fsub(vectors[i], vectors[j])]
        halves = [(matrix[:, i] + matrix[:, j]) / 2, (matrix[:, i] - matrix[:, j]) / 2]
        return _multiply(builder, np.stack([*halves, *matrix[:, rest].T], 1), both + [vectors[k] for k in rest])
    result = [None] * len(matrix)
    for i, j in _pairs(matrix):
        even = _combine(builder, (matrix[i] + matrix[j]) / 2, vectors)
        odd = _combine(builder, (matrix[i] - matrix[j]) / 2, vectors)
        result[i], result[j] = builder.fadd(even, odd), builder.fsub(even, odd)
    return [done or _combine(builder, row, vectors) for done, row in zip(result, matrix, strict=True)]


def _pairs(rows):
    """Disjoint pairs of rows that agree in some elements and are opposite in the others, with both kinds."""
    found, taken = [], set()
    for i, j in combinations(range(len(rows)), 2):
        same, opposite = rows[i] + rows[j], rows[i] - rows[j]
        if same.any() and opposite.any() and not (same * opposite).any() and not {i, j} & taken:
            found.append((i, j))
            taken |= {i, j}
    return found


def _combine(builder, factors, vectors):
    """The sum of factors times vectors, beginning with a factor of 1 where there is one."""
    total = None
    terms = [(factor, vector) for factor, vector in zip(factors, vectors, strict=True) if factor]
    for factor, vector in sorted(terms, key=lambda term: term[0] != 1):
        constant = ir.Constant(VECTOR, [float(factor)] * LANES)
        if total is None:
            total = vector if factor == 1 else builder.fmul(vector, constant)
        else:
            total = simd.emit_fma(builder, vector, constant, total)
    return total


def _transform(matrix, biased=False):
    """The intrinsic target = matrix source matrix^T (+ bias), for LANES channels that lie side by side."""
    @intrinsic
    def transform(typing, target, to, to_row, to_column, source, at, row, column, bias, bias_at):
        def generate(context, builder, signature, args):
            target, to, to_row, to_column, source, at, row, column, bias, bias_at = args
            kinds = signature.args

            def place(base, i, di, j, dj):
                return builder.gep(base, [builder.add(builder.mul(di, index(i)), builder.mul(dj, index(j)))])

            source = simd.emit_address(context, builder, kinds[4], source, at)
            target = simd.emit_address(context, builder, kinds[0], target, to)
            made, given = matrix.shape
            columns = [_multiply(builder, matrix, [simd.emit_load(builder, place(source, i, row, j, column))
                                                   for i in range(given)]) for j in range(given)]
            added = simd.emit_load(builder, simd.emit_address(context, builder, kinds[8], bias, bias_at))
            for i in range(made):
                for j, value in enumerate(_multiply(builder, matrix, [column[i] for column in columns])):
                    value = builder.fadd(value, added) if biased else value
                    simd.emit_store(builder, value, place(target, i, to_row, j, to_column))
            return context.get_dummy_value()
        number = types.intp
        return types.void(target, number, number, number, source, number, number, number, bias, number), generate
    return transform


def _of_two(factor, **options):
    """That transform by m, for kernels: `factor` chooses the matrix of A^T, G, B^T."""
    two, four = [_transform(factor(*_matrices(m)), **options) for m in (2, 4)]

    @device_function
    def transform(m, target, to, to_row, to_column, source, at, row, column, bias, bias_at):
        if m == 2:
            two(target, to, to_row, to_column, source, at, row, column, bias, bias_at)
        else:
            four(target, to, to_row, to_column, source, at, row, column, bias, bias_at)
    return transform


_of_filter = _of_two(lambda at, g, bt: g)
_of_input = _of_two(lambda at, g, bt: bt)
_of_output = _of_two(lambda at, g, bt: at, biased=True)
_of_gy = _of_two(lambda at, g, bt: at.T)
_of_products = _of_two(lambda at, g, bt: g.T)


def _blocks(images, tiles, channels):
    """How many images are worked on at a time, and how many of their tiles: what the L2 cache of a core holds."""
    most = 48 if channels <= 64 else 120
    images = max(1, min(images, -(-most // tiles)))
    return images, -(-images * tiles // -(-images * tiles // most))


def _pitches(*lengths):
    """How far apart the (m + 2)^2 matrices of a block lie, which a tile writes one vector of each.

    A vector more than they are long: with 16 x 16 tiles of 64 channels all would share one set of a cache, and the
    gradient of the filters would take 1.5 times as long.
    """
    return tuple([length + LANES for length in lengths])


# --- forward, and the gradient of the input ---
def correlate(u, w, b, v, padding, backward, m):
    """v = the convolution of u, or with `backward` v = gx of u = gy, for dense arrays in any layout."""
    (N, C), (K, P, Q), side = u.shape[:2], v.shape[1:], m + 2
    tall, wide = -(-P // m), -(-Q // m)
    threads = numba.get_num_threads()
    images, block = _blocks(-(-N // threads), tall * wide, max(C, K))
    block += -block % ROWS
    window = (*[p - 2 if backward else -p for p in padding], tall * m + 2, wide * m + 2)
    pitches = _pitches(block * C, block * K)
    sizes = whole_lines(images * window[2] * window[3] * C, *[side * side * pitch for pitch in pitches],
                        images * P * Q * K + m * (Q + 1) * K, u[0].size)
    chunks = min(threads, -(-N // images))
    lanes = width_for(K)
    panels = -(-K // lanes)
    filters, per_chunk = side * side * panels * C * lanes, sum(sizes)
    work = room(filters + 9 * panels * C * lanes + chunks * per_chunk)
    packed = work[filters:filters + 9 * panels * C * lanes]
    pack_filters(w, np.arange(8, -1, -1) if backward else np.arange(9), 9, 1, backward, lanes, packed)
    bias = np.zeros(max(K, WIDTH), np.float32)
    if b is not None:
        bias[:K] = b
    _transform_filters(m, packed, panels, C * lanes, work)
    _convolve(m, flat(u, is_pixels(u)), is_pixels(u), u.shape, flat(v, is_pixels(v)), is_pixels(v), v.shape, work, bias,
             np.zeros(max(K, WIDTH), np.float32), lanes, images, block, window, tall, wide, chunks,
             len(packed) + filters, per_chunk, sizes, pitches, np.zeros(1, np.int64), np.arange(block) * C,
             np.arange(block) * K)


# --- the gradient of the filters ---
def backward_w(x, gy, gw, padding, m):
    """gw = the gradient of the filters, for dense arrays in any layout."""
    (N, C), (K, P, Q), side = x.shape[:2], gy.shape[1:], m + 2
    tall, wide = -(-P // m), -(-Q // m)
    images, block = _blocks(N, tall * wide, max(C, K))
    panel = width_for(K)
    slabs, lanes = -(-C // _SLAB), -(-K // panel) * panel
    sum_size = side * side * C * lanes
    parts = max(1, min(-(-N // images), _JOBS, N * tall * wide // _TILES, _SUMS // sum_size))
    window = (-padding[0], -padding[1], tall * m + 2, wide * m + 2)
    pitches = _pitches(block * slabs * _SLAB, block * lanes)
    sizes = whole_lines(images * window[2] * window[3] * C, images * tall * wide * m * m * K,
                        *[side * side * pitch for pitch in pitches], max(x[0].size, gy[0].size))
    cuts = min(lanes // panel, -(-numba.get_num_threads() // parts))  # of the filters: the sums are the same
    per_job = sum(sizes)
    work = room(parts * sum_size + parts * cuts * per_job + 9 * C * lanes)
    channel = np.arange(C + -C % ROWS)
    channel[C:] = 0
    target = np.empty(gw.shape, gw.dtype) if is_pixels(gw) else gw
    _products(m, flat(x, is_pixels(x)), is_pixels(x), x.shape, flat(gy, is_pixels(gy)), is_pixels(gy), gy.shape,
              target.reshape(-1), work, np.zeros(WIDTH, np.float32), panel, images, block, window, tall, wide, parts,
              cuts, sum_size, per_job, sizes, pitches, np.zeros(1, np.int64),
              channel // _SLAB * block * _SLAB + channel % _SLAB, np.arange(len(channel)) * lanes)
    if target is not gw:
        gw[...] = target


# --- kernels ---
@jit
def _transform_filters(m, packed, panels, depth, filters):
    """filters[(i, j), panel, c, lane] = G g G^T of packed[panel, tap, c, lane], the last two of size depth."""
    side = m + 2
    for panel in prange(panels):
        for at in range(0, depth, LANES):
            _of_filter(m, filters, panel * depth + at, side * panels * depth, panels * depth,
                      packed, panel * 9 * depth + at, 3 * depth, depth, packed, 0)

@jit
def _convolve(m, u, u_is_pixels, u_shape, v, v_is_pixels, v_shape, work, bias, zeros, lanes, images, block, window,
              tall, wide, chunks, rooms_at, per_chunk, sizes, pitches, tap, starts, places):
    """Some images a task: as pixels, a block of tiles at a time transformed, multiplied and transformed back.

    In a line tiles go from right to left, and lines downwards, so that what a tile writes beyond the image is
    written again: by a neighbour, by the next image, or nobody looks at it.
    """
    N, C, H, W, side = *u_shape, m + 2
    _, K, P, Q = v_shape
    top, left, height, width = window
    panels, tiles, tasks = -(-K // lanes), tall * wide, -(-N // images)
    for chunk in prange(chunks):
        x_at = rooms_at + chunk * per_chunk
        v_at = x_at + sizes[0]
        m_at = v_at + sizes[1]
        y_at = m_at + sizes[2]
        for task in range(tasks * chunk // chunks, tasks * (chunk + 1) // chunks):
            first, many = task * images, min(images, N - task * images)
            for i in range(many):
                image_to_pixels(u, (first + i) * C * H * W, u_is_pixels, C, 0, C, (H, W), top, left, work,
                                x_at + i * height * width * C, C, (height, width), work, y_at + sizes[3])
            for begin in range(0, many * tiles, block):
                count = min(block, many * tiles - begin)
                for t in range(count):
                    i, line, tile = _tile(begin + t, tall, wide)
                    corner = x_at + ((i * height + line * m) * width + tile * m) * C
                    for low in range(0, C, LANES):
                        c = min(low, C - LANES)
                        _of_input(m, work, v_at + t * C + c, side * pitches[0], pitches[0], work, corner + c, width * C,
                                  C, zeros, 0)
                for element in range(side * side):
                    for panel in range(panels):
                        for d in range(0, C, _DEPTH):
                            panel_strip(
                                lanes, work, v_at + element * pitches[0] + d, starts, tap, 1, work,
                                ((element * panels + panel) * C + d) * lanes, tap, 1, min(_DEPTH, C - d), work,
                                m_at + element * pitches[1] + panel * lanes, places, 0, count, K - panel * lanes, zeros,
                                0, d > 0)
                for t in range(count):
                    i, line, tile = _tile(begin + t, tall, wide)
                    corner = y_at + ((i * P + line * m) * Q + tile * m) * K
                    for low in range(0, K, LANES):
                        k = min(low, K - LANES)
                        _of_output(m, work, corner + k, Q * K, K, work, m_at + t * K + k, side * pitches[1], pitches[1],
                                   bias, k)
            if v_is_pixels:
                copy_line(work, y_at, v, first * P * Q * K, many * P * Q * K)
            else:
                for i in range(many):
                    pixels_to_planes(work, y_at + i * P * Q * K, K, v, (first + i) * K * P * Q, P * Q, P * Q)


@jit
def _products(m, x, x_is_pixels, x_shape, gy, gy_is_pixels, gy_shape, gw, work, zeros, panel_width, images, block,
              window, tall, wide, parts, cuts, sum_size, per_job, sizes, pitches, tap, starts, places):
    """work[part, (i, j), c, k] = the sums over that part's tiles; then their sum, transformed, is gw.

    A job is a part and some panels of filters.
    """
    N, C, H, W, side = *x_shape, m + 2
    _, K, P, Q = gy_shape
    top, left, height, width = window
    panels, tiles, tasks = -(-K // panel_width), tall * wide, -(-N // images)
    lanes = panels * panel_width
    for job in prange(parts * cuts):
        part, cut = job // cuts, job % cuts
        low_panel, high_panel = panels * cut // cuts, panels * (cut + 1) // cuts
        k, filters = low_panel * panel_width, min(K, high_panel * panel_width) - low_panel * panel_width
        x_at = parts * sum_size + job * per_job
        y_at = x_at + sizes[0]
        v_at = y_at + sizes[1]
        m_at = v_at + sizes[2]
        if K < lanes:
            for i in range(sizes[3]):
                work[m_at + i] = 0  # in lanes beyond the filters
        fresh = True
        for task in range(tasks * part // parts, tasks * (part + 1) // parts):
            first, many = task * images, min(images, N - task * images)
            for i in range(many):
                image_to_pixels(x, (first + i) * C * H * W, x_is_pixels, C, 0, C, (H, W), top, left, work,
                                x_at + i * height * width * C, C, (height, width), work, m_at + sizes[3])
                image_to_pixels(gy, (first + i) * K * P * Q, gy_is_pixels, K, k, filters, (P, Q), 0, 0, work,
                                y_at + i * tiles * m * m * filters, filters, (tall * m, wide * m), work,
                                m_at + sizes[3])
            for begin in range(0, many * tiles, block):
                count = min(block, many * tiles - begin)
                for t in range(count):
                    i, line, tile = _tile(begin + t, tall, wide)
                    corner = x_at + ((i * height + line * m) * width + tile * m) * C
                    for low in range(0, C, _SLAB):
                        _of_input(m, work, v_at + (low * block + t * _SLAB), side * pitches[0], pitches[0], work,
                                  corner + low, width * C, C, zeros, 0)
                    corner = y_at + ((i * tall + line) * m * wide + tile) * m * filters
                    for low in range(0, filters, LANES):
                        to = m_at + (low // panel_width * block + t) * panel_width + low % panel_width
                        _of_gy(m, work, to, side * pitches[1], pitches[1], work, corner + low, wide * m * filters,
                               filters, zeros, 0)
                for element in range(side * side):
                    for panel in range(high_panel - low_panel):
                        panel_strip(
                            panel_width, work, v_at + element * pitches[0], starts, tap, _SLAB, work,
                            m_at + element * pitches[1] + panel * block * panel_width, tap, 1, count, work,
                            part * sum_size + element * C * lanes + k + panel * panel_width, places, 0, C, panel_width,
                            zeros, 0, not fresh)
                fresh = False
    turned = parts * sum_size + parts * cuts * per_job
    for c in prange(C):
        for element in range(side * side):
            at = (element * C + c) * lanes
            for part in range(1, parts):
                for k in range(lanes):
                    work[at + k] += work[part * sum_size + at + k]
        for k in range(0, lanes, LANES):
            _of_products(m, work, turned + c * 9 * lanes + k, 3 * lanes, lanes, work, c * lanes + k, side * C * lanes,
                        C * lanes, zeros, 0)
        planes_to_pixels(work, turned + c * 9 * lanes, lanes, gw, c * 9, 9, 9 * C, K)


@jit(parallel=False)
def _tile(number, tall, wide):
    """The image, line and place in it of a tile; places go from right to left."""
    line = number // wide
    return line // tall, line % tall, wide - 1 - number % wide
