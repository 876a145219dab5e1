"""Losses: what a prediction x costs where y is wanted, element by element, reduced by 'mean', 'sum' or 'none'.

With L the sum of n losses, 'mean' is L / n: every loss gets the gradient g / n, where g is the gradient of the mean.
A loss is one Function, in which value and derivatives stand side by side. Broadcasting is refused where it would hide a
mistake. Losses with a margin stand in kdl/ops/margin.py, those over classes in kdl/ops/softmax.py.
"""
import math

import numpy as np

from kdl import types
from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, floating, unbroadcast
from kdl.ops.pointwise import Rule, apply
from kdl.ops.reduce import mean
from kdl.ops.reduce import sum as sum_of
from kdl.tensor import Tensor, array_module

__all__ = ["binary_cross_entropy", "binary_cross_entropy_with_logits", "gaussian_nll_loss", "huber_loss", "kl_div",
           "l1_loss", "mse_loss", "poisson_nll_loss", "smooth_l1_loss"]

REDUCTIONS = "none", "mean", "sum"


# --- of the distance between prediction and target ---
def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """(x - y)^2; with weights w of the same shape, w (x - y)^2, and their mean is divided by the sum of the weights.

    Shapes: equal. Raises ValueError for others, TypeError unless one is floating-point.
    """
    return _distance("mse_loss", SquaredError, input, target, size_average, reduce, reduction, weight)


def l1_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """|x - y|, whose derivative at 0 is 0; with weights as `mse_loss`.

    Shapes: equal. Raises ValueError for others, TypeError unless one is floating-point.
    """
    return _distance("l1_loss", AbsoluteError, input, target, size_average, reduce, reduction, weight)


def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    """d^2 / (2 beta) where d = |x - y| is less than beta, d - beta / 2 elsewhere. (Girshick, Fast R-CNN, 2015.)

    Shapes: equal. Raises ValueError for others and for a negative beta, TypeError unless one is floating-point.
    """
    expect(beta >= 0, "smooth_l1_loss", "beta >= 0", beta=beta)
    function = AbsoluteError if beta == 0 else lambda reduction: SmoothL1(reduction, beta)
    return _distance("smooth_l1_loss", function, input, target, size_average, reduce, reduction)


def huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    """d^2 / 2 where d = |x - y| is at most delta, delta (d - delta / 2) elsewhere; times w. (Huber, 1964.)

    Shapes: equal. Raises ValueError for others and unless delta > 0, TypeError unless one is floating-point.
    """
    op = "huber_loss"
    check_reduction(op, reduction)
    expect(delta > 0, op, "delta > 0", delta=delta)
    check_same_shape(op, input=input, target=target)
    if weight is not None:
        check_same_shape(op, input=input, weight=weight)
    return _weighted(lambda reduction: evaluated(op, Huber(reduction, delta), input, target), weight, reduction)


def _distance(op, function, input, target, size_average, reduce, reduction, weight=None):
    check_reduction(op, reduction, size_average, reduce)
    check_same_shape(op, input=input, target=target)
    if weight is None:
        return evaluated(op, function(reduction), input, target)
    check_same_shape(op, input=input, weight=weight)
    loss = evaluated(op, function("none"), input, target) * weight
    return sum_of(loss) / sum_of(weight) if reduction == "mean" else reduced(loss, reduction)


# --- of probabilities ---
def binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """-w (y log x + (1 - y) log(1 - x)), with logarithms of at least -100, so that the loss is finite.

    Shapes: input and target equal, weight broadcast to them. Raises ValueError for others and for values outside
    [0, 1], TypeError unless floating-point.
    """
    op = "binary_cross_entropy"
    _check_binary(op, input, target, size_average, reduce, reduction, weight=weight)
    for name, x in (("input", input.array), ("target", target.array)):
        if x.size:
            low, high = x.min(), x.max()
            expect(low >= 0 and high <= 1, op, f"{name} in [0, 1] (binary_cross_entropy_with_logits takes logits)",
                   smallest=low, largest=high)
    return _weighted(lambda reduction: evaluated(op, BinaryCrossEntropy(reduction), input, target), weight, reduction)


def binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None, reduction="mean",
                                     pos_weight=None):
    """-w (p y log s + (1 - y) log(1 - s)) for s = sigmoid(x), without overflow; p is the weight of positives.

    Shapes: input and target equal, weight and pos_weight broadcast to them. Raises ValueError for others, TypeError
    unless floating-point.
    """
    op = "binary_cross_entropy_with_logits"
    _check_binary(op, input, target, size_average, reduce, reduction, weight=weight, pos_weight=pos_weight)
    operands = (input, target) if pos_weight is None else (input, target, pos_weight)
    return _weighted(lambda reduction: evaluated(op, BinaryCrossEntropyWithLogits(reduction), *operands), weight,
                     reduction)


def kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    """The Kullback-Leibler divergence y (log y - x) for log-probabilities x; with `log_target`, log y is given for y.

    Shapes: any that broadcast. 'batchmean', the divergence per row, divides the sum by the length of dimension 0.
    Raises ValueError for other shapes and reductions, TypeError unless floating-point.
    """
    check_reduction("kl_div", reduction, size_average, reduce, (*REDUCTIONS, "batchmean"))
    floating("kl_div", input=input)
    floating("kl_div", target=target)
    function = (LogDivergence if log_target else Divergence)("sum" if reduction == "batchmean" else reduction)
    loss = evaluated("kl_div", function, input, target)
    if reduction != "batchmean" or not input.ndim:
        return loss
    return loss / (input.array.shape[0] or math.nan)


def poisson_nll_loss(input, target, log_input=True, full=False, size_average=None, eps=1e-08, reduce=None,
                     reduction="mean"):
    """r - y log r, the negative log-likelihood of counts y for the rate r = exp(x), or r = x unless `log_input`.

    eps is added to a rate before its logarithm is taken. `full` adds what does not depend on x, by Stirling's formula
    where y > 1: y log y - y + log(2 pi y) / 2. Shapes: any that broadcast. Raises ValueError for others.
    """
    check_reduction("poisson_nll_loss", reduction, size_average, reduce)
    function = PoissonLogRate(reduction, full) if log_input else PoissonRate(reduction, full, eps)
    return evaluated("poisson_nll_loss", function, input, target, integers="float")


def gaussian_nll_loss(input, target, var, full=False, eps=1e-06, reduction="mean"):
    """(log v + (x - y)^2 / v) / 2, the negative log-likelihood of y for the mean x and the variance v = max(var, eps).

    `full` adds log(2 pi) / 2. The derivative to var is that to v. Shapes: input and target broadcast; var is a number
    or as input, without its last dimension or with one of length 1. Raises ValueError for others and for var < 0.
    """
    op = "gaussian_nll_loss"
    check_reduction(op, reduction)
    shape = array_of(op, input).shape
    if isinstance(var, Tensor):
        have = var.array.shape
        if have == shape[:-1] and have != shape:
            var = var.unsqueeze(-1)
        else:
            differing = [v for x, v in zip(shape, have, strict=False) if x != v]
            expect(len(shape) == len(have) and differing in ([], [1]), op,
                   "var of input's shape, without its last dimension, or with one of length 1", var=var, input=input)
        low = var.array.min() if var.array.size else 0
        expect(not low < 0, op, "var >= 0", smallest=low)
    else:
        expect_type(isinstance(var, float), op, "var to be a Tensor or a float", var=type(var).__name__)
        expect(not var < 0, op, "var >= 0", var=var)
        var = Tensor(array_module(input.array).asarray(var, input.array.dtype))
    return evaluated(op, Gaussian(reduction, full, eps), input, target, var)


def _check_binary(op, input, target, size_average, reduce, reduction, **weights):
    check_reduction(op, reduction, size_average, reduce)
    check_same_shape(op, input=input, target=target)
    floating(op, input=input)
    floating(op, target=target)
    shape = input.array.shape
    for name, weight in weights.items():
        if weight is not None:
            have = array_of(op, weight, name).shape
            fits = len(have) <= len(shape) and all(
                n in (1, m) for n, m in zip(have[::-1], shape[::-1], strict=False))
            expect(fits, op, f"a {name} that broadcasts to the shape of input", **{name: weight}, input=input)


# --- what losses share ---
def check_reduction(op, reduction, size_average=None, reduce=None, allowed=REDUCTIONS):
    """Raise ValueError for a reduction that does not exist, and for torch's deprecated way of naming one."""
    if size_average is not None or reduce is not None:
        expect(False, op, "reduction instead of the deprecated size_average and reduce", size_average=size_average,
               reduce=reduce)
    if reduction not in allowed:
        names = ", ".join(map(repr, allowed[:-1]))
        expect(False, op, f"reduction {names} or {allowed[-1]!r}", reduction=repr(reduction))


def check_same_shape(op, **tensors):
    """Raise ValueError unless the tensors have one shape."""
    (first, x), (second, y) = tensors.items()
    expect(array_of(op, x, first).shape == array_of(op, y, second).shape, op,
           f"{first} and {second} of the same shape", **tensors)


def evaluated(op, function, *operands, integers="refuse"):
    """function(*operands), after promotion to one dtype; halves are computed in float32."""
    array_of(op, operands[0])
    array_of(op, operands[1], "target")
    return apply(lambda: function, Rule(op, integers, "promote"), *operands)


def wide(dtype):
    """What losses of that dtype are computed in."""
    return types.float32 if dtype in types.HALVES else dtype


def reduced(loss, reduction):
    """A tensor of losses, reduced."""
    return loss if reduction == "none" else mean(loss) if reduction == "mean" else sum_of(loss)


def _weighted(loss, weight, reduction):
    """loss(reduction), or the losses times their weights, reduced."""
    return loss(reduction) if weight is None else reduced(loss("none") * weight, reduction)


class Loss(Function):
    """A Function whose result is reduced by its `reduction`; the mean divides by `divisor`, which forward sets."""

    def __init__(self, reduction):
        self.reduction = reduction

    def reduce(self, loss, dtype):
        """The array of losses, reduced, in that dtype."""
        xp = self.k.xp
        if self.reduction == "none":
            return xp.asarray(loss, dtype)
        if xp is np:  # what scalars do by themselves takes 1 us, by NumPy's functions 5
            total = loss.sum()
            return np.asarray(total / self.divisor if self.reduction == "mean" else total, dtype)
        total = xp.sum(loss)
        return xp.asarray(xp.true_divide(total, self.divisor) if self.reduction == "mean" else total, dtype)

    def spread(self, g):
        """The gradient of every loss (of all, where it is one number) from that of the result."""
        return self.k.xp.true_divide(g, self.divisor) if self.reduction == "mean" else g


class Elementwise(Loss):
    """z = value(x, ...), elementwise; `derivatives` gives a function per operand, or None, for the gradient to it."""

    def forward(self, *operands):
        loss = self.value(self.k.xp, *operands)
        self.operands, self.shape, self.divisor = operands, loss.shape, loss.size
        return self.reduce(loss, loss.dtype)

    def backward(self, g, wanted):
        xp = self.k.xp
        derivatives = self.derivatives(xp, self.spread(g), *self.operands)
        return tuple([unbroadcast(xp.broadcast_to(derivative(), self.shape), x.shape) if w and derivative else None
                      for w, derivative, x in zip(wanted, derivatives, self.operands, strict=True)])


class Distance(Loss):
    """z = value(d) for d = x - y; gx = derivative(g, d), gy = -gx."""

    def forward(self, x, y):
        self.d = d = self.k.xp.subtract(x, y)
        self.divisor = d.size
        return self.reduce(self.value(self.k.xp, d), d.dtype)

    def backward(self, g, wanted):
        gx = self.derivative(self.k.xp, self.spread(g), self.d)
        return gx if wanted[0] else None, self.k.xp.negative(gx) if wanted[1] else None


# --- of the distance ---
class SquaredError(Distance):
    def value(self, xp, d):
        return xp.multiply(d, d)

    def derivative(self, xp, g, d):
        return xp.multiply(xp.multiply(g, 2), d)


class AbsoluteError(Distance):
    def value(self, xp, d):
        return xp.abs(d)

    def derivative(self, xp, g, d):
        return g * xp.sign(d)


class SmoothL1(Distance):
    def __init__(self, reduction, beta):
        self.reduction, self.beta = reduction, beta

    def value(self, xp, d):
        a = xp.abs(d)
        near = xp.minimum(a, self.beta)
        return near * (a - 0.5 * near) / self.beta

    def derivative(self, xp, g, d):
        return g * xp.clip(d / self.beta, -1, 1)


class Huber(Distance):
    def __init__(self, reduction, delta):
        self.reduction, self.delta = reduction, delta

    def value(self, xp, d):
        a = xp.abs(d)
        near = xp.minimum(a, self.delta)
        return near * (a - 0.5 * near)

    def derivative(self, xp, g, d):
        return g * xp.clip(d, -self.delta, self.delta)


# --- of probabilities ---
class BinaryCrossEntropy(Elementwise):
    """The derivative to x is (x - y) / (x (1 - x)), with a denominator of at least 1e-12."""

    def value(self, xp, x, y):
        return (y - 1) * _clamped(xp.log1p(-x), xp) - y * _clamped(xp.log(x), xp)

    def derivatives(self, xp, g, x, y):
        return (lambda: g * (x - y) / xp.maximum(x * (1 - x), 1e-12),
                lambda: g * (_clamped(xp.log1p(-x), xp) - _clamped(xp.log(x), xp)))


def _clamped(log, xp):
    return xp.maximum(log, -100)


class BinaryCrossEntropyWithLogits(Elementwise):
    """p y log(1 + exp(-x)) + (1 - y) log(1 + exp(x)); without p, max(x, 0) - x y + log(1 + exp(-|x|))."""

    def value(self, xp, x, y, p=None):
        if p is None:
            return xp.maximum(x, 0) - x * y + xp.log1p(xp.exp(-xp.abs(x)))
        return p * y * softplus(xp, -x) + (1 - y) * softplus(xp, x)

    def derivatives(self, xp, g, x, y, p=None):
        if p is None:
            return lambda: g * (sigmoid(xp, x) - y), lambda: -g * x
        return (lambda: g * ((1 - y) * sigmoid(xp, x) - p * y * sigmoid(xp, -x)),
                lambda: g * (p * softplus(xp, -x) - softplus(xp, x)), lambda: g * y * softplus(xp, -x))


# Without overflow, and without xp.where: 8 ns per element for a random mask, an exponential takes 0.5.
def sigmoid(xp, x):
    """1 / (1 + exp(-x))."""
    return xp.exp(xp.minimum(x, 0)) / (1 + xp.exp(-xp.abs(x)))


def softplus(xp, x):
    """log(1 + exp(x))."""
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


class Divergence(Elementwise):
    """0 log 0 = 0."""

    def value(self, xp, x, y):
        return y * (xp.log(y + (y == 0)) - x)

    def derivatives(self, xp, g, x, y):
        return lambda: -g * y, lambda: g * (xp.log(y) + 1 - x)


class LogDivergence(Elementwise):
    def value(self, xp, x, y):
        return xp.exp(y) * (y - x)

    def derivatives(self, xp, g, x, y):
        return lambda: -g * xp.exp(y), lambda: g * xp.exp(y) * (y - x + 1)


class PoissonLogRate(Elementwise):
    def __init__(self, reduction, full):
        self.reduction, self.full = reduction, full

    def value(self, xp, x, y):
        loss = xp.exp(x) - y * x
        return loss + _stirling(xp, y) if self.full else loss

    def derivatives(self, xp, g, x, y):
        return lambda: g * (xp.exp(x) - y), lambda: g * ((_stirling_derivative(xp, y) if self.full else 0) - x)


class PoissonRate(Elementwise):
    def __init__(self, reduction, full, eps):
        self.reduction, self.full, self.eps = reduction, full, eps

    def value(self, xp, x, y):
        loss = x - y * xp.log(x + self.eps)
        return loss + _stirling(xp, y) if self.full else loss

    def derivatives(self, xp, g, x, y):
        return (lambda: g * (1 - y / (x + self.eps)),
                lambda: g * ((_stirling_derivative(xp, y) if self.full else 0) - xp.log(x + self.eps)))


def _stirling(xp, y):
    """log y!, nearly; 0 for y <= 1."""
    return xp.where(y <= 1, 0, y * xp.log(y) - y + 0.5 * xp.log(2 * math.pi * y))


def _stirling_derivative(xp, y):
    return xp.where(y <= 1, 0, xp.log(y) + 0.5 / y)


class Gaussian(Elementwise):
    def __init__(self, reduction, full, eps):
        self.reduction, self.constant, self.eps = reduction, 0.5 * math.log(2 * math.pi) if full else 0, eps

    def value(self, xp, x, y, var):
        v = xp.maximum(var, self.eps)
        d = x - y
        return 0.5 * (xp.log(v) + d * d / v) + self.constant

    def derivatives(self, xp, g, x, y, var):
        v = xp.maximum(var, self.eps)
        d = x - y
        return lambda: g * d / v, lambda: -g * d / v, lambda: 0.5 * g * (1 - d * d / v) / v
