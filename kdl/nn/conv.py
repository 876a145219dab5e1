"""Convolutions and transposed convolutions over one, two and three dimensions."""
import math

from kdl.errors import expect
from kdl.nn import functional as F
from kdl.nn import init
from kdl.nn.module import Module
from kdl.nn.parameter import new_parameter
from kdl.ops.common import ints

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Module):
    """What all six share: the arguments, the parameters and their first values.

    Weight and bias start uniform in +-1/sqrt(fan_in).
    """
    n = None
    transposed = False

    def _set_up(self, in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, groups, bias,
                padding_mode, device, dtype):
        super().__init__()
        name, n = type(self).__name__, self.n
        expect(groups > 0 and in_channels % groups == 0 and out_channels % groups == 0, name,
               "groups > 0 that divide both numbers of channels", in_channels=in_channels, out_channels=out_channels,
               groups=groups)
        modes = _PADDING_MODES[:1] if self.transposed else _PADDING_MODES
        expect(padding_mode in modes, name, f"a padding_mode out of {', '.join(modes)}", padding_mode=padding_mode)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = ints(name, "kernel_size", kernel_size, n)
        self.stride, self.dilation = ints(name, "stride", stride, n), ints(name, "dilation", dilation, n)
        self.output_padding, self.padding_mode = ints(name, "output_padding", output_padding, n), padding_mode
        if isinstance(padding, str) and not self.transposed:
            expect(padding in ("same", "valid"), name, "padding 'same', 'valid' or numbers", padding=padding)
            expect(padding == "valid" or max(self.stride) == 1, name, "stride 1 with padding 'same'",
                   stride=self.stride)
            self.padding = padding
        else:
            self.padding = ints(name, "padding", padding, n)
        channels = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self.weight = new_parameter(channels[0], channels[1] // groups, *self.kernel_size, device=device, dtype=dtype)
        self.register_parameter("bias", new_parameter(out_channels, device=device, dtype=dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self):
        """Draw the parameters anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        fan_in = math.prod(self.weight.shape[1:])
        if self.bias is not None and fan_in > 0:
            init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def extra_repr(self):
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        for name, usual in (("padding", (0,) * self.n), ("dilation", (1,) * self.n), ("output_padding", (0,) * self.n),
                            ("groups", 1)):
            if getattr(self, name) != usual:
                parts.append(f"{name}={getattr(self, name)}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class _Conv(_Convolution):

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True,
                 padding_mode="zeros", device=None, dtype=None):
        self._set_up(in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, bias, padding_mode,
                     device, dtype)

    def _convolve(self, function, input):
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._margins(), mode=self.padding_mode), 0
        return function(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _margins(self):
        """The padding in F.pad's form: before and after, the last dimension first."""
        if self.padding == "valid":
            pairs = [(0, 0)] * self.n
        elif self.padding == "same":
            totals = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            pairs = [(total // 2, total - total // 2) for total in totals]
        else:
            pairs = [(p, p) for p in self.padding]
        return [side for pair in reversed(pairs) for side in pair]


class Conv1d(_Conv):
    """F.conv1d with a learned weight: (N, in_channels, L) to (N, out_channels, L_out)."""
    n = 1

    def forward(self, input):
        return self._convolve(F.conv1d, input)


class Conv2d(_Conv):
    """F.conv2d with a learned weight: (N, in_channels, H, W) to (N, out_channels, H_out, W_out)."""
    n = 2

    def forward(self, input):
        return self._convolve(F.conv2d, input)


class Conv3d(_Conv):
    """F.conv3d with a learned weight: (N, in_channels, D, H, W) to (N, out_channels, D_out, H_out, W_out)."""
    n = 3

    def forward(self, input):
        return self._convolve(F.conv3d, input)


class _ConvTranspose(_Convolution):
    transposed = True

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1,
                 bias=True, dilation=1, padding_mode="zeros", device=None, dtype=None):
        self._set_up(in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, groups, bias,
                     padding_mode, device, dtype)

    def _convolve(self, function, input, output_size):
        output_padding = self.output_padding if output_size is None else self._padding_for(input, output_size)
        return function(input, self.weight, self.bias, self.stride, self.padding, output_padding, self.groups,
                        self.dilation)

    def _padding_for(self, input, output_size):
        """The output padding that gives this size, out of the `stride` sizes that belong to one input size."""
        name, sizes = type(self).__name__, tuple(output_size)
        sizes = sizes[len(sizes) - self.n:] if len(sizes) == input.ndim else sizes
        expect(len(sizes) == self.n, name, f"output_size with {self.n} lengths, or one for every dimension",
               output_size=tuple(output_size))
        least = [(length - 1) * s - 2 * p + d * (k - 1) + 1 for length, s, p, d, k in zip(
            input.shape[input.ndim - self.n:], self.stride, self.padding, self.dilation, self.kernel_size, strict=True)]
        most = [length + s - 1 for length, s in zip(least, self.stride, strict=True)]
        expect(all(a <= size <= b for a, size, b in zip(least, sizes, most, strict=True)), name,
               f"output_size between {tuple(least)} and {tuple(most)}", output_size=sizes, input=input)
        return tuple(size - a for a, size in zip(least, sizes, strict=True))


class ConvTranspose1d(_ConvTranspose):
    """F.conv_transpose1d with a learned weight: (N, in_channels, L) to (N, out_channels, L_out).

    A call may give `output_size`, which then decides the output padding.
    """
    n = 1

    def forward(self, input, output_size=None):
        return self._convolve(F.conv_transpose1d, input, output_size)


class ConvTranspose2d(_ConvTranspose):
    """F.conv_transpose2d with a learned weight: (N, in_channels, H, W) to (N, out_channels, H_out, W_out).

    A call may give `output_size`, which then decides the output padding.
    """
    n = 2

    def forward(self, input, output_size=None):
        return self._convolve(F.conv_transpose2d, input, output_size)


class ConvTranspose3d(_ConvTranspose):
    """F.conv_transpose3d with a learned weight: (N, in_channels, D, H, W) to (N, out_channels, D_out, H_out, W_out).

    A call may give `output_size`, which then decides the output padding.
    """
    n = 3

    def forward(self, input, output_size=None):
        return self._convolve(F.conv_transpose3d, input, output_size)
