"""A stand-in for CuPy on a machine without a GPU: the same names over host memory.

Real CuPy compiles a kernel the first time that it adds, reduces, casts or copies with strides. Here such a call raises
`WouldCompile`, so that a training step that passes compiles nothing at run time; with `permissive` set it is computed
by NumPy instead, so that every other branch for GPU arrays can be executed. tests/test_cuda.py installs it.
"""
import sys
import types
from contextlib import contextmanager
from importlib.machinery import ModuleSpec

import numpy as np

permissive = False
device_count = 1
compiled = []  # names of the functions that would have been compiled


class WouldCompile(AssertionError):
    pass


def _compile(name):
    compiled.append(name)
    if not permissive:
        raise WouldCompile(f"cupy.{name} would compile a kernel at run time")


class ndarray:
    """Device memory: an array that only `get`, copies and views of this module may touch."""

    def __init__(self, host, base=None):
        self._host, self.base = host, base

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)
    device = property(lambda self: cuda.Device(0))
    data = property(lambda self: MemoryPointer(self._host))
    T = property(lambda self: self.transpose())

    @property
    def __cuda_array_interface__(self):
        host = self._host
        return {"shape": host.shape, "typestr": host.dtype.str, "version": 3, "stream": 1,
                "strides": None if host.flags.c_contiguous else host.strides, "data": (host.ctypes.data, False)}

    def __dlpack__(self, **options):
        return self._host.__dlpack__()

    def __dlpack_device__(self):
        return 2, 0

    # --- what CuPy does without a kernel: views, and copies to the host ---
    def _view(self, host):
        return ndarray(host, self if self.base is None else self.base)

    def get(self):
        return self._host.copy("K")

    def item(self):
        return self._host.item()

    def tolist(self):
        return self._host.tolist()

    def view(self, dtype):
        return self._view(self._host.view(dtype))

    def reshape(self, *shape, order="C"):
        host = self._host.reshape(*shape)
        if self.size and not np.shares_memory(host, self._host):
            _compile("ndarray.reshape of strided memory")
            return ndarray(host)
        return self._view(host)

    def ravel(self, order="C"):
        host = self._host.ravel(order)
        return self._view(host) if np.shares_memory(host, self._host) else self.reshape(-1)

    def transpose(self, *axes):
        return self._view(self._host.transpose(*axes))

    def swapaxes(self, a, b):
        return self._view(self._host.swapaxes(a, b))

    def squeeze(self, axis=None):
        return self._view(self._host.squeeze(axis))

    def diagonal(self, *args):
        host = self._host.diagonal(*args)
        host.flags.writeable = True  # CuPy's can be written
        return self._view(host)

    def copy(self, order="C"):
        if not self.flags.c_contiguous:
            _compile("ndarray.copy of strided memory")
        return ndarray(self._host.copy(order))

    def astype(self, dtype, order="K", copy=True):
        if np.dtype(dtype) == self.dtype:
            return self.copy(order) if copy else self
        _compile("ndarray.astype")
        return ndarray(self._host.astype(dtype, order))

    def __getitem__(self, key):
        parts = key if isinstance(key, tuple) else (key,)
        if all(isinstance(part, (int, np.integer, slice, type(None), type(...))) for part in parts):
            return self._view(np.asarray(self._host[(*parts, ...)] if ... not in parts else self._host[parts]))
        _compile("ndarray.__getitem__ by arrays")
        return ndarray(np.asarray(self._host[_hosts(key)]))

    def __setitem__(self, key, value):
        _compile("ndarray.__setitem__")
        self._host[_hosts(key)] = _hosts(value)

    def fill(self, value):
        if value != 0 or not self.flags.c_contiguous:
            _compile("ndarray.fill")
        self._host.fill(_hosts(value))

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __bool__(self):
        return bool(self._host)

    def __int__(self):
        return int(self._host)

    def __float__(self):
        return float(self._host)

    def __index__(self):
        return self._host.__index__()

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        return _call(f"{ufunc.__name__}", getattr(ufunc, method), *inputs, **options)

    def __array_function__(self, function, kinds, args, kwargs):
        return _call(function.__name__, function, *args, **kwargs)

    def __repr__(self):
        return repr(self._host)

    def __getattr__(self, name):
        if name.startswith("_") or not callable(getattr(np.ndarray, name, None)):
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        return lambda *args, **kwargs: _call(f"ndarray.{name}", getattr(self._host, name), *args, **kwargs)


def _operator(name):
    def form(self, *others):
        if any(isinstance(o, np.ndarray) for o in others):
            raise TypeError(f"Unsupported type {np.ndarray}")
        return _call(f"ndarray.{name}", getattr(self._host, name), *others)
    return form


def _in_place(name):
    def form(self, other):
        _call(f"ndarray.{name}", getattr(self._host, name), other)
        return self
    return form


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift",
              "rshift"):
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
    setattr(ndarray, f"__r{_name}__", _operator(f"__r{_name}__"))
    setattr(ndarray, f"__i{_name}__", _in_place(f"__i{_name}__"))
for _name in ("neg", "pos", "abs", "invert", "eq", "ne", "lt", "le", "gt", "ge"):
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
ndarray.__hash__ = object.__hash__


def _hosts(value):
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, (tuple, list)):
        return type(value)(_hosts(v) for v in value)
    return value


def _wrapped(value):
    if isinstance(value, (tuple, list)):
        return (list if isinstance(value, list) else tuple)(map(_wrapped, value))  # CuPy has no named tuples
    return ndarray(np.asarray(value)) if isinstance(value, (np.ndarray, np.generic)) else value


def _call(name, function, *args, **kwargs):
    _compile(name)
    with np.errstate(all="ignore"):
        result = function(*_hosts(args), **{key: _hosts(v) for key, v in kwargs.items()})
    out = kwargs.get("out")
    return out[0] if isinstance(out, tuple) else out if out is not None else _wrapped(result)


class MemoryPointer:
    """Where an array begins; copies within the device and constant bytes need no kernel."""

    def __init__(self, host):
        self._host, self.ptr = host, host.ctypes.data

    def _bytes(self, n):
        return self._host.reshape(-1).view(np.uint8)[:n]

    def copy_from_device_async(self, source, n, stream=None):
        self._bytes(n)[:] = source._bytes(n)

    def memset_async(self, value, n, stream=None):
        self._bytes(n)[:] = value


# --- the module's functions that need no kernel ---
def empty(shape, dtype=float, order="C"):
    host = np.empty(shape, dtype, order)
    if host.dtype.kind == "f":
        host.fill(np.nan)
    return ndarray(host)


def zeros(shape, dtype=float, order="C"):
    return ndarray(np.zeros(shape, dtype, order))


def empty_like(prototype, dtype=None, order="K"):
    return ndarray(np.empty_like(prototype._host, dtype, order))


def zeros_like(prototype, dtype=None, order="K"):
    return ndarray(np.zeros_like(prototype._host, dtype, order))


def asarray(obj, dtype=None, order="K"):
    if isinstance(obj, ndarray):
        return obj if dtype is None or obj.dtype == np.dtype(dtype) else obj.astype(dtype)
    return ndarray(np.array(_hosts(obj), dtype, order="C"))


def array(obj, dtype=None, copy=True, order="K"):
    if isinstance(obj, ndarray):
        return obj.copy() if dtype is None or obj.dtype == np.dtype(dtype) else obj.astype(dtype)
    return asarray(obj, dtype)


def ascontiguousarray(obj, dtype=None):
    obj = asarray(obj, dtype)
    return obj if obj.flags.c_contiguous else obj.copy()


def asnumpy(obj):
    return obj.get()


def broadcast_to(obj, shape):
    return obj._view(np.broadcast_to(obj._host, shape))


def expand_dims(obj, axis):
    return obj._view(np.expand_dims(obj._host, axis))


def moveaxis(obj, source, destination):
    return obj._view(np.moveaxis(obj._host, source, destination))


def may_share_memory(a, b):
    return np.may_share_memory(_hosts(a), _hosts(b))


def from_dlpack(obj):
    return ndarray(np.from_dlpack(types.SimpleNamespace(__dlpack__=lambda **options: obj.__dlpack__(),
                                                        __dlpack_device__=lambda: (1, 0))))


def __getattr__(name):
    if name.startswith("_") or not hasattr(np, name):
        raise AttributeError(f"module 'cupy' has no attribute {name!r}")
    found = getattr(np, name)
    if not callable(found) or isinstance(found, type):
        return found
    return lambda *args, **kwargs: _call(name, found, *args, **kwargs)


# --- cupy.cuda ---
class _Device:
    def __init__(self, device=None):
        self.id = 0 if device is None else int(device)
        self.compute_capability = "90"

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def __eq__(self, other):
        return isinstance(other, _Device) and self.id == other.id

    __hash__ = None

    def use(self):
        pass

    def synchronize(self):
        pass


class _Stream:
    null = None

    def __init__(self, null=False, non_blocking=False):
        self.ptr = 0

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def synchronize(self):
        pass


class CUDARuntimeError(RuntimeError):
    pass


runtime = types.SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError, getDeviceCount=lambda: device_count, getDevice=lambda: 0,
    setDevice=lambda device: None, deviceSynchronize=lambda: None, driverGetVersion=lambda: 13000,
    runtimeGetVersion=lambda: 13000,
    getDeviceProperties=lambda device: {"name": b"NumPy", "major": 9, "minor": 0, "totalGlobalMem": 1 << 30,
                                        "multiProcessorCount": 4})
cuda = types.ModuleType("cupy.cuda")
cuda.Device, cuda.Stream, cuda.runtime, cuda.MemoryPointer = _Device, _Stream, runtime, MemoryPointer
cuda.get_current_stream = _Stream


# --- in the place of the real one ---
@contextmanager
def computing():
    """Let what would compile be computed by NumPy."""
    global permissive
    permissive = True
    try:
        yield
    finally:
        permissive = False


@contextmanager
def installed():
    """Let `import cupy` give this module, and the `cuda` namespace run the simt kernels on its arrays."""
    from kdl import kernels
    from kdl.kernels import cuda as namespace
    from kdl.kernels import simt
    ours = {"cupy": sys.modules[__name__], "cupy.cuda": cuda, "kdl.kernels._cuda": _extension(simt._extension())}
    before = {name: sys.modules.get(name) for name in (*ours, "kdl.kernels.gpu")}
    real = kernels._namespaces["cuda"]

    def forget():
        for cached in (namespace.problem, namespace.functions, namespace._extension):
            cached.cache_clear()
        sys.modules.pop("kdl.kernels.gpu", None)
        vars(kernels).pop("gpu", None)

    forget()
    sys.modules.update(ours)
    kernels._namespaces["cuda"] = kernels.Namespace("cuda")
    try:
        yield sys.modules[__name__]
    finally:
        forget()
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module
        kernels._namespaces["cuda"] = real


def _extension(simt):
    """The compiled extension's surface, over the simt kernels: it takes arrays by `__cuda_array_interface__` alone."""
    module = types.ModuleType("kdl.kernels._cuda")
    module.__spec__ = ModuleSpec(module.__name__, None)
    module.signatures, module.architectures = simt.signatures, "the host"
    module.device_count, module.compute_capability = (lambda: device_count), (lambda device: "9.0")
    for name in simt.signatures:
        setattr(module, name, _launcher(getattr(simt, name)))
    return module


def _launcher(kernel):
    def launch(*args, stream, **kwargs):
        assert stream == cuda.get_current_stream().ptr
        kernel(*map(_at_address, args), **{key: _at_address(v) for key, v in kwargs.items()})
    return launch


def _at_address(value):
    if isinstance(value, (list, tuple)):
        return [_at_address(v) for v in value]
    if isinstance(value, np.ndarray):
        raise TypeError("expected a GPU array, got numpy.ndarray")
    if not hasattr(value, "__cuda_array_interface__"):
        return value
    array = np.asarray(types.SimpleNamespace(__array_interface__=value.__cuda_array_interface__))
    return array.view(value.dtype)
