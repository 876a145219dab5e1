"""Optimiser steps: memory-bound; bytes are a read of the parameter, its gradient and its state, and a write of all but
the gradient. Against torch's plain and fused implementations."""
from math import prod

from benchmarks.harness import bench
from tests.optable import normal

ONE = [(11_000_000,)]
LENET = [(6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (120, 400), (120,), (84, 120), (84,), (10, 84), (10,)]


def _optimizer(name, shapes, states, **options):
    """`states` is the number of arrays that it keeps for each parameter."""
    bench(name, *[normal(*shape) for shape in shapes], bytes=4 * (3 + 2 * states) * sum(map(prod, shapes)),
          passes=("step",), program="optimizer_step", **options)


for _shapes in (ONE, LENET):
    _optimizer("AdamW", _shapes, 2, weight_decay=0.01)
    _optimizer("Adam", _shapes, 2)
    _optimizer("SGD", _shapes, 1, lr=1e-3, momentum=0.9)
    _optimizer("SGD", _shapes, 0, lr=1e-3)
for _name, _states in (("NAdam", 2), ("RAdam", 2), ("Adamax", 2), ("RMSprop", 1), ("Adagrad", 1), ("Adadelta", 2)):
    _optimizer(_name, [(1_000_000,)], _states)
