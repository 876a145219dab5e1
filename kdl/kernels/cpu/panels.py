"""Products of middling size by the tiles of the convolutions, where BLAS is slower.

BLAS spends a good part of such a product on copies, and takes no advantage of few rows. Here b is laid out in panels of
as many columns as a tile has, and a is read where it lies; for few rows and a transposed b, as in a linear layer,
nothing is laid out, for rows of a and of b' run side by side in memory. Measured on one thread of a Xeon (Emerald
Rapids), against OpenBLAS: 128 x 512 by 512 x 512 transposed 1.12 times as fast, 256 x 256 by 256 x 256 1.08 times; on
Zen 5, 8 x 4096 by 4096 x 4096 transposed 2.5 times.
"""
import numba
import numpy as np

from kdl.kernels.cpu import threads
from kdl.kernels.cpu.blas import SHARED, grid
from kdl.kernels.cpu.launch import NOTHING, device_function, jit, prange
from kdl.kernels.cpu.layouts import pack_panel
from kdl.kernels.cpu.scratch import aligned
from kdl.kernels.cpu.simd import LANES
from kdl.kernels.cpu.tiles import DOTS, ROWS, WIDEST, WIDTH, dots, panel_strip

_FEW = 16  # rows up to which lines are multiplied by lines
# Multiplications below which the call costs more than it saves: with few rows, otherwise, with b as it lies
_LEAST_OF_FEW, _LEAST, _LEAST_AS_IT_LIES = 1 << 15, 1 << 19, 1 << 21
_CHUNKS = 32      # of the columns, for threads to share
_ROOM = 1 << 19   # numbers that panels may take: BLAS is faster where they do not stay in a cache
_BLOCK = 16 * ROWS, 512  # rows of a that meet all panels while a cache has them, and how many numbers of each


def _fits(a, b, y):
    """Whether `_product` is for these matrices: float32 in order, of a size at which BLAS is slower."""
    M, N = y.shape
    K = a.shape[1]
    size = M * K * N
    if (size < (_LEAST if M > _FEW else _LEAST_OF_FEW) or LANES < 8 or K < 16 or y.dtype != np.float32
            or not (y.flags.c_contiguous and a.flags.forc and b.flags.forc)):
        return False
    if M <= _FEW:
        return M > 1 and a.flags.c_contiguous and not b.flags.c_contiguous
    waste = _columns.py_func(N) / N  # of the last panel, not too much is for nothing
    if b.flags.c_contiguous:  # which BLAS copies as fast: this pays where many rows meet it
        return (size >= _LEAST_AS_IT_LIES and K * N <= _ROOM and M >= 128 <= N and waste <= 1.1
                and (a.flags.c_contiguous or M <= 512))  # columns farther apart share a set of the L1 cache
    return K * N <= _ROOM and waste <= 1.2


def _product(a, b, bias, y):
    """y = a b + bias, for matrices that fit; bias may be None."""
    bias = NOTHING[y.dtype] if bias is None else bias
    if len(a) <= _FEW:
        _multiply_lines(b.T.reshape(-1), a.reshape(-1), bias, y)
    else:
        arguments = (a.ravel("K"), not a.flags.c_contiguous, b.ravel("K"), not b.flags.c_contiguous, bias,
                     y.reshape(-1), *y.shape, a.shape[1])
        if threads.none or a.size * y.shape[1] < SHARED:
            _multiply.alone(*arguments, 1, 1)
        else:
            _multiply(*arguments, *grid(*y.shape, numba.get_num_threads()))


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
def _multiply(a, a_turned, b, b_turned, bias, y, M, N, depth, down, across):
    """y[i, j] = bias[j] + the sum over k of a[i, k] b[k, j], in so many parts down and across."""
    count = -(-N // WIDEST)
    zero = np.int64(0)  # a bare number would be a type of its own: one more copy
    panels = aligned(_columns(N) * depth, b)
    biases = np.zeros(count * WIDEST, np.float32)
    for j in range(bias.size):  # a slice instead of the loop would take 1.5 s more to compile
        biases[j] = bias[j]
    row, step = (1, M) if a_turned else (depth, 1)
    starts = np.zeros(-(-M // ROWS) * ROWS, np.int64)
    places = np.zeros_like(starts)
    for i in range(M):
        starts[i], places[i] = i * row, i * N
    nothing = np.zeros(1, np.int64)
    rows, numbers = _BLOCK
    for panel in prange(count):
        first = panel * WIDEST
        width = _columns(min(WIDEST, N - first))
        pack_panel(b, not b_turned, zero, zero, N, depth, first, min(width, N - first), panels, first * depth, width,
                   depth)
    tiles = -(-M // ROWS)
    for part in prange(down * across):
        top, bottom = tiles * (part // across) // down * ROWS, tiles * (part // across + 1) // down * ROWS
        for begin in range(top, min(bottom, M), rows):
            for k in range(0, depth, numbers):
                for panel in range(count * (part % across) // across, count * (part % across + 1) // across):
                    first = panel * WIDEST
                    width = _columns(min(WIDEST, N - first))
                    panel_strip(width, a, k * step, starts, nothing, step, panels, first * depth + k * width, nothing,
                                1, min(numbers, depth - k), y, first, places, begin, min(begin + rows, bottom, M),
                                N - first, biases, first, k > 0)


@device_function
def _columns(N):
    """How many columns the panels have for N: all WIDEST, but the last one, which may be WIDTH."""
    rest = (N - 1) % WIDEST + 1
    return N - rest + (WIDTH if rest <= WIDTH else WIDEST)
