"""Shape: the same elements under another shape or in another order.

Reshaping, permuting, expanding and slicing give views wherever torch gives views: no element moves, and the gradient
is the inverse rearrangement of gy, a view again. What copies stands in `arrange.py` (flip, roll, repeat, triangles and
diagonals), `join.py` (cat, stack and their inverses) and `pad.py`.
"""
import math
from operator import index as as_int

import numpy as np

from kdl.autograd import Function, is_grad_enabled
from kdl.errors import expect
from kdl.ops.common import array_of, dimension, dimensions, unbroadcast, variadic
from kdl.tensor import Size, Tensor, method

__all__ = ["adjoint", "broadcast_shapes", "broadcast_tensors", "broadcast_to", "diagonal", "flatten", "moveaxis",
           "movedim", "narrow", "permute", "ravel", "reshape", "select", "squeeze", "swapaxes", "swapdims", "t",
           "transpose", "unflatten", "unsqueeze"]


# --- the same elements in the same order ---
@method
@variadic
def reshape(input, shape):
    """The elements under another shape of as many; one length may be -1. A view where memory allows, else a copy.

    Raises ValueError for a shape that does not fit.
    """
    return Reshape(_fitting("reshape", array_of("reshape", input), shape))(input)


@method
@variadic
def view(input, shape):
    """`reshape` that never copies: raises ValueError where the memory order does not allow a view."""
    return Reshape(_fitting("view", array_of("view", input), shape), view=True)(input)


@method
def view_as(input, other):
    """A view with the shape of `other`."""
    return view(input, array_of("view_as", other, "other").shape)


@method
def reshape_as(input, other):
    """`reshape` to the shape of `other`."""
    return reshape(input, array_of("reshape_as", other, "other").shape)


@method
def flatten(input, start_dim=0, end_dim=-1):
    """Dimensions start_dim to end_dim as one; a 0-d tensor gets one dimension. Raises IndexError, ValueError."""
    shape = array_of("flatten", input).shape
    first, last = dimension("flatten", start_dim, len(shape)), dimension("flatten", end_dim, len(shape))
    expect(first <= last, "flatten", "start_dim before end_dim", start_dim=start_dim, end_dim=end_dim)
    return Reshape((*shape[:first], math.prod(shape[first:last + 1]), *shape[last + 1:]))(input)


@method
def ravel(input):
    """All elements in one dimension."""
    return Reshape((array_of("ravel", input).size,))(input)


@method
def unflatten(input, dim, sizes):
    """Dimension dim as several, whose lengths multiply to its own; one may be -1. Raises ValueError."""
    array = array_of("unflatten", input)
    dim = dimension("unflatten", dim, array.ndim)
    expect(len(sizes) > 0, "unflatten", "at least one size", sizes=sizes)
    n = array.shape[dim]
    known = math.prod(s for s in sizes if s != -1)
    lengths = tuple(n // max(known, 1) if s == -1 else s for s in sizes)
    expect(list(sizes).count(-1) <= 1 and min(sizes) >= -1 and math.prod(lengths) == n, "unflatten",
           f"sizes that multiply to input.shape[{dim}]", sizes=tuple(sizes), input=input)
    return Reshape((*array.shape[:dim], *lengths, *array.shape[dim + 1:]))(input)


@method
def squeeze(input, dim=None):
    """Without the dimensions of length 1, or without those of `dim`, an int or several, that have length 1."""
    shape = array_of("squeeze", input).shape
    gone = range(len(shape)) if dim is None else dimensions("squeeze", dim, len(shape))
    return Reshape(tuple(n for i, n in enumerate(shape) if n != 1 or i not in gone))(input)


@method
def unsqueeze(input, dim):
    """With a dimension of length 1 inserted at `dim`. Raises IndexError."""
    shape = array_of("unsqueeze", input).shape
    dim = dimension("unsqueeze", dim, len(shape) + 1)
    return Reshape((*shape[:dim], 1, *shape[dim:]))(input)


def _fitting(op, array, shape):
    """The shape with -1 resolved. Raises ValueError unless it holds as many elements as the array."""
    size = math.prod(shape)
    if size != array.size or (shape and min(shape) < 0):
        known = math.prod(n for n in shape if n != -1)
        expect(shape.count(-1) == 1 and min(shape) == -1 and known > 0 and array.size % known == 0, op,
               f"a shape of {array.size} elements, with at most one -1 that they determine", shape=shape, input=array)
        shape = tuple(array.size // known if n == -1 else n for n in shape)
    return shape


class Reshape(Function):
    """Another shape over the same elements; gx = gy under the shape of x."""

    def __init__(self, shape, view=False):
        self.shape, self.view = shape, view

    def forward(self, x):
        self.before = x.shape
        y = x.reshape(self.shape)
        if self.view and x.size and y.base is not x and y.base is not x.base:
            raise ValueError(f"view: expected a shape whose dimensions are contiguous in memory, got {self.shape} for "
                             f"{x.shape} with strides {x.strides} bytes; use .reshape(...), which copies")
        return y

    def backward(self, gy, wanted):
        return gy.reshape(self.before)


# --- the same elements, dimensions in another order ---
@method
@variadic
def permute(input, dims):
    """Dimension i of the result is dimension dims[i] of the input. A view. Raises ValueError, IndexError."""
    ndim = array_of("permute", input).ndim
    order = tuple([dimension("permute", d, ndim) for d in dims]) if ndim else ()
    expect(len(dims) == ndim and len(set(order)) == ndim, "permute", "every dimension once", dims=dims, input=input)
    return Permute(order)(input)


@method(names=["transpose", "swapaxes", "swapdims"])
def transpose(input, dim0, dim1):
    """Two dimensions exchanged. A view. Raises IndexError."""
    ndim = array_of("transpose", input).ndim
    dim0, dim1 = dimension("transpose", dim0, ndim), dimension("transpose", dim1, ndim)
    order = list(range(ndim))
    if ndim:
        order[dim0], order[dim1] = dim1, dim0
    return Permute(tuple(order))(input)


swapaxes = swapdims = transpose


@method
def t(input):
    """The transposed matrix; tensors of fewer dimensions stay as they are. Raises ValueError for more."""
    ndim = array_of("t", input).ndim
    expect(ndim <= 2, "t", "a tensor of at most 2 dimensions (use .mT or .transpose)", input=input)
    return Permute(tuple(range(ndim))[::-1])(input)


@method
def adjoint(input):
    """The last two dimensions exchanged. Raises ValueError for fewer than 2."""
    return transpose(matrices("adjoint", input), -2, -1)


@method(names=["movedim", "moveaxis"])
def movedim(input, source, destination):
    """Dimensions moved from source to destination (an int, or as many each); the others keep their order. A view."""
    ndim = array_of("movedim", input).ndim
    source, destination = dimensions("movedim", source, ndim), dimensions("movedim", destination, ndim)
    expect(len(source) == len(destination), "movedim", "as many sources as destinations", source=source,
           destination=destination)
    order = [d for d in range(ndim) if d not in source]
    for to, d in sorted(zip(destination, source, strict=True)):
        order.insert(to, d)
    return Permute(tuple(order))(input)


moveaxis = movedim


def matrices(op, input):
    """The input itself. Raises ValueError for fewer than 2 dimensions."""
    expect(array_of(op, input).ndim >= 2, op, "a tensor of at least 2 dimensions", input=input)
    return input


class Permute(Function):
    """y = x with its dimensions in another order; gx = gy with them in the order they had."""

    def __init__(self, order):
        self.order = order

    def forward(self, x):
        return x.transpose(self.order)

    def backward(self, gy, wanted):
        inverse = [0] * len(self.order)
        for i, d in enumerate(self.order):
            inverse[d] = i
        return gy.transpose(inverse)


Tensor.T = property(lambda x: Permute(tuple(range(x.array.ndim))[::-1])(x), doc="All dimensions in reverse order.")
Tensor.H = property(t, doc="A matrix transposed.")
Tensor.mH = property(adjoint, doc="The last two dimensions exchanged.")
Tensor.mT = property(lambda x: transpose(matrices("mT", x), -2, -1), doc="The last two dimensions exchanged.")


# --- elements repeated without a copy ---
@method
@variadic
def expand(input, size):
    """Dimensions of length 1 repeated to the given lengths, and new ones in front; -1 keeps a length. A view.

    Nothing is copied, and the result cannot be written to. Raises ValueError for a length that differs from one of
    the input that is not 1.
    """
    shape = array_of("expand", input).shape
    new = len(size) - len(shape)
    fits = new >= 0 and all(n >= 0 for n in size[:new]) and all(
        b in (a, -1) or (a == 1 and b >= 0) for a, b in zip(shape, size[max(new, 0):], strict=True))
    expect(fits, "expand", "lengths of the input, or any for its dimensions of length 1", size=size, input=input)
    return Expand(tuple(shape[i - new] if n == -1 else n for i, n in enumerate(size)))(input)


@method
def expand_as(input, other):
    """`expand` to the shape of `other`."""
    return expand(input, array_of("expand_as", other, "other").shape)


@method
@variadic
def broadcast_to(input, size):
    """`expand` under its functional name."""
    return expand(input, size)


@method
@variadic
def sum_to_size(input, size):
    """The opposite of expand: sums over what expanding `size` to the input's shape would repeat. Raises ValueError."""
    shape = array_of("sum_to_size", input).shape
    tail = shape[len(shape) - len(size):]
    expect(len(size) <= len(shape) and all(n in (1, m) for n, m in zip(size, tail)), "sum_to_size",
           "a size that expands to the input's shape", input=input, size=size)
    extra = len(shape) - len(size)
    summed = [*range(extra), *(extra + i for i, n in enumerate(size) if n == 1 and tail[i] != 1)]
    return (input.sum(summed) if summed else input).reshape(size)


def broadcast_tensors(*tensors):
    """The tensors expanded to their common shape, as a tuple. Raises ValueError when there is none."""
    tensors = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    shapes = [array_of("broadcast_tensors", x, f"tensors[{i}]").shape for i, x in enumerate(tensors)]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        expect(False, "broadcast_tensors", "shapes that broadcast", shapes=shapes)
    return tuple([x if x.array.shape == shape else Expand(shape)(x) for x in tensors])


def broadcast_shapes(*shapes):
    """The shape that tensors of these shapes (or ints, for vectors) broadcast to. Raises ValueError."""
    try:
        return Size(np.broadcast_shapes(*shapes))
    except ValueError:
        expect(False, "broadcast_shapes", "shapes that broadcast", shapes=" and ".join(map(str, shapes)))


class Expand(Function):
    """y = x repeated along dimensions of length 1; gx = the sum of gy over the copies."""

    def __init__(self, shape):
        self.shape = shape

    def forward(self, x):
        self.before = x.shape
        return self.k.xp.broadcast_to(x, self.shape)

    def backward(self, gy, wanted):
        return unbroadcast(gy, self.before)


# --- a part of the elements ---
@method
def select(input, dim, index):
    """The slice at one position of a dimension, without that dimension. A view. Raises IndexError."""
    shape = array_of("select", input).shape
    expect(len(shape) > 0, "select", "a tensor with dimensions", input=input)
    dim, index = dimension("select", dim, len(shape)), as_int(index)
    if not -shape[dim] <= index < shape[dim]:
        raise IndexError(f"select: expected index in [{-shape[dim]}, {shape[dim] - 1}] for dim {dim}, got {index}")
    return Slice((*[slice(None)] * dim, index, ...))(input)


@method
def narrow(input, dim, start, length):
    """Positions start to start + length of a dimension. A view. Raises IndexError, ValueError."""
    shape = array_of("narrow", input).shape
    expect(len(shape) > 0, "narrow", "a tensor with dimensions", input=input)
    dim, start = dimension("narrow", dim, len(shape)), as_int(start)
    n = shape[dim]
    if not -n <= start <= n:
        raise IndexError(f"narrow: expected start in [{-n}, {n}] for dim {dim}, got {start}")
    start += n if start < 0 else 0
    expect(0 <= length <= n - start, "narrow", f"0 <= length <= {n} - start", start=start, length=length)
    return Slice((*[slice(None)] * dim, slice(start, start + length)))(input)


class Slice(Function):
    """y = x[key] for a key of ints, slices, None and Ellipsis, a view; gx = 0 with gx[key] = gy."""

    def __init__(self, key):
        self.key = key

    def forward(self, x):
        self.shape = x.shape
        return x[self.key]

    def backward(self, gy, wanted):
        gx = self.k.zeros(self.shape, gy.dtype)
        gx[self.key] = gy
        return gx


@method
def diagonal(input, offset=0, dim1=0, dim2=1):
    """The elements (i, i + offset) of the matrices in dimensions dim1 and dim2, as a new last dimension. A view."""
    ndim = array_of("diagonal", input).ndim
    dim1, dim2 = dimension("diagonal", dim1, ndim), dimension("diagonal", dim2, ndim)
    expect(dim1 != dim2, "diagonal", "two different dimensions", dim1=dim1, dim2=dim2, input=input)
    return Diagonal(offset, dim1, dim2)(input)


class Diagonal(Function):
    """y = the diagonal; gx = 0 with gy on the diagonal."""

    def __init__(self, offset, dim1, dim2):
        self.at = offset, dim1, dim2

    def forward(self, x):
        self.shape = x.shape
        return diagonal_of(x, *self.at)

    def backward(self, gy, wanted):
        gx = self.k.zeros(self.shape, gy.dtype)
        diagonal_of(gx, *self.at)[...] = gy
        return gx


def diagonal_of(array, offset, dim1, dim2):
    """A diagonal that can be written where the array can: NumPy gives read-only ones."""
    view = array.diagonal(offset, dim1, dim2)
    if isinstance(view, np.ndarray):
        view.flags.writeable = array.flags.writeable
    return view


# --- the tensor itself under another shape ---
def _in_place(function):
    """The method that gives the tensor the shape `function` gives a view of it; the memory stays the same."""
    def method_(input, *args):
        if is_grad_enabled() and input.requires_grad and input.is_leaf:
            raise RuntimeError(f"{function.__name__}_: a leaf that requires grad cannot be changed while recording; "
                               "use kdl.no_grad()")
        view = function(input, *args)
        input.array, input.grad_fn, input.output_index = view.array, view.grad_fn, view.output_index
        return input
    method_.__name__ = f"{function.__name__}_"
    method_.__doc__ = f"In-place `{function.__name__}`. Raises RuntimeError for a leaf that is being recorded."
    return method(method_)


squeeze_, unsqueeze_ = _in_place(squeeze), _in_place(unsqueeze)
t_, transpose_ = _in_place(t), _in_place(transpose)
method(transpose_, names=("swapaxes_", "swapdims_"))
