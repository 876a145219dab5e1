"""Activations as layers: what they compute stands in kdl/ops/activation.py."""
from kdl.errors import expect
from kdl.nn import functional as F
from kdl.nn.init import constant_
from kdl.nn.module import Module
from kdl.nn.parameter import new_parameter

__all__ = ["CELU", "ELU", "GELU", "GLU", "SELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU",
           "LogSigmoid", "Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SiLU", "Sigmoid", "Softplus", "Softshrink",
           "Softsign", "Tanh", "Tanhshrink", "Threshold"]


class _Activation(Module):
    """The attributes named in `shown` stand in repr, and inplace=True where it is."""
    shown = ()
    inplace = False

    def extra_repr(self):
        parts = [f"{name}={getattr(self, name)!r}" for name in self.shown]
        return ", ".join(parts + ["inplace=True"] * bool(self.inplace))


class _InPlace(_Activation):
    """An activation whose only argument is `inplace`."""

    def __init__(self, inplace=False):
        super().__init__()
        self.inplace = inplace


class ReLU(_InPlace):
    """F.relu: max(0, x)."""

    def forward(self, input):
        return F.relu(input, self.inplace)


class ReLU6(_InPlace):
    """F.relu6: x between 0 and 6."""

    def forward(self, input):
        return F.relu6(input, self.inplace)


class SELU(_InPlace):
    """F.selu: ELU scaled so that mean 0 and variance 1 are kept."""

    def forward(self, input):
        return F.selu(input, self.inplace)


class SiLU(_InPlace):
    """F.silu: x sigmoid(x)."""

    def forward(self, input):
        return F.silu(input, self.inplace)


class Mish(_InPlace):
    """F.mish: x tanh(softplus(x))."""

    def forward(self, input):
        return F.mish(input, self.inplace)


class Hardsigmoid(_InPlace):
    """F.hardsigmoid: x / 6 + 1/2 between 0 and 1."""

    def forward(self, input):
        return F.hardsigmoid(input, self.inplace)


class Hardswish(_InPlace):
    """F.hardswish: x hardsigmoid(x)."""

    def forward(self, input):
        return F.hardswish(input, self.inplace)


class Sigmoid(_Activation):
    """F.sigmoid: 1 / (1 + exp(-x))."""

    def forward(self, input):
        return F.sigmoid(input)


class LogSigmoid(_Activation):
    """F.logsigmoid: log(sigmoid(x))."""

    def forward(self, input):
        return F.logsigmoid(input)


class Tanh(_Activation):
    """F.tanh."""

    def forward(self, input):
        return F.tanh(input)


class Tanhshrink(_Activation):
    """F.tanhshrink: x - tanh(x)."""

    def forward(self, input):
        return F.tanhshrink(input)


class Softsign(_Activation):
    """F.softsign: x / (1 + |x|)."""

    def forward(self, input):
        return F.softsign(input)


class Threshold(_Activation):
    """F.threshold: x where x > threshold, value elsewhere."""
    shown = ("threshold", "value")

    def __init__(self, threshold, value, inplace=False):
        super().__init__()
        self.threshold, self.value, self.inplace = threshold, value, inplace

    def forward(self, input):
        return F.threshold(input, self.threshold, self.value, self.inplace)


class LeakyReLU(_Activation):
    """F.leaky_relu: negative_slope x below 0."""
    shown = ("negative_slope",)

    def __init__(self, negative_slope=0.01, inplace=False):
        super().__init__()
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, input):
        return F.leaky_relu(input, self.negative_slope, self.inplace)


class PReLU(_Activation):
    """F.prelu with a learned slope below 0: one, or one per channel."""
    shown = ("num_parameters",)

    def __init__(self, num_parameters=1, init=0.25, device=None, dtype=None):
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = new_parameter(num_parameters, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self):
        """Set the slopes to their first value."""
        constant_(self.weight, self.init)

    def forward(self, input):
        return F.prelu(input, self.weight)


class RReLU(_Activation):
    """F.rrelu: a random slope below 0 in training, the mean slope in evaluation."""

    def __init__(self, lower=1 / 8, upper=1 / 3, inplace=False):
        super().__init__()
        self.lower, self.upper, self.inplace = lower, upper, inplace

    def forward(self, input):
        return F.rrelu(input, self.lower, self.upper, self.training, self.inplace)

    def extra_repr(self):
        return f"lower={self.lower}, upper={self.upper}" + ", inplace=True" * bool(self.inplace)


class ELU(_Activation):
    """F.elu: alpha (exp(x) - 1) below 0."""
    shown = ("alpha",)

    def __init__(self, alpha=1.0, inplace=False):
        super().__init__()
        self.alpha, self.inplace = alpha, inplace

    def forward(self, input):
        return F.elu(input, self.alpha, self.inplace)


class CELU(_Activation):
    """F.celu: alpha (exp(x / alpha) - 1) below 0."""
    shown = ("alpha",)

    def __init__(self, alpha=1.0, inplace=False):
        super().__init__()
        self.alpha, self.inplace = alpha, inplace

    def forward(self, input):
        return F.celu(input, self.alpha, self.inplace)


class GELU(_Activation):
    """F.gelu: x times the normal distribution function of x, exact or by "tanh"."""
    shown = ("approximate",)

    def __init__(self, approximate="none"):
        super().__init__()
        self.approximate = approximate

    def forward(self, input):
        return F.gelu(input, approximate=self.approximate)


class GLU(_Activation):
    """F.glu: one half of a dimension times the sigmoid of the other."""
    shown = ("dim",)

    def __init__(self, dim=-1):
        super().__init__()
        self.dim = dim

    def forward(self, input):
        return F.glu(input, self.dim)


class Hardtanh(_Activation):
    """F.hardtanh: x between min_val and max_val. Raises ValueError unless min_val < max_val."""
    shown = ("min_val", "max_val")

    def __init__(self, min_val=-1.0, max_val=1.0, inplace=False):
        super().__init__()
        expect(min_val < max_val, "Hardtanh", "min_val < max_val", min_val=min_val, max_val=max_val)
        self.min_val, self.max_val, self.inplace = min_val, max_val, inplace

    def forward(self, input):
        return F.hardtanh(input, self.min_val, self.max_val, self.inplace)


class Softplus(_Activation):
    """F.softplus: log(1 + exp(beta x)) / beta; x itself where beta x is above the threshold."""
    shown = ("beta", "threshold")

    def __init__(self, beta=1.0, threshold=20.0):
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def forward(self, input):
        return F.softplus(input, self.beta, self.threshold)


class _Shrink(_Activation):

    def __init__(self, lambd=0.5):
        super().__init__()
        self.lambd = lambd

    def extra_repr(self):
        return str(self.lambd)


class Softshrink(_Shrink):
    """F.softshrink: x moved towards 0 by lambd, 0 where it would pass."""

    def forward(self, input):
        return F.softshrink(input, self.lambd)


class Hardshrink(_Shrink):
    """F.hardshrink: 0 where |x| <= lambd."""

    def forward(self, input):
        return F.hardshrink(input, self.lambd)
