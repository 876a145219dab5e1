"""`kdl bench`: measure, print, write down, judge."""
import sys

from benchmarks import gates, harness, machine, report
from benchmarks.suite import Suite


def main(options):
    """Run the command of `kdl/cli.py`; the exit code is 1 when a gate is missed or, comparing, a row became slower."""
    if options.compare:
        lines, slower = report.compare(*map(report.load, options.compare))
        print("\n".join(lines))
        return 1 if slower else 0
    options.rivals = options.rivals or (["numpy", "torch"] if options.device == "cpu" else ["torch", "cupy"])
    options.seconds = options.seconds or (0.03 if options.quick else 0.3)
    rows = harness.rows(options.family, options.device, options.quick)
    found = {"machines": [], "results": [], "memory": []}
    for threads in options.threads or sorted({1, machine.cores()}):
        with Suite(threads, options.rivals) as suite:
            found["machines"].append(suite.describe())
            print("\n".join(text for text in report.facts(found["machines"][-1]) if text))
            print(report.heading())
            for row in rows:
                for result in suite.run(row, options.seconds):
                    found["results"].append(result)
                    print(report.line(result), flush=True)
                if options.out and row is not rows[-1]:
                    report.save(options.out, found)
                if row.program == "training_step" and threads == 1:
                    found["memory"].append({"label": row.label("step"), **suite.memory(row)})
    print("\n".join(report.summary(found["results"])))
    if options.out:
        report.save(options.out, found)
    return gates.judge(found) if options.gates else 0


if __name__ == "__main__":
    sys.exit(main())
