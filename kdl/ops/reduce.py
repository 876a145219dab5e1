"""Reductions: sums, means, variances, products, norms, counts, and the running sums and products.

`dim` is an int, a tuple of ints or None for all dimensions (an empty tuple means all too); `keepdim` keeps reduced
dimensions with length 1. float16 and bfloat16 are accumulated in float32 and rounded once; integers are accumulated in
int64. The maths of each gradient stands at its Function.
"""
import math

from kdl import types
from kdl.autograd import Function
from kdl.autograd.autocast import active, widens
from kdl.autograd.function import as_array
from kdl.autograd.quiet import quiet
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, dimension, empty, is_channels_last
from kdl.ops.elementwise import div, signed
from kdl.ops.pointwise import NATIVE
from kdl.tensor import Tensor, method

__all__ = ["all", "any", "count_nonzero", "logsumexp", "mean", "nanmean", "nansum", "norm", "prod",
           "std", "std_mean", "sum", "var", "var_mean"]


# --- sums and means ---
@method
def sum(input, dim=None, keepdim=False, *, dtype=None):
    """The sum over the dimensions, computed in `dtype` if given. Raises IndexError for dimensions out of range."""
    return reduced("sum", Sum, input, dim, keepdim, dtype, "int64")


@method
def mean(input, dim=None, keepdim=False, *, dtype=None):
    """The sum over the dimensions, divided by the number of elements; NaN where there are none.

    Raises TypeError for integers, unless a floating-point dtype is given, and IndexError for dimensions out of range.
    """
    expect_type(dtype is None or types.as_dtype(dtype) in types.FLOATS, "mean", "a floating-point dtype", dtype=dtype)
    return reduced("mean", Mean, input, dim, keepdim, dtype)


@method
def nansum(input, dim=None, keepdim=False, *, dtype=None):
    """The sum of what is not NaN."""
    return reduced("nansum", NanSum, input, dim, keepdim, dtype, "int64")


@method
def nanmean(input, dim=None, keepdim=False, *, dtype=None):
    """The mean of what is not NaN; NaN where nothing is. Raises TypeError for integers."""
    expect_type(array_of("nanmean", input).dtype in types.FLOATS, "nanmean", "a floating-point tensor",
                dtype=input.dtype)
    return div(nansum(input, dim, keepdim, dtype=dtype), sum(input == input, dim, keepdim))


# --- products ---
@method
def prod(input, dim=None, keepdim=False, *, dtype=None):
    """The product over one dimension, or over all. Raises IndexError for a dimension out of range."""
    dim = dim if dim is None else dimension("prod", dim, array_of("prod", input).ndim)
    return reduced("prod", Prod, input, dim, keepdim, dtype, "int64")


# --- spread ---
@method
def var(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """The sum of (x - mean)^2 over the dimensions, divided by max(0, n - correction).

    `correction` is 1 by default; `unbiased=False` stands for 0; `var(unbiased)` is understood, too. Raises TypeError
    for integers and when both are given, IndexError for dimensions out of range.
    """
    return _spread("var", Var, input, dim, unbiased, keepdim, correction)


@method
def std(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """The square root of `var`, whose derivative at 0 is taken as 0."""
    return _spread("std", Std, input, dim, unbiased, keepdim, correction)


@method
def var_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """`var` and `mean`."""
    return _with_mean("var_mean", Var, input, dim, unbiased, keepdim, correction)


@method
def std_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """`std` and `mean`."""
    return _with_mean("std_mean", Std, input, dim, unbiased, keepdim, correction)


def _spread(op, function, input, dim, unbiased, keepdim, correction):
    expect_type(unbiased is None or correction is None, op, "unbiased or correction, not both", unbiased=unbiased,
                correction=correction)
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is None:
        correction = 0 if unbiased is False else 1
    return reduced(op, lambda axes, keepdim: function(axes, keepdim, correction), input, dim, keepdim)


def _with_mean(op, function, input, dim, unbiased, keepdim, correction):
    first = _spread(op, function, input, dim, unbiased, keepdim, correction)
    return first, mean(input, None if isinstance(dim, bool) else dim, keepdim)


@method
def norm(input, p="fro", dim=None, keepdim=False, dtype=None):
    """(sum |x|^p)^(1/p) over the dimensions; p may be inf (the largest |x|), -inf, 0 (how many nonzeros) or 'fro' (2).

    Raises TypeError for integers, ValueError for other p and for inf and negative p where there are no elements.
    """
    expect(p in ("fro", None) or (isinstance(p, (int, float)) and not isinstance(p, bool)), "norm",
           "p to be a number or 'fro'", p=p)
    expect(p != "fro" or not isinstance(dim, (tuple, list)) or len(dim) <= 2, "norm", "at most 2 dims for 'fro'",
           dim=dim)
    expect_type(array_of("norm", input).dtype in types.FLOATS, "norm", "a floating-point tensor", dtype=input.dtype)
    dtype = input.dtype if dtype is None else types.as_dtype(dtype)
    expect_type(types.promote_types(input.dtype, dtype) == dtype, "norm", f"a dtype no narrower than {input.dtype}",
                dtype=dtype)
    p = 2.0 if p in ("fro", None) else float(p)
    axes = axes_of("norm", dim, input.ndim)
    expect(0 <= p < math.inf or count_of(input.shape, axes), "norm", "elements to take an inf or negative norm of",
           input=input, p=p)
    return reduced("norm", lambda axes, keepdim: Norm(axes, keepdim, p), input, dim, keepdim,
                   None if dtype == input.dtype else dtype)


@method
def logsumexp(input, dim, keepdim=False):
    """log(sum e^x) over the dimensions, without overflow; -inf where there are no elements.

    Raises ValueError without any dimension, IndexError for dimensions out of range.
    """
    expect(dim is not None and dim != (), "logsumexp", "at least one dim", dim=dim)
    return reduced("logsumexp", LogSumExp, input, dim, keepdim, integers="float")


# --- counts ---
@method
def all(input, dim=None, keepdim=False):
    """Whether every element is nonzero; True where there are none."""
    return _truth("all", input, dim, keepdim)


@method
def any(input, dim=None, keepdim=False):
    """Whether some element is nonzero; False where there are none."""
    return _truth("any", input, dim, keepdim)


@quiet
def _truth(op, input, dim, keepdim):
    array = array_of(op, input)
    axes = () if isinstance(dim, (tuple, list)) and not dim else axes_of(op, dim, array.ndim)
    result = as_array(getattr(array != 0, op)(axis=axes, keepdims=keepdim))
    return Tensor(result.astype(array.dtype) if array.dtype == types.uint8 else result)


@method
def count_nonzero(input, dim=None):
    """How many elements are nonzero, over the dimensions."""
    return sum(input != 0, dim)


# --- how a reduction is called ---
def axes_of(op, dim, ndim):
    """The dimensions as a tuple of axes, None for all of them. Raises TypeError, IndexError, ValueError."""
    if dim is None:
        return None
    if not isinstance(dim, (tuple, list)):
        axis = dimension(op, dim, ndim)
        return (axis,) if ndim else None
    axes = tuple([dimension(op, d, ndim) for d in dim])
    expect(len(set(axes)) == len(axes), op, "each dim once", dim=dim)
    return axes if axes and ndim else None


def reduced(op, function, input, dim, keepdim, dtype=None, integers="refuse"):
    """function(axes, keepdim)(input) in `dtype`, else in that of the input; halves are computed in float32.

    Integers become "int64" or the default dtype ("float"), stay ("keep") or are refused. Raises TypeError.
    """
    array = array_of(op, input)
    axes = axes_of(op, dim, array.ndim)
    have = array.dtype
    if dtype is None and have in NATIVE:
        return function(axes, keepdim)(input)
    if dtype is not None:
        have = types.as_dtype(dtype)
    elif have not in types.FLOATS and integers != "keep":
        expect_type(integers != "refuse", op, "a floating-point tensor", dtype=have)
        have = types.int64 if integers == "int64" else types.get_default_dtype()
    compute = types.float32 if have in types.HALVES else have
    y = function(axes, keepdim)(input.to(compute))
    return y if compute == have or (dtype is None and active and widens(op, y)) else y.to(have)


def count_of(shape, axes):
    """How many elements each result is made of."""
    return math.prod(shape if axes is None else [shape[axis] for axis in axes])


class Reduction(Function):
    """y = f(x) over `axes`, or over all dimensions where that is None."""


    def __init__(self, axes, keepdim):
        self.axes, self.keepdim = axes, keepdim

    def kept(self, array, ndim):
        """The array of the result, or its gradient, with reduced dimensions of length 1, as it broadcasts with x."""
        if self.keepdim or array.ndim == ndim:
            return array
        if self.axes is None:
            return array.reshape((1,) * ndim)
        return self.k.xp.expand_dims(array, self.axes)


# --- sums and means ---
class Sum(Reduction):
    """gx_i = gy."""

    def forward(self, x):
        self.shape, self.last = x.shape, is_channels_last(x)
        return self.k.xp.sum(x, axis=self.axes, keepdims=self.keepdim)

    def backward(self, gy, wanted):
        gx = empty(self.k, self.shape, gy.dtype, self.last)
        self.k.xp.copyto(gx, self.kept(gy, len(self.shape)))
        return gx


class Mean(Sum):
    """gx_i = gy / n."""

    def forward(self, x):
        self.n = count_of(x.shape, self.axes)
        return self.k.xp.true_divide(super().forward(x), self.n)

    def backward(self, gy, wanted):
        return super().backward(self.k.xp.true_divide(gy, self.n), wanted)


class NanSum(Sum):
    """gx_i = gy, and 0 where x_i is NaN."""

    def forward(self, x):
        self.valid = x == x
        return super().forward(self.k.xp.where(self.valid, x, 0).astype(x.dtype))

    def backward(self, gy, wanted):
        return super().backward(gy, wanted) * self.valid


# --- products ---
class Prod(Reduction):
    """gx_i = gy times the product of the others, from the products of those before and those after: x may be 0."""

    def forward(self, x):
        self.x = x
        return x.prod(axis=self.axes, keepdims=self.keepdim)

    def backward(self, gy, wanted):
        xp, x = self.k.xp, self.x
        rows = x.reshape(1, -1) if self.axes is None else xp.moveaxis(x, self.axes[0], -1)
        others = xp.ones_like(rows)
        others[..., 1:] = xp.cumprod(rows[..., :-1], -1)
        others[..., :-1] *= xp.cumprod(rows[..., :0:-1], -1)[..., ::-1]
        others = others.reshape(x.shape) if self.axes is None else xp.moveaxis(others, -1, self.axes[0])
        return others * self.kept(gy, x.ndim)


# --- spread ---
class Var(Reduction):
    """gx_i = 2 gy (x_i - mean) / (n - correction); where that divides by 0, NaN at the mean and inf elsewhere."""

    def __init__(self, axes, keepdim, correction):
        super().__init__(axes, keepdim)
        self.correction = correction

    def forward(self, x):
        n = count_of(x.shape, self.axes)
        self.x, self.degrees = x, n - self.correction
        self.mean = x.sum(axis=self.axes, keepdims=True) / n
        deviation = x - self.mean
        deviation *= deviation
        return deviation.sum(axis=self.axes, keepdims=self.keepdim) / float(self.degrees if self.degrees > 0 else 0)

    def backward(self, gy, wanted):
        gy = self.kept(gy, self.x.ndim)
        if self.degrees <= 0:
            return gy * self.k.xp.where(self.x == self.mean, math.nan, math.inf).astype(gy.dtype)
        return (gy * (2 / self.degrees)) * (self.x - self.mean)


class Std(Var):
    """The gradient of `Var` for gy / (2 y), and 0 where y is 0."""

    def forward(self, x):
        self.y = self.k.xp.sqrt(super().forward(x))
        return self.y

    def backward(self, gy, wanted):
        return super().backward(self.k.xp.where(self.y == 0, 0, gy / (2 * self.y)), wanted)


# --- norms ---
class Norm(Reduction):
    """gx_i = gy sign(x_i) |x_i|^(p - 1) / y^(p - 1), 0 where y = 0; for p = inf and -inf shared evenly among ties."""

    def __init__(self, axes, keepdim, p):
        super().__init__(axes, keepdim)
        self.p = p

    def forward(self, x):
        xp, p, over = self.k.xp, self.p, {"axis": self.axes, "keepdims": self.keepdim}
        self.x = x
        if p == 2:
            y = xp.sqrt((x * x).sum(**over))
        elif p == 0:
            y = (x != 0).sum(**over).astype(x.dtype)
        elif abs(p) == math.inf:
            y = getattr(xp.abs(x), "max" if p > 0 else "min")(**over)
        elif p == 1:
            y = xp.abs(x).sum(**over)
        else:
            y = (xp.abs(x) ** p).sum(**over) ** (1 / p)
        self.y = y
        return y

    def backward(self, gy, wanted):
        xp, p, x = self.k.xp, self.p, self.x
        gy, y = self.kept(gy, x.ndim), self.kept(self.y, x.ndim)
        if p == 2:
            return x * xp.where(y == 0, 0, gy / y)
        if p == 0:
            return xp.zeros_like(x)
        if abs(p) == math.inf:
            ties = xp.abs(x) == y
            return signed(xp, xp.where(ties, gy / ties.sum(axis=self.axes, keepdims=True), 0).astype(x.dtype), x)
        if p == 1:
            return signed(xp, gy, x)
        scale = xp.where(y == 0, 0, gy / y ** (p - 1)) if p > 1 else gy * y ** (1 - p)
        return signed(xp, xp.where(x == 0, 0, xp.abs(x) ** (p - 1) * scale), x)


class LogSumExp(Reduction):
    """gx_i = gy e^(x_i - y)."""

    def forward(self, x):
        xp = self.k.xp
        self.x = x
        peak = x.max(axis=self.axes, keepdims=True) if x.size else xp.zeros(1, x.dtype)
        peak = xp.where(xp.isfinite(peak), peak, 0)
        y = xp.log(xp.exp(x - peak).sum(axis=self.axes, keepdims=True)) + peak
        self.y = y if self.keepdim else y.reshape(()) if self.axes is None else y.squeeze(self.axes)
        return self.y

    def backward(self, gy, wanted):
        return self.kept(gy, self.x.ndim) * self.k.xp.exp(self.x - self.kept(self.y, self.x.ndim))
