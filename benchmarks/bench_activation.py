"""Activations: memory-bound; bytes are one read and one write of the array, and in the gradient two reads and one."""
from math import prod

from benchmarks.harness import bench
from tests.optable import normal

SHAPE = (32, 64, 28, 28)    # 6.4 MB, within the last cache of most machines
LARGE = (32, 64, 56, 112)   # 51 MB, beyond it


def _activation(name, shape, *args, **options):
    bench(name, normal(*shape), *args, bytes=8 * prod(shape), backward_bytes=12 * prod(shape), **options)


for _name in ("relu", "sigmoid", "tanh", "gelu", "silu"):
    _activation(_name, LARGE)
for _name in ("relu", "relu6", "leaky_relu", "hardtanh", "hardsigmoid", "hardswish", "softshrink", "hardshrink", "elu",
              "selu", "celu", "sigmoid", "logsigmoid", "softplus", "softsign", "tanh", "tanhshrink", "gelu", "silu",
              "mish"):
    _activation(_name, SHAPE)
_activation("gelu", SHAPE, approximate="tanh")
_activation("threshold", SHAPE, 0.1, 20.0)
_activation("prelu", SHAPE, normal(64))
_activation("prelu", SHAPE, normal(1))
_activation("prelu", (4096, 512), normal(512))
for _name, _shape, _dim in (("glu", (4096, 1024), -1), ("glu", SHAPE, 1)):
    bench(_name, normal(*_shape), _dim, bytes=6 * prod(_shape), backward_bytes=10 * prod(_shape))
_activation("tanh", (64, 84))  # LeNet-5's

for _name in ("relu", "sigmoid", "tanh", "gelu", "silu"):
    for _dtype in ("bfloat16", "float32"):
        _size = 2 if _dtype == "bfloat16" else 4
        bench(_name, normal(2**26), bytes=2 * _size * 2**26, backward_bytes=3 * _size * 2**26, device="cuda",
              dtype=_dtype)
