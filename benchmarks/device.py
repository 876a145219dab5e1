"""The GPU: one process with kdl, CuPy and torch on one stream, timed by the device's own clock.

Every variant has several copies of its arrays, together larger than the L2 cache, which take turns. A kernel that
waits comes first, so that the launches to be timed stand in the queue and the host's pace does not count.

Without a GPU the same code can be rehearsed: NumPy stands for CuPy, torch stays on the CPU and the kernels are those
of `simt`, the same CUDA source. What it measures then means nothing, and is not shown.
"""
import time
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec

import numpy as np

from benchmarks import programs
from benchmarks.worker import Library, errors

COPIES = 16       # of a row's arrays at most
COMPILED = ("activation", "softmax", "batchnorm")  # families where torch.compile has something to fuse
EXACT = 1e10      # FLOPs beyond which float64 on the GPU is the oracle: NumPy would take minutes
SPIN = """extern "C" __global__ void spin(long long cycles) {
    long long start = clock64();
    while (clock64() - start < cycles) {}
}"""


class Clock:
    """Seconds on the device, by events; `cupy` is the module, or what stands for it in a test."""

    def __init__(self, cupy):
        self.cupy = cupy
        self.spin = cupy.RawKernel(SPIN, "spin")
        attributes = cupy.cuda.Device().attributes
        self.hertz, self.l2 = 1e3 * attributes["ClockRate"], attributes["L2CacheSize"]

    def seconds(self, functions, calls):
        """The time of so many calls, of the functions in turn."""
        start, end = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        self._wait(2e-5 * (calls + 1))  # a call takes the host some 20 us
        start.record()
        for i in range(calls):
            functions[i % len(functions)]()
        end.record()
        end.synchronize()
        return 1e-3 * self.cupy.cuda.get_elapsed_time(start, end)

    def _wait(self, seconds):
        self.spin((1,), (1,), (np.int64(seconds * self.hertz),))


class HostClock:
    """What stands for the device's clock in a rehearsal."""
    l2 = 1 << 20

    def seconds(self, functions, calls):
        start = time.perf_counter()
        for i in range(calls):
            functions[i % len(functions)]()
        return time.perf_counter() - start


class Cuda(Library):
    """The variants of the GPU: kdl, CuPy's own product, and torch in its layouts and compiled."""

    def __init__(self, rehearsal=False):
        super().__init__()
        import kdl
        self.lib, self.torch, self.rehearsal = kdl, None, rehearsal
        if find_spec("torch"):
            import torch
            self.torch = torch
            torch.backends.cudnn.benchmark = True
            torch.backends.cudnn.allow_tf32 = False  # as in torch.matmul: float32 is compared with float32
        if rehearsal:
            self.xp, self.clock = np, HostClock()
        else:
            import cupy
            self.xp, self.clock = cupy, Clock(cupy)

    def describe(self):
        facts = {"kdl": self.lib.__version__, "numpy": np.__version__}
        if self.torch:
            facts["torch"] = self.torch.__version__
        if not self.rehearsal:
            properties = self.xp.cuda.runtime.getDeviceProperties(0)
            facts |= {"gpu": f"{properties['name'].decode()}, {properties['multiProcessorCount']} SMs, "
                             f"L2 {self.clock.l2 >> 20} MB", "cupy": self.xp.__version__,
                      "cuda": self.xp.cuda.runtime.runtimeGetVersion()}
            if self.torch:
                facts["cudnn"] = self.torch.backends.cudnn.version()
        return facts

    def roof(self):
        """Copying at several sizes, and the vendor library's large product for every dtype that is measured."""
        copy = {}
        for size in [2**k for k in ((20, 22) if self.rehearsal else range(20, 33, 2))]:
            pairs = [(self.xp.ones(size // 8, self.xp.float32), self.xp.empty(size // 8, self.xp.float32))
                     for _ in range(self._copies(size))]
            copy[size] = size / self._best([lambda x=x, y=y: self.xp.copyto(y, x) for x, y in pairs])
        n = 256 if self.rehearsal else 8192
        flops = {}
        for name, dtype in (("float32", self.xp.float32), ("bfloat16", self.xp.float16)):  # half types run alike
            a = self.xp.random.standard_normal((n, n)).astype(dtype)
            flops[name] = 2 * n**3 / self._best([lambda a=a: self.xp.matmul(a, a)])
        return {"flops": flops, "copy": copy}

    def _best(self, functions, rounds=5, calls=8):
        self.clock.seconds(functions, calls)
        return min(self.clock.seconds(functions, calls) for _ in range(rounds)) / calls

    def _copies(self, size):
        """How many copies of so many bytes are three times the L2 cache."""
        return int(min(COPIES, max(1, -(-3 * self.clock.l2 // max(size, 1)))))

    def variants(self, row):
        program, dtype = getattr(programs, row.program), np.dtype(row.dtype)
        found = {"kdl": lambda: program(self.lib, row, dtype, self._ours)}
        if row.program == "call":
            found["cupy"] = lambda: programs.products(self.xp, row, dtype, self.xp.asarray)
        if self.torch is None:
            return found
        found["torch contiguous"] = lambda: program(self.torch, row, dtype, self._theirs)
        if row.family in ("conv", "pool", "batchnorm", "training") and len(row.case.args[0].shape) in (4, 5):
            last = {"layout": self.torch.channels_last} if row.program == "training_step" else {}
            found["torch channels_last"] = lambda: program(
                self.torch, row, dtype, lambda a: self._theirs(programs.channels_last(a)), **last)
        if row.program == "optimizer_step":
            way = "fused" if row.name in ("SGD", "Adam", "AdamW", "Adagrad") else "foreach"
            found[f"torch {way}"] = lambda: program(self.torch, row, dtype, self._theirs, **{way: True})
        if row.device == "cuda" and row.family in COMPILED and row.program == "call" and not self.rehearsal:
            found["torch compile"] = lambda: program(self.torch, row, dtype, self._theirs, wrap=self.torch.compile)
        return found

    def _ours(self, array):
        return self.lib.Tensor(self.xp.asarray(array))

    def _theirs(self, array):
        if array.dtype.name == "bfloat16":
            tensor = self.torch.from_numpy(array.view(np.int16)).view(self.torch.bfloat16)
        else:
            tensor = self.torch.from_numpy(array)
        return tensor if self.rehearsal else tensor.cuda()

    def prepare(self, row):
        """As many copies of every variant as fill the L2 cache three times; {variant: passes, or why it has none}."""
        self.passes, found = {}, {}
        copies = self._copies(max(size for _, size in row.work.values()))
        for name, build in self.variants(row).items():
            try:
                with self.mode(name, None):
                    built = [build() for _ in range(copies)]
            except Exception as error:  # one variant's failure is a fact about it, not the end of the run
                found[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
                continue
            self.passes[name] = {p: [b[p] for b in built] for p in row.passes if p in built[0]}
            if self.passes[name]:
                found[name] = list(self.passes[name])
        return found

    def errors(self, row, which, times=1):
        """{variant: (largest error / standard deviation, largest error / max(1, largest value))} against float64."""
        large = self.torch is not None and (row.work[which][0] > EXACT or row.program == "training_step")
        program, dtype = getattr(programs, row.program), np.dtype(row.dtype)

        def widened(array):
            wide = array.astype(np.float64) if array.dtype == dtype else array
            return self._theirs(wide) if large else self.lib.from_numpy(wide)
        oracle = self.torch if large else self.lib
        with self.mode("truth", which):
            function = program(oracle, row, dtype, widened)[which]
            truth = [y for _ in range(times) for y in self._flat(function())]
        found = {}
        for name, passes in self.passes.items():
            if which in passes:
                with self.mode(name, which):
                    outputs = [y for _ in range(times) for y in self._flat(passes[which][0]())]
                found[name] = errors(outputs, truth, programs.flipped(row, which))
        return found

    def _flat(self, result):
        return [self._host(y) for y in (result if isinstance(result, (list, tuple)) else [result])]

    def _host(self, y):
        """A float64 copy on the host."""
        if self.torch is not None and isinstance(y, self.torch.Tensor):
            return y.detach().double().cpu().numpy()
        array = getattr(y, "array", y)
        return (array if isinstance(array, np.ndarray) else array.get()).astype(np.float64)

    def seconds(self, variant, which, calls, clock):
        with self.mode(variant, which):
            return self.clock.seconds(self.passes[variant][which], calls)

    @contextmanager
    def mode(self, variant, which):
        from kdl import kernels
        with ExitStack() as stack:
            if which == "forward":
                stack.enter_context(self.lib.no_grad())
                if self.torch:
                    stack.enter_context(self.torch.no_grad())
            if variant == "truth" or self.rehearsal:
                from kdl.kernels import simt
                stack.enter_context(kernels.use("simt" if variant == "kdl" and simt.available() else "reference"))
            yield
