"""Lazy layers: the number of input features or channels is that of the first input.

Until then the parameters are empty; they stay the same objects, so an optimiser may be made before. After the first
call the module is one of the class without "Lazy". A state is loaded after that call.
"""
from kdl.autograd import no_grad
from kdl.nn.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from kdl.nn.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from kdl.nn.gemm import Linear
from kdl.nn.norm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d

__all__ = ["LazyBatchNorm1d", "LazyBatchNorm2d", "LazyBatchNorm3d", "LazyConv1d", "LazyConv2d", "LazyConv3d",
           "LazyConvTranspose1d", "LazyConvTranspose2d", "LazyConvTranspose3d", "LazyInstanceNorm1d",
           "LazyInstanceNorm2d", "LazyInstanceNorm3d", "LazyLinear"]


class _Lazy:
    """Takes the arguments of the class `becomes` but the first, which the attribute `inferred` holds."""
    becomes = inferred = None

    def __init__(self, *args, **kwargs):
        self.arguments = args, kwargs
        super().__init__(0, *args, **kwargs)

    def reset_parameters(self):
        """Nothing: the parameters are drawn at the first call."""

    def size_of(self, input):
        """What the first argument is for this input."""
        return input.shape[1]

    @no_grad()
    def initialize_parameters(self, input):
        """Give the parameters the sizes that fit the input, and draw them."""
        (args, kwargs), size = self.__dict__.pop("arguments"), self.size_of(input)
        ready = self.becomes(size, *args, **kwargs)
        for name, p in self._parameters.items():
            if p is not None:
                p.data = ready._parameters[name].detach().to(p.device, p.dtype)
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = ready._buffers[name].to(buffer.device, buffer.dtype)
        setattr(self, self.inferred, size)
        self.__class__ = self.becomes

    def __call__(self, *args, **kwargs):
        self.initialize_parameters(args[0])
        return self(*args, **kwargs)


class LazyLinear(_Lazy, Linear):
    """Linear with the in_features of its first input, the last dimension."""
    becomes, inferred = Linear, "in_features"

    def size_of(self, input):
        return input.shape[-1]


class _LazyConvolution(_Lazy):
    inferred = "in_channels"

    def size_of(self, input):
        return input.shape[-self.n - 1]


class LazyConv1d(_LazyConvolution, Conv1d):
    """Conv1d with the in_channels of its first input."""
    becomes = Conv1d


class LazyConv2d(_LazyConvolution, Conv2d):
    """Conv2d with the in_channels of its first input."""
    becomes = Conv2d


class LazyConv3d(_LazyConvolution, Conv3d):
    """Conv3d with the in_channels of its first input."""
    becomes = Conv3d


class LazyConvTranspose1d(_LazyConvolution, ConvTranspose1d):
    """ConvTranspose1d with the in_channels of its first input."""
    becomes = ConvTranspose1d


class LazyConvTranspose2d(_LazyConvolution, ConvTranspose2d):
    """ConvTranspose2d with the in_channels of its first input."""
    becomes = ConvTranspose2d


class LazyConvTranspose3d(_LazyConvolution, ConvTranspose3d):
    """ConvTranspose3d with the in_channels of its first input."""
    becomes = ConvTranspose3d


class _LazyNorm(_Lazy):
    inferred = "num_features"


class LazyBatchNorm1d(_LazyNorm, BatchNorm1d):
    """BatchNorm1d with the num_features of its first input."""
    becomes = BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, BatchNorm2d):
    """BatchNorm2d with the num_features of its first input."""
    becomes = BatchNorm2d


class LazyBatchNorm3d(_LazyNorm, BatchNorm3d):
    """BatchNorm3d with the num_features of its first input."""
    becomes = BatchNorm3d


class _LazyInstanceNorm(_LazyNorm):

    def __init__(self, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, device=None, dtype=None, *,
                 bias=True):  # torch's defaults, which are not those of the class that it becomes
        super().__init__(eps, momentum, affine, track_running_stats, device, dtype, bias=bias)


class LazyInstanceNorm1d(_LazyInstanceNorm, InstanceNorm1d):
    """InstanceNorm1d with the num_features of its first input (N, C, L)."""
    becomes = InstanceNorm1d


class LazyInstanceNorm2d(_LazyInstanceNorm, InstanceNorm2d):
    """InstanceNorm2d with the num_features of its first input (N, C, H, W)."""
    becomes = InstanceNorm2d


class LazyInstanceNorm3d(_LazyInstanceNorm, InstanceNorm3d):
    """InstanceNorm3d with the num_features of its first input (N, C, D, H, W)."""
    becomes = InstanceNorm3d
