"""Tests of the CUDA kernels' own source, run on the CPU, and of the engine, on kernels of its own (`*.cu`).

    python -m tests.simt            the whole suite in every build, as a table
    python -m tests.simt.planted    every planted bug, and which mode finds it

The modes: `plain`; `random`, the plain build under three random schedules, whose results must have the same bits;
`race`, with every access checked; `asan`, under AddressSanitizer.
"""
import mmap
import re
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from kdl.kernels import simt

ORDERS = simt.ORDERS
SEEDS = (1, 2, 3)
OPS = Path(__file__).parents[2] / "csrc" / "ops"
SOURCES = sorted(OPS.glob("*.cu"))
COMPILED = {path.stem for path in SOURCES}  # the families that have CUDA kernels
EXPORTED = {kernel: path for path in SOURCES
            for kernel in re.findall(r'^KDL_EXPORT\w*\("?(\w+)', path.read_text(), re.M)}


@contextmanager
def configured(*args, **kwargs):
    """The engine so configured inside the block."""
    simt.configure(*args, **kwargs)
    try:
        yield
    finally:
        simt.configure()


def schedules():
    """The first is what every build runs; the plain one then repeats it under random schedules."""
    plain = simt.build() == "plain"
    return [("forward", 0), *(("random", seed) for seed in SEEDS if plain)]


def kernels_of(build):
    """The test kernels compiled for a build; skips the test where that build is missing or cannot run."""
    try:
        return simt.load(build, "tests.simt", "_planted")
    except ImportError as reason:
        pytest.skip(str(reason))


def sparse(shape, dtype):
    """An array of zeros that takes memory only where it is written: for sizes past 2**31."""
    count = int(np.prod(shape, dtype=np.int64))
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000)
    pages = mmap.mmap(-1, count * np.dtype(dtype).itemsize, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
    return np.frombuffer(pages, dtype, count).reshape(shape)


def tiles(family):
    """The rows of a family's tile table: for each its name, its macro (`SIMT` or `MMA`) and its columns."""
    text = (OPS / f"{family}_tiles.inc").read_text()
    op = {"gemm": "gemm", "conv": "conv2d"}[family]
    rows = []
    for kind, columns in re.findall(r"^KDL_[A-Z]+_(SIMT|MMA)\((.*)\)$", text, re.MULTILINE):
        columns = [c.strip() for c in columns.split(",")]
        BM, BN, BK = columns[kind == "SIMT":][:3]
        rows.append((f"{op}_{kind.lower()} {BM}x{BN}x{BK}", kind, columns))
    return rows


@contextmanager
def forced_tile(row, splits=0):
    """Let every product inside the block take this row of its table, and so many splits of k."""
    extension = simt._extension()
    extension.force_tile(row, splits)
    try:
        yield
    finally:
        extension.force_tile("", 0)
