"""Activations: elementwise y = f(x), gx = f'(x) gy.

An activation is a public function with its formula, and one line naming its Function: the kernel's stem, what is
saved for backward (x, or y where f' is cheaper from it), and the parameters that backward needs besides.
"""
from kdl.autograd import Function
from kdl.ops.common import assign_, dense, floating, like
from kdl.tensor import method

__all__ = ["leaky_relu", "leaky_relu_", "relu", "relu_"]


@method
def relu(input, inplace=False):
    """max(0, x), elementwise; the derivative at 0 is 0 and NaN stays NaN.

    Shape: any. Raises TypeError for a dtype that is not floating-point. (Nair and Hinton, 2010.)
    """
    return _apply(ReLU(), input, inplace)


@method
def relu_(input):
    """In-place `relu`."""
    return relu(input, inplace=True)


@method
def leaky_relu(input, negative_slope=0.01, inplace=False):
    """x where x > 0, negative_slope * x elsewhere; the derivative at 0 is negative_slope.

    Shape: any. Raises TypeError for a dtype that is not floating-point. (Maas et al., 2013.)
    """
    return _apply(LeakyReLU(negative_slope), input, inplace)


def leaky_relu_(input, negative_slope=0.01):
    """In-place `leaky_relu`."""
    return leaky_relu(input, negative_slope, inplace=True)


def _apply(function, input, inplace=False):
    floating(function.stem, input=input)
    y = function(input)
    return assign_(input, y) if inplace else y


class Activation(Function):
    """y = f(x; parameters), gx = f'(saved; parameters) gy, by the kernels `<stem>_forward` and `<stem>_backward`."""
    stem = None
    saves = "x"

    def __init__(self, *parameters):
        self.parameters = parameters

    def forward(self, x):
        x = dense(x)
        y = self.k.xp.empty_like(x)
        getattr(self.k, f"{self.stem}_forward")(x, y, *self.parameters)
        self.saved = x if self.saves == "x" else y
        return y

    def backward(self, gy, wanted):
        gx = self.k.xp.empty_like(self.saved)
        getattr(self.k, f"{self.stem}_backward")(self.saved, like(gy, self.saved), gx, *self.parameters)
        return gx


class ReLU(Activation):
    stem, saves = "relu", "y"


class LeakyReLU(Activation):
    stem = "leaky_relu"
