"""Order and counting: sort, topk, unique, searchsorted, bincount, one_hot, isin.

Sorting is stable and counts NaN as larger than anything. Of values that were chosen, the gradient goes back to where
they stood; positions and counts have none.
"""
import numpy as np

from kdl import types
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, dimension
from kdl.ops.extremum import Selection
from kdl.ops.select import gather, number_in, positions_in
from kdl.tensor import Tensor, array_module, method

__all__ = ["argsort", "bincount", "bucketize", "isin", "kthvalue", "searchsorted", "sort", "topk", "unique"]


# --- order ---
@method
def sort(input, dim=-1, descending=False, stable=False):
    """The elements along a dimension in order, and where they stood, as (values, indices). Equals keep their order."""
    indices = argsort(input, dim, descending)
    return _selected(input, dim, indices)


@method
def argsort(input, dim=-1, descending=False, stable=False):
    """Where the elements of a dimension stand in order. Equals keep their order. Raises IndexError."""
    array = array_of("argsort", input)
    dim = dimension("argsort", dim, array.ndim)
    if array.ndim == 0:
        return Tensor(array_module(array).zeros((), np.int64))
    return Tensor(_order(_comparable(array), dim, descending))


@method
def topk(input, k, dim=-1, largest=True, sorted=True):
    """The k largest (or smallest) elements along a dimension, in order, and where they stood, as (values, indices).

    Of equal elements the first are taken. Raises ValueError unless 0 <= k <= length, TypeError for booleans.
    """
    array = array_of("topk", input)
    dim = dimension("topk", dim, array.ndim)
    n = array.shape[dim] if array.ndim else 1
    expect_type(array.dtype != types.boolean, "topk", "numbers", input=array.dtype)
    expect(0 <= k <= n, "topk", f"0 <= k <= {n}", k=k, input=array)
    xp, values = array_module(array), np.moveaxis(_comparable(array.reshape(array.shape or (1,))), dim, -1)
    if not 0 < 4 * k < n:
        indices = _order(values, -1, largest)[..., :k]
    else:  # a partition first: 4 times faster than sorting all for k = n / 10
        chosen = xp.argpartition(values, n - k if largest else k - 1, -1)
        chosen = xp.sort(chosen[..., n - k:] if largest else chosen[..., :k], -1)
        order = _order(xp.take_along_axis(values, chosen, -1), -1, largest)
        indices = xp.take_along_axis(chosen, order, -1)
    indices = Tensor(np.moveaxis(indices, -1, dim) if array.ndim else indices.reshape(array.shape if k else (0,)))
    return _selected(input, dim, indices)


@method
def kthvalue(input, k, dim=-1, keepdim=False):
    """The k-th smallest element along a dimension, counted from 1, and where it stood, as (values, indices).

    Raises ValueError unless 1 <= k <= length.
    """
    array = array_of("kthvalue", input)
    dim = dimension("kthvalue", dim, array.ndim)
    n = array.shape[dim] if array.ndim else 1
    expect(1 <= k <= n, "kthvalue", f"1 <= k <= {n}", k=k, input=array)
    if array.ndim == 0:
        return _selected(input, 0, Tensor(array_module(array).zeros((), np.int64)))
    indices = array_module(array).argpartition(_comparable(array), k - 1, dim).take([k - 1], dim)
    values, indices = _selected(input, dim, Tensor(indices))
    return Selection(values, indices) if keepdim else Selection(values.squeeze(dim), indices.squeeze(dim))


def _order(array, dim, descending):
    """Stable positions of the sorted elements; descending ones by sorting the elements from the end."""
    xp = array_module(array)
    if not descending:
        return xp.argsort(array, dim, kind="stable")
    backwards = xp.argsort(xp.flip(array, dim), dim, kind="stable")
    return array.shape[dim] - 1 - xp.flip(backwards, dim)


def _comparable(array):
    """The array, or float32 for bfloat16, which NumPy cannot sort with NaN at the end."""
    return array.astype(np.float32) if array.dtype in types.HALVES else array


def _selected(input, dim, indices):
    return Selection(gather(input, dim, indices), indices)


# --- search and count ---
def searchsorted(sorted_sequence, input, *, out_int32=False, right=False, side=None, sorter=None):
    """Where each value would be inserted in an ascending sequence: before equal elements, or after with right.

    Shapes: one sequence (n) for values of any shape, or (..., n) and (..., m) with equal leading dimensions. `sorter`
    sorts a sequence that is not. Raises ValueError, TypeError.
    """
    sequence = array_of("searchsorted", sorted_sequence, "sorted_sequence")
    expect(side in (None, "left", "right") and not (side == "left" and right), "searchsorted",
           "side 'left' or 'right' that agrees with right", side=side, right=right)
    expect(sequence.ndim > 0, "searchsorted", "a sequence with dimensions", sorted_sequence=sequence)
    xp = array_module(sequence)
    values = input.array if isinstance(input, Tensor) else xp.asarray(number_in("searchsorted", input, types.float64))
    if sorter is not None:
        places = positions_in("searchsorted", sorter, sequence.shape[-1])
        expect(places.shape == sequence.shape, "searchsorted", "a sorter of the sequence's shape", sorter=places,
               sorted_sequence=sequence)
        sequence = xp.take_along_axis(sequence, places, -1)
    sequence, values, right = _comparable(sequence), _comparable(values), right or side == "right"
    if sequence.ndim == 1:
        found = xp.asarray(xp.searchsorted(sequence, values, "right" if right else "left"))
    else:
        expect(sequence.shape[:-1] == values.shape[:-1], "searchsorted", "equal leading dimensions",
               sorted_sequence=sequence, input=values)
        found = _insertion_points(sequence, values, right)
    return Tensor(found.astype(types.int32 if out_int32 else types.int64))


def bucketize(input, boundaries, *, out_int32=False, right=False):
    """`searchsorted` with its arguments exchanged: the bucket of each value. Raises ValueError for N-D boundaries."""
    expect(array_of("bucketize", boundaries, "boundaries").ndim == 1, "bucketize", "1-D boundaries",
           boundaries=boundaries)
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


def _insertion_points(sequence, values, right):
    """For every row: both sorted together, the number of elements of the sequence in front of each value."""
    xp, m = array_module(sequence), values.shape[-1]
    parts = (sequence, values) if right else (values, sequence)
    order = xp.argsort(xp.concatenate(parts, -1), -1, kind="stable")
    ours = order < sequence.shape[-1] if right else order >= m
    in_front = xp.empty_like(order)
    xp.put_along_axis(in_front, order, xp.cumsum(ours, -1), -1)
    return in_front[..., -m:] if right and m else in_front[..., :m]


def count_not_above(edges, points):
    """For each row of two host arrays: how many edges, ascending, are not above each point."""
    return _insertion_points(edges, points, right=True)


@method
def bincount(input, weights=None, minlength=0):
    """How often each number from 0 on occurs in a 1-D tensor, or the sum of the weights at its occurrences.

    int64, or the weights' dtype where that is float32, else float64. Raises TypeError, ValueError.
    """
    array = array_of("bincount", input)
    expect_type(array.dtype.kind in "iu", "bincount", "integers", input=array.dtype)
    smallest = int(array.min()) if array.size else 0
    expect(array.ndim == 1 and smallest >= 0, "bincount", "a 1-D tensor of numbers from 0 on", input=input,
           smallest=smallest)
    expect(minlength >= 0, "bincount", "minlength >= 0", minlength=minlength)
    xp = array_module(array)
    if weights is None:
        return Tensor(xp.bincount(array, minlength=minlength).astype(np.int64, copy=False))
    w = array_of("bincount", weights, "weights")
    expect(w.shape == array.shape, "bincount", "weights of the input's shape", weights=w, input=array)
    sums = xp.bincount(array, w.astype(np.float64), minlength)
    return Tensor(sums.astype(types.float32 if w.dtype == types.float32 else types.float64))


@method
def unique(input, sorted=True, return_inverse=False, return_counts=False, dim=None):
    """The different elements in ascending order, or the different slices of a dimension.

    With return_inverse also where each element of the input went, with return_counts how often each occurs, as a
    tuple. Every NaN is different. Raises ValueError for empty slices.
    """
    array = array_of("unique", input)
    axis = None if dim is None else dimension("unique", dim, array.ndim)
    expect(axis is None or array.shape[axis] == 0 or array.size, "unique", "slices with elements", input=array, dim=dim)
    found = array_module(array).unique(_comparable(array), return_inverse=True, return_counts=True, axis=axis,
                                       equal_nan=False)
    values, inverse, counts = found
    inverse = inverse.reshape(array.shape if axis is None else -1)
    results = [Tensor(values.astype(array.dtype, copy=False))]
    results += [Tensor(inverse)] if return_inverse else []
    results += [Tensor(counts)] if return_counts else []
    return tuple(results) if len(results) > 1 else results[0]


def isin(elements, test_elements, *, assume_unique=False, invert=False):
    """Which elements occur in test_elements (or, with invert, do not), as booleans. NaN occurs nowhere.

    One of them may be a number. Raises TypeError.
    """
    tensors = [x for x in (elements, test_elements) if isinstance(x, Tensor)]
    expect_type(tensors, "isin", "at least one tensor", elements=elements, test_elements=test_elements)
    xp = array_module(tensors[0].array)
    both = [_comparable(x.array) if isinstance(x, Tensor) else np.asarray(x) for x in (elements, test_elements)]
    return Tensor(xp.asarray(xp.isin(*both, assume_unique=assume_unique, invert=invert)))


def one_hot(tensor, num_classes=-1):
    """(..., num_classes): 1 at the class, 0 elsewhere, as int64. Without num_classes, the largest class + 1.

    Raises TypeError for a dtype other than int64, ValueError for classes outside [0, num_classes).
    """
    array = array_of("one_hot", tensor, "tensor")
    expect_type(array.dtype == types.int64, "one_hot", "an int64 tensor", tensor=array.dtype)
    expect(array.size or num_classes > 0, "one_hot", "num_classes above 0 for an empty tensor", num_classes=num_classes)
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    classes = high + 1 if num_classes == -1 else num_classes
    expect(low >= 0 and high < classes, "one_hot", f"classes in [0, {classes - 1}]", smallest=low, largest=high)
    xp = array_module(array)
    return Tensor((array[..., None] == xp.arange(classes)).astype(types.int64))
