"""Functions along a line: running sums, products and extrema, differences, and sums of trapezoids.

y_i depends on x_0 ... x_i of one dimension. float16 and bfloat16 are accumulated in float32 and rounded once; integers
are accumulated in int64. The maths of each gradient stands at its Function.
"""
from kdl import types
from kdl.autograd import Function
from kdl.autograd.quiet import quiet
from kdl.errors import expect, expect_type
from kdl.ops.common import accumulated, array_of, assign_, dimension
from kdl.ops.compare import logical_xor
from kdl.ops.extremum import Selection
from kdl.ops.join import cat
from kdl.ops.reduce import reduced
from kdl.ops.select import gather
from kdl.tensor import Tensor, array_module, method

__all__ = ["cummax", "cummin", "cumprod", "cumsum", "cumulative_trapezoid", "diff", "logcumsumexp", "trapezoid",
           "trapz"]


# --- running sums, products and extrema ---
@method
def cumsum(input, dim, *, dtype=None):
    """y_i = x_0 + ... + x_i along the dimension. Raises IndexError for a dimension out of range."""
    return _running("cumsum", CumSum, input, dim, dtype)


@method
def cumprod(input, dim, *, dtype=None):
    """y_i = x_0 ... x_i along the dimension. Raises IndexError for a dimension out of range."""
    return _running("cumprod", CumProd, input, dim, dtype)


@method
def cumsum_(input, dim, *, dtype=None):
    """In-place `cumsum`."""
    return assign_(input, cumsum(input, dim, dtype=dtype).to(input.dtype))


@method
def cumprod_(input, dim, *, dtype=None):
    """In-place `cumprod`."""
    return assign_(input, cumprod(input, dim, dtype=dtype).to(input.dtype))


def _running(op, function, input, dim, dtype):
    axis = dimension(op, dim, array_of(op, input).ndim)
    return reduced(op, lambda axes, keepdim: function(axis), input, None, False, dtype, "int64")


@method
def logcumsumexp(input, dim):
    """y_i = log(e^x_0 + ... + e^x_i) along the dimension, without overflow.

    Raises TypeError for integers, IndexError for a dimension out of range.
    """
    axis = dimension("logcumsumexp", dim, array_of("logcumsumexp", input).ndim)
    return reduced("logcumsumexp", lambda axes, keepdim: LogCumSumExp(axis), input, None, False)


@method
def cummax(input, dim):
    """The largest of x_0 ... x_i along the dimension, and where it stood last, as (values, indices); NaN stays.

    Raises IndexError for a dimension out of range.
    """
    return _running_extremum("cummax", "maximum", input, dim)


@method
def cummin(input, dim):
    """The smallest of x_0 ... x_i along the dimension, and where it stood last, as (values, indices); NaN stays.

    Raises IndexError for a dimension out of range.
    """
    return _running_extremum("cummin", "minimum", input, dim)


@quiet
def _running_extremum(op, ufunc, input, dim):
    array = array_of(op, input)
    axis = dimension(op, dim, array.ndim)
    xp = array_module(array)
    if array.ndim == 0:
        return Selection(input.clone(), Tensor(xp.zeros((), types.int64)))
    wide = array.astype(types.float32) if array.dtype in types.HALVES else array
    best = accumulated(xp, ufunc, wide, axis)
    places = xp.arange(array.shape[axis]).reshape(-1, *[1] * (array.ndim - axis - 1))
    reached = xp.where((wide == best) | (wide != wide), places, 0)
    indices = Tensor(accumulated(xp, "maximum", reached, axis))
    return Selection(gather(input, axis, indices), indices)


# --- differences and trapezoids ---
@method
def diff(input, n=1, dim=-1, prepend=None, append=None):
    """x_(i+1) - x_i along the dimension, n times over, after `prepend` and `append` are joined to it.

    For booleans: where neighbours differ. Raises ValueError for n < 0 and for tensors without dimensions, IndexError.
    """
    dim = dimension("diff", dim, array_of("diff", input).ndim)
    expect(input.ndim > 0 and n >= 0, "diff", "a tensor with dimensions and n >= 0", input=input, n=n)
    ends = [x for x in (prepend, input, append) if x is not None]
    y = cat(ends, dim) if len(ends) > 1 else input
    for _ in range(min(n, y.shape[dim])):
        length = max(y.shape[dim] - 1, 0)
        after, before = y.narrow(dim, y.shape[dim] - length, length), y.narrow(dim, 0, length)
        y = logical_xor(after, before) if y.dtype == types.boolean else after - before
    return y if n else y.clone()


def trapezoid(y, x=None, *, dx=1, dim=-1):
    """The sum of (y_i + y_(i+1)) / 2 times dx, or times the differences of x.

    Raises ValueError, TypeError, IndexError.
    """
    return _trapezoids("trapezoid", y, x, dx, dim).sum(dim)


def cumulative_trapezoid(y, x=None, *, dx=1, dim=-1):
    """The running sums of `trapezoid`: one element fewer than y has. Raises ValueError, TypeError, IndexError."""
    return cumsum(_trapezoids("cumulative_trapezoid", y, x, dx, dim), dim)


def _trapezoids(op, y, x, dx, dim):
    """The area over every interval."""
    dim = dimension(op, dim, array_of(op, y, "y").ndim)
    expect_type(y.dtype != types.boolean and (x is None or x.dtype != types.boolean), op, "numbers", y=y.dtype)
    expect(y.ndim > 0, op, "y with dimensions", y=y)
    if x is not None:
        array_of(op, x, "x")
        expect(x.ndim != 1 or x.shape[0] == y.shape[dim], op, "as many x as y along dim", x=x, y=y, dim=dim)
        dx = diff(x, 1, 0 if x.ndim == 1 else dim)
        dx = dx.reshape(-1, *[1] * (y.ndim - dim - 1)) if x.ndim == 1 else dx
    n = max(y.shape[dim] - 1, 0)
    return (y.narrow(dim, 0, n) + y.narrow(dim, y.shape[dim] - n, n)) * dx / 2


trapz = trapezoid


# --- Functions ---
class CumSum(Function):
    """gx_i = gy_i + ... + gy_n."""

    def __init__(self, axis):
        self.axis = axis

    def forward(self, x):
        return x.cumsum(self.axis).reshape(x.shape)

    def backward(self, gy, wanted):
        return _sum_from(self.k.xp, gy, self.axis)


class CumProd(CumSum):
    """gx_i = (gy_i y_i + ... + gy_n y_n) / x_i up to the first 0 of a row (there as if it were 1), and 0 after."""

    def forward(self, x):
        self.x = x
        return x.cumprod(self.axis).reshape(x.shape)

    def backward(self, gy, wanted):
        xp, x, axis = self.k.xp, self.x, self.axis
        zeros = (x == 0).cumsum(axis).reshape(x.shape)  # passed so far
        first = (x == 0) & (zeros == 1)
        filled = xp.where(first, 1, x)
        y = filled.cumprod(axis).reshape(x.shape)
        before = _sum_from(xp, xp.where(zeros == 0, gy * y, 0), axis) / filled
        return xp.where(zeros == 0, before, xp.where(first, _sum_from(xp, xp.where(zeros == 0, 0, gy * y), axis), 0))


def _sum_from(xp, array, axis):
    """The sums of the elements from each to the last."""
    return array if array.ndim == 0 else xp.flip(xp.flip(array, axis).cumsum(axis), axis)


class LogCumSumExp(CumSum):
    """gx_i = the sum over j >= i of gy_j e^(x_i - y_j); positive and negative gy apart, in logarithms."""

    def forward(self, x):
        self.x = x
        self.y = self.accumulated(x)
        return self.y

    def accumulated(self, x):
        return accumulated(self.k.xp, "logaddexp", x, self.axis) if x.ndim and x.size else x.copy()

    def backward(self, gy, wanted):
        xp, x = self.k.xp, self.x
        if not x.ndim:
            return gy
        gx = 0
        for sign in (1, -1):
            logs = xp.where(gy * sign > 0, xp.log(xp.abs(gy)) - self.y, -xp.inf)
            gx = gx + sign * xp.exp(x + xp.flip(self.accumulated(xp.flip(logs, self.axis)), self.axis))
        return gx
