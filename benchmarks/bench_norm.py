"""Normalisation within examples: memory-bound; bytes are one read of the input and one write."""
from benchmarks.harness import bench
from tests.optable import normal

for _rows, _cols in ((64, 64), (4096, 768), (512, 8192)):
    bench("layer_norm", normal(_rows, _cols), (_cols,), normal(_cols), normal(_cols), bytes=2 * 4 * _rows * _cols)
bench("rms_norm", normal(4096, 768), (768,), normal(768), bytes=2 * 4 * 4096 * 768)
bench("group_norm", normal(16, 64, 32, 32), 8, normal(64), normal(64), bytes=2 * 4 * 16 * 64 * 32 * 32)
bench("group_norm", normal(16, 256, 8, 8), 32, normal(256), normal(256), bytes=2 * 4 * 16 * 256 * 8 * 8)
