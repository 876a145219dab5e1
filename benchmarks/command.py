"""`kdl bench`: measure, print, write down, judge."""
import time
from pathlib import Path

from benchmarks import gates, harness, machine, plots, report
from benchmarks.suite import Suite

README = machine.ROOT / "benchmarks" / "README.md"
REHEARSED = 1 << 20  # bytes of a row that may be run by the kernels' emulation
RIVALS = {"cpu": ["numpy", "torch"], "cuda": ["torch", "cupy"]}


def main(options):
    """Run the command of `kdl/cli.py`; the exit code is 1 when a row fails, a gate is missed or, comparing, a row
    became slower."""
    if options.compare:
        lines, slower = report.compare(*map(report.load, options.compare))
        print("\n".join(lines))
        return 1 if slower else 0
    rivals = options.rivals or RIVALS[options.device]
    unknown = set(rivals) - {"numpy", "torch", "cupy"}
    if unknown:
        raise ValueError(f"bench: expected rivals among numpy, torch, cupy, got {', '.join(sorted(unknown))}")
    seconds = options.seconds or (0.03 if options.quick else 0.1 if options.device == "cuda" else 0.3)
    deadline = time.monotonic() + (options.within or float("inf"))
    rows = harness.rows(options.family, options.device, options.quick)
    if options.device == "cuda":
        from kdl.kernels import cuda
        if cuda.problem():
            return _rehearse(rows, rivals, cuda.problem())
    if options.add and not options.out:
        raise ValueError("bench: --add keeps the rows of the results in --out, which is not given")
    found = {"machines": [], "results": [], "memory": [], "failed": [], "left": []}
    kept = report.load(Path(options.out) / "results.json") if options.add else None
    for threads in options.threads or _thread_counts(options.device):
        with Suite(options.device, threads, rivals) as suite:
            found["machines"].append(suite.describe())
            print("\n".join([*report.facts(found["machines"][-1]), report.heading(options.device)]))
            for row in rows:
                if time.monotonic() > deadline:
                    found["left"].append(row.label(row.passes[0]))
                    continue
                _run(suite, row, seconds, found, options)
            if options.out:
                report.save(options.out, report.merged(kept, found))
    if found["left"]:
        print(f"{len(found['left'])} rows were not begun within {options.within:g} s, from {found['left'][0]} on")
    failed, found = found["failed"], report.merged(kept, found)
    print("\n".join(report.summary(found["results"])))
    if options.out:
        plots.draw(options.out, found)
        print(f"wrote results.json, results.csv, roofline.png and ratios.png to {options.out}")
    if options.readme:
        report.update_readme(README, found)
    missed = gates.judge(found) if options.gates else 0
    return 1 if missed or failed else 0


def _thread_counts(device):
    return sorted({1, machine.cores()}) if device == "cpu" else [machine.cores()]


def _run(suite, row, seconds, found, options):
    """One row: its results are printed as they come; a failure is noted, and the next row begins anew."""
    try:
        for result in suite.run(row, seconds):
            found["results"].append(result)
            print(report.line(result, options.device), flush=True)
        if row.program == "training_step" and suite.threads == 1:
            found["memory"].append({"label": row.label(row.passes[0]), **suite.memory(row)})
    except (AssertionError, RuntimeError, OSError) as error:
        found["failed"].append(str(error))
        print(f"FAILED {error}", flush=True)
        if not isinstance(error, AssertionError):
            suite.restart()


def _rehearse(rows, rivals, problem):
    """Without a GPU: the same code on NumPy arrays, over rows small enough for the emulation of the kernels."""
    from kdl.kernels import simt
    small = [r for r in rows if not r.device and max(size for _, size in r.work.values()) <= REHEARSED]
    code = "the CUDA source run on the CPU" if simt.available() else "the reference kernels"
    print(f"no measurement: {problem}\n{len(small)} small ones of {len(rows)} rows are rehearsed, NumPy in "
          f"CuPy's place and {code}")
    failed = 0
    with Suite("rehearsal", machine.cores(), rivals) as suite:
        suite.describe()
        for row in small:
            try:
                for result in suite.run(row, 0.001):
                    print(f"checked, error {result['errors']['kdl']:.0e}: {result['label']}", flush=True)
            except (AssertionError, RuntimeError) as error:
                failed += 1
                print(f"FAILED {error}", flush=True)
    print(f"{len(small) - failed} of {len(small)} rows passed; times need a GPU")
    return 1 if failed else 0
