"""Normalisation within every example: of a layer, of groups of channels, of channels, of neighbours, of a vector.

forward   y = (x - m) r w + b,  r = 1 / sqrt(v + eps), with m and v the mean and the (biased) variance over
          layer_norm: the last dimensions;  group_norm: a group of channels of one example;
          instance_norm: one channel of one example
          rms_norm: y = x r w with r = 1 / sqrt(mean(x^2) + eps) over the last dimensions
backward  with xh = (x - m) r, g = w gy and means over the same elements: gx = r (g - mean(g) - xh mean(g xh)), without
          mean(g) for rms_norm;  gw = sum(gy xh), gb = sum(gy)

instance_norm is batch_norm of N C channels; local_response_norm and normalize are formulas over other functions.
(Ba et al., 2016; Wu and He, 2018; Ulyanov et al., 2016; Zhang and Sennrich, 2019; Krizhevsky et al., 2012.)
"""
from math import prod

import numpy as np

from kdl import types
from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.batchnorm import batch_norm
from kdl.ops.common import assign_, floating
from kdl.ops.pad import pad
from kdl.ops.pool import avg_pool2d, avg_pool3d
from kdl.ops.reduce import norm

__all__ = ["group_norm", "instance_norm", "layer_norm", "local_response_norm", "normalize", "rms_norm"]


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Bring the elements of the last dimensions to mean 0 and variance 1, then scale by weight and shift by bias.

    normalized_shape: the lengths of those dimensions, which weight and bias also have. Raises TypeError, ValueError.
    """
    shape = _trailing("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    return LayerNorm(shape, eps)(input, weight, bias)


def rms_norm(input, normalized_shape, weight=None, eps=None):
    """Divide the last dimensions by the root of their mean square, then scale by weight.

    eps is the dtype's distance from 1 to the next number where it is None. Raises TypeError, ValueError.
    """
    shape = _trailing("rms_norm", input, normalized_shape, weight=weight)
    return RMSNorm(shape, types.epsilon(input.dtype) if eps is None else eps)(input, weight, None)


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    """Normalise every group of channels of every example of (N, C, ...); weight and bias have one value per channel.

    Raises TypeError, ValueError unless num_groups divides C and a group has more than one value.
    """
    op = "group_norm"
    floating(op, input=input, weight=weight, bias=bias)
    expect(input.ndim >= 2, op, "input of shape (N, C, ...)", input=input)
    C = input.shape[1]
    expect_type(isinstance(num_groups, (int, np.integer)), op, "num_groups to be an int", num_groups=num_groups)
    expect(num_groups > 0 and C % num_groups == 0, op, "num_groups > 0 that divides the channels",
           num_groups=num_groups, input=input)
    for name, values in (("weight", weight), ("bias", bias)):
        expect(values is None or values.shape == (C,), op, f"{name}.shape == (input.shape[1],)",
               **{name: values, "input": input})
    expect(input.array.size == 0 or input.array.size > len(input) * num_groups, op, "more than one value per group",
           input=input, num_groups=num_groups)
    return GroupNorm(num_groups, eps)(input, weight, bias)


def instance_norm(input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True,
                  momentum=0.1, eps=1e-5):
    """Normalise every channel of every example of (N, C, ...), by its own statistics or else by the running ones.

    With use_input_stats the running statistics, if any, move by `momentum` towards the mean over the batch of the
    examples' means and unbiased variances. Raises TypeError, ValueError.
    """
    op = "instance_norm"
    floating(op, input=input, weight=weight, bias=bias)
    expect(input.ndim >= 2, op, "input of shape (N, C, ...)", input=input)
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    N, C = input.shape[:2]
    places = prod(input.shape[2:])
    expect(places != 1, op, "more than one value per channel", input=input)
    for name, values in (("running_mean", running_mean), ("running_var", running_var), ("weight", weight),
                         ("bias", bias)):
        expect(values is None or values.shape == (C,), op, f"{name}.shape == (input.shape[1],)",
               **{name: values, "input": input})
    expect((running_mean is None) == (running_var is None), op, "both running_mean and running_var, or neither",
           running_mean=running_mean, running_var=running_var)
    if N == 0:
        return input * 1
    repeated = [None if values is None else values.repeat(N) for values in (running_mean, running_var, weight, bias)]
    y = batch_norm(input.reshape(1, N * C, *input.shape[2:]), *repeated, True, momentum, eps).reshape(input.shape)
    for running, values in ((running_mean, repeated[0]), (running_var, repeated[1])):
        if running is not None:
            assign_(running, values.reshape(N, C).mean(0))
    return y


def local_response_norm(input, size, alpha=1e-4, beta=0.75, k=1.0):
    """x / (k + alpha m)^beta with m the mean of the squares of `size` neighbouring channels, 0 outside; (N, C, ...)."""
    op = "local_response_norm"
    floating(op, input=input)
    expect(input.ndim >= 3, op, "input of shape (N, C, L) or (N, C, ...)", input=input)
    expect(size > 0, op, "size > 0", size=size)
    if input.array.size == 0:
        return input
    squares = (input * input).unsqueeze(1)
    margin = size // 2, (size - 1) // 2
    if input.ndim == 3:
        means = avg_pool2d(pad(squares, (0, 0, *margin)), (size, 1), stride=1).squeeze(1)
    else:
        squares = squares.reshape(len(input), 1, input.shape[1], input.shape[2], -1)
        means = avg_pool3d(pad(squares, (0, 0, 0, 0, *margin)), (size, 1, 1), stride=1).reshape(input.shape)
    return input / (means * alpha + k)**beta


def normalize(input, p=2.0, dim=1, eps=1e-12):
    """input / max(its p-norm over `dim`, eps). Raises TypeError, IndexError."""
    floating("normalize", input=input)
    return input / norm(input, p, dim, keepdim=True).clamp_min(eps)


def _trailing(op, input, normalized_shape, **parameters):
    """The normalized shape as a tuple, after checking that input ends with it and the parameters have it."""
    floating(op, input=input, **parameters)
    if not isinstance(normalized_shape, (tuple, list)) or not set(map(type, normalized_shape)) <= {int}:
        expect_type(False, op, "normalized_shape to be ints", normalized_shape=normalized_shape)
    shape = tuple(normalized_shape)
    if not shape or input.array.shape[-len(shape):] != shape:
        expect(False, op, "an input that ends with normalized_shape, of at least one dimension", input=input,
               normalized_shape=shape)
    for name, values in parameters.items():
        if values is not None and values.array.shape != shape:
            expect(False, op, f"{name}.shape == normalized_shape", **{name: values, "normalized_shape": shape})
    return shape


# --- Functions ---
class LayerNorm(Function):
    """Kernels see x as (rows, cols), the statistics in float32 for halves."""
    centred = True

    def __init__(self, shape, eps):
        self.shape, self.cols, self.eps = shape, prod(shape), float(eps)

    def forward(self, x, weight, bias):
        y = self.k.empty(x.shape, x.dtype)
        if y.size == 0:
            self.x, self.statistics = x, _wide(x.dtype)
            return y
        weight, bias = None if weight is None else weight.ravel(), None if bias is None else bias.ravel()
        self.x, self.weight, self.statistics = self.rows(x), weight, _wide(x.dtype)
        self.rstd = self.k.empty(len(self.x), self.statistics)
        self.mean = self.k.empty(len(self.x), self.statistics) if self.centred else None
        self.k.layer_norm_forward(self.x, weight, bias, self.rows(y), self.mean, self.rstd, self.eps)
        return y

    def backward(self, gy, wanted):
        gx = self.k.empty(gy.shape, gy.dtype) if wanted[0] else None
        gw, gb = [self.k.zeros(self.cols, self.statistics) if want else None for want in wanted[1:]]
        if gy.size:
            self.k.layer_norm_backward(self.x, self.rows(gy), self.weight, self.mean, self.rstd,
                                       None if gx is None else self.rows(gx), gw, gb)
        return gx, *[g if g is None else g.astype(gy.dtype, copy=False).reshape(self.shape) for g in (gw, gb)]

    def rows(self, array):
        """(rows, cols), of an array with elements."""
        return self.k.xp.ascontiguousarray(array).reshape(-1, self.cols)


class RMSNorm(LayerNorm):
    centred = False


class GroupNorm(Function):
    """Kernels see x as (N, G, C / G, inner)."""

    def __init__(self, groups, eps):
        self.groups, self.eps = groups, float(eps)

    def forward(self, x, weight, bias):
        self.x, self.weight = self.grouped(x), None if weight is None else self.k.xp.ascontiguousarray(weight)
        self.shape, statistics = x.shape, _wide(x.dtype)
        y = self.k.empty(x.shape, x.dtype)
        self.mean, self.rstd = [self.k.empty((len(x), self.groups), statistics) for _ in range(2)]
        if y.size:
            bias = None if bias is None else self.k.xp.ascontiguousarray(bias)
            self.k.group_norm_forward(self.x, self.weight, bias, self.grouped(y), self.mean, self.rstd, self.eps)
        return y

    def backward(self, gy, wanted):
        gx = self.k.empty(self.shape, gy.dtype) if wanted[0] else None
        gw, gb = [self.k.zeros(self.shape[1], self.rstd.dtype) if want else None for want in wanted[1:]]
        if gy.size:
            self.k.group_norm_backward(self.x, self.grouped(gy), self.weight, self.mean, self.rstd,
                                       None if gx is None else self.grouped(gx), gw, gb)
        return gx, *[g if g is None else g.astype(gy.dtype, copy=False) for g in (gw, gb)]

    def grouped(self, array):
        """(N, G, C / G, inner)."""
        shape = array.shape
        array = self.k.xp.ascontiguousarray(array)
        return array.reshape(shape[0], self.groups, shape[1] // self.groups, prod(shape[2:]))


def _wide(dtype):
    return types.float32 if dtype in types.HALVES else dtype
