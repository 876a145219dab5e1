"""Where and with what a result was measured, and the environments in which libraries are run."""
import ctypes.util
import importlib.util
import os
import platform
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Freed memory stays with the process: without this, glibc gives large blocks back, and every output of an operation
# costs a page fault for each of its 4 KB.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
                "MALLOC_TOP_PAD_": str(1 << 26)}


def environment(threads, **added):
    """Of a process that is timed: OpenBLAS chooses its kernels itself, and every pool has as many threads."""
    found = {name: value for name, value in os.environ.items()
             if not name.startswith(("OPENBLAS_", "MALLOC_", "KMP_", "OMP_", "MKL_", "NUMBA_NUM", "LD_PRELOAD"))}
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**found, **dict.fromkeys(pools, str(threads)), "PYTHONPATH": path, **added}


def good_allocator():
    """(name, environment) of an allocator that keeps what is freed: tcmalloc where there is one, else glibc's own."""
    for library in ("tcmalloc_minimal", "tcmalloc"):
        path = ctypes.util.find_library(library)
        if path:
            return library, {"LD_PRELOAD": path}
    return "glibc, told to keep freed memory", _KEEP_MEMORY


def installed(package):
    return importlib.util.find_spec(package) is not None


def cores():
    return len(os.sched_getaffinity(0))


def describe():
    """What does not depend on a library: the processor, the system, the commit and the date."""
    return {"cpu": _cpu(), "cores": cores(), "system": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(), "commit": _commit(),
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "load": round(os.getloadavg()[0], 1)}


def _cpu():
    try:
        facts = {}
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
        vectors = [name for name in ("avx512f", "avx2") if name in facts.get("flags", "").split()][:1]
        numbers = f"family {facts['cpu family']} model {facts['model']}"
        return ", ".join([facts["model name"], numbers, *vectors])
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def _commit():
    """The commit of the checkout, marked where files differ from it; "unknown" outside a checkout."""
    try:
        git = ["git", "-C", str(ROOT)]
        commit, changes = [subprocess.run([*git, *words], capture_output=True, text=True, check=True).stdout.strip()
                           for words in (["rev-parse", "--short=12", "HEAD"],
                                         ["status", "--porcelain", "--untracked-files=no"])]
        return commit + ("+changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
