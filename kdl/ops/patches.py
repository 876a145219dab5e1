"""Images as patches and channels as pixels: unfold and fold, pixel and channel shuffles.

unfold  y[n, (c, r, s), (p, q)] = x[n, c, p stride - padding + r dilation, ...], 0 outside
fold    its adjoint: every element of the columns added to where unfold took it from; so each is the other's gradient
"""
from itertools import product as pairs
from math import prod

import numpy as np

from kdl import types
from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, floating, ints
from kdl.ops.common import dimension as positive
from kdl.tensor import method

__all__ = ["channel_shuffle", "fold", "pixel_shuffle", "pixel_unshuffle", "unfold"]


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """The patches of (N, C, H, W) or (C, H, W) as columns: (N, C R S, P Q). Raises TypeError, ValueError."""
    op = "unfold"
    floating(op, input=input)
    expect(input.ndim in (3, 4) and 0 not in input.shape[-3:], op, "an input of shape (N, C, H, W) or (C, H, W)",
           input=input)
    window = _window(op, kernel_size, dilation, padding, stride)
    _outputs(op, input.shape[-2:], window)
    y = Unfold(window, input.shape[-2:])(input if input.ndim == 4 else input.unsqueeze(0))
    return y if input.ndim == 4 else y.squeeze(0)


@method(names=("unfold",))
def windows(input, dimension, size, step):
    """All slices of `size` of a dimension, every `step`, as a new last dimension: Tensor.unfold. A view.

    Shape: (..., L, ...) to (..., (L - size) // step + 1, ..., size). Raises ValueError, IndexError.
    """
    array = array_of("unfold", input)
    axis = positive("unfold", dimension, array.ndim)
    length = array.shape[axis] if array.ndim else 1
    expect(0 <= size <= length and step > 0, "unfold", "0 <= size <= the length of the dimension, and step > 0",
           input=input, dimension=dimension, size=size, step=step)
    if not array.ndim:
        return input.expand(size)
    y = Windows(axis, size, step)(input)
    y.version, y.is_view = input.version, True
    return y


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Columns (N, C R S, P Q) or (C R S, P Q) added up to images (N, C, H, W), (H, W) being output_size.

    Raises TypeError, ValueError.
    """
    op = "fold"
    floating(op, input=input)
    window, size = _window(op, kernel_size, dilation, padding, stride), ints(op, "output_size", output_size, 2)
    expect(input.ndim in (2, 3) and input.shape[-2] > 0, op, "an input of shape (N, C R S, P Q) or (C R S, P Q)",
           input=input)
    outputs, taps = _outputs(op, size, window), prod(window[0])
    expect(input.shape[-2] % taps == 0 and input.shape[-1] == prod(outputs), op,
           f"rows in multiples of {taps} and {prod(outputs)} columns", input=input, output_size=size,
           kernel_size=window[0])
    y = Fold(window, size)(input if input.ndim == 3 else input.unsqueeze(0))
    return y if input.ndim == 3 else y.squeeze(0)


def pixel_shuffle(input, upscale_factor):
    """(..., C r^2, H, W) to (..., C, H r, W r). Raises TypeError, ValueError. (Shi et al., 2016.)"""
    r = _factor("pixel_shuffle", "upscale_factor", upscale_factor, input, 3)
    *batch, C, H, W = input.shape
    expect(C % (r * r) == 0, "pixel_shuffle", "channels in multiples of upscale_factor^2", input=input,
           upscale_factor=r)
    n = len(batch)
    parts = input.reshape(*batch, C // (r * r), r, r, H, W)
    return parts.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2).reshape(*batch, C // (r * r), H * r, W * r)


def pixel_unshuffle(input, downscale_factor):
    """(..., C, H r, W r) to (..., C r^2, H, W): undoes pixel_shuffle. Raises TypeError, ValueError."""
    r = _factor("pixel_unshuffle", "downscale_factor", downscale_factor, input, 3)
    *batch, C, H, W = input.shape
    expect(H % r == 0 and W % r == 0, "pixel_unshuffle", "height and width in multiples of downscale_factor",
           input=input, downscale_factor=r)
    n = len(batch)
    parts = input.reshape(*batch, C, H // r, r, W // r, r)
    return parts.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3).reshape(*batch, C * r * r, H // r, W // r)


def channel_shuffle(input, groups):
    """The channels of (N, C, ...) dealt out in turn: channel g C / groups + i comes to place i groups + g.

    Raises TypeError, ValueError. (Zhang et al., 2018.)
    """
    groups = _factor("channel_shuffle", "groups", groups, input, 3)
    N, C, *rest = input.shape
    expect(C % groups == 0, "channel_shuffle", "groups that divide the channels", input=input, groups=groups)
    return input.reshape(N, groups, C // groups, *rest).transpose(1, 2).reshape(input.shape)


def _factor(op, name, value, input, ndim):
    array_of(op, input)
    expect_type(isinstance(value, (int, np.integer)), op, f"{name} to be an int", **{name: value})
    expect(value > 0 and input.ndim >= ndim, op, f"{name} > 0 and at least {ndim} dimensions", input=input,
           **{name: value})
    return int(value)


def _window(op, kernel_size, dilation, padding, stride):
    window = [ints(op, name, value, 2) for name, value in (
        ("kernel_size", kernel_size), ("dilation", dilation), ("padding", padding), ("stride", stride))]
    expect(min(window[0] + window[1] + window[3]) > 0 and min(window[2]) >= 0, op,
           "kernel_size, dilation and stride above 0, padding at least 0", kernel_size=window[0], dilation=window[1],
           padding=window[2], stride=window[3])
    return window


def _outputs(op, size, window):
    """(P, Q). Raises ValueError where there is no output."""
    outputs = tuple([(length + 2 * p - d * (k - 1) - 1) // s + 1
                     for length, k, d, p, s in zip(size, *window, strict=True)])
    expect(min(outputs) > 0, op, "an image that the dilated kernel fits into", size=tuple(size),
           kernel_size=window[0], dilation=window[1], padding=window[2])
    return outputs


class Unfold(Function):
    def __init__(self, window, size):
        self.window, self.size = window, tuple(size)

    def forward(self, x):
        return self.columns(x)

    def backward(self, gy, wanted):
        return self.images(gy)

    def columns(self, x):
        """(N, C R S, P Q) of (N, C, H, W)."""
        (R, S), _, (pad_h, pad_w), _ = self.window
        N, C, H, W = x.shape
        if pad_h or pad_w:
            padded = self.k.zeros((N, C, H + 2 * pad_h, W + 2 * pad_w), x.dtype)
            padded[:, :, pad_h:pad_h + H, pad_w:pad_w + W] = x
            x = padded
        P, Q = _outputs("unfold", self.size, self.window)
        y = self.k.empty((N, C, R, S, P, Q), x.dtype)
        for r, s, places in self.meetings(P, Q):
            y[:, :, r, s] = x[places]
        return y.reshape(N, C * R * S, P * Q)

    def images(self, y):
        """(N, C, H, W) of (N, C R S, P Q): the sums."""
        (R, S), _, (pad_h, pad_w), _ = self.window
        (H, W), (P, Q) = self.size, _outputs("fold", self.size, self.window)
        N, C = len(y), y.shape[1] // (R * S)
        y = y.reshape(N, C, R, S, P, Q)
        dtype = np.float32 if y.dtype in types.HALVES else y.dtype
        x = self.k.zeros((N, C, H + 2 * pad_h, W + 2 * pad_w), dtype)
        for r, s, places in self.meetings(P, Q):
            x[places] += y[:, :, r, s]
        return x[:, :, pad_h:pad_h + H, pad_w:pad_w + W].astype(y.dtype, copy=False)

    def meetings(self, P, Q):
        """Every tap of the kernel, and the places of the padded image that it meets."""
        (R, S), (down, right), _, (stride_h, stride_w) = self.window
        for r, s in pairs(range(R), range(S)):
            yield r, s, (..., slice(r * down, r * down + (P - 1) * stride_h + 1, stride_h),
                         slice(s * right, s * right + (Q - 1) * stride_w + 1, stride_w))


class Fold(Unfold):
    def forward(self, x):
        return self.images(x)

    def backward(self, gy, wanted):
        return self.columns(gy)


class Windows(Function):
    """y_{i, t} = x_{i step + t}; gx adds up the gradients of all that an element became."""

    def __init__(self, axis, size, step):
        self.axis, self.size, self.step = axis, size, step

    def forward(self, x):
        self.shape, axis = x.shape, self.axis
        places = (x.shape[axis] - self.size) // self.step + 1
        strides = x.strides[:axis] + (x.strides[axis] * self.step,) + x.strides[axis + 1:] + (x.strides[axis],)
        return self.k.xp.lib.stride_tricks.as_strided(
            x, (*x.shape[:axis], places, *x.shape[axis + 1:], self.size), strides)

    def backward(self, gy, wanted):
        wide = np.float32 if gy.dtype in types.HALVES else gy.dtype
        gx, places = self.k.zeros(self.shape, wide), gy.shape[self.axis]
        into = self.k.xp.moveaxis(gx, self.axis, -1)
        gy = self.k.xp.moveaxis(gy, self.axis, -2)  # (..., places, size)
        if places < self.size:
            for i in range(places):
                into[..., i * self.step:i * self.step + self.size] += gy[..., i, :]
        else:
            for t in range(self.size):
                into[..., t:t + (places - 1) * self.step + 1:self.step] += gy[..., t]
        return gx.astype(gy.dtype, copy=False)
