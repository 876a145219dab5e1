"""Runs the CUDA compiler and keeps its report, the registers and spills of every kernel, beside the object it makes.

The tests read these files (tests/test_registers.py). A launcher, because a build prints a report only when it compiles.
"""
import subprocess
import sys
from pathlib import Path

command = sys.argv[1:]
done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
report = Path(command[command.index("-o") + 1] + ".report") if "-o" in command else None
if report and done.returncode == 0:
    report.write_text(done.stderr)
shown = [line for line in done.stderr.splitlines() if done.returncode or "warning" in line]
print(*shown, sep="\n", end="\n" * bool(shown), file=sys.stderr)
sys.exit(done.returncode)
