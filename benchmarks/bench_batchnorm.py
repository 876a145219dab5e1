"""Batch normalisation: memory-bound; bytes are one read and one write of the array, FLOPs 7 per element in training
(4 for the sums, 3 to normalise) and 3 in inference."""
from math import prod

from benchmarks.harness import bench
from tests.optable import normal, positive

for _shape in ((32, 64, 56, 56), (32, 256, 14, 14), (64, 512, 4, 4), (128, 16, 8), (128, 512), (8192, 64),
               (4, 32, 16, 28, 28)):
    _size, _channels = prod(_shape), _shape[1]
    bench("batch_norm", normal(*_shape), None, None, positive(_channels), normal(_channels), True, flops=7 * _size,
          bytes=8 * _size)
    bench("batch_norm", normal(*_shape), normal(_channels).constant(), positive(_channels).constant(),
          positive(_channels), normal(_channels), flops=3 * _size, bytes=8 * _size)
