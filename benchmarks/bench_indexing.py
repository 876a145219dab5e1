"""Sums by index, the gradients of what indices select; bytes are what is read, the index included."""
from benchmarks.harness import bench
from tests.optable import integers, normal

bench("index_select", normal(30000, 256), 0, integers(0, 30000, 2048), bytes=2048 * (256 * 4 + 8))
bench("index_select", normal(1024, 1024), 0, integers(0, 1024, 4096), bytes=4096 * (1024 * 4 + 8))
bench("index_select", normal(64, 1000, 16), 1, integers(0, 1000, 4000), bytes=64 * 4000 * (16 * 4 + 8))
bench("gather", normal(1024, 1024), 1, integers(0, 1024, 1024, 64), bytes=1024 * 64 * (4 + 8))
bench("gather", normal(128, 10), 1, integers(0, 10, 128, 1), bytes=128 * (4 + 8))
bench("index_add", normal(1000, 64), 0, integers(0, 1000, 4096), normal(4096, 64), bytes=4 * 64 * 5096 + 8 * 4096)
