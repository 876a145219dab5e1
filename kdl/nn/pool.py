"""Pooling as layers: what they compute stands in kdl/ops/ pool.py, lp_pool.py and fractional_pool.py."""
from kdl.errors import expect
from kdl.nn import functional as F
from kdl.nn.module import Module
from kdl.ops.common import ints

__all__ = ["AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d",
           "AdaptiveMaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "FractionalMaxPool2d", "FractionalMaxPool3d",
           "LPPool1d", "LPPool2d", "LPPool3d", "MaxPool1d", "MaxPool2d", "MaxPool3d", "MaxUnpool1d", "MaxUnpool2d",
           "MaxUnpool3d"]


class _MaxPool(Module):

    def __init__(self, kernel_size, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def _pool(self, function, input):
        return function(input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
                        self.return_indices)

    def extra_repr(self):
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
                f"dilation={self.dilation}, ceil_mode={self.ceil_mode}")


class MaxPool1d(_MaxPool):
    """F.max_pool1d over (N, C, L) or (C, L)."""

    def forward(self, input):
        return self._pool(F.max_pool1d, input)


class MaxPool2d(_MaxPool):
    """F.max_pool2d over (N, C, H, W) or (C, H, W)."""

    def forward(self, input):
        return self._pool(F.max_pool2d, input)


class MaxPool3d(_MaxPool):
    """F.max_pool3d over (N, C, D, H, W) or (C, D, H, W)."""

    def forward(self, input):
        return self._pool(F.max_pool3d, input)


class _MaxUnpool(Module):
    n = None

    def __init__(self, kernel_size, stride=None, padding=0):
        super().__init__()
        name = type(self).__name__
        self.kernel_size = ints(name, "kernel_size", kernel_size, self.n)
        self.stride = ints(name, "stride", kernel_size if stride is None else stride, self.n)
        self.padding = ints(name, "padding", padding, self.n)

    def extra_repr(self):
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """F.max_unpool1d: the maxima back at their places, zero elsewhere."""
    n = 1

    def forward(self, input, indices, output_size=None):
        return F.max_unpool1d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool2d(_MaxUnpool):
    """F.max_unpool2d: the maxima back at their places, zero elsewhere."""
    n = 2

    def forward(self, input, indices, output_size=None):
        return F.max_unpool2d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool3d(_MaxUnpool):
    """F.max_unpool3d: the maxima back at their places, zero elsewhere."""
    n = 3

    def forward(self, input, indices, output_size=None):
        return F.max_unpool3d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class AvgPool1d(Module):
    """F.avg_pool1d over (N, C, L) or (C, L)."""

    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
        super().__init__()
        self.kernel_size = ints("AvgPool1d", "kernel_size", kernel_size, 1)
        self.stride = ints("AvgPool1d", "stride", kernel_size if stride is None else stride, 1)
        self.padding = ints("AvgPool1d", "padding", padding, 1)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, input):
        return F.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self):
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AvgPool(Module):

    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
                 divisor_override=None):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def _pool(self, function, input):
        return function(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
                        self.divisor_override)

    def extra_repr(self):
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(_AvgPool):
    """F.avg_pool2d over (N, C, H, W) or (C, H, W)."""

    def forward(self, input):
        return self._pool(F.avg_pool2d, input)


class AvgPool3d(_AvgPool):
    """F.avg_pool3d over (N, C, D, H, W) or (C, D, H, W)."""

    def forward(self, input):
        return self._pool(F.avg_pool3d, input)


class _AdaptivePool(Module):

    def __init__(self, output_size):
        super().__init__()
        self.output_size = output_size

    def extra_repr(self):
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptivePool):
    """F.adaptive_avg_pool1d: output_size means over (N, C, L) or (C, L)."""

    def forward(self, input):
        return F.adaptive_avg_pool1d(input, self.output_size)


class AdaptiveAvgPool2d(_AdaptivePool):
    """F.adaptive_avg_pool2d: output_size means over (N, C, H, W) or (C, H, W)."""

    def forward(self, input):
        return F.adaptive_avg_pool2d(input, self.output_size)


class AdaptiveAvgPool3d(_AdaptivePool):
    """F.adaptive_avg_pool3d: output_size means over (N, C, D, H, W) or (C, D, H, W)."""

    def forward(self, input):
        return F.adaptive_avg_pool3d(input, self.output_size)


class _AdaptiveMaxPool(_AdaptivePool):

    def __init__(self, output_size, return_indices=False):
        super().__init__(output_size)
        self.return_indices = return_indices


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """F.adaptive_max_pool1d: output_size maxima over (N, C, L) or (C, L)."""

    def forward(self, input):
        return F.adaptive_max_pool1d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """F.adaptive_max_pool2d: output_size maxima over (N, C, H, W) or (C, H, W)."""

    def forward(self, input):
        return F.adaptive_max_pool2d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """F.adaptive_max_pool3d: output_size maxima over (N, C, D, H, W) or (C, D, H, W)."""

    def forward(self, input):
        return F.adaptive_max_pool3d(input, self.output_size, self.return_indices)


class _LPPool(Module):

    def __init__(self, norm_type, kernel_size, stride=None, ceil_mode=False):
        super().__init__()
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def _pool(self, function, input):
        return function(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self):
        return (f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
                f"ceil_mode={self.ceil_mode}")


class LPPool1d(_LPPool):
    """F.lp_pool1d over (N, C, L) or (C, L)."""

    def forward(self, input):
        return self._pool(F.lp_pool1d, input)


class LPPool2d(_LPPool):
    """F.lp_pool2d over (N, C, H, W) or (C, H, W)."""

    def forward(self, input):
        return self._pool(F.lp_pool2d, input)


class LPPool3d(_LPPool):
    """F.lp_pool3d over (N, C, D, H, W) or (C, D, H, W)."""

    def forward(self, input):
        return self._pool(F.lp_pool3d, input)


class _FractionalMaxPool(Module):
    n = None

    def __init__(self, kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None):
        super().__init__()
        name = type(self).__name__
        expect((output_size is None) != (output_ratio is None), name, "one of output_size and output_ratio",
               output_size=output_size, output_ratio=output_ratio)
        self.kernel_size, self.return_indices = ints(name, "kernel_size", kernel_size, self.n), return_indices
        self.output_size = None if output_size is None else ints(name, "output_size", output_size, self.n)
        self.output_ratio = (output_ratio,) * self.n if isinstance(output_ratio, (int, float)) else output_ratio
        expect(output_ratio is None or all(0 < ratio < 1 for ratio in self.output_ratio), name,
               "output_ratio between 0 and 1", output_ratio=output_ratio)
        self.register_buffer("_random_samples", _random_samples)

    def _pool(self, function, input):
        return function(input, self.kernel_size, self.output_size, self.output_ratio, self.return_indices,
                        self._random_samples)


class FractionalMaxPool2d(_FractionalMaxPool):
    """F.fractional_max_pool2d over (N, C, H, W) or (C, H, W). Raises ValueError, TypeError."""
    n = 2

    def forward(self, input):
        return self._pool(F.fractional_max_pool2d, input)


class FractionalMaxPool3d(_FractionalMaxPool):
    """F.fractional_max_pool3d over (N, C, D, H, W) or (C, D, H, W). Raises ValueError, TypeError."""
    n = 3

    def forward(self, input):
        return self._pool(F.fractional_max_pool3d, input)
