"""The array API standard's names over kdl's operations: what `tensor.__array_namespace__()` gives.

Libraries that follow the standard (data-apis.org/array-api, version 2024.12) ask an array for its namespace and call
that, so that the same code runs on NumPy, on CuPy, and here with gradients.

| part | covered |
|---|---|
| constants | e, inf, nan, newaxis, pi |
| dtypes | bool, int8, int16, int32, int64, uint8, float32, float64; and float16, bfloat16 |
| about dtypes | astype, can_cast, finfo, iinfo, isdtype, result_type, `__array_namespace_info__` |
| creation | arange, asarray, empty, eye, from_dlpack, full, linspace, meshgrid, ones, tril, triu, zeros, `_like` |
| elementwise | all that are not about complex numbers |
| indexing | take, take_along_axis |
| searching | argmax, argmin, count_nonzero, nonzero, searchsorted, where |
| linear algebra | matmul, matrix_transpose, tensordot, vecdot |
| manipulation | broadcast_arrays, broadcast_to, concat, expand_dims, flip, moveaxis, permute_dims, repeat, reshape, |
| | roll, squeeze, stack, tile, unstack |
| sets, sorting | unique_all, unique_counts, unique_inverse, unique_values, argsort, sort |
| statistics | cumulative_prod, cumulative_sum, max, mean, min, prod, std, sum, var |
| utilities | all, any, diff |

Not covered: complex numbers, unsigned integers above 8 bits (a sum of uint8 is int64), the extensions linalg and fft.
A tensor stays torch's: `x.size` is a method, and of the operators a tensor without dimensions only decides the kind of
the result's dtype; the functions here promote by dtypes alone. Floats are float32 unless `kdl.set_default_dtype` says
otherwise.
"""
import builtins
from collections import namedtuple
from math import e, inf, nan, pi  # noqa: F401
from math import prod as product

import kdl
from kdl import types
from kdl.errors import expect
from kdl.tensor import Tensor
from kdl.types import bfloat16, finfo, float16, float32, float64, iinfo, int8, int16, int32, int64, uint8  # noqa: F401
from kdl.types import boolean as bool

__array_api_version__ = "2024.12"
newaxis = None

_UNARY = """abs acos acosh asin asinh atan atanh ceil cos cosh exp expm1 floor isfinite isinf isnan log log1p log2 log10
    logical_not negative positive reciprocal round signbit sin sinh sqrt square tan tanh trunc""".split()
_BINARY = """add atan2 bitwise_and bitwise_or bitwise_xor copysign divide floor_divide greater greater_equal hypot less
    less_equal logaddexp logical_and logical_or logical_xor maximum minimum multiply nextafter not_equal pow remainder
    subtract""".split()
_KINDS = {"bool": {"bool": bool}, "signed integer": {"int8": int8, "int16": int16, "int32": int32, "int64": int64},
          "unsigned integer": {"uint8": uint8}, "real floating": {"float32": float32, "float64": float64},
          "complex floating": {}}
_KINDS["integral"] = _KINDS["signed integer"] | _KINDS["unsigned integer"]
_KINDS["numeric"] = _KINDS["integral"] | _KINDS["real floating"]
_HALVES = {"float16": float16, "bfloat16": bfloat16}


# --- dtypes ---
def astype(x, dtype, /, *, copy=True, device=None):
    """The values in another dtype; a copy even where it is the same, unless `copy` is False."""
    return x.to(dtype=dtype, device=device, copy=copy)


def isdtype(dtype, kind):
    """Whether a dtype is of a kind ("real floating", ...), is a dtype, or is any of a tuple of these."""
    if isinstance(kind, tuple):
        return builtins.any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str):
        expect(kind in _KINDS, "isdtype", f"kind out of {', '.join(_KINDS)}", kind=kind)
        group = _KINDS[kind] | (_HALVES if kind in ("real floating", "numeric") else {})
        return types.as_dtype(dtype) in group.values()
    return types.as_dtype(dtype) == types.as_dtype(kind)


def can_cast(from_, to, /):
    """Whether promotion may lead from a dtype (or a tensor's) to another."""
    dtype = from_.dtype if isinstance(from_, Tensor) else from_
    return types.promote_types(dtype, to) == to


def result_type(*arrays_and_dtypes):
    """The dtype that all promote to; Python numbers only decide its kind."""
    dtypes = [x.dtype if isinstance(x, Tensor) else x for x in arrays_and_dtypes]
    numbers = [x for x in dtypes if isinstance(x, (builtins.bool, int, float))]
    result = None
    for dtype in dtypes:
        if not isinstance(dtype, (builtins.bool, int, float)):
            result = types.as_dtype(dtype) if result is None else types.promote_types(result, dtype)
    expect(result is not None, "result_type", "a tensor or a dtype", given=arrays_and_dtypes)
    for number in numbers:
        result = types.result_type(kdl.empty(1, dtype=result), number)
    return result


class _Info:
    """What there is: dtypes, devices and abilities."""

    def capabilities(self):
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self):
        return types.device("cpu")

    def default_dtypes(self, *, device=None):
        return {"real floating": types.get_default_dtype(), "complex floating": None, "integral": int64,
                "indexing": int64}

    def devices(self):
        return [types.device("cpu"), *(types.device("cuda", i) for i in range(kdl.cuda.device_count()))]

    def dtypes(self, *, device=None, kind=None):
        kinds = ("bool", "numeric") if kind is None else kind if isinstance(kind, tuple) else (kind,)
        return {name: dtype for k in kinds for name, dtype in _KINDS[k].items()}


def __array_namespace_info__():
    return _Info()


# --- creation ---
asarray, empty_like, full_like = kdl.asarray, kdl.empty_like, kdl.full_like
ones_like, zeros_like = kdl.ones_like, kdl.zeros_like


def arange(start, /, stop=None, step=1, *, dtype=None, device=None):
    return kdl.arange(*((0, start) if stop is None else (start, stop)), step, dtype=dtype, device=device)


def empty(shape, *, dtype=None, device=None):
    return kdl.empty(shape, dtype=dtype, device=device)


def eye(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None):
    rows, columns = kdl.arange(n_rows, device=device), kdl.arange(n_rows if n_cols is None else n_cols, device=device)
    return (rows[:, None] + k == columns).to(dtype=dtype or types.get_default_dtype())


def from_dlpack(x, /, *, device=None, copy=None):
    y = kdl.from_dlpack(x)
    return y.to(device=device, copy=copy is True) if device is not None or copy else y


def full(shape, fill_value, *, dtype=None, device=None):
    return kdl.full(shape, fill_value, dtype=dtype, device=device)


def linspace(start, stop, /, num, *, dtype=None, device=None, endpoint=True):
    points = kdl.linspace(start, stop, num + (not endpoint), dtype=dtype, device=device)
    return points if endpoint else points[:-1]


def meshgrid(*arrays, indexing="xy"):
    return list(kdl.meshgrid(*arrays, indexing=indexing))


def ones(shape, *, dtype=None, device=None):
    return kdl.ones(shape, dtype=dtype, device=device)


def tril(x, /, *, k=0):
    return kdl.tril(x, k)


def triu(x, /, *, k=0):
    return kdl.triu(x, k)


def zeros(shape, *, dtype=None, device=None):
    return kdl.zeros(shape, dtype=dtype, device=device)


# --- elementwise ---
def _promoted(*operands):
    """Tensors and numbers, the tensors in the dtype of all."""
    dtype = result_type(*operands)
    return [x.to(dtype=dtype) if isinstance(x, Tensor) else x for x in operands]


def _binary(function, name):
    def apply(x1, x2, /):
        return function(*_promoted(x1, x2))
    apply.__name__ = apply.__qualname__ = name
    apply.__doc__ = function.__doc__
    return apply


globals().update({name: getattr(kdl, name) for name in _UNARY})
globals().update({name: _binary(getattr(kdl, name), name) for name in _BINARY})
equal = _binary(kdl.eq, "equal")
bitwise_left_shift = _binary(kdl.bitwise_left_shift, "bitwise_left_shift")
bitwise_right_shift = _binary(kdl.bitwise_right_shift, "bitwise_right_shift")
bitwise_invert = kdl.bitwise_not


def sign(x, /):
    y = kdl.sign(x)
    return kdl.where(kdl.isnan(x), x, y) if types.is_floating(x.dtype) else y  # torch's gives 0 for NaN


def clip(x, /, min=None, max=None):
    return x.clone() if min is None and max is None else kdl.clip(x, min, max).to(dtype=x.dtype)


# --- indexing, searching ---
def take(x, indices, /, *, axis=None):
    expect(axis is not None or x.ndim == 1, "take", "an axis, or one dimension", shape=tuple(x.shape))
    return kdl.index_select(x, axis or 0, indices)


def take_along_axis(x, indices, /, *, axis=-1):
    axis %= x.ndim
    shape = [max_ if i != axis else None for i, max_ in enumerate(kdl.broadcast_shapes(
        *[tuple(1 if i == axis else n for i, n in enumerate(a.shape)) for a in (x, indices)]))]
    filled = [a.expand(*[a.shape[axis] if n is None else n for n in shape]) for a in (x, indices)]
    return kdl.gather(filled[0], axis, filled[1].to(dtype=int64))


def argmax(x, /, *, axis=None, keepdims=False):
    return kdl.argmax(x, axis, keepdims)


def argmin(x, /, *, axis=None, keepdims=False):
    return kdl.argmin(x, axis, keepdims)


def nonzero(x, /):
    return kdl.nonzero(x, as_tuple=True)


def searchsorted(x1, x2, /, *, side="left", sorter=None):
    return kdl.searchsorted(x1, x2, side=side, sorter=sorter)


def where(condition, x1, x2, /):
    return kdl.where(condition, *_promoted(x1, x2))


# --- linear algebra ---
def matmul(x1, x2, /):
    return kdl.matmul(*_promoted(x1, x2))


def matrix_transpose(x, /):
    return x.mT


def tensordot(x1, x2, /, *, axes=2):
    return kdl.tensordot(*_promoted(x1, x2), dims=axes)


def vecdot(x1, x2, /, *, axis=-1):
    a, b = _promoted(x1, x2)
    return kdl.sum(a * b, axis, dtype=a.dtype)


# --- manipulation ---
def broadcast_arrays(*arrays):
    return list(kdl.broadcast_tensors(*arrays))


def broadcast_to(x, /, shape):
    return kdl.broadcast_to(x, shape)


def concat(arrays, /, *, axis=0):
    arrays = _promoted(*arrays)
    return kdl.cat([x.reshape(-1) for x in arrays] if axis is None else arrays, axis or 0)


def expand_dims(x, /, *, axis=0):
    axes = axis if isinstance(axis, tuple) else (axis,)
    ndim = x.ndim + len(axes)
    for i in sorted(a + ndim if a < 0 else a for a in axes):
        x = kdl.unsqueeze(x, i)
    return x


def flip(x, /, *, axis=None):
    return kdl.flip(x, _axes(x, axis))


def moveaxis(x, source, destination, /):
    return kdl.moveaxis(x, source, destination)


def permute_dims(x, /, axes):
    return kdl.permute(x, axes)


def repeat(x, repeats, /, *, axis=None):
    return kdl.repeat_interleave(x, repeats, axis)


def reshape(x, /, shape, *, copy=None):
    return kdl.reshape(x.clone() if copy else x, shape)


def roll(x, /, shift, *, axis=None):
    return kdl.roll(x, shift, axis)


def squeeze(x, /, axis):
    for i in _axes(x, axis):
        expect(x.shape[i] == 1, "squeeze", "axes of length 1", axis=axis, shape=tuple(x.shape))
    return kdl.squeeze(x, _axes(x, axis))


def stack(arrays, /, *, axis=0):
    return kdl.stack(_promoted(*arrays), axis)


def tile(x, repetitions, /):
    return kdl.tile(x, repetitions)


def unstack(x, /, *, axis=0):
    return kdl.unbind(x, axis)


# --- sets, sorting ---
_All = namedtuple("unique_all_result", ["values", "indices", "inverse_indices", "counts"])
_Counts = namedtuple("unique_counts_result", ["values", "counts"])
_Inverse = namedtuple("unique_inverse_result", ["values", "inverse_indices"])


def unique_all(x, /):
    values, inverse, counts = kdl.unique(x, return_inverse=True, return_counts=True)
    first = kdl.argsort(inverse.reshape(-1), stable=True)[kdl.cumsum(counts, 0) - counts]
    return _All(values, first, inverse.reshape(x.shape), counts)


def unique_counts(x, /):
    return _Counts(*kdl.unique(x, return_counts=True))


def unique_inverse(x, /):
    values, inverse = kdl.unique(x, return_inverse=True)
    return _Inverse(values, inverse.reshape(x.shape))


def unique_values(x, /):
    return kdl.unique(x)


def argsort(x, /, *, axis=-1, descending=False, stable=True):
    return kdl.argsort(x, axis, descending, stable)


def sort(x, /, *, axis=-1, descending=False, stable=True):
    return kdl.sort(x, axis, descending, stable)[0]


# --- statistics, utilities ---
def _axes(x, axis):
    """The dimensions that an axis argument names, from 0."""
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return tuple(i + x.ndim if i < 0 else i for i in axes)


def _reduced(function, x, axis, keepdims, **options):
    """A reduction of one dimension, along those that are asked for: they are moved to the end and made one."""
    gone = _axes(x, axis)
    kept = [i for i in range(x.ndim) if i not in gone]
    lengths = [x.shape[i] for i in kept]
    flat = kdl.permute(x, (*kept, *gone)).reshape(*lengths, product(x.shape[i] for i in gone))
    y = function(flat, -1, **options)
    return y.reshape([1 if i in gone else n for i, n in enumerate(x.shape)]) if keepdims else y


def all(x, /, *, axis=None, keepdims=False):
    return _reduced(kdl.all, x, axis, keepdims)


def any(x, /, *, axis=None, keepdims=False):
    return _reduced(kdl.any, x, axis, keepdims)


def count_nonzero(x, /, *, axis=None, keepdims=False):
    return _reduced(kdl.count_nonzero, x, axis, keepdims)


def max(x, /, *, axis=None, keepdims=False):
    return _reduced(kdl.amax, x, axis, keepdims)


def min(x, /, *, axis=None, keepdims=False):
    return _reduced(kdl.amin, x, axis, keepdims)


def mean(x, /, *, axis=None, keepdims=False):
    return _reduced(kdl.mean, x, axis, keepdims)


def prod(x, /, *, axis=None, dtype=None, keepdims=False):
    return _reduced(kdl.prod, x, axis, keepdims, dtype=dtype)


def std(x, /, *, axis=None, correction=0.0, keepdims=False):
    return _reduced(kdl.std, x, axis, keepdims, correction=correction)


def sum(x, /, *, axis=None, dtype=None, keepdims=False):
    return _reduced(kdl.sum, x, axis, keepdims, dtype=dtype)


def var(x, /, *, axis=None, correction=0.0, keepdims=False):
    return _reduced(kdl.var, x, axis, keepdims, correction=correction)


def cumulative_prod(x, /, *, axis=None, dtype=None, include_initial=False):
    return _cumulative(kdl.cumprod, kdl.ones, x, axis, dtype, include_initial)


def cumulative_sum(x, /, *, axis=None, dtype=None, include_initial=False):
    return _cumulative(kdl.cumsum, kdl.zeros, x, axis, dtype, include_initial)


def _cumulative(function, initial, x, axis, dtype, include_initial):
    expect(axis is not None or x.ndim == 1, function.__name__, "an axis, or one dimension", shape=tuple(x.shape))
    axis = 0 if axis is None else axis
    y = function(x, axis, dtype=dtype)
    if not include_initial:
        return y
    shape = [1 if i == axis % x.ndim else n for i, n in enumerate(x.shape)]
    return kdl.cat([initial(shape, dtype=y.dtype, device=x.device), y], axis)


def diff(x, /, *, axis=-1, n=1, prepend=None, append=None):
    return kdl.diff(x, n, axis, prepend, append)


_HIDDEN = ("builtins", "expect", "kdl", "namedtuple", "product", "types", "Tensor", "boolean")
__all__ = sorted(name for name in globals() if not name.startswith("_") and name not in _HIDDEN)
__all__ += ["__array_api_version__", "__array_namespace_info__"]


def __dir__():
    return __all__
