"""Power-average pooling: y = (sum over the window of x^p)^(1/p), the p-norm of the window where x >= 0.

p = 1 is the sum, p = inf the maximum of |x|, p = -inf its minimum. Where the sum is negative the result is NaN,
where it is 0 the gradient is 0. With ceil_mode a window that hangs over the end counts as if it went on with its own
mean. Shapes: those of `avg_pool2d`. All functions raise TypeError and ValueError as that does.
"""
import math
from math import prod

from kdl.errors import expect
from kdl.ops.activation import relu
from kdl.ops.common import floating, ints
from kdl.ops.pool import avg_pool1d, avg_pool2d, avg_pool3d, max_pool1d, max_pool2d, max_pool3d

__all__ = ["lp_pool1d", "lp_pool2d", "lp_pool3d"]


def lp_pool1d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """The power average of every window of (N, C, L) or (C, L)."""
    return _lp_pool("lp_pool1d", 1, avg_pool1d, max_pool1d, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """The power average of every window of (N, C, H, W) or (C, H, W); `stride` is `kernel_size` where it is None."""
    return _lp_pool("lp_pool2d", 2, avg_pool2d, max_pool2d, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """The power average of every window of (N, C, D, H, W) or (C, D, H, W)."""
    return _lp_pool("lp_pool3d", 3, avg_pool3d, max_pool3d, input, norm_type, kernel_size, stride, ceil_mode)


def _lp_pool(op, n, avg_pool, max_pool, input, p, kernel_size, stride, ceil_mode):
    floating(op, input=input)
    expect(p != 0, op, "norm_type other than 0", norm_type=p)
    if math.isinf(p):
        sign = 1 if p > 0 else -1
        return sign * max_pool(sign * input.abs(), kernel_size, stride, ceil_mode=ceil_mode)
    mean = avg_pool(input.pow(p), kernel_size, stride, 0, ceil_mode)
    places = prod(ints(op, "kernel_size", kernel_size, n))
    return (mean.sign() * relu(mean.abs()) * places).pow(1 / p)  # relu, so that the derivative at 0 is 0
