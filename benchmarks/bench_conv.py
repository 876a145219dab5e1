"""Convolution: FLOPs are two for every product of an input and a weight, whatever the algorithm; bytes are the input's,
the filters' and the output's."""
from math import prod

from benchmarks.harness import OPERANDS, bench
from tests.optable import normal

LIKE_3X3, OTHER = "conv 3x3", "conv other"
NO_DX = ("forward", "dw")  # a network's first layer


def conv(name, x, w, area="", stride=1, padding=0, passes=OPERANDS, dtype="float32", device="", **kwargs):
    """One row; `x` and `w` are shapes, the output's size follows from them."""
    transposed = "transpose" in name
    dilation, groups = kwargs.get("dilation", 1), kwargs.get("groups", 1)
    extent = [dilation * (k - 1) + 1 for k in w[2:]]
    sizes = [(i - 1) * stride - 2 * padding + k if transposed else (i + 2 * padding - k) // stride + 1
             for i, k in zip(x[2:], extent)]
    channels = w[1] * groups if transposed else w[0]
    y = (x[0], channels, *sizes)
    bench(name, normal(*x), normal(*w), normal(channels), stride=stride, padding=padding,
          flops=2 * prod(x if transposed else y) * prod(w[1:]),
          bytes=(4 if dtype == "float32" else 2) * (prod(x) + prod(w) + prod(y)), area=area, passes=passes, dtype=dtype,
          device=device, **kwargs)


def square(n, c, size, k, r, *args, **kwargs):
    """n images of c channels, k filters of r x r."""
    conv("conv2d", (n, c, size, size), (k, c // kwargs.get("groups", 1), r, r), *args, **kwargs)


square(64, 1, 28, 6, 5, "lenet conv1", padding=2, passes=NO_DX)  # LeNet-5's two
square(64, 6, 14, 16, 5)
for _n, _c, _size in ((32, 64, 32), (32, 128, 16), (32, 256, 8),  # ResNet-18 at 32 x 32
                      (8, 64, 56), (8, 128, 28), (8, 256, 14)):   # ResNet-50
    square(_n, _c, _size, _c, 3, LIKE_3X3, padding=1)
square(32, 512, 4, 512, 3, OTHER, padding=1)
square(8, 512, 7, 512, 3, OTHER, padding=1)
square(32, 3, 32, 64, 3, OTHER, padding=1, passes=NO_DX)            # stems
square(8, 3, 224, 64, 7, OTHER, stride=2, padding=3, passes=NO_DX)
square(8, 3, 224, 32, 3, OTHER, stride=2, padding=1, passes=NO_DX)
square(8, 128, 56, 128, 3, OTHER, stride=2, padding=1)              # strided
square(32, 64, 32, 128, 3, OTHER, stride=2, padding=1)
square(8, 64, 56, 64, 1, OTHER)                                     # 1 x 1
square(8, 256, 56, 64, 1, OTHER)
square(8, 64, 56, 256, 1, OTHER)
square(8, 256, 56, 512, 1, OTHER, stride=2)
square(2, 32, 128, 32, 3, padding=1)                                # U-Net
square(2, 128, 64, 64, 3, padding=1)
square(8, 64, 56, 64, 3, padding=1, groups=32)                      # grouped
square(8, 96, 56, 96, 3, "depthwise", padding=1, groups=96)
square(8, 144, 56, 144, 3, stride=2, padding=1, groups=144)         # MobileNetV2's strides, and its small images
square(8, 576, 14, 576, 3, stride=2, padding=1, groups=576)
square(8, 960, 7, 960, 3, padding=1, groups=960)
square(4, 64, 33, 64, 3, padding=2, dilation=2)
square(4, 33, 30, 65, 3, padding=1)                                 # odd numbers of channels
conv("conv1d", (16, 64, 1024), (64, 64, 5), padding=2)
conv("conv3d", (2, 16, 16, 28, 28), (32, 16, 3, 3, 3), padding=1)
conv("conv_transpose1d", (16, 64, 256), (64, 32, 4), stride=2, padding=1)
conv("conv_transpose2d", (8, 64, 28, 28), (64, 32, 2, 2), stride=2)
conv("conv_transpose3d", (2, 16, 8, 14, 14), (16, 8, 2, 2, 2), stride=2)

for _dtype in ("bfloat16", "float32"):
    for _n, _c, _size in ((128, 64, 56), (128, 128, 28), (128, 256, 14), (128, 512, 7)):
        square(_n, _c, _size, _c, 3, LIKE_3X3, padding=1, device="cuda", dtype=_dtype)
    square(128, 256, 56, 64, 1, OTHER, device="cuda", dtype=_dtype)
    square(128, 3, 224, 64, 7, OTHER, stride=2, padding=3, passes=NO_DX, device="cuda", dtype=_dtype)
    square(128, 128, 56, 128, 3, OTHER, stride=2, padding=1, device="cuda", dtype=_dtype)
