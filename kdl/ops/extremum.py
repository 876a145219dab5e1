"""The largest, the smallest and the middle: max, min, amax, amin, argmax, argmin, median.

NaN counts as larger than anything in max and as smaller in min: a result is NaN where there is one. A result over one
dimension sends its gradient to the element at its index, the first of equal ones; a result over all dimensions, and
amax and amin, share it evenly among equals.
"""
import math
from typing import NamedTuple

from kdl import types
from kdl.autograd import Function
from kdl.autograd.function import as_array
from kdl.autograd.quiet import quiet
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, dimension
from kdl.ops.compare import maximum, minimum
from kdl.ops.reduce import Reduction, axes_of, count_of, reduced
from kdl.tensor import Tensor, array_module, method

__all__ = ["amax", "amin", "aminmax", "argmax", "argmin", "max", "median", "min", "nanmedian"]


class Selection(NamedTuple):
    """The elements chosen along a dimension, and where they stood in it."""
    values: Tensor
    indices: Tensor


@method
def max(input, dim=None, keepdim=False, *, other=None):
    """The largest element; with `dim` the largest along it, as (values, indices); with another tensor, `maximum`.

    Raises ValueError where there is no element to choose, IndexError for a dimension out of range.
    """
    if isinstance(dim, Tensor) or other is not None:
        return maximum(input, dim if other is None else other)
    return _extremum("max", input, dim, keepdim)


@method
def min(input, dim=None, keepdim=False, *, other=None):
    """The smallest element; with `dim` the smallest along it, as (values, indices); with another tensor, `minimum`.

    Raises ValueError where there is no element to choose, IndexError for a dimension out of range.
    """
    if isinstance(dim, Tensor) or other is not None:
        return minimum(input, dim if other is None else other)
    return _extremum("min", input, dim, keepdim)


@method
def amax(input, dim=(), keepdim=False):
    """The largest elements over the dimensions. Raises ValueError where there is none."""
    return _all_equals("amax", input, dim, keepdim)


@method
def amin(input, dim=(), keepdim=False):
    """The smallest elements over the dimensions. Raises ValueError where there is none."""
    return _all_equals("amin", input, dim, keepdim)


@method
def aminmax(input, *, dim=None, keepdim=False):
    """`amin` and `amax` over one dimension or all. Raises ValueError where there is no element."""
    dim = () if dim is None else dim
    return amin(input, dim, keepdim), amax(input, dim, keepdim)


@method
def argmax(input, dim=None, keepdim=False):
    """Where the largest element stands in the dimension, or in the flattened tensor. Raises TypeError for booleans."""
    return _position("argmax", input, dim, keepdim)


@method
def argmin(input, dim=None, keepdim=False):
    """Where the smallest element stands in the dimension, or in the flattened tensor. Raises TypeError for booleans."""
    return _position("argmin", input, dim, keepdim)


@method
def median(input, dim=None, keepdim=False):
    """The element in the middle of the sorted ones, the lower of two; with `dim` as (values, indices).

    It is NaN where an element is, or where there is none. Raises TypeError for booleans, ValueError for an empty
    dimension.
    """
    expect_type(array_of("median", input).dtype != types.boolean, "median", "a tensor that is not boolean",
                dtype=input.dtype)
    if dim is not None:
        return _selected("median", MedianAlong, input, dim, keepdim)
    return reduced("median", Median, input, None, False, integers="keep")


@method
def nanmedian(input, dim=None, keepdim=False):
    """`median` of the elements that are not NaN; NaN where there is none."""
    expect_type(array_of("nanmedian", input).dtype != types.boolean, "nanmedian", "a tensor that is not boolean",
                dtype=input.dtype)
    if dim is not None:
        return _selected("nanmedian", NanMedianAlong, input, dim, keepdim)
    return reduced("nanmedian", NanMedian, input, None, False, integers="keep")


def _extremum(op, input, dim, keepdim):
    if dim is not None:
        return _selected(op, MaxAlong if op == "max" else MinAlong, input, dim, keepdim)
    expect(array_of(op, input).size, op, "at least one element (or a dim)", input=input)
    return reduced(op, Max if op == "max" else Min, input, None, keepdim, integers="keep")


def _all_equals(op, input, dim, keepdim):
    array = array_of(op, input)
    expect(count_of(array.shape, axes_of(op, dim, array.ndim)), op, "at least one element to choose from", input=input)
    return reduced(op, AMax if op == "amax" else AMin, input, dim, keepdim, integers="keep")


def _selected(op, function, input, dim, keepdim):
    """The Selection of a function of one dimension."""
    array = array_of(op, input)
    axis = dimension(op, dim, array.ndim)
    expect(array.ndim == 0 or array.shape[axis], op, "a dimension that is not empty", input=input, dim=dim)
    x = input.float() if array.dtype in types.HALVES else input
    values, indices = function(axis, keepdim)(x)
    return Selection(values.to(array.dtype), indices)


@quiet
def _position(op, input, dim, keepdim):
    array = array_of(op, input)
    axis = None if dim is None else dimension(op, dim, array.ndim)
    expect_type(array.dtype != types.boolean, op, "a tensor that is not boolean", dtype=array.dtype)
    expect(array.size or (axis is not None and array.shape[axis]), op, "at least one element to choose from",
           input=input, dim=dim)
    array = array_module(array).array(array, types.float32) if array.dtype in types.HALVES else array
    return Tensor(as_array(getattr(array_module(array), op)(array, axis=axis if array.ndim else None,
                                                           keepdims=keepdim)))


# --- over all, or several, dimensions ---
class AMax(Reduction):
    """gx_i = gy / m for the m elements that equal y."""
    largest = True

    def forward(self, x):
        self.x = x
        self.y = getattr(x, "max" if self.largest else "min")(axis=self.axes, keepdims=self.keepdim)
        return self.y

    def backward(self, gy, wanted):
        equal = self.x == self.kept(self.y, self.x.ndim)
        return equal * (self.kept(gy, self.x.ndim) / equal.sum(axis=self.axes, keepdims=True)).astype(gy.dtype)


class AMin(AMax):
    largest = False


class Max(AMax):
    """gx_i = gy / m for the m elements that equal y, or are NaN where y is."""

    def backward(self, gy, wanted):
        xp, x, y = self.k.xp, self.x, self.y
        equal = (x == y) | ((x != x) & (y != y))
        return xp.where(equal, (gy / equal.sum()).astype(gy.dtype), 0)


class Min(Max):
    largest = False


class Median(Max):
    def forward(self, x):
        self.x = x
        ordered = self.k.xp.sort(x, axis=None)  # NaN last
        middle = ordered[(x.size - 1) // 2] if x.size else self.k.xp.asarray(math.nan, x.dtype)
        self.y = middle if x.dtype.kind != "f" or not x.size else self.k.xp.where(
            ordered[-1] == ordered[-1], middle, ordered[-1])
        return self.y


class NanMedian(Max):
    def forward(self, x):
        self.x = x
        ordered = self.k.xp.sort(x, axis=None)  # NaN last
        valid = int((x == x).sum())
        self.y = ordered[(valid - 1 if valid else 0) // 2] if x.size else self.k.xp.asarray(math.nan, x.dtype)
        return self.y


# --- along one dimension ---
class Along(Function):
    """y = x[index] along an axis; gx is gy at the index and 0 elsewhere."""


    def __init__(self, axis, keepdim):
        self.axis, self.keepdim = axis, keepdim

    def forward(self, x):
        self.shape = x.shape
        x = x.reshape(1) if x.ndim == 0 else x
        self.indices = indices = self.index(self.k.xp, x)
        values = self.k.xp.take_along_axis(x, indices, self.axis)
        if self.keepdim and self.shape:
            return values, indices
        return values.squeeze(self.axis), indices.squeeze(self.axis)

    def backward(self, gy, wanted):
        xp, (gy, _) = self.k.xp, gy
        if not self.shape:
            return gy
        gy = gy if self.keepdim else xp.expand_dims(gy, self.axis)
        places = xp.arange(self.shape[self.axis]).reshape(-1, *[1] * (len(self.shape) - self.axis - 1))
        return xp.where(places == self.indices, gy, 0)

    def index(self, xp, x):
        raise NotImplementedError


class MaxAlong(Along):
    def index(self, xp, x):
        return xp.argmax(x, axis=self.axis, keepdims=True)


class MinAlong(Along):
    def index(self, xp, x):
        return xp.argmin(x, axis=self.axis, keepdims=True)


class MedianAlong(Along):
    def index(self, xp, x):
        middle = (x.shape[self.axis] - 1) // 2
        index = xp.take(xp.argsort(x, axis=self.axis), xp.asarray([middle]), axis=self.axis)
        invalid = x != x
        return xp.where(invalid.any(axis=self.axis, keepdims=True),
                        xp.argmax(invalid, axis=self.axis, keepdims=True), index)


class NanMedianAlong(Along):
    def index(self, xp, x):
        valid = (x == x).sum(axis=self.axis, keepdims=True)
        return xp.take_along_axis(xp.argsort(x, axis=self.axis), xp.maximum(valid - 1, 0) // 2, self.axis)
