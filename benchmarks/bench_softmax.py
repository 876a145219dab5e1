"""Softmax and cross-entropy: memory-bound; bytes are one read of the input and, for the softmaxes, one write. The
`step` of a loss is its value and its gradient: one read and one write."""
from math import prod

from benchmarks.harness import bench
from tests.optable import integers, normal, positive, probabilities

LOSS = ("forward", "step")

for _name in ("softmax", "log_softmax"):
    for _shape in ((4096, 256), (64, 10), (512, 32000), (8, 262144), (8, 21, 128, 128)):
        bench(_name, normal(*_shape), 1, bytes=8 * prod(_shape), backward_bytes=12 * prod(_shape))

for _rows, _cols in ((512, 32000), (64, 10), (256, 1000), (8, 262144)):
    bench("cross_entropy", normal(_rows, _cols), integers(0, _cols, _rows), bytes=4 * _rows * _cols,
          backward_bytes=8 * _rows * _cols, passes=LOSS)
bench("cross_entropy", normal(256, 1000), integers(0, 1000, 256), positive(1000).constant(), label_smoothing=0.1,
      bytes=4 * 256 * 1000, backward_bytes=8 * 256 * 1000, passes=LOSS)
bench("cross_entropy", normal(8, 21, 128, 128), integers(0, 21, 8, 128, 128), bytes=4 * 8 * 21 * 128 * 128,
      backward_bytes=8 * 8 * 21 * 128 * 128, passes=LOSS)
for _shape in ((256, 1000), (8, 21, 64, 64)):
    bench("cross_entropy", normal(*_shape), probabilities(*_shape).constant(), bytes=8 * prod(_shape),
          backward_bytes=12 * prod(_shape), passes=LOSS)

for _rows, _cols in ((8192, 50304), (4096, 128256), (65536, 10), (2048, 262144)):
    bench("cross_entropy", normal(_rows, _cols), integers(0, _cols, _rows), bytes=4 * _rows * _cols,
          backward_bytes=8 * _rows * _cols, passes=LOSS, device="cuda")
