"""Batch normalisation (Ioffe and Szegedy, 2015): channels brought to mean 0 and variance 1, then scaled and shifted.

forward   y = (x - m) r w + b,  r = 1 / sqrt(v + eps), per channel
          training: m and v are the mean and the (biased) variance of the channel in this batch;
          inference: the running statistics
backward  with xh = (x - m) r and means over the channel:
          training: gx = w r (gy - mean(gy) - xh mean(gy xh));  inference: gx = w r gy
          gw = sum(gy xh),  gb = sum(gy)

Shapes: (N, C) or (N, C, ...). A channels-last input gives a channels-last output. Statistics are float32 for float16,
bfloat16 and float32 inputs, float64 for float64 ones.
"""
from math import prod
from numbers import Real

from kdl import types
from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.common import dense, empty, floating, is_channels_last, laid_out
from kdl.tensor import Tensor, channels_to_end

__all__ = ["batch_norm"]


def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Normalise every channel of (N, C, ...) by the batch's statistics (training) or the running ones.

    In training running_mean and running_var, unless None, move in place by `momentum` towards the batch's mean and
    its unbiased variance. weight, bias and running statistics have shape (C,) and one dtype: the input's, or float32
    for a float16 or bfloat16 input. Raises TypeError for dtypes, ValueError for shapes, for a batch with one value per
    channel in training, and for inference without running statistics.
    """
    floating("batch_norm", input=input)
    _check(input, training, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    expect_type(isinstance(momentum, Real), "batch_norm", "momentum to be a number", momentum=momentum)
    expect(eps > 0 or (eps == 0 and not training), "batch_norm", "eps > 0", eps=eps)
    y = BatchNorm(training, momentum, eps)(input, weight, bias, running_mean, running_var)
    if training and running_mean is not None:
        running_mean.version[0] += 1
        running_var.version[0] += 1
    return y


def _check(input, training, **channels):
    """The tensors of one value per channel: there as training or inference needs them, of fitting shape and dtype."""
    x, dtypes = input.array, []
    if x.ndim < 2:
        expect(False, "batch_norm", "input of shape (N, C) or (N, C, ...)", input=input)
    size = x.shape[1:2]
    for name, tensor in channels.items():
        if tensor is None:
            continue
        if not isinstance(tensor, Tensor):
            expect_type(False, "batch_norm", f"{name} to be a Tensor or None", **{name: type(tensor).__name__})
        if tensor.array.shape != size:
            expect(False, "batch_norm", f"{name}.shape == (input.shape[1],)", **{name: tensor, "input": input})
        if tensor.requires_grad and name.startswith("running"):
            expect(False, "batch_norm", f"{name} without gradient", **{f"{name}__requires_grad": True})
        dtypes.append(tensor.array.dtype)
    if dtypes and (dtypes.count(dtypes[0]) < len(dtypes) or dtypes[0] not in (x.dtype, _statistics_dtype(x.dtype))):
        given = {name: tensor.dtype for name, tensor in channels.items() if tensor is not None}
        expect_type(False, "batch_norm", "weight, bias and running statistics of one dtype, the input's, or float32 "
                    "for float16 and bfloat16", input=x.dtype, **given)
    mean, var = channels["running_mean"], channels["running_var"]
    if training:
        expect((mean is None) == (var is None), "batch_norm", "both running_mean and running_var, or neither",
               running_mean=mean, running_var=var)
        expect(x.size != x.shape[1] or x.size == 0, "batch_norm", "more than one value per channel in training",
               input=input)
    else:
        expect(mean is not None and var is not None, "batch_norm", "running_mean and running_var in inference",
               running_mean=mean, running_var=var)


def _statistics_dtype(dtype):
    return types.float32 if dtype in types.HALVES else dtype


class BatchNorm(Function):
    """Kernels see x as (N, C, inner), channels-last arrays as (N inner, C, 1), channels in the statistics' dtype."""

    def __init__(self, training, momentum, eps):
        self.training, self.momentum, self.eps = training, float(momentum), float(eps)

    def forward(self, x, weight, bias, running_mean, running_var):
        self.x, self.weight, self.statistics_dtype = dense(x), weight, _statistics_dtype(x.dtype)
        self.dtype = (weight if weight is not None else bias if bias is not None else x).dtype
        self.channels_last = is_channels_last(self.x)
        y = empty(self.k, x.shape, x.dtype, self.channels_last)
        if x.size == 0:
            return y
        w, b, mean, var = [self.per_channel(a) for a in (weight, bias, running_mean, running_var)]
        if self.training:
            self.mean, self.rstd = [self.k.empty(x.shape[1], self.statistics_dtype) for _ in range(2)]
            self.k.batch_norm_forward_training(self.rows(self.x), w, b, self.rows(y), self.mean, self.rstd, mean, var,
                                               self.momentum, self.eps)
            for running, updated in ((running_mean, mean), (running_var, var)):
                if updated is not running:
                    self.k.xp.copyto(running, updated, casting="unsafe")
        else:
            self.mean, self.var = running_mean, running_var
            self.k.batch_norm_forward_inference(self.rows(self.x), w, b, mean, var, self.rows(y), self.eps)
        return y

    def backward(self, gy, wanted):
        x, (want_x, want_w, want_b) = self.x, wanted[:3]
        gx = empty(self.k, x.shape, x.dtype, self.channels_last) if want_x else None
        gw, gb = [self.k.zeros(x.shape[1], self.statistics_dtype) if want else None for want in (want_w, want_b)]
        if x.size:
            arrays = self.rows(x), self.rows(laid_out(gy, self.channels_last)), self.per_channel(self.weight)
            rows_gx = self.rows(gx) if want_x else None
            if self.training:
                self.k.batch_norm_backward(*arrays, self.mean, self.rstd, rows_gx, gw, gb)
            else:
                self.k.batch_norm_backward_inference(*arrays, self.per_channel(self.mean), self.per_channel(self.var),
                                                     rows_gx, gw, gb, self.eps)
        gw, gb = [g if g is None else self.k.xp.asarray(g, self.dtype) for g in (gw, gb)]
        return gx, gw, gb, None, None

    def rows(self, array):
        """(N, C, inner), without a copy; whatever inner would be, a channels-last array is (N inner, C, 1)."""
        channels = array.shape[1]
        if self.channels_last:
            return channels_to_end(array).reshape(-1, channels, 1)
        return array.reshape(len(array), channels, prod(array.shape[2:]))

    def per_channel(self, array):
        """C values in the statistics' dtype: the array itself where it is that already."""
        return array if array is None else self.k.xp.ascontiguousarray(array, self.statistics_dtype)
