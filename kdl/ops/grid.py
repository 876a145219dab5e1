"""grid_sample: the values of an image or volume at places given by a grid, and affine_grid, which makes such grids.

A place has coordinates in [-1, 1], x (along the last axis of the input) first; -1 and 1 are the centres of the first
and last elements with align_corners, their outer edges otherwise. A value is a weighted sum of the elements around: the
nearest one, the 2^n by linear weights, or 4 x 4 by Keys' polynomial. All of it is made of other functions, so gradients
reach the input through `gather` and the grid through the weights. (Jaderberg et al., 2015.)
"""
import math
from itertools import product as pairs

import numpy as np

from kdl import types
from kdl.errors import expect, expect_type
from kdl.ops.common import floating
from kdl.ops.compare import clamp
from kdl.ops.gemm import bmm
from kdl.tensor import Tensor

__all__ = ["affine_grid", "grid_sample"]


def affine_grid(theta, size, align_corners=None):
    """The grid (N, H, W, 2) of an affine map theta (N, 2, 3), for size (N, C, H, W); or with a depth, for (N, 3, 4).

    Place (x, y) of the output is taken from theta (x, y, 1). Raises TypeError, ValueError.
    """
    op = "affine_grid"
    floating(op, theta=theta)
    expect_type(isinstance(size, (tuple, list)) and all(isinstance(n, int) for n in size), op, "size to be ints",
                size=size)
    n = len(size) - 2
    expect(n in (2, 3) and theta.shape == (size[0], n, n + 1) and min(size) > 0, op,
           "size (N, C, H, W) with theta (N, 2, 3), or (N, C, D, H, W) with (N, 3, 4)", theta=theta, size=size)
    axes = []
    for length in size[2:]:
        places = np.linspace(-1, 1, length) if length > 1 else np.zeros(1)
        axes.append(places if align_corners or length == 1 else places * ((length - 1) / length))
    places = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(size[2:])], -1).reshape(1, -1, n + 1)
    base = Tensor(places.astype(theta.dtype)).to(theta.device).expand(size[0], -1, -1)
    return bmm(base, theta.transpose(1, 2)).reshape(size[0], *size[2:], n)


def grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
    """The values of (N, C, H, W) at a grid (N, P, Q, 2): (N, C, P, Q); or with a depth, at (N, O, P, Q, 3).

    mode: "nearest", "bilinear" (linear along every axis) or, for images, "bicubic". padding_mode says what lies
    outside: "zeros", the "border", or a "reflection" at the corners' places. Mode "nearest" gives the grid no gradient.
    Raises TypeError, ValueError.
    """
    op = "grid_sample"
    floating(op, input=input, grid=grid)
    n = input.ndim - 2
    expect(mode in ("bilinear", "nearest", "bicubic"), op, "mode 'bilinear', 'nearest' or 'bicubic'", mode=mode)
    expect(padding_mode in ("zeros", "border", "reflection"), op, "padding_mode 'zeros', 'border' or 'reflection'",
           padding_mode=padding_mode)
    expect(n in (2, 3) and grid.ndim == input.ndim and grid.shape[0] == input.shape[0] and grid.shape[-1] == n, op,
           "input (N, C, H, W) and grid (N, P, Q, 2), or (N, C, D, H, W) and (N, O, P, Q, 3)", input=input, grid=grid)
    expect(mode != "bicubic" or n == 2, op, "an image for mode 'bicubic'", input=input)
    expect(0 not in input.shape[2:], op, "lengths above 0", input=input)
    N, C, *lengths = input.shape
    outputs = grid.shape[1:-1]
    corners = bool(align_corners)
    axes = []  # per axis: the taps, each a place (an element's number as a float), its weight, whether it is inside
    for x, length in zip(reversed(grid.reshape(N, math.prod(outputs), n).unbind(-1)), lengths, strict=True):
        x = (x + 1) * ((length - 1) / 2) if corners else ((x + 1) * length - 1) * 0.5
        axes.append(_taps(x, length, mode, padding_mode, corners))
    flat, total = input.reshape(N, C, math.prod(lengths)), None
    for taps in pairs(*axes):
        position, weight, inside = 0, None, None
        for (place, w, within), length in zip(taps, lengths, strict=True):
            position = position * length + place.array.astype(types.int64)
            weight = w if weight is None or w is None else weight * w
            inside = within if inside is None else inside & within
        index = Tensor(position).unsqueeze(1).expand(N, C, -1)
        value = flat.gather(2, index)
        if padding_mode == "zeros":
            inside = inside.to(input.dtype)
            weight = inside if weight is None else weight * inside
        value = value if weight is None else value * weight.unsqueeze(1)
        total = value if total is None else total + value
    return total.reshape(N, C, *outputs)


def _taps(x, length, mode, padding_mode, corners):
    """(place inside, weight or None for 1, whether the place was inside) of every tap along one axis."""
    if mode == "bicubic":  # here the places are brought inside, not the coordinate
        first = x.detach().floor()
        t = x - first
        weights = _keys(t + 1), _keys(t), _keys(1 - t), _keys(2 - t)
        places = [first + k for k in (-1, 0, 1, 2)]
        brought = [p if padding_mode == "zeros" else _inside(p, length, padding_mode, corners) for p in places]
        return [_tap(p, w, length) for p, w in zip(brought, weights, strict=True)]
    if padding_mode != "zeros":
        x = _inside(x, length, padding_mode, corners)
    if mode == "nearest":
        return [_tap(x.detach().round(), None, length)]
    first = x.detach().floor()
    return [_tap(first, first + 1 - x, length), _tap(first + 1, x - first, length)]


def _tap(place, weight, length):
    within = (place >= 0) & (place <= length - 1)
    return place.detach().nan_to_num(-1.0).clamp(0, length - 1).round(), weight, within


def _inside(x, length, padding_mode, corners):
    """The coordinate brought into [0, length - 1]."""
    if padding_mode == "reflection":
        low, high = (0.0, length - 1.0) if corners else (-0.5, length - 0.5)
        if low == high:
            x = x * 0
        else:
            span = high - low
            distance = (x - low).abs()
            flips = (distance.detach() / span).floor()
            rest = distance - flips * span
            odd = (flips % 2).to(x.dtype)
            x = rest + low + odd * (span - 2 * rest)
    return clamp(x, 0, length - 1)


def _keys(distance):
    """Keys' polynomial with a = -3/4, at a distance in [0, 2]."""
    a = -0.75
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    inner = (distance.detach() <= 1).to(distance.dtype)
    return near * inner + far * (1 - inner)
