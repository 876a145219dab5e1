"""Running rows: every variant is checked against float64, then all of them are timed in turn, each in its process."""
import time
from functools import partial

import numpy as np

from benchmarks import machine, programs, roof, timing
from benchmarks.worker import Worker, errors
from tests.optable import TOLERANCE

# What ours is compared with: the best of the variants whose names start so.
COLUMNS = {"reference": "reference", "BLAS": "numpy", "CuPy": "cupy", "torch": "torch ", "torch tuned": "tuned ",
           "torch as installed": "torch contiguous"}
ALL = [column for column in COLUMNS if column != "torch as installed"]  # that one is for gates alone
REPEATED = {"training_step": 5, "optimizer_step": 3}  # calls whose outputs are compared, one after the other
LOSSES = 1e-4     # relative difference of a training step's losses: four digits are equal
SUSTAINED = 1e11  # FLOPs from which a GPU is also measured warm: its clock falls within seconds
QUEUE = 50        # calls that wait in a GPU's queue at most
SETTLE = 0.04     # seconds until the threads of whoever ran before sleep: OpenBLAS's go on spinning for 2^26 cycles
TURN = 0.02       # seconds that a turn lasts on several threads


class Suite:
    """The processes of one number of threads: kdl with NumPy, torch, and torch with an allocator that keeps memory.

    On `cuda` it is one process, and so it is in a `rehearsal`, which is `cuda` without a GPU.
    """

    def __init__(self, device, threads, rivals):
        self.device, self.threads, self.rivals = device, threads, rivals
        self.clock = "device" if device != "cpu" else "cpu" if threads == 1 else "wall"
        self.absent = {name: "not installed" for name in rivals
                       if name in ("torch", "cupy") and not machine.installed(name)}
        self.allocator, self.kept = machine.good_allocator()
        self.workers = {}

    def __enter__(self):
        """Start the processes."""
        surroundings = machine.environment(self.threads)
        if self.device != "cpu":
            self.workers = {"": Worker(self.device, surroundings)}
            return self
        self.workers = {"": Worker("kdl", surroundings)}
        if self._has("torch"):
            self.workers["torch "] = Worker("torch", surroundings)
            self.workers["tuned "] = Worker("torch", machine.environment(self.threads, **self.kept))
        return self

    def __exit__(self, *exception):
        for worker in self.workers.values():
            worker.close()

    def restart(self):
        """Begin with fresh processes: after an error one may be gone."""
        self.__exit__()
        self.__enter__()

    def _has(self, rival):
        return rival in self.rivals and rival not in self.absent

    def describe(self):
        """The machine, the versions and the roof, as the processes see them."""
        facts = {**machine.describe(), "threads": self.threads, "clock": self.clock, "absent": self.absent}
        for worker in self.workers.values():
            facts |= worker.ask("describe")
        if "tuned " in self.workers:
            facts["tuned allocator"] = self.allocator
        self.commit = facts["commit"]
        self.roof = facts["roof"] = self.workers[""].ask("roof")
        return facts

    def run(self, row, seconds):
        """Check and time a row; a result for every pass, and one more for a GPU that is warm.

        Raises AssertionError when a variant computes something else, RuntimeError when ours does not run.
        """
        having, failed = {}, {}  # variant -> (worker, its name there, passes), and -> why not
        for prefix, worker in self.workers.items():
            for name, passes in worker.ask("prepare", row).items():
                if isinstance(passes, str):
                    failed[prefix + name] = passes
                elif self._wanted(prefix + name):
                    having[prefix + name] = worker, name, passes
        if "kdl" not in having:
            raise RuntimeError(f"{row.label(row.passes[0])}: {failed.get('kdl', 'no pass of it runs')}")
        for which in row.passes:
            variants = {v: (worker, name) for v, (worker, name, passes) in having.items() if which in passes}
            found = self._check(row, which, variants)
            runs = {v: partial(self._seconds, worker, name, which) for v, (worker, name) in variants.items()}
            warm = self.device == "cuda" and row.work[which][0] >= SUSTAINED and which == row.passes[0]
            if warm:
                time.sleep(1)  # the burst begins cool
            limit = timing.MOST_CALLS if self.device == "cpu" else QUEUE
            times = timing.race(runs, seconds, limit=limit, turn_lasts=TURN if self.clock == "wall" else timing.ROUND)
            yield self._result(row, which, times, found, failed)
            if warm:
                timing.race(runs, 3, limit=limit)
                yield self._result(row, which, timing.race(runs, 2, limit=limit), found, failed, " sustained")

    def _wanted(self, variant):
        rival = {"reference": "numpy", "kdl fast": "kdl"}.get(variant, variant.split()[0].replace("tuned", "torch"))
        return rival == "kdl" or rival in self.rivals

    def _seconds(self, worker, name, which, calls):
        if self.clock == "wall":
            time.sleep(SETTLE)
            worker.ask("seconds", name, which, calls, self.clock)  # threads that slept share a core for 10 to 20 ms
        return worker.ask("seconds", name, which, calls, self.clock)

    def _check(self, row, which, variants):
        """{variant: largest error / standard deviation}, against the reference in float64."""
        times, training = REPEATED.get(row.program, 1), row.program == "training_step"
        if self.device != "cpu":
            found = self.workers[""].ask("errors", row, which, times)
        else:
            oracle = "torch " if training and "torch " in self.workers else ""  # NumPy's ResNet takes minutes
            truth = self.workers[oracle].ask("truth", row, which, times)
            found = {}
            for variant, (worker, name) in variants.items():
                outputs = worker.ask("outputs", name, which, 1 if name == "reference" else times)
                found[variant] = errors(outputs, truth[:len(outputs)], programs.flipped(row, which))
        limit = LOSSES if training else 50 * TOLERANCE[row.dtype]
        for variant in variants:
            error, relative = found[variant]
            if not relative <= limit:
                raise AssertionError(f"{row.label(which)}: {variant} differs from the float64 reference by "
                                     f"{error:.2g} standard deviations")
        return {variant: error for variant, (error, _) in found.items()}

    def _result(self, row, which, times, found, failed, regime=""):
        ours = timing.Spread.of(times["kdl"])
        flops, moved = row.work[which]
        result = {"family": row.family, "area": row.area, "name": row.name, "label": row.label(which) + regime,
                  "pass": which, "dtype": row.dtype, "threads": self.threads, "clock": self.clock,
                  "commit": self.commit, "flops": flops, "bytes": moved,
                  "us": ours.median * 1e6, "us_low": ours.low * 1e6, "us_high": ours.high * 1e6,
                  "gflops": flops / ours.median / 1e9, "gbs": moved / ours.median / 1e9,
                  "roof": roof.seconds(self.roof, row.dtype, flops, moved) / ours.median,
                  "variants": {name: float(np.median(t)) * 1e6 for name, t in times.items()}, "errors": found,
                  "failed": failed, "ratios": {}}
        for column, prefix in COLUMNS.items():
            present = [name for name in times if name.startswith(prefix)]
            if present:
                best = min(present, key=lambda name: np.median(times[name]))
                r = timing.ratio(times["kdl"], times[best])
                result["ratios"][column] = {"best": best, "x": r.median, "low": r.low, "high": r.high}
        return result

    def memory(self, row):
        """The peak of five steps, each library in a process of its own.

        {library: bytes above the loaded library, "library in all": bytes of the whole process}
        """
        found = {}
        for prefix, library in (("", "kdl"), ("torch ", "torch")):
            if prefix in self.workers:
                with Worker(library, machine.environment(self.threads)) as worker:
                    found[library], found[f"{library} in all"] = worker.ask("memory", row, row.passes[0])
        return found
