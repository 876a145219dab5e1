"""Resampling: memory-bound; bytes are one read of the input and one write of the output."""
from benchmarks.harness import bench
from tests.optable import normal

for _mode in ("nearest", "bilinear", "bicubic"):
    bench("interpolate", normal(8, 32, 56, 56), 112, mode=_mode, bytes=4 * 8 * 32 * 56 * 56 * 5)
bench("interpolate", normal(16, 3, 224, 224), 64, mode="bilinear", antialias=True,
      bytes=4 * 16 * 3 * (224**2 + 64**2))
