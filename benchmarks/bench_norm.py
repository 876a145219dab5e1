"""Normalisation within examples: memory-bound; bytes are one read and one write, in the gradient two
reads and one write."""
from math import prod

from benchmarks.harness import bench
from tests.optable import normal


def _norm(name, shape, *args):
    bench(name, normal(*shape), *args, bytes=8 * prod(shape), backward_bytes=12 * prod(shape))


for _rows, _cols in ((64, 64), (4096, 768), (512, 8192)):
    _norm("layer_norm", (_rows, _cols), (_cols,), normal(_cols), normal(_cols))
_norm("rms_norm", (4096, 768), (768,), normal(768))
_norm("group_norm", (16, 64, 32, 32), 8, normal(64), normal(64))
_norm("group_norm", (16, 256, 8, 8), 32, normal(256), normal(256))
