"""The kernels: one set of functions, written four times.

| namespace   | what it is                                          | arrays |
|-------------|-----------------------------------------------------|--------|
| `reference` | NumPy, plain and obviously right                    | NumPy  |
| `cpu`       | Numba, parallel and vectorised: the default         | NumPy  |
| `cuda`      | CUDA C++, compiled                                  | CuPy   |
| `simt`      | the same CUDA source, run on the CPU, for testing   | NumPy  |

The contract, the same everywhere: a kernel takes its input arrays, then the output arrays it fills (every element),
then plain parameters (int, float, bool, tuples of int); an optional array may be None. It returns nothing and never
changes an input. Arrays are dense: all C-contiguous, or all channels-last. Floating arrays of one call share one dtype
unless the docstring says otherwise; float16 and bfloat16 are computed in float32. `kdl/ops/` has checked shapes and
values before any kernel is called. Gradients are `gx gw gy`.
"""
import importlib
import pkgutil
from contextlib import contextmanager
from contextvars import ContextVar
from types import FunctionType

import numpy as np


class Namespace:
    """The kernels of one backend: every public function its modules define, loaded when the first is asked for."""

    def __init__(self, name):
        self.name = name

    def __getattr__(self, attribute):
        if attribute == "xp":
            self.xp = np if self.name != "cuda" else importlib.import_module("kdl.kernels.gpu")
        elif attribute in ("empty", "zeros"):
            setattr(self, attribute, getattr(self.xp, attribute))
        elif attribute == "functions":
            self.functions = _public_functions(importlib.import_module(f"kdl.kernels.{self.name}"))
        elif attribute in self.functions:
            setattr(self, attribute, self.functions[attribute])
        else:
            remedy = "; compute it on the CPU, with tensor.cpu()" if self.name == "cuda" else ""
            raise AttributeError(f"kernels: the {self.name} namespace has no kernel {attribute!r}{remedy}")
        return getattr(self, attribute)

    def __repr__(self):
        return f"<kernels {self.name}>"


def _public_functions(module):
    """The kernels of a namespace: a compiled one has a table, a package has its families' public functions."""
    if hasattr(module, "functions"):
        return module.functions()
    modules = [importlib.import_module(f"{module.__name__}.{family}") for family in families()]
    return {name: value for m in modules for name, value in vars(m).items()
            if isinstance(value, FunctionType) and value.__module__ == m.__name__ and not name.startswith("_")}


def families():
    """The names of the kernel families: the modules of the reference."""
    from kdl.kernels import reference
    return sorted(m.name for m in pkgutil.iter_modules(reference.__path__))


_namespaces = {name: Namespace(name) for name in ("reference", "cpu", "cuda", "simt")}
_host = ContextVar("host_kernels", default=_namespaces["cpu"])
of_host = _host.get  # the namespace for host arrays


def get(name):
    """The namespace of that name. Raises ValueError."""
    if name not in _namespaces:
        raise ValueError(f"kernels: expected one of {', '.join(map(repr, _namespaces))}, got {name!r}")
    return _namespaces[name]


@contextmanager
def use(name):
    """Run host arrays through the `reference`, `cpu` or `simt` kernels inside the block. Raises ValueError."""
    if name == "cuda":
        raise ValueError("kernels.use: 'cuda' is chosen by the arrays; move tensors with .to('cuda')")
    token = _host.set(get(name))
    try:
        yield
    finally:
        _host.reset(token)


def explain(function, *args, **kwargs):
    """How the kernels go about function(*args, **kwargs), as text.

    NumPy arrays: the way that each convolution goes on the CPU, which runs it. CuPy arrays: for every product the rows
    of its tile table, with the modelled cost or why a row is not legal, and the one chosen, and for every launch its
    kernel and shape; nothing is started. Inside `use("simt")` NumPy arrays show what an emulated GPU would get. Raises
    ImportError where the compiled kernels are not built.

        print(kdl.explain(kdl.nn.functional.conv2d, x, w))
    """
    arrays = [getattr(a, "array", a) for a in (*args, *kwargs.values())]
    if any(hasattr(a, "__cuda_array_interface__") for a in arrays) or _host.get().name == "simt":
        name = "simt" if _host.get().name == "simt" else "cuda"
        return importlib.import_module(f"kdl.kernels.{name}")._extension().explain(function, *args, **kwargs)
    return importlib.import_module("kdl.kernels.cpu.explain").explain(function, *args, **kwargs)


def of(*arrays):
    """The namespace for these arrays; plain numbers among them do not count. Raises TypeError for mixed devices."""
    found = None
    for array in arrays:
        if type(array) is np.ndarray:
            kind = "host"
        elif hasattr(array, "__cuda_array_interface__"):
            kind = "cuda"
        else:
            continue
        if found is None:
            found = kind
        elif found != kind:
            raise TypeError("expected all tensors on the same device, got some on cpu and some on cuda; "
                            "move them with .to(device)")
    return _namespaces["cuda"] if found == "cuda" else _host.get()
