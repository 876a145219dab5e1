"""The namespaces are twins, and no kernel exists untested or unmeasured."""
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import benchmarks
import kdl
from benchmarks import harness
from kdl import kernels
from tests.optable import ROWS
from tests.simt import COMPILED, EXPORTED

SIGNATURES = {name: {k: list(inspect.signature(f).parameters) for k, f in kernels.get(name).functions.items()}
              for name in ("reference", "cpu")}


def test_cpu_and_reference_have_the_same_kernels():
    assert SIGNATURES["cpu"] == SIGNATURES["reference"]


def test_the_compiled_kernels_are_among_them():
    from kdl.kernels import cuda
    try:
        compiled = cuda.functions()
    except ImportError as reason:
        pytest.skip(str(reason))
    for name, kernel in compiled.items():
        assert list(inspect.signature(kernel).parameters) == SIGNATURES["reference"][name]


@pytest.fixture(scope="module")
def runs():
    """For every case of the op table its row, and the kernels that its forward and backward call."""
    import tests.test_optable as table
    reference, found = kernels.get("reference"), []

    def recorded(name, function):
        def call(*args, **kwargs):
            found[-1][1].add(name)
            return function(*args, **kwargs)
        return call

    for name, function in reference.functions.items():
        setattr(reference, name, recorded(name, function))
    with kernels.use("reference"):
        for row in ROWS:
            for case in row.cases:
                found.append((row, set()))
                table.run_kdl(row, case, table.build(case))
    for name, function in reference.functions.items():
        setattr(reference, name, function)
    return found


@pytest.fixture(scope="module")
def called(runs):
    """For every kernel, the op-table rows whose forward or backward calls it."""
    users = {}
    for row, names in runs:
        for name in names:
            users.setdefault(name, set()).add(row.name)
    return users


def test_every_kernel_has_an_op_table_row(called):
    optimizer = {name for name in SIGNATURES["cpu"] if name.endswith("_step")}  # tested in test_optim.py
    numpys = {name for name in SIGNATURES["cpu"] if hasattr(np, name)} | {"fill"}  # tested in simt/test_elementwise.py
    assert set(SIGNATURES["cpu"]) - optimizer - numpys - set(called) == set()


def test_every_cuda_kernel_is_run_on_the_cpu(runs):
    """By a case of a compiled family that calls compiled kernels alone: tests/simt/test_optable.py skips the others."""
    direct = {name for name in EXPORTED if name.endswith("_step")}  # tests/simt/test_optimizer.py
    for family in ("elementwise", "indexing", "reduce"):  # called for GPU arrays alone, so tested by name
        text = "".join((Path(__file__).parent / "simt" / f"test_{f}.py").read_text() for f in ("elementwise", "reduce"))
        names = {name for name, path in EXPORTED.items() if path.stem == family}
        assert {name for name in names if not re.search(rf"\b{name}\b", text)} == set()
        direct |= names
    run = set().union(*(names for row, names in runs if row.family in COMPILED and names <= set(EXPORTED)))
    assert set(EXPORTED) - direct - run == set()


def test_every_kernel_has_a_benchmark(called):
    for module in pkgutil.iter_modules(benchmarks.__path__):
        if module.name.startswith("bench_"):
            importlib.import_module(f"benchmarks.{module.name}")
    measured = {row.name for row in harness.ROWS}
    unmeasured = {kernel: sorted(rows) for kernel, rows in called.items() if not rows & measured}
    assert unmeasured == {}
    steps = {f"{row.name.lower()}_step" for row in harness.ROWS if row.program == "optimizer_step"}
    assert {name for name in SIGNATURES["cpu"] if name.endswith("_step")} <= steps


def test_use_chooses_the_namespace_for_host_arrays():
    x = np.zeros(1)
    assert kernels.of(x).name == "cpu"
    with kernels.use("reference"):
        assert kernels.of(x).name == "reference"
        with kernels.use("cpu"):
            assert kernels.of(x, 1.0).name == "cpu"
        assert kernels.of(x).name == "reference"
    assert kernels.of(x).name == "cpu"


def test_backward_uses_the_namespace_of_its_forward():
    x = kdl.tensor([1.0, -1.0], requires_grad=True)
    with kernels.use("reference"):
        y = kdl.relu(x)
    assert y.grad_fn.k.name == "reference"
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("name", ["gpu", "cuda"])
def test_use_refuses_other_names(name):
    with pytest.raises(ValueError, match=name), kernels.use(name):
        pass


class OnGpu:
    """What a CuPy array looks like to `kernels.of`."""
    __cuda_array_interface__ = {}


def test_arrays_of_two_devices_are_refused():
    with pytest.raises(TypeError, match="same device"):
        kernels.of(np.zeros(1), OnGpu())
    assert kernels.of(OnGpu()).name == "cuda"


def test_an_unknown_kernel_is_an_attribute_error():
    with pytest.raises(AttributeError, match="cpu namespace has no kernel"):
        kernels.get("cpu").no_such_kernel  # noqa: B018
