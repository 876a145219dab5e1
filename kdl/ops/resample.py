"""interpolate: a signal, image or volume at another size.

Every mode but "area" is a weighted sum along each axis in turn: y[i] = sum over k of w[i, k] x[at[i, k]], so that
gx[at[i, k]] gathers w[i, k] gy[i]. Output i lies at s = i (L - 1) / (L' - 1) with align_corners, otherwise at
s = (i + 1/2) scale - 1/2, and takes
nearest          x at floor(i scale), "nearest-exact" at floor((i + 1/2) scale)
linear           the two neighbours of s, by their distance from it
cubic            four neighbours, by Keys' polynomial with a = -3/4 (Keys, 1981)
antialias        the same filters, stretched by scale where that is above 1, with a = -1/2; weights that add up to 1
where scale is L / L', or 1 / scale_factor. "area" is the mean over the places an output covers.
"""
import math

import numpy as np

from kdl import types
from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.common import floating, ints, is_channels_last
from kdl.ops.pool import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from kdl.tensor import channels_to_end

__all__ = ["interpolate"]

_MODES = {1: ("nearest", "nearest-exact", "linear", "area"),
          2: ("nearest", "nearest-exact", "bilinear", "bicubic", "area"),
          3: ("nearest", "nearest-exact", "trilinear", "area")}


def interpolate(input, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None,
                antialias=False):
    """(N, C, L), (N, C, H, W) or (N, C, D, H, W) at `size`, or at scale_factor times its size, rounded down.

    mode: "nearest", "nearest-exact", "area", and "linear", "bilinear" or "bicubic", "trilinear" for 1, 2, 3 axes.
    recompute_scale_factor takes the scale from the sizes where a factor is given. antialias is for "bilinear" and
    "bicubic". Raises TypeError, ValueError.
    """
    op = "interpolate"
    floating(op, input=input)
    n = input.ndim - 2
    expect(n in (1, 2, 3), op, "an input of 3 to 5 dimensions", input=input)
    expect(mode in _MODES[n], op, f"mode {', '.join(map(repr, _MODES[n]))} for {n} axes", mode=mode, input=input)
    smooth = mode in ("linear", "bilinear", "bicubic", "trilinear")
    expect(align_corners is None or smooth, op, "align_corners with a linear or cubic mode", mode=mode,
           align_corners=align_corners)
    expect(not antialias or mode in ("bilinear", "bicubic"), op, "antialias with mode 'bilinear' or 'bicubic'",
           mode=mode)
    lengths = input.array.shape[2:]
    sizes, factors = _sizes(op, size, scale_factor, recompute_scale_factor, lengths)
    expect(min(lengths) > 0 and min(sizes) > 0 and input.shape[1] > 0, op, "sizes above 0", input=input, size=sizes)
    if mode == "area":
        return (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[n - 1](input, sizes)
    corners = bool(align_corners)
    tables = [_table(mode, length, wanted, factor, corners, antialias)
              for length, wanted, factor in zip(lengths, sizes, factors, strict=True)]
    return Resample(tables)(input)


def _sizes(op, size, scale_factor, recompute, lengths):
    """The lengths of the output, and for each axis the factor that gives the scale, or None for the sizes' own."""
    n = len(lengths)
    expect((size is None) != (scale_factor is None), op, "either size or scale_factor", size=size,
           scale_factor=scale_factor)
    if size is not None:
        expect(not recompute, op, "recompute_scale_factor with scale_factor only", size=size)
        return ints(op, "size", size, n), (None,) * n
    factors = tuple(scale_factor) if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * n
    expect_type(all(isinstance(f, (int, float)) for f in factors), op, "scale_factor to be numbers",
                scale_factor=scale_factor)
    expect(len(factors) == n and min(factors) > 0, op, f"a scale_factor above 0, or {n} of them",
           scale_factor=scale_factor)
    sizes = tuple([math.floor(length * float(f)) for length, f in zip(lengths, factors, strict=True)])
    return sizes, (None,) * n if recompute else factors


# --- tables: for every output the places it is taken from and their weights, (L', taps) each ---
def _table(mode, length, wanted, factor, corners, antialias):
    i = np.arange(wanted)
    if mode.startswith("nearest"):
        scale = np.float32(length / wanted if factor is None else 1 / factor)  # torch's precision decides where to cut
        shift = np.float32(0.5 if mode == "nearest-exact" else 0)
        at = np.minimum(np.floor((i.astype(np.float32) + shift) * scale).astype(np.int64), length - 1)
        return at[:, None], np.ones((wanted, 1))
    if corners:
        scale = (length - 1) / (wanted - 1) if wanted > 1 else 0.0
    else:
        scale = length / wanted if factor is None else 1 / factor
    if antialias:
        return _antialiased(length, i, scale, mode == "bicubic")
    s = i * scale if corners else (i + 0.5) * scale - 0.5
    if mode == "bicubic":
        first = np.floor(s)
        at = (first[:, None] + np.arange(-1, 3)).astype(np.int64)
        return np.clip(at, 0, length - 1), _cubic(at - s[:, None], -0.75)
    s = np.maximum(s, 0)
    first = np.minimum(s.astype(np.int64), length - 1)
    second = np.minimum(first + 1, length - 1)
    w = np.minimum(s - first, 1)
    return np.stack([first, second], 1), np.stack([1 - w, w], 1)


def _antialiased(length, i, scale, cubic):
    stretch = max(scale, 1.0)
    support = (2 if cubic else 1) * stretch
    centre = scale * (i + 0.5)
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), length)
    at = first[:, None] + np.arange((last - first).max(initial=1))
    distance = (at - centre[:, None] + 0.5) / stretch
    w = _cubic(distance, -0.5) if cubic else np.maximum(1 - np.abs(distance), 0)
    w = np.where(at < last[:, None], w, 0)
    return np.minimum(at, length - 1), w / w.sum(1, keepdims=True)


def _cubic(distance, a):
    """Keys' polynomial: 1 at distance 0, 0 at the other places and from 2 on."""
    d = np.abs(distance)
    near, far = ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


class Resample(Function):
    """One table per axis, applied from the last axis to the first; kernels see (outer, L, inner)."""

    def __init__(self, tables):
        self.tables = tables

    def forward(self, x):
        self.last, self.dtype = is_channels_last(x), x.dtype
        self.dims = range(1, x.ndim - 1) if self.last else range(2, x.ndim)
        array = self.in_order(x)
        dtype = array.dtype
        self.tables = [(self.k.xp.asarray(at), self.k.xp.asarray(w, dtype)) for at, w in self.tables]
        self.lengths = [array.shape[dim] for dim in self.dims]
        for dim, table in reversed(list(zip(self.dims, self.tables, strict=True))):
            array = self.along("resample_forward", array, dim, table, len(table[0]))
        return self.out_of_order(array)

    def backward(self, gy, wanted):
        array = self.in_order(gy)
        for dim, table, length in zip(self.dims, self.tables, self.lengths, strict=True):
            array = self.along("resample_backward", array, dim, table, length)
        return self.out_of_order(array)

    def along(self, kernel, array, dim, table, length):
        """The kernel along one axis of a contiguous array, which gets the given length."""
        shape = array.shape
        outer, inner = math.prod(shape[:dim]), math.prod(shape[dim + 1:])
        y = self.k.empty((*shape[:dim], length, *shape[dim + 1:]), array.dtype)
        if y.size:
            getattr(self.k, kernel)(array.reshape(outer, shape[dim], inner), *table, y.reshape(outer, length, inner))
        return y

    def in_order(self, array):
        """Contiguous, with the channels where they lie in memory, and float32 for halves."""
        array = self.k.xp.ascontiguousarray(channels_to_end(array) if self.last else array)
        return array.astype(np.float32) if array.dtype in types.HALVES else array

    def out_of_order(self, array):
        array = array.astype(self.dtype, copy=False)
        return array.transpose(0, array.ndim - 1, *range(1, array.ndim - 1)) if self.last else array
