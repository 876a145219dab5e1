"""Tensors from data, from other libraries, and from nothing: tensor, from_numpy, from_dlpack, zeros, arange, ...

`tensor` always copies; `as_tensor`, `asarray` and `from_numpy` share memory where they can. Python floats become the
default floating-point dtype, Python ints int64; arrays keep their dtype. What is created is a leaf.
"""
import math
from contextlib import nullcontext

import numpy as np

from kdl import types
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, together
from kdl.ops.common import empty as empty_array
from kdl.ops.convert import reach
from kdl.tensor import Tensor, array_module, method

__all__ = ["arange", "as_tensor", "asarray", "empty", "empty_like", "eye", "from_dlpack", "from_numpy", "frombuffer",
           "full", "full_like", "is_complex", "is_floating_point", "is_nonzero", "is_same_size", "is_signed",
           "is_tensor", "linspace", "logspace", "numel", "ones", "ones_like", "tensor", "tril_indices", "triu_indices",
           "zeros", "zeros_like"]


# --- from data ---
def tensor(data, *, dtype=None, device=None, requires_grad=False):
    """A new leaf with a copy of the data: numbers, nested sequences of them, arrays or tensors.

    Raises TypeError for data that is not made of real numbers, ValueError for ragged sequences and for integers that
    the dtype cannot hold, RuntimeError for an integer tensor that should require grad.
    """
    dtype = None if dtype is None else types.as_dtype(dtype)
    array = _array_of_data("tensor", data, dtype)
    copied = array is not data and not hasattr(data, "__array__")
    return leaf(_cast(array, dtype, copy=not copied), device, requires_grad)


@method
def new_tensor(input, data, **options):
    """`tensor` with the dtype and device of `input` as defaults."""
    return tensor(data, **_alike(input, options))


def as_tensor(data, dtype=None, device=None):
    """The data as a tensor, without a copy where dtype and device allow: tensors stay recorded, arrays are shared."""
    if isinstance(data, Tensor):
        return data if dtype is None and device is None else data.to(device=device, dtype=dtype)
    dtype = None if dtype is None else types.as_dtype(dtype)
    return leaf(_cast(_array_of_data("as_tensor", data, dtype), dtype), device)


def asarray(obj, *, dtype=None, device=None, copy=None, requires_grad=False):
    """The data as a tensor: copied (copy=True), shared or refused (False: ValueError), shared if possible (None)."""
    if copy:
        return tensor(obj, dtype=dtype, device=device, requires_grad=requires_grad)
    x = as_tensor(obj, dtype, device)
    source = obj.array if isinstance(obj, Tensor) else obj
    expect(copy is None or x.array is source or getattr(x.array, "base", None) is source, "asarray",
           "data that can be shared, with copy=False", obj=type(obj).__name__, dtype=dtype, device=device)
    return x.requires_grad_() if requires_grad else x


def from_numpy(ndarray):
    """A tensor over the memory of a NumPy array: what changes one changes the other. Raises TypeError."""
    expect_type(isinstance(ndarray, np.ndarray), "from_numpy", "a NumPy array", ndarray=type(ndarray).__name__)
    return Tensor(_supported("from_numpy", np.asarray(ndarray)))


def leaf(array, device=None, requires_grad=False):
    x = Tensor(array)
    if device is not None:
        x = x.to(device=device).detach()
    return x.requires_grad_() if requires_grad else x


def _array_of_data(op, data, dtype):
    """The data's own array, or one of the numbers in dtype (None: as they promote). Raises TypeError, ValueError."""
    if isinstance(data, Tensor):
        return data.array
    if isinstance(data, np.ndarray):
        return _supported(op, data)
    if hasattr(data, "__cuda_array_interface__"):
        return _supported(op, array_module(data).asarray(data))
    if not isinstance(data, (list, tuple, range)):
        if hasattr(data, "__array__"):
            return _supported(op, np.asarray(data))
        expect_type(isinstance(data, (bool, int, float)), op, "real numbers, sequences of them, arrays or tensors",
                    data=type(data).__name__)
    plain, promoted = _plain(op, data)
    try:
        array = np.array(plain)
    except ValueError:
        raise ValueError(f"{op}: expected nested sequences of equal lengths, got ragged ones") from None
    expect(array.dtype.kind != "O" and array.dtype != np.uint64, op, "integers within 64 bits", data=data)
    return _cast(array, promoted if dtype is None else dtype)


def _plain(op, data):
    """Nested data without tensors inside, and the dtype that its numbers promote to."""
    if isinstance(data, (list, tuple, range)):
        parts = [_plain(op, part) for part in data]
        dtypes = {dtype for _, dtype in parts} or {types.get_default_dtype()}
        dtype = dtypes.pop()
        for other in dtypes:
            dtype = types.promote_types(dtype, other)
        return [part for part, _ in parts], dtype
    if isinstance(data, Tensor):
        data = data.detach().cpu().array
    if isinstance(data, (np.ndarray, np.generic)):
        return data, _supported(op, data).dtype
    dtype = types.scalar_dtype(data)
    expect_type(dtype is not None, op, "real numbers, sequences of them, arrays or tensors", data=type(data).__name__)
    return data, dtype


def _supported(op, array):
    """The array itself. Raises TypeError for a dtype that tensors do not have."""
    try:
        types.as_dtype(array.dtype)
    except TypeError:
        raise TypeError(f"{op}: expected real numbers of a dtype that kdl has, got {array.dtype}") from None
    return array


def _cast(array, dtype, copy=False):
    """The array in the dtype. Raises ValueError for integers that do not fit."""
    if dtype is None or dtype == array.dtype:
        return array.copy("K") if copy else array
    if dtype.kind in "iu" and array.dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        expect(limits.min <= array.min() and array.max() <= limits.max, "tensor", f"integers that {dtype} holds",
               smallest=int(array.min()), largest=int(array.max()))
    with np.errstate(all="ignore"):
        return array.astype(dtype)


# --- from other libraries ---
def from_dlpack(ext_tensor):
    """A tensor over the memory of any object with `__dlpack__` (NumPy, CuPy, PyTorch, ...); nothing is copied.

    Raises TypeError for an object without it or with a dtype that kdl has not. (DLPack, github.com/dmlc/dlpack.)
    """
    expect_type(hasattr(ext_tensor, "__dlpack_device__"), "from_dlpack", "an object with __dlpack__",
                ext_tensor=type(ext_tensor).__name__)
    if ext_tensor.__dlpack_device__()[0] == _DLPACK_CPU:
        return Tensor(_supported("from_dlpack", np.from_dlpack(ext_tensor)))
    import cupy
    return Tensor(_supported("from_dlpack", cupy.from_dlpack(ext_tensor)))


@method
def __dlpack__(input, **options):
    """The DLPack capsule over this tensor's memory. Raises BufferError for a tensor that requires grad."""
    if input.requires_grad:
        raise BufferError("__dlpack__: the tensor requires grad; use tensor.detach()")
    return input.array.__dlpack__(**options)


@method
def __dlpack_device__(input):
    """The DLPack device: (1, 0) for the CPU, (2, index) for a GPU."""
    return input.array.__dlpack_device__()


_DLPACK_CPU = 1


def _cuda_array_interface(input):
    """How other libraries read a tensor on a GPU without a copy (version 3 of the CUDA array interface)."""
    if not input.is_cuda:
        raise AttributeError("__cuda_array_interface__: the tensor lies in host memory")
    if input.requires_grad:
        raise AttributeError("__cuda_array_interface__: the tensor requires grad; use tensor.detach()")
    return input.array.__cuda_array_interface__


Tensor.__cuda_array_interface__ = property(_cuda_array_interface)


# --- of a shape ---
def zeros(*size, dtype=None, device=None, requires_grad=False, **named):
    """Zeros: zeros(2, 3), zeros((2, 3)) or zeros(size=(2, 3)). Raises TypeError, ValueError for a wrong size."""
    shape, dtype = _size("zeros", size, named), _dtype(dtype)
    return _made(lambda xp: xp.zeros(shape, dtype), device, requires_grad)


def ones(*size, dtype=None, device=None, requires_grad=False, **named):
    """Ones; the arguments are those of `zeros`."""
    shape, dtype = _size("ones", size, named), _dtype(dtype)
    return _made(lambda xp: xp.ones(shape, dtype), device, requires_grad)


def empty(*size, dtype=None, device=None, requires_grad=False, **named):
    """A tensor whose elements are whatever was in memory; the arguments are those of `zeros`."""
    shape, dtype = _size("empty", size, named), _dtype(dtype)
    return _made(lambda xp: xp.empty(shape, dtype), device, requires_grad)


def full(size, fill_value, *, dtype=None, device=None, requires_grad=False):
    """One value everywhere; the dtype is that of the value as a Python number. Raises TypeError, ValueError."""
    value = _number("full", "fill_value", fill_value)
    shape = _size("full", (size,), {})
    dtype = types.scalar_dtype(value) if dtype is None else types.as_dtype(dtype)
    return _made(lambda xp: xp.full(shape, value, dtype), device, requires_grad)


def eye(n, m=None, *, dtype=None, device=None, requires_grad=False):
    """Ones on the diagonal of an n x m matrix (n x n without m), zeros elsewhere. Raises TypeError, ValueError."""
    shape, dtype = _size("eye", (n, n if m is None else m), {}), _dtype(dtype)
    return _made(lambda xp: xp.eye(*shape, dtype=dtype), device, requires_grad)


def _made(make, device, requires_grad):
    """A leaf over make(NumPy or CuPy), made on the device."""
    device = types.device(device) if isinstance(device, str) else device
    if device is None or device.type == "cpu":
        return Tensor(make(np), requires_grad)
    reach(device)
    import cupy

    from kdl.kernels import gpu
    with nullcontext() if device.index is None else cupy.cuda.Device(device.index):
        return Tensor(make(gpu), requires_grad)


def _dtype(dtype):
    return types.get_default_dtype() if dtype is None else types.as_dtype(dtype)


def _size(op, values, named):
    """The shape from `*size` or `size=`. Raises TypeError, ValueError."""
    if named or not values:
        expect_type(list(named) == ["size"] and not values, op, "a size and known arguments", arguments=list(named))
        values = named["size"],
    shape = together(op, "size", values)
    expect(min(shape, default=0) >= 0, op, "lengths of at least 0", size=shape)
    return shape


def _number(op, name, value):
    """A Python number, from a tensor or array of one element too. Raises TypeError."""
    if isinstance(value, (Tensor, np.ndarray, np.generic)) and value.ndim == 0:
        value = value.item()
    expect_type(isinstance(value, (bool, int, float)), op, f"{name} to be a number", **{name: type(value).__name__})
    return value


# --- like another tensor ---
def empty_like(input, *, dtype=None, device=None, requires_grad=False, memory_format=types.preserve_format):
    """An uninitialised tensor of the shape and, unless given, the dtype, device and memory order of the input."""
    array, xp = array_of("empty_like", input), array_module(input.array)
    dtype = array.dtype if dtype is None else types.as_dtype(dtype)
    if memory_format in (types.channels_last, types.channels_last_3d):
        new = empty_array(xp, array.shape, dtype, channels_last=True)
    else:
        new = xp.empty_like(array, dtype=dtype, order="K" if memory_format is types.preserve_format else "C")
    return leaf(new, device, requires_grad)


def zeros_like(input, **options):
    """Zeros; the arguments are those of `empty_like`."""
    return _filled("zeros_like", input, 0, options)


def ones_like(input, **options):
    """Ones; the arguments are those of `empty_like`."""
    return _filled("ones_like", input, 1, options)


def full_like(input, fill_value, **options):
    """One value everywhere, in the dtype of the input; the other arguments are those of `empty_like`."""
    return _filled("full_like", input, _number("full_like", "fill_value", fill_value), options)


def _filled(op, input, value, options):
    array_of(op, input)
    x = empty_like(input, **options)
    array_module(x.array).copyto(x.array, value, casting="unsafe")
    return x


@method
def new_empty(input, *size, **options):
    """`empty` with the dtype and device of `input` as defaults."""
    return empty(*size, **_alike(input, options))


@method
def new_zeros(input, *size, **options):
    """`zeros` with the dtype and device of `input` as defaults."""
    return zeros(*size, **_alike(input, options))


@method
def new_ones(input, *size, **options):
    """`ones` with the dtype and device of `input` as defaults."""
    return ones(*size, **_alike(input, options))


@method
def new_full(input, size, fill_value, **options):
    """`full` with the dtype and device of `input` as defaults."""
    return full(size, fill_value, **_alike(input, options))


def _alike(input, options):
    given = {name: value for name, value in options.items() if value is not None}
    return {"dtype": input.dtype, "device": input.device, **given}


# --- sequences ---
def arange(start=None, end=None, step=1, *, dtype=None, device=None, requires_grad=False):
    """start, start + step, ... up to but without end; arange(end) starts at 0.

    int64 for integers, the default floating-point dtype otherwise. Raises TypeError; ValueError for a step of 0 or
    one that leads away from end.
    """
    start, end = (0, start) if end is None else (start or 0, end)
    start, end, step = [_number("arange", n, v) for n, v in (("start", start), ("end", end), ("step", step))]
    if dtype is None:
        dtype = types.get_default_dtype() if any(isinstance(v, float) for v in (start, end, step)) else types.int64
    dtype = types.as_dtype(dtype)
    expect(all(map(math.isfinite, (start, end, step))) and step != 0 and (end - start) * step >= 0, "arange",
           "finite numbers and a step that leads from start to end", start=start, end=end, step=step)
    if dtype == types.int64:
        start, end, step = int(start), int(end), int(step)
        expect(step != 0, "arange", "a step of at least 1 for integers", step=step)
    n = math.ceil((end - start) / step) if isinstance(end - start, float) or isinstance(step, float) else len(
        range(start, end, step))
    return _made(lambda xp: (xp.arange(n) * step + start).astype(dtype), device, requires_grad)


def linspace(start, end, steps, *, dtype=None, device=None, requires_grad=False):
    """`steps` numbers from start to end, both included, equally far apart. Raises TypeError, ValueError."""
    values = _linear("linspace", start, end, steps)
    dtype = _dtype(dtype)
    return _made(lambda xp: xp.asarray(values.astype(dtype)), device, requires_grad)


def logspace(start, end, steps, base=10.0, *, dtype=None, device=None, requires_grad=False):
    """base^start to base^end in `steps` equal factors. Raises TypeError, ValueError."""
    base = float(_number("logspace", "base", base))
    with np.errstate(all="ignore"):
        values = (base ** _linear("logspace", start, end, steps)).astype(_dtype(dtype))
    return _made(lambda xp: xp.asarray(values), device, requires_grad)


def _linear(op, start, end, steps):
    """In float64, the first half counted from start and the second from end, so that both are exact."""
    start, end = float(_number(op, "start", start)), float(_number(op, "end", end))
    steps = _number(op, "steps", steps)
    expect_type(isinstance(steps, int), op, "an integer number of steps", steps=steps)
    expect(steps >= 0, op, "at least 0 steps", steps=steps)
    if steps < 2:
        return np.full(steps, start)
    step, i = (end - start) / (steps - 1), np.arange(steps)
    return np.where(i < steps // 2, start + step * i, end - step * (steps - 1 - i))


def triu_indices(row, col, offset=0, *, dtype=None, device=None):
    """(2, n): the rows and columns of the elements on and above a diagonal of a row x col matrix, row by row."""
    return _indices("triu_indices", np.triu_indices, row, col, offset, dtype, device)


def tril_indices(row, col, offset=0, *, dtype=None, device=None):
    """(2, n): the rows and columns of the elements on and below a diagonal of a row x col matrix, row by row."""
    return _indices("tril_indices", np.tril_indices, row, col, offset, dtype, device)


def _indices(op, positions, row, col, offset, dtype, device):
    row, col = _size(op, (row, col), {})
    dtype = types.int64 if dtype is None else types.as_dtype(dtype)
    expect_type(dtype in (types.int32, types.int64), op, "dtype int32 or int64", dtype=dtype)
    return leaf(np.stack(positions(row, offset, col)).astype(dtype), device)


def frombuffer(buffer, *, dtype, count=-1, offset=0, requires_grad=False):
    """A 1-d tensor over the memory of a buffer such as bytes, from byte `offset` on. Raises TypeError, ValueError."""
    array = np.frombuffer(buffer, types.as_dtype(dtype), count, offset)
    return Tensor(array if array.flags.writeable else array.copy(), requires_grad)


# --- what something is ---
def is_tensor(obj):
    """Whether the object is a Tensor."""
    return isinstance(obj, Tensor)


def is_floating_point(input):
    """Whether the tensor's dtype is float16, bfloat16, float32 or float64."""
    array_of("is_floating_point", input)
    return input.is_floating_point()


def is_signed(input):
    """Whether the tensor's dtype holds negative numbers."""
    array_of("is_signed", input)
    return input.is_signed()


def is_complex(input):
    """False: there are no complex tensors."""
    array_of("is_complex", input)
    return False


def is_nonzero(input):
    """Whether the one element is not 0. Raises RuntimeError when there is not exactly one."""
    array_of("is_nonzero", input)
    return bool(input)


def is_same_size(input, other):
    """Whether both have the same shape."""
    return array_of("is_same_size", input).shape == array_of("is_same_size", other, "other").shape


def numel(input):
    """The number of elements."""
    return array_of("numel", input).size
