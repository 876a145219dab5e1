"""The op table through the CUDA kernels' own source: compiled families, aligned and not, in every schedule."""
import pytest

import kdl
from kdl import kernels
from kdl.kernels import simt
from tests.optable import TOLERANCE, Array
from tests.simt import COMPILED, configured, schedules
from tests.test_optable import CASES, LAYOUTS, agree, build, run_kdl

if not simt.available():
    pytest.skip(simt.problem(), allow_module_level=True)


def bits(results):
    """Outputs and gradients as bytes."""
    return [None if a is None else a.tobytes() for part in results for a in part]


def layouts(case):
    """Those that differ for some array of the case."""
    has_images = any(isinstance(a, Array) and len(a.shape) in (4, 5) for a in (*case.args, *case.kwargs.values()))
    return ["contiguous", "channels_last"] if has_images else ["contiguous"]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("row, case, layout", [
    pytest.param(row, case, layout, id=f"{name}-{layout}")
    for row, case, name in ((*param.values, param.id) for param in CASES) if row.family in COMPILED
    for layout in layouts(case)])
def test_agrees_with_reference(row, case, dtype, layout):
    if dtype in ("float16", "bfloat16") and not row.halves:
        pytest.skip("half types are not promised")
    inputs = build(case, getattr(kdl, dtype), LAYOUTS.get(layout))
    with kernels.use("reference"):
        expected = run_kdl(row, case, inputs)
    for offset in (0, 1):
        forward, *others = [under(row, case, inputs, schedule, offset) for schedule in schedules()]
        agree(forward, expected, TOLERANCE[dtype])
        for other in others:
            assert bits(other) == bits(forward), "the result depends on the schedule"


def under(row, case, inputs, schedule, offset):
    """Outputs and gradients, with every array `offset` elements past its address."""
    try:
        with kernels.use("simt"), configured(*schedule, offset=offset):
            return run_kdl(row, case, inputs)
    except AttributeError as missing:  # the three-dimensional kernels
        if "namespace has no kernel" not in str(missing):
            raise
        pytest.skip(str(missing))
