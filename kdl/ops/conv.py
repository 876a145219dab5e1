"""Convolution and its transpose, over one, two or three spatial dimensions.

y[n, k, o] = b[k] + sum over c, t of x[n, c, i] w[k, c, t] with i = o stride - padding + t dilation: a cross-
correlation, the filter is not flipped. An axis of length L gives (L + 2 padding - dilation (K - 1) - 1) // stride + 1
outputs. With groups, group g of the outputs sees group g of the inputs alone.

gx[n, c, i] = sum over k, t of gy[n, k, o] w[k, c, t], over the outputs o that meet i;
gw[k, c, t] = sum over n, o of gy[n, k, o] x[n, c, i]; gb[k] = sum over n, o of gy[n, k, o].

The transposed convolution is the first of these as a function, so its own gradients are a convolution and the same gw
with x and gy exchanged. (LeCun et al., 1998; Dumoulin and Visin, 2016, "A guide to convolution arithmetic".)

Shapes: input (N, C, ...) or (C, ...), weight (K, C / groups, ...), transposed (C, K / groups, ...), bias (K).
"""
from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.common import dense, empty, floating, ints, is_channels_last, laid_out
from kdl.ops.pad import pad

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


def conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Convolve (N, C, L) or (C, L) with weight (K, C / groups, S); see `conv2d`."""
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Convolve (N, C, H, W) or (C, H, W) with weight (K, C / groups, R, S).

    `stride`, `padding` and `dilation` are ints or pairs; padding may be 'valid' (none) or 'same' (stride 1: the output
    is as large as the input, an odd row or column of padding going to the end). Raises TypeError for dtypes, ValueError
    for shapes that do not fit.
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Convolve (N, C, D, H, W) or (C, D, H, W) with weight (K, C / groups, T, R, S); see `conv2d`."""
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The transposed convolution of (N, C, L) or (C, L) with weight (C, K / groups, S); see `conv_transpose2d`."""
    return _conv_transpose("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups,
                           dilation)


def conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The transposed convolution of (N, C, H, W) or (C, H, W) with weight (C, K / groups, R, S).

    An axis of length L gives (L - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1 outputs. The
    output_padding is less than stride or dilation and chooses among the lengths that a convolution would take to L.
    Raises TypeError for dtypes, ValueError for shapes that do not fit.
    """
    return _conv_transpose("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups,
                           dilation)


def conv_transpose3d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The transposed convolution of (N, C, D, H, W) with (C, K / groups, T, R, S); see `conv_transpose2d`."""
    return _conv_transpose("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups,
                           dilation)


# --- arguments ---
def _conv(op, n, input, weight, bias, stride, padding, dilation, groups):
    stride, dilation = _checked(op, n, input, weight, bias, stride, dilation, groups)
    expect(weight.shape[1] == input.shape[-n - 1] // groups and input.shape[-n - 1] % groups == 0, op,
           "weight.shape[1] == input.shape[1] // groups", weight=weight, input=input, groups=groups)
    expect(weight.shape[0] % groups == 0 and weight.shape[0] > 0, op, "weight.shape[0] to be a multiple of groups",
           weight=weight, groups=groups)
    expect(bias is None or bias.shape == weight.shape[:1], op, "bias.shape == weight.shape[:1]", bias=bias,
           weight=weight)
    if isinstance(padding, str):
        input, padding = _named_padding(op, n, input, weight, stride, padding, dilation)
    padding = _padding(op, n, padding)
    span = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:])]
    expect(all(s <= size + 2 * p for s, size, p in zip(span, input.shape[-n:], padding)), op,
           "a filter no larger than the padded input", filter=tuple(span), input=input, padding=padding)
    return _run(n, input, weight, bias, Conv(stride, padding, dilation, groups))


def _conv_transpose(op, n, input, weight, bias, stride, padding, output_padding, groups, dilation):
    stride, dilation = _checked(op, n, input, weight, bias, stride, dilation, groups)
    padding, output_padding = _padding(op, n, padding), ints(op, "output_padding", output_padding, n)
    expect(weight.shape[0] == input.shape[-n - 1] and weight.shape[0] % groups == 0, op,
           "weight.shape[0] == input.shape[1], a multiple of groups", weight=weight, input=input, groups=groups)
    channels = weight.shape[1] * groups
    expect(bias is None or bias.shape == (channels,), op, "bias.shape == (weight.shape[1] * groups,)", bias=bias,
           weight=weight, groups=groups)
    expect(all(0 <= o < max(s, d) for o, s, d in zip(output_padding, stride, dilation)), op,
           "0 <= output_padding < max(stride, dilation)", output_padding=output_padding, stride=stride,
           dilation=dilation)
    sizes = tuple((size - 1) * s - 2 * p + d * (k - 1) + o + 1 for size, s, p, d, k, o in zip(
        input.shape[-n:], stride, padding, dilation, weight.shape[2:], output_padding))
    expect(all(size > 0 for size in sizes), op, "an output of positive size", output=sizes, input=input,
           weight=weight, padding=padding)
    return _run(n, input, weight, bias, ConvTranspose(stride, padding, dilation, groups, sizes))


def _checked(op, n, input, weight, bias, stride, dilation, groups):
    """What both directions demand; stride and dilation as tuples."""
    floating(op, input=input, weight=weight, bias=bias)
    expect(input.ndim in (n + 1, n + 2), op, f"input (N, C, ...) or (C, ...) with {n} spatial dimensions", input=input)
    expect(weight.ndim == n + 2, op, f"weight with {n + 2} dimensions", weight=weight)
    expect(0 not in weight.shape[1:] and 0 not in input.shape[-n - 1:], op, "no empty dimension but the batch",
           input=input, weight=weight)
    expect_type(isinstance(groups, int) and not isinstance(groups, bool), op, "groups to be an int", groups=groups)
    stride, dilation = ints(op, "stride", stride, n), ints(op, "dilation", dilation, n)
    expect(groups > 0 and min(stride) > 0 and min(dilation) > 0, op, "positive stride, dilation and groups",
           stride=stride, dilation=dilation, groups=groups)
    return stride, dilation


def _padding(op, n, padding):
    padding = ints(op, "padding", padding, n)
    expect(min(padding) >= 0, op, "padding >= 0", padding=padding)
    return padding


def _named_padding(op, n, input, weight, stride, padding, dilation):
    """The input, padded where the two sides differ, and the padding that is left."""
    expect(padding in ("same", "valid"), op, "padding to be numbers, 'same' or 'valid'", padding=padding)
    if padding == "valid":
        return input, 0
    expect(all(s == 1 for s in stride), op, "stride 1 with padding 'same'", stride=stride)
    total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:])]
    if any(t % 2 for t in total):
        extra = [side for t in reversed(total) for side in (0, t % 2)]
        input = pad(input, extra)
    return input, tuple(t // 2 for t in total)


def _run(n, input, weight, bias, function):
    """Run the function on a batch, with a line as an image of height 1."""
    batched = input if input.ndim == n + 2 else input.unsqueeze(0)
    if n == 1:
        function.widen()
        y = function(batched.unsqueeze(2), weight.unsqueeze(2), bias).squeeze(2)
    else:
        y = function(batched, weight, bias)
    return y if input.ndim == n + 2 else y.squeeze(0)


# --- Functions ---
class Conv(Function):
    def __init__(self, stride, padding, dilation, groups):
        self.geometry, self.groups = (stride, padding, dilation), groups

    def widen(self):
        """From one spatial dimension to two."""
        stride, padding, dilation = self.geometry
        self.geometry = (1, *stride), (0, *padding), (1, *dilation)

    def kernel(self, name, n):
        return getattr(self.k, f"conv{n}d_{name}")

    def forward(self, x, w, b):
        self.last = is_channels_last(x) or (is_channels_last(w) and not x.flags.c_contiguous)
        self.x, self.w = laid_out(x, self.last), laid_out(w, self.last)
        sizes = [(size + 2 * p - d * (k - 1) - 1) // s + 1
                 for size, s, p, d, k in zip(x.shape[2:], *self.geometry, w.shape[2:])]
        y = empty(self.k, (x.shape[0], w.shape[0], *sizes), x.dtype, self.last)
        if y.size:
            b = None if b is None else dense(b)
            self.kernel("forward", len(sizes))(self.x, self.w, b, y, *self.geometry, self.groups)
        return y

    def backward(self, gy, wanted):
        gy, x, w, n = laid_out(gy, self.last), self.x, self.w, self.x.ndim - 2
        gx = gw = gb = None
        if wanted[0]:
            gx = empty(self.k, x.shape, x.dtype, self.last)
            if gx.size:
                self.kernel("backward_x", n)(gy, w, gx, *self.geometry, self.groups)
        if wanted[1]:
            gw = empty(self.k, w.shape, w.dtype, self.last)
            self.kernel("backward_w", n)(x, gy, gw, *self.geometry, self.groups)
        if wanted[2]:
            gb = self.k.empty(w.shape[:1], w.dtype)
            self.k.conv_backward_b(gy, gb)
        return gx, gw, gb


class ConvTranspose(Conv):
    def __init__(self, stride, padding, dilation, groups, sizes):
        super().__init__(stride, padding, dilation, groups)
        self.sizes = sizes

    def widen(self):
        super().widen()
        self.sizes = (1, *self.sizes)

    def forward(self, x, w, b):
        self.last = is_channels_last(x) or (is_channels_last(w) and not x.flags.c_contiguous)
        self.x, self.w = laid_out(x, self.last), laid_out(w, self.last)
        y = empty(self.k, (x.shape[0], w.shape[1] * self.groups, *self.sizes), x.dtype, self.last)
        if y.size:
            self.kernel("backward_x", len(self.sizes))(self.x, self.w, y, *self.geometry, self.groups)
        if b is not None:
            y += b.reshape(-1, *(1,) * len(self.sizes))
        return y

    def backward(self, gy, wanted):
        gy, x, w, n = laid_out(gy, self.last), self.x, self.w, self.x.ndim - 2
        gx = gw = gb = None
        if wanted[0]:
            gx = empty(self.k, x.shape, x.dtype, self.last)
            if gx.size:
                self.kernel("forward", n)(gy, w, None, gx, *self.geometry, self.groups)
        if wanted[1]:
            gw = empty(self.k, w.shape, w.dtype, self.last)
            self.kernel("backward_w", n)(gy, x, gw, *self.geometry, self.groups)
        if wanted[2]:
            gb = self.k.empty((gy.shape[1],), w.dtype)
            self.k.conv_backward_b(gy, gb)
        return gx, gw, gb
