"""Normalisation within every example: of layers, groups of channels, single channels and neighbouring channels."""
import numpy as np

from kdl.errors import expect
from kdl.nn import functional as F
from kdl.nn import init
from kdl.nn.batchnorm import _BatchNorm
from kdl.nn.module import Module
from kdl.nn.parameter import new_parameter

__all__ = ["GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "LayerNorm", "LocalResponseNorm",
           "RMSNorm"]


class LayerNorm(Module):
    """F.layer_norm with learned scale and shift over the last dimensions, whose lengths are normalized_shape."""

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True, device=None, dtype=None):
        super().__init__()
        self.normalized_shape, self.eps = _shape(normalized_shape), eps
        self.elementwise_affine = elementwise_affine

        def new():
            return new_parameter(*self.normalized_shape, device=device, dtype=dtype)
        self.register_parameter("weight", new() if elementwise_affine else None)
        self.register_parameter("bias", new() if elementwise_affine and bias else None)
        self.reset_parameters()

    def reset_parameters(self):
        """Set the weights to 1 and the biases to 0."""
        _reset(self.weight, self.bias)

    def forward(self, input):
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return (f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
                f"bias={self.bias is not None}")


class RMSNorm(Module):
    """F.rms_norm with a learned scale over the last dimensions, whose lengths are normalized_shape."""

    def __init__(self, normalized_shape, eps=None, elementwise_affine=True, device=None, dtype=None):
        super().__init__()
        self.normalized_shape, self.eps = _shape(normalized_shape), eps
        self.elementwise_affine = elementwise_affine
        self.register_parameter("weight", new_parameter(*self.normalized_shape, device=device, dtype=dtype)
                                if elementwise_affine else None)
        self.reset_parameters()

    def reset_parameters(self):
        """Set the weights to 1."""
        _reset(self.weight)

    def forward(self, input):
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self):
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """F.group_norm with learned scale and shift per channel: (N, C, ...), num_groups groups of channels."""

    def __init__(self, num_groups, num_channels, eps=1e-5, affine=True, device=None, dtype=None, *, bias=True):
        super().__init__()
        expect(num_groups > 0 and num_channels % num_groups == 0, "GroupNorm",
               "num_groups > 0 that divides num_channels", num_groups=num_groups, num_channels=num_channels)
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine

        def new():
            return new_parameter(num_channels, device=device, dtype=dtype)
        self.register_parameter("weight", new() if affine else None)
        self.register_parameter("bias", new() if affine and bias else None)
        self.reset_parameters()

    def reset_parameters(self):
        """Set the weights to 1 and the biases to 0."""
        _reset(self.weight, self.bias)

    def forward(self, input):
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return (f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
                f"bias={self.bias is not None}")


class _InstanceNorm(_BatchNorm):

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=False, track_running_stats=False, device=None,
                 dtype=None, *, bias=True):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input):
        name, with_batch = type(self).__name__, self.ndims[0]
        expect(input.ndim in (with_batch - 1, with_batch), name, f"a {with_batch - 1}-D or {with_batch}-D input",
               input=input)
        batch = input if input.ndim == with_batch else input.unsqueeze(0)
        expect(not (self.affine or self.track_running_stats) or batch.shape[1] == self.num_features, name,
               f"{self.num_features} channels", input=input)
        y = F.instance_norm(batch, self.running_mean, self.running_var, self.weight, self.bias,
                            self.training or not self.track_running_stats, self.momentum or 0.0, self.eps)
        return y if input.ndim == with_batch else y.squeeze(0)


class InstanceNorm1d(_InstanceNorm):
    """F.instance_norm for (N, C, L) or (C, L); scale and shift, and running statistics, only where asked for."""
    ndims = (3,)


class InstanceNorm2d(_InstanceNorm):
    """InstanceNorm1d for (N, C, H, W) or (C, H, W)."""
    ndims = (4,)


class InstanceNorm3d(_InstanceNorm):
    """InstanceNorm1d for (N, C, D, H, W) or (C, D, H, W)."""
    ndims = (5,)


class LocalResponseNorm(Module):
    """F.local_response_norm: every channel divided by a power of the energy of its neighbours."""

    def __init__(self, size, alpha=1e-4, beta=0.75, k=1.0):
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input):
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self):
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


def _shape(normalized_shape):
    return (normalized_shape,) if isinstance(normalized_shape, (int, np.integer)) else tuple(normalized_shape)


def _reset(weight, bias=None):
    if weight is not None:
        init.ones_(weight)
    if bias is not None:
        init.zeros_(bias)
