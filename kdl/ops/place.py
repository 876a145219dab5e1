"""Copies of a tensor with something put in its place: index_put, index_copy, masked_scatter, slice_scatter, ...

The gradient of what was put is read from where it was put; what was overwritten gets none. Of several values put in
one place the last stays, or they are reduced: added, multiplied, averaged or compared. Functions whose name ends in an
underscore write into the tensor itself.
"""
import math

import numpy as np

from kdl import types
from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, assign_, dimension, unbroadcast
from kdl.ops.indexing import add_at, getitem, reduce_at, setitem
from kdl.ops.pointwise import in_place
from kdl.ops.select import along_positions, check_mask, slices
from kdl.tensor import Tensor, array_module, method

__all__ = ["diagonal_scatter", "index_copy", "index_put", "index_reduce", "masked_scatter", "put", "scatter_reduce",
           "select_scatter", "slice_scatter"]


# --- what stays is the last ---
@method
def index_put(input, indices, values, accumulate=False):
    """A copy of the input with y[indices] = values, or with accumulate, values added there, all of those that meet.

    Shapes: index tensors broadcast, and values to what they select. Raises IndexError, ValueError, TypeError.
    """
    array_of("index_put", input)
    array_of("index_put", values, "values")
    expect_type(isinstance(indices, (tuple, list)), "index_put", "a tuple of index tensors",
                indices=type(indices).__name__)
    expect_type(values.dtype == input.dtype, "index_put", "values of the input's dtype", values=values.dtype,
                input=input.dtype)
    if not accumulate:
        return _written(input, tuple(indices), values)
    xp = array_module(input.array)
    positions = getitem(Tensor(xp.arange(input.array.size).reshape(input.shape)), tuple(indices))
    return PutAdd()(input, positions, values)


@method
def put(input, index, source, accumulate=False):
    """A copy of the input with source put (or added) at positions of the flattened input; negative ones count back.

    Shapes: index and source have as many elements. Raises IndexError, ValueError, TypeError.
    """
    array = array_of("put", input)
    expect(array_of("put", index, "index").size == array_of("put", source, "source").size, "put",
           "as many positions as elements of source", index=index, source=source)
    return index_put(input.reshape(-1), (index.reshape(-1),), source.reshape(-1), accumulate).reshape(array.shape)


@method
def index_copy(input, dim, index, source):
    """A copy of the input with slice index[i] of the dimension replaced by source[i].

    Raises IndexError, ValueError, TypeError.
    """
    dim, index = slices("index_copy", input, dim, index)
    array, source_array = input.array, array_of("index_copy", source, "source")
    expect_type(source_array.dtype == array.dtype, "index_copy", "source of the input's dtype",
                source=source_array.dtype, input=array.dtype)
    if array.ndim == 0:
        return index_copy(input.reshape(1), 0, index, source.reshape(-1)).reshape(())
    expected = (*array.shape[:dim], index.array.size, *array.shape[dim + 1:])
    expect(source_array.shape == expected, "index_copy", f"source of shape {expected}", source=source, input=input,
           index=index)
    return _written(input, (*[slice(None)] * dim, index), source)


@method
def masked_scatter(input, mask, source):
    """A copy of the input with the elements of source, in order, where the mask holds; mask and input broadcast.

    Raises TypeError for a mask that is not boolean, ValueError for a source with too few elements.
    """
    shape = check_mask("masked_scatter", input, mask)
    mask = mask.expand(shape)
    n = int(mask.array.sum())
    expect(array_of("masked_scatter", source, "source").size >= n, "masked_scatter", f"a source of {n} elements",
           source=source)
    expect_type(source.dtype == input.dtype, "masked_scatter", "source of the input's dtype", source=source.dtype,
                input=input.dtype)
    return _written(input.expand(shape), (mask,), source.reshape(-1)[:n])


@method
def select_scatter(input, src, dim, index):
    """A copy of the input with src in the place of `input.select(dim, index)`. Raises IndexError, ValueError."""
    dim = dimension("select_scatter", dim, array_of("select_scatter", input).ndim)
    return _replaced("select_scatter", input, (*[slice(None)] * dim, index), src)


@method
def slice_scatter(input, src, dim=0, start=None, end=None, step=1):
    """A copy of the input with src in the place of input[start:end:step] of the dimension.

    Raises IndexError, ValueError.
    """
    dim = dimension("slice_scatter", dim, array_of("slice_scatter", input).ndim)
    expect(isinstance(step, int) and step > 0, "slice_scatter", "step above 0", step=step)
    return _replaced("slice_scatter", input, (*[slice(None)] * dim, slice(start, end, step)), src)


@method
def diagonal_scatter(input, src, offset=0, dim1=0, dim2=1):
    """A copy of the input with src in the place of `input.diagonal(offset, dim1, dim2)`.

    Raises IndexError, ValueError.
    """
    target = input.diagonal(offset, dim1, dim2)
    n = target.shape[-1]
    xp = array_module(input.array)
    rows, columns = (Tensor(xp.arange(n) + max(shift, 0)) for shift in (-offset, offset))
    last = input.movedim((dim1, dim2), (-2, -1))
    return _replaced("diagonal_scatter", last, (..., rows, columns), src).movedim((-2, -1), (dim1, dim2))


@method
def fill_diagonal_(input, fill_value, wrap=False):
    """Put a number at (i, i, ...) of the input, all dimensions of one length where there are more than 2.

    `wrap` starts the diagonal again below a square where a matrix is higher than wide. Raises ValueError.
    """
    shape = array_of("fill_diagonal_", input).shape
    expect(len(shape) > 1 and (len(shape) == 2 or len(set(shape)) == 1), "fill_diagonal_",
           "a matrix, or dimensions of one length", input=input)
    if 0 in shape:
        return input
    step = sum(math.prod(shape[d + 1:]) for d in range(len(shape)))
    end = math.prod(shape) if wrap and len(shape) == 2 else min(shape) * step
    positions = Tensor(array_module(input.array).arange(0, min(end, math.prod(shape)), step))
    return assign_(input, put(input, positions, input.detach().new_full(positions.shape, fill_value)))


def _replaced(op, input, key, src):
    """`_written` for a src of exactly the shape that is replaced."""
    target = getitem(input, key)
    expect(array_of(op, src, "src").shape == target.array.shape, op, f"src of shape {tuple(target.shape)}", src=src,
           input=input)
    return _written(input, key, src)


def _written(input, key, values):
    y = input.clone()
    setitem(y, key, values)
    return y


# --- all that meet are reduced ---
class PutAdd(Function):
    """y = x with v added at flat positions; gx = gy, gv = gy there, summed to the shape of v."""

    def forward(self, x, positions, v):
        self.positions, self.shape = positions, v.shape
        return x + add_at(self.k, x.shape, positions, self.k.xp.broadcast_to(v, positions.shape))

    def backward(self, gy, wanted):
        return gy, None, unbroadcast(gy.reshape(-1)[self.positions], self.shape) if wanted[2] else None


@method
def scatter_reduce(input, dim, index, src, reduce, *, include_self=True):
    """For dim 0: y[index[i, j, k], j, k] = the sum, product, ... of all src[i, j, k] that go there.

    `reduce` is "sum", "prod", "mean", "amax" or "amin"; with include_self the input's element counts among them.
    Places that nothing goes to keep their element. Raises IndexError, ValueError, TypeError.
    """
    expect(reduce in _REDUCTIONS, "scatter_reduce", f"reduce one of {', '.join(_REDUCTIONS)}", reduce=reduce)
    x, i, s = (array_of("scatter_reduce", t, name) for t, name in ((input, "input"), (index, "index"), (src, "src")))
    expect_type(s.dtype == x.dtype, "scatter_reduce", "src of the input's dtype", src=s.dtype, input=x.dtype)
    if not i.size:
        return input.clone()
    expect(s.ndim == i.ndim and all(a <= b for a, b in zip(i.shape, s.shape, strict=True)), "scatter_reduce",
           "src with at least the lengths of the index", src=s, index=i)
    positions = along_positions("scatter_reduce", input, dim, index)
    source = src[tuple([slice(n) for n in i.shape])] if i.ndim else src
    dtype = x.dtype
    compute = types.float32 if dtype in types.HALVES else dtype
    return ScatterReduce(reduce, include_self)(input.to(compute), positions, source.to(compute)).to(dtype)


@method
def index_reduce(input, dim, index, source, reduce, *, include_self=True):
    """`scatter_reduce` of whole slices: source[i] goes to slice index[i] of the dimension; reduce is not "sum".

    Raises IndexError, ValueError, TypeError.
    """
    expect(reduce != "sum", "index_reduce", "reduce one of prod, mean, amax, amin; use index_add", reduce=reduce)
    dim, index = slices("index_reduce", input, dim, index)
    shape = input.array.shape
    expected = (*shape[:dim], index.array.size, *shape[dim + 1:]) if shape else ()
    expect(array_of("index_reduce", source, "source").shape == expected, "index_reduce",
           f"source of shape {expected}", source=source, input=input, index=index)
    everywhere = index.reshape(-1, *[1] * (len(shape) - dim - 1)).expand(expected) if shape else index.reshape(())
    return scatter_reduce(input, dim, everywhere, source, reduce, include_self=include_self)


_REDUCTIONS = {"sum": "add", "prod": "multiply", "mean": "add", "amax": "maximum", "amin": "minimum"}


class ScatterReduce(Function):
    """y = f(x_i, s_j, ...) over the s that go to i; each of them, and x_i where it counts, gets its share of gy.

    sum: gy; mean: gy / how many; amax and amin: gy / how many equal y; prod: gy times the product of the others.
    """

    def __init__(self, reduce, include_self):
        self.reduce, self.include_self = reduce, include_self

    def forward(self, x, positions, s):
        xp, reduce = self.k.xp, self.reduce
        self.x, self.positions, self.s = x, positions, s
        self.count = add_at(self.k, x.shape, positions, xp.ones(s.shape, types.int64))
        start = x.copy(order="C")
        if not self.include_self:
            neutral = {"prod": 1, "amax": _lowest(x.dtype), "amin": _highest(x.dtype)}.get(reduce, 0)
            start[self.count > 0] = neutral
        y = start.reshape(-1)
        reduce_at(xp, _REDUCTIONS[reduce], y, positions.reshape(-1), s.reshape(-1))
        y = y.reshape(x.shape)
        if reduce == "mean":
            many = xp.maximum(self.count + self.include_self, 1)
            y = (y / many).astype(x.dtype) if x.dtype.kind == "f" else y // many
        self.y = y
        return y

    def backward(self, gy, wanted):
        xp, x, s, positions = self.k.xp, self.x, self.s, self.positions.reshape(self.s.shape)
        counts = xp.full(x.shape, True, types.boolean) if self.include_self else self.count == 0
        if self.reduce == "prod":
            gx, gs = self._of_products(gy, counts)
        else:
            share = gy
            if self.reduce == "mean":
                share = gy / xp.maximum(self.count + self.include_self, 1)
            hit_x, hit_s = counts, xp.full(s.shape, True, types.boolean)
            if self.reduce in ("amax", "amin"):
                hit_x, hit_s = counts & (x == self.y), s == self.y.reshape(-1)[positions]
                equal = hit_x + add_at(self.k, x.shape, positions, hit_s.astype(types.int64))
                share = gy / equal
            gx = xp.where(hit_x, share, 0)
            gs = xp.where(hit_s, share.reshape(-1)[positions], 0)
        return gx.astype(x.dtype), None, gs.astype(s.dtype)

    def _of_products(self, gy, counts):
        """gy y / factor for every factor; where one factor is 0, it alone gets the product of the others."""
        xp, x, s, positions = self.k.xp, self.x, self.s, self.positions.reshape(self.s.shape)
        own = xp.where(counts, x, 1)
        zeros = (own == 0) + add_at(self.k, x.shape, positions, (s == 0).astype(types.int64))
        rest = xp.where(own == 0, 1, own).reshape(-1)
        reduce_at(xp, "multiply", rest, positions.reshape(-1), xp.where(s == 0, 1, s).reshape(-1))
        rest, zeros = rest * gy.reshape(-1), zeros.reshape(-1)

        def gradient(factor, at):
            others = zeros[at] - (factor == 0)
            return xp.where(others > 0, 0, rest[at] / xp.where(factor == 0, 1, factor))
        gx = gradient(own, xp.arange(x.size).reshape(x.shape))
        return xp.where(counts, gx, 0), gradient(s, positions)


def _lowest(dtype):
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _highest(dtype):
    return np.inf if dtype.kind == "f" else np.iinfo(dtype).max


for _function in (index_put, put, index_copy, masked_scatter, scatter_reduce, index_reduce):
    method(names=[f"{_function.__name__}_"])(in_place(_function))
