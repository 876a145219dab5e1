"""Data types, type promotion, memory formats and devices, under torch's names.

A dtype is a plain NumPy dtype, so `x.dtype == kdl.float32` and `x.dtype == np.float32` say the same thing.
"""
from dataclasses import dataclass
from functools import cache

import ml_dtypes
import numpy as np

float16 = np.dtype(np.float16)
bfloat16 = np.dtype(ml_dtypes.bfloat16)
float32 = np.dtype(np.float32)
float64 = np.dtype(np.float64)
uint8 = np.dtype(np.uint8)
int8 = np.dtype(np.int8)
int16 = np.dtype(np.int16)
int32 = np.dtype(np.int32)
int64 = np.dtype(np.int64)
boolean = np.dtype(np.bool_)

HALVES = (float16, bfloat16)
FLOATS = {float16, bfloat16, float32, float64}
_INTEGERS = {uint8, int8, int16, int32, int64}
_default_dtype = float32


def get_default_dtype():
    """The floating-point dtype that Python floats and creation functions get; float32 unless changed."""
    return _default_dtype


def set_default_dtype(dtype):
    """Choose the floating-point dtype of Python floats and creation functions. Raises TypeError for other kinds."""
    global _default_dtype
    dtype = as_dtype(dtype)
    if dtype not in FLOATS:
        raise TypeError(f"set_default_dtype: expected a floating-point dtype, got {dtype}")
    _default_dtype = dtype


@cache
def _checked(dtype):
    dtype = np.dtype(dtype)
    if dtype not in FLOATS and dtype not in _INTEGERS and dtype != boolean:
        raise TypeError(f"dtype: expected one of float16, bfloat16, float32, float64, uint8, int8, int16, int32, "
                        f"int64, bool, got {dtype}")
    return dtype


def as_dtype(dtype):
    """The dtype object for a dtype, a NumPy scalar type, a Python type or a name. Raises TypeError for others."""
    if dtype is float:
        return _default_dtype
    if dtype is int:
        return int64
    try:
        return _checked(dtype)
    except TypeError as error:
        if "expected one of" in str(error):
            raise
        raise TypeError(f"dtype: expected a data type, got {dtype!r}") from None


def epsilon(dtype):
    """The distance from 1 to the next number of a floating-point dtype, as a float."""
    return float(ml_dtypes.finfo(dtype).eps)


def is_floating(dtype):
    """Whether the dtype is one of float16, bfloat16, float32, float64: the dtypes that carry gradients."""
    return dtype in FLOATS


def category(dtype):
    """0 for bool, 1 for integers, 2 for floating point: torch's ladder of promotion."""
    return 2 if dtype in FLOATS else 1 if dtype in _INTEGERS else 0


@cache
def promote_types(a, b):
    """The smallest dtype to which both can be cast, by torch's table: an integer never widens a float."""
    if a == b:
        return a
    if category(a) != category(b):
        return a if category(a) > category(b) else b
    if category(a) == 2 and {a, b} == set(HALVES):
        return float32
    if category(a) == 2 and bfloat16 in (a, b):
        return a if b == bfloat16 else b
    return np.promote_types(a, b)


def scalar_dtype(value):
    """The dtype that a Python or NumPy number brings to a promotion, or None where it is not a number."""
    if isinstance(value, (bool, np.bool_)):
        return boolean
    if isinstance(value, (int, np.integer)):
        return int64
    if isinstance(value, (float, np.floating, bfloat16.type)):
        return _default_dtype
    return None


def result_type(*operands):
    """torch.result_type for any number of tensors, arrays and scalars. Raises TypeError for anything else.

    Operands fall in three classes: arrays with dimensions, 0-d arrays, numbers. A later class changes the result only
    when its category (bool < integer < float) is higher than that of the classes before it.
    """
    with_dimensions = zero_dimensional = number = None
    for operand in operands:
        array = getattr(operand, "array", operand)
        shape = getattr(array, "shape", None)
        if shape is None or isinstance(array, np.generic):
            dtype = scalar_dtype(array)
            if dtype is None:
                raise TypeError(f"result_type: expected tensors or numbers, got {type(operand).__name__}")
            number = dtype if number is None else promote_types(number, dtype)
        elif shape:
            with_dimensions = array.dtype if with_dimensions is None else promote_types(with_dimensions, array.dtype)
        else:
            zero_dimensional = array.dtype if zero_dimensional is None else promote_types(zero_dimensional, array.dtype)
    result = None
    for dtype in (with_dimensions, zero_dimensional, number):
        if dtype is not None and (result is None or category(dtype) > category(result)):
            result = dtype
    return result


class finfo:
    """What a floating-point dtype, by default the default one, can hold: eps, max, min, tiny, resolution, bits.

    Raises TypeError for other dtypes.
    """

    def __init__(self, type=None):
        dtype = _default_dtype if type is None else as_dtype(type)
        if dtype not in FLOATS:
            raise TypeError(f"finfo: expected a floating-point dtype, got {dtype}; use iinfo")
        limits = ml_dtypes.finfo(dtype)
        self.dtype, self.bits, self.eps = dtype.name, limits.bits, float(limits.eps)
        self.max, self.min = float(limits.max), float(limits.min)
        self.resolution = float(f"1e-{limits.precision}")
        self.tiny = self.smallest_normal = float(limits.smallest_normal)

    def __repr__(self):
        shown = [f"{name}={getattr(self, name):g}" for name in ("resolution", "min", "max", "eps", "smallest_normal",
                                                               "tiny")]
        return f"finfo({', '.join(shown)}, dtype={self.dtype})"


class iinfo:
    """What an integer dtype can hold: min, max, bits. Raises TypeError for other dtypes."""

    def __init__(self, type):
        dtype = as_dtype(type)
        if dtype not in _INTEGERS:
            raise TypeError(f"iinfo: expected an integer dtype, got {dtype}")
        limits = np.iinfo(dtype)
        self.dtype, self.bits, self.min, self.max = dtype.name, limits.bits, int(limits.min), int(limits.max)

    def __repr__(self):
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"


class MemoryFormat:
    """The order of a 4-D or 5-D tensor's elements in memory; the shape is always (N, C, ...)."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"kdl.{self.name}"


contiguous_format = MemoryFormat("contiguous_format")
channels_last = MemoryFormat("channels_last")
channels_last_3d = MemoryFormat("channels_last_3d")
preserve_format = MemoryFormat("preserve_format")


@dataclass(frozen=True)
class device:
    """Where an array lives: `kdl.device("cpu")`, `device("cuda")`, `device("cuda", 1)` or `device("cuda:1")`."""
    type: str
    index: "int | None" = None

    def __post_init__(self):
        kind, colon, number = str(self.type).partition(":")
        if kind not in ("cpu", "cuda") or (colon and (not number.isdigit() or self.index is not None)):
            raise ValueError(f"device: expected 'cpu', 'cuda' or 'cuda:<index>', got {self.type!r}")
        object.__setattr__(self, "type", kind)
        if number:
            object.__setattr__(self, "index", int(number))

    def __str__(self):
        return self.type if self.index is None else f"{self.type}:{self.index}"
