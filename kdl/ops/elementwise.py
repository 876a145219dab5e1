"""Arithmetic between tensors, arrays and numbers, with broadcasting and torch's type promotion; and the operators.

z = f(x, y) elementwise; gx = (df/dx) gz and gy = (df/dy) gz, summed over the dimensions along which x or y was
repeated. How promotion goes, and how the rows below are read, stands in `kdl/ops/pointwise.py`.
"""
import numpy as np

from kdl import types
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, assign_, floating, unbroadcast
from kdl.ops.pointwise import (
    Pointwise,
    Rule,
    apply,
    cast,
    is_operand,
    operand,
    pointwise,
    publish,
    row,
    undifferentiable,
    written,
    zero,
)
from kdl.tensor import Tensor, method

__all__ = ["abs", "absolute", "add", "addcdiv", "addcmul", "arctan2", "atan2", "copysign", "div", "divide",
           "float_power", "floor_divide", "fmod", "heaviside", "hypot", "lerp", "logaddexp", "mul", "multiply", "neg",
           "negative", "positive", "pow", "reciprocal", "remainder", "rsub", "square", "sub", "subtract",
           "true_divide", "xlogy"]


# --- + - * / ---
def add(input, other, *, alpha=1):
    """x + alpha y.

    Shapes: any that broadcast. Raises ValueError for others, TypeError for a fractional alpha with integers.
    """
    return apply(Add, _ADD, input, other if alpha == 1 else _scaled("add", input, other, alpha))


def sub(input, other, *, alpha=1):
    """x - alpha y.

    Shapes: any that broadcast. Raises ValueError for others, TypeError for booleans (use ^ or ~).
    """
    return apply(Sub, _SUB, input, other if alpha == 1 else _scaled("sub", input, other, alpha))


def rsub(input, other, *, alpha=1):
    """y - alpha x: `sub` with its operands exchanged."""
    return sub(other, input, alpha=alpha)


def mul(input, other):
    """x y. Shapes: any that broadcast. Raises ValueError for others."""
    return apply(Mul, _MUL, input, other)


def div(input, other, *, rounding_mode=None):
    """x / y; integers give the default floating-point dtype. Rounded towards 0 with 'trunc', down with 'floor'.

    Rounded quotients of integers are integers, and the derivative of a rounded quotient is 0. Shapes: any that
    broadcast. Raises ValueError for others, for another rounding mode and for a rounded integer division by 0.
    """
    if rounding_mode is None:
        return apply(Div, _DIV, input, other)
    expect(rounding_mode in _ROUNDED, "div", "rounding_mode None, 'trunc' or 'floor'", rounding_mode=rounding_mode)
    return apply(_ROUNDED[rounding_mode], _DIV_ROUNDED, input, other)


def _scaled(op, input, other, alpha):
    """alpha y, once alpha is known to fit the operands."""
    other = operand(op, other)
    dtype, kind = types.result_type(operand(op, input), other), types.scalar_dtype(alpha)
    expect_type(kind is not None and (types.category(kind) or dtype == types.boolean)
                and types.category(kind) <= types.category(dtype), op, f"an alpha that is a number of {dtype} operands",
                alpha=repr(alpha))
    return other * alpha


class Add(Pointwise):
    def forward(self, x, y):
        self.shapes = getattr(x, "shape", ()), getattr(y, "shape", ())
        return self.k.xp.add(x, y)

    def backward(self, gz, wanted):
        return (unbroadcast(gz, self.shapes[0]) if wanted[0] else None,
                unbroadcast(gz, self.shapes[1]) if wanted[1] else None)


class Sub(Pointwise):
    def forward(self, x, y):
        self.shapes = getattr(x, "shape", ()), getattr(y, "shape", ())
        return self.k.xp.subtract(x, y)

    def backward(self, gz, wanted):
        return (unbroadcast(gz, self.shapes[0]) if wanted[0] else None,
                self.k.xp.negative(unbroadcast(gz, self.shapes[1])) if wanted[1] else None)


class Mul(Pointwise):
    def forward(self, x, y):
        self.shapes = getattr(x, "shape", ()), getattr(y, "shape", ())
        self.y = y if self.needs_input_grad[0] else None
        self.x = x if self.needs_input_grad[1] else None
        return self.k.xp.multiply(x, y)

    def backward(self, gz, wanted):
        multiply = self.k.xp.multiply
        return (unbroadcast(multiply(gz, self.y), self.shapes[0]) if wanted[0] else None,
                unbroadcast(multiply(gz, self.x), self.shapes[1]) if wanted[1] else None)


class Div(Pointwise):
    def forward(self, x, y):
        self.shapes = getattr(x, "shape", ()), getattr(y, "shape", ())
        z = self.k.xp.true_divide(x, y)
        self.y, self.z = y, z if self.needs_input_grad[1] else None
        return z

    def backward(self, gz, wanted):
        xp = self.k.xp
        g = xp.true_divide(gz, self.y)
        return (unbroadcast(g, self.shapes[0]) if wanted[0] else None,
                unbroadcast(xp.multiply(xp.negative(g), self.z), self.shapes[1]) if wanted[1] else None)


_ADD, _SUB, _MUL, _DIV = Rule("add"), Rule("sub", booleans="refuse"), Rule("mul"), Rule("div", "float")


# --- quotients that are whole, and what they leave ---
def _whole(op, x, y):
    """Whether x and y are integers; the divisor of integers must not contain 0. Raises ValueError."""
    whole = (y if hasattr(y, "dtype") else x).dtype.kind in "iu"
    expect(not whole or (y.all() if hasattr(y, "all") else y), op, "an integer divisor without 0", divisor=y)
    return whole


def _floor_quotient(op):
    def value(xp, x, y):
        _whole(op, x, y)
        return xp.floor_divide(x, y)
    return value


def _trunc_quotient(xp, x, y):
    if not _whole("div", x, y):
        return xp.trunc(x / y)
    q = xp.floor_divide(x, y)
    return q + ((q < 0) & (q * y != x))


def _remainder(xp, x, y):
    _whole("remainder", x, y)
    return xp.remainder(x, y)


def _fmod(xp, x, y):
    _whole("fmod", x, y)
    return xp.fmod(x, y)


_DIV_ROUNDED = Rule("div", booleans="promote")
_ROUNDED = {"floor": row("div_floor", _floor_quotient("div"), zero, zero),
            "trunc": row("div_trunc", _trunc_quotient, zero, zero)}

floor_divide = pointwise(
    "floor_divide", "floor(x / y), without a derivative: `div(..., rounding_mode='floor')` has one.",
    _floor_quotient("floor_divide"), undifferentiable, undifferentiable, booleans="promote")

remainder = pointwise(
    "remainder", "x - y floor(x / y): the sign is y's, as in Python. dz/dx = 1, dz/dy = -floor(x / y).",
    _remainder,
    lambda xp, g, x, y: g,
    lambda xp, g, x, y: -g * xp.floor_divide(x, y), booleans="promote")

fmod = pointwise(
    "fmod", "x - y trunc(x / y): the sign is x's, as in C. dz/dx = 1, dz/dy = -trunc(x / y).",
    _fmod,
    lambda xp, g, x, y: g,
    lambda xp, g, x, y: -g * xp.trunc(x / y), booleans="promote")


# --- powers ---
def pow(input, exponent):
    """x^y. dz/dx = y x^(y - 1), and 0 for y = 0; dz/dy = x^y log x, and 0 for x = 0 <= y.

    Shapes: any that broadcast. Raises ValueError for others and for integers to the power of a negative number.
    """
    if type(exponent) is int and isinstance(input, Tensor) and input.array.dtype.kind in "iu":
        expect(0 <= exponent <= np.iinfo(input.array.dtype).max, "pow",
               f"an exponent from 0 on for {input.array.dtype} (use floats)", exponent=exponent)
    return apply(Pow, _POW, input, exponent)


def square(input):
    """x^2."""
    return pow(input, 2)


def float_power(input, exponent):
    """x^y in float64."""
    return pow(*[cast(operand("float_power", x), types.float64) for x in (input, exponent)])


def _power(xp, x, y):
    if not hasattr(y, "dtype"):
        return _numbered_power(xp, x, y)
    if y.dtype.kind == "f":
        return x ** y
    inverse = xp.where(x == 1, 1, xp.where(x == -1, 1 - 2 * (y & 1), 0))  # of x^-y, rounded towards 0
    return xp.where(y < 0, inverse, x ** xp.maximum(y, 0)).astype(y.dtype)


def _numbered_power(xp, x, y):
    """x^y for a number y; NumPy itself knows the short ways to 2, 1, 0.5 and -1."""
    if y == 3:
        return x * x * x
    if y == -0.5:
        return 1 / xp.sqrt(x)
    return 1 / (x * x) if y == -2 else x ** y


def _power_dx(xp, g, x, y, z):
    if not hasattr(y, "dtype"):
        return g * (y * _numbered_power(xp, x, y - 1)) if y else xp.zeros_like(g)
    return xp.where(y == 0, 0, g * (y * x ** (y - 1)))


def _power_dy(xp, g, x, y, z):
    log = xp.log(xp.asarray(x, y.dtype))
    return xp.where((x == 0) & (y >= 0), 0, g * z * log)


Pow, _POW = row("pow", _power, _power_dx, _power_dy, saves="xy"), Rule("pow", booleans="promote")

reciprocal = pointwise("reciprocal", "1 / x. dy/dx = -y^2.", lambda xp, x: 1 / x,
                       lambda xp, g, y: -g * y * y, saves="y", integers="float")


# --- signs ---
def signed(xp, g, x):
    """g sign(x), with 0 for NaN."""
    return xp.where(x > 0, g, xp.where(x < 0, -g, 0))


neg = pointwise("neg", "-x.", lambda xp, x: -x, lambda xp, g, x: -g, booleans="refuse", aliases=["negative"])

abs = pointwise("abs", "|x|. dy/dx = sign(x).", lambda xp, x: xp.abs(x), signed, booleans="refuse",
                aliases=["absolute"])

copysign = pointwise(
    "copysign", "|x| with the sign of y. dz/dx = z / x, and 0 at x = 0; dz/dy = 0.",
    lambda xp, x, y: xp.copysign(x, y),
    lambda xp, g, x, y, z: xp.where(x == 0, 0, g * (z / x)), zero, saves="xy", integers="float")


@method
def positive(input):
    """The tensor itself. Raises TypeError for booleans."""
    expect_type(input.dtype != types.boolean, "positive", "a tensor that is not boolean", dtype=input.dtype)
    return input


# --- special functions of two operands ---
atan2 = pointwise(
    "atan2", "The angle of the point (other, input), in (-pi, pi]. dz/dx = y / (x^2 + y^2), dz/dy = -x / (x^2 + y^2), "
    "both 0 at the origin.",
    lambda xp, x, y: xp.arctan2(x, y),
    lambda xp, g, x, y: g * _over_square(xp, y, x, y),
    lambda xp, g, x, y: -g * _over_square(xp, x, x, y), integers="float", aliases=["arctan2"])


def _over_square(xp, numerator, x, y):
    squares = x * x + y * y
    return xp.where(squares == 0, 0, numerator / squares)


hypot = pointwise(
    "hypot", "sqrt(x^2 + y^2). dz/dx = x / z, dz/dy = y / z.",
    lambda xp, x, y: xp.hypot(x, y),
    lambda xp, g, x, y, z: g * (x / z),
    lambda xp, g, x, y, z: g * (y / z), saves="xy", integers="refuse")

logaddexp = pointwise(
    "logaddexp", "log(e^x + e^y), without overflow. dz/dx = 1 / (1 + e^(y - x)), dz/dy = 1 / (1 + e^(x - y)).",
    lambda xp, x, y: xp.logaddexp(x, y),
    lambda xp, g, x, y: g / (1 + xp.exp(y - x)),
    lambda xp, g, x, y: g / (1 + xp.exp(x - y)), integers="refuse")

xlogy = pointwise(
    "xlogy", "x log y, and 0 where x = 0 and y is not NaN. dz/dx = log y, and 0 where x = 0 >= y; dz/dy = x / y.",
    lambda xp, x, y: xp.where((x == 0) & (y == y), 0, x * xp.log(y)).astype((y if hasattr(y, "dtype") else x).dtype),
    lambda xp, g, x, y: xp.where((x == 0) & (y <= 0), 0, g * xp.log(xp.asarray(y, g.dtype))),
    lambda xp, g, x, y: g * (x / y), integers="float")


def heaviside(input, values):
    """0 for x < 0, the value at x = 0, 1 for x > 0; without a derivative. Raises TypeError for two dtypes."""
    expect_type(array_of("heaviside", input).dtype == array_of("heaviside", values, "values").dtype, "heaviside",
                "tensors of one dtype", input=input.dtype, values=values.dtype)
    return apply(Heaviside, _HEAVISIDE, input, values)


Heaviside, _HEAVISIDE = row("heaviside", lambda xp, x, values: xp.where(x == 0, values, x > 0).astype(x.dtype),
                            undifferentiable, undifferentiable), Rule("heaviside")


# --- three operands ---
def lerp(input, end, weight):
    """x + weight (end - x), exact at weight 0 and 1; weight is a number or a tensor.

    Shapes: any that broadcast. Raises TypeError unless the tensors have one floating-point dtype.
    """
    floating("lerp", input=input, end=end, weight=weight if getattr(weight, "ndim", 0) else None)
    return apply(Lerp, _LERP, input, end, weight)


def _lerp(xp, x, end, weight):
    if not hasattr(weight, "dtype"):
        return x + weight * (end - x) if -0.5 < weight < 0.5 else end - (end - x) * (1 - weight)
    return xp.where(xp.abs(weight) < 0.5, x + weight * (end - x), end - (end - x) * (1 - weight))


Lerp, _LERP = row("lerp", _lerp, lambda xp, g, x, end, weight: g * (1 - weight),
                  lambda xp, g, x, end, weight: g * weight,
                  lambda xp, g, x, end, weight: g * (end - x)), Rule("lerp", "refuse")


@method
def addcmul(input, tensor1, tensor2, *, value=1):
    """x + value a b. Shapes: any that broadcast. Raises ValueError for others."""
    return add(input, mul(tensor1, tensor2), alpha=value)


@method
def addcdiv(input, tensor1, tensor2, *, value=1):
    """x + value a / b. Shapes: any that broadcast. Raises ValueError for others, TypeError for integers."""
    return add(input, _quotient(tensor1, tensor2), alpha=value)


@method
def addcmul_(input, tensor1, tensor2, *, value=1):
    """In-place `addcmul`."""
    return add_(input, mul(tensor1, tensor2), alpha=value)


@method
def addcdiv_(input, tensor1, tensor2, *, value=1):
    """In-place `addcdiv`."""
    return add_(input, _quotient(tensor1, tensor2), alpha=value)


def _quotient(x, y):
    whole = all(isinstance(a, Tensor) and not types.is_floating(a.dtype) for a in (x, y))
    expect_type(not whole, "addcdiv", "a floating-point tensor1 or tensor2", tensor1=x, tensor2=y)
    return div(x, y)


# --- in place ---
@method
def add_(input, other, *, alpha=1):
    """In-place `add`."""
    return input if written(input, other, "add", alpha) else assign_(input, add(input, other, alpha=alpha))


@method(names=("sub_", "subtract_"))
def sub_(input, other, *, alpha=1):
    """In-place `sub`."""
    return input if written(input, other, "subtract", alpha) else assign_(input, sub(input, other, alpha=alpha))


@method(names=("mul_", "multiply_"))
def mul_(input, other):
    """In-place `mul`."""
    return input if written(input, other, "multiply") else assign_(input, mul(input, other))


@method(names=("div_", "divide_", "true_divide_"))
def div_(input, other, *, rounding_mode=None):
    """In-place `div`."""
    if rounding_mode is None and written(input, other, "true_divide"):
        return input
    return assign_(input, div(input, other, rounding_mode=rounding_mode))


# --- methods and operators ---
for _function, _aliases in ((add, ()), (sub, ("subtract",)), (mul, ("multiply",)), (div, ("divide", "true_divide"))):
    method(names=(_function.__name__, *_aliases))(_function)
for _function in (pow, square, float_power, lerp, heaviside):
    publish(_function, _function.__name__)

divide = true_divide = div
subtract, multiply, negative, absolute, arctan2 = sub, mul, neg, abs, atan2


def operator(function):
    """A binary operator's method: leaves operands that are not tensors, arrays or numbers to their own methods."""
    def form(self, other):
        return function(self, other) if isinstance(other, Tensor) or is_operand(other) else NotImplemented
    form.__name__, form.__doc__ = function.__name__, f"`{function.__name__}` as an operator."
    return form


def _reflected(function):
    return operator(lambda x, y: function(y, x))


def _bind_operators(name, function, in_place=None):
    method(names=[f"__{name}__"])(operator(function))
    method(names=[f"__r{name}__"])(_reflected(function))
    method(names=[f"__i{name}__"])(operator(in_place or getattr(Tensor, f"{function.__name__}_")))


_bind_operators("add", add, add_)
_bind_operators("sub", sub, sub_)
_bind_operators("mul", mul, mul_)
_bind_operators("truediv", div, div_)
for _name, _function in (("floordiv", floor_divide), ("mod", remainder), ("pow", pow)):
    _bind_operators(_name, _function)
method(names=["__neg__"])(neg)
method(names=["__pos__"])(positive)
method(names=["__abs__"])(abs)
