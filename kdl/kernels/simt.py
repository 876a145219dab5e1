"""The `simt` namespace: the real source of the CUDA kernels in `csrc/ops/`, run on the CPU by `csrc/simt/`.

For testing, not for speed: every CUDA thread is emulated. It takes NumPy arrays. The environment variable KDL_SIMT
chooses the build: `plain` (the default), or `race`, which also checks every access for bounds, order and
initialisation, and all arithmetic for undefined behaviour. What it finds is a RuntimeError that names the kernel, the
line, the block and the thread.
"""
import importlib
import os
from functools import cache
from inspect import Parameter, Signature

import numpy as np

ORDERS = ("forward", "reverse", "random")
BUILDS = {"plain": "_simt", "race": "_simt_race"}
NOT_BUILT = ("the simt kernels are not built: cmake -S . -B build/simt -DKDL_CUDA=OFF -DKDL_SIMT=ON -DKDL_INPLACE=ON "
             "&& cmake --build build/simt")


def available():
    """Whether the kernels can run here: the extension was built with KDL_SIMT=ON."""
    return problem() is None


def problem():
    """Why the kernels cannot run here, in one sentence; None when they can."""
    try:
        _extension()
    except ImportError as error:
        return str(error)
    return None


@cache
def functions():
    """Every kernel by name. Raises ImportError when the extension is not built."""
    extension = _extension()
    return {name: _kernel(getattr(extension, name), name, names) for name, names in extension.signatures.items()}


def configure(order="forward", seed=0, shared_skew=0):
    """How threads and blocks are scheduled from now on: `forward`, `reverse` or `random` with a seed.

    A kernel without bugs gives the same bits in every order. `shared_skew` shifts dynamic shared memory by bytes.
    """
    if order not in ORDERS:
        raise ValueError(f"simt.configure: expected order to be one of {', '.join(ORDERS)}, got {order!r}")
    extension = _extension()
    extension.set_option("order", ORDERS.index(order))
    extension.set_option("seed", seed)
    extension.set_option("shared_skew", shared_skew)


def traffic():
    """Bytes of global memory that threads have read and written so far; only the `race` build counts."""
    extension = _extension()
    return extension.counter("bytes_read"), extension.counter("bytes_written")


def _kernel(launcher, name, argument_names):
    def kernel(*args, **kwargs):
        launcher(*args, **kwargs)

    kernel.__name__ = kernel.__qualname__ = name
    kernel.__signature__ = Signature([Parameter(a, Parameter.POSITIONAL_OR_KEYWORD) for a in argument_names])
    return kernel


@cache
def _extension():
    build = os.environ.get("KDL_SIMT", "plain")
    if build not in BUILDS:
        raise ImportError(f"KDL_SIMT must be one of {', '.join(BUILDS)}, got {build!r}")
    name = f"kdl.kernels.{BUILDS[build]}"
    try:
        extension = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(NOT_BUILT) from None
    extension.allocate = lambda n_bytes: np.empty(n_bytes, np.uint8)
    return extension


def __getattr__(name):
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return functions()[name]
    except KeyError:
        raise AttributeError(f"kernels: the simt namespace has no kernel {name!r}") from None
