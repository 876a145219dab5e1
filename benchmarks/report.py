"""What is made of results: lines on the terminal, JSON and CSV, the table in README.md, a comparison of two files."""
import csv
import io
import json
import os
from pathlib import Path

from benchmarks.suite import ALL, COLUMNS
from benchmarks.timing import geometric_mean

BEGIN, END = "<!-- results: written by kdl bench, not by hand -->", "<!-- end of results -->"
SHOWN = {"cpu": ("reference", "BLAS", "torch", "torch tuned"), "cuda": ("CuPy", "torch")}


def heading(device):
    return f"{'us':>10} {'+-%':>4} {'GFLOP/s':>8} {'GB/s':>6} {'%roof':>5} {'error':>7} " + " ".join(
        f"{'x ' + c:>{_width(c)}}" for c in SHOWN[device]) + "  row"


def line(r, device):
    spread = 50 * (r["us_high"] - r["us_low"]) / r["us"]
    rates = [f"{r[k]:{w}.1f}" if r[k] else " " * w for k, w in (("gflops", 8), ("gbs", 6))]
    ratios = [f"{r['ratios'][c]['x']:{_width(c)}.2f}" if c in r["ratios"] else " " * _width(c) for c in SHOWN[device]]
    return (f"{r['us']:10.1f} {spread:4.0f} {' '.join(rates)} {100 * r['roof']:5.0f} {r['errors']['kdl']:7.0e} "
            f"{' '.join(ratios)}  {r['label']}{_failures(r)}")


def _width(column):
    return len(column) + 3


def _failures(r):
    return "".join(f"  [{name}: {reason}]" for name, reason in r["failed"].items())


def facts(machine):
    """The machine of a run as lines of text."""
    where = machine.get("gpu") or f"{machine['cpu']}; threads: {machine['threads']} on {machine['cores']} cores"
    yield f"{where}; {machine['clock']} time, load {machine['load']}"
    names = ("kdl", "numpy", "numba", "torch", "cupy", "cuda", "cudnn")
    versions = [f"{name} {machine[name]}" for name in names if name in machine]
    yield f"{', '.join(versions)}, commit {machine['commit']}, {machine['date']}"
    if "BLAS" in machine:
        yield f"NumPy's BLAS: {machine['BLAS']}"
    if "tuned allocator" in machine:
        yield f"torch tuned: the same torch with another allocator ({machine['tuned allocator']})"
    for name, reason in machine["absent"].items():
        yield f"absent: {name}, {reason}"
    rates = ", ".join(f"{rate / 1e9:.0f} GFLOP/s {dtype}" for dtype, rate in machine["roof"]["flops"].items())
    copies = ", ".join(f"{size(int(n))} {rate / 1e9:.0f}" for n, rate in machine["roof"]["copy"].items())
    yield f"roof: {rates}; copying, GB/s by bytes moved: {copies}"


def size(n):
    return next(f"{n >> shift} {unit}" for shift, unit in ((30, "GB"), (20, "MB"), (10, "KB"), (0, "B")) if n >> shift)


def summary(results):
    """A line per family and number of threads: how much faster on average, and where slower than the reference."""
    for threads in sorted({r["threads"] for r in results}):
        for family in dict.fromkeys(r["family"] for r in results):
            rows = [r for r in results if (r["family"], r["threads"]) == (family, threads)]
            means = []
            for c in ALL:
                ratios = [r["ratios"][c]["x"] for r in rows if c in r["ratios"]]
                if ratios:
                    slower = f"{sum(x < 1 for x in ratios)} of {len(ratios)} slower"
                    means.append(f"{geometric_mean(ratios):.2f} x {c} ({slower})")
            if means:
                yield f"{family}, {threads} thread{'s' * (threads > 1)}: geometric mean {', '.join(means)}"


def write(path, text):
    """A file is whole or not there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    os.replace(partial, path)


def save(folder, report):
    """results.json, with everything, and results.csv, a line per row."""
    write(Path(folder) / "results.json", json.dumps(report, indent=1) + "\n")
    text = io.StringIO()
    names = ["family", "label", "dtype", "threads", "clock", "flops", "bytes", "us", "us_low", "us_high", "gflops",
             "gbs", "roof"]
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*names, "error", *COLUMNS])
    for r in report["results"]:
        ratios = [f"{r['ratios'][c]['x']:.3f}" if c in r["ratios"] else "" for c in COLUMNS]
        values = [f"{r[n]:.4g}" if isinstance(r[n], float) else r[n] for n in names]
        table.writerow([*values, f"{r['errors']['kdl']:.1e}", *ratios])
    write(Path(folder) / "results.csv", text.getvalue())


def load(path):
    """A results file. Raises ValueError when it is none."""
    try:
        report = json.loads(Path(path).read_text())
        return {"machines": report["machines"], "results": report["results"], "memory": report["memory"]}
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"bench: expected a results.json of kdl bench, got {path}") from None


def merged(kept, found):
    """The report `found` with those rows of an older one that it has not measured again; None for no older one."""
    if kept is None:
        return found
    same = lambda key: lambda entry: tuple(entry[name] for name in key)
    lists = {"machines": same(["threads"]), "results": same(["label", "threads"]), "memory": same(["label"])}
    report = dict(found)
    for name, identity in lists.items():
        new = {identity(entry) for entry in found[name]}
        report[name] = [entry for entry in kept[name] if identity(entry) not in new] + found[name]
    report["machines"].sort(key=lambda machine: machine["threads"])
    report["results"].sort(key=lambda r: r["family"])
    return report


def compare(before, after):
    """Lines for the rows of two files that became slower or faster beyond their spreads, and how many became slower.

    What is compared is the ratio to a rival of the same run, the reference where there is no other: that leaves out
    how fast and how busy the machine was.
    """
    old = {(r["label"], r["threads"]): r for r in before["results"]}
    slower, faster, same = [], [], 0
    for r in after["results"]:
        o = old.get((r["label"], r["threads"]))
        column = next((c for c in ("torch tuned", "torch", "BLAS", "reference")
                       if o and c in o["ratios"] and c in r["ratios"]), None)
        if column is None:
            continue
        a, b = o["ratios"][column], r["ratios"][column]
        shown = f"{a['x']:8.2f} -> {b['x']:8.2f} x {column:11} {r['threads']} thr  {r['label']}"
        if b["high"] < a["low"]:
            slower.append((b["x"] / a["x"], shown))
        elif b["low"] > a["high"]:
            faster.append((b["x"] / a["x"], shown))
        else:
            same += 1
    lines = [f"slower {factor:5.2f}: {text}" for factor, text in sorted(slower)]
    lines += [f"faster {factor:5.2f}: {text}" for factor, text in sorted(faster, reverse=True)]
    missing = len(old.keys() - {(r["label"], r["threads"]) for r in after["results"]})
    lines.append(f"{len(slower)} slower, {len(faster)} faster, {same} within their spreads, {missing} no longer there")
    return lines, len(slower)


def markdown(report):
    """What README.md shows: the machine, a summary, and a row for every pass with the first number of threads,
    wins and losses alike."""
    out = []
    for machine in report["machines"]:
        out += [*(f"- {text}" for text in facts(machine)), ""]
    commits = sorted({r["commit"] for r in report["results"]})
    out += [f"- rows measured at commit {', '.join(commits)}"] if len(commits) > 1 else []
    out += [f"- {text}" for text in summary(report["results"])]
    for entry in report["memory"]:
        shown = ", ".join(f"{name} {entry[name] / 2**20:.0f} MB" for name in entry if name != "label")
        out.append(f"- peak memory of {entry['label']}: {shown}")
    first = [r for r in report["results"] if r["threads"] == report["machines"][0]["threads"]]
    for family in dict.fromkeys(r["family"] for r in first):
        rows = [r for r in first if r["family"] == family]
        columns = [c for c in ALL if any(c in r["ratios"] for r in rows)]
        headings = ["row", "us", "rate", "% of roof", "error", *(f"x {c}" for c in columns)]
        out += ["", f"### {family}", "", _cells(headings), _cells(["---"] * len(headings))]
        out += [_cells([r["label"], f"{r['us']:.4g}", _rate(r), f"{100 * r['roof']:.0f}", f"{r['errors']['kdl']:.0e}",
                        *(_ratio(r["ratios"].get(c)) for c in columns)]) for r in rows]
    return "\n".join(out)


def _cells(values):
    return f"| {' | '.join(map(str, values))} |"


def _rate(r):
    """In what bounds the operation: beyond ten FLOPs a byte that is arithmetic."""
    return f"{r['gflops']:.1f} GFLOP/s" if r["flops"] > 10 * r["bytes"] else f"{r['gbs']:.1f} GB/s"


def _ratio(r):
    """Bold where it is a win beyond the spread."""
    return "" if r is None else f"**{r['x']:.2f}**" if r["low"] > 1 else f"{r['x']:.2f}"


def update_readme(path, report):
    """Replace what stands between the markers. Raises ValueError when they are not there, once each and in order."""
    path = Path(path)
    text = path.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after:
        raise ValueError(f"bench: expected {BEGIN} and {END} once each in {path}")
    write(path, f"{before}{BEGIN}\n\n{markdown(report)}\n\n{END}{after}")
