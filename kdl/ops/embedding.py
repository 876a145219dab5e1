"""Embeddings: rows of a table looked up by number, each alone or in bags.

embedding      y[i] = w[x_i];  gw[r] = the sum of gy[i] over the i with x_i = r
embedding_bag  y[b] = sum of s_i w[x_i] over the i of bag b, or their mean or (per column) maximum;
               gw[r] = the sum of s_i gy[b(i)], of gy[b(i)] / n_b, or of gy where row r was the first largest;
               gs[i] = gy[b(i)] . w[x_i]

Shapes: w (rows, D); numbers are int64 or int32 of any shape, of a bag one row of a matrix, or what lies between two
offsets in a vector. Row `padding_idx` gets no gradient and does not count in a bag. With max_norm the rows that are
looked up are first scaled down in place to that norm. All functions raise TypeError, ValueError, IndexError.
"""
import numpy as np

from kdl import types
from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, floating
from kdl.ops.indexing import add_at, add_slices
from kdl.ops.select import positions_in
from kdl.tensor import Tensor, array_module

__all__ = ["embedding", "embedding_bag"]


def embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    """The rows of weight (rows, D) at the numbers of input, of any shape: (..., D).

    With scale_grad_by_freq the gradient of a row is divided by how often it was looked up.
    """
    index = _numbers("embedding", input, weight, sparse)
    padding_idx = _padding("embedding", padding_idx, weight)
    if max_norm is not None:
        _renorm(weight, index, max_norm, norm_type)
    return Embedding(padding_idx, scale_grad_by_freq)(weight, index)


def embedding_bag(input, weight, offsets=None, max_norm=None, norm_type=2, scale_grad_by_freq=False, mode="mean",
                  sparse=False, per_sample_weights=None, include_last_offset=False, padding_idx=None):
    """One row (D) per bag of numbers: the "sum", "mean" or "max" of their rows of weight; 0 for an empty bag.

    input (B, n) is B bags; input (n) is cut into bags before the numbers that offsets name; with include_last_offset
    the last of them is where the last bag ends. per_sample_weights, of input's shape, multiply the rows of a "sum".
    """
    op = "embedding_bag"
    index = _numbers(op, input, weight, sparse)
    expect(mode in ("sum", "mean", "max"), op, "mode 'sum', 'mean' or 'max'", mode=mode)
    expect(mode != "max" or not scale_grad_by_freq, op, "no scale_grad_by_freq with mode 'max'", mode=mode)
    padding_idx = _padding(op, padding_idx, weight)
    if per_sample_weights is not None:
        expect(mode == "sum", op, "per_sample_weights with mode 'sum' only", mode=mode)
        floating(op, per_sample_weights=per_sample_weights, weight=weight)
        expect(per_sample_weights.shape == input.shape, op, "per_sample_weights of the shape of input",
               per_sample_weights=per_sample_weights, input=input)
        per_sample_weights = per_sample_weights.reshape(-1)
    ends = _ends(op, input, offsets, include_last_offset)
    if max_norm is not None:
        _renorm(weight, index, max_norm, norm_type)
    xp = array_module(index)
    lengths = xp.diff(ends, prepend=xp.zeros(1, ends.dtype))
    bag, index = xp.repeat(xp.arange(len(ends)), lengths.tolist() if xp is not np else lengths), index.reshape(-1)
    if padding_idx is not None:
        kept = index != padding_idx
        bag, index = bag[kept], index[kept]
        lengths = xp.bincount(bag, minlength=len(ends))
        per_sample_weights = None if per_sample_weights is None else per_sample_weights[Tensor(kept)]
    if mode == "max":
        return MaxBag()(weight, index, bag, len(ends))
    return Bag(mode == "mean", scale_grad_by_freq, lengths)(weight, per_sample_weights, index, bag, len(ends))


# --- arguments ---
def _numbers(op, input, weight, sparse):
    """The numbers as a new int64 array, after checking that they are rows of weight."""
    array_of(op, input)
    floating(op, weight=weight)
    expect_type(input.dtype in (types.int64, types.int32), op, "an input of dtype int64 or int32; use input.long()",
                input=input.dtype)
    expect(weight.ndim == 2, op, "weight of shape (rows, D)", weight=weight)
    expect(not sparse, op, "sparse False: gradients are dense", sparse=sparse)
    return positions_in(op, input, len(weight)).astype(np.int64)


def _padding(op, padding_idx, weight):
    """The row without gradient, counted from 0."""
    if padding_idx is None:
        return None
    expect(-len(weight) <= padding_idx < len(weight), op, "padding_idx within the rows of weight",
           padding_idx=padding_idx, weight=weight)
    return padding_idx % len(weight)


def _ends(op, input, offsets, include_last_offset):
    """Where in the flattened input every bag ends."""
    xp = array_module(input.array)
    if input.ndim == 2:
        expect(offsets is None, op, "no offsets with an input of two dimensions", input=input, offsets=offsets)
        return xp.arange(1, len(input) + 1) * input.shape[1]
    expect(input.ndim == 1, op, "an input of one or two dimensions", input=input)
    starts = array_of(op, offsets, "offsets")
    expect(starts.ndim == 1 and (not include_last_offset or starts.size), op, "offsets of one dimension",
           offsets=offsets)
    expect_type(starts.dtype in (types.int64, types.int32), op, "offsets of dtype int64 or int32",
                offsets=starts.dtype)
    n = input.array.size
    given = starts if include_last_offset else xp.append(starts, n)
    expect(given[0] == 0 and bool((xp.diff(given) >= 0).all()) and given[-1] <= n, op,
           f"offsets that start at 0, never fall, and stay within the {n} numbers", offsets=offsets.tolist())
    ends = given[1:].astype(np.int64)
    if include_last_offset and ends.size:
        ends[-1] = n
    return ends


def _renorm(weight, index, max_norm, norm_type):
    """Scale the rows that are looked up to at most max_norm, in place."""
    xp = array_module(index)
    rows = xp.unique(index)
    norms = (xp.abs(weight.array[rows].astype(np.float64))**norm_type).sum(1)**(1 / norm_type)
    large = norms > max_norm
    rows, scale = rows[large], (max_norm / (norms[large] + 1e-7)).astype(weight.dtype)
    if rows.size:
        weight.array[rows] *= scale[:, None]
        weight.version[0] += 1


# --- Functions ---
class Embedding(Function):
    def __init__(self, padding_idx, by_frequency):
        self.padding_idx, self.by_frequency = padding_idx, by_frequency

    def forward(self, weight, index):
        self.shape, self.index = weight.shape, index
        return weight.take(index, 0)

    def backward(self, gy, wanted):
        index = self.index.reshape(-1)
        if self.by_frequency:
            gy = gy / _frequency(self.k.xp, index, self.shape[0], gy.dtype).reshape(*self.index.shape, 1)
        gw = add_slices(self.k, self.shape, 0, index, gy)
        if self.padding_idx is not None:
            gw[self.padding_idx] = 0
        return gw, None


class Bag(Function):
    """The sum of the rows times their weights, or their mean, which divides by the lengths of the bags."""

    def __init__(self, mean, by_frequency, lengths):
        self.mean, self.by_frequency, self.lengths = mean, by_frequency, lengths

    def forward(self, weight, scale, index, bag, n):
        self.index, self.bag, self.shape, self.scale = index, bag, weight.shape, scale
        self.weight = weight if self.needs_input_grad[1] else None
        shape = n, weight.shape[1]
        if scale is not None:
            return add_slices(self.k, shape, 0, bag, weight.take(index, 0) * scale[:, None])
        y = add_slices(self.k, shape, 0, bag, weight, index)
        if self.mean:
            self.lengths = self.k.xp.maximum(self.lengths, 1).astype(weight.dtype)[:, None]
            y /= self.lengths
        return y

    def backward(self, gy, wanted):
        gw = gs = None
        if wanted[1]:
            gs = (gy.take(self.bag, 0) * self.weight.take(self.index, 0)).sum(1, dtype=gy.dtype)
        if wanted[0]:
            if self.mean:
                gy = gy / self.lengths
            scale = self.scale
            if self.by_frequency:
                frequency = _frequency(self.k.xp, self.index, self.shape[0], gy.dtype)
                scale = 1 / frequency if scale is None else scale / frequency
            if scale is None:
                gw = add_slices(self.k, self.shape, 0, self.index, gy, self.bag)
            else:
                gw = add_slices(self.k, self.shape, 0, self.index, gy.take(self.bag, 0) * scale[:, None])
        return gw, gs, None, None, None


class MaxBag(Function):
    """The largest of every column; the gradient goes to the first row that has it."""

    def forward(self, weight, index, bag, n):
        xp = self.k.xp
        y = self.k.zeros((n, weight.shape[1]), weight.dtype)
        self.shape = weight.shape
        if index.size:
            rows, order = weight.take(index, 0), xp.arange(len(index))[:, None]
            first = xp.flatnonzero(xp.diff(bag, prepend=xp.full(1, -1)))
            self.filled = bag[first]
            y[self.filled] = xp.maximum.reduceat(rows, first, 0)
            self.winner = index[xp.minimum.reduceat(xp.where(rows == y[bag], order, len(index) - 1), first, 0)]
        return y

    def backward(self, gy, wanted):
        if not hasattr(self, "winner"):
            return self.k.zeros(self.shape, gy.dtype), None, None, None
        positions = self.winner * self.shape[1] + self.k.xp.arange(self.shape[1])
        return add_at(self.k, self.shape, positions, gy[self.filled]), None, None, None


def _frequency(xp, index, rows, dtype):
    """How often the number at each place occurs."""
    return xp.bincount(index, minlength=rows)[index].astype(dtype)
