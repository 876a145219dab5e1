"""Pooling in NumPy: one pass over the output per tap (one place of the window), or, adaptive, one step per output.

Nothing here counts dimensions: the 3-D kernels at the end are the 2-D ones under their other names.
"""
from math import prod

import numpy as np

from kdl.kernels.reference import wide

_quiet = np.errstate(invalid="ignore", over="ignore")  # NaN and infinity are values like any others


def max_pool2d_forward(x, y, winner, kernel_size, stride, padding, dilation):
    """`winner` says which tap of its window is the maximum: r * S + s; the first of equals, the last of NaNs. It is
    R * S where the whole window lies outside the input, as a dilated one can."""
    axes = _Axes(x, y, kernel_size, stride, padding, dilation)
    best, which = np.full(y.shape, -np.inf, wide(x).dtype), np.full(y.shape, -1)
    values, inside = axes.pad(wide(x), -np.inf), axes.pad(np.ones(x.shape, bool), False)
    for tap, window in enumerate(axes.windows()):
        v = values[window]
        better = inside[window] & ((v > best) | np.isnan(v) | (which < 0))
        best, which = np.where(better, v, best), np.where(better, tap, which)
    y[...], winner[...] = best, np.where(which < 0, prod(kernel_size), which)


@_quiet
def max_pool2d_backward(gy, winner, gx, kernel_size, stride, padding, dilation):
    axes = _Axes(gx, gy, kernel_size, stride, padding, dilation)
    total = axes.pad(np.zeros(gx.shape, wide(gx).dtype), 0)
    for tap, window in enumerate(axes.windows()):
        total[window] += np.where(winner == tap, wide(gy), 0)
    gx[...] = axes.crop(total)


def max_pool2d_indices(winner, indices, kernel_size, stride, padding, dilation, input_size):
    """The flat position of every maximum in its (H, W) or (D, H, W) plane; -1 where the window lies outside."""
    nowhere = winner == prod(kernel_size)
    taps = np.unravel_index(np.where(nowhere, 0, winner), kernel_size)
    outputs = np.indices(winner.shape, sparse=True)[2:]
    position = 0
    for axis, size in enumerate(input_size):
        at = outputs[axis] * stride[axis] - padding[axis] + taps[axis] * dilation[axis]
        position = position * size + at
    indices[...] = np.where(nowhere, -1, position)


@_quiet
def avg_pool2d_forward(x, y, kernel_size, stride, padding, count_include_pad, divisor_override):
    """A `divisor_override` of 0 is none."""
    axes = _Axes(x, y, kernel_size, stride, padding)
    values, total = axes.pad(wide(x), 0), np.zeros(y.shape, wide(x).dtype)
    for window in axes.windows():
        total += values[window]
    y[...] = total / axes.divisor(total.dtype, count_include_pad, divisor_override)


@_quiet
def avg_pool2d_backward(gy, gx, kernel_size, stride, padding, count_include_pad, divisor_override):
    axes = _Axes(gx, gy, kernel_size, stride, padding)
    total = axes.pad(np.zeros(gx.shape, wide(gx).dtype), 0)
    share = wide(gy) / axes.divisor(total.dtype, count_include_pad, divisor_override)
    for window in axes.windows():
        total[window] += share
    gx[...] = axes.crop(total)


@_quiet
def adaptive_avg_pool2d_forward(x, y):
    for output, window in _adaptive_windows(x, y):
        y[output] = wide(x[window]).mean(tuple(range(2, x.ndim)))


@_quiet
def adaptive_avg_pool2d_backward(gy, gx):
    total = np.zeros(gx.shape, wide(gx).dtype)
    for output, window in _adaptive_windows(gx, gy):
        size = prod(total[window].shape[2:])
        total[window] += wide(gy[output]).reshape(gy.shape[:2] + (1,) * (gy.ndim - 2)) / size
    gx[...] = total


def adaptive_max_pool2d_forward(x, y, index):
    """`index` is the flat position of the maximum in its plane; the first of equals, the last of NaNs."""
    positions = np.arange(prod(x.shape[2:])).reshape(x.shape[2:])
    for output, window in _adaptive_windows(x, y):
        values = wide(x[window]).reshape(*x.shape[:2], positions[window[2:]].size)
        nan = np.isnan(values)
        last_nan = values.shape[2] - 1 - nan[..., ::-1].argmax(2)
        best = np.where(nan.any(2), last_nan, np.where(nan, -np.inf, values).argmax(2))
        y[output] = np.take_along_axis(values, best[..., None], 2)[..., 0]
        index[output] = positions[window[2:]].ravel()[best]


@_quiet
def adaptive_max_pool2d_backward(gy, index, gx):
    total = np.zeros((gx.shape[0], gx.shape[1], prod(gx.shape[2:])), wide(gx).dtype)
    n, c = np.ogrid[:gx.shape[0], :gx.shape[1]]
    for output in np.ndindex(gy.shape[2:]):
        total[n, c, index[:, :, *output]] += wide(gy[:, :, *output])
    gx[...] = total.reshape(gx.shape)


class _Axes:
    """The windows of a pooling along each spatial axis of x (N, C, ...) and y (N, C, ...)."""

    def __init__(self, x, y, kernel_size, stride, padding, dilation=None):
        self.kernel, self.stride, self.padding = kernel_size, stride, padding
        self.dilation = dilation or (1,) * len(kernel_size)
        self.sizes, self.outputs = x.shape[2:], y.shape[2:]

    def pad(self, array, value):
        """The array with its padding, wide enough for the last window too."""
        after = [max(0, (o - 1) * s + (k - 1) * d + 1 - size - p) for o, s, k, d, size, p in zip(
            self.outputs, self.stride, self.kernel, self.dilation, self.sizes, self.padding, strict=True)]
        return np.pad(array, [(0, 0), (0, 0), *zip(self.padding, after, strict=True)], constant_values=value)

    def crop(self, padded):
        return padded[:, :, *[slice(p, p + size) for p, size in zip(self.padding, self.sizes, strict=True)]]

    def windows(self):
        """For every tap, the places in the padded array that it meets, one for each output."""
        for tap in np.ndindex(*self.kernel):
            yield (slice(None), slice(None), *[slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, o, s in zip(
                tap, self.dilation, self.outputs, self.stride, strict=True)])

    def divisor(self, dtype, count_include_pad, divisor_override):
        """What each output's sum is divided by: the window's size, of which padding counts only where asked, and what
        hangs over the padding's end in ceil_mode never."""
        if divisor_override:
            return np.array(divisor_override, dtype)
        area = 1
        for o, s, k, size, p in zip(self.outputs, self.stride, self.kernel, self.sizes, self.padding, strict=True):
            start = np.arange(o) * s - p
            stop = np.minimum(start + k, size + p)
            count = stop - start if count_include_pad else np.minimum(stop, size) - np.maximum(start, 0)
            area = np.multiply.outer(area, count)
        return area.astype(dtype)


def _adaptive_windows(x, y):
    """For every output its index, and its window floor(o size / out) .. ceil((o + 1) size / out) as an index of x."""
    for output in np.ndindex(y.shape[2:]):
        window = [slice(o * size // out, -(-(o + 1) * size // out))
                  for o, size, out in zip(output, x.shape[2:], y.shape[2:], strict=True)]
        yield (slice(None), slice(None), *output), (slice(None), slice(None), *window)


max_pool3d_forward, max_pool3d_backward = max_pool2d_forward, max_pool2d_backward
max_pool3d_indices = max_pool2d_indices
avg_pool3d_forward, avg_pool3d_backward = avg_pool2d_forward, avg_pool2d_backward
adaptive_avg_pool3d_forward, adaptive_avg_pool3d_backward = adaptive_avg_pool2d_forward, adaptive_avg_pool2d_backward
adaptive_max_pool3d_forward, adaptive_max_pool3d_backward = adaptive_max_pool2d_forward, adaptive_max_pool2d_backward
