"""How kdl refuses: one sentence, raised once, before anything runs."""
import numpy as np


def expect(condition, op, relation, /, **facts):
    """Raise ValueError `op: expected <relation>, got <name> <value>, ...` unless the condition holds."""
    if not condition:
        raise ValueError(f"{op}: expected {relation}, got {describe(facts)}")


def expect_type(condition, op, relation, /, **facts):
    """The same as `expect`, for wrong types and dtypes: TypeError."""
    if not condition:
        raise TypeError(f"{op}: expected {relation}, got {describe(facts)}")


def describe(facts):
    """`name value` for every fact; a tensor is shown by its shape."""
    return ", ".join(f"{name.replace('__', '.')} {_show(value)}" for name, value in facts.items())


def _show(value):
    shown = hasattr(value, "shape") and not isinstance(value, (tuple, np.dtype, np.generic))
    return str(tuple(value.shape)) if shown else str(value)
