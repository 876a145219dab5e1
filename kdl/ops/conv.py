"""Convolution and its transpose, over one, two or three spatial dimensions.

y[n, k, o] = b[k] + sum over c, t of w[k, c, t] x[n, c, i] with i = o stride - padding + t dilation: a
cross-correlation, the filter is not flipped. x is 0 outside; an axis of length L gives
(L + 2 padding - dilation (K - 1) - 1) // stride + 1 outputs. With groups, each group of outputs sees its own group of
inputs alone.

gx[n, c, i] = sum over k, t of w[k, c, t] gy[n, k, o], for the o that meet i at t;
gw[k, c, t] = sum over n, o of gy[n, k, o] x[n, c, i]; gb[k] = sum over n, o of gy[n, k, o].

The transposed convolution is gx as a function of gy, so its own gradient by the input is a convolution, and that by the
weight is gw with x and gy exchanged.

Shapes: input (N, C, ...) or (C, ...), weight (K, C / groups, ...), transposed (C, K / groups, ...), bias (K). A
channels-last input or weight gives a channels-last output. All functions raise TypeError for dtypes that are mixed or
not floating-point, ValueError for shapes and numbers that do not fit.
(LeCun et al., 1998; Dumoulin and Visin, 2016, "A guide to convolution arithmetic for deep learning".)
"""
from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.common import dense, empty, floating, ints, is_channels_last, laid_out
from kdl.ops.gemm import tf32

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
           "get_conv_precision", "set_conv_precision"]

_PRECISIONS = ("default", "fast")
_precision = "default"


def set_conv_precision(precision):
    """How float32 is convolved from now on: `default`, or `fast`, up to twice as fast and less exact.

    On the CPU `fast` lets 3 x 3 filters go by Winograd's F(4 x 4), with errors 3 to 6 times as large (about 1e-5 of the
    outputs' standard deviation); on a GPU it lets convolutions round their operands to TF32. Raises ValueError.
    """
    global _precision
    expect(precision in _PRECISIONS, "set_conv_precision", f"one of {', '.join(map(repr, _PRECISIONS))}",
           precision=repr(precision))
    _precision = precision


def get_conv_precision():
    """What set_conv_precision was last given; `default` at first."""
    return _precision


def conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Convolve (N, C, L) or (C, L) with weight (K, C / groups, S); see `conv2d`."""
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Convolve (N, C, H, W) or (C, H, W) with weight (K, C / groups, R, S), and add the bias.

    `stride`, `padding` and `dilation` are ints or pairs. Padding may also be 'valid', which is 0, or 'same', which
    takes stride 1 and gives outputs as large as the input, an odd row or column of padding going to the end.
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Convolve (N, C, D, H, W) or (C, D, H, W) with weight (K, C / groups, T, R, S); see `conv2d`."""
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Transposed convolution of (N, C, L) or (C, L) with weight (C, K / groups, S); see `conv_transpose2d`."""
    return _conv_transpose("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups,
                           dilation)


def conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Transposed convolution of (N, C, H, W) or (C, H, W) with weight (C, K / groups, R, S), plus the bias.

    An axis of length L gives (L - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1 outputs: a convolution
    comes to L from several lengths, which output_padding tells apart; it is less than stride or dilation.
    """
    return _conv_transpose("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups,
                           dilation)


def conv_transpose3d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Transposed convolution of (N, C, D, H, W) or (C, D, H, W) by (C, K / groups, T, R, S); see `conv_transpose2d`."""
    return _conv_transpose("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups,
                           dilation)


# --- arguments ---
def _conv(op, n, input, weight, bias, stride, padding, dilation, groups):
    stride, dilation = _checked(op, n, input, weight, bias, stride, dilation, groups)
    x, w = input.array.shape, weight.array.shape
    expect(w[1] * groups == x[-n - 1], op, _CHANNELS[len(x) - n - 1], weight=weight, input=input, groups=groups)
    expect(w[0] % groups == 0, op, "weight.shape[0] to be a multiple of groups", weight=weight, groups=groups)
    expect(bias is None or bias.array.shape == w[:1], op, "bias.shape == weight.shape[:1]", bias=bias, weight=weight)
    if padding == "same":
        expect(max(stride) == 1, op, "stride 1 with padding 'same'", stride=stride)
        padding, outputs = tuple([d * (k - 1) // 2 for d, k in zip(dilation, w[2:])]), x[-n:]
    else:
        expect(not isinstance(padding, str) or padding == "valid", op, "padding to be numbers, 'same' or 'valid'",
               padding=repr(padding))
        padding = _padding(op, n, 0 if padding == "valid" else padding)
        outputs = tuple([(size + 2 * p - d * (k - 1) - 1) // s + 1
                         for size, k, s, p, d in zip(x[-n:], w[2:], stride, padding, dilation)])
        expect(min(outputs) > 0, op, "dilation * (filter size - 1) < padded input size in every dimension",
               weight=weight, input=input, padding=padding, dilation=dilation)
    return Convolution(n, outputs, stride, padding, dilation, groups)(input, weight, bias)


def _conv_transpose(op, n, input, weight, bias, stride, padding, output_padding, groups, dilation):
    stride, dilation = _checked(op, n, input, weight, bias, stride, dilation, groups)
    x, w = input.array.shape, weight.array.shape
    padding, output_padding = _padding(op, n, padding), ints(op, "output_padding", output_padding, n)
    expect(w[0] == x[-n - 1], op, _CHANNELS_TRANSPOSED[len(x) - n - 1], weight=weight, input=input)
    expect(w[0] % groups == 0, op, "weight.shape[0] to be a multiple of groups", weight=weight, groups=groups)
    expect(bias is None or bias.array.shape == (w[1] * groups,), op, "bias.shape == (weight.shape[1] * groups,)",
           bias=bias, weight=weight, groups=groups)
    expect(all(0 <= o < max(s, d) for o, s, d in zip(output_padding, stride, dilation)), op,
           "0 <= output_padding < max(stride, dilation)", output_padding=output_padding, stride=stride,
           dilation=dilation)
    outputs = tuple([(size - 1) * s - 2 * p + d * (k - 1) + o + 1 for size, k, s, p, d, o in zip(
        x[-n:], w[2:], stride, padding, dilation, output_padding)])
    expect(min(outputs) > 0, op, "padding that leaves an output", outputs=outputs, input=input, weight=weight,
           padding=padding)
    return ConvolutionTranspose(n, outputs, stride, padding, dilation, groups)(input, weight, bias)


_CHANNELS = [f"weight.shape[1] == input.shape[{axis}] // groups" for axis in (0, 1)]
_CHANNELS_TRANSPOSED = [f"weight.shape[0] == input.shape[{axis}]" for axis in (0, 1)]


def _checked(op, n, input, weight, bias, stride, dilation, groups):
    """What both directions demand; stride and dilation as tuples."""
    floating(op, input=input, weight=weight, bias=bias)
    x, w = input.array.shape, weight.array.shape
    expect(len(x) in (n + 1, n + 2), op, "input (N, C, ...) or (C, ...)", input=input, spatial_dimensions=n)
    expect(len(w) == n + 2, op, "weight with two dimensions before the spatial ones", weight=weight,
           spatial_dimensions=n)
    expect(0 not in w and 0 not in x[-n - 1:], op, "no empty dimension but the batch", weight=weight, input=input)
    expect_type(type(groups) is int, op, "groups to be an int", groups=groups)
    expect(groups > 0, op, "groups > 0", groups=groups)
    stride, dilation = ints(op, "stride", stride, n), ints(op, "dilation", dilation, n)
    expect(min(stride) > 0 and min(dilation) > 0, op, "stride > 0 and dilation > 0", stride=stride, dilation=dilation)
    return stride, dilation


def _padding(op, n, padding):
    padding = ints(op, "padding", padding, n)
    expect(min(padding) >= 0, op, "padding >= 0", padding=padding)
    return padding


# --- Functions ---
class Convolution(Function):
    """The kernels are those of images and volumes: a line is an image of height 1."""

    def __init__(self, n, outputs, stride, padding, dilation, groups):
        self.n, self.outputs, self.groups = n, outputs, groups
        if n == 1:
            stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
        self.geometry = stride, padding, dilation, groups

    def forward(self, x, w, b):
        x, w = self._lay_out(x, w)
        y = self._empty(x, w.shape[0])
        self._run("forward", x, w, None if b is None else dense(b), y)
        return y

    def backward(self, gy, wanted):
        gy, gx, gw, gb = laid_out(gy, self.last), None, None, None
        if wanted[0]:
            gx = empty(self.k, self.shapes[0], gy.dtype, self.last)
            self._run("backward_x", gy, self.w, gx)
        if wanted[1]:
            gw = empty(self.k, self.shapes[1], gy.dtype, self.last)
            self._run("backward_w", self.x, gy, gw)
        if wanted[2]:
            gb = self._bias_gradient(gy)
        return gx, gw, gb

    def _lay_out(self, x, w):
        """Both in the layout that the output gets, kept where a gradient will need them."""
        self.last = x.ndim == self.n + 2 and (is_channels_last(x) or is_channels_last(w))
        x, w, self.shapes = laid_out(x, self.last), laid_out(w, self.last), (x.shape, w.shape)
        self.w = w if self.needs_input_grad[0] else None
        self.x = x if self.needs_input_grad[1] else None
        return x, w

    def _empty(self, x, channels):
        """Room for the output."""
        return empty(self.k, (*x.shape[:-self.n - 1], channels, *self.outputs), x.dtype, self.last)

    def _run(self, kernel, *arrays):
        """Call a kernel for images or volumes; the last array is what it fills."""
        if arrays[0].size == 0:
            self.k.xp.copyto(arrays[-1], 0)
            return
        kernel = getattr(self.k, f"conv{max(self.n, 2)}d_{kernel}")
        kernel(*[a if a is None or a.ndim == 1 else self._batch(a) for a in arrays], *self.geometry,
               tf32() or _precision == "fast")

    def _batch(self, array):
        """(N, C, ...) from that or from (C, ...); a line as an image of height 1."""
        if self.n == 1:
            array = array.reshape(*array.shape[:-1], 1, array.shape[-1])
        return array if array.ndim == max(self.n, 2) + 2 else array[None]

    def _bias_gradient(self, gy):
        gb = self.k.empty(gy.shape[-self.n - 1:-self.n], gy.dtype)
        self.k.conv_backward_b(self._batch(gy), gb)
        return gb


class ConvolutionTranspose(Convolution):
    def forward(self, x, w, b):
        x, w = self._lay_out(x, w)
        y = self._empty(x, w.shape[1] * self.groups)
        self._run("backward_x", x, w, y)
        if b is not None:
            self.k.xp.add(y, b.reshape(-1, *(1,) * self.n), out=y)
        return y

    def backward(self, gy, wanted):
        gy, gx, gw, gb = laid_out(gy, self.last), None, None, None
        if wanted[0]:
            gx = empty(self.k, self.shapes[0], gy.dtype, self.last)
            self._run("forward", gy, self.w, None, gx)
        if wanted[1]:
            gw = empty(self.k, self.shapes[1], gy.dtype, self.last)
            self._run("backward_w", gy, self.x, gw)
        if wanted[2]:
            gb = self._bias_gradient(gy)
        return gx, gw, gb
