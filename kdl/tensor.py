"""Tensor: a NumPy or CuPy array that can take part in a recorded computation.

This file holds what a tensor is. What can be done with one stands in `kdl/ops/`, where each function that is also a
method says so itself with `@method`.
"""
import itertools
import sys
from operator import attrgetter

import numpy as np

from kdl import types


class Tensor:
    """An array with a gradient.

    `array` is the NumPy or CuPy array underneath, never copied. `grad_fn` is the Function that computed this tensor
    (None for a leaf) and `output_index` says which of its outputs it is. `version` counts in-place writes; tensors
    that share memory share it.
    """
    __slots__ = ("__weakref__", "_requires_grad", "array", "grad", "grad_fn", "hooks", "is_view", "output_index",
                 "version")
    __array_ufunc__ = None  # a NumPy array on the left leaves the operator to the tensor
    __hash__ = object.__hash__

    def __init__(self, array, requires_grad=False):
        self.array = array
        self._requires_grad = False
        self.grad = None
        self.grad_fn = None
        self.output_index = 0
        self.version = [0]
        self.is_view = False
        self.hooks = None
        if requires_grad:
            self.requires_grad = True

    # --- what it is ---
    @property
    def shape(self):
        return Size(self.array.shape)

    @property
    def dtype(self):
        return self.array.dtype

    @property
    def ndim(self):
        return self.array.ndim

    @property
    def device(self):
        return device_of(self.array)

    @property
    def is_cuda(self):
        return not isinstance(self.array, np.ndarray)

    @property
    def is_cpu(self):
        return isinstance(self.array, np.ndarray)

    @property
    def is_leaf(self):
        return self.grad_fn is None

    @property
    def itemsize(self):
        return self.array.dtype.itemsize

    @property
    def nbytes(self):
        return self.array.nbytes

    def size(self, dim=None):
        """The shape, or the length of one dimension."""
        return self.shape if dim is None else self.array.shape[dim]

    def dim(self):
        """The number of dimensions."""
        return self.array.ndim

    ndimension = dim

    def numel(self):
        """The number of elements."""
        return self.array.size

    nelement = numel

    def data_ptr(self):
        """The address of the first element."""
        return self.array.ctypes.data if self.is_cpu else self.array.data.ptr

    def get_device(self):
        """The number of the GPU; -1 for the CPU."""
        return -1 if self.is_cpu else self.array.device.id

    def element_size(self):
        """Bytes per element."""
        return self.array.dtype.itemsize

    def stride(self, dim=None):
        """Elements (not bytes) between neighbours along each dimension, or along one."""
        strides = tuple(step // self.array.dtype.itemsize for step in self.array.strides)
        return strides if dim is None else strides[dim]

    def is_floating_point(self):
        """Whether the dtype is float16, bfloat16, float32 or float64."""
        return types.is_floating(self.array.dtype)

    def is_signed(self):
        """Whether the dtype holds negative numbers."""
        return self.array.dtype not in (types.uint8, types.boolean)

    def is_complex(self):
        """False: there are no complex tensors."""
        return False

    def is_same_size(self, other):
        """Whether both have the same shape."""
        return self.array.shape == other.array.shape

    def is_nonzero(self):
        """Whether the one element is not 0. Raises RuntimeError when there is not exactly one."""
        return bool(self)

    def pin_memory(self, device=None):
        """The tensor itself: copies to a GPU do not need it."""
        return self

    def is_pinned(self, device=None):
        """False: memory is never pinned."""
        return False

    def is_contiguous(self, memory_format=types.contiguous_format):
        """Whether the elements lie in memory in the order of the format."""
        array = self.array
        if memory_format is types.contiguous_format:
            return array.flags.c_contiguous
        ndim = {types.channels_last: 4, types.channels_last_3d: 5}.get(memory_format)
        if ndim is None:
            raise TypeError(f"is_contiguous: expected contiguous_format, channels_last or channels_last_3d, "
                            f"got {memory_format!r}")
        return array.ndim == ndim and channels_to_end(array).flags.c_contiguous

    # --- its place in a recorded computation ---
    def requires_grad_(self, requires_grad=True):
        """Record (or stop recording) operations on this leaf; returns the tensor. Raises RuntimeError."""
        self.requires_grad = requires_grad
        return self

    def _set_requires_grad(self, value):
        if value and self.array.dtype not in types.FLOATS:
            raise RuntimeError(f"requires_grad: only floating-point tensors can require gradients, got {self.dtype}")
        if not value and self.grad_fn is not None:
            raise RuntimeError("requires_grad: only leaf tensors can stop requiring gradients; "
                               "use .detach() for a computed one")
        self._requires_grad = bool(value)

    requires_grad = property(attrgetter("_requires_grad"), _set_requires_grad,
                             doc="Whether operations on this tensor are recorded; setting it may raise RuntimeError.")

    def detach(self):
        """A tensor over the same memory that the recorded computation does not reach."""
        other = Tensor(self.array)
        other.version = self.version
        other.is_view = self.is_view
        return other

    @property
    def data(self):
        return Tensor(self.array)

    @data.setter
    def data(self, other):
        self.array = other.array
        self.version = [0]

    def backward(self, gradient=None, retain_graph=None, create_graph=False, inputs=None):
        """Accumulate d(self)/d(leaf) into the `grad` of every leaf that requires one.

        `gradient` (same shape) is needed unless self has one element. Raises RuntimeError when nothing was recorded,
        when the graph was already freed, or when a saved tensor was since changed in place.
        """
        from kdl import autograd
        autograd.backward(self, gradient, retain_graph, create_graph, inputs)

    def retain_grad(self):
        """Keep the gradient of this computed tensor in `grad`, as leaves do."""
        if not self.requires_grad:
            raise RuntimeError("retain_grad: expected a tensor that requires grad")
        if self.grad_fn is not None:
            self.grad_fn.tap(self.output_index, self, None)

    def register_hook(self, hook):
        """Call `hook(grad)` when this tensor's gradient is ready; a tensor it returns replaces the gradient.

        Returns a handle with `remove()`.
        """
        if not self.requires_grad:
            raise RuntimeError("register_hook: expected a tensor that requires grad")
        if self.grad_fn is not None:
            return self.grad_fn.tap(self.output_index, None, hook)
        if self.hooks is None:
            self.hooks = {}
        return Handle(self.hooks, hook)

    # --- out of kdl ---
    def numpy(self):
        """The NumPy array, sharing memory. Raises RuntimeError for a tensor that requires grad or lies on a GPU."""
        if self.requires_grad:
            raise RuntimeError("numpy: the tensor requires grad; use tensor.detach().numpy()")
        if self.is_cuda:
            raise TypeError("numpy: the tensor lies on a GPU; use tensor.cpu().numpy()")
        return self.array

    def __array__(self, dtype=None, copy=None):
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __array_namespace__(self, *, api_version=None):
        """The array API standard's functions for tensors: kdl.array_api. Raises ValueError for a later version."""
        from kdl import array_api
        if api_version is not None and api_version > array_api.__array_api_version__:
            raise ValueError(f"__array_namespace__: expected api_version up to {array_api.__array_api_version__}, got "
                             f"{api_version}")
        return array_api

    def to_device(self, device, /, *, stream=None):
        """The tensor on another device, as the array API standard has it: `to`."""
        return self.to(device)

    def item(self):
        """The one element as a Python number. Raises RuntimeError when there is not exactly one."""
        if self.array.size != 1:
            raise RuntimeError(f"item: expected a tensor with one element, got shape {tuple(self.shape)}")
        value = self.array.item()
        return value if isinstance(value, (bool, int, float)) else float(value)  # bfloat16 scalars become floats

    def tolist(self):
        """The elements as nested Python lists."""
        array = self.array if self.dtype != types.bfloat16 else self.array.astype(types.float32)
        return array.tolist()

    def __bool__(self):
        if self.array.size != 1:
            raise RuntimeError(f"bool: the truth of a tensor of shape {tuple(self.shape)} is ambiguous; "
                               "use .any() or .all()")
        return bool(self.array.item())

    def __int__(self):
        return int(self.item())

    def __float__(self):
        return float(self.item())

    def __index__(self):
        if types.is_floating(self.dtype) or self.array.size != 1:
            raise TypeError(f"index: expected an integer tensor with one element, got {self.dtype}, "
                            f"shape {tuple(self.shape)}")
        return int(self.item())

    def __len__(self):
        if self.array.ndim == 0:
            raise TypeError("len: a 0-d tensor has no length")
        return len(self.array)

    def __iter__(self):
        if self.array.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind())

    def __contains__(self, value):
        return bool((self.array == (value.array if isinstance(value, Tensor) else value)).any())

    def __format__(self, spec):
        if self.array.ndim == 0:
            return format(self.item(), spec)
        if spec:
            raise TypeError(f"format: expected a 0-d tensor for the format {spec!r}, got shape {tuple(self.shape)}; "
                            "use .item() on one element")
        return repr(self)

    def __repr__(self):
        host = self.array if isinstance(self.array, np.ndarray) else self.array.get()
        body = np.array2string(host, separator=", ", prefix="tensor(", **_PRINT)
        notes = [body]
        if self.dtype not in (types.get_default_dtype(), types.int64, types.boolean):
            notes.append(f"dtype={self.dtype}")
        if self.is_cuda:
            notes.append(f"device='{self.device}'")
        if self.grad_fn is not None:
            notes.append(f"grad_fn=<{type(self.grad_fn).__name__}>")
        elif self.requires_grad:
            notes.append("requires_grad=True")
        return f"tensor({', '.join(notes)})"

    def __reduce__(self):
        if self.grad_fn is not None:
            raise RuntimeError("pickle: only leaf tensors can be pickled or deep-copied; use .detach()")
        return _rebuild, (type(self), self.array, self.requires_grad)

    def __deepcopy__(self, memo):
        if self.grad_fn is not None:
            raise RuntimeError("deepcopy: only leaf tensors can be copied this way; use .detach()")
        copy = _rebuild(type(self), self.array.copy("K"), self.requires_grad)
        if self.grad is not None:
            copy.grad = Tensor(self.grad.array.copy("K"))
        memo[id(self)] = copy
        return copy


class Size(tuple):
    """A shape: a tuple that also knows its number of elements."""
    __slots__ = ()

    def numel(self):
        """The product of the lengths."""
        return int(np.prod(self, dtype=np.int64))

    def __repr__(self):
        return f"kdl.Size({list(self)})"

    __str__ = tuple.__repr__


class Handle:
    """What registering a hook returns: `remove()`, or leaving a `with` block, takes the hook away again."""
    numbers = itertools.count()  # never used twice, so that removing twice cannot take a later hook away

    def __init__(self, hooks, hook):
        self.hooks = hooks
        self.key = next(self.numbers)
        hooks[self.key] = hook

    def remove(self):
        self.hooks.pop(self.key, None)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.remove()


def method(function=None, *, names=()):
    """Make a function of `kdl/ops/` a Tensor method too, under its own name or under the names given."""
    def bind(function):
        for name in names or (function.__name__,):
            setattr(Tensor, name, function)
        return function
    return bind(function) if function is not None else bind


def array_module(array):
    """The module whose functions take this array: NumPy, or NumPy's functions for GPU arrays (kdl/kernels/gpu.py)."""
    if isinstance(array, (np.ndarray, np.generic)):
        return np
    from kdl.kernels import gpu
    return gpu


def device_of(array):
    """The device of an array."""
    return _CPU if isinstance(array, np.ndarray) else types.device("cuda", array.device.id)


def channels_to_end(array):
    """A view with the channels moved from dimension 1 to the end: contiguous when the array is channels-last."""
    return array.transpose(0, *range(2, array.ndim), 1)


def _rebuild(cls, array, requires_grad):
    tensor = cls.__new__(cls)
    Tensor.__init__(tensor, array, requires_grad)
    return tensor


def set_printoptions(precision=None, threshold=None, edgeitems=None, linewidth=None, profile=None, sci_mode=None):
    """How tensors are shown: digits after the point, the size from which on only `edgeitems` at each end are, columns.

    `profile` is "default", "short" (2 digits) or "full" (everything); sci_mode False avoids powers of ten. Raises
    ValueError.
    """
    if profile is not None:
        if profile not in _PROFILES:
            raise ValueError(f"set_printoptions: expected profile one of {', '.join(_PROFILES)}, got {profile!r}")
        _PRINT.update(_PROFILES[profile])
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "max_line_width": linewidth}
    _PRINT.update({name: value for name, value in given.items() if value is not None})
    _PRINT["suppress_small"] = None if sci_mode is None else not sci_mode


_CPU = types.device("cpu")
_PROFILES = {"default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "max_line_width": None},
             "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "max_line_width": None},
             "full": {"precision": 4, "threshold": sys.maxsize, "edgeitems": 3, "max_line_width": None}}
_PRINT = {**_PROFILES["default"], "suppress_small": None}
