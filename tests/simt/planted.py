"""The planted bugs, and what each mode shows of them: `python -m tests.simt.planted` prints them as a table."""
import json
import os
import re
import subprocess
import sys

import numpy as np

from kdl.kernels import simt
from tests.simt import ORDERS, SEEDS

WRONG = "wrong result"
MODES = ("plain", "random", "race", "asan")
X = np.arange(1, 129, dtype=np.float32)
# What the sound kernel, the first number of each in planted.cu, makes of X.
EXPECTED = {0: 3 * X.reshape(2, 64)[:, ::-1].ravel(), 20: np.repeat(X.reshape(4, 32).sum(1), 32), 40: X, 60: X}
OPTIONS = {45: {"patience": 1}, 63: {"shared_skew": 16}}
AS_PLAIN = "as the plain build"
UNWRITTEN, OUTSIDE = "read of memory that nobody wrote", "outside what the kernel asked for"

# number, name, then what the plain, the race and the asan build find: a pattern, None for nothing.
BUGS = [
    (1, "no barrier after the store", WRONG, f"{UNWRITTEN} at planted.cu", AS_PLAIN),
    (2, "no barrier before the next store", WRONG, "race: ", AS_PLAIN),
    (3, "half the block reaches the barrier", "divergent barrier", "race: read", AS_PLAIN),
    (4, "two barriers in two branches", "divergent barrier", "divergent barrier", AS_PLAIN),
    (5, "a thread returns before the barrier", *["returns while .* wait in __syncthreads"] * 2, AS_PLAIN),
    (6, "read one past the array", WRONG, *["out of bounds: read of 4 bytes .* byte 512 of x, which has 512"] * 2),
    (7, "write one past the array", "wrote past the last byte of y", *["out of bounds: write .* byte 512 of y"] * 2),
    (8, "shared index one past the array", WRONG, *["index outside an array's dimension"] * 2),
    (9, "a shared element is never written", WRONG, UNWRITTEN, AS_PLAIN),
    (10, "the same, but the value is not used", None, UNWRITTEN, AS_PLAIN),
    (11, "an output element is never written", WRONG, WRONG, AS_PLAIN),
    (12, "all threads write one shared variable", None, "race: write", AS_PLAIN),
    (13, "two blocks write one element", WRONG, "race: write .* after the write by thread 0 of block 0", AS_PLAIN),
    (14, "a block reads another block's result", None, "race: read .* after the write by .* block 0", AS_PLAIN),
    (21, "a shuffle whose mask lacks the caller", "is not in its mask", "is not in its mask", AS_PLAIN),
    (22, "a full-mask shuffle in one branch", *["which has returned|deadlock"] * 2, AS_PLAIN),
    (23, "a lane returns before its warp's barrier", *["returns while its warp waits"] * 2, AS_PLAIN),
    (24, "no __syncwarp between lanes", WRONG, UNWRITTEN, AS_PLAIN),
    (25, "a shuffle from a lane outside the mask", *["which is not in the mask"] * 2, AS_PLAIN),
    (26, "a barrier and a shuffle wait for each other", *["deadlock: 62 .* __shfl_sync .* 2 .* __sync"] * 2, AS_PLAIN),
    (27, "a shuffle over more than a warp", WRONG, WRONG, AS_PLAIN),
    (40, "a pack at a misaligned address", WRONG, *["misaligned pointer"] * 2),
    (41, "a 32-bit index overflows", None, *["signed multiplication that overflows"] * 2),
    (42, "a local index past its dimension", ".*", *["index outside an array's dimension"] * 2),
    (43, "a shift by more than the width", None, *["shift by a negative or too large amount"] * 2),
    (44, "a pointer past a local array", ".*", ".*",
     "stack-buffer-overflow: read of 4 bytes at planted.cu|outside an object"),  # whichever check the compiler left in
    (45, "a wait that lets nobody else run", r"a loop that neither ends .* at planted\.cu:\d+", "race: read", AS_PLAIN),
    (46, "two warps pass a barrier unequally often", *["returns while .* wait in __syncthreads"] * 2, AS_PLAIN),
    (47, "the block that runs last decides", None, "race: write", AS_PLAIN),
    (48, "workspace that nobody wrote", WRONG, UNWRITTEN, AS_PLAIN),
    (49, "write one past the workspace", "wrote past the last byte of workspace",
     *["out of bounds: write .* byte 512 of workspace"] * 2),
    (61, "less shared memory asked for than used", ".*", *[OUTSIDE] * 2),
    (62, "more shared memory than there is", *["invalid configuration: 307200 bytes"] * 2, AS_PLAIN),
    (63, "relies on the alignment of shared memory", WRONG, "race: ", AS_PLAIN),
    (64, "the tail of a tile is not filled", WRONG, UNWRITTEN, AS_PLAIN),
]


def expected(build, row):
    """The pattern that a build must find for a row of BUGS; ".*" where what lies behind an array decides."""
    plain, race, asan = row[2:]
    return {"plain": plain, "race": race, "asan": plain if asan is AS_PLAIN else asan}[build]


def finding(kernels, bug, order="forward", seed=0):
    """What a run of the kernel shows: None when nothing."""
    options = {"order": ORDERS.index(order), "seed": seed} | OPTIONS.get(bug, {})
    for name, value in options.items():
        kernels.set_option(name, value)
    y = np.full_like(X, np.nan)
    try:
        kernels.planted(X, y, bug)
    except RuntimeError as error:
        return str(error)
    finally:
        for name, value in {"order": 0, "patience": 10, "shared_skew": 0}.items():
            kernels.set_option(name, value)
    result = EXPECTED[max(first for first in EXPECTED if first <= bug)]
    return None if np.array_equal(y, result) else WRONG


def column(mode):
    """The finding of every bug in one mode; for random schedules the first of the seeds' that is one."""
    kernels = simt.load("plain" if mode == "random" else mode, "tests.simt", "_planted")
    runs = [("random", seed) for seed in SEEDS] if mode == "random" else [("forward", 0)]
    return [next(filter(None, (finding(kernels, row[0], *run) for run in runs)), None) for row in BUGS]


def short(found):
    """A finding as one cell of the table."""
    if found in (None, WRONG):
        return found or "."
    return re.sub(r"^planted: (\S*_kernel<\S*>: |a kernel )?", "", found).split(":")[0].split(" at ")[0][:24]


def main():
    columns = {}
    for mode in MODES:
        environment = os.environ | simt.environment("plain" if mode == "random" else mode)
        done = subprocess.run([sys.executable, "-m", "tests.simt.planted", mode], env=environment, check=True,
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        columns[mode] = json.loads(done.stdout)
    print(f"{'bug':44}", *(f"{mode:24}" for mode in MODES), sep=" | ")
    caught = 0
    for i, row in enumerate(BUGS):
        cells = [short(columns[mode][i]) for mode in MODES]
        caught += any(cell != "." for cell in cells)
        print(f"{row[1]:44}", *(f"{cell:24}" for cell in cells), sep=" | ")
    print(f"{caught} of {len(BUGS)} caught")
    return caught != len(BUGS)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(column(sys.argv[1])))
    else:
        sys.exit(main())
