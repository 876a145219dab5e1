"""Elementwise functions: a read of every operand and a write of the result."""
from benchmarks.harness import bench
from tests.optable import normal, positive

for _name in ("erf", "erfc"):
    bench(_name, normal(64, 4096), bytes=8 * 64 * 4096, backward_bytes=12 * 64 * 4096)
    bench(_name, normal(1000), bytes=8 * 1000, backward_bytes=12 * 1000)

# NumPy's own loops under the tape: there is no kernel, and so no reference to be faster than
for _name in ("add", "mul", "div"):
    bench(_name, normal(4096, 1024), positive(4096, 1024), bytes=12 * 2**22, kernel=False)
bench("add", normal(4096, 1024), normal(1024), bytes=8 * 2**22, kernel=False)
for _name in ("exp", "log", "sqrt"):
    bench(_name, positive(4096, 1024), bytes=8 * 2**22, backward_bytes=12 * 2**22, kernel=False)
