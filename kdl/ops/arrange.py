"""Elements moved, repeated or left out by position: flip, roll, repeat, triangles, diagonals. All give copies.

The gradient takes gy the same way back; that of an element that was repeated is the sum over its copies, and that of
one left out is 0.
"""
from operator import index

import numpy as np

from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, assign_, dimension, dimensions, summed, variadic
from kdl.ops.shape import Diagonal, diagonal_of, matrices, transpose
from kdl.tensor import Tensor, method

__all__ = ["diag", "diag_embed", "diagflat", "flip", "fliplr", "flipud", "repeat_interleave", "roll", "rot90", "tile",
           "trace", "tril", "triu"]


# --- moved ---
@method
@variadic
def flip(input, dims):
    """The given dimensions in reverse order, as a copy. Raises IndexError."""
    return Flip(dimensions("flip", dims, array_of("flip", input).ndim))(input)


@method
def fliplr(input):
    """Dimension 1 in reverse order. Raises ValueError for a tensor without one."""
    expect(array_of("fliplr", input).ndim >= 2, "fliplr", "a tensor of at least 2 dimensions", input=input)
    return Flip((1,))(input)


@method
def flipud(input):
    """Dimension 0 in reverse order. Raises ValueError for a 0-d tensor."""
    expect(array_of("flipud", input).ndim >= 1, "flipud", "a tensor of at least 1 dimension", input=input)
    return Flip((0,))(input)


@method
def rot90(input, k=1, dims=(0, 1)):
    """The plane of two dimensions turned by k right angles, from the first towards the second. Raises ValueError."""
    ndim = array_of("rot90", input).ndim
    dims = dimensions("rot90", dims, ndim)
    expect(len(dims) == 2, "rot90", "two dimensions", dims=dims)
    k %= 4
    if k % 2:
        return flip(transpose(input, *dims), (dims[0 if k == 1 else 1],))
    return flip(input, dims) if k else input.clone()


class Flip(Function):
    """y = x read backwards along dims, and gx = gy read backwards."""

    def __init__(self, dims):
        self.dims = dims

    def forward(self, x):
        return self.k.xp.flip(x, self.dims).copy() if x.ndim else x.copy()

    def backward(self, gy, wanted):
        return self.forward(gy)


@method
def roll(input, shifts, dims=None):
    """Elements moved on by `shifts` along `dims` (an int, or as many each); those past the end come in at the start.

    Without dims the elements are rolled as if in one dimension. Raises ValueError, IndexError.
    """
    ndim = array_of("roll", input).ndim
    shifts = tuple(shifts) if isinstance(shifts, (tuple, list)) else (shifts,)
    if dims is None or dims == ():
        expect(len(shifts) == 1, "roll", "one shift when dims are not given", shifts=shifts)
        return Roll(shifts[0], None)(input)
    dims = dims if isinstance(dims, (tuple, list)) else (dims,)
    dims = tuple([dimension("roll", d, ndim) for d in dims])  # the same one twice is rolled twice
    expect(len(shifts) == len(dims), "roll", "as many shifts as dims", shifts=shifts, dims=dims)
    return Roll(shifts, dims)(input) if ndim else input.clone()


class Roll(Function):
    """y[i + shift] = x[i], round the end; gx[i] = gy[i + shift]."""

    def __init__(self, shifts, dims):
        self.shifts, self.dims = shifts, dims

    def forward(self, x):
        return self.k.xp.roll(x, self.shifts, self.dims)

    def backward(self, gy, wanted):
        back = -self.shifts if self.dims is None else tuple([-s for s in self.shifts])
        return self.k.xp.roll(gy, back, self.dims)


# --- repeated ---
@method
@variadic
def repeat(input, repeats):
    """The whole tensor repeated repeats[i] times along dimension i; extra ones in front make new dimensions.

    Raises ValueError for fewer repeats than dimensions or negative ones.
    """
    array = array_of("repeat", input)
    expect(len(repeats) >= array.ndim and min(repeats, default=0) >= 0, "repeat",
           "one repeat of at least 0 per dimension of input, or more", repeats=repeats, input=input)
    return Repeat(repeats)(input)


@method
@variadic
def tile(input, dims):
    """`repeat`, where fewer numbers than dimensions leave the first dimensions as they are. Raises ValueError."""
    return repeat(input, (1,) * (array_of("tile", input).ndim - len(dims)) + dims)


class Repeat(Function):
    """y = copies of x side by side; gx = the sum over the copies."""

    def __init__(self, repeats):
        self.repeats = repeats

    def forward(self, x):
        self.before = (1,) * (len(self.repeats) - x.ndim) + x.shape
        self.shape = x.shape
        return self.k.xp.tile(x, self.repeats)

    def backward(self, gy, wanted):
        copies = [n for pair in zip(self.repeats, self.before, strict=True) for n in pair]
        return summed(gy.reshape(copies), tuple(range(0, len(copies), 2))).reshape(self.shape)


@method
def repeat_interleave(input, repeats=None, dim=None, *, output_size=None):
    """Each element (or each slice of `dim`) repeated in place: `repeats` times, or repeats[i] times the i-th.

    Without dim the input counts as one dimension. `repeat_interleave(repeats)` alone repeats the positions 0, 1, ...
    Raises TypeError and ValueError for repeats that are not integers of at least 0, one or as many as there are slices,
    and for an output_size that is not what they add up to.
    """
    array = array_of("repeat_interleave", input)
    if repeats is None:
        counts = _counts(array, array.size)
        return Tensor(np.repeat(np.arange(counts.size), counts))
    if dim is None or array.ndim == 0:
        input, dim = input.ravel(), dim or 0
    dim = dimension("repeat_interleave", dim, input.array.ndim)
    n = input.array.shape[dim]
    if isinstance(repeats, Tensor) and repeats.array.size != 1:
        y = input.index_select(dim, Tensor(np.repeat(np.arange(n), _counts(repeats.array, n))))
    else:
        times = index(repeats)
        expect(times >= 0, "repeat_interleave", "repeats of at least 0", repeats=times)
        y = RepeatInterleave(times, dim)(input)
    expect(output_size in (None, y.array.shape[dim]), "repeat_interleave", f"output_size {y.array.shape[dim]}",
           output_size=output_size)
    return y


def _counts(repeats, n):
    counts = repeats if isinstance(repeats, np.ndarray) else repeats.get()
    expect_type(counts.dtype.kind in "iu", "repeat_interleave", "integer repeats", repeats=counts.dtype)
    expect(counts.ndim == 1 and len(counts) == n and (counts >= 0).all(), "repeat_interleave",
           f"{n} repeats of at least 0", repeats=counts)
    return counts


class RepeatInterleave(Function):
    """y = every slice of x `times` in a row; gx = the sum over each row."""

    def __init__(self, times, dim):
        self.times, self.dim = times, dim

    def forward(self, x):
        self.shape = x.shape
        return self.k.xp.repeat(x, self.times, self.dim)

    def backward(self, gy, wanted):
        dim = self.dim
        return summed(gy.reshape(*self.shape[:dim + 1], self.times, *self.shape[dim + 1:]), (dim + 1,))


# --- diagonals and triangles ---
@method
def diag_embed(input, offset=0, dim1=-2, dim2=-1):
    """Zeros, with the last dimension of the input on the diagonal of new dimensions dim1 and dim2."""
    ndim = array_of("diag_embed", input).ndim + 1
    expect(ndim > 1, "diag_embed", "a tensor with dimensions", input=input)
    dim1, dim2 = dimension("diag_embed", dim1, ndim), dimension("diag_embed", dim2, ndim)
    expect(dim1 != dim2, "diag_embed", "two different dimensions", dim1=dim1, dim2=dim2)
    return DiagEmbed(offset, dim1, dim2)(input)


class DiagEmbed(Function):
    """y = 0 with x on the diagonal; gx = the diagonal of gy."""

    def __init__(self, offset, dim1, dim2):
        self.at = offset, dim1, dim2

    def forward(self, x):
        offset, dim1, dim2 = self.at
        shape = list(x.shape[:-1])
        for d in sorted((dim1, dim2)):
            shape.insert(d, x.shape[-1] + abs(offset))
        y = self.k.zeros(tuple(shape), x.dtype)
        diagonal_of(y, *self.at)[...] = x
        return y

    def backward(self, gy, wanted):
        return diagonal_of(gy, *self.at)


@method
def diag(input, diagonal=0):
    """The matrix with a vector on its diagonal, or a copy of a matrix's diagonal. Raises ValueError for others."""
    ndim = array_of("diag", input).ndim
    expect(ndim in (1, 2), "diag", "a vector or a matrix", input=input)
    return DiagEmbed(diagonal, 0, 1)(input) if ndim == 1 else Diagonal(diagonal, 0, 1)(input).clone()


@method
def diagflat(input, offset=0):
    """The matrix with all elements of a tensor on its diagonal."""
    return diag(input.ravel(), offset)


@method
def trace(input):
    """The sum of a matrix's diagonal. Raises ValueError for other shapes."""
    expect(array_of("trace", input).ndim == 2, "trace", "a matrix", input=input)
    return Diagonal(0, 0, 1)(input).sum()


@method
def tril(input, diagonal=0):
    """0 above the given diagonal of the last two dimensions. Raises ValueError for fewer than 2."""
    return Triangle("tril", diagonal)(matrices("tril", input))


@method
def triu(input, diagonal=0):
    """0 below the given diagonal of the last two dimensions. Raises ValueError for fewer than 2."""
    return Triangle("triu", diagonal)(matrices("triu", input))


class Triangle(Function):
    """The lower or upper triangle of x, and the same of gy."""

    def __init__(self, name, diagonal):
        self.name, self.diagonal = name, diagonal

    def forward(self, x):
        return getattr(self.k.xp, self.name)(x, self.diagonal)

    def backward(self, gy, wanted):
        return getattr(self.k.xp, self.name)(gy, self.diagonal)


@method
def tril_(input, diagonal=0):
    """In-place `tril`."""
    return assign_(input, tril(input, diagonal))


@method
def triu_(input, diagonal=0):
    """In-place `triu`."""
    return assign_(input, triu(input, diagonal))
