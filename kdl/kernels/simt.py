"""The `simt` namespace: the real source of the CUDA kernels in `csrc/ops/`, run on the CPU by `csrc/simt/`.

For testing, not for speed: every CUDA thread is emulated. It takes NumPy arrays. The environment variable KDL_SIMT
chooses the build: `plain` (the default); `race`, which also checks every access for bounds, order and initialisation;
`asan`, under AddressSanitizer, in a process that preloads its library (`environment("asan")`). The last two check all
arithmetic for undefined behaviour. What is found is a RuntimeError that names the kernel, the line, the block and the
thread.
"""
import importlib
import os
import shutil
import subprocess
from functools import cache
from inspect import Parameter, Signature

import numpy as np

ORDERS = ("forward", "reverse", "random")
BUILDS = ("plain", "race", "asan")
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


def configure(order="forward", seed=0, *, offset=0, shared_skew=0, last_block=False, patience=10):
    """How kernels run from now on. A kernel without bugs gives the same values, bit for bit, in every order.

    order        in which threads and blocks are scheduled: `forward`, `reverse` or `random` with a `seed`
    offset       elements by which every array lies past its address in host memory, for unaligned bases
    shared_skew  bytes by which dynamic shared memory lies past an aligned address
    last_block   run only the last block of each launch, on the arrays where they lie: for arrays too large to copy
    patience     seconds of processor time after which a thread that never waits is reported as a loop without end
    """
    if order not in ORDERS:
        raise ValueError(f"simt.configure: expected order to be one of {', '.join(ORDERS)}, got {order!r}")
    extension = _extension()
    for option, value in {"order": ORDERS.index(order), "seed": seed, "offset": offset, "shared_skew": shared_skew,
                          "last_block": last_block, "patience": patience}.items():
        extension.set_option(option, value)


def traffic(argument=""):
    """Bytes of global memory read, written and fetched so far, of one argument's arrays or of all; in the `race` build.

    Read and written count every access of every thread. What a block reads again within a launch it has in its L1:
    that is fetched once.
    """
    extension = _extension()
    return tuple(extension.counter(f"bytes_{what} {argument}") for what in ("read", "written", "fetched"))


def _kernel(launcher, name, argument_names):
    def kernel(*args, **kwargs):
        launcher(*args, **kwargs)

    kernel.__name__ = kernel.__qualname__ = name
    kernel.__signature__ = Signature([Parameter(a, Parameter.POSITIONAL_OR_KEYWORD) for a in argument_names])
    return kernel


def build():
    """The build that this process uses."""
    return os.environ.get("KDL_SIMT", "plain")


def environment(build):
    """The environment variables in which a process can load that build."""
    variables = {"KDL_SIMT": build}
    if build == "asan":  # its library comes first, with that whose exceptions it watches; Python keeps no blocks itself
        compiler = shutil.which("g++") or shutil.which("c++")
        libraries = [subprocess.check_output([compiler, f"-print-file-name={name}"], text=True).strip()
                     for name in ("libasan.so", "libstdc++.so.6")]
        variables |= {"LD_PRELOAD": " ".join(libraries), "PYTHONMALLOC": "malloc",
                      "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=0:suppress_equal_pcs=0:allocator_may_return_null=1"}
    return variables


def load(build, package="kdl.kernels", stem="_simt"):
    """The extension of that build. Raises ImportError when it is not built or cannot run in this process."""
    if build not in BUILDS:
        raise ImportError(f"KDL_SIMT must be one of {', '.join(BUILDS)}, got {build!r}")
    if build == "asan" and "libasan" not in os.environ.get("LD_PRELOAD", ""):
        raise ImportError("the asan build of the simt kernels needs AddressSanitizer's library preloaded: "
                          "python -m tests.simt asan")
    name = f"{package}.{stem}{'' if build == 'plain' else '_' + build}"
    try:
        extension = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(NOT_BUILT) from None
    extension.allocate = lambda n_bytes: np.empty(n_bytes, np.uint8)
    return extension


@cache
def _extension():
    return load(build())


def __getattr__(name):
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return functions()[name]
    except KeyError:
        raise AttributeError(f"kernels: the simt namespace has no kernel {name!r}") from None
