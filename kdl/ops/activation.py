"""Activations: elementwise y = f(x), gx = f'(x) gy; and glu, whose second half gates its first.

An activation is a public function with its formula, and one line naming its Function: the kernel's stem, what is
saved for backward (x, or y where f' is cheaper from it), and how many of the parameters backward takes if not all.
"""
import math

import numpy as np

from kdl import types
from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.common import assign_, dense, dimension, floating, is_channels_last, like
from kdl.tensor import Tensor, array_module, channels_to_end, method

__all__ = ["celu", "celu_", "elu", "elu_", "gelu", "glu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh",
           "hardtanh_", "leaky_relu", "leaky_relu_", "logsigmoid", "mish", "prelu", "relu", "relu6", "relu_", "selu",
           "selu_", "sigmoid", "sigmoid_", "silu", "softplus", "softshrink", "softsign", "tanh", "tanh_",
           "tanhshrink", "threshold", "threshold_"]


# --- bent lines ---
@method
def relu(input, inplace=False):
    """max(0, x), elementwise; the derivative at 0 is 0 and NaN stays NaN.

    Shape: any. Integers stay integers. Raises TypeError for bool. (Nair and Hinton, 2010.)
    """
    if _is_integer(input):
        return _stored(input, array_module(input.array).maximum(input.array, 0), inplace)
    return _apply("relu", ReLU(), input, inplace)


@method
def relu_(input):
    """In-place `relu`."""
    return relu(input, inplace=True)


def relu6(input, inplace=False):
    """min(max(0, x), 6), elementwise; the derivative at 0 and at 6 is 0.

    Shape: any. Integers stay integers. Raises TypeError for bool. (Krizhevsky, 2010.)
    """
    return _clamp("relu6", input, 0.0, 6.0, inplace)


def leaky_relu(input, negative_slope=0.01, inplace=False):
    """x where x > 0, negative_slope * x elsewhere; the derivative at 0 is negative_slope.

    Shape: any. Raises TypeError for a dtype that is not floating-point. (Maas et al., 2013.)
    """
    _numbers("leaky_relu", input, negative_slope=negative_slope)
    return _apply("leaky_relu", LeakyReLU(negative_slope), input, inplace)


def leaky_relu_(input, negative_slope=0.01):
    """In-place `leaky_relu`."""
    return leaky_relu(input, negative_slope, inplace=True)


@method
def prelu(input, weight):
    """x where x > 0, weight[channel] * x elsewhere, with a learned weight; the derivative at 0 is the weight.

    Shapes: input (N, C, ...) with weight (C,), or any input with one weight, (1,) or (). Raises ValueError for other
    shapes, TypeError for dtypes that differ or are not floating-point. (He et al., 2015.)
    """
    floating("prelu", weight=weight)
    floating("prelu", input=input, weight=weight)
    expect(weight.ndim <= 1, "prelu", "weight to be 0-d or 1-d", weight=weight)
    if weight.array.size != 1:
        expect(input.ndim > 1 and weight.shape[0] == input.shape[1], "prelu",
               "weight to have one element, or one per channel of input (dimension 1)", weight=weight, input=input)
    return PReLU()(input, weight)


def hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    """min(max(min_val, x), max_val), elementwise; the derivative at both bounds is 0.

    Shape: any. Integers stay integers, and the bounds lose their fractions. Raises ValueError unless
    min_val <= max_val, TypeError for bool.
    """
    return _clamp("hardtanh", input, min_val, max_val, inplace)


def hardtanh_(input, min_val=-1.0, max_val=1.0):
    """In-place `hardtanh`."""
    return hardtanh(input, min_val, max_val, inplace=True)


def hardsigmoid(input, inplace=False):
    """relu6(x + 3) / 6, elementwise; the derivative at -3 and at 3 is 0.

    Shape: any. Raises TypeError for a dtype that is not floating-point.
    """
    return _apply("hardsigmoid", Hardsigmoid(), input, inplace)


def hardswish(input, inplace=False):
    """x relu6(x + 3) / 6, elementwise; the derivative at -3 is 0, at 3 it is 1.

    Shape: any. Raises TypeError for a dtype that is not floating-point. (Howard et al., 2019.)
    """
    return _apply("hardswish", Hardswish(), input, inplace)


def threshold(input, threshold, value, inplace=False):
    """x where x > threshold, value elsewhere; the derivative at the threshold is 0 and NaN stays NaN.

    Shape: any. Integers stay integers, and threshold and value lose their fractions. Raises TypeError for bool.
    """
    return _threshold(input, threshold, value, inplace)


def threshold_(input, threshold, value):
    """In-place `threshold`."""
    return _threshold(input, threshold, value, inplace=True)


def softshrink(input, lambd=0.5):
    """x - lambd where x > lambd, x + lambd where x < -lambd, 0 between; the derivative at both bounds is 0.

    Shape: any. Raises ValueError unless lambd >= 0, TypeError for a dtype that is not floating-point.
    """
    _numbers("softshrink", input, lambd=lambd)
    expect(lambd >= 0, "softshrink", "lambd >= 0", lambd=lambd)
    return _apply("softshrink", Softshrink(lambd), input)


@method
def hardshrink(input, lambd=0.5):
    """x where |x| > lambd, 0 elsewhere; the derivative at both bounds is 0.

    Shape: any. Raises TypeError for a dtype that is not floating-point.
    """
    _numbers("hardshrink", input, lambd=lambd)
    return _apply("hardshrink", Hardshrink(lambd), input)


# --- exponentials ---
def elu(input, alpha=1.0, inplace=False):
    """x where x > 0, alpha (e^x - 1) elsewhere; the derivative at 0 is alpha.

    Shape: any. Raises TypeError for a dtype that is not floating-point. (Clevert et al., 2015.)
    """
    _numbers("elu", input, alpha=alpha)
    return _apply("elu", ELU(alpha, 1.0, 1.0), input, inplace)


def elu_(input, alpha=1.0):
    """In-place `elu`."""
    return elu(input, alpha, inplace=True)


def selu(input, inplace=False):
    """1.0507 elu(x, 1.6733): the constants that keep mean 0 and variance 1 from layer to layer.

    Shape: any. Raises TypeError for a dtype that is not floating-point. (Klambauer et al., 2017.)
    """
    return _apply("selu", ELU(1.6732632423543772848, 1.0507009873554804934, 1.0), input, inplace)


def selu_(input):
    """In-place `selu`."""
    return selu(input, inplace=True)


def celu(input, alpha=1.0, inplace=False):
    """x where x > 0, alpha (e^(x / alpha) - 1) elsewhere; the derivative at 0 is 1.

    Shape: any. Raises ValueError for alpha = 0, TypeError for a dtype that is not floating-point. (Barron, 2017.)
    """
    _numbers("celu", input, alpha=alpha)
    expect(alpha != 0, "celu", "alpha != 0", alpha=alpha)
    _numbers("celu", input, **{"1 / alpha": 1 / alpha})
    return _apply("celu", ELU(alpha, 1.0, 1 / alpha), input, inplace)


def celu_(input, alpha=1.0):
    """In-place `celu`."""
    return celu(input, alpha, inplace=True)


@method
def sigmoid(input):
    """1 / (1 + e^-x), elementwise.

    Shape: any. Integers and bool become the default floating-point dtype.
    """
    return _apply("sigmoid", Sigmoid(), _promoted(input))


@method
def sigmoid_(input):
    """In-place `sigmoid`. Raises RuntimeError for integers and bool."""
    return assign_(input, sigmoid(input))


def logsigmoid(input):
    """log(1 / (1 + e^-x)) = min(x, 0) - log(1 + e^-|x|), elementwise.

    Shape: any. Raises TypeError for a dtype that is not floating-point.
    """
    return _apply("logsigmoid", LogSigmoid(), input)


def softplus(input, beta=1, threshold=20):
    """log(1 + e^(beta x)) / beta, and x itself where beta x > threshold.

    Shape: any. Raises TypeError for a dtype that is not floating-point. (Dugas et al., 2001.)
    """
    _numbers("softplus", input, beta=beta, threshold=threshold)
    return _apply("softplus", Softplus(beta, threshold), input)


def softsign(input):
    """x / (1 + |x|), elementwise.

    Shape: any. Integers become the default floating-point dtype. Raises TypeError for bool. (Bergstra et al., 2009.)
    """
    return _apply("softsign", Softsign(), _promoted(input) if _is_integer(input) else input)


@method
def tanh(input):
    """(e^x - e^-x) / (e^x + e^-x), elementwise.

    Shape: any. Integers and bool become the default floating-point dtype.
    """
    return _apply("tanh", Tanh(), _promoted(input))


@method
def tanh_(input):
    """In-place `tanh`. Raises RuntimeError for integers and bool."""
    return assign_(input, tanh(input))


def tanhshrink(input):
    """x - tanh(x), elementwise.

    Shape: any. Integers become the default floating-point dtype. Raises TypeError for bool.
    """
    return _apply("tanhshrink", Tanhshrink(), _promoted(input) if _is_integer(input) else input)


# --- x times a gate ---
def gelu(input, approximate="none"):
    """x Phi(x) with the normal distribution function Phi, or x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).

    Shape: any. `approximate` is 'none' or 'tanh'. Raises ValueError for others, TypeError for a dtype that is not
    floating-point. (Hendrycks and Gimpel, 2016.)
    """
    expect(approximate in ("none", "tanh"), "gelu", "approximate to be 'none' or 'tanh'", approximate=approximate)
    return _apply("gelu", GELU() if approximate == "none" else GELUTanh(), input)


def silu(input, inplace=False):
    """x sigmoid(x), elementwise.

    Shape: any. Raises TypeError for a dtype that is not floating-point. (Elfwing et al., 2017.)
    """
    return _apply("silu", SiLU(), input, inplace)


def mish(input, inplace=False):
    """x tanh(log(1 + e^x)), elementwise.

    Shape: any. Raises TypeError for a dtype that is not floating-point. (Misra, 2019.)
    """
    return _apply("mish", Mish(), input, inplace)


def glu(input, dim=-1):
    """a sigmoid(b), where a and b are the halves of input along dim.

    Shapes: (..., 2n, ...) gives (..., n, ...). Raises ValueError for an odd length or a 0-d input, IndexError for a
    dim out of range, TypeError for a dtype that is not floating-point. (Dauphin et al., 2016.)
    """
    floating("glu", input=input)
    dim = dimension("glu", dim, input.ndim)
    expect(input.ndim > 0 and input.shape[dim] % 2 == 0, "glu", "an even length along dim", input=input, dim=dim)
    return GLU(dim)(input)


# --- arguments ---
def _apply(op, function, input, inplace=False):
    if not (isinstance(input, Tensor) and input.array.dtype in types.FLOATS):
        floating(op, input=input)
    y = function(input)
    return assign_(input, y) if inplace else y


def _clamp(op, input, low, high, inplace):
    """hardtanh, under the name of the function that was called."""
    _numbers(op, input, min_val=low, max_val=high)
    expect(low <= high, op, "min_val <= max_val", min_val=low, max_val=high)
    if _is_integer(input):
        low, high = _integers(op, input, min_val=low, max_val=high)
        return _stored(input, input.array.clip(low, high), inplace)
    return _apply(op, Hardtanh(low, high), input, inplace)


def _threshold(input, threshold, value, inplace):
    _numbers("threshold", input, threshold=threshold, value=value)
    if _is_integer(input):
        threshold, value = _integers("threshold", input, threshold=threshold, value=value)
        x = input.array
        return _stored(input, array_module(x).where(x <= threshold, x.dtype.type(value), x), inplace)
    return _apply("threshold", Threshold(threshold, value), input, inplace)


def _numbers(op, input, **values):
    """Check that all are numbers, and not larger than the input's arithmetic allows. Raises TypeError, ValueError."""
    for name, value in values.items():
        if type(value) is float and -1e38 < value < 1e38:
            continue
        expect_type(isinstance(value, (int, float, np.number, np.bool_)), op, f"{name} to be a number", **{name: value})
        dtype = types.float64 if getattr(input, "dtype", None) == types.float64 else types.float32
        expect(not math.isfinite(value) or abs(value) <= float(np.finfo(dtype).max), op,
               f"{name} to fit into {dtype}", **{name: value})


def _is_integer(input):
    return isinstance(input, Tensor) and input.array.dtype.kind in "iu"


def _integers(op, input, **values):
    """The values without their fractions, for a tensor of integers. Raises ValueError for one that does not fit."""
    info = np.iinfo(input.dtype)
    for name, value in values.items():
        expect(math.isfinite(value) and info.min <= math.trunc(value) <= info.max, op,
               f"{name} to fit into {input.dtype}", **{name: value})
    return [math.trunc(value) for value in values.values()]


def _stored(input, array, inplace):
    return assign_(input, Tensor(array)) if inplace else Tensor(array)


def _promoted(input):
    """Floating-point tensors as they are, others in the default floating-point dtype."""
    if isinstance(input, Tensor) and input.dtype not in types.FLOATS:
        return Tensor(input.array.astype(types.get_default_dtype()))
    return input


# --- Functions ---
class Activation(Function):
    """y = f(x; parameters), gx = f'(saved; parameters) gy, by the kernels `<stem>_forward` and `<stem>_backward`."""
    forward_kernel = backward_kernel = saves = backward_takes = None

    def __init__(self, *parameters):
        self.parameters = parameters

    def forward(self, x):
        x = dense(x)
        y = self.k.xp.empty_like(x)
        getattr(self.k, self.forward_kernel)(x, y, *self.parameters)
        self.saved = x if self.saves == "x" else y
        return y

    def backward(self, gy, wanted):
        gx = self.k.xp.empty_like(self.saved)
        parameters = self.parameters[:self.backward_takes]
        getattr(self.k, self.backward_kernel)(self.saved, like(gy, self.saved), gx, *parameters)
        return gx


def _activation(name, stem, saves="x", backward_takes=None):
    return type(name, (Activation,), {"forward_kernel": f"{stem}_forward", "backward_kernel": f"{stem}_backward",
                                      "saves": saves, "backward_takes": backward_takes})


ReLU = _activation("ReLU", "relu", saves="y")
LeakyReLU = _activation("LeakyReLU", "leaky_relu")
Hardtanh = _activation("Hardtanh", "hardtanh")
Hardsigmoid = _activation("Hardsigmoid", "hardsigmoid")
Hardswish = _activation("Hardswish", "hardswish")
Threshold = _activation("Threshold", "threshold", backward_takes=1)
Softshrink = _activation("Softshrink", "softshrink")
Hardshrink = _activation("Hardshrink", "hardshrink")
ELU = _activation("ELU", "elu")
Sigmoid = _activation("Sigmoid", "sigmoid", saves="y")
LogSigmoid = _activation("LogSigmoid", "logsigmoid")
Softplus = _activation("Softplus", "softplus")
Softsign = _activation("Softsign", "softsign")
Tanh = _activation("Tanh", "tanh", saves="y")
Tanhshrink = _activation("Tanhshrink", "tanhshrink")
GELU = _activation("GELU", "gelu")
GELUTanh = _activation("GELUTanh", "gelu_tanh")
SiLU = _activation("SiLU", "silu")
Mish = _activation("Mish", "mish")


class PReLU(Function):
    """y = x or w x by the sign of x; gx = gy or w gy; gw = sum of x gy where x <= 0, per channel."""

    def forward(self, x, weight):
        self.x, self.weight = dense(x), dense(weight)
        y = self.k.xp.empty_like(self.x)
        self.k.prelu_forward(self._by_channel(self.x), self.weight.reshape(-1), self._by_channel(y))
        return y

    def backward(self, gy, wanted):
        x, gx, gw = self._by_channel(self.x), None, None
        gy = self._by_channel(like(gy, self.x))
        if wanted[0]:
            gx = self.k.xp.empty_like(self.x)
            self.k.prelu_backward_x(x, self.weight.reshape(-1), gy, self._by_channel(gx))
        if wanted[1]:
            gw = self.k.xp.empty_like(self.weight)
            self.k.prelu_backward_w(x, gy, gw.reshape(-1))
        return gx, gw

    def _by_channel(self, array):
        """A view of a dense array as (outer, weights, inner)."""
        last, channels = is_channels_last(array), self.weight.size
        if last:
            array = channels_to_end(array)
        if channels == 1:
            return array.reshape(1, 1, -1)
        return array.reshape((-1, channels, 1) if last else (len(array), channels, math.prod(array.shape[2:])))


class GLU(Function):
    """y = a s, ga = s gy, gb = a s (1 - s) gy with s = sigmoid(b)."""

    def __init__(self, dim):
        self.dim = dim

    def forward(self, x):
        self.saved = x = self.k.xp.ascontiguousarray(x)
        shape, half = x.shape, x.shape[self.dim] // 2
        y = self.k.empty((*shape[:self.dim], half, *shape[self.dim + 1:]), x.dtype)
        self.outer, self.inner = math.prod(shape[:self.dim]), half * math.prod(shape[self.dim + 1:])
        self.k.glu_forward(x.reshape(self.outer, 2, self.inner), y.reshape(self.outer, self.inner))
        return y

    def backward(self, gy, wanted):
        x, gy = self.saved, self.k.xp.ascontiguousarray(gy)
        gx = self.k.xp.empty_like(x)
        halves = (self.outer, 2, self.inner)
        self.k.glu_backward(x.reshape(halves), gy.reshape(self.outer, self.inner), gx.reshape(halves))
        return gx
