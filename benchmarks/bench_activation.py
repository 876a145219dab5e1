"""Activations: memory-bound; bytes are one read and one write of the array."""
from benchmarks.harness import bench
from tests.optable import normal

SHAPE = (32, 64, 56, 56)
BYTES = 2 * 4 * 32 * 64 * 56 * 56

for _name in ("relu", "leaky_relu"):
    bench(_name, normal(*SHAPE), bytes=BYTES)
