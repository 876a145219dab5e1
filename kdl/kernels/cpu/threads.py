"""Which threads run the CPU kernels: how many, of which library, and when there must be none."""
import math
import os
from pathlib import Path

import numba

if numba.config.THREADING_LAYER == "default":
    # OpenMP first: it is thread-safe and wakes in 2 us, where workqueue takes 150 us and is not thread-safe
    numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]
if "OMP_WAIT_POLICY" not in os.environ:
    # Idle threads of GNU OpenMP spin for about 10 ms by default and so keep others from running, those of NumPy's BLAS
    # among them: a user's 512^3 product after a kernel took 7.2 ms instead of 1.0. This is 0.2 to 0.5 ms: threads are
    # still awake at the next kernel of a network. A step of LeNet-5 on two threads: 3000 4.2 ms, 10000 and more 3.3.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")


def available_cores(groups="/proc/self/cgroup", root="/sys/fs/cgroup"):
    """The cores this process may use: those it is bound to, or fewer where its control group grants less time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _granted(Path(groups), Path(root))))


def _granted(groups, root):
    """The cores' worth of time that the control groups grant: the least from the process's own up to the root."""
    least = math.inf
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return least
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "cpu", "cpu,cpuacct"):
            top = root / controllers if controllers else root
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                least = min(least, _quota(folder))
                if folder == top:
                    break
    return least


def _quota(folder):
    """Of one group, in whole cores; infinite where it is not limited."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = [(folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")]
        return math.ceil(int(quota) / int(period)) if quota != "max" and int(quota) > 0 else math.inf
    except (OSError, ValueError):
        return math.inf


if "NUMBA_NUM_THREADS" not in os.environ:
    numba.config.NUMBA_NUM_THREADS = min(numba.config.NUMBA_NUM_THREADS, available_cores())

none = numba.config.NUMBA_NUM_THREADS == 1  # whether kernels run in the calling thread alone


def _after_fork():
    """GNU OpenMP's threads are not there in a forked child, and Numba ends a child that asks for them."""
    global none
    try:
        none = none or numba.threading_layer() == "omp"
    except ValueError:  # the parent had started none: the child may start its own
        pass


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
