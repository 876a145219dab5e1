"""Run the simt suite in each build and print a table: `python -m tests.simt [build ...] [pytest's arguments]`."""
import os
import re
import subprocess
import sys
import time

from kdl.kernels import simt

RUNS = {"plain": "plain, then 3 random schedules, the same bits",
        "race": "every access checked for order, bounds, initialisation; undefined behaviour",
        "asan": "AddressSanitizer, exact red zones; undefined behaviour"}


def run(build, arguments):
    """The counts of one pytest run and its exit status."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(os.cpu_count()), "--dist", "worksteal", "tests/simt"]
    environment = os.environ | simt.environment(build)
    done = subprocess.run([*command, *arguments], env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        print(done.stdout)
    last = done.stdout.rstrip().rpartition("\n")[2]
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    return counts, done.returncode, time.perf_counter() - started


def main(arguments):
    builds = [a for a in arguments if a in simt.BUILDS] or simt.BUILDS
    rest = [a for a in arguments if a not in simt.BUILDS]
    status, rows = 0, []
    for build in builds:
        counts, code, seconds = run(build, rest)
        status = status or code
        rows.append(f"{build:6} | {counts.get('passed', 0):6} | {counts.get('failed', 0) + counts.get('error', 0):6} | "
                    f"{counts.get('skipped', 0):7} | {seconds:7.0f} | {RUNS[build]}")
    print(f"{'build':6} | passed | failed | skipped | seconds | what it checks", *rows, sep="\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
