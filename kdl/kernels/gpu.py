"""NumPy's functions for GPU arrays: the `xp` of the `cuda` namespace.

Those that a training step calls stand here and run compiled kernels; every other one is CuPy's own, which compiles a
kernel at its first use. Arguments these kernels do not cover (other dtypes, another order) go to CuPy too.
"""
import builtins
import math

import cupy
import numpy as np

from kdl.kernels import cuda
from kdl.types import FLOATS, HALVES, boolean, float32, int32, int64, uint8

_ARITHMETIC = FLOATS | {int64}
_KERNEL_DTYPES = FLOATS | {int32, int64, uint8, boolean}


# --- arithmetic ---
def _binary(name, kernel, dtypes, result=None):
    """x op y for arrays of one dtype and numbers of its kind, by the kernel; anything else by CuPy."""
    def function(x, y, out=None):
        array = x if isinstance(x, cupy.ndarray) else y
        if not all(_fits(v, array.dtype) for v in (x, y)) or array.dtype not in dtypes or (
                out is not None and out.dtype != (result or array.dtype)):
            return getattr(cupy, name)(x, y, out=out)
        if out is None:
            out = _empty_for(x, y, result or array.dtype)
        cuda.functions()[kernel](x, y, out)
        return out
    function.__name__ = function.__qualname__ = name
    return function


def _fits(operand, dtype):
    if isinstance(operand, cupy.ndarray):
        return operand.dtype == dtype
    return isinstance(operand, (int, float) if dtype in FLOATS else int)


def _empty_for(x, y, dtype):
    """The array of a result: in the memory order of an operand that has its shape."""
    shapes = [v.shape for v in (x, y) if isinstance(v, cupy.ndarray)]
    shape = np.broadcast_shapes(*shapes)
    for v in (x, y):
        if isinstance(v, cupy.ndarray) and v.shape == shape:
            return cupy.empty_like(v, dtype=dtype)
    return cupy.empty(shape, dtype)


add = _binary("add", "add", _ARITHMETIC)
subtract = _binary("subtract", "subtract", _ARITHMETIC)
multiply = _binary("multiply", "multiply", _ARITHMETIC)
true_divide = divide = _binary("true_divide", "divide", FLOATS)
equal = _binary("equal", "equal", _KERNEL_DTYPES, boolean)
not_equal = _binary("not_equal", "not_equal", _KERNEL_DTYPES, boolean)


def negative(x):
    """-x."""
    return multiply(x, -1) if x.dtype in _ARITHMETIC else cupy.negative(x)


# --- copies, casts, constants ---
def copyto(dst, src, casting="same_kind"):
    """dst[...] = src, an array that broadcasts or a number."""
    if not isinstance(src, cupy.ndarray):
        _fill(dst, src)
    elif src.dtype == dst.dtype and src.flags.c_contiguous and dst.flags.c_contiguous and src.shape == dst.shape:
        dst.data.copy_from_device_async(src.data, src.nbytes, cupy.cuda.get_current_stream())
    elif src.dtype in _KERNEL_DTYPES and dst.dtype in _KERNEL_DTYPES:
        cuda.functions()["copy"](src, dst)
    else:
        cupy.copyto(dst, src, casting)


def array(obj, dtype=None, copy=True, order="K"):
    """A copy on the device, cast, in the memory order of `obj` ("K") or contiguous ("C")."""
    if not isinstance(obj, cupy.ndarray):
        return cupy.array(obj, dtype, copy=copy, order=order)
    y = cupy.empty_like(obj, dtype=dtype, order=order)
    copyto(y, obj, "unsafe")
    return y


def asarray(obj, dtype=None):
    """The array itself, or a copy where it is elsewhere or has another dtype."""
    if not isinstance(obj, cupy.ndarray):
        return cupy.asarray(obj, dtype)
    return obj if dtype is None or obj.dtype == dtype else array(obj, dtype)


def ascontiguousarray(obj, dtype=None):
    """The array itself where it is contiguous and of the dtype, or a copy that is."""
    if not isinstance(obj, cupy.ndarray):
        return cupy.ascontiguousarray(obj, dtype)
    dtype = obj.dtype if dtype is None else np.dtype(dtype)
    return obj if obj.flags.c_contiguous and obj.dtype == dtype else array(obj, dtype, order="C")


def full(shape, fill_value, dtype):
    """An array of one value."""
    y = cupy.empty(shape, dtype)
    copyto(y, fill_value)
    return y


def full_like(prototype, fill_value, dtype=None):
    """An array of one value, in the shape, the dtype and the memory order of another."""
    y = cupy.empty_like(prototype, dtype=dtype)
    copyto(y, fill_value)
    return y


def zeros_like(prototype, dtype=None):
    """Zeros in the shape, the dtype and the memory order of another array."""
    return full_like(prototype, 0, dtype)


def ones(shape, dtype):
    """An array of ones."""
    return full(shape, 1, dtype)


def ones_like(prototype, dtype=None):
    """Ones in the shape, the dtype and the memory order of another array."""
    return full_like(prototype, 1, dtype)


def _fill(y, value):
    if value == 0 and y.flags.c_contiguous and math.copysign(1, value) > 0:
        y.data.memset_async(0, y.nbytes, cupy.cuda.get_current_stream())
    elif y.dtype in _KERNEL_DTYPES and isinstance(value, (int, float)):
        cuda.functions()["fill"](y, value if y.dtype in FLOATS or y.dtype == boolean else int(value))
    else:
        y.fill(value)


# --- joins and rows ---
def concatenate(arrays, axis=0):
    """Arrays of one dtype, one after the other."""
    axis %= arrays[0].ndim
    lengths = [a.shape[axis] for a in arrays]
    before, after = arrays[0].shape[:axis], arrays[0].shape[axis + 1:]
    y = cupy.empty((*before, builtins.sum(lengths), *after), arrays[0].dtype)
    start = 0
    for a, length in zip(arrays, lengths, strict=True):
        copyto(y[(slice(None),) * axis + (slice(start, start + length),)], a)
        start += length
    return y


def stack(arrays, axis=0):
    """Arrays of one shape and dtype along a new dimension."""
    return concatenate([cupy.expand_dims(a, axis) for a in arrays], axis)


def take(a, indices, axis=None):
    """Elements by index along a dimension; an index out of range wraps around, as CuPy's does."""
    if axis != 0 or a.dtype not in _KERNEL_DTYPES or not a.flags.c_contiguous or a.ndim == 0 or a.size == 0:
        return cupy.take(a, indices, axis)
    indices = ascontiguousarray(indices, int64)
    y = cupy.empty(indices.shape + a.shape[1:], a.dtype)
    columns = math.prod(a.shape[1:])
    cuda.functions()["take"](a.reshape(-1, columns), indices.reshape(-1), y.reshape(-1, columns))
    return y


# --- reductions ---
def sum(a, axis=None, dtype=None, keepdims=False):
    """Sums over dimensions; float16 and bfloat16 are added in float32, integers and bools in int64."""
    whole = int64 if a.dtype not in FLOATS else a.dtype
    dtype = whole if dtype is None else np.dtype(dtype)
    if a.dtype not in _KERNEL_DTYPES or (dtype != whole and not (a.dtype in HALVES and dtype == float32)):
        return cupy.sum(a, axis, dtype, keepdims=keepdims)
    return _reduced("sum", a, axis, dtype, keepdims)


def max(a, axis=None, keepdims=False):
    """The largest elements over dimensions; NaN where there is one."""
    if a.dtype not in _KERNEL_DTYPES or a.size == 0:
        return cupy.max(a, axis, keepdims=keepdims)
    return _reduced("max", a, axis, a.dtype, keepdims)


def min(a, axis=None, keepdims=False):
    """The smallest elements over dimensions; NaN where there is one."""
    if a.dtype not in _ARITHMETIC or a.size == 0:
        return cupy.min(a, axis, keepdims=keepdims)
    return negative(max(negative(a), axis, keepdims))


def argmax(a, axis=None, keepdims=False):
    """Where the largest elements lie, the first of equal ones; along one dimension, or in the flattened array."""
    if a.dtype not in _KERNEL_DTYPES or a.size == 0:
        return cupy.argmax(a, axis, keepdims=keepdims)
    return _reduced("argmax", a, axis, int64, keepdims)


def count_nonzero(a):
    """How many elements are nonzero."""
    return sum(a if a.dtype == boolean else not_equal(a, 0))


def _reduced(kernel, a, axis, dtype, keepdims):
    axes = range(a.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = {d % a.ndim for d in axes}
    y = cupy.empty([1 if d in axes else n for d, n in enumerate(a.shape)], dtype)
    cuda.functions()[kernel](a, y)
    return y if keepdims else y.reshape([n for d, n in enumerate(a.shape) if d not in axes])


def __getattr__(name):
    return getattr(cupy, name)
