"""Products of middling size by the tiles of the convolutions, where BLAS is slower.

BLAS spends a good part of such a product on copies, and takes no advantage of few rows. Here a and b are read where
they lie, and only columns that fill no tile are laid out. In a linear layer b is a transposed matrix of weights: it is
laid out in panels of as many columns as a tile has. Where it is larger than a, y' = b' a' is what is computed, so that
a is laid out and b read; and with few rows nothing is laid out, for rows of a and of b' run side by side in memory.

Measured on one thread against OpenBLAS: on a Xeon (Emerald Rapids) 128 x 512 by 512 x 512 transposed 1.12 times as
fast, 256 x 256 by 256 x 256 1.08 times; on Zen 5 8 x 4096 by 4096 x 4096 transposed 2.5 times, as it lies 1.9, 32 x 512
by 512 x 512 1.5, 128 x 512 by 512 x 512 1.15; on Zen 4 64 x 2048 by 2048 x 2048 transposed 1.6 times, 128 x 4096 by
4096 x 4096 1.4 times, 1024 x 8 by 8 x 1024 2.5 times, 3072 x 1 by 1 x 768 13 times.
"""
from functools import lru_cache

import numba
import numpy as np

from kdl.kernels.cpu import threads
from kdl.kernels.cpu.blas import SHARED, grid
from kdl.kernels.cpu.launch import NOTHING, device_function, jit, prange
from kdl.kernels.cpu.layouts import pack_panel, planes_to_pixels
from kdl.kernels.cpu.scratch import aligned
from kdl.kernels.cpu.simd import LANES
from kdl.kernels.cpu.tiles import DOTS, ROWS, WIDEST, WIDEST_ROWS, WIDTH, dots, panel_strip, wide_strip

_FEW, _SOME = 16, 64  # rows up to which lines are multiplied by lines, and b is read as it lies whatever its size
_THIN, _SHALLOW = 16, 64  # numbers to add below which writing y is the work, and up to which BLAS loses whatever M is
_WIDE = 1 << 14  # columns beyond which the rows of a tile lie too far apart for that
# Multiplications below which the call costs more than it saves: with few rows, otherwise, with b as it lies
_LEAST_OF_FEW, _LEAST, _LEAST_AS_IT_LIES = 1 << 15, 1 << 19, 1 << 20
_CHUNKS = 32      # of the columns, for threads to share
_LYING, _TURNED = 3 << 18, 1 << 21  # numbers that are read as they lie for many rows, and that panels may take
_COPY = 24        # multiply-adds that take as long as laying a number out, or turning it over
_BLOCK = 16 * ROWS, 512  # rows of a that meet all panels while a cache has them, and how many numbers of each
_WRITTEN = 1 << 16  # numbers of y that such rows have at most where the matrices are thin


LINES, PANELS, AS_IT_LIES, TURNED = ("lines by lines", "panels of b", "panels of b as it lies",
                                     "the product of the turned matrices, turned back")


def way_of(a, b, y):
    """How `product` multiplies these matrices, or None where BLAS does: it takes float32 in order, of certain sizes."""
    (M, K), N = a.shape, y.shape[1]
    if M * K * N < _LEAST_OF_FEW or y.dtype != np.float32:
        return None
    of_a, of_b = a.flags, b.flags  # made anew each time they are asked for
    if not (of_a.forc and of_b.forc and y.flags.c_contiguous):
        return None
    return _way(M, K, N, not of_a.c_contiguous, not of_b.c_contiguous)


@lru_cache(1024)
def _way(M, K, N, a_turned, b_turned):
    size, columns = M * K * N, _columns.py_func(N)  # of the last panel, not too many are for nothing
    if M == 1 or (size < _LEAST and M > _FEW) or LANES < 8:
        return None
    filled = 10 * columns <= 11 * N
    if not b_turned:  # many columns of a turned a that lie far apart share a set of the L1 cache
        return AS_IT_LIES if (size >= _LEAST_AS_IT_LIES and filled
                              and ((K <= _SHALLOW and N <= _WIDE) or M <= _SOME
                                   or (K * N <= _LYING and (not a_turned or M <= 512)))) else None
    if K < _THIN:
        return PANELS if size >= _LEAST and filled else None
    if M <= _FEW:
        return LINES if not a_turned else None
    as_given = (-(-M // WIDEST_ROWS) * WIDEST_ROWS + _COPY) * K * N  # in multiply-adds of whole tiles
    if M * K <= _TURNED and _columns.py_func(M) * K * N + _COPY * M * (K + N) < as_given:
        return TURNED
    return PANELS if K * N <= _TURNED and 5 * columns <= 6 * N else None


def product(way, a, b, bias, y):
    """y = a b + bias, for matrices that go this way; bias may be None."""
    bias = NOTHING[y.dtype] if bias is None else bias
    if way == LINES:
        _multiply_lines(b.T.reshape(-1), a.reshape(-1), bias, y)
        return
    if way == TURNED:
        a, b = b.T, a.T
    (M, K), N = a.shape, b.shape[1]
    arguments = (a.ravel("K"), not a.flags.c_contiguous, b.ravel("K"), not b.flags.c_contiguous,
                 N // WIDEST if way == AS_IT_LIES else 0, bias, y.reshape(-1), M, N, K, way == TURNED)
    if threads.none or M * K * N < SHARED:
        _multiply.alone(*arguments, 1, 1)
    else:
        _multiply(*arguments, *grid(M, N, numba.get_num_threads()))


@jit(reassociate=True, serial_below=1 << 17)
def _multiply_lines(w, a, bias, y):
    """y[i, j] = bias[j] + the sum over k of w[j, k] a[i, k]."""
    M, N = y.shape
    depth = w.size // N
    columns, rows = DOTS
    starts = np.arange(N) * depth
    tiles = -(-N // rows)
    chunks = min(tiles, _CHUNKS)
    for chunk in prange(chunks):
        sums = np.empty(rows * columns * LANES, np.float32)
        for tile in range(tiles * chunk // chunks, tiles * (chunk + 1) // chunks):
            j = tile * rows
            for i in range(0, M, columns):
                for at in range(sums.size):
                    sums[at] = 0
                height, width = min(rows, N - j), min(columns, M - i)
                dots(w, 0, starts, j, height, 0, a, i * depth, depth, width, 1, depth, sums, 0, columns)
                for r in range(height):
                    for c in range(width):
                        total = np.float32(0)
                        for lane in range(LANES):
                            total += sums[(r * columns + c) * LANES + lane]
                        y[i + c, j + r] = total + (bias[j + r] if bias.size else np.float32(0))


@jit
def _multiply(a, a_turned, b, b_turned, lying, bias, y, M, N, depth, y_turned, down, across):
    """y[i, j] = bias[j] + the sum over k of a[i, k] b[k, j], in so many parts down and across; y[j, i] and bias[i] if
    `y_turned`. The first `lying` panels are read where they lie."""
    count = -(-N // WIDEST)
    zero, one = np.int64(0), np.int64(1)  # a bare number would be a type of its own: one more copy
    panels = aligned((_columns(N) - lying * WIDEST) * depth, b)
    pitch = _columns(N) if y_turned else N
    biases = np.zeros(count * WIDEST, np.float32)
    for j in range(0 if y_turned else bias.size):  # a slice instead of the loop would take 1.5 s more to compile
        biases[j] = bias[j]
    row, step = (1, M) if a_turned else (depth, 1)
    starts = np.zeros(-(-M // ROWS) * ROWS, np.int64)
    places = np.zeros_like(starts)
    for i in range(M):
        starts[i], places[i] = i * row, i * pitch
    nothing = np.zeros(1, np.int64)
    rows, numbers = _BLOCK
    if depth < _THIN:
        rows = min(rows, max(1, _WRITTEN // (ROWS * N)) * ROWS)
    for panel in prange(count - lying):
        first = (panel + lying) * WIDEST
        width = _columns(min(WIDEST, N - first))
        pack_panel(b, not b_turned, zero, zero, N, depth, first, min(width, N - first), panels,
                   panel * WIDEST * depth, width, depth)
    tiles = -(-M // ROWS)
    for part in prange(down * across):
        top, bottom = tiles * (part // across) // down * ROWS, tiles * (part // across + 1) // down * ROWS
        low, high = count * (part % across) // across, count * (part % across + 1) // across
        made = aligned(rows * pitch if y_turned else 0, y)
        for begin in range(top, min(bottom, M), rows):
            end = min(begin + rows, bottom, M)
            for k in range(0, depth, numbers):
                for panel in range(low, high):
                    first = panel * WIDEST
                    if panel < lying:
                        wide_strip(a, k * step, starts, nothing, step, b, k * N + first, nothing, N, one,
                                   min(numbers, depth - k), y, first, places, begin, end, N - first, biases, first,
                                   k > 0)
                        continue
                    width = _columns(min(WIDEST, N - first))
                    panel_strip(width, a, k * step, starts, nothing, step, panels,
                                (first - lying * WIDEST) * depth + k * width, nothing, 1, min(numbers, depth - k),
                                made if y_turned else y, first - (begin * pitch if y_turned else 0), places, begin,
                                end, N - first, biases, first, k > 0)
            if y_turned:
                left, right = low * WIDEST, min(high * WIDEST, N)
                planes_to_pixels(made, left, pitch, y, left * M + begin, end - begin, M, right - left)
                if bias.size:
                    for j in range(left, right):
                        for i in range(begin, end):
                            y[j * M + i] += bias[i]


@device_function
def _columns(N):
    """How many columns the panels have for N: all WIDEST, but the last one, which may be WIDTH."""
    rest = (N - 1) % WIDEST + 1
    return N - rest + (WIDTH if rest <= WIDTH else WIDEST)
