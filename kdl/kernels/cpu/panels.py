"""Products with a transposed matrix, as in a linear layer, by the tiles of the convolutions where BLAS is slower.

BLAS spends a good part of a product of middling size on copies, and takes no advantage of few rows. Here b = w' is laid
out in panels of as many columns as a tile has, and a is read where it lies; for few rows nothing is laid out, for rows
of a and of w run side by side in memory. Measured on one thread (Zen 5, AVX-512): 128 x 512 by 512 x 512 1.25 times as
fast as OpenBLAS, 8 x 4096 by 4096 x 4096 2.5 times (Ice Lake: 128 x 784 by 784 x 512 1.25 times); products with b as it
lies are slower than OpenBLAS's.
"""
import numba
import numpy as np

from kdl.kernels.cpu import threads
from kdl.kernels.cpu.blas import SHARED
from kdl.kernels.cpu.launch import NOTHING, _pair, jit, prange
from kdl.kernels.cpu.layouts import pack_panel
from kdl.kernels.cpu.scratch import aligned
from kdl.kernels.cpu.simd import LANES
from kdl.kernels.cpu.tiles import DOTS, ROWS, WIDTH, dots, strip

_FEW = 16  # rows up to which lines are multiplied by lines
_LEAST_OF_FEW, _LEAST = 1 << 15, 1 << 19  # multiplications below which the call costs more than it saves
_CHUNKS = 32      # of the columns, for threads to share
_ROOM = 1 << 19   # numbers that panels may take: BLAS is faster where they do not stay in a cache
_BLOCK = 16 * ROWS, 512  # rows of a that meet all panels while a cache has them, and how many numbers of each


def _fits(a, b, y):
    """Whether `_product` is for these matrices: float32 in order, b transposed, of a size at which BLAS is slower."""
    M, N = y.shape
    K = a.shape[1]
    size = M * K * N
    if (size < _LEAST_OF_FEW or LANES < 8 or K < 16 or y.dtype != np.float32 or b.flags.c_contiguous
            or not (y.flags.c_contiguous and a.flags.forc and b.flags.f_contiguous)):
        return False
    if M <= _FEW:
        return M > 1 and a.flags.c_contiguous
    return (_LEAST <= size and K * N <= _ROOM
            and -(-N // WIDTH) * WIDTH <= 1.2 * N)  # of the last panel, not too much is for nothing


def _product(a, b, bias, y):
    """y = a b + bias, for matrices that fit; bias may be None."""
    bias, w = NOTHING[y.dtype] if bias is None else bias, b.T.reshape(-1)
    if len(a) <= _FEW:
        _multiply_lines(w, a.reshape(-1), bias, y)
    else:
        turned = not a.flags.c_contiguous
        arguments = (a.T if turned else a).reshape(-1), turned, w, bias, y, a.shape[1]
        if threads.none or a.size * y.shape[1] < SHARED:
            _multiply(*arguments, 1)
        else:
            _multiply_shared(*arguments, min(-(-y.shape[1] // WIDTH), numba.get_num_threads()))


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


def _by_panels(a, a_turned, w, bias, y, depth, shares):
    """y[i, j] = bias[j] + the sum over k of w[j, k] a[i, k], the panels in so many shares."""
    M, N = y.shape
    count = -(-N // WIDTH)
    zero, width = np.int64(0), np.int64(WIDTH)  # bare numbers would be types of their own: one more copy
    panels = aligned(count * depth * WIDTH, w)
    biases = np.zeros(count * WIDTH, np.float32)
    for j in range(bias.size):  # a slice instead of the loop would take 1.5 s more to compile
        biases[j] = bias[j]
    row, step = (1, M) if a_turned else (depth, 1)
    starts, places = np.zeros((2, -(-M // ROWS) * ROWS), np.int64)
    for i in range(M):
        starts[i], places[i] = i * row, i * N
    nothing = np.zeros(1, np.int64)
    rows, numbers = _BLOCK
    for share in prange(shares):
        begin_panel, end_panel = count * share // shares, count * (share + 1) // shares
        for panel in range(begin_panel, end_panel):
            first = panel * WIDTH
            pack_panel(w, False, zero, zero, N, depth, first, min(width, N - first), panels, first * depth, width,
                       depth)
        for begin in range(0, M, rows):
            for k in range(0, depth, numbers):
                for panel in range(begin_panel, end_panel):
                    first = panel * WIDTH
                    strip(a, k * step, starts, nothing, step, panels, first * depth + k * WIDTH, nothing, WIDTH, 1,
                           min(numbers, depth - k), y, first, places, begin, min(begin + rows, M), N - first, biases,
                           first, k > 0)


_multiply, _multiply_shared = _pair(_by_panels)
