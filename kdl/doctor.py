"""`kdl doctor`: what this machine has, what of kdl works on it, and why the rest does not."""
import importlib.util
import json
import os
import platform
import sys
from importlib import metadata

import numpy as np

import kdl
from kdl import kernels

# Package, versions it must lie in (inclusive, exclusive), and what is lost without it (None: kdl needs it).
_PACKAGES = [("numpy", "2.0", "2.6", None), ("numba", "0.61", "0.70", None), ("ml_dtypes", "0.4", None, None),
             ("safetensors", "0.4", None, None), ("tqdm", "4.60", None, None), ("threadpoolctl", "3.0", None, None),
             ("cupy", "13.0", "15.0", "GPU arrays"), ("matplotlib", "3.7", None, "pictures"),
             ("scikit-learn", "1.3", None, "digits to train on")]


def main(as_json=False):
    """Print the findings; the exit code is 1 when one of them is a fault."""
    findings = [*machine(), *packages(), *blas(), *threads(), *buffers(), *cuda()]
    if as_json:
        print(json.dumps([{"name": n, "value": v, "fault": f} for n, v, f in findings], indent=1))
    else:
        for name, value, fault in findings:
            print(f"{'FAULT ' if fault else '      '}{name:24} {value}")
    return 1 if any(fault for _, _, fault in findings) else 0


def machine():
    """Findings are (name, value, whether it is a fault)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "kdl", kdl.__version__, False
    yield "python", f"{platform.python_version()} at {sys.executable}", sys.version_info < (3, 11)
    yield "system", f"{platform.system()} {platform.release()} {platform.machine()}, {cores} cores", False


def packages():
    for name, low, high, use in _PACKAGES:
        version = _version(name)
        if version is None:
            yield name, f"not installed: no {use}" if use else "not installed, and kdl needs it", use is None
        else:
            wrong = _parts(version) < _parts(low) or (high is not None and _parts(version) >= _parts(high))
            wanted = f", but kdl needs >= {low}" + (f" and < {high}" if high else "")
            yield name, version + (wanted if wrong else ""), wrong


def _version(name):
    """The installed version, or None; CuPy's wheels are named after their CUDA version."""
    for distribution in (name, "cupy-cuda13x", "cupy-cuda12x") if name == "cupy" else (name,):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def _parts(version):
    return [int("".join(c for c in part if c.isdigit()) or 0) for part in version.split(".")[:2]]


def blas():
    if importlib.util.find_spec("threadpoolctl") is None:
        return
    from threadpoolctl import threadpool_info
    np.ones((2, 2)) @ np.ones((2, 2))
    for pool in threadpool_info():
        if pool["user_api"] == "blas":
            shown = f"{pool['internal_api']} {pool['version']}, {pool['architecture']}, {pool['num_threads']} threads"
            forced = [name for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE") if name in os.environ]
            if forced:
                shown += f"; held back by {' and '.join(forced)}, which should be unset"
            yield "numpy's BLAS", shown, bool(forced)


def threads():
    """Which of Numba's threading layers runs the CPU kernels."""
    try:
        x, y = np.ones((2, 1 << 20), np.float32)  # long enough for the threads to be started
        kernels.get("cpu").relu_forward(x, y)
        import numba

        from kdl.kernels.cpu import threads
        layer, n = "one thread" if threads.none else numba.threading_layer(), numba.get_num_threads()
    except Exception as error:  # whatever is wrong with Numba's installation is the finding
        yield "cpu kernels", f"{type(error).__name__}: {error}", True
        return
    slow = "; slow to start and not thread-safe: install libgomp" if layer == "workqueue" else ""
    yield "cpu kernels", f"numba with {layer}, {n} threads{slow}", False


def buffers():
    """What happens to the memory of freed arrays; the numbers are the whole process's."""
    from kdl.kernels.cpu import buffers
    counts = buffers.statistics() or {}
    numbers = "".join(f", {value / (1 << 20):.0f} MB {name}" for name, value in counts.items())
    yield "memory", f"{'recycled' if buffers.enabled else 'returned to the system'}{numbers}", False


def cuda():
    """The GPU side: fine when it works, fine when there is no GPU; a fault when there is one that kdl cannot use."""
    from kdl.kernels import cuda
    problem = cuda.problem()
    yield "cuda kernels", problem or "available", bool(problem) and _has_gpu()
    try:
        built = cuda.functions()
    except ImportError:
        return
    yield "  built for", cuda.architectures(), False
    if problem is None:
        from cupy.cuda import runtime
        driver, toolkit = [f"{v // 1000}.{v % 1000 // 10}" for v in (runtime.driverGetVersion(),
                                                                     runtime.runtimeGetVersion())]
        old = int(driver.split(".")[0]) < int(toolkit.split(".")[0])  # minor versions of CUDA are compatible
        yield "  driver", f"for CUDA {driver}; CuPy uses {toolkit}", old
        for i in range(kdl.cuda.device_count()):
            major, minor = kdl.cuda.get_device_capability(i)
            yield f"  cuda:{i}", f"{kdl.cuda.get_device_name(i)}, compute capability {major}.{minor}", False
    for family, names in _families().items():
        missing = [name for name in names if name not in built]
        without = f"; on the CPU only: {', '.join(missing)}" if missing else ""
        yield f"  {family}", f"{len(names) - len(missing)} of {len(names)} kernels{without}", False


def _families():
    """The kernels there should be, by family."""
    families = {}
    for name, function in kernels.get("reference").functions.items():
        families.setdefault(function.__module__.rpartition(".")[2], []).append(name)
    return families


def _has_gpu():
    return any(os.path.exists(path) for path in ("/dev/nvidia0", "/dev/dxg"))
