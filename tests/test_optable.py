"""What must hold for every public function: each test runs over every case of the op table."""
import warnings

import numpy as np
import pytest

import kdl
import kdl.nn.functional as F
from kdl import kernels
from kdl.autograd import gradcheck
from kdl.kernels import cuda, simt
from tests import fake_cupy
from tests.optable import ROWS, TOLERANCE, Array

torch = pytest.importorskip("torch", reason="the op table is compared with torch: pip install 'kdl-kernels[test]'")

CASES = [pytest.param(row, case, id=f"{row.name}({case})") for row in ROWS for case in row.cases]
every_case = pytest.mark.parametrize("row, case", CASES)


def build(case, dtype="float64", layout=None):
    """The case's arrays, as a list of (position, array, wants gradient); (i, j) is the position in a list of arrays."""
    rng = np.random.default_rng(7)
    inputs = []

    def add(position, value):
        if isinstance(value, Array):
            array = value.build(rng, dtype)
            array = layout(array) if layout else array
            inputs.append((position, array, value.grad and array.dtype.kind not in "iub"))
        elif isinstance(value, list):
            for j, part in enumerate(value):
                add((position, j), part)
    for position, value in (*enumerate(case.args), *case.kwargs.items()):
        add(position, value)
    return inputs


def call(function, case, tensors):
    """Call the function with tensors in the place of the case's arrays; the outputs as a list."""
    args, kwargs = [list(a) if isinstance(a, list) else a for a in case.args], dict(case.kwargs)
    for position, x in tensors.items():
        if isinstance(position, tuple):
            args[position[0]][position[1]] = x
        elif isinstance(position, int):
            args[position] = x
        else:
            kwargs[position] = x
    outputs = function(*args, **kwargs)
    return list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]


def run_kdl(row, case, inputs, device="cpu"):
    """Outputs and gradients, as arrays, for an upstream gradient that is the same in every run."""
    function = getattr(F, row.name, None) or getattr(kdl, row.name)
    move = lambda a: kdl.Tensor(a).to(device)
    tensors = {p: move(a.copy() if p in row.updates else a).requires_grad_(g) for p, a, g in inputs}
    outputs = call(function, case, tensors) + [tensors[p] for p in row.updates if p in tensors]
    return [y.detach().cpu().array for y in outputs], gradients(outputs, tensors, inputs, move)


def run_torch(row, case, inputs):
    function = getattr(torch.nn.functional, row.name, None) or getattr(torch, row.name)
    tensors = {p: torch.from_numpy(np.array(a)).requires_grad_(g) for p, a, g in inputs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's advice about its own speed
        outputs = call(function, case, tensors) + [tensors[p] for p in row.updates if p in tensors]
    return [y.detach().numpy() for y in outputs], gradients(outputs, tensors, inputs, torch.from_numpy)


def gradients(outputs, tensors, inputs, from_array):
    rng = np.random.default_rng(11)
    for y in outputs:
        upstream = rng.standard_normal(tuple(y.shape))
        if y.requires_grad:
            upstream = upstream.astype(str(y.dtype).removeprefix("torch."))
            y.backward(from_array(upstream), retain_graph=True)
    return [None if tensors[p].grad is None else np.asarray(tensors[p].grad.cpu()) for p, _, g in inputs if g]


def close(ours, theirs, tolerance, what):
    assert ours.shape == theirs.shape, f"{what}: shape {ours.shape}, expected {theirs.shape}"
    if ours.dtype.kind in "iub":
        np.testing.assert_array_equal(ours, theirs, err_msg=what)
        return
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    finite = np.abs(theirs[np.isfinite(theirs)])
    scale = max(1.0, finite.max()) if finite.size else 1.0
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def agree(ours, theirs, tolerance):
    for i, (a, b) in enumerate(zip(ours[0], theirs[0], strict=True)):
        close(a, b, tolerance, f"output {i}")
    for i, (a, b) in enumerate(zip(ours[1], theirs[1], strict=True)):
        assert (a is None) == (b is None), f"gradient {i}: one side has none"
        if a is not None:
            close(a, b, tolerance, f"gradient {i}")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@every_case
def test_agrees_with_torch(row, case, dtype):
    if not row.torch:
        pytest.skip("torch has no such function")
    inputs = build(case, dtype)
    before = [a.copy() for _, a, _ in inputs]
    ours, theirs = run_kdl(row, case, inputs), run_torch(row, case, inputs)
    agree(ours, theirs, TOLERANCE[dtype])
    assert [str(y.dtype) for y in ours[0]] == [str(y.dtype) for y in theirs[0]]
    for (_, after, _), a in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(after, a, err_msg="an input was changed")


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@every_case
def test_namespace_agrees_with_reference(row, case, dtype, namespace):
    if dtype in ("float16", "bfloat16") and not row.halves:
        pytest.skip("half types are not promised")
    inputs = build(case, getattr(kdl, dtype))
    ours = run_kdl(row, case, inputs)
    with kernels.use("reference"):
        theirs = run_kdl(row, case, inputs)
    agree(ours, theirs, TOLERANCE[dtype])
    assert [y.dtype for y in ours[0]] == [y.dtype for y in theirs[0]]


@pytest.mark.skipif(not cuda.available(), reason=str(cuda.problem()))
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@every_case
def test_cuda_agrees_with_reference(row, case, dtype):
    if dtype in ("float16", "bfloat16") and not row.halves:
        pytest.skip("half types are not promised")
    on_gpu(row, case, dtype)


@pytest.mark.skipif(not simt.available(), reason=str(simt.problem()))
@pytest.mark.parametrize("row, case", [pytest.param(row, row.cases[0], id=row.name) for row in ROWS])
def test_the_way_of_gpu_arrays_agrees_with_reference(row, case):
    """On the stand-in for CuPy, whose kernels run under simt; what CuPy would compile is computed by NumPy."""
    with fake_cupy.installed(), fake_cupy.computing():
        on_gpu(row, case, "float32")


def on_gpu(row, case, dtype):
    inputs = build(case, getattr(kdl, dtype))
    try:
        ours = run_kdl(row, case, inputs, "cuda")
    except AttributeError as missing:
        if "namespace has no kernel" not in str(missing):
            raise
        pytest.skip(str(missing))
    with kernels.use("reference"):
        agree(ours, run_kdl(row, case, inputs), TOLERANCE[dtype])


@every_case
def test_gradcheck(row, case):
    inputs = build(case)
    if not row.gradcheck or not any(g for _, _, g in inputs):
        pytest.skip("no smooth gradient to check")
    if sum(a.size for _, a, g in inputs if g) > 400:
        pytest.skip("too many elements for central differences; smaller cases of this row are checked")
    function = getattr(F, row.name, None) or getattr(kdl, row.name)
    tensors = {p: kdl.Tensor(a, requires_grad=g) for p, a, g in inputs}
    wanted = [p for p, _, g in inputs if g]
    gradcheck(lambda *xs: tuple(call(function, case, {**tensors, **dict(zip(wanted, xs, strict=True))})),
              [tensors[p] for p in wanted], rtol=1e-4, atol=1e-6)


LAYOUTS = {
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "transposed": lambda a: a.swapaxes(0, -1).copy().swapaxes(0, -1) if a.ndim > 1 else a,
    "channels_last": lambda a: np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1) if a.ndim in (4, 5) else a,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@every_case
def test_layout_does_not_matter(row, case, layout):
    plain, other = build(case), build(case, layout=LAYOUTS[layout])
    if all(a.strides == b.strides for (_, a, _), (_, b, _) in zip(plain, other, strict=True)):
        pytest.skip("no input with such a layout")
    agree(run_kdl(row, case, other), run_kdl(row, case, plain), 1e-12)


@every_case
def test_backward_twice_gives_the_same(row, case):
    inputs = build(case)
    function = getattr(F, row.name, None) or getattr(kdl, row.name)
    tensors = {p: kdl.Tensor(a, requires_grad=g) for p, a, g in inputs}
    outputs = [y for y in call(function, case, tensors) if y.grad_fn is not None]
    if not outputs:
        pytest.skip("nothing is recorded")
    y = outputs[0]
    gy = kdl.Tensor(np.random.default_rng(3).standard_normal(y.shape))
    leaves = [tensors[p] for p, _, g in inputs if g]
    first = kdl.grad(y, leaves, gy, retain_graph=True, allow_unused=True)
    second = kdl.grad(y, leaves, gy, allow_unused=True)
    for a, b in zip(first, second, strict=True):
        if a is not None:
            np.testing.assert_array_equal(a.array, b.array)
    with pytest.raises(RuntimeError, match="retain_graph"):
        kdl.grad(y, leaves, gy, allow_unused=True)
