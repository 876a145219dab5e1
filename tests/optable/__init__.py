"""The op table: one row per public function, from which `test_optable.py` derives every general test.

A row is `op(name, case(...), case(...), ...)`; a case is a call, with recipes for its arrays in the place of tensors:

    op("leaky_relu", case(normal(3, 5)), case(normal(2, 3), negative_slope=0.2))

The name is looked up in kdl.nn.functional, then in kdl, and the same way in torch. Each family has its file here.
"""
import importlib
import pkgutil
import sys
from dataclasses import dataclass, field

import numpy as np

# Largest error allowed, relative to the largest value of the reference (at least 1). float64: the 1e-9;
# float32: 24 bits, with room for sums of a few thousand terms in another order; halves: one rounding of the result
# (2**-11, 2**-8) plus a neighbouring tie.
TOLERANCE = {"float64": 1e-9, "float32": 2e-5, "float16": 2e-3, "bfloat16": 1.6e-2}


@dataclass(frozen=True)
class Array:
    """How to make one input array: kind, shape, and whether its gradient is checked."""
    kind: str
    shape: tuple
    grad: bool = True
    options: tuple = ()

    def build(self, rng, dtype):
        make = getattr(self, f"_{self.kind}")
        array = np.asarray(make(rng, *self.options))
        return array.astype(dtype) if array.dtype == np.float64 else array

    def constant(self):
        """The same input, without a gradient."""
        return Array(self.kind, self.shape, False, self.options)

    def _normal(self, rng):
        return rng.standard_normal(self.shape)

    def _positive(self, rng):
        return rng.uniform(0.5, 2.0, self.shape)

    def _uniform(self, rng, low, high):
        return rng.uniform(low, high, self.shape)

    def _distinct(self, rng):
        """Values at least 0.25 apart, exact in every dtype for small arrays, so that a maximum has no tie."""
        size = int(np.prod(self.shape))
        return (rng.permutation(size) - size // 2).reshape(self.shape) / 4

    def _integers(self, rng, low, high):
        return rng.integers(low, high, self.shape)

    def _boolean(self, rng):
        return rng.random(self.shape) < 0.5

    def _probabilities(self, rng, axis):
        raw = rng.uniform(0.1, 1.0, self.shape)
        return raw / raw.sum(axis, keepdims=True)


def normal(*shape):
    return Array("normal", shape)


def positive(*shape):
    return Array("positive", shape)


def uniform(low, high, *shape):
    return Array("uniform", shape, options=(low, high))


def distinct(*shape):
    return Array("distinct", shape)


def integers(low, high, *shape):
    return Array("integers", shape, False, options=(low, high))


def boolean(*shape):
    return Array("boolean", shape, False)


def probabilities(*shape, axis=1):
    return Array("probabilities", shape, options=(axis,))


@dataclass(frozen=True)
class Case:
    args: tuple
    kwargs: dict = field(hash=False)

    def __str__(self):
        shown = [_shown(a) for a in self.args] + [f"{k}={_shown(v)}" for k, v in self.kwargs.items()]
        return ", ".join(shown).replace(" ", "")


def _shown(value):
    """The same text in every process, so that the tests have the same names in all of them."""
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value.shape) if isinstance(value, Array) else getattr(value, "__name__", None) or repr(value)


def case(*args, **kwargs):
    return Case(args, kwargs)


@dataclass(frozen=True)
class Op:
    """A public function and the calls that test it.

    `gradcheck=False` is for functions whose value is not a smooth function of the input (a random mask, a sort order);
    `halves=False` where float16 and bfloat16 are not promised; `torch=False` where torch has no such function.
    `updates` are the positions of arguments that the function changes in place; they are compared like outputs.
    """
    name: str
    cases: tuple
    family: str
    gradcheck: bool = True
    halves: bool = True
    torch: bool = True
    updates: tuple = ()


ROWS = []


def op(name, *cases, **options):
    """Add a row; its family is the file that it stands in."""
    family = sys._getframe(1).f_globals["__name__"].rpartition(".")[2]
    ROWS.append(Op(name, cases, family, **options))


for _module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")
