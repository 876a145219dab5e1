"""python -m benchmarks [family ...]: the CPU kernels against the NumPy reference, row by row."""
import os

for _name in [name for name in os.environ if name.startswith("OPENBLAS_") and name != "OPENBLAS_NUM_THREADS"]:
    del os.environ[_name]  # OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE would slow NumPy's BLAS down

import argparse
import importlib
import json
import pkgutil
import sys

import numpy as np

import benchmarks
from benchmarks import harness


def main():
    families = [m.name.removeprefix("bench_") for m in pkgutil.iter_modules(benchmarks.__path__)
                if m.name.startswith("bench_")]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("family", nargs="*", help=f"any of {', '.join(families)}; all by default")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each pair of variants (default 0.5)")
    parser.add_argument("--out", help="also write the rows to this JSON file")
    args = parser.parse_args()
    unknown = set(args.family) - set(families)
    if unknown:
        parser.error(f"no family {', '.join(sorted(unknown))}; there are {', '.join(families)}")
    for family in args.family or families:
        importlib.import_module(f"benchmarks.bench_{family}")
    results, slower = [], 0
    print(f"{'us':>10} {'+-%':>4} {'GFLOP/s':>8} {'GB/s':>6} {'x ref':>7}  row")
    for row in harness.ROWS:
        for r in harness.run(row, np.dtype(args.dtype), args.seconds):
            results.append(r)
            slower += r["x reference"] < 1
            spread = 50 * (r["us_high"] - r["us_low"]) / r["us"]
            rates = [f"{r[k]:{w}.1f}" if r[k] else " " * w for k, w in (("GFLOP/s", 8), ("GB/s", 6))]
            print(f"{r['us']:10.1f} {spread:4.0f} {' '.join(rates)} {r['x reference']:7.2f}  "
                  f"{r['op']}({r['case']}) {r['pass']}", flush=True)
    if results:
        mean = np.exp(np.mean([np.log(r["x reference"]) for r in results]))
        print(f"{len(results)} rows, geometric mean {mean:.1f} x reference, {slower} slower than the reference")
    if args.out:
        with open(args.out, "w") as file:
            json.dump({"numpy": np.__version__, "rows": results}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
