"""A process that runs one library: python -m benchmarks.worker kdl|torch|cuda|rehearsal, spoken to by `Worker` below.

Allocator settings, thread counts and BLAS kernels belong to a process, so every library, and torch once more with
another allocator, has one of its own. Requests and answers are pickles on the standard streams; processes take turns,
so only one of them computes at any time.
"""
import os
import pickle
import subprocess
import sys
import time
import traceback
from contextlib import ExitStack, contextmanager

import numpy as np

from benchmarks import programs

CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter}


class Worker:
    """A running worker; each method asks it for something and waits. Raises RuntimeError with the worker's error."""

    def __init__(self, library, environment):
        self.process = subprocess.Popen([sys.executable, "-m", "benchmarks.worker", library], env=environment,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, request, *args):
        pickle.dump((request, args), self.process.stdin)
        self.process.stdin.flush()
        try:
            failed, answer = pickle.load(self.process.stdout)
        except EOFError:
            raise RuntimeError(f"a benchmark process ended while it was asked to {request}") from None
        if failed:
            raise RuntimeError(answer)
        return answer

    def close(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:  # it is gone already
            pass
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


class Library:
    """What a worker does, for the variants of one library. A subclass says what they are."""

    def __init__(self):
        self.passes = {}  # variant -> {pass: function}

    def variants(self, row):
        """{name: a function that gives the variant's passes}."""
        raise NotImplementedError

    def prepare(self, row):
        """Build the row's tensors; the names of the variants that have it. A variant may lack a pass."""
        self.passes = {}
        for name, build in self.variants(row).items():
            with self.mode(name, None):
                self.passes[name] = {p: f for p, f in build().items() if p in row.passes}
        return {name: list(passes) for name, passes in self.passes.items() if passes}

    def outputs(self, variant, which, times=1):
        """What the pass computes, as arrays of float64: of several calls, one after the other."""
        found = []
        with self.mode(variant, which):
            for _ in range(times):
                result = self.passes[variant][which]()
                found += [self.to_numpy(y) for y in (result if isinstance(result, (list, tuple)) else [result])]
        return found

    def truth(self, row, which, times=1):
        """The same in float64, of the inputs as they are in the row's dtype: kdl's by the reference."""
        program, dtype = getattr(programs, row.program), np.dtype(row.dtype)

        def widened(array):
            return self.lib.from_numpy(array.astype(np.float64) if array.dtype == dtype else array)
        with self.mode("truth", None):
            self.passes["truth"] = program(self.lib, row, dtype, widened)
        try:
            return self.outputs("truth", which, times)
        finally:
            del self.passes["truth"]

    def seconds(self, variant, which, calls, clock):
        """The time of so many calls."""
        function, now = self.passes[variant][which], CLOCKS[clock]
        with self.mode(variant, which):
            start = now()
            for _ in range(calls):
                function()
            return now() - start

    def memory(self, row, which, times=5):
        """The peak of the resident set in a few calls, in bytes: above the library's own, and in all.

        For a new process. Both libraries load a part of themselves with their first operation.
        """
        self.lib.relu(self.lib.zeros(1))
        before = _status("VmRSS")
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak starts again from here
        self.prepare(row)
        name = next(iter(self.passes))
        self.outputs(name, which, times)
        peak = _status("VmHWM")
        return peak - before, peak

    @contextmanager
    def mode(self, variant, which):
        with ExitStack() as stack:
            if which in ("forward", "memory"):
                stack.enter_context(self.lib.no_grad())
            yield


class Kdl(Library):
    def __init__(self):
        super().__init__()
        import kdl
        import kdl.kernels.cpu.threads  # says how idle threads wait, before the roof starts any
        self.lib = kdl

    def describe(self):
        import numba
        from threadpoolctl import threadpool_info
        np.ones((2, 2)) @ np.ones((2, 2))
        pools = [p for p in threadpool_info() if p["user_api"] == "blas"]
        blas = ", ".join(f"{p['internal_api']} {p['version']} {p['architecture']}, threads: {p['num_threads']}"
                         for p in pools)
        return {"kdl": self.lib.__version__, "numpy": np.__version__, "numba": numba.__version__, "BLAS": blas,
                "kdl threads": numba.get_num_threads()}

    def roof(self):
        from benchmarks import roof
        return roof.measure()

    def variants(self, row):
        program, dtype = getattr(programs, row.program), np.dtype(row.dtype)
        build = lambda: program(self.lib, row, dtype, self.lib.from_numpy)
        found = {"kdl": build, "reference": build} if row.kernel else {"kdl": build}
        if hasattr(self.lib, "set_conv_precision") and row.area == "conv 3x3":
            found["kdl fast"] = build
        if row.program == "call":
            found["numpy"] = lambda: programs.products(np, row, dtype, np.asarray)
        return found

    @contextmanager
    def mode(self, variant, which):
        from kdl import kernels
        with ExitStack() as stack:
            stack.enter_context(super().mode(variant, which))
            if variant in ("reference", "truth"):
                stack.enter_context(kernels.use("reference"))
            if variant == "kdl fast":
                self.lib.set_conv_precision("fast")
                stack.callback(self.lib.set_conv_precision, "default")
            yield

    def outputs(self, variant, which, times=1):
        """What our kernels fill is first filled with NaN: what a kernel leaves out, shows. Not so in repeated steps."""
        if times > 1 or variant in ("reference", "truth"):
            return super().outputs(variant, which, times)
        super().outputs(variant, which)  # compiles, which must find NumPy's own functions
        with _poisoned():
            return super().outputs(variant, which)

    @staticmethod
    def to_numpy(y):
        y = y if isinstance(y, np.ndarray) else y.detach().numpy()
        return np.array(y, np.float64)


class Torch(Library):
    def __init__(self):
        super().__init__()
        import torch
        self.lib = torch

    def describe(self):
        return {"torch": self.lib.__version__, "torch threads": self.lib.get_num_threads()}

    def variants(self, row):
        program, dtype = getattr(programs, row.program), np.dtype(row.dtype)
        plain = self.lib.from_numpy
        found = {"contiguous": lambda: program(self.lib, row, dtype, plain)}
        if row.family in ("conv", "pool", "batchnorm", "training") and len(row.case.args[0].shape) in (4, 5):
            last = {"layout": self.lib.channels_last} if row.program == "training_step" else {}
            found["channels_last"] = lambda: program(
                self.lib, row, dtype, lambda a: plain(programs.channels_last(a)), **last)
        if row.program == "call" and row.name in ("linear", "matmul", "conv2d"):
            found["onednn"] = lambda: programs.onednn(self.lib, row, dtype, plain)
        if row.program == "optimizer_step":
            way = "fused" if row.name in ("SGD", "Adam", "AdamW", "Adagrad") else "foreach"
            found[way] = lambda: program(self.lib, row, dtype, plain, **{way: True})
        return found

    @staticmethod
    def to_numpy(y):
        return y.detach().numpy().astype(np.float64)


def errors(outputs, truth, but_for=0):
    """The largest error over the standard deviation, and over the largest value or 1, of several pairs of arrays;
    `but_for` is the share of an array's elements whose errors do not count, the largest but for NaN."""
    largest, relative = 0.0, 0.0
    for y, t in zip(outputs, truth, strict=True):
        differences, left_out = np.abs(y - t).ravel(), int(but_for * t.size)
        difference = differences.max(initial=0)
        if left_out and not np.isnan(difference):
            difference = np.partition(differences, -1 - left_out)[-1 - left_out]
        largest = max(largest, float(difference / ((np.std(t) if t.size > 1 else 0) or 1.0)), key=_badness)
        relative = max(relative, float(difference / max(1.0, np.max(np.abs(t), initial=0))), key=_badness)
    return largest, relative


def _badness(error):
    return np.inf if np.isnan(error) else error


def _status(field):
    """A figure of /proc/self/status, in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(field))


@contextmanager
def _poisoned():
    """New arrays of floats hold NaN."""
    from kdl import kernels
    k, plain = kernels.get("cpu"), (np.empty, np.empty_like)

    def poison(make):
        def poisoned(*args, **kwargs):
            array = make(*args, **kwargs)
            if array.dtype.kind not in "biu":
                array.fill(np.nan)
            return array
        return poisoned
    own = k.empty
    np.empty, np.empty_like, k.empty = *map(poison, plain), poison(own)
    try:
        yield
    finally:
        np.empty, np.empty_like, k.empty = *plain, own


def _library(name):
    if name in ("kdl", "torch"):
        return {"kdl": Kdl, "torch": Torch}[name]()
    from benchmarks.device import Cuda
    return Cuda(rehearsal=name == "rehearsal")


def main():
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between the answers
    library = _library(sys.argv[1])
    while True:
        try:
            request, args = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = False, getattr(library, request)(*args)
        except Exception:  # whatever it is, the process that asked reports it
            answer = True, traceback.format_exc(limit=-4)
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
