"""NumPy's BLAS, called from compiled loops: every product by one thread, and a large one in parts, by all of Numba's.

OpenBLAS's own threads wait for each other by spinning and yielding, beside the threads of the kernels, which do the
same: on two cores a product of 512 x 512 matrices took 1.5 ms, or 23. In parts, by the kernels' threads, it takes 1.7,
always, and the loops around a product need not leave compiled code.
"""
import ctypes
import os
import sys
from functools import cache, lru_cache
from glob import glob
from math import prod
from threading import Lock

import numba
import numpy as np
from llvmlite import ir
from numba import carray, cfunc, types
from numba.extending import intrinsic

from kdl.kernels.cpu import threads
from kdl.kernels.cpu.launch import NOTHING, jit, prange
from kdl.kernels.cpu.simd import emit_address

SHARED = 1 << 21  # multiplications from which waking other threads (50 us) pays
_LARGE = 1 << 25   # multiplications from which every product of a batch is worth all threads
_ALONE = 1 << 18   # multiplications up to which OpenBLAS uses one thread by itself
_CUT = 48          # parts of a product begin at multiples of this: full tiles of OpenBLAS
_ROW_MAJOR, _AS_IT_LIES, _TURNED = 101, 111, 112  # of CBLAS


# --- the library ---
@cache
def _libraries():
    """NumPy's compiled part, through which whatever it is linked with is found, and the libraries its wheel brings."""
    module = sys.modules.get("numpy._core._multiarray_umath") or sys.modules["numpy.core._multiarray_umath"]
    home = os.path.dirname(np.__file__)
    paths = [module.__file__, *glob(f"{home}.libs/*openblas*"), *glob(f"{home}/.dylibs/*openblas*")]
    return [ctypes.PyDLL(path) for path in paths]


def _find(*names):
    """The first function that there is by one of the names; None where there is none."""
    found = [getattr(library, name) for library in _libraries() for name in names if hasattr(library, name)]
    return found[0] if found else None


@cache
def _openblas():
    """OpenBLAS's functions that get and set its number of threads; None where NumPy uses another BLAS."""
    both = [_find(f"scipy_openblas_{verb}_num_threads64_", f"openblas_{verb}_num_threads64_",
                  f"openblas_{verb}_num_threads") for verb in ("get", "set")]
    return both if all(both) else None


@cache
def gemm_of(dtype):
    """The address of the function that multiplies matrices of float32 or float64, with CBLAS's arguments."""
    name = {"f": "sgemm", "d": "dgemm"}[dtype.char]
    function = _find(f"scipy_cblas_{name}64_", f"cblas_{name}64_", f"cblas_{name}$NEWLAPACK$ILP64", f"cblas_{name}")
    return _own_gemm(dtype).address if function is None else ctypes.cast(function, ctypes.c_void_p).value


@cache
def _own_gemm(dtype):
    """For a NumPy without BLAS: the same, slowly."""
    T, i32, i64 = numba.from_dtype(dtype), types.int32, types.int64
    pointer = types.CPointer(T)

    @cfunc(types.void(i32, i32, i32, i64, i64, i64, T, pointer, i64, pointer, i64, T, pointer, i64))
    def gemm(order, turn_a, turn_b, M, N, K, alpha, a, a_pitch, b, b_pitch, beta, y, y_pitch):
        a = carray(a, ((K if turn_a == _TURNED else M), a_pitch))
        b = carray(b, ((N if turn_b == _TURNED else K), b_pitch))
        y = carray(y, (M, y_pitch))
        for i in range(M):
            for j in range(N):
                total = T(0)
                for k in range(K):
                    total += (a[k, i] if turn_a == _TURNED else a[i, k]) * (b[j, k] if turn_b == _TURNED else b[k, j])
                y[i, j] = alpha * total + (beta * y[i, j] if beta != T(0) else T(0))
    return gemm


class _OneThread:
    """While anyone is inside, OpenBLAS uses the calling thread only. The setting is global, so entries are counted."""

    def __init__(self):
        self.lock, self.inside, self.before = Lock(), 0, 0

    def needless(self):
        """Whether OpenBLAS uses one thread anyway, and nobody inside will change that."""
        return self.inside == 0 and _openblas() is not None and _openblas()[0]() == 1

    def __enter__(self):
        with self.lock:
            self.inside += 1
            if self.inside == 1 and _openblas():
                get, set_threads = _openblas()
                self.before = get()
                set_threads(1)

    def __exit__(self, *exception):
        with self.lock:
            self.inside -= 1
            if self.inside == 0 and _openblas():
                _openblas()[1](self.before)


one_thread = _OneThread()


def _after_fork():
    """Only the thread that forked lives on in the child: nobody else would release the lock."""
    one_thread.lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# --- in a kernel ---
@intrinsic
def gemm(typing, address, M, N, K, a, a_at, a_turned, a_pitch, b, b_at, b_turned, b_pitch, add, y, y_at, y_pitch):
    """y = a b, or y += a b, for matrices (M, K) and (K, N) that begin at elements of arrays, by NumPy's BLAS.

    `address` is what gemm_of gives; a pitch is how far apart rows are, or, where a matrix is turned, columns.
    """
    def generate(context, builder, signature, args):
        number, int32 = context.get_value_type(y.dtype), ir.IntType(32)
        function, M, N, K, a_, a_at, a_turned, a_pitch, b_, b_at, b_turned, b_pitch, add, y_, y_at, y_pitch = args
        places = [emit_address(context, builder, kind, array, at)
                  for kind, array, at in ((a, a_, a_at), (b, b_, b_at), (y, y_, y_at))]
        constant = lambda value: ir.Constant(int32, value)
        turned = [builder.select(flag, constant(_TURNED), constant(_AS_IT_LIES)) for flag in (a_turned, b_turned)]
        one, zero = ir.Constant(number, 1.0), ir.Constant(number, 0.0)
        values = [constant(_ROW_MAJOR), *turned, M, N, K, one, places[0], a_pitch, places[1], b_pitch,
                  builder.select(add, one, zero), places[2], y_pitch]
        # a BLAS whose integers have 32 bits reads the lower half of these: each has a register or a place of its own
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(builder.inttoptr(function, kind.as_pointer()), values)
        return context.get_dummy_value()
    i, flag = types.int64, types.boolean
    return types.void(i, i, i, i, a, i, flag, i, b, i, flag, i, flag, y, i, i), generate


@jit(parallel=False)
def _lies(matrix):
    """Whether BLAS finds columns in memory where it looks for rows, and how far apart they are."""
    rows, columns = matrix.shape
    down, right = matrix.strides[0] // matrix.itemsize, matrix.strides[1] // matrix.itemsize
    if right != 1 and columns > 1:
        return True, max(right, rows)
    return False, max(down, columns)


def run(loop, multiplications, dtype, *arguments):
    """Call a loop that multiplies, in the calling thread where it has little to do; it gets `gemm`'s address first."""
    with one_thread:
        (loop.alone if multiplications < SHARED else loop)(gemm_of(dtype), *arguments)


# --- products ---
def matmul(a, b, y):
    """y = a b, for (..., M, K) and (..., K, N); leading dimensions broadcast, and there are two of them at most."""
    if y.ndim == 2:
        multiply(a, b, None, y)
        return
    each, products = a.shape[-2] * a.shape[-1] * b.shape[-1], prod(y.shape[:-2])
    if a.shape[-1] < 2 or not _is_shared(each * products, a, b, y):
        _one_after_another(a, b, y)
    elif each < _LARGE:
        with one_thread:
            _multiply_many(gemm_of(y.dtype), *[m.reshape((1,) * (4 - m.ndim) + m.shape) for m in (a, b, y)])
    else:
        a, b = [np.broadcast_to(m, y.shape[:-2] + m.shape[-2:]) for m in (a, b)]
        for i in np.ndindex(y.shape[:-2]):
            multiply(a[i], b[i], None, y[i])


def multiply(a, b, bias, y, relu=False):
    """y = a b + bias for matrices, and 0 for what is below with relu; bias may be None."""
    M, N = y.shape
    K = a.shape[1]
    size = M * N * K
    matrices = min(M, N, K) > 1
    if matrices and size < _ALONE:
        np.matmul(a, b, out=y)  # the call of a kernel would take 1 us more
    elif matrices and y.dtype in NOTHING and y.flags.c_contiguous and a.flags.forc and b.flags.forc:
        _multiply_large(a, b, bias, y, relu, size)
        return
    else:
        _one_after_another(a, b, y)
    if bias is not None:
        y += bias
    if relu:
        np.maximum(y, 0, out=y)


def _multiply_large(a, b, bias, y, relu, size):
    (M, K), N = a.shape, y.shape[1]
    alone = threads.none and one_thread.needless()
    if alone and bias is None and not relu:
        np.matmul(a, b, out=y)
        return
    bias = NOTHING[y.dtype] if bias is None else bias
    arguments = (gemm_of(y.dtype), a.ravel("K"), not a.flags.c_contiguous, b.ravel("K"), not b.flags.c_contiguous,
                 bias, y.reshape(-1), M, N, K, relu)
    if alone:
        _multiply.alone(*arguments, 1, 1)
        return
    with one_thread:
        if _is_shared(size, a, b, y):
            _multiply(*arguments, *grid(M, N, numba.get_num_threads()))
        else:
            _multiply.alone(*arguments, 1, 1)


def _is_shared(size, a, b, y):
    """Whether threads share so many multiplications: where BLAS can be told not to do so itself."""
    return (size >= SHARED and not threads.none and y.dtype in NOTHING and y.flags.c_contiguous and _openblas()
            and all(stride % y.itemsize == 0 for m in (a, b) for stride in m.strides))


def _one_after_another(a, b, y):
    """Products that NumPy knows a way for, or that none of ours is for."""
    if a.shape[-1] == 1:
        np.multiply(a, b, out=y)  # BLAS takes three times as long for a batch of outer products
    elif one_thread.needless():
        np.matmul(a, b, out=y)
    else:
        with one_thread:
            np.matmul(a, b, out=y)


@jit
def _multiply(address, a, a_turned, b, b_turned, bias, y, M, N, K, relu, down, across):
    a_pitch, b_pitch = M if a_turned else K, K if b_turned else N
    for part in prange(down * across):
        top, bottom = _edges(M, part // across, down)
        left, right = _edges(N, part % across, across)
        if bias.size:
            for i in range(top, bottom):
                for j in range(left, right):
                    y[i * N + j] = bias[j]
        gemm(address, bottom - top, right - left, K, a, top * (1 if a_turned else a_pitch), a_turned, a_pitch,
             b, left * (b_pitch if b_turned else 1), b_turned, b_pitch, bias.size > 0, y, top * N + left, N)
        if relu:
            for i in range(top, bottom):
                for j in range(left, right):
                    if y[i * N + j] < 0:
                        y[i * N + j] = 0


@jit(parallel=False)
def _edges(length, part, parts):
    """Where a part of a length begins and ends."""
    steps = -(-length // _CUT)
    return min(length, steps * part // parts * _CUT), min(length, steps * (part + 1) // parts * _CUT)


@lru_cache(1024)
def grid(M, N, count):
    """How to cut a product for so many threads: into how many rows and columns of parts, so that they read least."""
    return min(((down, count // down) for down in range(1, count + 1) if count % down == 0),
               key=lambda grid: M / grid[0] + N / grid[1])


@jit
def _multiply_many(address, a, b, y):
    """y[i, j] = a[i, j] b[i, j], where an operand may have only one i, or only one j."""
    outer, inner, M, N = y.shape
    a_turned, a_pitch = _lies(a[0, 0])
    b_turned, b_pitch = _lies(b[0, 0])
    for product in prange(outer * inner):
        i, j = product // inner, product % inner
        a_at = (i * a.strides[0] * (a.shape[0] > 1) + j * a.strides[1] * (a.shape[1] > 1)) // a.itemsize
        b_at = (i * b.strides[0] * (b.shape[0] > 1) + j * b.strides[1] * (b.shape[1] > 1)) // b.itemsize
        gemm(address, M, N, a.shape[3], a, a_at, a_turned, a_pitch, b, b_at, b_turned, b_pitch, False, y,
             product * M * N, N)
