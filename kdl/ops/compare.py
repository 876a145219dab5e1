"""Comparisons, logic and bits, and the functions that choose between operands: maximum, minimum, clamp.

Comparisons and logical functions give booleans, which carry no gradient. Operands broadcast and are promoted as in
torch; Tensors, arrays and numbers may meet.
"""
import numpy as np

from kdl import kernels, types
from kdl.autograd.function import as_array
from kdl.autograd.quiet import quiet
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of
from kdl.ops.elementwise import operator
from kdl.ops.pointwise import (
    NATIVE,
    Rule,
    apply,
    cast,
    check_broadcast,
    dtypes,
    in_place,
    operand,
    pointwise,
    publish,
    row,
)
from kdl.tensor import Tensor, array_module, method

__all__ = ["allclose", "bitwise_and", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift",
           "bitwise_xor", "clamp", "clamp_max", "clamp_min", "clip", "eq", "equal", "fmax", "fmin", "gcd", "ge",
           "greater", "greater_equal", "gt", "isclose", "isfinite", "isinf", "isnan", "isneginf", "isposinf", "lcm",
           "le", "less", "less_equal", "logical_and", "logical_not", "logical_or", "logical_xor", "lt", "maximum",
           "minimum", "ne", "nextafter", "not_equal", "signbit"]


# --- results without a gradient ---
@quiet
def _constant(op, ufunc, *operands, integers=False):
    """The tensor of ufunc(*operands), the operands cast to the dtype they promote to. Raises TypeError, ValueError."""
    operands = [operand(op, x) for x in operands]
    tensors = [x for x in operands if isinstance(x, Tensor)]
    expect_type(tensors, op, "at least one tensor", operands=dtypes(operands))
    check_broadcast(op, *tensors)
    dtype = types.result_type(*operands)
    expect_type(not integers or dtype not in types.FLOATS, op, "integers or booleans", dtypes=dtypes(operands))
    xp = array_module(tensors[0].array)
    arrays = [xp.asarray(x.array, dtype) if isinstance(x, Tensor) else x for x in operands]
    if dtype in types.HALVES:
        arrays = [float(np.asarray(a).astype(dtype)) if np.isscalar(a) else xp.asarray(a, np.float32) for a in arrays]
    elif integers:
        arrays = [cast(a, dtype) if np.isscalar(a) else a for a in arrays]
    return Tensor(as_array(getattr(kernels.of(*arrays).xp, ufunc)(*arrays)))


@quiet
def _compare(op, ufunc, x, y):
    """`_constant` for two operands, at once where both have one native dtype or one is a Python number."""
    if isinstance(x, Tensor) and x.array.dtype in NATIVE:
        a, b = x.array, y.array if isinstance(y, Tensor) else y
        if type(b) in (int, float) or (b is not y and b.dtype == a.dtype and b.shape == a.shape):
            return Tensor(as_array(getattr(kernels.of(a, b).xp, ufunc)(a, b)))
    return _constant(op, ufunc, x, y)


def _relation(name, doc, ufunc):
    def public(input, other):
        return _compare(name, ufunc, input, other)
    return publish(public, name, doc, aliases=[ufunc])


eq = _relation("eq", "x = y, as booleans; NaN equals nothing.", "equal")
ne = _relation("ne", "x != y, as booleans; NaN differs from everything.", "not_equal")
lt = _relation("lt", "x < y, as booleans; False for NaN.", "less")
le = _relation("le", "x <= y, as booleans; False for NaN.", "less_equal")
gt = _relation("gt", "x > y, as booleans; False for NaN.", "greater")
ge = _relation("ge", "x >= y, as booleans; False for NaN.", "greater_equal")
not_equal, less, less_equal, greater, greater_equal = ne, lt, le, gt, ge


def _predicate(name, doc, ufunc=None):
    def public(input):
        array_of(name, input)
        return _constant(name, ufunc or name, input)
    return publish(public, name, doc, inplace=name == "logical_not")


isnan = _predicate("isnan", "Where x is NaN.")
isinf = _predicate("isinf", "Where x is inf or -inf.")
isfinite = _predicate("isfinite", "Where x is neither infinite nor NaN.")
isposinf = _predicate("isposinf", "Where x is inf.")
isneginf = _predicate("isneginf", "Where x is -inf.")
signbit = _predicate("signbit", "Where the sign of x is negative; that of -0.0 is.")
logical_not = _predicate("logical_not", "Where x is 0; NaN is not.")


def _logical(name, doc):
    def public(input, other):
        return _constant(name, name, input, other)
    return publish(public, name, doc)


logical_and = _logical("logical_and", "Where neither x nor y is 0.")
logical_or = _logical("logical_or", "Where x or y is not 0.")
logical_xor = _logical("logical_xor", "Where one of x and y is 0 and the other is not.")


def _bits(name, doc, ufunc=None):
    def public(input, other):
        return _constant(name, ufunc or name, input, other, integers=True)
    return publish(public, name, doc)


bitwise_and = _bits("bitwise_and", "The bits set in x and in y. Raises TypeError for floating-point operands.")
bitwise_or = _bits("bitwise_or", "The bits set in x or in y. Raises TypeError for floating-point operands.")
bitwise_xor = _bits("bitwise_xor", "The bits set in one of x and y. Raises TypeError for floating-point operands.")


def bitwise_not(input):
    """The bits of an integer, or a boolean, inverted. Raises TypeError for floating-point tensors."""
    array_of("bitwise_not", input)
    return _constant("bitwise_not", "invert", input, integers=True)


publish(bitwise_not, "bitwise_not")

bitwise_left_shift = _bits("bitwise_left_shift", "x 2^y, without what leaves the integer.", "left_shift")
bitwise_right_shift = _bits("bitwise_right_shift", "x / 2^y, rounded down.", "right_shift")
gcd = _bits("gcd", "The greatest common divisor of |x| and |y|. Raises TypeError for floating-point operands.")
lcm = _bits("lcm", "The least common multiple of |x| and |y|. Raises TypeError for floating-point operands.")


def nextafter(input, other):
    """The next number that the dtype holds after x in the direction of y. Raises TypeError for integers."""
    expect_type(all(x.dtype in (types.float32, types.float64) for x in (input, other)), "nextafter",
                "float32 or float64 tensors", dtypes=dtypes((input, other)))
    return _constant("nextafter", "nextafter", input, other)


publish(nextafter, "nextafter")


# --- nearly or wholly equal ---
@method
def isclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Where |x - y| <= atol + rtol |y| or x = y; NaN is close to NaN with `equal_nan`.

    Raises TypeError for tensors of two dtypes, ValueError for negative tolerances or shapes that do not broadcast.
    """
    expect_type(isinstance(input, Tensor) and isinstance(other, Tensor) and input.dtype == other.dtype, "isclose",
                "tensors of one dtype", dtypes=dtypes([input, other]))
    expect(rtol >= 0 and atol >= 0, "isclose", "tolerances of at least 0", rtol=rtol, atol=atol)
    check_broadcast("isclose", input, other)
    return _isclose(input, other, rtol, atol, equal_nan)


@quiet
def _isclose(input, other, rtol, atol, equal_nan):
    x, y = [a.array.astype(np.float32) if a.dtype in types.HALVES else a.array for a in (input, other)]
    return Tensor(as_array(kernels.of(x, y).xp.isclose(x, y, rtol, atol, equal_nan)))


@method
def allclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Whether `isclose` holds everywhere, as a Python bool."""
    return bool(isclose(input, other, rtol, atol, equal_nan).array.all())


@method
def equal(input, other):
    """Whether two tensors have the same shape and the same values, as a Python bool. Raises TypeError for others."""
    expect_type(isinstance(input, Tensor) and isinstance(other, Tensor), "equal", "two tensors",
                input=type(input).__name__, other=type(other).__name__)
    return input.shape == other.shape and bool(eq(input, other).array.all())


# --- the larger and the smaller ---
def _half_at_ties(wins):
    """The derivative of maximum or minimum: 1 where the operand is not beaten, shared evenly at a tie."""
    def derivative(xp, g, mine, other):
        return xp.where(mine == other, g / 2, xp.where(wins(other, mine), 0, g))
    return (lambda xp, g, x, y: derivative(xp, g, x, y)), (lambda xp, g, x, y: derivative(xp, g, y, x))


maximum = pointwise("maximum", "The larger of x and y, NaN if one is; at a tie each gets half of the gradient.",
                    lambda xp, x, y: xp.maximum(x, y), *_half_at_ties(lambda a, b: a > b), inplace=False)

minimum = pointwise("minimum", "The smaller of x and y, NaN if one is; at a tie each gets half of the gradient.",
                    lambda xp, x, y: xp.minimum(x, y), *_half_at_ties(lambda a, b: a < b), inplace=False)

fmax = pointwise("fmax", "The larger of x and y, the other if one is NaN; at a tie x gets the gradient.",
                 lambda xp, x, y: xp.fmax(x, y),
                 lambda xp, g, x, y: xp.where((x >= y) | (y != y), g, 0),
                 lambda xp, g, x, y: xp.where((x >= y) | (y != y), 0, g), inplace=False)

fmin = pointwise("fmin", "The smaller of x and y, the other if one is NaN; at a tie x gets the gradient.",
                 lambda xp, x, y: xp.fmin(x, y),
                 lambda xp, g, x, y: xp.where((x <= y) | (y != y), g, 0),
                 lambda xp, g, x, y: xp.where((x <= y) | (y != y), 0, g), inplace=False)


def clamp(input, min=None, max=None):
    """min(max(x, min), max); min and max are numbers or tensors, or None for no limit. NaN stays NaN.

    x has the gradient where min <= x <= max, min where x < min < max, max where x > max or max < min. Shapes: any
    that broadcast. Raises ValueError without any limit.
    """
    expect(min is not None or max is not None, "clamp", "a min or a max", min=min, max=max)
    return apply(Clamp, _CLAMP, input, min, max)


def clamp_min(input, min):
    """max(x, min): `clamp` from below."""
    return clamp(input, min=min)


def clamp_max(input, max):
    """min(x, max): `clamp` from above."""
    return clamp(input, max=max)


def _clamp(xp, x, low, high):
    y = x if low is None else xp.maximum(x, low)
    return y if high is None else xp.minimum(y, high)


def _kept(xp, g, x, low, high):
    kept = x <= high if low is None else x >= low if high is None else (x >= low) & (x <= high)
    return xp.where(kept, g, 0)


Clamp = row("clamp", _clamp, _kept,
            lambda xp, g, x, low, high: xp.where(x < low if high is None else (x < low) & (low < high), g, 0),
            lambda xp, g, x, low, high: xp.where(x > high if low is None else (x > high) | (high < low), g, 0))
_CLAMP = Rule("clamp")

publish(clamp, "clamp", aliases=["clip"])
publish(clamp_min, "clamp_min")
publish(clamp_max, "clamp_max")
clip = clamp


# --- operators ---
for _name, _function in (("eq", eq), ("ne", ne), ("lt", lt), ("le", le), ("gt", gt), ("ge", ge)):
    method(names=[f"__{_name}__"])(operator(_function))
for _name, _function in (("and", bitwise_and), ("or", bitwise_or), ("xor", bitwise_xor),
                         ("lshift", bitwise_left_shift), ("rshift", bitwise_right_shift)):
    method(names=[f"__{_name}__", f"__r{_name}__"])(operator(_function))
    method(names=[f"__i{_name}__"])(operator(in_place(_function)))
method(names=["__invert__"])(bitwise_not)
