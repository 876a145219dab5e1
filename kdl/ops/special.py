"""Special functions: the gamma function and its relatives, the inverse of erf, logit, sinc, and scaling by powers of 2.

Gamma functions are computed from x >= 10 by their asymptotic series, and below by their recurrences; negative x by
reflection (Abramowitz and Stegun 1964, chapter 6). The zeta function is summed by Euler and Maclaurin's formula.
"""
import math

from kdl import types
from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, dense
from kdl.ops.elementwise import mul
from kdl.ops.maths import exp2
from kdl.ops.pointwise import Pointwise, Rule, apply, pointwise, publish, zero
from kdl.tensor import Tensor, method

__all__ = ["digamma", "erfinv", "frexp", "ldexp", "lgamma", "logaddexp2", "logit", "mvlgamma", "polygamma", "sinc"]

_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)  # B_2, B_4, ...
_SHIFT = 10  # how far the recurrences go up; there seven terms give 16 digits


# --- gamma ---
def _shifted(xp, x):
    """x above 0 moved up to where the series holds, and the product and the sum of inverses of what was passed."""
    product, inverses = xp.ones_like(x), xp.zeros_like(x)
    for _ in range(_SHIFT):
        low = x < _SHIFT
        product = xp.where(low, product * x, product)
        inverses = xp.where(low, inverses + 1 / x, inverses)
        x = xp.where(low, x + 1, x)
    return x, product, inverses


def _reflected(xp, x):
    """Whether x is below 1/2, and there 1 - x, elsewhere x."""
    low = x < 0.5
    return low, xp.where(low, 1 - x, x)


def _lgamma(xp, x):
    low, up = _reflected(xp, x)
    z, product, _ = _shifted(xp, up)
    series = sum(b / (2 * n * (2 * n - 1)) * z ** (1 - 2 * n) for n, b in enumerate(_BERNOULLI, 1))
    y = (z - 0.5) * xp.log(z) - z + 0.5 * math.log(2 * math.pi) + series - xp.log(product)
    y = xp.where(xp.isinf(up), xp.inf, y)
    reflected = math.log(math.pi) - xp.log(xp.abs(xp.sin(math.pi * (x - xp.floor(x))))) - y
    return xp.where(low, xp.where(x == xp.floor(x), xp.inf, reflected), y).astype(x.dtype)


def _digamma(xp, x):
    low, up = _reflected(xp, x)
    z, _, inverses = _shifted(xp, up)
    series = sum(b / (2 * n) * z ** (-2 * n) for n, b in enumerate(_BERNOULLI, 1))
    y = xp.log(z) - 0.5 / z - series - inverses
    y = xp.where(low, y - math.pi / xp.tan(math.pi * (x - xp.floor(x))), y)
    y = xp.where((x == xp.floor(x)) & (x <= 0), xp.where(x == 0, -xp.copysign(xp.inf, x), xp.nan), y)
    return y.astype(x.dtype)


def _zeta(xp, s, q):
    """The sum over k >= 0 of (q + k)^-s, for an integer s > 1."""
    total = sum((q + k) ** -float(s) for k in range(_SHIFT))
    end, rising = q + _SHIFT, float(s)
    total = total + end ** (1.0 - s) / (s - 1) + 0.5 * end ** -float(s)
    for n, b in enumerate(_BERNOULLI, 1):
        total = total + b / math.factorial(2 * n) * rising * end ** (1.0 - s - 2 * n)
        rising *= (s + 2 * n - 1) * (s + 2 * n)
    return total


def _polygamma(n):
    """The n-th derivative of digamma; below 1/2 by the recurrence, or for n = 1 by reflection."""
    if n == 0:
        return _digamma
    scale = (-1.0) ** (n + 1) * math.factorial(n)

    def value(xp, x):
        if n > 1:
            return (scale * _zeta(xp, n + 1, x)).astype(x.dtype)
        low, up = _reflected(xp, x)
        y = _zeta(xp, 2, up)
        sine = xp.sin(math.pi * (x - xp.floor(x)))
        return xp.where(low, (math.pi / sine) ** 2 - y, y).astype(x.dtype)
    return value


lgamma = pointwise("lgamma", "log |gamma(x)|. dy/dx = digamma(x).", _lgamma,
                   lambda xp, g, x: g * _digamma(xp, x), integers="float")

digamma = pointwise("digamma", "The derivative of `lgamma`. dy/dx = polygamma(1, x).", _digamma,
                    lambda xp, g, x: g * _polygamma(1)(xp, x), integers="float")


def polygamma(n, input):
    """The n-th derivative of `digamma`: (-1)^(n+1) n! times the sum over k >= 0 of (x + k)^-(n+1).

    For n > 1, x above 0. Raises ValueError for negative n.
    """
    if isinstance(n, Tensor):
        n, input = input, n
    expect(isinstance(n, int) and n >= 0, "polygamma", "an int n >= 0", n=n)
    array_of("polygamma", input)
    return apply(lambda: Polygamma(n), Rule("polygamma", "float"), input)


class Polygamma(Pointwise):
    def __init__(self, n):
        self.value = _polygamma(n)
        self.derivatives = (lambda xp, g, x: g * _polygamma(n + 1)(xp, x),)


publish(polygamma, "polygamma", inplace=False)


@method
def mvlgamma(input, p):
    """log of the multivariate gamma function: p (p - 1) / 4 log pi + the sum over i < p of lgamma(x - i / 2).

    Raises ValueError unless p >= 1 and every x > (p - 1) / 2.
    """
    array = array_of("mvlgamma", input)
    expect(p >= 1 and bool((array > (p - 1) / 2).all()), "mvlgamma", "p >= 1 and every element above (p - 1) / 2",
           p=p, input=input)
    return sum(lgamma(input - i / 2) for i in range(p)) + p * (p - 1) / 4 * math.log(math.pi)


# --- the inverse of erf ---
def erfinv(input):
    """The x with erf(x) = y: inf at 1, -inf at -1, NaN outside [-1, 1]. dx/dy = sqrt(pi) / 2 e^(x^2)."""
    if array_of("erfinv", input).dtype not in types.FLOATS:
        input = input.to(types.get_default_dtype())
    dtype = input.dtype
    y = ErfInv()(input.float() if dtype in types.HALVES else input)
    return y.to(dtype)


class ErfInv(Function):
    """Halley's method for erf(x) = |y|, or erfc(x) = 1 - |y| where that is smaller, from Winitzki's 2008 estimate."""
    steps = 4

    def forward(self, y):
        xp, y = self.k.xp, dense(y)
        size, rest = xp.abs(y), 1 - xp.abs(y)
        logs = xp.log(rest * (1 + size))
        half = 2 / (math.pi * 0.147) + logs / 2
        x = xp.where(size < 0.5, size * (math.sqrt(math.pi) / 2), xp.sqrt(xp.sqrt(half * half - logs / 0.147) - half))
        reached, complement = xp.empty_like(x), xp.empty_like(x)
        for _ in range(self.steps):
            self.k.erf_forward(x, reached)
            self.k.erfc_forward(x, complement)
            missing = xp.where(size < 0.5, size - reached, complement - rest)
            step = missing * (math.sqrt(math.pi) / 2) * xp.exp(x * x)
            x = xp.where(rest > 0, x + step / (1 + x * step), x)  # as erf'' = -2 x erf'
        x = xp.where(rest == 0, xp.inf, x)
        self.x = xp.where(rest < 0, xp.nan, xp.copysign(x, y)).astype(y.dtype)
        return self.x

    def backward(self, gx, wanted):
        return gx * (math.sqrt(math.pi) / 2) * self.k.xp.exp(self.x * self.x)


publish(erfinv, "erfinv")


# --- logarithms ---
def logit(input, eps=None):
    """log(x / (1 - x)), of x clamped to [eps, 1 - eps] if eps is given.

    dy/dx = 1 / (x (1 - x)), and 0 where x was clamped.
    """
    array_of("logit", input)
    return apply(lambda: Logit(eps), Rule("logit", "float"), input)


class Logit(Pointwise):
    def __init__(self, eps):
        low, high = (-math.inf, math.inf) if eps is None else (eps, 1 - eps)

        def value(xp, x):
            x = xp.clip(x, low, high)
            return xp.log(x / (1 - x))

        def derivative(xp, g, x):
            outside = (x < 0) | (x > 1) if eps is None else (x < low) | (x > high)
            return xp.where(outside, math.nan if eps is None else 0, g / (x * (1 - x))).astype(g.dtype)
        self.value, self.derivatives = value, (derivative,)


publish(logit, "logit")

logaddexp2 = pointwise(
    "logaddexp2", "log2(2^x + 2^y), without overflow. dz/dx = 1 / (1 + 2^(y - x)), dz/dy = 1 / (1 + 2^(x - y)).",
    lambda xp, x, y: xp.logaddexp2(x, y),
    lambda xp, g, x, y: g / (1 + xp.exp2(y - x)),
    lambda xp, g, x, y: g / (1 + xp.exp2(x - y)), integers="refuse", inplace=False)


def _sinc_slope(xp, g, x):
    z = math.pi * x
    return xp.where(z == 0, 0, g * math.pi * (z * xp.cos(z) - xp.sin(z)) / xp.where(z == 0, 1, z * z)).astype(g.dtype)


sinc = pointwise("sinc", "sin(pi x) / (pi x), and 1 at 0.", lambda xp, x: xp.sinc(x).astype(x.dtype), _sinc_slope,
                 integers="float")


# --- mantissas and exponents ---
@method
def ldexp(input, other):
    """x 2^y."""
    return mul(input, exp2(other))


class Mantissa(Pointwise):
    """m of x = m 2^e with |m| in [1/2, 1), or 0; gx = gm 2^-e."""
    derivatives = (lambda xp, g, x: xp.ldexp(g, -xp.frexp(x)[1]),)

    def value(self, xp, x):
        return xp.frexp(x)[0]


@method
def frexp(input):
    """(m, e) of x = m 2^e with |m| in [1/2, 1), or both 0; e is int32. Raises TypeError for integers."""
    array = array_of("frexp", input)
    expect_type(array.dtype in types.FLOATS, "frexp", "a floating-point tensor", input=array.dtype)
    mantissa = apply(Mantissa, Rule("frexp"), input)
    exponent = apply(Exponent, Rule("frexp"), input.detach()).to(types.int32)
    return mantissa, exponent


class Exponent(Pointwise):
    derivatives = (zero,)

    def value(self, xp, x):
        return xp.frexp(x)[1].astype(x.dtype)
