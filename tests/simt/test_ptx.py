"""The engine's PTX instructions return what the PTX manual says, modelled in NumPy; and what a GPU returned."""
import ml_dtypes
import numpy as np
import pytest

from tests.simt import ORDERS, golden, kernels_of

CASES = {case[0]: case for case in golden.cases()}
LANE = np.arange(32)
GROUP, INSIDE = LANE // 4, LANE % 4


def cp_async(inputs, width, source):
    y = inputs[0].reshape(32, width).copy()
    y[:, source:] = 0
    return y.ravel()


def ldmatrix(inputs, count, transposed):
    """Lane l gets the elements (l / 4, 2 (l % 4)) and its right neighbour of every matrix."""
    matrices = inputs[0].view(np.uint16).reshape(4, 8, 8)[:count]
    if transposed:
        matrices = matrices.transpose(0, 2, 1)
    low, high = matrices[:, GROUP, 2 * INSIDE].astype(np.uint32), matrices[:, GROUP, 2 * INSIDE + 1].astype(np.uint32)
    return (low | high << 16).T.astype(np.uint32).view(np.int32)


def mma(inputs, format):
    """The fragments by the tables of the PTX manual, element by element."""
    a_registers, b_registers, c = inputs
    name = golden.FORMATS[format]
    if name == "tf32":
        a, b = np.zeros((16, 8)), np.zeros((8, 8))
        for i in range(4):
            a[GROUP + 8 * (i in (1, 3)), INSIDE + 4 * (i >= 2)] = a_registers.view(np.float32)[:, i]
        for i in range(2):
            b[INSIDE + 4 * i, GROUP] = b_registers.view(np.float32)[:, i]
    else:
        dtype = np.dtype(getattr(ml_dtypes, name, name))
        a, b = np.zeros((16, 16)), np.zeros((16, 8))
        for i in range(8):
            a[GROUP + 8 * (i in (2, 3, 6, 7)), 2 * INSIDE + i % 2 + 8 * (i >= 4)] = a_registers.view(dtype)[:, i]
        for i in range(4):
            b[2 * INSIDE + i % 2 + 8 * (i >= 2), GROUP] = b_registers.view(dtype)[:, i]
    product, d = a @ b, np.empty((32, 4), np.float32)
    for i in range(4):
        d[:, i] = c[:, i] + product[GROUP + 8 * (i >= 2), 2 * INSIDE + i % 2]
    return d


def cvt_rna_tf32(inputs):
    """To the nearest multiple of the unit of 10 fraction bits, ties away from zero."""
    bits = inputs[0].view(np.uint32).astype(np.uint64)
    return ((bits + 0x1000) // 0x2000 * 0x2000).astype(np.uint32).view(np.int32)


MODELS = {"ptx_cp_async": cp_async, "ptx_ldmatrix": ldmatrix, "ptx_mma": mma, "ptx_cvt_rna_tf32": cvt_rna_tf32}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("build", ["plain", "race"])
def test_instructions(build, order):
    kernels = kernels_of(build)
    kernels.set_option("order", ORDERS.index(order))
    try:
        found = golden.results(build)
    finally:
        kernels.set_option("order", 0)
    for name, (_, kernel, inputs, _, arguments) in CASES.items():
        np.testing.assert_array_equal(found[name], MODELS[kernel](inputs, *arguments), err_msg=name)


def test_the_engine_returns_what_a_gpu_returned():
    if not golden.PATH.exists():
        pytest.skip("nothing has been recorded on a GPU yet: python -m tests.simt.golden record cuda")
    assert golden.compare("plain") == []


def test_results_are_recorded_and_compared(tmp_path, monkeypatch):
    kernels_of("plain")
    monkeypatch.setattr(golden, "PATH", tmp_path / "golden" / "ptx.npz")
    golden.record("plain")
    assert golden.compare("plain") == []
    assert [p.name for p in golden.PATH.parent.iterdir()] == ["ptx.npz"]
    monkeypatch.setattr(golden, "cases", lambda: [
        c if c[0] != "mma float16" else (*c[:4], (1,)) for c in CASES.values()])
    assert golden.compare("plain") == ["mma float16"]
