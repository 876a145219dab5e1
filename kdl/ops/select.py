"""Elements chosen by index tensors or masks: where, gather and scatter, index_select, index_add, masked_fill, ...

The gradient of what was read goes back to where it was read, summed where something was read more than once; the
gradient of what was written is read from where it was written, and what was overwritten gets none. Indices are int64
or int32 and are checked before anything is read. x[key] stands in `indexing.py`.
"""
import numpy as np

from kdl import types
from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, assign_, dimension, summed, unbroadcast
from kdl.ops.indexing import Select, add_at, add_slices
from kdl.ops.pointwise import check_broadcast, operand
from kdl.ops.shape import Expand
from kdl.tensor import Tensor, array_module, method

__all__ = ["argwhere", "gather", "index_add", "index_fill", "index_select", "masked_fill", "masked_select", "nonzero",
           "scatter", "scatter_add", "take", "take_along_dim", "where"]

_UNSIGNED = {types.int64: np.uint64, types.int32: np.uint32}  # what indices may be, and as what they are checked


def positions_in(op, index, n, negative=False):
    """The index as int64 positions counted from 0. Raises TypeError, IndexError for one outside [0, n), or [-n, n)."""
    array = array_of(op, index, "index")
    if array.dtype not in _UNSIGNED:
        expect_type(False, op, "an index of int64 or int32", index=array.dtype)
    if array.size:
        low = -n if negative else 0
        if type(array) is np.ndarray and not negative:  # without a sign -1 is large: the maximum says it all
            inside = array.view(_UNSIGNED[array.dtype]).max() < n
        else:
            inside = low <= array.min() and array.max() < n
        if not inside:
            raise IndexError(f"{op}: expected indices in [{low}, {n - 1}], got {array.min()} to {array.max()}")
    array = array.astype(types.int64, copy=False)
    return array % n if negative and array.size else array


def number_in(op, value, dtype):
    """A number, or the element of a 0-d tensor, in the dtype. Raises ValueError, TypeError."""
    if isinstance(value, Tensor):
        expect(value.array.ndim == 0, op, "a 0-d value", value=value)
        return value.array.astype(dtype)
    expect_type(isinstance(value, (bool, int, float, np.generic)), op, "a number or a 0-d tensor",
                value=type(value).__name__)
    try:
        return dtype.type(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{op}: expected a value that {dtype} holds, got {value}") from None


# --- where and masks ---
def where(condition, input=None, other=None):
    """input where the condition holds, other elsewhere; all broadcast, and input and other are promoted.

    With the condition alone: the positions where it holds, as one index tensor per dimension. Raises TypeError for a
    condition that is not boolean, ValueError for shapes that do not broadcast.
    """
    array_of("where", condition, "condition")
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    expect_type(condition.array.dtype == types.boolean, "where", "a boolean condition", condition=condition.array.dtype)
    input, other = operand("where", input), operand("where", other)
    expect_type(input is not None and other is not None, "where", "both input and other, or neither", input=input,
                other=other)
    check_broadcast("where", condition, input, other)
    dtype = types.result_type(input, other)
    return Where(dtype)(condition, _as(dtype, input), _as(dtype, other))


@method(names=["where"])
def _where_method(input, condition, other):
    """`where(condition, input, other)` as a method of input."""
    return where(condition, input, other)


def _as(dtype, value):
    return value.to(dtype) if isinstance(value, Tensor) and value.array.dtype != dtype else value


class Where(Function):
    """z = x where c else y; gx = gz where c, gy = gz where not c."""

    def __init__(self, dtype):
        self.dtype = dtype

    def forward(self, c, x, y):
        xp = self.k.xp
        x, y = xp.asarray(x, self.dtype), xp.asarray(y, self.dtype)
        self.c, self.shapes = c, (x.shape, y.shape)
        return xp.where(c, x, y)

    def backward(self, gz, wanted):
        xp, zero = self.k.xp, gz.dtype.type(0)
        return (None, unbroadcast(xp.where(self.c, gz, zero), self.shapes[0]) if wanted[1] else None,
                unbroadcast(xp.where(self.c, zero, gz), self.shapes[1]) if wanted[2] else None)


@method
def masked_fill(input, mask, value):
    """value (a number or 0-d tensor) where the mask holds, input elsewhere, in the input's dtype.

    Shapes: mask and input broadcast. Raises TypeError for a mask that is not boolean, ValueError.
    """
    array = array_of("masked_fill", input)
    check_mask("masked_fill", input, mask)
    number = number_in("masked_fill", value, array.dtype)
    value = _as(array.dtype, value) if isinstance(value, Tensor) else number
    return Where(array.dtype)(mask, value, input)


@method
def masked_fill_(input, mask, value):
    """In-place `masked_fill`."""
    return assign_(input, masked_fill(input, mask, value))


@method
def masked_select(input, mask):
    """The elements where the mask holds, in one dimension; mask and input broadcast. Raises TypeError, ValueError."""
    shape = check_mask("masked_select", input, mask)
    return Select((Expand(shape)(mask).array,))(Expand(shape)(input))


def check_mask(op, input, mask):
    """The shape that input and mask broadcast to. Raises TypeError, ValueError."""
    dtype = array_of(op, mask, "mask").dtype
    expect_type(dtype == types.boolean, op, "a boolean mask", mask=dtype)
    shape = array_of(op, input).shape
    if shape == mask.array.shape:
        return shape
    check_broadcast(op, input, mask)
    return np.broadcast_shapes(shape, mask.array.shape)


@method
def nonzero(input, *, as_tuple=False):
    """The positions of the elements that are not 0, in order: (n, dimensions), or one tensor per dimension."""
    array = array_of("nonzero", input)
    if as_tuple:
        return tuple([Tensor(p) for p in (array if array.ndim else array.reshape(1)).nonzero()])
    return argwhere(input)


@method
def argwhere(input):
    """The positions of the elements that are not 0, in order, as (n, dimensions)."""
    array = array_of("argwhere", input)
    found = (array if array.ndim else array.reshape(1)).nonzero()
    return Tensor(array_module(array).stack(found, 1)[:, :array.ndim])


# --- along one dimension, position by position ---
@method
def gather(input, dim, index, *, sparse_grad=False):
    """y[i, j, k] = x[index[i, j, k], j, k] for dim 0, and so on: one element of `dim` per element of the index.

    Shapes: index as input, not larger in the other dimensions. Raises IndexError, ValueError, TypeError. sparse_grad
    changes nothing: the gradient is dense.
    """
    if not array_of("gather", index, "index").size:
        return input.ravel()[:0].reshape(index.array.shape)
    return Gather()(input, along_positions("gather", input, dim, index))


@method
def take_along_dim(input, indices, dim=None):
    """`gather` where index and input broadcast in the other dimensions and negative indices count from the end.

    Without dim both count as one dimension, and indices from 0. Raises IndexError, ValueError, TypeError.
    """
    array, index = array_of("take_along_dim", input), array_of("take_along_dim", indices, "indices")
    if dim is None:
        return Gather()(input, Tensor(positions_in("take_along_dim", indices, array.size).reshape(-1)))
    dim = dimension("take_along_dim", dim, array.ndim)
    expect(array.ndim == index.ndim, "take_along_dim", "as many dimensions in indices as in input", indices=index,
           input=array)
    index = positions_in("take_along_dim", indices, array.shape[dim], negative=True)
    others = [list(a.shape) for a in (array, index)]
    for shape in others:
        shape[dim:dim + 1] = []
    try:
        common = list(np.broadcast_shapes(*others))
    except ValueError:
        expect(False, "take_along_dim", f"shapes that broadcast but for dimension {dim}", input=array, indices=index)
    wide = Expand((*common[:dim], array.shape[dim], *common[dim:]))(input)
    index = Expand((*common[:dim], index.shape[dim], *common[dim:]))(Tensor(index))
    return gather(wide, dim, index)


@method
def take(input, index):
    """The elements at flat positions, in the shape of the index; negative ones count from the end.

    Raises IndexError, TypeError.
    """
    size = array_of("take", input).size
    return Gather()(input, Tensor(positions_in("take", index, size, negative=True)))


def along_positions(op, input, dim, index):
    """The flat positions, in a contiguous input, of input[..., index, ...]. Raises as `gather` does."""
    x, i = array_of(op, input), array_of(op, index, "index")
    dim, shape, lengths = dimension(op, dim, x.ndim), x.shape or (1,), i.shape or (1,)
    fits = len(shape) == len(lengths)
    for d, n in enumerate(shape):
        fits = fits and (d == dim or lengths[d] <= n)
    if not fits:
        expect(False, op, "an index with the dimensions of input, and no longer than it but in dim", index=i, input=x,
               dim=dim)
    flat = positions_in(op, index, shape[dim]).reshape(lengths)
    others, stride = 0, 1
    for d in reversed(range(len(shape))):
        if d == dim:
            step = stride
        elif lengths[d] > 1:  # of several dimensions first: there are fewer of them than positions
            places = array_module(flat).arange(0, lengths[d] * stride, stride)
            others = places.reshape(-1, *[1] * (len(shape) - 1 - d)) + others
        stride *= shape[d]
    return Tensor((flat * step + others if step != 1 else flat + others).reshape(i.shape))


class Gather(Function):
    """y = x at flat positions; gx = 0 with gy added there."""

    def forward(self, x, positions):
        self.shape, self.positions = x.shape, positions
        return x.reshape(-1).take(positions)

    def backward(self, gy, wanted):
        return add_at(self.k, self.shape, self.positions, gy), None


@method
def scatter(input, dim, index, src=None, *, value=None, reduce=None):
    """A copy of the input with y[index[i, j, k], j, k] = src[i, j, k] for dim 0, and so on; of two the last one stays.

    src is a tensor with at least the lengths of the index, or a number (also called value). With reduce="add",
    `scatter_add`. Raises IndexError, ValueError, TypeError.
    """
    src = value if src is None else src
    expect(reduce in (None, "add"), "scatter", "reduce None or 'add'", reduce=reduce)
    if not isinstance(src, Tensor):
        number = number_in("scatter", src, array_of("scatter", input).dtype)
        src = Tensor(array_module(input.array).full(array_of("scatter", index, "index").shape, number))
    if reduce == "add":
        return scatter_add(input, dim, index, src)
    return _scattered("scatter", Scatter, input, dim, index, src)


@method
def scatter_add(input, dim, index, src):
    """A copy of the input with src[i, j, k] added to y[index[i, j, k], j, k] for dim 0, and so on.

    Raises IndexError, ValueError, TypeError.
    """
    return _scattered("scatter_add", ScatterAdd, input, dim, index, src)


@method
def scatter_(input, dim, index, src=None, *, value=None, reduce=None):
    """In-place `scatter`."""
    return assign_(input, scatter(input, dim, index, src, value=value, reduce=reduce))


@method
def scatter_add_(input, dim, index, src):
    """In-place `scatter_add`."""
    return assign_(input, scatter_add(input, dim, index, src))


def _scattered(op, function, input, dim, index, src):
    x, i, s = array_of(op, input), array_of(op, index, "index"), array_of(op, src, "src")
    expect_type(s.dtype == x.dtype, op, "src of the input's dtype", src=s.dtype, input=x.dtype)
    if not i.size:
        return input.clone()
    expect(s.ndim == i.ndim and all(a <= b for a, b in zip(i.shape, s.shape, strict=True)), op,
           "src with at least the lengths of the index", src=s, index=i)
    return function()(input, along_positions(op, input, dim, index), src)


class Scatter(Function):
    """y = x with s at flat positions; gx = gy with 0 there, gs = gy there."""

    def forward(self, x, positions, s):
        self.positions, self.before = positions, s.shape
        y = self.k.xp.array(x, order="C", copy=True)
        self.write(y, s[self.region()])
        return y

    def region(self):
        """The part of s that the index covers."""
        return tuple([slice(n) for n in self.positions.shape])

    def write(self, y, s):
        y.reshape(-1)[self.positions] = s

    def backward(self, gy, wanted):
        gx = gs = None
        if wanted[0]:
            gx = self.gradient(gy)
        if wanted[2]:
            gs = self.k.zeros(self.before, gy.dtype)
            gs[self.region()] = gy.reshape(-1)[self.positions]
        return gx, None, gs

    def gradient(self, gy):
        gx = self.k.xp.array(gy, order="C", copy=True)
        self.write(gx, gy.dtype.type(0))
        return gx


class ScatterAdd(Scatter):
    """y = x with s added at flat positions; gx = gy, gs = gy there."""

    def write(self, y, s):
        y += add_at(self.k, y.shape, self.positions, s)

    def gradient(self, gy):
        return gy


# --- along one dimension, slice by slice ---
@method
def index_select(input, dim, index):
    """The slices of a dimension at the positions in a 1-D index. Raises IndexError, ValueError, TypeError."""
    dim, index = slices("index_select", input, dim, index)
    if input.array.ndim == 0:
        return input.clone()
    return IndexSelect(dim)(input, index)


class IndexSelect(Function):
    """y = x[:, index]; gx = 0 with the slices of gy added at their positions."""

    def __init__(self, dim):
        self.dim = dim

    def forward(self, x, index):
        self.shape, self.index = x.shape, index
        return x.take(index, self.dim)

    def backward(self, gy, wanted):
        return add_slices(self.k, self.shape, self.dim, self.index, gy), None


@method
def index_add(input, dim, index, source, *, alpha=1):
    """A copy of the input with alpha source[i] added to slice index[i] of the dimension.

    Raises IndexError, ValueError, TypeError.
    """
    dim, index = slices("index_add", input, dim, index)
    x, s = input.array, array_of("index_add", source, "source")
    expect_type(x.dtype == s.dtype, "index_add", "source of the input's dtype", source=s.dtype, input=x.dtype)
    expected = (*x.shape[:dim], index.array.size, *x.shape[dim + 1:]) if x.ndim else ()
    expect(s.shape == expected, "index_add", f"source of shape {expected}", source=s, input=x, index=index)
    return IndexAdd(dim, alpha)(input, index, source) if x.ndim else input + source * alpha


@method
def index_add_(input, dim, index, source, *, alpha=1):
    """In-place `index_add`."""
    return assign_(input, index_add(input, dim, index, source, alpha=alpha))


class IndexAdd(Function):
    """y = x with alpha s added at the positions; gx = gy, gs = alpha gy at the positions."""

    def __init__(self, dim, alpha):
        self.dim, self.alpha = dim, alpha

    def forward(self, x, index, s):
        self.shape, self.index = x.shape, index
        s = s if self.alpha == 1 else s * s.dtype.type(self.alpha)
        return x + add_slices(self.k, self.shape, self.dim, index, s)

    def backward(self, gy, wanted):
        gs = None
        if wanted[2]:
            gs = gy.take(self.index, self.dim)
            gs = gs if self.alpha == 1 else gs * gy.dtype.type(self.alpha)
        return gy, None, gs


@method
def index_fill(input, dim, index, value):
    """A copy of the input with a number (or 0-d tensor) in the slices at the positions of a 1-D index.

    Negative positions count from the end. Raises IndexError, ValueError, TypeError.
    """
    dim, index = slices("index_fill", input, dim, index, negative=True)
    number = number_in("index_fill", value, input.array.dtype)
    value = _as(input.array.dtype, value) if isinstance(value, Tensor) else number
    return IndexFill(dim)(input if input.array.ndim else input.reshape(1), index, value).reshape(input.array.shape)


@method
def index_fill_(input, dim, index, value):
    """In-place `index_fill`."""
    return assign_(input, index_fill(input, dim, index, value))


class IndexFill(Function):
    """y = x with v at the positions; gx = gy with 0 there, gv = the sum of gy there."""

    def __init__(self, dim):
        self.dim = dim

    def forward(self, x, index, v):
        self.key = (*[slice(None)] * self.dim, index)
        y = x.copy()
        y[self.key] = v
        return y

    def backward(self, gy, wanted):
        gx = None
        if wanted[0]:
            gx = gy.copy()
            gx[self.key] = 0
        return gx, None, summed(gy[self.key], None) if wanted[2] else None


def slices(op, input, dim, index, negative=False):
    """The dimension and the 1-D index as positions in it. Raises IndexError, ValueError, TypeError."""
    array = array_of(op, input)
    dim = dimension(op, dim, array.ndim)
    expect(array_of(op, index, "index").ndim <= 1, op, "an index of one dimension", index=index)
    positions = positions_in(op, index, (array.shape or (1,))[dim], negative)
    return dim, Tensor(positions.reshape(-1).copy())  # the caller may change its index before backward
