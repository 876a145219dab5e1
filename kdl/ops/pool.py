"""Pooling: every output is the maximum or the mean of a window of its channel.

With kernel size k, stride s, padding p and dilation d, output o of an axis meets the places o s - p + t d for
t = 0 .. k - 1. An axis of length L gives floor((L + 2p - d (k - 1) - 1) / s) + 1 outputs; with ceil_mode the ceiling,
but no window starts beyond the input and its left padding. An adaptive window is floor(o L / O) .. ceil((o + 1) L / O).

max: y = max over the window, padding being -inf; the gradient goes to the place of the maximum: the first of equals,
in row-major order; a NaN is larger than any number, the last one counts.
avg: y = sum / divisor, padding being 0; every place of the window gets gy / divisor.

Shapes: (N, C, ...) or (C, ...) with 1, 2 or 3 spatial axes. A channels-last input gives a channels-last output.
All functions raise TypeError for a dtype that is not floating-point, ValueError for shapes and windows that do not fit.
"""
from math import prod

import numpy as np

from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.common import dense, empty, floating, ints, is_channels_last, laid_out
from kdl.tensor import Tensor

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool1d_with_indices", "adaptive_max_pool2d", "adaptive_max_pool2d_with_indices",
    "adaptive_max_pool3d", "adaptive_max_pool3d_with_indices", "avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d",
    "max_pool1d_with_indices", "max_pool2d", "max_pool2d_with_indices", "max_pool3d", "max_pool3d_with_indices",
    "max_unpool1d", "max_unpool2d", "max_unpool3d"]


def max_pool1d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The maximum of every window of (N, C, L) or (C, L); see `max_pool2d`."""
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The maximum of every window of (N, C, H, W) or (C, H, W); `stride` is `kernel_size` where it is None.

    With `return_indices` also the flat positions of the maxima in their planes, int64, as `max_unpool2d` takes them.
    Padding is at most half the kernel size. Raises TypeError and ValueError.
    """
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The maximum of every window of (N, C, D, H, W) or (C, D, H, W); see `max_pool2d`."""
    return _max_pool("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool1d_with_indices(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False,
                            return_indices=False):
    """`max_pool1d` that always returns the indices too."""
    return max_pool1d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool2d_with_indices(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False,
                            return_indices=False):
    """`max_pool2d` that always returns the indices too."""
    return max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool3d_with_indices(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False,
                            return_indices=False):
    """`max_pool3d` that always returns the indices too."""
    return max_pool3d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def avg_pool1d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """The mean of every window of (N, C, L) or (C, L); see `avg_pool2d`."""
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
               divisor_override=None):
    """The mean of every window of (N, C, H, W) or (C, H, W); `stride` is `kernel_size` where it is None.

    The divisor is the number of places of the window, padding among them unless `count_include_pad` is False, but not
    what hangs over the padding's end in ceil_mode; or `divisor_override`. Raises TypeError and ValueError.
    """
    return _avg_pool("avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad,
                     divisor_override)


def avg_pool3d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
               divisor_override=None):
    """The mean of every window of (N, C, D, H, W) or (C, D, H, W); see `avg_pool2d`."""
    return _avg_pool("avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad,
                     divisor_override)


def adaptive_avg_pool1d(input, output_size):
    """The means of `output_size` windows that cover (N, C, L) or (C, L) evenly; see `adaptive_avg_pool2d`."""
    return _adaptive_avg_pool("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input, output_size):
    """The means of as many windows as `output_size` asks, an int or two, that cover (N, C, H, W) or (C, H, W) evenly.

    None in `output_size` stands for the input's own size. Raises TypeError and ValueError.
    """
    return _adaptive_avg_pool("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_avg_pool3d(input, output_size):
    """The means of windows that cover (N, C, D, H, W) or (C, D, H, W) evenly; see `adaptive_avg_pool2d`."""
    return _adaptive_avg_pool("adaptive_avg_pool3d", 3, input, output_size)


def adaptive_max_pool1d(input, output_size, return_indices=False):
    """The maxima of `output_size` windows that cover (N, C, L) or (C, L) evenly; see `adaptive_max_pool2d`."""
    return _adaptive_max_pool("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(input, output_size, return_indices=False):
    """The maxima of as many windows as `output_size` asks, an int or two, that cover (N, C, H, W) or (C, H, W) evenly.

    None in `output_size` stands for the input's own size. With `return_indices` also the flat positions of the maxima
    in their planes, int64. Raises TypeError and ValueError.
    """
    return _adaptive_max_pool("adaptive_max_pool2d", 2, input, output_size, return_indices)


def adaptive_max_pool3d(input, output_size, return_indices=False):
    """The maxima of windows that cover (N, C, D, H, W) or (C, D, H, W) evenly; see `adaptive_max_pool2d`."""
    return _adaptive_max_pool("adaptive_max_pool3d", 3, input, output_size, return_indices)


def adaptive_max_pool1d_with_indices(input, output_size, return_indices=False):
    """`adaptive_max_pool1d` that always returns the indices too."""
    return adaptive_max_pool1d(input, output_size, True)


def adaptive_max_pool2d_with_indices(input, output_size, return_indices=False):
    """`adaptive_max_pool2d` that always returns the indices too."""
    return adaptive_max_pool2d(input, output_size, True)


def adaptive_max_pool3d_with_indices(input, output_size, return_indices=False):
    """`adaptive_max_pool3d` that always returns the indices too."""
    return adaptive_max_pool3d(input, output_size, True)


def max_unpool1d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """A partial inverse of `max_pool1d`; see `max_unpool2d`."""
    return _max_unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """Maxima put back where `max_pool2d` found them, zero elsewhere: a partial inverse.

    `indices`, int64 and of the input's shape, are flat positions in the output's planes. The output's spatial size is
    (L - 1) stride - 2 padding + kernel_size, or `output_size`, less than a stride away from it. Where two indices are
    equal the later input stays. Raises TypeError and ValueError.
    """
    return _max_unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """A partial inverse of `max_pool3d`; see `max_unpool2d`."""
    return _max_unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)


# --- arguments ---
def _max_pool(op, n, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices):
    _check_input(op, n, input)
    size, window = _fit(op, input, *_window(op, n, kernel_size, stride, padding, dilation), ceil_mode)
    return MaxPool(n, size, window, return_indices)(input)


def _avg_pool(op, n, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    _check_input(op, n, input)
    window = _window(op, n, kernel_size, stride, padding, 1)
    size, fitted = _fit(op, input, *window, ceil_mode)
    if n == 3:
        expect(all(length >= k for length, k in zip(input.array.shape[-3:], window[0], strict=True)), op,
               "kernel_size no larger than the input", kernel_size=window[0], input=input)
    if divisor_override is not None:
        expect_type(isinstance(divisor_override, (int, np.integer)) and not isinstance(divisor_override, bool), op,
                    "divisor_override to be an int or None", divisor_override=divisor_override)
        expect(divisor_override != 0, op, "divisor_override != 0", divisor_override=divisor_override)
    return AvgPool(n, size, fitted[:3], bool(count_include_pad), int(divisor_override or 0))(input)


def _adaptive_avg_pool(op, n, input, output_size):
    return AdaptiveAvgPool(n, _adaptive_size(op, n, input, output_size))(input)


def _adaptive_max_pool(op, n, input, output_size, return_indices):
    size = _adaptive_size(op, n, input, output_size)
    expect(input.array.shape[-n - 1] > 0 or input.array.ndim == n + 1, op, "at least one channel", input=input)
    return AdaptiveMaxPool(n, size, return_indices)(input)


def _max_unpool(op, n, input, indices, kernel_size, stride, padding, output_size):
    _check_input(op, n, input)
    expect_type(isinstance(indices, Tensor) and indices.dtype == np.int64, op, "indices to be an int64 Tensor",
                indices=getattr(indices, "dtype", type(indices).__name__))
    expect(indices.shape == input.shape, op, "indices.shape == input.shape", indices=indices, input=input)
    kernel, stride, padding, _ = _window(op, n, kernel_size, stride, padding, 1, halved=False)
    natural = tuple([(length - 1) * s - 2 * p + k
                     for length, k, s, p in zip(input.array.shape[-n:], kernel, stride, padding, strict=True)])
    size = natural if output_size is None else ints(op, "output_size", tuple(output_size)[-n:], n)
    expect(output_size is None or len(output_size) in (n, n + 2), op, f"output_size of {n} or {n + 2} ints",
           output_size=output_size)
    expect(all(abs(o - length) < s for o, length, s in zip(size, natural, stride, strict=True)) and min(size) >= 0, op,
           f"output_size less than a stride away from {natural}, and not negative", output_size=size, stride=stride)
    at = indices.array
    expect(at.size == 0 or (at.min() >= 0 and at.max() < prod(size)), op, f"indices in [0, {prod(size)})",
           smallest=int(at.min()) if at.size else None, largest=int(at.max()) if at.size else None, output_size=size)
    return MaxUnpool(n, size)(input, indices)


def _check_input(op, n, input):
    """A floating-point tensor of (N, C, ...) or (C, ...), of which only N may be 0."""
    floating(op, input=input)
    shape = input.array.shape
    if len(shape) not in (n + 1, n + 2) or 0 in shape[len(shape) - n - 1:]:
        axes = ", ".join("DHW"[3 - n:] if n > 1 else "L")
        expect(len(shape) in (n + 1, n + 2), op, f"input of shape (N, C, {axes}) or (C, {axes})", input=input)
        expect(False, op, f"C, {axes} > 0", input=input)


def _window(op, n, kernel_size, stride, padding, dilation, halved=True):
    """Kernel size, stride, padding and dilation, n ints each; `halved`: padding is at most half the kernel size."""
    kernel = ints(op, "kernel_size", kernel_size, n)
    stride = kernel if stride in (None, [], ()) else ints(op, "stride", stride, n)
    padding, dilation = ints(op, "padding", padding, n), ints(op, "dilation", dilation, n)
    if min(kernel) < 1 or min(stride) < 1 or min(dilation) < 1:
        expect(False, op, "kernel_size, stride and dilation > 0", kernel_size=kernel, stride=stride, dilation=dilation)
    if halved and any(p < 0 or 2 * p > k for p, k in zip(padding, kernel, strict=True)):
        expect(False, op, "0 <= padding <= kernel_size / 2", padding=padding, kernel_size=kernel)
    return kernel, stride, padding, dilation


def _fit(op, input, kernel, stride, padding, dilation, ceil_mode):
    """The output's size, and the window without what cannot matter, so that huge arguments cost nothing: taps beyond
    the input and its padding, and the stride of an axis with one output."""
    size, taps, steps = [], [], []
    for length, k, s, p, d in zip(input.array.shape[-len(kernel):], kernel, stride, padding, dilation, strict=True):
        room = length + 2 * p - d * (k - 1) - 1
        outputs = -(-room // s) + 1 if ceil_mode else room // s + 1
        outputs = outputs - 1 if ceil_mode and (outputs - 1) * s >= length + p else outputs
        size.append(outputs)
        taps.append(min(k, (length - 1 + 2 * p) // d + 1))
        steps.append(s if outputs > 1 else 1)
    if min(size) < 1:
        expect(False, op, "windows that fit into the input", input=input, kernel_size=kernel, padding=padding,
               dilation=dilation)
    return tuple(size), (tuple(taps), tuple(steps), padding, dilation)


def _adaptive_size(op, n, input, output_size):
    floating(op, input=input)
    shape = input.array.shape
    axes = ", ".join("DHW"[3 - n:] if n > 1 else "L")
    expect(len(shape) in (n + 1, n + 2), op, f"input of shape (N, C, {axes}) or (C, {axes})", input=input)
    expect(0 not in shape[-n:], op, f"{axes} > 0", input=input)
    if isinstance(output_size, (tuple, list)):
        expect(len(output_size) == n, op, f"output_size to be an int or {n} ints", output_size=output_size)
        if n > 1:
            output_size = [length if o is None else o for o, length in zip(output_size, shape[-n:], strict=True)]
    size = ints(op, "output_size", output_size, n)
    expect(min(size) >= 0, op, "output_size >= 0", output_size=size)
    return size


# --- functions ---
class Pool(Function):
    """What all poolings share: `n` spatial axes seen as two or three, and the way from and to (N, C, ...) arrays."""

    def __init__(self, n, size):
        self.n = n
        self.size = (1, *size) if n == 1 else size

    def batched(self, array):
        """The array as (N, C, H, W) or (N, C, D, H, W): 1-D pooling is 2-D with H = 1."""
        if array.ndim == self.n + 1:
            array = array[None]
        return array[:, :, None] if self.n == 1 else array

    def enter(self, x):
        """The input as kernels want it; notes its shape and layout."""
        self.unbatched = x.ndim == self.n + 1
        x = dense(self.batched(x))
        self.shape, self.dtype, self.channels_last = x.shape, x.dtype, is_channels_last(x)
        return x

    def empty(self, size, dtype):
        """An array for as many channels as the input's, in the input's layout."""
        return empty(self.k, (*self.shape[:2], *size), dtype, self.channels_last)

    def enter_gradient(self, gy):
        return laid_out(self.batched(gy), self.channels_last)

    def leave(self, array):
        """The array with the axes that the input came with."""
        if self.n == 1:
            array = array[:, :, 0]
        return array[0] if self.unbatched else array

    def kernel(self, stem):
        """The kernel `<stem>` of this number of dimensions."""
        return getattr(self.k, stem.replace("pool", f"pool{len(self.size)}d"))


class MaxPool(Pool):
    """y = max over the window; `winner` says which place of its window that is, in one byte where windows are small."""

    def __init__(self, n, size, window, return_indices):
        super().__init__(n, size)
        self.window = [(unit, *values) if n == 1 else values for unit, values in zip((1, 1, 0, 1), window, strict=True)]
        self.return_indices = return_indices

    def forward(self, x):
        x = self.enter(x)
        y = self.empty(self.size, x.dtype)
        self.winner = self.empty(self.size, np.uint8 if prod(self.window[0]) <= 255 else np.int32)
        self.kernel("max_pool_forward")(x, y, self.winner, *self.window)
        if not self.return_indices:
            return self.leave(y)
        indices = self.empty(self.size, np.int64)
        self.kernel("max_pool_indices")(self.winner, indices, *self.window, self.shape[2:])
        return self.leave(y), self.leave(indices)

    def backward(self, gy, wanted):
        gx = self.empty(self.shape[2:], self.dtype)
        gy = self.enter_gradient(gy[0] if self.return_indices else gy)
        self.kernel("max_pool_backward")(gy, self.winner, gx, *self.window)
        return self.leave(gx)


class AvgPool(Pool):
    """y = sum over the window / divisor; gx = the sum of gy / divisor over the windows that hold x."""

    def __init__(self, n, size, window, count_include_pad, divisor_override):
        super().__init__(n, size)
        window = [(unit, *values) if n == 1 else values for unit, values in zip((1, 1, 0), window, strict=True)]
        self.parameters = (*window, count_include_pad, divisor_override)

    def forward(self, x):
        x = self.enter(x)
        y = self.empty(self.size, x.dtype)
        self.kernel("avg_pool_forward")(x, y, *self.parameters)
        return self.leave(y)

    def backward(self, gy, wanted):
        gx = self.empty(self.shape[2:], self.dtype)
        self.kernel("avg_pool_backward")(self.enter_gradient(gy), gx, *self.parameters)
        return self.leave(gx)


class AdaptiveAvgPool(Pool):
    """y = the mean over the adaptive window."""

    def forward(self, x):
        x = self.enter(x)
        y = self.empty(self.size, x.dtype)
        self.kernel("adaptive_avg_pool_forward")(x, y)
        return self.leave(y)

    def backward(self, gy, wanted):
        gx = self.empty(self.shape[2:], self.dtype)
        self.kernel("adaptive_avg_pool_backward")(self.enter_gradient(gy), gx)
        return self.leave(gx)


class AdaptiveMaxPool(Pool):
    """y = the maximum over the adaptive window; `index` is its flat position in the plane."""

    def __init__(self, n, size, return_indices):
        super().__init__(n, size)
        self.return_indices = return_indices

    def forward(self, x):
        x = self.enter(x)
        y, index = self.empty(self.size, x.dtype), self.empty(self.size, np.int64)
        self.kernel("adaptive_max_pool_forward")(x, y, index)
        self.index = self.leave(index)
        return (self.leave(y), self.index) if self.return_indices else self.leave(y)

    def backward(self, gy, wanted):
        gx = self.empty(self.shape[2:], self.dtype)
        gy = self.enter_gradient(gy[0] if self.return_indices else gy)
        self.kernel("adaptive_max_pool_backward")(gy, self.batched(self.index), gx)
        return self.leave(gx)


class MaxUnpool(Pool):
    """y[index] = x, zero elsewhere; gx = gy[index]."""

    def forward(self, x, indices):
        self.inputs = x.shape
        planes, outputs = prod(x.shape[:-self.n]), prod(x.shape[-self.n:])
        self.places = self.k.xp.arange(planes)[:, None], indices.reshape(planes, outputs)
        y = self.k.zeros((planes, prod(self.size)), x.dtype)
        y[self.places] = x.reshape(planes, outputs)
        return y.reshape(*x.shape[:-self.n], *self.size[-self.n:])

    def backward(self, gy, wanted):
        gx = gy.reshape(len(self.places[0]), prod(self.size))[self.places]
        return gx.reshape(self.inputs), None
