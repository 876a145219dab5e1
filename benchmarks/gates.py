"""The gates: how much faster than which rival the kernels must be, as a table, and the judgement of a run by it.

A figure is the geometric mean of an area's ratios, on one thread and on all. It stands beside its gate, which must be
met, and its goal. A gate whose rows were not measured is not met, unless the run was asked for other families.
"""
from dataclasses import dataclass

from benchmarks.timing import geometric_mean

MEMORY = 1.1  # of a training step, relative to torch's


@dataclass(frozen=True)
class Gate:
    """`family`, `areas`, `names` and `passes` choose rows (empty: all of them), `column` the rival."""
    title: str
    gate: float
    goal: float
    column: str = "torch tuned"
    family: str = ""
    areas: tuple = ()
    names: tuple = ()
    passes: tuple = ()
    variant: str = "kdl"
    machine: tuple = ()  # words that the processor's description must have

    def chooses(self, r):
        return all((not self.family or r["family"] == self.family, not self.areas or r["area"] in self.areas,
                    not self.names or r["name"] in self.names, not self.passes or r["pass"] in self.passes,
                    self.column in r["ratios"], self.variant in r["variants"]))

    def ratio(self, r):
        """How much faster the variant is than the rival."""
        rival = r["ratios"][self.column]
        return rival["x"] if self.variant == "kdl" else r["variants"][rival["best"]] / r["variants"][self.variant]


_KERNELS = ("conv", "pool", "activation", "softmax", "batchnorm", "optimizer", "elementwise", "indexing", "training")
_TRAINING = (("lenet5", 1.8, 3, 2.5, 4), ("mlp", 1.2, 1.7, 1.5, 2), ("resnet18", 1.1, 1.5, 1.3, 2))

GATES = [
    *(Gate(f"{family} x reference", 3, 10, "reference", family) for family in _KERNELS),
    Gate("gemm x BLAS", 1, 1.05, "BLAS", "gemm"),
    Gate("gemm >= 512, all transposes", 0.95, 1.05, "BLAS", areas=("gemm large",)),
    Gate("gemm >= 512 x torch.mm, AMD", 1.5, 2.1, "torch as installed", areas=("gemm large",), names=("matmul",),
         machine=("AMD", "avx512f")),
    Gate("small gemm, gemv x BLAS", 0.9, 1.2, "BLAS", areas=("gemm small",)),
    Gate("small gemm, gemv x torch", 0.9, 1.2, areas=("gemm small",)),
    Gate("conv 3x3 forward, dx", 1.15, 1.9, areas=("conv 3x3",), passes=("forward", "dx")),
    Gate("conv 3x3 forward, dx, fast", 1.3, 1.9, areas=("conv 3x3",), passes=("forward", "dx"), variant="kdl fast"),
    Gate("conv 3x3 dw", 1.5, 2.2, areas=("conv 3x3",), passes=("dw",)),
    Gate("conv stems, strided, 512 channels, 1x1", 0.85, 1.05, areas=("conv other",)),
    Gate("depthwise forward", 1.5, 1.9, areas=("depthwise",), passes=("forward",)),
    Gate("depthwise dw", 1.8, 2.5, areas=("depthwise",), passes=("dw",)),
    Gate("LeNet-5 conv1 forward", 2, 2.9, areas=("lenet conv1",), passes=("forward",)),
    *(Gate(name, 0.9, 1.05, names=(name,)) for name in ("relu", "sigmoid", "softmax", "layer_norm", "AdamW")),
    Gate("tanh", 1.5, 7, names=("tanh",)),
    Gate("gelu", 1.5, 2.2, names=("gelu",)),
    Gate("cross-entropy, loss and gradient", 2.5, 3.5, names=("cross_entropy",), passes=("step",)),
    Gate("pools forward", 1.7, 2.4, areas=("pool",), passes=("forward",)),
    Gate("batchnorm forward", 1.1, 1.3, family="batchnorm", passes=("forward",)),
    Gate("batchnorm backward", 1, 1.1, family="batchnorm", passes=("backward",)),
    *(Gate(f"training {name}", gate, goal, family="training", names=(name,)) for name, gate, goal, _, _ in _TRAINING),
    *(Gate(f"training {name} x torch as installed", gate, goal, "torch as installed", "training", names=(name,))
      for name, _, _, gate, goal in _TRAINING),
]


def judgements(report):
    """(title, threads, figure or None, gate, goal, verdict, remark), a tuple for every gate and number of threads."""
    results = report["results"]
    families = {r["family"] for r in results}
    for machine in report["machines"]:
        threads = machine["threads"]
        rows = [r for r in results if r["threads"] == threads]
        for g in GATES:
            chosen = [r for r in rows if g.chooses(r)]
            if not all(word in machine["cpu"] for word in g.machine):
                yield (g.title, threads, None, g.gate, g.goal, "does not apply",
                       f"for machines with {' and '.join(g.machine)}")
            elif not chosen:
                if not g.family or g.family in families:
                    yield (g.title, threads, None, g.gate, g.goal, "not measured",
                           f"no row has {g.variant} and {g.column}")
            else:
                figure = geometric_mean([g.ratio(r) for r in chosen])
                lowest = min(chosen, key=g.ratio)
                verdict = "BELOW" if figure < g.gate else "gate" if figure < g.goal else "goal"
                yield (g.title, threads, figure, g.gate, g.goal, verdict,
                       f"{len(chosen)} rows, lowest {g.ratio(lowest):.2f} {lowest['label']}")
        slower = [r for r in rows if "reference" in r["ratios"] and r["ratios"]["reference"]["high"] < 1]
        worst = min(slower, key=lambda r: r["ratios"]["reference"]["x"], default=None)
        yield ("rows slower than the reference", threads, len(slower), 0, 0, "BELOW" if slower else "goal",
               f"lowest {worst['ratios']['reference']['x']:.2f} {worst['label']}" if worst else "")
    for entry in report["memory"]:
        if "torch" in entry:
            figure = entry["kdl"] / entry["torch"]
            yield (f"peak memory of {entry['label']}", 1, figure, MEMORY, 1.0,
                   "BELOW" if figure > MEMORY else "gate" if figure > 1 else "goal",
                   f"{entry['kdl'] / 2**20:.0f} MB, torch {entry['torch'] / 2**20:.0f} MB; at most the gate")


def judge(report):
    """Print every gate with its figure; 1 when one of them is missed."""
    missed = 0
    print(f"{'figure':>7} {'gate':>5} {'goal':>5} {'threads':>7}  verdict")
    for title, threads, figure, gate, goal, verdict, remark in judgements(report):
        shown = "" if figure is None else f"{figure:.2f}"
        print(f"{shown:>7} {gate:5.2f} {goal:5.2f} {threads:7}  {verdict:14} {title} ({remark})")
        missed += verdict == "BELOW"
    print(f"{missed} gates missed" if missed else "no gate missed")
    return 1 if missed else 0
