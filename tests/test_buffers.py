"""Freed arrays' memory serves the next arrays. Each test has a process of its own: the allocator is the process's."""
import os
import subprocess
import sys

import pytest

from kdl.kernels.cpu import buffers

pytestmark = pytest.mark.skipif(buffers.statistics() is None, reason="the C library is not glibc 2.33 or newer")

START = """
import resource, numpy as np, kdl
from kdl.kernels.cpu import buffers
from kdl.nn import functional as F
F.relu(kdl.ones(2))
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
MB = 1 << 20
"""


def run(code, **environment):
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", START + code], capture_output=True, text=True,
                            timeout=300, env={**os.environ, **environment})
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


STEPS = """
x = kdl.ones(12 * MB, requires_grad=True)
for step in range(6):
    before = faults()
    x.grad = None
    F.relu(x).sum().backward()
print(buffers.enabled, faults() - before)
"""


def test_a_step_like_the_last_touches_no_new_page():
    enabled, new = run(STEPS)
    assert enabled == "True" and int(new) < 200


def test_it_can_be_switched_off():
    assert run(STEPS, KDL_RECYCLE="0")[0] == "False"


def test_switching_off_gives_back_what_was_kept():
    kept, after = run("""
arrays = [np.ones(MB // 4) for _ in range(100)]
del arrays
kept = buffers.statistics()["kept"]
buffers.recycle(False)
print(kept // MB, (buffers.statistics()["kept"]) // MB)
assert not buffers.enabled
big = np.ones(8 * MB)
used = buffers.statistics()["used"]
del big
assert buffers.statistics()["used"] <= used - 60 * MB
""")
    assert int(kept) >= 150 and int(after) <= int(kept) // 2


def test_arrays_never_share_memory_whatever_the_views_and_threads_do():
    assert run("""
from concurrent.futures import ThreadPoolExecutor
def work(seed):
    rng, kept = np.random.default_rng(seed), []
    for step in range(300):
        n = int(rng.integers(1, 1 << 16))
        y = F.relu(kdl.ones(n) * (seed * 1000.0 + step)).numpy()
        kept.append((seed * 1000.0 + step, memoryview(y[n // 3:][::-2]) if step % 3 else y))
        if len(kept) > 20:
            value, view = kept.pop(int(rng.integers(20)))
            assert (np.asarray(view) == value).all()
    return all((np.asarray(view) == value).all() for value, view in kept)
with ThreadPoolExecutor(4) as pool:
    print(all(pool.map(work, range(4))))
a = np.empty(MB)
a.resize(3 * MB)
a[:] = 1
print(a.sum() == 3 * MB)
""") == ["True", "True"]
