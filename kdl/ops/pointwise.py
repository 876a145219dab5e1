"""How an elementwise function is written: its value, and one derivative per operand.

    atan2 = pointwise("atan2", "The angle of the point (other, input).",
                      lambda xp, x, y: xp.arctan2(x, y),
                      lambda xp, g, x, y: g * y / (x * x + y * y),
                      lambda xp, g, x, y: g * -x / (x * x + y * y), integers="float")

A row gets arrays of one dtype (or Python numbers) that broadcast, and `xp`, NumPy or CuPy. A derivative gets the
gradient of the result and the operands; with `saves="y"` the result instead of them, with `saves="xy"` both.

Before that, operands are promoted as in torch, by recorded casts. float16 and bfloat16 are computed in float32.
Integers stay integers ("keep"), become the default floating-point dtype ("float") or are refused ("refuse"). Booleans
stay booleans ("keep"), may only meet integers or floats that promote them ("promote") or are refused ("refuse").
No function warns about overflow or invalid values: they are inf and NaN, as IEEE 754 says.
"""
import numpy as np

from kdl import kernels, types
from kdl.autograd import Function, is_grad_enabled
from kdl.autograd.autocast import active, widens
from kdl.autograd.quiet import quiet
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, assign_, unbroadcast
from kdl.tensor import Tensor, method

NATIVE = frozenset((types.float32, types.float64))  # computed as they are


# --- rows ---
class Pointwise(Function):
    """z = f(x, ...); the gradient of each operand is the row's derivative, summed to the operand's shape."""
    value, derivatives, saves = None, (), "x"


    def forward(self, *operands):
        z = self.value(self.k.xp, *operands)
        self.saved = operands if self.saves == "x" else (z,) if self.saves == "y" else (*operands, z)
        return z

    def backward(self, gz, wanted):
        xp, saved = self.k.xp, self.saved
        if len(wanted) == 1:
            return self.derivatives[0](xp, gz, *saved)
        return tuple([unbroadcast(derivative(xp, gz, *saved), saved[i].shape) if wanted[i] else None
                      for i, derivative in enumerate(self.derivatives)])


def row(name, value, *derivatives, saves="x"):
    """The Function of a row."""
    return type("".join(part.capitalize() for part in name.split("_")), (Pointwise,),
                {"value": staticmethod(value), "derivatives": derivatives, "saves": saves})


def pointwise(name, doc, value, *derivatives, saves="x", integers="keep", booleans="keep", aliases=(), inplace=True):
    """The public function of a row of one or two operands, made a Tensor method, with its in-place form."""
    function = row(name, value, *derivatives, saves=saves)
    rule = Rule(name, integers, booleans)

    if len(derivatives) == 1:
        def public(input):
            array_of(name, input)
            return apply(function, rule, input)
    else:
        def public(input, other):
            return apply(function, rule, input, other)
    return publish(public, name, doc, aliases, inplace)


def undifferentiable(xp, g, *saved):
    """The derivative of a function that has none. Raises RuntimeError."""
    raise RuntimeError("backward: this function has no derivative; detach its operands")


def zero(xp, g, *saved):
    """The derivative of a function with steps."""
    return xp.zeros_like(g)


def publish(function, name, doc=None, aliases=(), inplace=True):
    """Name a function, and bind it and its in-place form as Tensor methods."""
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc or function.__doc__
    method(names=(name, *aliases))(function)
    if inplace:
        method(names=[f"{n}_" for n in (name, *aliases)])(in_place(function))
    return function


def in_place(function):
    """The in-place form of a function: the same, written into its first argument."""
    def form(input, *args, **kwargs):
        return assign_(input, function(input, *args, **kwargs))
    form.__name__ = form.__qualname__ = f"{function.__name__}_"
    form.__doc__ = f"In-place `{function.__name__}`."
    return form


# --- operands ---
class Rule:
    """What an operation does with integers and booleans."""
    __slots__ = ("booleans", "integers", "op")

    def __init__(self, op, integers="keep", booleans="keep"):
        self.op, self.integers, self.booleans = op, integers, booleans

    def dtype(self, operands):
        """The dtype to compute in. Raises TypeError for operands that the rule refuses."""
        dtype = types.result_type(*operands)
        if self.booleans != "keep":
            refused = dtype == types.boolean or (self.booleans == "refuse" and any(
                isinstance(x, bool) or getattr(x, "dtype", None) == types.boolean for x in operands))
            expect_type(not refused, self.op, "operands that are not boolean", dtypes=dtypes(operands))
        if types.category(dtype) == 2 or self.integers == "keep":
            return dtype
        expect_type(self.integers == "float", self.op, "floating-point operands", dtypes=dtypes(operands))
        return types.get_default_dtype()


def apply(function, rule, *operands):
    """function()(*operands): at once for tensors of one native dtype and Python numbers, else with promotion."""
    dtype = None
    for x in operands:
        if isinstance(x, Tensor):
            mine = x.array.dtype
            if mine != dtype and (dtype is not None or mine not in NATIVE):
                break
            dtype = mine
        elif type(x) is not float and type(x) is not int and x is not None:
            break
    else:
        if dtype is not None:
            try:
                return function()(*operands)
            except ValueError:
                check_broadcast(rule.op, *operands)
                raise
    return _promoted(function, rule, operands)


def _promoted(function, rule, operands):
    """`apply` with the operands cast to one dtype and the result rounded to it. Raises TypeError, ValueError."""
    operands = [operand(rule.op, x) for x in operands]
    expect_type(any(isinstance(x, Tensor) for x in operands), rule.op, "at least one tensor", operands=operands)
    dtype = rule.dtype([x for x in operands if x is not None])
    compute = types.float32 if dtype in types.HALVES else dtype
    check_broadcast(rule.op, *operands)
    z = function()(*[cast(x, compute) for x in operands])
    return z if compute == dtype or (active and widens(rule.op, z)) else z.to(dtype)


def operand(op, value):
    """A tensor, number or None as it is, an array as a tensor, a NumPy scalar as a Python number. Raises TypeError."""
    if isinstance(value, np.generic):
        types.as_dtype(value.dtype)
        return value.item() if value.dtype != types.bfloat16 else float(value)
    if value is None or isinstance(value, (Tensor, bool, int, float)):
        return value
    expect_type(is_operand(value), op, "tensors, arrays or real numbers", operand=type(value).__name__)
    types.as_dtype(value.dtype)
    return Tensor(value)


def is_operand(value):
    """Whether arithmetic with this value is ours to try."""
    return isinstance(value, (Tensor, bool, int, float, np.ndarray, np.generic)) or hasattr(
        value, "__cuda_array_interface__")


def cast(value, dtype):
    """A tensor of that dtype, or a number that arrays of that dtype take; integers wrap around, as in C."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        return value if value.array.dtype == dtype else value.to(dtype)
    if dtype in types.FLOATS:
        return float(value)
    if dtype == types.boolean:
        return bool(value)
    limits = np.iinfo(dtype)
    return (int(value) - limits.min) % (1 << limits.bits) + limits.min


def dtypes(operands):
    """The dtypes of the operands in words, for an error."""
    return " and ".join(str(x.dtype) if isinstance(x, Tensor) else type(x).__name__ for x in operands)


def check_broadcast(op, *operands):
    """Raise ValueError unless the shapes of the operands broadcast."""
    shapes = [x.array.shape for x in operands if isinstance(x, Tensor)]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        expect(False, op, "shapes that broadcast", shapes=" and ".join(map(str, shapes)))


# --- in place ---
def untracked(input, other=None):
    """Whether a change of `input` by `other` may simply be written: nothing of it is to be recorded."""
    return not (is_grad_enabled() and (input.requires_grad or getattr(other, "requires_grad", False)))


def written(input, other, ufunc, scale=1):
    """Write input = ufunc(input, scale other) into its memory; False where recording or promotion forbids it."""
    array = input.array
    if array.dtype not in NATIVE or type(scale) not in (int, float) or not untracked(input, other):
        return False
    if isinstance(other, Tensor):
        other = other.array
        if other.dtype != array.dtype or other.shape != array.shape:
            return False
    elif type(other) not in (int, float):
        return False
    _write(getattr(kernels.of(array, other).xp, ufunc), array, other if scale == 1 else other * scale)
    input.version[0] += 1
    return True


@quiet
def _write(ufunc, array, other):
    ufunc(array, other, out=array)
