"""What is measured: a row is one call of a public function at one size, with array recipes in the place of tensors:

    bench("max_pool2d", normal(32, 64, 56, 56), 3, stride=2, flops=..., bytes=...)

`flops` and `bytes` are what the operation must do and move at least, by formula; the gradient's stand apart. A row has
passes, each measured by itself: `forward`, `backward` (all gradients), `step` (forward and gradients in one), or one
gradient alone, by the position of its argument (`dx`, `dw`). `area` names the line of the gate table it belongs to.

A row whose subject is no single call names a program, a function of `programs.py` that is given the library.
"""
import importlib
import pkgutil
import sys
from dataclasses import dataclass

import benchmarks
from tests.optable import Case

PASSES = ("forward", "backward")
QUICK = 1e9, 1 << 25  # FLOPs and bytes of a small row
OPERANDS = ("forward", "dx", "dw")  # of products and convolutions: each gradient is an algorithm of its own


@dataclass(frozen=True)
class Row:
    family: str
    name: str
    case: Case
    work: dict     # pass -> (FLOPs, bytes)
    area: str
    program: str   # a function of programs.py
    dtype: str
    device: str    # "cpu", "cuda", or "" for both
    kernel: bool   # whether a kernel of ours does the work: without one there is no reference to compare with

    @property
    def passes(self):
        return tuple(self.work)

    def label(self, which):
        """What the row is called in tables, and what two result files are compared by."""
        after = " + relu" if self.program == "then_relu" else ""
        dtype = "" if self.dtype == "float32" else f" {self.dtype}"
        return f"{self.name}({self.case}){after} {which}{dtype}"


ROWS = []


def bench(name, *args, flops=0, bytes=0, backward_flops=None, backward_bytes=None, passes=PASSES, area="",
          program="call", dtype="float32", device="", kernel=True, **kwargs):
    """Add a row. `flops` and `bytes` are the forward's; the gradients' are the same unless they are given."""
    forward = (flops, bytes)
    backward = (flops if backward_flops is None else backward_flops,
                bytes if backward_bytes is None else backward_bytes)
    work = {p: forward if p == "forward" else backward for p in passes}
    family = sys._getframe(1).f_globals["__name__"].rpartition(".bench_")[2]
    ROWS.append(Row(family, name, Case(args, kwargs), work, area, program, dtype, device, kernel))


def families():
    """The names of the families, which are the modules called bench_*."""
    return sorted(m.name.removeprefix("bench_") for m in pkgutil.iter_modules(benchmarks.__path__)
                  if m.name.startswith("bench_"))


def rows(chosen=(), device="cpu", quick=False):
    """The rows of these families, or of all; with `quick`, the first small one of every function. Raises ValueError."""
    unknown = [name for name in chosen if name not in families()]
    if unknown:
        raise ValueError(f"bench: no family {', '.join(unknown)}; there are {', '.join(families())}")
    for family in chosen or families():
        importlib.import_module(f"benchmarks.bench_{family}")
    found = [r for r in ROWS if r.family in (chosen or families()) and r.device in ("", device)]
    first = {}
    for row in found:
        if all(work <= limit for pair in row.work.values() for work, limit in zip(pair, QUICK)):
            first.setdefault((row.family, row.name), row)
    return list(first.values()) if quick else found
