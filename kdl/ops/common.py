"""What the differentiable functions share: checking arguments, layouts, and in-place forms."""
import inspect
from functools import wraps
from operator import index

import numpy as np

from kdl import types
from kdl.autograd import is_grad_enabled
from kdl.autograd.autocast import active, mixes
from kdl.errors import describe
from kdl.tensor import Tensor, array_module, channels_to_end


def array_of(op, tensor, name="input"):
    """The array of a tensor. Raises TypeError for anything else."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{op}: expected {name} to be a Tensor, got {type(tensor).__name__}; use kdl.tensor(...)")
    return tensor.array


def floating(op, **tensors):
    """Check that all are tensors of one floating-point dtype; any but the first may be None. Raises TypeError."""
    first = None
    for name, x in tensors.items():
        if x is None and first is not None:
            continue
        if not isinstance(x, Tensor):
            raise TypeError(f"{op}: expected {name} to be a Tensor, got {type(x).__name__}; use kdl.tensor(...)")
        dtype = x.array.dtype
        if dtype not in types.FLOATS:
            raise TypeError(f"{op}: expected a floating-point {name}, got {dtype}; use {name}.float()")
        if first is None:
            first = dtype
        elif dtype != first and not (active and mixes(op)):
            dtypes = {name: x.dtype for name, x in tensors.items() if x is not None}
            raise TypeError(f"{op}: expected tensors of one dtype, got {describe(dtypes)}")


def ints(op, name, value, n):
    """A tuple of n ints from an int, n ints or a sequence of one, which are repeated. Raises TypeError, ValueError."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return (int(value),) * n
    if not isinstance(value, (tuple, list)) or not all(
            isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in value):
        raise TypeError(f"{op}: expected {name} to be an int or {n} ints, got {value!r}")
    if len(value) not in (1, n):
        raise ValueError(f"{op}: expected {name} to be an int or {n} ints, got {value!r}")
    return tuple(int(v) for v in value) if len(value) == n else (int(value[0]),) * n


def variadic(function):
    """Let f(input, ints) be called as f(x, 2, 3), f(x, (2, 3)) or with a keyword; it gets a tuple. Raises TypeError."""
    op, name = function.__name__, list(inspect.signature(function).parameters)[-1]

    @wraps(function)
    def call(input, *values, **keyword):
        if keyword:
            if values or list(keyword) != [name]:
                raise TypeError(f"{op}: unexpected keyword argument {next(iter(keyword))!r}")
            values = keyword[name],
        return function(input, together(op, name, values))
    return call


def together(op, name, values):
    """Ints given apart, (2, 3), or as one sequence, ((2, 3),), as a tuple of ints. Raises TypeError."""
    if len(values) == 1 and isinstance(values[0], (tuple, list)):
        values = values[0]
    try:
        return tuple(map(index, values))
    except TypeError:
        raise TypeError(f"{op}: expected {name} to be ints, got {values!r}") from None


def dimension(op, dim, ndim):
    """A dimension counted from 0; negative ones count from the end. A 0-d tensor has dimension 0. Raises IndexError."""
    n = max(ndim, 1)
    if not isinstance(dim, (int, np.integer)) or isinstance(dim, bool):
        raise TypeError(f"{op}: expected dim to be an int, got {dim!r}")
    if not -n <= dim < n:
        raise IndexError(f"{op}: expected dim in [{-n}, {n - 1}], got {dim}")
    return int(dim) % n


def dimensions(op, dims, ndim):
    """An int or several ints as a tuple of dimensions counted from 0, each once. Raises IndexError, ValueError."""
    dims = dims if isinstance(dims, (tuple, list)) else (dims,)
    found = tuple([dimension(op, d, ndim) for d in dims])
    if len(set(found)) != len(found):
        raise ValueError(f"{op}: expected every dim once, got {tuple(dims)} for {ndim} dimensions")
    return found


def is_channels_last(array):
    """Whether an (N, C, ...) array lies in memory as (N, ..., C), and not as (N, C, ...)."""
    return array.ndim in (4, 5) and not array.flags.c_contiguous and channels_to_end(array).flags.c_contiguous


def dense(array):
    """The array itself where it is contiguous or channels-last, as kernels want it; otherwise a contiguous copy."""
    if array.flags.c_contiguous or is_channels_last(array):
        return array
    return array_module(array).ascontiguousarray(array)


def laid_out(array, channels_last):
    """The array, or a copy of it, in channels-last or contiguous order."""
    if not channels_last:
        return array_module(array).ascontiguousarray(array)
    if is_channels_last(array):
        return array
    last = array_module(array).ascontiguousarray(channels_to_end(array))
    return last.transpose(0, last.ndim - 1, *range(1, last.ndim - 1))


def empty(k, shape, dtype, channels_last=False):
    """An uninitialised array of (N, C, ...) shape in channels-last or contiguous order."""
    if not channels_last:
        return k.empty(shape, dtype)
    last = k.empty((shape[0], *shape[2:], shape[1]), dtype)
    return last.transpose(0, last.ndim - 1, *range(1, last.ndim - 1))


def like(array, other):
    """The array, or a copy of it, in the memory order of the dense array `other`, as elementwise kernels want it."""
    if array.strides == other.strides or (array.flags.c_contiguous and other.flags.c_contiguous):
        return array
    copy = array_module(array).empty_like(other, dtype=array.dtype)
    array_module(array).copyto(copy, array)
    return copy


def unbroadcast(g, shape):
    """The gradient of an operand of that shape from that of what it was broadcast to: summed over the copies."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    repeated = [i for i in range(extra, g.ndim) if shape[i - extra] != g.shape[i]]
    return summed(g, (*range(extra), *repeated)).reshape(shape)


def summed(g, axes, keepdims=False):
    """The sum over the axes in the array's own dtype; halves are summed in float32."""
    xp = array_module(g)
    if g.dtype in types.HALVES:
        return xp.asarray(xp.sum(g, axes, dtype=np.float32, keepdims=keepdims), g.dtype)
    return xp.sum(g, axes, dtype=g.dtype, keepdims=keepdims)


def accumulated(xp, ufunc, x, axis):
    """f(x_0, ..., x_i) along the axis, for an associative ufunc; CuPy has no `accumulate`, and doubles its reach."""
    if xp is np:
        return getattr(np, ufunc).accumulate(x, axis)
    f, y, step = getattr(xp, ufunc), xp.moveaxis(x, axis, -1).copy(), 1
    while step < y.shape[-1]:
        y[..., step:] = f(y[..., :-step], y[..., step:])
        step *= 2
    return xp.moveaxis(y, -1, axis)


def assign_(input, result):
    """Make `input` hold `result`: what every in-place function does after computing out of place.

    Untracked tensors are written in place, and whoever shares the memory sees it. A computed tensor that is being
    recorded gets new memory instead, so that what earlier operations saved stays true. Raises RuntimeError for leaves
    that require grad and for recorded views.
    """
    if result.array.shape != input.array.shape:
        raise RuntimeError(f"in-place operation: the result has shape {tuple(result.shape)}, "
                           f"which does not fit into {tuple(input.shape)}")
    if types.category(result.dtype) > types.category(input.dtype):
        raise RuntimeError(f"in-place operation: a {result.dtype} result cannot be stored in a {input.dtype} tensor")
    if is_grad_enabled() and (input.requires_grad or result.requires_grad):
        if input.is_leaf and input.requires_grad:
            raise RuntimeError("in-place operation: a leaf that requires grad cannot be changed while recording; "
                               "use kdl.no_grad()")
        if input.is_view:
            raise RuntimeError("in-place operation: a view cannot be changed while recording; "
                               "use the out-of-place form")
        if result.dtype != input.dtype:
            result = result.to(input.dtype)
        input.array, input.version, input.is_view = result.array, [0], False
        input.grad_fn, input.output_index = result.grad_fn, result.output_index
        input.requires_grad = result.requires_grad
    else:
        array_module(input.array).copyto(input.array, result.array, casting="unsafe")
        input.version[0] += 1
    return input
