"""Batch normalisation: every channel shifted and scaled to mean 0 and variance 1, then by its own bias and weight.

training: y = (x - mean) rstd w + b with the batch's mean and rstd = 1 / sqrt(var + eps), var biased (divided by the
count M); the running statistics follow, running = (1 - momentum) running + momentum batch, with the variance unbiased
(divided by M - 1). With xhat = (x - mean) rstd: gb = sum gy, gw = sum gy xhat, gx = w rstd (gy - gb / M - xhat gw / M).
inference: mean and var are the running ones, constants to the gradient: gx = w rstd gy.

Shapes: (N, C) or (N, C, ...); everything else is per channel, (C). (Ioffe and Szegedy, 2015, algorithm 1.)
"""
from math import prod

from kdl import types
from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.common import empty, floating, is_channels_last, laid_out
from kdl.tensor import channels_to_end

__all__ = ["batch_norm"]


def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Normalise each channel of (N, C, ...) by the batch's statistics (training) or by the running ones.

    In training `running_mean` and `running_var`, where given, are updated in place. Half-precision input may come with
    float32 weight, bias and statistics. Raises TypeError for dtypes, ValueError for shapes that do not fit, for
    inference without statistics, and for a single value per channel in training.
    """
    op, per_channel = "batch_norm", {"running_mean": running_mean, "running_var": running_var, "weight": weight,
                                     "bias": bias}
    floating(op, input=input)
    expect(input.ndim >= 2, op, "input (N, C, ...)", input=input)
    for name, x in per_channel.items():
        if x is not None:
            floating(op, **{name: x})
            expect(x.array.shape == input.array.shape[1:2], op, f"{name}.shape == input.shape[1:2]", **{name: x},
                   input=input)
            expect_type(x.dtype == input.dtype or (input.dtype in types.HALVES and x.dtype == types.float32), op,
                        f"{name} of input's dtype, or float32 with a half-precision input", **{name: x.dtype},
                        input=input.dtype)
    expect((running_mean is None) == (running_var is None), op, "running_mean and running_var together or not at all",
           running_mean=running_mean, running_var=running_var)
    expect(training or running_mean is not None, op, "running_mean and running_var where training is False",
           running_mean=running_mean)
    expect(eps > 0 or not training, op, "eps > 0 in training", eps=eps)
    if training:
        count = input.shape[0] * prod(input.shape[2:])
        expect(count != 1, op, "more than one value per channel in training", input=input)
        return BatchNorm(running_mean, running_var, momentum, eps)(input, weight, bias)
    return BatchNormInference(running_mean, running_var, eps)(input, weight, bias)


# --- layout ---
def _rows(array, channels_last):
    """(N, C, ...) as the kernels see it: (N, C, inner), or (rows, C, 1) where the channels lie last."""
    if channels_last:
        return channels_to_end(array).reshape(-1, array.shape[1], 1)
    return array.reshape(array.shape[0], array.shape[1], prod(array.shape[2:]))


def _wide(x, dtype):
    """A per-channel array in the dtype of the statistics, dense; None stays None."""
    return None if x is None else x.astype(dtype, order="C", copy=False)


# --- Functions ---
class BatchNorm(Function):
    """Normalise by the batch's own statistics."""

    def __init__(self, running_mean, running_var, momentum, eps):
        self.running, self.momentum, self.eps = (running_mean, running_var), momentum, eps

    def forward(self, x, weight, bias):
        self.last, self.statistics = is_channels_last(x), types.float64 if x.dtype == types.float64 else types.float32
        self.x = laid_out(x, self.last)
        self.dtypes = [None if p is None else p.dtype for p in (weight, bias)]
        self.weight = _wide(weight, self.statistics)
        y = empty(self.k, x.shape, x.dtype, self.last)
        self.mean, self.rstd = [self.k.empty((x.shape[1],), self.statistics) for _ in range(2)]
        running = [None if r is None else _wide(r.array, self.statistics) for r in self.running]
        if x.size:
            self.k.batch_norm_forward_training(
                _rows(self.x, self.last), self.weight, _wide(bias, self.statistics), _rows(y, self.last), self.mean,
                self.rstd, *running, float(self.momentum), float(self.eps))
        for kept, updated in zip(self.running, running):
            if kept is not None:
                if updated is not kept.array:
                    kept.array[...] = updated
                kept.version[0] += 1
        del self.running
        return y

    def backward(self, gy, wanted):
        return self._backward("batch_norm_backward", gy, wanted, self.mean, self.rstd)

    def _backward(self, kernel, gy, wanted, *statistics):
        gx = empty(self.k, self.x.shape, self.x.dtype, self.last) if wanted[0] else None
        gw, gb = [self.k.zeros(self.x.shape[1:2], self.statistics) if w else None for w in wanted[1:]]
        if self.x.size:
            getattr(self.k, kernel)(_rows(self.x, self.last), _rows(laid_out(gy, self.last), self.last), self.weight,
                                    *statistics, None if gx is None else _rows(gx, self.last), gw, gb)
        return gx, *[None if g is None else g.astype(dtype, copy=False) for g, dtype in zip((gw, gb), self.dtypes)]


class BatchNormInference(BatchNorm):
    """Normalise by statistics that are constants."""

    def __init__(self, running_mean, running_var, eps):
        self.running, self.eps = (running_mean, running_var), eps

    def forward(self, x, weight, bias):
        self.last, self.statistics = is_channels_last(x), types.float64 if x.dtype == types.float64 else types.float32
        self.x = laid_out(x, self.last)
        self.dtypes = [None if p is None else p.dtype for p in (weight, bias)]
        self.weight = _wide(weight, self.statistics)
        self.mean, var = [r.array.astype(self.statistics) for r in self.running]  # copies: training changes them
        self.rstd = 1 / self.k.xp.sqrt(var + self.statistics.type(self.eps))
        y = empty(self.k, x.shape, x.dtype, self.last)
        if x.size:
            self.k.batch_norm_forward_inference(_rows(self.x, self.last), self.weight, _wide(bias, self.statistics),
                                                self.mean, self.rstd, _rows(y, self.last))
        del self.running
        return y

    def backward(self, gy, wanted):
        return self._backward("batch_norm_backward_inference", gy, wanted, self.mean, self.rstd)
