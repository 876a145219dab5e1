"""The `cuda` namespace: the compiled kernels of `csrc/ops/`, for CuPy arrays, on CuPy's current stream.

`cuda.relu_forward(x, y)`: names and arguments are those of every other namespace. Importing this module makes no CUDA
call, so it works on a machine without a GPU; `available()` says whether the kernels can run and `problem()` why not.
"""
import importlib.util
import re
from functools import cache
from inspect import Parameter, Signature


def available():
    """Whether the kernels can run here: the extension is built, CuPy is installed and the driver reports a GPU."""
    return problem() is None


@cache
def problem():
    """Why the kernels cannot run here, in one sentence; None when they can."""
    try:
        extension = _extension()
    except ImportError as error:
        return str(error)
    try:
        if extension.device_count() == 0:
            return "no CUDA GPU: the driver reports no device"
        capability = extension.compute_capability(0)
    except RuntimeError as error:
        return f"no CUDA GPU: {error}"
    if not runs_on(capability, extension.architectures):
        return (f"the GPU has compute capability {capability}, and these kernels are built for "
                f"{extension.architectures}: reinstall with nvcc on PATH (KDL_CUDA=ON pip install .)")
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed: pip install 'kdl-kernels[cuda13]' (or [cuda12])"
    try:
        import cupy
        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # a CuPy for another CUDA version fails in many ways, and each is the finding
        return f"CuPy cannot use the GPU: {error}"
    return None


def runs_on(capability, architectures):
    """Whether code for one of the architectures ("75-real 90a-real 120-virtual") runs on a GPU of that capability.

    Machine code runs on GPUs of the same major version and no lower minor one, with a letter only on that very one;
    PTX on every one that is not older.
    """
    major, minor = map(int, capability.split("."))
    targets = re.findall(r"\b(\d+)(\d)([af]?)(?:-(real|virtual))?(?!\S)", architectures)
    if not targets:
        return True  # built for the machine it was built on
    for x, y, letter, kind in targets:
        x, y = int(x), int(y)
        same = (x, y) == (major, minor) or (not letter and x == major and y <= minor)
        if same or (kind != "real" and not letter and (x, y) <= (major, minor)):
            return True
    return False


@cache
def functions():
    """Every kernel by name. Raises ImportError when the extension is not built."""
    extension = _extension()
    return {name: _kernel(getattr(extension, name), name, names) for name, names in extension.signatures.items()}


def architectures():
    """The GPU architectures this build holds code for, as one line of text."""
    return _extension().architectures


def _kernel(launcher, name, argument_names):
    def kernel(*args, **kwargs):
        stream = _current_stream()
        launcher(*args, **kwargs, stream=stream)

    kernel.__name__ = kernel.__qualname__ = name
    kernel.__signature__ = Signature([Parameter(a, Parameter.POSITIONAL_OR_KEYWORD) for a in argument_names])
    return kernel


def _current_stream():
    if problem():
        raise RuntimeError(problem())
    import cupy
    return cupy.cuda.get_current_stream().ptr


@cache
def _extension():
    if importlib.util.find_spec("kdl.kernels._cuda") is None:
        raise ImportError("the CUDA kernels are not built: reinstall with nvcc on PATH (KDL_CUDA=ON pip install .) "
                          "or with the compiler from PyPI (KDL_PIP_NVCC=1 pip install .)")
    extension = importlib.import_module("kdl.kernels._cuda")
    extension.allocate = _workspace
    return extension


def _workspace(n_bytes):
    """Scratch memory from CuPy's pool, which gives it out again only to work that runs later on the same stream."""
    import cupy
    return cupy.empty(n_bytes, cupy.uint8)


def __getattr__(name):
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return functions()[name]
    except KeyError:
        raise AttributeError(f"kernels: the cuda namespace has no kernel {name!r}") from None
