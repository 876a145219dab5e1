"""How many threads the CPU kernels use, and that a forked process lives without them."""
import os
import subprocess
import sys

import pytest

from kdl.kernels.cpu.threads import available_cores

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize("group, files, expected", [
    ("0::/a/b", {"a/b/cpu.max": "50000 100000"}, 1),
    ("0::/a/b", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1),
    ("0::/a/b", {"a/b/cpu.max": "max 100000"}, CORES),
    ("0::/", {"cpu.max": "10000000 100000"}, min(CORES, 100)),
    ("4:cpu,cpuacct:/a", {"cpu,cpuacct/a/cpu.cfs_quota_us": "100000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, 1),
    ("4:cpu,cpuacct:/a", {"cpu,cpuacct/a/cpu.cfs_quota_us": "-1", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, CORES),
    ("4:memory:/a", {"memory/a/cpu.max": "50000 100000"}, CORES),
    ("0::/a", {"a/cpu.max": "nonsense"}, CORES)])
def test_cores_are_those_the_control_group_grants(group, files, expected, tmp_path):
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "cgroup").write_text(f"{group}\n")
    assert available_cores(tmp_path / "cgroup", tmp_path / "fs") == expected


def test_cores_without_control_groups(tmp_path):
    assert available_cores(tmp_path / "none", tmp_path) == CORES


FORK = """
import os
import kdl
from kdl.nn import functional as F
x = kdl.randn(256, 1024)
if {before}:
    expected, product = F.relu(x).numpy(), (x @ x.t()).numpy()
child = os.fork()
if child == 0:
    y, z = F.relu(x).numpy(), (x @ x.t()).numpy()
    same = not {before} or ((y == expected).all() and abs(z - product).max() < 1e-3)
    os._exit(0 if same and (y == x.numpy().clip(0)).all() else 1)
print(os.waitpid(child, 0)[1], float(F.relu(x).sum()) > 0)
"""


@pytest.mark.parametrize("before", [True, False])
def test_a_forked_child_computes_as_its_parent_does(before):
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK.format(before=before)], capture_output=True,
                            text=True, timeout=300)
    assert result.stdout.split() == ["0", "True"], result.stderr


MANY = """
import kdl, numba
from kdl.nn import functional as F
kdl.manual_seed(0)
image, filters, few = kdl.randn(6, 32, 17, 17), kdl.randn(40, 32, 3, 3), kdl.randn(5, 32, 3, 3)
layers = [kdl.nn.RNN(24, 48), kdl.nn.GRU(24, 48), kdl.nn.LSTM(24, 48)]
calls = [lambda x, w=w, s=s: F.conv2d(x, w, None, s, 1) for w in (filters, few) for s in (1, 2)]
calls += [lambda x: F.max_pool2d(x, 2), lambda x: F.softmax(x, 1), lambda x: F.batch_norm(x, None, None, training=True)]
calls = [(call, image) for call in calls] + [(lambda x, m=m: m(x)[0], kdl.randn(12, 130 + 32 * i, 24))
                                             for i, m in enumerate(layers) for _ in range(3)]
found = []
for threads in (1, 4):
    numba.set_num_threads(threads)
    for call, x in calls:
        x = x.detach().clone().requires_grad_()
        y = call(x)
        y.backward(kdl.ones_like(y) / 2)
        found.append((y.detach().numpy(), x.grad.numpy()))
half = len(found) // 2
print([i for i in range(half) if any((a != b).any() for a, b in zip(found[i], found[half + i]))])
"""


def test_results_do_not_depend_on_the_number_of_threads():
    environment = {**os.environ, "NUMBA_NUM_THREADS": "4"}
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", MANY], capture_output=True, text=True, timeout=300,
                            env=environment)
    assert result.stdout.strip() == "[]", result.stderr
