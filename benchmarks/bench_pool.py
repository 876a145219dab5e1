"""Pooling: memory-bound; bytes are one read of the larger array and one write of the smaller one, or the reverse, and
a byte per output for the winners of max pooling. FLOPs are one per tap and output."""
from math import prod

from benchmarks.harness import bench
from tests.optable import normal


def _pool(name, shape, kernel_size, stride, padding=0, **options):
    n = len(shape) - 2
    outputs = prod(shape[:2]) * prod((length + 2 * padding - kernel_size) // stride + 1 for length in shape[2:])
    bench(name, normal(*shape), kernel_size, stride, padding, **options, flops=outputs * kernel_size**n,
          bytes=4 * (prod(shape) + outputs), area="pool" if n == 2 and kernel_size <= 3 else "")


for _kind in ("max", "avg"):
    _pool(f"{_kind}_pool2d", (32, 64, 56, 56), 2, 2)
    _pool(f"{_kind}_pool2d", (64, 6, 28, 28), 2, 2)
    _pool(f"{_kind}_pool2d", (64, 16, 10, 10), 2, 2)
    _pool(f"{_kind}_pool2d", (8, 64, 112, 112), 3, 2, 1)
    _pool(f"{_kind}_pool2d", (8, 192, 35, 35), 3, 1, 1)
    _pool(f"{_kind}_pool2d", (64, 512, 7, 7), 7, 7)
    _pool(f"{_kind}_pool2d", (8, 256, 28, 28), 4, 4)
    _pool(f"{_kind}_pool1d", (32, 64, 4096), 2, 2)
    _pool(f"{_kind}_pool3d", (4, 32, 16, 28, 28), 2, 2)
    _pool(f"{_kind}_pool3d", (4, 32, 8, 28, 28), 3, 2, 1)
_pool("max_pool2d", (1, 256, 20, 20), 13, 1, 6)
_pool("max_pool1d", (32, 256, 1024), 1024, 1024)
_pool("max_pool2d", (64, 6, 28, 28), 2, 2, return_indices=True)

for _kind in ("avg", "max"):
    bench(f"adaptive_{_kind}_pool1d", normal(32, 64, 4096), 1, flops=32 * 64 * 4096, bytes=4 * 32 * 64 * 4096)
    bench(f"adaptive_{_kind}_pool2d", normal(64, 512, 7, 7), 1, flops=64 * 512 * 49, bytes=4 * 64 * 512 * 50)
    bench(f"adaptive_{_kind}_pool2d", normal(8, 256, 28, 28), 7, flops=8 * 256 * 784, bytes=4 * 8 * 256 * 833)
    bench(f"adaptive_{_kind}_pool3d", normal(4, 64, 8, 14, 14), 1, flops=4 * 64 * 1568, bytes=4 * 4 * 64 * 1569)

for _kind in ("max", "avg"):
    _pool(f"{_kind}_pool2d", (128, 64, 112, 112), 3, 2, 1, device="cuda")
    _pool(f"{_kind}_pool2d", (128, 64, 56, 56), 2, 2, device="cuda")
