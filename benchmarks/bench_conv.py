"""Convolution: FLOPs are two for every product of an input and a weight that is not cut off by a border."""
from math import prod

from benchmarks.harness import bench
from tests.optable import normal


def conv(name, x, w, stride=1, padding=0, **kwargs):
    """One row; `x` and `w` are shapes, the output's size follows from them."""
    transposed = "transpose" in name
    sizes = [(i - 1) * stride - 2 * padding + k if transposed else (i + 2 * padding - k) // stride + 1
             for i, k in zip(x[2:], w[2:])]
    groups = kwargs.get("groups", 1)
    channels = w[1] * groups if transposed else w[0]
    y = (x[0], channels, *sizes)
    flops = 2 * prod(x if transposed else y) * prod(w[1:])
    bench(name, normal(*x), normal(*w), normal(channels), stride=stride, padding=padding, flops=flops,
          bytes=4 * (prod(x) + prod(w) + prod(y)), **kwargs)


conv("conv2d", (64, 1, 28, 28), (6, 1, 5, 5))              # LeNet-5's two
conv("conv2d", (64, 6, 14, 14), (16, 6, 5, 5))
conv("conv2d", (32, 64, 32, 32), (64, 64, 3, 3), padding=1)  # ResNet-18 at 32x32
conv("conv2d", (32, 128, 16, 16), (128, 128, 3, 3), padding=1)
conv("conv2d", (32, 256, 8, 8), (256, 256, 3, 3), padding=1)
conv("conv2d", (8, 3, 224, 224), (64, 3, 7, 7), stride=2, padding=3)  # the stem of ResNet-50
conv("conv2d", (8, 64, 56, 56), (64, 64, 1, 1))
conv("conv2d", (8, 128, 56, 56), (128, 128, 3, 3), stride=2, padding=1)
conv("conv2d", (8, 64, 56, 56), (64, 2, 3, 3), padding=1, groups=32)
conv("conv2d", (8, 96, 56, 56), (96, 1, 3, 3), padding=1, groups=96)
conv("conv1d", (16, 64, 1024), (64, 64, 5), padding=2)
conv("conv3d", (2, 16, 16, 28, 28), (32, 16, 3, 3, 3), padding=1)
conv("conv_transpose1d", (16, 64, 256), (64, 32, 4), stride=2, padding=1)
conv("conv_transpose2d", (8, 64, 28, 28), (64, 32, 2, 2), stride=2)
conv("conv_transpose3d", (2, 16, 8, 14, 14), (16, 8, 2, 2, 2), stride=2)
