"""How a CPU kernel is compiled and called: the counterpart of the CUDA launch helper.

A kernel is compiled at its first call for the dtypes it gets, float32 or float64, and kept on disk. Two rules keep
its loops vectorised: constants take the arrays' dtype (`T = x.dtype.type`, then `T(0.5)`: a bare 0.5 would turn float32
arithmetic into float64), and reductions ask for `reassociate`.
"""
import inspect
import os
from functools import wraps
from types import FunctionType

import numba
import numpy as np
from numba import njit, prange

from kdl.types import HALVES

__all__ = ["device_function", "elementwise", "jit", "prange", "widened"]

if numba.config.THREADING_LAYER == "default":
    # OpenMP first: it is thread-safe and wakes in 2 us, where workqueue takes 150 us and is not thread-safe
    numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]
if "OMP_WAIT_POLICY" not in os.environ:
    # Idle threads of GNU OpenMP spin for about 10 ms by default and so keep the BLAS threads from running: a 512^3
    # product after a parallel loop took 7.2 ms instead of 1.0. With a short spin it takes 1.06, and waking stays 2 us.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# Keeps NaN and inf. Not 'reassoc', which is for reductions only (it would undo compensated arithmetic), and
# error_model='numpy' because a division that may raise cannot be vectorised.
_SAFE = {"contract", "nsz", "arcp"}
_OPTIONS = {"error_model": "numpy", "nogil": True, "cache": True}


def jit(function=None, *, parallel=True, reassociate=False, serial_below=0):
    """Compile a loop; with `reassociate`, sums may be reordered (not NaN or inf handling) so that they vectorise.

    A call whose first array has fewer than `serial_below` elements runs in a serial copy: sleeping threads take 30 to
    90 us to wake.
    """
    if function is None:
        return lambda function: jit(function, parallel=parallel, reassociate=reassociate, serial_below=serial_below)
    if serial_below:
        copy = FunctionType(function.__code__, function.__globals__)
        copy.__qualname__ = f"{function.__qualname__}_serial"  # the disk cache goes by name
        serial, threaded = (jit(f, parallel=f is function, reassociate=reassociate) for f in (copy, function))

        @wraps(function)
        def launch(*args):
            return (serial if args[0].size < serial_below else threaded)(*args)
        return launch
    return njit(function, parallel=parallel, fastmath=_SAFE | {"reassoc"} if reassociate else _SAFE, **_OPTIONS)


def device_function(function):
    """Compile a scalar function for use inside kernels; always inlined, and never reassociated."""
    return njit(function, fastmath={"contract"}, error_model="numpy", forceinline=True)


def widened(*outputs):
    """Let a kernel for float32 and float64 take float16 and bfloat16 too, by way of float32 copies.

    `outputs` names the arrays that the kernel fills.
    """
    def bind(kernel):
        names = list(inspect.signature(kernel).parameters)
        positions = [names.index(name) for name in outputs]

        @wraps(kernel)
        def launch(*args):
            halves = [isinstance(a, np.ndarray) and a.dtype in HALVES for a in args]
            if True not in halves:
                return kernel(*args)
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
        compiled = jit(loop, serial_below=1 << 16)

        @widened(*outputs)
        @wraps(loop)
        def launch(*args):
            scalar = args[0].dtype.type
            compiled(*[a.ravel("K") if isinstance(a, np.ndarray) else scalar(a) for a in args])
        return launch
    return bind
