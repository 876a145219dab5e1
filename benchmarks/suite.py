"""Running rows: every variant is checked against float64, then all of them are timed in turn, each in its process."""
from functools import partial

import numpy as np

from benchmarks import machine, roof, timing
from benchmarks.worker import Worker
from tests.optable import TOLERANCE

# What ours is compared with: the best of the variants whose names start so.
COLUMNS = {"reference": "reference", "BLAS": "numpy", "torch": "torch ", "torch tuned": "tuned ",
           "torch as installed": "torch contiguous"}
REPEATED = {"training_step": 5, "optimizer_step": 3}  # calls whose outputs are compared, one after the other
LOSSES = 1e-4  # relative difference of a training step's losses: four digits are equal


class Suite:
    """The processes of one number of threads: kdl with NumPy, torch, and torch with an allocator that keeps memory."""

    def __init__(self, threads, rivals):
        self.threads, self.rivals = threads, rivals
        self.clock = "cpu" if threads == 1 else "wall"
        self.workers = {"": Worker("kdl", machine.environment(threads))}
        self.absent = {}
        if "torch" in rivals:
            if machine.installed("torch"):
                self.allocator, settings = machine.good_allocator()
                self.workers["torch "] = Worker("torch", machine.environment(threads))
                self.workers["tuned "] = Worker("torch", machine.environment(threads, **settings))
            else:
                self.absent["torch"] = "not installed: pip install 'kdl-kernels[bench]'"

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for worker in self.workers.values():
            worker.close()

    def describe(self):
        """The machine, the versions and the roof, as every process sees them."""
        facts = {**machine.describe(), "threads": self.threads, "clock": self.clock, "absent": self.absent}
        for worker in self.workers.values():
            facts |= worker.ask("describe")
        if "tuned " in self.workers:
            facts["tuned allocator"] = self.allocator
        self.roof = facts["roof"] = self.workers[""].ask("roof")
        return facts

    def run(self, row, seconds):
        """Check and time a row; a result for every pass. Raises AssertionError when a variant computes otherwise."""
        having = {}  # variant -> (worker, its name there, passes)
        for prefix, worker in self.workers.items():
            for name, passes in worker.ask("prepare", row).items():
                if "numpy" in self.rivals or name not in ("reference", "numpy"):
                    having[prefix + name] = worker, name, passes
        for which in row.passes:
            variants = {v: (worker, name) for v, (worker, name, passes) in having.items() if which in passes}
            errors = self._check(row, which, variants)
            runs = {v: partial(self._seconds, worker, name, which) for v, (worker, name) in variants.items()}
            times = timing.race(runs, seconds)
            yield self._result(row, which, times, errors)

    def _seconds(self, worker, name, which, calls):
        return worker.ask("seconds", name, which, calls, self.clock)

    def _check(self, row, which, variants):
        """{variant: largest error / standard deviation}, against the reference in float64."""
        times = REPEATED.get(row.program, 1)
        training = row.program == "training_step"
        oracle = "torch " if training and "torch " in self.workers else ""  # NumPy takes minutes for a ResNet's steps
        truth = self.workers[oracle].ask("truth", row, which, times)
        limit = LOSSES if training else 50 * TOLERANCE[row.dtype]
        errors = {}
        for variant, (worker, name) in variants.items():
            outputs = worker.ask("outputs", name, which, 1 if name == "reference" else times)
            errors[variant] = max(_error(y, t) for y, t in zip(outputs, truth))
            if not all(_relative(y, t) <= limit for y, t in zip(outputs, truth)):
                raise AssertionError(f"{row.label(which)}: {variant} differs from the float64 reference by "
                                     f"{errors[variant]:.2g} standard deviations")
        return errors

    def _result(self, row, which, times, errors):
        ours = timing.Spread.of(times["kdl"])
        flops, moved = row.work[which]
        result = {"family": row.family, "area": row.area, "name": row.name, "label": row.label(which), "pass": which,
                  "dtype": row.dtype, "threads": self.threads, "clock": self.clock, "flops": flops, "bytes": moved,
                  "us": ours.median * 1e6, "us_low": ours.low * 1e6, "us_high": ours.high * 1e6,
                  "gflops": flops / ours.median / 1e9, "gbs": moved / ours.median / 1e9,
                  "roof": roof.seconds(self.roof, flops, moved) / ours.median if flops or moved else None,
                  "variants": {name: np.median(t) * 1e6 for name, t in times.items()}, "errors": errors, "ratios": {}}
        for column, prefix in COLUMNS.items():
            present = [name for name in times if name.startswith(prefix)]
            if present:
                best = min(present, key=lambda name: np.median(times[name]))
                r = timing.ratio(times["kdl"], times[best])
                result["ratios"][column] = {"best": best, "x": r.median, "low": r.low, "high": r.high}
        return result

    def memory(self, row):
        """{library: bytes above the imported library at the peak of five steps}, each in a process of its own."""
        found = {}
        for prefix, library in (("", "kdl"), ("torch ", "torch")):
            if prefix in self.workers:
                worker = Worker(library, machine.environment(self.threads))
                found[library] = worker.ask("memory", row, row.passes[0])
                worker.close()
        return found


def _error(y, truth):
    return float(np.max(np.abs(y - truth), initial=0) / (np.std(truth) if truth.size > 1 else 1.0))


def _relative(y, truth):
    return np.max(np.abs(y - truth), initial=0) / max(1.0, np.max(np.abs(truth), initial=0))
