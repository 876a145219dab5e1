"""Whole steps of training, with real gradients and updates: forward, cross-entropy, gradients, SGD with momentum.

FLOPs are those of the products and convolutions: twice the multiplications in the forward, and as many again for each
of the two gradients.
"""
from benchmarks.harness import bench
from tests.optable import normal


def _training(name, shape, classes, multiplications, **options):
    """`multiplications` is the number in the forward of one example."""
    bench(name, normal(*shape), classes=classes, flops=6 * shape[0] * multiplications,
          backward_flops=6 * shape[0] * multiplications, passes=("step",), program="training_step", **options)


def _resnet18():
    """3 x 3 and 1 x 1 convolutions of four stages at 32, 16, 8 and 4 pixels."""
    stem = 3 * 64 * 9 * 32**2
    stages = sum(c * c * 9 * 3 * (32 >> i)**2 for i, c in enumerate((64, 128, 256, 512)))
    first = 64 * 64 * 9 * 32**2 + sum((c // 2) * c * 10 * (32 >> i)**2 for i, c in enumerate((128, 256, 512), 1))
    return stem + stages + first + 512 * 10


def _unet(size, w=16):
    """Two convolutions at every level on both sides, two up-convolutions and the head."""
    side = [(1, w), (w, w), (2 * w, w), (w, w)]
    level = [(w, 2 * w), (2 * w, 2 * w), (4 * w, 2 * w), (2 * w, 2 * w)]
    bottom = [(2 * w, 4 * w), (4 * w, 4 * w)]
    convolutions = sum(9 * c * k * (size >> depth)**2
                       for depth, pairs in enumerate((side, level, bottom)) for c, k in pairs)
    return convolutions + 8 * w * w * (size >> 1)**2 + 2 * w * w * size**2 + 2 * w * size**2


_training("mlp", (128, 784), 10, 784 * 512 + 512 * 512 + 512 * 10)
_training("lenet5", (64, 1, 28, 28), 10, 6 * 25 * 28**2 + 16 * 150 * 10**2 + 400 * 120 + 120 * 84 + 84 * 10)
_training("resnet18", (32, 3, 32, 32), 10, _resnet18())
_training("unet", (4, 1, 64, 64), 2, _unet(64), dense=True)
