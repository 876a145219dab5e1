"""Tensors joined and split along a dimension: cat, stack, their inverses, and what is built from them.

The gradient of what was joined is split, that of what was split is joined. The parts of a split are views.
"""
import itertools
from itertools import accumulate, pairwise
from operator import index

import numpy as np

from kdl import types
from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, dimension
from kdl.ops.shape import Expand
from kdl.tensor import Tensor, array_module, method

__all__ = ["atleast_1d", "atleast_2d", "atleast_3d", "block_diag", "cartesian_prod", "cat", "chunk", "column_stack",
           "combinations", "concat", "concatenate", "dsplit", "dstack", "hsplit", "hstack", "meshgrid", "row_stack",
           "split", "split_with_sizes", "stack", "tensor_split", "unbind", "vsplit", "vstack"]


# --- joining ---
def cat(tensors, dim=0):
    """The tensors one after the other along a dimension; all other lengths must agree. dtypes are promoted.

    As in torch, an empty 1-D tensor fits everywhere. Raises ValueError, IndexError; TypeError for an empty list.
    """
    arrays = _arrays("cat", tensors)
    joined = [a for a in arrays if a.shape != (0,)] or arrays
    first = joined[0].shape
    expect(first, "cat", "tensors with dimensions (use stack)", tensors=first)
    dim = dimension("cat", dim, len(first))
    rest = first[:dim] + first[dim + 1:]
    if not all(a.ndim == len(first) and a.shape[:dim] + a.shape[dim + 1:] == rest for a in joined):
        expect(False, "cat", f"shapes that differ in dimension {dim} only", tensors=[a.shape for a in arrays])
    return Cat(dim)(*_promoted(tensors, arrays))


concat = concatenate = cat


def stack(tensors, dim=0):
    """The tensors one after the other along a new dimension; all shapes must agree. dtypes are promoted.

    Raises ValueError, IndexError; TypeError for an empty list.
    """
    arrays = _arrays("stack", tensors)
    dim = dimension("stack", dim, arrays[0].ndim + 1)
    if any(a.shape != arrays[0].shape for a in arrays):
        expect(False, "stack", "tensors of one shape", tensors=[a.shape for a in arrays])
    return Stack(dim)(*_promoted(tensors, arrays))


def hstack(tensors):
    """`cat` along dimension 1, of 1-D tensors along dimension 0."""
    tensors = atleast_1d(list(tensors))
    return cat(tensors, 0 if tensors and tensors[0].ndim == 1 else 1)


def vstack(tensors):
    """`cat` along dimension 0, of 1-D tensors as rows."""
    return cat(atleast_2d(list(tensors)), 0)


def dstack(tensors):
    """`cat` along dimension 2, of matrices as slices (rows, columns, 1)."""
    return cat(atleast_3d(list(tensors)), 2)


row_stack = vstack


def column_stack(tensors):
    """`hstack` of vectors as columns, of numbers as 1 x 1 matrices."""
    return hstack([x.reshape(x.array.size, 1) if x.ndim <= 1 else x for x in _tensors("column_stack", tensors)])


def block_diag(*tensors):
    """The matrix with the given ones along its diagonal and 0 elsewhere; vectors are rows.

    Raises ValueError for more than 2 dimensions.
    """
    blocks = [x if x.ndim == 2 else x.reshape(1, -1) for x in _tensors("block_diag", tensors)]
    expect(all(x.ndim <= 2 for x in tensors), "block_diag", "at most 2 dimensions",
           shapes=[tuple(x.shape) for x in tensors])
    columns, rows, before = sum([x.shape[1] for x in blocks]), [], 0
    for x in blocks:
        height, width = x.shape
        rows.append(cat([x.new_zeros(height, before), x, x.new_zeros(height, columns - before - width)], 1))
        before += width
    return cat(rows)


def cartesian_prod(*tensors):
    """All tuples of one element of each vector, as rows in order; a single vector as it is. Raises ValueError."""
    grids = meshgrid(*tensors, indexing="ij")
    expect(all(x.ndim == 1 for x in tensors), "cartesian_prod", "vectors", shapes=[tuple(x.shape) for x in tensors])
    return tensors[0] if len(tensors) == 1 else stack([x.ravel() for x in grids], 1)


def combinations(input, r=2, with_replacement=False):
    """All choices of r elements of a vector, as rows in order; with replacement an element may recur.

    Raises ValueError for other shapes.
    """
    expect(array_of("combinations", input).ndim == 1 and r >= 0, "combinations", "a vector and r >= 0", input=input,
           r=r)
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    places = np.array(list(choose(range(input.shape[0]), r)), np.int64).reshape(-1, r)
    return input[Tensor(array_module(input.array).asarray(places))] if r else input.new_empty(0)


def _tensors(op, tensors):
    """A sequence of tensors, at least one."""
    tensors = list(tensors)
    _arrays(op, tensors)
    return tensors


def _arrays(op, tensors):
    expect_type(isinstance(tensors, (tuple, list)) and len(tensors) > 0, op, "a list or tuple of at least one tensor",
                tensors=type(tensors).__name__ if tensors else tensors)
    return [array_of(op, x, f"tensors[{i}]") for i, x in enumerate(tensors)]


def _promoted(tensors, arrays):
    """The tensors in the dtype that they all promote to."""
    dtype = arrays[0].dtype
    if all(a.dtype == dtype for a in arrays):
        return tensors
    for a in arrays:
        dtype = types.promote_types(dtype, a.dtype)
    return [x.to(dtype) for x in tensors]


class Cat(Function):
    """y = (x0, x1, ...) along dim; gx = the parts of gy, as views."""

    def __init__(self, dim):
        self.dim = dim

    def forward(self, *xs):
        self.shapes = [x.shape for x in xs]
        return self.k.xp.concatenate([x for x in xs if x.shape != (0,)] or xs, self.dim)

    def backward(self, gy, wanted):
        gx, start = [], 0
        for shape, w in zip(self.shapes, wanted, strict=True):
            end = start + (shape[self.dim] if shape != (0,) else 0)
            part = gy[(*[slice(None)] * self.dim, slice(start, end))] if w else None
            gx.append(part.reshape(shape) if w else None)
            start = end
        return tuple(gx)


class Stack(Function):
    """y[i] = xi along a new dimension; gxi = gy[i], as a view."""

    def __init__(self, dim):
        self.dim = dim

    def forward(self, *xs):
        return self.k.xp.stack(xs, self.dim)

    def backward(self, gy, wanted):
        return tuple([gy[(*[slice(None)] * self.dim, i, ...)] if w else None for i, w in enumerate(wanted)])


# --- splitting ---
@method
def split_with_sizes(input, split_sizes, dim=0):
    """`split` into parts of the given sizes."""
    return split(input, split_sizes, dim)


@method
def split(tensor, split_size_or_sections, dim=0):
    """Parts of the given size (the last may be smaller) or of the sizes in the given list, as a tuple of views.

    Raises ValueError for sizes that do not add up to the length of the dimension.
    """
    n, dim = _length("split", tensor, dim)
    sizes = split_size_or_sections
    if not isinstance(sizes, (tuple, list)):
        size = index(sizes)
        expect(size > 0 or (size == 0 and n == 0), "split", "a size of at least 1", split_size=size, tensor=tensor)
        sizes = [min(size, n - start) for start in range(0, n, size)] if n else [0]
    expect(all(s >= 0 for s in sizes) and sum(sizes) == n, "split", f"sizes that add up to {n}", sizes=sizes,
           tensor=tensor)
    return Split(dim, list(pairwise(accumulate(sizes, initial=0))))(tensor)


@method
def chunk(input, chunks, dim=0):
    """At most `chunks` parts of ceil(length / chunks), as a tuple of views. Raises ValueError for less than 1."""
    n, dim = _length("chunk", input, dim)
    expect(chunks > 0, "chunk", "at least 1 chunk", chunks=chunks)
    size = -(-n // chunks)
    bounds = [(start, min(start + size, n)) for start in range(0, n, size)] if n else [(0, 0)] * chunks
    return Split(dim, bounds)(input)


@method
def tensor_split(input, indices_or_sections, dim=0):
    """As many parts as asked for, the first ones longer by one where need be, or parts cut at the given positions.

    A tuple of views. Raises ValueError for less than 1 part.
    """
    n, dim = _length("tensor_split", input, dim)
    cuts = indices_or_sections
    if isinstance(cuts, Tensor):
        cuts = cuts.tolist()
    if isinstance(cuts, (tuple, list)):
        bounds = [slice(start, end).indices(n)[:2] for start, end in zip([0, *cuts], [*cuts, n], strict=True)]
        bounds = [(start, max(start, end)) for start, end in bounds]
    else:
        expect(cuts > 0, "tensor_split", "at least 1 section", sections=cuts)
        size, longer = divmod(n, cuts)
        ends = [i * size + min(i, longer) for i in range(cuts + 1)]
        bounds = list(pairwise(ends))
    return Split(dim, bounds)(input)


@method
def unbind(input, dim=0):
    """The slices along a dimension, without it, as a tuple of views. Raises IndexError, ValueError."""
    _, dim = _length("unbind", input, dim)
    return Unbind(dim)(input)


def _length(op, input, dim):
    shape = array_of(op, input).shape
    expect(len(shape) > 0, op, "a tensor with dimensions", input=input)
    dim = dimension(op, dim, len(shape))
    return shape[dim], dim


class Split(Function):
    """Views of x between the bounds; gx = the gradients put back between them, added where bounds overlap."""

    def __init__(self, dim, bounds):
        self.keys = [(*[slice(None)] * dim, slice(start, end)) for start, end in bounds]

    def forward(self, x):
        self.shape, self.dtype = x.shape, x.dtype
        return tuple([x[key] for key in self.keys])

    def backward(self, gy, wanted):
        gx = self.k.zeros(self.shape, self.dtype)
        for key, g in zip(self.keys, gy, strict=True):
            if g is not None:
                gx[key] += g
        return gx


class Unbind(Function):
    """Views x[i] along dim; gx[i] = the gradient of view i."""

    def __init__(self, dim):
        self.dim = dim

    def forward(self, x):
        self.shape, self.dtype = x.shape, x.dtype
        return tuple([x[(*[slice(None)] * self.dim, i, ...)] for i in range(x.shape[self.dim])])

    def backward(self, gy, wanted):
        gx = self.k.zeros(self.shape, self.dtype)
        for i, g in enumerate(gy):
            if g is not None:
                gx[(*[slice(None)] * self.dim, i)] = g
        return gx


@method
def hsplit(input, indices_or_sections):
    """`tensor_split` along dimension 1, or 0 of a vector. Raises ValueError for 0-d tensors and unequal sections."""
    return _split_evenly("hsplit", input, indices_or_sections, 1 if array_of("hsplit", input).ndim > 1 else 0, 1)


@method
def vsplit(input, indices_or_sections):
    """`tensor_split` along dimension 0. Raises ValueError for fewer than 2 dimensions and unequal sections."""
    return _split_evenly("vsplit", input, indices_or_sections, 0, 2)


@method
def dsplit(input, indices_or_sections):
    """`tensor_split` along dimension 2. Raises ValueError for fewer than 3 dimensions and unequal sections."""
    return _split_evenly("dsplit", input, indices_or_sections, 2, 3)


def _split_evenly(op, input, parts, dim, least):
    expect(array_of(op, input).ndim >= least, op, f"at least {least} dimensions", input=input)
    expect(not isinstance(parts, int) or (parts > 0 and input.shape[dim] % parts == 0), op,
           "sections that divide the dimension", sections=parts, input=input)
    return tensor_split(input, parts, dim)


# --- more dimensions ---
def atleast_1d(*tensors):
    """0-d tensors as (1,); others as they are. One tensor, or several as a tuple."""
    return _atleast("atleast_1d", 1, tensors)


def atleast_2d(*tensors):
    """0-d tensors as (1, 1), 1-D ones as a row (1, n); others as they are. One tensor, or several as a tuple."""
    return _atleast("atleast_2d", 2, tensors)


def atleast_3d(*tensors):
    """As at least three dimensions: (1, 1, 1), (1, n, 1) or (m, n, 1). One tensor, or several as a tuple."""
    return _atleast("atleast_3d", 3, tensors)


def _atleast(op, n, tensors):
    if len(tensors) != 1 or isinstance(tensors[0], (tuple, list)):
        return tuple([_atleast(op, n, (x,)) for x in (tensors if len(tensors) != 1 else tensors[0])])
    shape = array_of(op, tensors[0], "tensors").shape
    if len(shape) >= n:
        return tensors[0]
    if n == 3 and shape:
        return tensors[0].reshape(*([1] * (2 - len(shape))), *shape, 1)
    return tensors[0].reshape(*[1] * (n - len(shape)), *shape)


def meshgrid(*tensors, indexing=None):
    """The coordinates of a grid: tensor i varies along dimension i only and is expanded along the others, as a tuple.

    With indexing="xy" the first two dimensions are exchanged; "ij" is the default. Raises ValueError for tensors of
    more than one dimension.
    """
    expect(indexing in (None, "ij", "xy"), "meshgrid", "indexing 'ij' or 'xy'", indexing=indexing)
    tensors = list(tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors)
    arrays = _arrays("meshgrid", tensors)
    expect(all(a.ndim <= 1 for a in arrays), "meshgrid", "tensors of at most one dimension",
           tensors=[a.shape for a in arrays])
    expect(all(a.dtype == arrays[0].dtype for a in arrays), "meshgrid", "tensors of one dtype",
           tensors=[str(a.dtype) for a in arrays])
    n = len(tensors)
    places = list(range(n))
    if indexing == "xy" and n > 1:
        places[:2] = 1, 0
    shape = [0] * n
    for place, a in zip(places, arrays, strict=True):
        shape[place] = a.size
    return tuple([Expand(tuple(shape))(x.reshape([a.size if i == place else 1 for i in range(n)]))
                  for x, a, place in zip(tensors, arrays, places, strict=True)])
