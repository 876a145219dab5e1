"""How a CPU kernel is compiled and called: the counterpart of the CUDA launch helper.

A kernel is compiled at its first call for the dtypes it gets, float32 or float64, and kept on disk. Two rules keep
its loops vectorised: constants take the arrays' dtype (`T = x.dtype.type`, then `T(0.5)`: a bare 0.5 would turn float32
arithmetic into float64), and reductions ask for `reassociate`.
"""
import inspect
from functools import wraps

import numpy as np
from numba import njit, prange
from numpy import ndarray

from kdl.kernels.cpu import buffers, threads  # noqa: F401  (buffers sets up the allocator)
from kdl.kernels.cpu.shared import ALONE, outlined, team
from kdl.types import HALVES

__all__ = ["NOTHING", "device_function", "elementwise", "jit", "prange", "widened"]

# Keeps NaN and inf. Not 'reassoc', which is for reductions only (it would undo compensated arithmetic), and
# error_model='numpy' because a division that may raise cannot be vectorised.
_SAFE = {"contract", "nsz", "arcp"}
_SERIAL = 1 << 16  # elements of an elementwise loop below which waking threads takes longer than the loop
_OPTIONS = {"error_model": "numpy", "nogil": True, "cache": True, "no_cfunc_wrapper": True}  # C calls none
NOTHING = {np.dtype(T): np.empty(0, T) for T in (np.float32, np.float64)}  # in place of arrays that are not there
dispatchers = []  # all that there are, for who counts what was compiled (kdl/warmup.py)


def jit(function=None, *, parallel=True, reassociate=False, serial_below=0):
    """Compile a loop; with `reassociate`, sums may be reordered (not NaN or inf handling) so that they vectorise.

    Threads share the loops over prange. The calling thread runs them alone where no threads are at hand, where the
    first array has fewer than `serial_below` elements (sleeping threads take 30 to 90 us to wake), and by `.alone`.
    With `parallel` false there are no such loops, and other kernels may call this one.
    """
    if function is None:
        return lambda function: jit(function, parallel=parallel, reassociate=reassociate, serial_below=serial_below)
    if not parallel:
        return _compiled(function, reassociate)
    kernel = _Shared(function, reassociate)

    @wraps(function)
    def launch(*args):
        if (serial_below and args[0].size < serial_below) or threads.none:
            kernel.call(*ALONE, *args)
        else:
            kernel.call(*team(), *args)
    launch.alone = lambda *args: kernel.call(*ALONE, *args)
    return launch


class _Shared:
    """A kernel with loops over prange; `call` makes it at first, and takes what says who runs them, then arguments."""

    def __init__(self, function, reassociate=False):
        self.call, self.function, self.reassociate = self._make, function, reassociate

    def _make(self, *args):
        self.call = _compiled(outlined(self.function), self.reassociate)
        self.call(*args)


def _compiled(function, reassociate):
    kernel = njit(function, fastmath=_SAFE | {"reassoc"} if reassociate else _SAFE, **_OPTIONS)
    dispatchers.append(kernel)
    return kernel


def device_function(function):
    """Compile a scalar function for use inside kernels; always inlined, and never reassociated."""
    return njit(function, fastmath={"contract"}, error_model="numpy", forceinline=True, no_cfunc_wrapper=True)


def widened(*outputs):
    """Let a kernel for float32 and float64 take float16 and bfloat16 too, by way of float32 copies.

    `outputs` names the arrays that the kernel fills.
    """
    def bind(kernel):
        names = list(inspect.signature(kernel).parameters)
        positions = [names.index(name) for name in outputs]

        @wraps(kernel)
        def launch(*args):
            for a in args:
                if type(a) is ndarray and a.itemsize == 2:
                    break
            else:
                return kernel(*args)
            halves = [type(a) is ndarray and a.dtype in HALVES for a in args]
            wide = [a if not half else np.empty_like(a, np.float32) if i in positions else a.astype(np.float32)
                    for i, (a, half) in enumerate(zip(args, halves, strict=True))]
            kernel(*wide)
            for i in positions:
                if wide[i] is not args[i]:
                    args[i][...] = wide[i]
        return launch
    return bind


def elementwise(*outputs):
    """A kernel written as one loop over flat arrays: takes any shape and layout, and halves by way of float32.

    The loop gets its arrays flat, in memory order, and its parameters in the arrays' dtype.
    """
    def bind(loop):
        kernel = _Shared(loop)

        @wraps(loop)
        def launch(first, *others):
            dtype = first.dtype
            if dtype.itemsize == 2:
                widened_launch(first, *others)
                return
            flat = [first.ravel("K")]
            for a in others:  # not a comprehension, which would take 0.2 us more, of 0.7
                flat.append(a.ravel("K") if type(a) is ndarray else dtype.type(a))
            kernel.call(*(ALONE if first.size < _SERIAL or threads.none else team()), *flat)
        widened_launch = widened(*outputs)(launch)
        return launch
    return bind
