"""Padding as layers: constants, reflections, edges repeated, and what comes round from the other side."""
from kdl.nn import functional as F
from kdl.nn.module import Module
from kdl.ops.common import ints

__all__ = ["CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d",
           "ReflectionPad1d", "ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d", "ReplicationPad2d",
           "ReplicationPad3d", "ZeroPad1d", "ZeroPad2d", "ZeroPad3d"]


class _Pad(Module):
    """F.pad of the last n dimensions: `padding` before and after each, one number for all or (left, right, ...)."""
    n, mode, value = None, "constant", None

    def __init__(self, padding):
        super().__init__()
        self.padding = ints(type(self).__name__, "padding", padding, 2 * self.n)

    def forward(self, input):
        return F.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self):
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding, value):
        super().__init__(padding)
        self.value = value

    def extra_repr(self):
        return f"padding={self.padding}, value={self.value}"


class _ZeroPad(_Pad):
    value = 0.0


class _ReflectionPad(_Pad):
    mode = "reflect"


class _ReplicationPad(_Pad):
    mode = "replicate"


class _CircularPad(_Pad):
    mode = "circular"


def _of(base, doc):
    """The three classes of a kind, for the last one, two and three dimensions."""
    stem = base.__name__.removeprefix("_")
    return [type(f"{stem}{n}d", (base,), {"__doc__": doc, "__module__": __name__, "n": n}) for n in (1, 2, 3)]


ConstantPad1d, ConstantPad2d, ConstantPad3d = _of(_ConstantPad, "F.pad with `value`.")
ZeroPad1d, ZeroPad2d, ZeroPad3d = _of(_ZeroPad, "F.pad with zeros.")
ReflectionPad1d, ReflectionPad2d, ReflectionPad3d = _of(_ReflectionPad, "F.pad with what lies inwards of the edge.")
ReplicationPad1d, ReplicationPad2d, ReplicationPad3d = _of(_ReplicationPad, "F.pad with the edge repeated.")
CircularPad1d, CircularPad2d, CircularPad3d = _of(_CircularPad, "F.pad with what lies at the other side.")
