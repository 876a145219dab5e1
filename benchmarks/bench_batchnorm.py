"""Batch normalisation: memory-bound; bytes are one read and one write of the array, and in the gradient two reads and
one write; FLOPs 7 per element in training (4 for the sums, 3 to normalise) and 3 in inference."""
from math import prod

from benchmarks.harness import bench
from tests.optable import normal, positive


def _batch_norm(shape, training=True, **options):
    size, channels = prod(shape), shape[1]
    running = (None, None) if training else (normal(channels).constant(), positive(channels).constant())
    bench("batch_norm", normal(*shape), *running, positive(channels), normal(channels), training,
          flops=(7 if training else 3) * size, bytes=8 * size, backward_bytes=12 * size, **options)


for _shape in ((32, 64, 56, 56), (32, 256, 14, 14), (64, 512, 4, 4), (128, 16, 8), (128, 512), (8192, 64),
               (4, 32, 16, 28, 28)):
    _batch_norm(_shape)
    _batch_norm(_shape, training=False)
for _shape in ((32, 64, 56, 56), (32, 256, 14, 14)):
    _batch_norm(_shape, program="then_relu", passes=("forward", "backward"))
for _shape in ((128, 64, 112, 112), (128, 256, 56, 56), (128, 2048, 7, 7)):
    _batch_norm(_shape, device="cuda")
