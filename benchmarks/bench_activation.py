"""Activations: memory-bound; bytes are one read and one write of the array."""
from benchmarks.harness import bench
from tests.optable import normal

SHAPE = (32, 64, 28, 28)
BYTES = 2 * 4 * 32 * 64 * 28 * 28

for _name in ("relu", "relu6", "leaky_relu", "hardtanh", "hardsigmoid", "hardswish", "softshrink", "hardshrink", "elu",
              "selu", "celu", "sigmoid", "logsigmoid", "softplus", "softsign", "tanh", "tanhshrink", "gelu", "silu",
              "mish"):
    bench(_name, normal(*SHAPE), bytes=BYTES)
bench("gelu", normal(*SHAPE), approximate="tanh", bytes=BYTES)
bench("threshold", normal(*SHAPE), 0.1, 20.0, bytes=BYTES)
bench("prelu", normal(*SHAPE), normal(64), bytes=BYTES)
bench("prelu", normal(*SHAPE), normal(1), bytes=BYTES)
bench("prelu", normal(4096, 512), normal(512), bytes=2 * 4 * 4096 * 512)
bench("glu", normal(4096, 1024), bytes=1.5 * 4 * 4096 * 1024)
bench("glu", normal(*SHAPE), dim=1, bytes=1.5 / 2 * BYTES)
bench("tanh", normal(64, 84), bytes=2 * 4 * 64 * 84)
