"""Functions that draw random numbers and are differentiated for what was drawn: rrelu, gumbel_softmax.

rrelu: y = x where x > 0, a x elsewhere, a uniform in [lower, upper) for every such element, their mean in evaluation.
gumbel_softmax: y = softmax((x + g) / tau), g = -log e, e exponentially distributed: where x + g is largest is drawn
from softmax(x). With `hard` y is that draw as a one-hot vector, and the gradient still that of the softmax.
(Xu et al., 2015; Jang et al. and Maddison et al., 2017.)
"""
import math
import warnings

from kdl import types
from kdl.errors import expect
from kdl.ops.activation import leaky_relu
from kdl.ops.common import assign_, dimension, floating
from kdl.ops.select import scatter
from kdl.ops.softmax import softmax

__all__ = ["gumbel_softmax", "rrelu", "rrelu_"]


def rrelu(input, lower=1 / 8, upper=1 / 3, training=False, inplace=False):
    """x where x > 0, elsewhere a x with a random slope a between lower and upper, in evaluation with their mean.

    Shape: any. Raises ValueError unless lower <= upper and both are finite, TypeError unless floating-point.
    """
    floating("rrelu", input=input)
    expect(math.isfinite(lower) and math.isfinite(upper) and lower <= upper, "rrelu", "finite lower <= upper",
           lower=lower, upper=upper)
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    x = input.detach()
    below, slope = x <= 0, x.new_ones(x.shape)
    slope[below] = x.new_empty(int(below.sum()), dtype=types.float64).uniform_(lower, upper).to(x.dtype)
    y = input * slope
    return assign_(input, y) if inplace else y


def rrelu_(input, lower=1 / 8, upper=1 / 3, training=False):
    """In-place `rrelu`."""
    return rrelu(input, lower, upper, training, True)


def gumbel_softmax(logits, tau=1, hard=False, eps=1e-10, dim=-1):
    """A random point of the simplex along `dim`, the nearer to a corner the lower tau; with `hard` the corner itself.

    Shape: any. `eps` has no effect. Raises IndexError for dim, TypeError unless floating-point.
    """
    floating("gumbel_softmax", logits=logits)
    dim = dimension("gumbel_softmax", dim, logits.ndim)
    if eps != 1e-10:
        warnings.warn("gumbel_softmax: eps has no effect", stacklevel=2)
    drawn = logits.detach().new_empty(logits.shape, dtype=types.promote_types(logits.dtype, types.float32))
    noise = -drawn.exponential_().clamp_min(1e-38).log()  # not 0, whose logarithm is infinite
    soft = softmax((logits + noise.to(logits.dtype)) / tau, dim)
    if not hard:
        return soft
    corner = scatter(soft.detach().new_zeros(soft.shape), dim, soft.detach().argmax(dim, True), value=1.0)
    return corner - soft.detach() + soft
