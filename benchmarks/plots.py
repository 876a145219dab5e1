"""Two pictures of a run: how close every row comes to the roof, and how it compares with each rival."""
import os
from pathlib import Path

from benchmarks.suite import ALL
from benchmarks.timing import geometric_mean

_COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:olive",
           "tab:cyan", "black")


def draw(folder, report):
    """roofline.png and ratios.png, each with a panel for every number of threads. Needs matplotlib."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    for name, panel, size in (("roofline", _roofline, (7.5, 5.5)), ("ratios", _ratios, (7.5, 6.5))):
        machines = report["machines"]
        figure, axes = pyplot.subplots(1, len(machines), figsize=(size[0] * len(machines), size[1]), squeeze=False,
                                       layout="constrained")
        for axis, machine in zip(axes[0], machines):
            panel(axis, machine, [r for r in report["results"] if r["threads"] == machine["threads"]])
            axis.set_title(f"{machine.get('gpu', machine['cpu'])}, {_threads(machine)}", fontsize=10)
        path = Path(folder) / f"{name}.png"
        partial = path.with_name(f".{path.name}.partial")
        figure.savefig(partial, dpi=130, format="png")
        pyplot.close(figure)
        os.replace(partial, path)


def _threads(machine):
    return "device time" if "gpu" in machine else f"{machine['threads']} thread{'s' * (machine['threads'] > 1)}"


def _roofline(axis, machine, results):
    """GFLOP/s by FLOPs per byte; the slope is memory's bandwidth, the ceiling the rate of multiply-adds."""
    shown = [r for r in results if r["flops"] and r["bytes"]]
    families = list(dict.fromkeys(r["family"] for r in shown))
    for family, color in zip(families, _COLORS * 2):
        rows = [r for r in shown if r["family"] == family]
        axis.scatter([r["flops"] / r["bytes"] for r in rows], [r["gflops"] for r in rows], s=18, color=color,
                     alpha=0.75, linewidths=0, label=family)
    copies = machine["roof"]["copy"]
    memory = copies[max(copies, key=int)]
    intensities = [2.0**k for k in range(-4, 12)]
    for dtype, flops in machine["roof"]["flops"].items():
        if any(r["dtype"] == dtype for r in shown):
            roof = [min(flops, i * memory) / 1e9 for i in intensities]
            axis.plot(intensities, roof, color="0.3", lw=1.3)
            axis.annotate(f"{flops / 1e9:.0f} GFLOP/s {dtype}", (intensities[-1], roof[-1]), (0, 4), ha="right",
                          textcoords="offset points", fontsize=9)
    axis.annotate(f"{memory / 1e9:.0f} GB/s copied, arrays beyond the caches", (0.07, 0.07 * memory / 1e9), (0, -14),
                  textcoords="offset points", fontsize=9)
    axis.set(xscale="log", yscale="log", xlabel="FLOPs per byte, both by formula", ylabel="GFLOP/s")
    axis.grid(alpha=0.25)
    axis.legend(fontsize=8, loc="lower right")


def _ratios(axis, machine, results):
    """How many times faster than each rival: a dot per row, a bar at the geometric mean of a family."""
    families = list(dict.fromkeys(r["family"] for r in results))
    columns = [c for c in ALL if any(c in r["ratios"] for r in results)]
    for i, column in enumerate(columns):
        color = _COLORS[i]
        for j, family in enumerate(families):
            ratios = [r["ratios"][column]["x"] for r in results if r["family"] == family and column in r["ratios"]]
            if ratios:
                y = j + 0.8 * (i + 0.5) / len(columns) - 0.4
                axis.scatter(ratios, [y] * len(ratios), s=12, color=color, alpha=0.5, linewidths=0)
                mean = geometric_mean(ratios)
                axis.plot([mean, mean], [y - 0.09, y + 0.09], color=color, lw=3)
                axis.annotate(f"{mean:.2f}", (mean, y), (5, -3), textcoords="offset points", fontsize=7, color=color)
        axis.scatter([], [], color=color, s=25, label=f"x {column}")
    axis.axvline(1, color="0.3", lw=1)
    axis.set_yticks(range(len(families)), families)
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="times faster (right of 1) or slower; the bar is the geometric mean")
    axis.grid(axis="x", alpha=0.25)
    axis.legend(fontsize=8)
