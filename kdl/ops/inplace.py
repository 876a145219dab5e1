"""The in-place methods of tensors that torch has as functions too: `kdl.exp_(x)` is `x.exp_()`."""
from kdl.ops import compare, contract, convert, elementwise, maths, place, special  # noqa: F401  they bind the methods
from kdl.tensor import Tensor

__all__ = [
    f"{name}_" for name in (
        "abs", "acos", "acosh", "addmv", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh", "asin",
        "asinh", "atan", "atanh", "ceil", "clamp", "clamp_max", "clamp_min", "clip", "cos", "cosh", "deg2rad",
        "detach", "erf", "erfc", "exp", "exp2", "expm1", "fill", "fix", "floor", "frac", "gcd", "index_put", "lcm",
        "log", "log10", "log1p", "log2", "logit", "nan_to_num", "neg", "negative", "rad2deg", "reciprocal", "round",
        "rsqrt", "sin", "sinc", "sinh", "sqrt", "square", "tan", "trunc", "xlogy", "zero")]

globals().update({name: getattr(Tensor, name) for name in __all__})
