"""The kernel benchmark: every row is checked against the `reference` kernels, then timed against them.

A row is one call of a public function at one size, with array recipes in the place of tensors:

    bench("max_pool2d", normal(32, 64, 56, 56), 3, stride=2, flops=..., bytes=...)

Forward and backward are timed apart. The variants take turns (A B B A), and what is printed is the median and the
quartiles of the rounds, the rate by the row's own count of FLOPs or bytes, and the ratio to the reference.
"""
import time
from dataclasses import dataclass

import numpy as np

import kdl
import kdl.nn.functional as F
from kdl import kernels
from tests.optable import TOLERANCE, Array, Case


@dataclass(frozen=True)
class Row:
    name: str
    case: Case
    flops: float
    bytes: float


ROWS = []


def bench(name, *args, flops=0, bytes=0, **kwargs):
    """Add a row; `flops` and `bytes` are what the forward does and moves at least."""
    ROWS.append(Row(name, Case(args, kwargs), flops, bytes))


@dataclass(frozen=True)
class Timing:
    """Seconds per call: median and quartiles over the rounds."""
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, seconds):
        low, median, high = np.percentile(seconds, [25, 50, 75])
        return cls(median, low, high)


def interleaved(variants, seconds):
    """Time zero-argument functions in turn, forwards and backwards, for about this long; a Timing per variant."""
    calls = {name: _calls_per_round(function) for name, function in variants.items()}
    rounds = {name: [] for name in variants}
    deadline = time.perf_counter() + seconds
    order = list(variants)
    while time.perf_counter() < deadline or len(rounds[order[0]]) < 4:
        for name in order:
            start = time.perf_counter()
            for _ in range(calls[name]):
                variants[name]()
            rounds[name].append((time.perf_counter() - start) / calls[name])
        order.reverse()
    return {name: Timing.of(times) for name, times in rounds.items()}


def _calls_per_round(function):
    """How many calls fill a millisecond, after a warm-up call that compiles."""
    function()
    start = time.perf_counter()
    function()
    return max(1, int(1e-3 / max(time.perf_counter() - start, 1e-7)))


def build(row, dtype):
    """The row's function as `call() -> output` over fresh tensors, and the tensors that want gradients."""
    rng = np.random.default_rng(0)
    tensors = {}
    for position, value in (*enumerate(row.case.args), *row.case.kwargs.items()):
        if isinstance(value, Array):
            array = value.build(rng, dtype)
            tensors[position] = kdl.Tensor(array, requires_grad=value.grad and array.dtype == dtype)
    args = [tensors.get(i, value) for i, value in enumerate(row.case.args)]
    kwargs = {name: tensors.get(name, value) for name, value in row.case.kwargs.items()}
    function = getattr(F, row.name, None) or getattr(kdl, row.name)

    def call():
        y = function(*args, **kwargs)
        return y[0] if isinstance(y, tuple) else y
    return call, [x for x in tensors.values() if x.requires_grad]


def passes(row, dtype, namespace):
    """Forward and backward of one row in one namespace, as zero-argument functions that return arrays."""
    call, leaves = build(row, dtype)
    with kernels.use(namespace):
        y = call()

    @kdl.no_grad
    def forward():
        with kernels.use(namespace):
            return [call().array]

    def backward():
        return [g.array for g in kdl.grad(y, leaves, gy, retain_graph=True)]

    if not y.requires_grad:
        return {"forward": forward}
    gy = kdl.Tensor(np.random.default_rng(1).standard_normal(y.shape).astype(dtype))
    return {"forward": forward, "backward": backward}


def run(row, dtype, seconds):
    """Check the row against the reference, time it, and yield one line of result per pass."""
    ours, reference = passes(row, dtype, "cpu"), passes(row, dtype, "reference")
    for name in ours:
        for a, b in zip(ours[name](), reference[name](), strict=True):
            error = np.max(np.abs(a.astype(np.float64) - b), initial=0) / max(1.0, np.max(np.abs(b), initial=0))
            if not error <= 50 * TOLERANCE[str(dtype)]:
                raise AssertionError(f"{row.name}({row.case}) {name}: differs from the reference by {error:.2g}")
        times = interleaved({"cpu": ours[name], "reference": reference[name]}, seconds)
        cpu, ref = times["cpu"], times["reference"]
        yield {"op": row.name, "case": str(row.case), "pass": name, "dtype": str(dtype), "us": cpu.median * 1e6,
               "us_low": cpu.low * 1e6, "us_high": cpu.high * 1e6,
               "GFLOP/s": row.flops / cpu.median / 1e9 if name == "forward" else None,
               "GB/s": row.bytes / cpu.median / 1e9 if name == "forward" else None,
               "x reference": ref.median / cpu.median}
