"""Mathematical functions of one tensor: y = f(x) elementwise, gx = f'(x) gy.

A row holds the formula, f and f', the latter in terms of x or, where that is cheaper, of y (`saves="y"`); how rows are
read stands in `kdl/ops/pointwise.py`. Shapes: any. Integers give the default floating-point dtype, except where they
are kept; outside the domain of f the result is NaN. erf and erfc, which NumPy has not, are kernels.
"""
import math

import ml_dtypes

from kdl import types
from kdl.autograd import Function
from kdl.errors import expect_type
from kdl.ops.common import array_of, dense, like
from kdl.ops.pointwise import Pointwise, Rule, apply, pointwise, publish, zero

__all__ = ["acos", "acosh", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh", "asin", "asinh", "atan",
           "atanh", "ceil", "cos", "cosh", "deg2rad", "erf", "erfc", "exp", "exp2", "expm1", "fix", "floor", "frac",
           "log", "log1p", "log2", "log10", "nan_to_num", "rad2deg", "round", "rsqrt", "sgn", "sign", "sin", "sinh",
           "sqrt", "tan", "trunc"]


# --- exponentials and logarithms ---
exp = pointwise("exp", "e^x.", lambda xp, x: xp.exp(x), lambda xp, g, y: g * y, saves="y", integers="float")

exp2 = pointwise("exp2", "2^x.", lambda xp, x: xp.exp2(x), lambda xp, g, y: g * y * math.log(2), saves="y",
                 integers="float")

expm1 = pointwise("expm1", "e^x - 1, exact near 0.", lambda xp, x: xp.expm1(x), lambda xp, g, y: g * (y + 1), saves="y",
                  integers="float")

log = pointwise("log", "The natural logarithm.", lambda xp, x: xp.log(x), lambda xp, g, x: g / x, integers="float")

log1p = pointwise("log1p", "log(1 + x), exact near 0.", lambda xp, x: xp.log1p(x), lambda xp, g, x: g / (x + 1),
                  integers="float")

log2 = pointwise("log2", "The logarithm to base 2.", lambda xp, x: xp.log2(x), lambda xp, g, x: g / (x * math.log(2)),
                 integers="float")

log10 = pointwise("log10", "The logarithm to base 10.", lambda xp, x: xp.log10(x),
                  lambda xp, g, x: g / (x * math.log(10)), integers="float")


# --- roots ---
sqrt = pointwise("sqrt", "The square root.", lambda xp, x: xp.sqrt(x), lambda xp, g, y: g / (2 * y), saves="y",
                 integers="float")

rsqrt = pointwise("rsqrt", "1 / sqrt(x).", lambda xp, x: 1 / xp.sqrt(x), lambda xp, g, y: g * (-0.5 * y * y * y),
                  saves="y", integers="float")


# --- trigonometric and hyperbolic functions ---
sin = pointwise("sin", "The sine of an angle in radians.", lambda xp, x: xp.sin(x), lambda xp, g, x: g * xp.cos(x),
                integers="float")

cos = pointwise("cos", "The cosine of an angle in radians.", lambda xp, x: xp.cos(x), lambda xp, g, x: -g * xp.sin(x),
                integers="float")

tan = pointwise("tan", "The tangent of an angle in radians.", lambda xp, x: xp.tan(x),
                lambda xp, g, y: g * (1 + y * y), saves="y", integers="float")

asin = pointwise("asin", "The angle in [-pi/2, pi/2] whose sine is x.", lambda xp, x: xp.arcsin(x),
                 lambda xp, g, x: g / xp.sqrt(1 - x * x), integers="float", aliases=["arcsin"])

acos = pointwise("acos", "The angle in [0, pi] whose cosine is x.", lambda xp, x: xp.arccos(x),
                 lambda xp, g, x: -g / xp.sqrt(1 - x * x), integers="float", aliases=["arccos"])

atan = pointwise("atan", "The angle in (-pi/2, pi/2) whose tangent is x.", lambda xp, x: xp.arctan(x),
                 lambda xp, g, x: g / (x * x + 1), integers="float", aliases=["arctan"])

sinh = pointwise("sinh", "(e^x - e^-x) / 2.", lambda xp, x: xp.sinh(x), lambda xp, g, x: g * xp.cosh(x),
                 integers="float")

cosh = pointwise("cosh", "(e^x + e^-x) / 2.", lambda xp, x: xp.cosh(x), lambda xp, g, x: g * xp.sinh(x),
                 integers="float")

asinh = pointwise("asinh", "The inverse of sinh.", lambda xp, x: xp.arcsinh(x),
                  lambda xp, g, x: g / xp.sqrt(x * x + 1), integers="float", aliases=["arcsinh"])

acosh = pointwise("acosh", "The inverse of cosh, at least 0.", lambda xp, x: xp.arccosh(x),
                  lambda xp, g, x: g / xp.sqrt(x * x - 1), integers="float", aliases=["arccosh"])

atanh = pointwise("atanh", "The inverse of tanh.", lambda xp, x: xp.arctanh(x), lambda xp, g, x: g / (1 - x * x),
                  integers="float", aliases=["arctanh"])

deg2rad = pointwise("deg2rad", "x pi / 180.", lambda xp, x: x * (math.pi / 180), lambda xp, g, x: g * (math.pi / 180),
                    integers="float")

rad2deg = pointwise("rad2deg", "x 180 / pi.", lambda xp, x: x * (180 / math.pi), lambda xp, g, x: g * (180 / math.pi),
                    integers="float")


# --- steps: the derivative is 0 ---
def _stepped(step):
    """The value of a rounding function; integers are whole already."""
    return lambda xp, x: getattr(xp, step)(x) if x.dtype.kind == "f" else x.copy()


def _sign(xp, x):
    return x.copy() if x.dtype == types.boolean else xp.where(x != x, 0, xp.sign(x)).astype(x.dtype)


floor = pointwise("floor", "The largest integer that is not above x.", _stepped("floor"), zero, booleans="refuse")
ceil = pointwise("ceil", "The smallest integer that is not below x.", _stepped("ceil"), zero, booleans="refuse")
trunc = pointwise("trunc", "x without its fraction.", _stepped("trunc"), zero, booleans="refuse", aliases=["fix"])
sign = pointwise("sign", "-1, 0 or 1 as x is negative, 0 (or NaN) or positive.", _sign, zero, aliases=["sgn"])

frac = pointwise("frac", "x - trunc(x): the fraction, with the sign of x.", lambda xp, x: x - xp.trunc(x),
                 lambda xp, g, x: g, integers="refuse", booleans="refuse")


def round(input, *, decimals=0):
    """The nearest multiple of 10^-decimals, a tie going to the even one; the derivative is 0.

    Raises TypeError for booleans, and for integers with decimals other than 0.
    """
    array_of("round", input)
    expect_type(isinstance(decimals, int), "round", "an int", decimals=decimals)
    return apply(lambda: Round(decimals), Rule("round", "refuse" if decimals else "keep", "refuse"), input)


class Round(Pointwise):
    derivatives = (zero,)

    def __init__(self, decimals):
        self.value = lambda xp, x: xp.around(x, decimals)


# --- NaN and infinities ---
def nan_to_num(input, nan=0.0, posinf=None, neginf=None):
    """x with NaN, inf and -inf replaced, the infinities by the largest finite numbers unless given; dy/dx = 0 there."""
    if array_of("nan_to_num", input).dtype not in types.FLOATS:
        return input.clone()
    limits = ml_dtypes.finfo(input.dtype)
    values = (0.0 if nan is None else nan, float(limits.max) if posinf is None else posinf,
              float(limits.min) if neginf is None else neginf)
    return apply(lambda: NanToNum(*values), Rule("nan_to_num"), input)


class NanToNum(Pointwise):
    derivatives = (lambda xp, g, x: g * xp.isfinite(x),)

    def __init__(self, nan, posinf, neginf):
        self.value = lambda xp, x: xp.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)


publish(round, "round")
publish(nan_to_num, "nan_to_num")


# --- the error function ---
def erf(input):
    """2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x. dy/dx = 2 / sqrt(pi) e^(-x^2)."""
    return _error_function(Erf, "erf", input)


def erfc(input):
    """1 - erf(x), exact where erf(x) is near 1. dy/dx = -2 / sqrt(pi) e^(-x^2)."""
    return _error_function(Erfc, "erfc", input)


def _error_function(function, op, input):
    if array_of(op, input).dtype not in types.FLOATS:
        input = input.to(types.get_default_dtype())
    return function()(input)


class Erf(Function):
    stem = "erf"

    def forward(self, x):
        self.x = x = dense(x)
        y = self.k.xp.empty_like(x)
        getattr(self.k, f"{self.stem}_forward")(x, y)
        return y

    def backward(self, gy, wanted):
        gx = self.k.xp.empty_like(self.x)
        getattr(self.k, f"{self.stem}_backward")(self.x, like(gy, self.x), gx)
        return gx


class Erfc(Erf):
    stem = "erfc"


publish(erf, "erf")
publish(erfc, "erfc")

arccos, arccosh, arcsin, arcsinh, arctan, arctanh = acos, acosh, asin, asinh, atan, atanh
fix, sgn = trunc, sign
