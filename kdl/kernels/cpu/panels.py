"""Products of middling size by the tiles of the convolutions: on one thread BLAS spends a good part of them on copies.

b is laid out in panels of as many columns as a tile has; a is read where it lies.
"""
import numpy as np

from kdl.kernels.cpu.blas import _one_thread
from kdl.kernels.cpu.launch import jit
from kdl.kernels.cpu.layouts import pack_panel
from kdl.kernels.cpu.simd import LANES
from kdl.kernels.cpu.tiles import ROWS, WIDTH, strip

_LEAST = 1 << 19  # multiplications below which the call costs more than it saves
_MOST = 1 << 25   # from which all threads share a product, if BLAS has more than one
_ROOM = 1 << 18   # numbers that panels may take, for they are to stay in a cache
_BLOCK = 16 * ROWS, 512  # rows of a that meet all panels while a cache has them, and how many numbers of each

_NO_BIAS = np.empty(0, np.float32)


def _fits(a, b, y):
    """Whether `_product` is for these matrices: float32 in order, neither so small nor so large that BLAS is better."""
    M, N = y.shape
    K = a.shape[1]
    size = M * K * N
    return (_LEAST <= size and LANES >= 8 and M >= ROWS and K >= 16 and K * N <= _ROOM
            and -(-N // WIDTH) * WIDTH <= 1.2 * N  # of the last panel, not too much is for nothing
            and y.dtype == np.float32 and y.flags.c_contiguous and a.flags.forc and b.flags.forc
            and (size < _MOST or _one_thread.needless()))


def _product(a, b, bias, y):
    """y = a b + bias, for matrices that fit; bias may be None."""
    a_turned, b_turned = not a.flags.c_contiguous, not b.flags.c_contiguous
    _multiply((a.T if a_turned else a).reshape(-1), a_turned, (b.T if b_turned else b).reshape(-1), b_turned,
              _NO_BIAS if bias is None else bias, y, a.shape[1])


@jit(parallel=False)
def _multiply(a, a_turned, b, b_turned, bias, y, depth):
    M, N = y.shape
    count = -(-N // WIDTH)
    zero, width = np.int64(0), np.int64(WIDTH)  # bare numbers would be types of their own: one more copy
    panels = np.empty(count * depth * WIDTH, np.float32)
    biases = np.zeros(count * WIDTH, np.float32)
    for j in range(bias.size):  # a slice instead of the loop would take 1.5 s more to compile
        biases[j] = bias[j]
    for panel in range(count):
        first = panel * WIDTH
        pack_panel(b, not b_turned, zero, zero, N, depth, first, min(width, N - first), panels,
                   first * depth, width, depth)
    row, step = (1, M) if a_turned else (depth, 1)
    starts, places = np.zeros((2, -(-M // ROWS) * ROWS), np.int64)
    for i in range(M):
        starts[i], places[i] = i * row, i * N
    nothing = np.zeros(1, np.int64)
    rows, numbers = _BLOCK
    for begin in range(0, M, rows):
        for k in range(0, depth, numbers):
            for panel in range(count):
                first = panel * WIDTH
                strip(a, k * step, starts, nothing, step, panels, first * depth + k * WIDTH, nothing, WIDTH, 1,
                       min(numbers, depth - k), y, first, places, begin, min(begin + rows, M), N - first, biases,
                       first, k > 0)
