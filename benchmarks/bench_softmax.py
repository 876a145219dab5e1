"""Softmax and cross-entropy: memory-bound; bytes are one read of the input and, for the softmaxes, one write."""
from benchmarks.harness import bench
from tests.optable import integers, normal, positive, probabilities

for _name in ("softmax", "log_softmax"):
    for _rows, _cols in ((64, 10), (4096, 256), (512, 32000)):
        bench(_name, normal(_rows, _cols), 1, bytes=2 * 4 * _rows * _cols)
    bench(_name, normal(8, 21, 128, 128), 1, bytes=2 * 4 * 8 * 21 * 128 * 128)

for _rows, _cols in ((64, 10), (256, 1000), (512, 32000), (8, 262144)):
    bench("cross_entropy", normal(_rows, _cols), integers(0, _cols, _rows), bytes=4 * _rows * _cols)
bench("cross_entropy", normal(256, 1000), integers(0, 1000, 256), positive(1000).constant(), label_smoothing=0.1,
      bytes=4 * 256 * 1000)
bench("cross_entropy", normal(8, 21, 128, 128), integers(0, 21, 8, 128, 128), bytes=4 * 8 * 21 * 128 * 128)
bench("cross_entropy", normal(256, 1000), probabilities(256, 1000).constant(), bytes=2 * 4 * 256 * 1000)
bench("cross_entropy", normal(8, 21, 64, 64), probabilities(8, 21, 64, 64).constant(), bytes=2 * 4 * 8 * 21 * 64 * 64)
