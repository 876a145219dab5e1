"""What the CUDA compiler reports of every kernel: no spills, registers within the budget, no serialised pipelines.

The reports lie beside the objects of a build in place (`make kernels`). The budget of a tile's kernels is the last
column of its row in csrc/ops/*_tiles.inc; the others have one for all.
"""
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REPORTS = sorted((ROOT / "build/kernels/CMakeFiles/_cuda.dir/csrc/ops").glob("*.cu.o.report"))
# Two blocks of 256 threads and more find room on a multiprocessor, one of the largest, 512 threads, too.
BUDGET = 128
# What a kernel may save around the call of a slow path (the division of denormal numbers), outside every loop.
CALL_BYTES = 8

if not REPORTS:
    pytest.skip("the CUDA kernels were not compiled here: make kernels, with nvcc on PATH", allow_module_level=True)


def kernels(report):
    """(name, registers, bytes spilled) of every kernel of a report, the name as C++ spells it."""
    entry = re.compile(r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores"
                       r".*?Used (\d+) registers", re.DOTALL)
    found = entry.findall(report.read_text())
    names = subprocess.run(["c++filt"], input="\n".join(f[0] for f in found), capture_output=True, text=True,
                           check=True).stdout.splitlines()
    return [(name, int(registers), int(stored)) for name, (_, stored, registers) in zip(names, found, strict=True)]


def tile_budgets():
    """{the numbers of a tile as they stand in a kernel's name: its budget}."""
    budgets = {}
    for table in (ROOT / "csrc/ops").glob("*_tiles.inc"):
        for row in re.findall(r"^KDL_\w+\((.*)\)", table.read_text(), re.MULTILINE):
            *shape, budget = re.findall(r"\b\d+\b", row)
            if len(shape) > 4:
                budgets[table.name.split("_")[0], ", ".join(shape)] = int(budget)
    return budgets


def budget_of(family, name):
    found = [budget for (table, shape), budget in tile_budgets().items() if table == family and f"<{shape}>" in name]
    return max(found, default=BUDGET)


@pytest.mark.parametrize("report", REPORTS, ids=lambda p: p.name.split(".")[0])
def test_kernels_keep_to_their_registers(report):
    """float64 kernels, which no model trains with, may spill."""
    found = kernels(report)
    assert found or "ptxas info" not in report.read_text(), "the compiler's report has another form"
    if not found:
        pytest.skip("compiled to PTX alone: no registers are assigned")
    family = report.name.split(".")[0]
    main = [k for k in found if "<double" not in k[0]]
    assert {name: f"{spilled} bytes" for name, _, spilled in main if spilled > CALL_BYTES} == {}
    assert {name: registers for name, registers, _ in main if registers > budget_of(family, name)} == {}


@pytest.mark.parametrize("report", REPORTS, ids=lambda p: p.name.split(".")[0])
def test_no_pipeline_is_serialised(report):
    """C75xx: wgmma that the compiler had to wait for one by one, at a fraction of the speed."""
    assert re.findall(r".*C75\d\d.*", report.read_text()) == []
