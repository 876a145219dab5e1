"""Tests of the engine that runs the CUDA kernels on the CPU, on kernels of their own (`*.cu` beside this file)."""
import importlib
import re
from contextlib import contextmanager
from pathlib import Path

import pytest

from kdl.kernels import simt

ORDERS = ["forward", "reverse", "random"]


def kernels_of(build):
    """The test kernels compiled for the `plain` or the `race` build."""
    name = {"plain": "tests.simt._planted", "race": "tests.simt._planted_race"}[build]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        pytest.skip(simt.NOT_BUILT)


def tiles(family):
    """The rows of a family's tile table: for each its name, its macro (`SIMT` or `MMA`) and its columns."""
    text = (Path(__file__).parents[2] / "csrc" / "ops" / f"{family}_tiles.inc").read_text()
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
