"""x[key] and x[key] = value: what a key of ints, slices, None, Ellipsis, integer arrays and boolean masks selects.

A key is taken in two steps, as torch does: first its ints, slices and None, which give a view, then its integer and
boolean arrays, which select from that view and give a copy. The dimensions that arrays index come out where the first
of them stood, or in front when a slice stands between them. In the gradient an element that was selected more than
once gets the sum. Selecting by whole index tensors (gather, scatter, index_select, ...) stands in `select.py`.
"""
import math
from operator import index as as_int

import numpy as np

from kdl import kernels, types
from kdl.autograd import Function, is_grad_enabled
from kdl.errors import expect_type
from kdl.ops.common import assign_, unbroadcast
from kdl.ops.creation import tensor
from kdl.ops.shape import Slice
from kdl.tensor import Tensor, array_module, method

__all__ = []


# --- reading ---
@method(names=["__getitem__"])
def getitem(input, key):
    """The selected elements: a view where the key has no arrays, a copy otherwise. Raises IndexError, ValueError."""
    items = key if type(key) is tuple else (key,)
    for k in items:
        if not (type(k) is int or k is None or k is Ellipsis or (type(k) is slice and k.step is None)):
            break
    else:
        try:
            return Slice(items if Ellipsis in items else (*items, ...))(input)
        except (IndexError, TypeError):
            pass  # what follows says it more clearly
    basic, advanced = _two_steps(input.array, key)
    y = input if basic is None else Slice(basic)(input)
    return y if advanced is None else Select(advanced)(y)


class Select(Function):
    """y = x[key] for a key of integer arrays, masks and full slices; gx = 0 with gy added where it was selected."""

    def __init__(self, key):
        self.key = key

    def forward(self, x):
        self.shape = x.shape
        y = x[self.key]
        if self.needs_input_grad[0]:
            self.key = _kept(self.key)
        return y

    def backward(self, gy, wanted):
        arrays = [d for d, k in enumerate(self.key) if not isinstance(k, slice)]
        if all(self.key[d].dtype == types.boolean for d in arrays):
            gx = self.k.zeros(self.shape, gy.dtype)
            gx[self.key] = gy  # a mask selects nothing twice
            return gx
        if len(arrays) == 1:
            dim, = arrays
            return add_slices(self.k, self.shape, dim, _from_front(self.k.xp, self.key[dim], self.shape[dim]), gy)
        return add_at(self.k, self.shape, _positions(self.k.xp, self.shape, self.key), gy)


def _kept(advanced):
    """Copies of the index arrays, for the caller may change them before backward."""
    return advanced and tuple([k if isinstance(k, slice) else k.copy() for k in advanced])


def add_slices(k, shape, dim, index, values, source=None):
    """Zeros of the shape, with the slices of `values` added at positions of dim, in order where one recurs.

    With source it is its slices at these positions, as many as the index has.
    """
    outer, inner = math.prod(shape[:dim]), math.prod(shape[dim + 1:])
    slices = index.size if source is None else values.shape[dim]
    values = k.xp.ascontiguousarray(values).reshape(outer, slices, inner)
    total = k.zeros((outer, shape[dim], inner), values.dtype)
    if k.xp is np:
        k.add_slices(index.reshape(-1), source, values, total)
    else:
        _add_sorted(k.xp, index.reshape(-1), values if source is None else values.take(source, 1), total)
    return total.reshape(shape)


def add_at(k, shape, positions, values):
    """`add_slices` of single elements at flat positions."""
    return add_slices(k, (math.prod(shape),), 0, positions, values).reshape(shape)


def reduce_at(xp, ufunc, y, index, values):
    """y[i] = f(y[i], v) for every position i of a 1-D index and its value v, in place."""
    if xp is np:
        getattr(np, ufunc).at(y, index, values)
    elif index.size:
        rows, reduced = _runs(xp, ufunc, index, values.reshape(1, -1, 1))
        y[rows] = getattr(xp, ufunc)(y[rows], reduced.reshape(-1))


def _add_sorted(xp, index, values, total):
    """`add_slices` in CuPy, whose add.at is atomic and so adds in another order each time."""
    if index.size:
        wide = values.astype(np.float32) if values.dtype in types.HALVES else values
        rows, sums = _runs(xp, "add", index, wide)
        total[:, rows] = sums


def _runs(xp, ufunc, index, values):
    """The different positions in order, and for each f of all the slices of `values` (outer, n, inner) that have it.

    Slices of one position are brought together; then each takes in what stands 1, 2, 4, ... places on, so that the
    first of every run ends with the whole run.
    """
    order = xp.argsort(index, kind="stable")
    rows, reduced, f = index[order], values[:, order], getattr(xp, ufunc)
    first = xp.flatnonzero(xp.concatenate([xp.ones(1, bool), rows[1:] != rows[:-1]]))
    longest = int(xp.max(xp.concatenate([first[1:], xp.asarray([rows.size])]) - first))
    step = 1
    while step < longest:
        same = (rows[step:] == rows[:-step])[:, None]
        reduced[:, :-step] = xp.where(same, f(reduced[:, :-step], reduced[:, step:]), reduced[:, :-step])
        step *= 2
    return rows[first], reduced[:, first]


def _from_front(xp, index, n):
    """Positions counted from 0, as int64, where negative ones count from the end."""
    index = index.astype(np.int64)
    return xp.where(index < 0, index + n, index)


def strides_of(shape):
    """Elements between neighbours along each dimension of a contiguous array."""
    return [math.prod(shape[d + 1:]) for d in range(len(shape))]


def along(xp, n, dim, ndim):
    """0 to n - 1 along one dimension of ndim."""
    return xp.arange(n).reshape([n if d == dim else 1 for d in range(ndim)])


def _positions(xp, shape, key):
    """The flat positions that x[key] selects from a contiguous x of the shape."""
    strides = strides_of(shape)
    flat, dim, arrays = 0, 0, []
    for k in key:
        for part in (k,) if isinstance(k, slice) or k.dtype != types.boolean else xp.nonzero(k):
            if not isinstance(part, slice):
                arrays.append(dim)
                flat = flat + _from_front(xp, part, shape[dim]) * strides[dim]
            dim += 1
    others = [d for d in range(len(shape)) if d not in arrays]
    adjacent = arrays == list(range(arrays[0], arrays[0] + len(arrays)))
    before = arrays[0] if adjacent else 0  # how many of the others come out in front of the arrays' dimensions
    ndim = len(others) + flat.ndim
    flat = flat.reshape((1,) * before + flat.shape + (1,) * (len(others) - before))
    for i, d in enumerate(others):
        flat = flat + along(xp, shape[d], i if i < before else ndim - len(others) + i, ndim) * strides[d]
    return flat


# --- writing ---
@method(names=["__setitem__"])
def setitem(input, key, value):
    """Write a number, tensor or array, broadcast to the selected elements; where two meet, the last one stays.

    Raises IndexError, ValueError, TypeError before anything is written, RuntimeError where a leaf or a view would have
    to be recorded.
    """
    expect_type(isinstance(value, (Tensor, np.ndarray, np.generic, bool, int, float))
                or hasattr(value, "__cuda_array_interface__"), "setitem", "a tensor, an array or a number",
                value=type(value).__name__)
    basic, advanced = _two_steps(input.array, key)
    if is_grad_enabled() and (input.requires_grad or (isinstance(value, Tensor) and value.requires_grad)):
        if isinstance(value, Tensor) and value.array.dtype != input.array.dtype:
            value = value.to(input.array.dtype)
        assign_(input, Assign(basic, advanced)(input, value))
        return
    value = value.array if isinstance(value, Tensor) else value
    kernels.of(input.array, value)
    _write(input.array, basic, advanced, value)
    input.version[0] += 1


class Assign(Function):
    """y = x with y[key] = v; gx = gy with 0 there, gv = gy[key] summed to the shape of v."""

    def __init__(self, basic, advanced):
        self.key = basic, advanced

    def forward(self, x, v):
        self.shape = getattr(v, "shape", ())
        y = x.copy()
        _write(y, *self.key, v)
        self.key = self.key[0], _kept(self.key[1])
        return y

    def backward(self, gy, wanted):
        gx = gv = None
        if wanted[0]:
            gx = gy.copy()
            _write(gx, *self.key, 0)
        if wanted[1]:
            basic, advanced = self.key
            gv = gy if basic is None else gy[basic]
            gv = gv if advanced is None else gv[advanced]
            gv = unbroadcast(gv, self.shape[max(len(self.shape) - gv.ndim, 0):]).reshape(self.shape)
        return gx, gv


def _write(array, basic, advanced, value):
    """array[basic][advanced] = value. Raises ValueError where that does not fit."""
    target = array if basic is None else array[basic]
    while getattr(value, "shape", ())[:1] == (1,):
        value = value[0]  # NumPy refuses leading dimensions of length 1 when it writes through a mask
    try:
        with np.errstate(all="ignore"):
            target[... if advanced is None else advanced] = value
    except (ValueError, OverflowError) as error:
        shape = target.shape if advanced is None else target[advanced].shape
        raise ValueError(f"setitem: expected a value that can be stored in {shape} elements of {array.dtype}, got "
                         f"{getattr(value, 'shape', value)}: {error}") from None


# --- what a key means ---
def _two_steps(array, key):
    """The key as (ints, slices and None; arrays and full slices), each as a tuple or None where it selects everything.

    Raises IndexError, ValueError, TypeError.
    """
    shape = array.shape
    items = [_item(k) for k in (key if isinstance(key, tuple) else (key,))]
    used = sum([_dimensions(k) for k in items])
    if used > len(shape):
        raise IndexError(f"index: expected at most {len(shape)} indices for shape {shape}, got {used}")
    if Ellipsis not in [k if k is Ellipsis else None for k in items]:
        items.append(Ellipsis)
    basic, advanced, dim = [], [], 0  # advanced: one entry per dimension that the basic key leaves
    for k in items:
        if isinstance(k, bool) or k is None:
            basic.append(None)
            advanced.append(slice(None) if k is None else np.zeros(int(k), np.int64))
        elif isinstance(k, int):
            if not -shape[dim] <= k < shape[dim]:
                raise IndexError(f"index: expected one in [{-shape[dim]}, {shape[dim] - 1}] for dim {dim}, got {k}")
            basic.append(k)
        elif isinstance(k, slice):
            basic.append(k)
            advanced.append(slice(None))
        else:
            spans = len(shape) - used if k is Ellipsis else _dimensions(k)
            basic += [slice(None)] * spans
            if k is Ellipsis:
                advanced += [slice(None)] * spans
                dim += spans
            else:
                _check_array(k, shape, dim)
                advanced.append(k)
        dim += _dimensions(k)
    if dim != len(shape):
        raise IndexError(f"index: expected at most one Ellipsis, got {key}")
    arrays = [k for k in advanced if not isinstance(k, slice)]
    if not arrays:
        return (*basic, ...), None
    _check_broadcast(arrays)
    if type(array) is not np.ndarray:
        advanced = [k if isinstance(k, slice) else array_module(array).asarray(k) for k in advanced]
    return None if all(k == slice(None) for k in basic) else (*basic, ...), tuple(advanced)


def _item(k):
    """One item of a key as an int, bool, slice, None, Ellipsis or an array with dimensions. Raises TypeError etc."""
    if k is None or k is Ellipsis or isinstance(k, (bool, int)):
        return k
    if isinstance(k, slice):
        if k.step is not None and as_int(k.step) <= 0:
            raise ValueError(f"index: expected a slice with a step above 0, got {k}; use .flip(...)")
        return k
    if isinstance(k, (list, tuple, range)):
        k = tensor(k).array if len(k) else np.zeros(0, np.int64)
    elif isinstance(k, Tensor):
        if k.array.dtype in (types.uint8, types.int8, types.int16):
            raise IndexError(f"index: expected an index tensor of int32, int64 or bool, got {k.array.dtype}; "
                             "use .bool() for a mask or .long() for positions")
        k = k.array
    if not hasattr(k, "dtype") or k.dtype.kind not in "iub":
        raise IndexError("index: expected ints, slices, None, Ellipsis and tensors of integers or booleans, got "
                         f"{getattr(k, 'dtype', type(k).__name__)}")
    if k.ndim == 0:
        return bool(k) if k.dtype == types.boolean else int(k)
    return k


def _dimensions(k):
    """How many dimensions of the tensor an item of the key stands for."""
    if k is None or k is Ellipsis or isinstance(k, bool):
        return 0
    return k.ndim if getattr(k, "dtype", None) == types.boolean else 1


def _check_array(k, shape, dim):
    """Raise IndexError for a mask of the wrong shape or positions out of range."""
    if k.dtype == types.boolean:
        if k.shape != shape[dim:dim + k.ndim]:
            raise IndexError(f"index: expected a mask of shape {shape[dim:dim + k.ndim]} for dimension {dim}, "
                             f"got {k.shape}")
    elif k.size and not (-shape[dim] <= k.min() and k.max() < shape[dim]):
        raise IndexError(f"index: expected indices in [{-shape[dim]}, {shape[dim] - 1}] for dimension {dim}, "
                         f"got {k.min()} to {k.max()}")


def _check_broadcast(arrays):
    """Raise IndexError unless the index arrays broadcast; a mask counts as the positions that it selects."""
    if len(arrays) < 2:
        return
    shapes = [(int(k.sum()),) if k.dtype == types.boolean else k.shape for k in arrays]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        raise IndexError(f"index: expected index tensors that broadcast, got shapes {shapes}") from None
