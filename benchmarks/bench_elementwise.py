"""The error functions: a read and a write of the array."""
from benchmarks.harness import bench
from tests.optable import normal

for _name in ("erf", "erfc"):
    bench(_name, normal(1000), bytes=2 * 4 * 1000)
    bench(_name, normal(64, 4096), bytes=2 * 4 * 64 * 4096)
