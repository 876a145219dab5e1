"""Batch normalisation over the batch and the spatial dimensions, per channel (Ioffe and Szegedy, 2015)."""
import numpy as np

from kdl import types
from kdl.errors import expect
from kdl.nn import functional as F
from kdl.nn import init
from kdl.nn.module import Module
from kdl.nn.parameter import new_parameter
from kdl.tensor import Tensor, array_module

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]


class _BatchNorm(Module):
    ndims = ()

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, device=None,
                 dtype=None, *, bias=True):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats

        def new():
            return new_parameter(num_features, device=device, dtype=dtype)
        self.register_parameter("weight", new() if affine else None)
        self.register_parameter("bias", new() if affine and bias else None)
        count = Tensor(np.zeros((), types.int64))
        self.register_buffer("running_mean", new().detach() if track_running_stats else None)
        self.register_buffer("running_var", new().detach() if track_running_stats else None)
        self.register_buffer("num_batches_tracked", (count if device is None else count.to(device))
                             if track_running_stats else None)
        self.reset_parameters()

    def reset_running_stats(self):
        """Forget the statistics: mean 0, variance 1, no batches seen."""
        if self.track_running_stats:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self):
        """Forget the statistics, and set the weights to 1 and the biases to 0."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input):
        if input.ndim not in self.ndims:
            expect(False, type(self).__name__, f"a {' or '.join(f'{n}-D' for n in self.ndims)} input", input=input)
        tracking = self.training and self.track_running_stats
        factor = self.momentum
        if factor is None:  # the plain average of all batches so far
            factor = 1 / (int(self.num_batches_tracked) + 1) if tracking else 0.0
        use_running = self.running_mean is not None and (tracking or not self.training)
        y = F.batch_norm(input, self.running_mean if use_running else None, self.running_var if use_running else None,
                         self.weight, self.bias, self.training or self.running_mean is None, factor, self.eps)
        if tracking:
            count = self.num_batches_tracked.array
            array_module(count).add(count, 1, out=count)
        return y

    def extra_repr(self):
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}")


class BatchNorm1d(_BatchNorm):
    """F.batch_norm with learned scale and shift and running statistics, for (N, C) or (N, C, L).

    In training the batch's own mean and variance are used, and the running ones follow them by `momentum` (with None:
    their plain average); in evaluation the running ones are used, if any.
    """
    ndims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """BatchNorm1d for (N, C, H, W)."""
    ndims = (4,)


class BatchNorm3d(_BatchNorm):
    """BatchNorm1d for (N, C, D, H, W)."""
    ndims = (5,)
