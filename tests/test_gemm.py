"""Matrix products against torch over generated shapes, and what the op table does not ask: views, dtypes, refusals."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kdl
import kdl.nn.functional as F
from kdl import kernels
from kdl.kernels.cpu import blas, panels, threads
from kdl.ops import gemm

torch = pytest.importorskip("torch", reason="products are compared with torch: pip install 'kdl-kernels[test]'")

INF, NAN = float("inf"), float("nan")


def both(name, arrays, views=None, **options):
    """Outputs and gradients of a function in kdl and in torch, over (views of) the same arrays."""
    results = []
    for library, tensor in ((kdl, kdl.tensor), (torch, torch.tensor)):
        leaves = [tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
        function = getattr(library.nn.functional if name in ("linear", "bilinear") else library, name)
        y = function(*(views(*leaves) if views else leaves), **options)
        if y.requires_grad:
            upstream = np.random.default_rng(5).standard_normal(tuple(y.shape)).astype(arrays[0].dtype)
            y.backward(tensor(upstream))
        results.append([np.asarray(y.detach()), *[None if x.grad is None else np.asarray(x.grad) for x in leaves]])
    return results


def agree(ours, theirs, rtol=1e-9):
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype and a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12)


# --- generated shapes ---
@st.composite
def operands(draw):
    """Two arrays that matmul takes: vectors, matrices, and batches that broadcast, as they lie or transposed."""
    sizes = st.integers(0, 4)
    M, K, N = draw(sizes), draw(sizes), draw(sizes)
    batch = draw(st.lists(st.integers(0, 3), max_size=3))
    shapes = []
    for vector, matrix in (((K,), (M, K)), ((K,), (K, N))):
        kept = batch[draw(st.integers(0, len(batch))):]
        lead = tuple(1 if draw(st.booleans()) else n for n in kept)
        shapes.append(draw(st.sampled_from([vector, (*lead, *matrix), (*lead, *matrix)])))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    arrays = []
    for shape in shapes:
        array = rng.standard_normal(shape)
        if array.ndim > 1 and draw(st.booleans()):
            array = np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2)
        if array.ndim > 2 and draw(st.booleans()):
            array = np.ascontiguousarray(array.swapaxes(0, -2)).swapaxes(0, -2)
        arrays.append(array)
    return arrays


@settings(max_examples=100, deadline=None)
@given(operands(), st.sampled_from(["cpu", "reference"]))
def test_matmul_agrees_with_torch(arrays, namespace):
    with kernels.use(namespace):
        agree(*both("matmul", arrays))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=3), st.integers(0, 5), st.integers(0, 5), st.booleans(), st.booleans())
def test_linear_agrees_with_torch(lead, K, N, with_bias, transposed):
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal((*lead, K)), rng.standard_normal((K, N) if transposed else (N, K))]
    if with_bias:
        arrays.append(rng.standard_normal(N))
    agree(*both("linear", arrays, lambda x, w, *b: (x, w.T if transposed else w, *b)))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([(), (1,), (2,), (3, 1), (3, 2)]), st.sampled_from([0, 1, 2, 0.5]),
       st.sampled_from([0, 1, 3, -0.5]), st.booleans())
def test_weighted_sums_agree_with_torch(shape, beta, alpha, batched):
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal(s) for s in (shape, (3, 4), (4, 2))]
    if batched:
        arrays[1:] = [np.stack([a, 2 * a]) for a in arrays[1:]]
    ours, theirs = both("baddbmm" if batched else "addmm", arrays, beta=beta, alpha=alpha)
    if beta == 0 or alpha == 0:  # torch gives zeros where kdl may have nothing to give
        ours, theirs = ([0 if g is None else g + np.zeros(a.shape) for g, a in zip(r, [r[0], *arrays], strict=True)]
                        for r in (ours, theirs))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, np.zeros_like(a) if b is None else b, rtol=1e-9, atol=1e-12)


# --- views ---
VIEWS = {
    "transposed": lambda x: x.swapaxes(-1, -2),
    "rows of a wider array": lambda x: np.concatenate([x, x], -1)[..., :x.shape[-1]],
    "transposed heads": lambda x: np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2),
}


@pytest.mark.parametrize("view", VIEWS)
def test_views_that_blas_takes_are_not_copied(view, rng):
    view = VIEWS[view](rng.standard_normal((2, 3, 4, 4)))
    assert gemm._regular(view, kernels.get("cpu")) is view


@pytest.mark.parametrize("array", [np.ones((4, 6))[:, ::2], np.broadcast_to(np.ones(4), (3, 4)), np.eye(4)[::-1]],
                         ids=["columns apart", "broadcast", "reversed"])
def test_views_that_blas_does_not_take_are_copied(array):
    assert gemm._regular(array, kernels.get("cpu")).flags.c_contiguous
    a = kdl.Tensor(array)
    np.testing.assert_array_equal((a @ a.T).array, np.einsum("mk,nk->mn", array, array))


def test_an_expanded_gradient_is_taken(rng):
    """sum() hands back one element seen many times."""
    x, w, b = [kdl.tensor(rng.standard_normal(s), requires_grad=True) for s in ((5, 4), (3, 4), (3,))]
    F.linear(x, w, b).sum().backward()
    np.testing.assert_allclose(b.grad.array, [5, 5, 5])
    np.testing.assert_allclose(w.grad.array, np.tile(x.array.sum(0), (3, 1)))


def test_an_operand_used_twice_gets_both_gradients(rng):
    agree(*both("matmul", [rng.standard_normal((3, 3))], lambda x: (x, x.T)))


def test_a_saved_operand_changed_in_place_is_noticed(rng):
    x, w = [kdl.tensor(rng.standard_normal((3, 3)), requires_grad=True) for _ in range(2)]
    y = x * 1
    z = y @ w
    with kdl.no_grad():
        y.mul_(2)
    with pytest.raises(RuntimeError, match="changed in place"):
        z.sum().backward()


# --- dtypes and values ---
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64"])
@pytest.mark.parametrize("name", ["matmul", "linear"])
def test_integers_are_multiplied_without_gradient(name, dtype):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 100, s).astype(dtype) for s in ((3, 4), (4, 4), (4,))]
    ours, theirs = both(name, arrays[:2] if name == "matmul" else arrays)
    np.testing.assert_array_equal(ours[0], theirs[0])
    assert ours[0].dtype == theirs[0].dtype


def test_halves_are_accumulated_in_float32():
    """4096 ones: a float16 sum would stop at 2048."""
    x = kdl.ones(1, 4096, dtype=kdl.float16)
    assert (x @ x.T).item() == 4096
    assert F.linear(x, x, kdl.ones(1, dtype=kdl.float16)).item() == 4096
    b = kdl.zeros(1, dtype=kdl.float16, requires_grad=True)
    F.linear(kdl.ones(4096, 1, dtype=kdl.float16), kdl.ones(1, 1, dtype=kdl.float16), b).sum().backward()
    assert b.grad.item() == 4096


def test_nan_and_inf_go_where_they_are_used():
    x = np.ones((3, 2))
    x[0, 0], x[1, 1] = NAN, INF
    for name in ("matmul", "linear"):
        ours, theirs = both(name, [x, np.array([[1.0, 2.0], [3.0, 4.0]])])
        agree(ours, theirs)
    ignored = kdl.addmm(kdl.tensor([NAN, NAN]), kdl.ones(2, 3), kdl.ones(3, 2), beta=0)
    np.testing.assert_array_equal(ignored.array, 3)


def test_the_sum_of_many_rows_is_accurate(namespace):
    """Blocks of rows keep the rounding of 65,536 float32 terms near one unit in the last place."""
    g = np.random.default_rng(0).uniform(0.5, 1.5, (65536, 3)).astype(np.float32)
    gb = np.empty(3, np.float32)
    kernels.get("cpu").linear_backward_b(g, gb)
    np.testing.assert_allclose(gb, g.astype(np.float64).sum(0), rtol=2e-5)


def test_reflected_operator_takes_arrays(rng):
    a, b = rng.standard_normal((2, 3)), rng.standard_normal((3, 2))
    np.testing.assert_array_equal((a @ kdl.tensor(b)).array, a @ b)
    with pytest.raises(TypeError):
        2.0 @ kdl.tensor(b)


def test_in_place_forms():
    x = kdl.ones(2, 2)
    assert x.addmm_(kdl.ones(2, 3), kdl.ones(3, 2), beta=2) is x
    np.testing.assert_array_equal(x.array, 5)
    x = kdl.ones(1, 2, 2)
    x.baddbmm_(kdl.ones(1, 2, 3), kdl.ones(1, 3, 2), alpha=2)
    np.testing.assert_array_equal(x.array, 7)


# --- refusals ---
ONE, INT = np.ones((2, 3), np.float32), np.ones((2, 3), np.int64)
REFUSED = [
    ("matmul", (ONE, ONE), {}, "matmul: expected input.shape[-1] == other.shape[-2] (or its length), "
                               "got input (2, 3), other (2, 3)"),
    ("matmul", (np.float32(1), ONE), {}, "matmul: expected operands with at least one dimension, "
                                         "got input (), other (2, 3)"),
    ("matmul", (np.ones((2, 4, 3)), np.ones((3, 3, 2))), {}, "matmul: expected batch dimensions that broadcast, "
                                                             "got input (2, 4, 3), other (3, 3, 2)"),
    ("matmul", (ONE, ONE.T.astype(np.float64)), {}, "matmul: expected tensors of one dtype other than bool, "
                                                    "got input float32, other float64"),
    ("matmul", (ONE > 0, ONE.T > 0), {}, "matmul: expected tensors of one dtype other than bool, "
                                         "got input bool, other bool"),
    ("mm", (ONE[None], ONE.T), {}, "mm: expected input (M, K) and mat2 (K, N), got input (1, 2, 3), mat2 (3, 2)"),
    ("bmm", (np.ones((2, 2, 3)), np.ones((1, 3, 2))), {}, "bmm: expected input (B, M, K) and mat2 (B, K, N), "
                                                          "got input (2, 2, 3), mat2 (1, 3, 2)"),
    ("mv", (ONE, ONE.T), {}, "mv: expected input (M, K) and vec (K), got input (2, 3), vec (3, 2)"),
    ("dot", (ONE[0], ONE[0, :2]), {}, "dot: expected two vectors of one length, got input (3,), tensor (2,)"),
    ("outer", (ONE, ONE[0]), {}, "outer: expected two vectors, got input (2, 3), vec2 (3,)"),
    ("addmm", (np.ones((3, 2), np.float32), ONE, ONE.T), {}, "addmm: expected an input that broadcasts to the "
                                                             "product, got input (3, 2), product (2, 2)"),
    ("addmm", (INT[0, :2], ONE, ONE.T), {}, "addmm: expected tensors of one dtype other than bool, "
                                            "got mat1 float32, mat2 float32, input int64"),
    ("baddbmm", (ONE, ONE, ONE.T), {}, "baddbmm: expected batch1 (B, M, K) and batch2 (B, K, N), "
                                       "got batch1 (2, 3), batch2 (3, 2)"),
    ("linear", (ONE, ONE.T), {}, "linear: expected input (..., K) and weight (N, K) or (K), "
                                 "got input (2, 3), weight (3, 2)"),
    ("linear", (ONE, ONE[None]), {}, "linear: expected input (..., K) and weight (N, K) or (K), "
                                     "got input (2, 3), weight (1, 2, 3)"),
    ("linear", (ONE, ONE, ONE[0]), {}, "linear: expected bias.shape == weight.shape[:-1], "
                                       "got bias (3,), weight (2, 3)"),
    ("linear", (ONE, INT), {}, "linear: expected tensors of one dtype other than bool, "
                               "got input float32, weight int64"),
    ("bilinear", (ONE, ONE, np.ones((4, 3, 2), np.float32)), {}, "bilinear: expected input1 (..., I), input2 (..., J) "
     "and weight (K, I, J), got input1 (2, 3), input2 (2, 3), weight (4, 3, 2)"),
    ("bilinear", (ONE, ONE, np.ones((4, 3, 3), np.float32), ONE[0]), {},
     "bilinear: expected bias.shape == weight.shape[:1], got bias (3,), weight (4, 3, 3)"),
]


@pytest.mark.parametrize("name, arrays, options, message", REFUSED, ids=[f"{r[0]}-{i}" for i, r in enumerate(REFUSED)])
def test_what_torch_refuses_is_refused_in_one_sentence(name, arrays, options, message):
    ours = getattr(F, name, None) or getattr(kdl, name)
    with pytest.raises((TypeError, ValueError)) as caught:
        ours(*[kdl.tensor(a) for a in arrays], **options)
    assert str(caught.value) == message
    theirs = getattr(torch.nn.functional, name, None) or getattr(torch, name)
    with pytest.raises((RuntimeError, IndexError)):
        theirs(*[torch.tensor(a) for a in arrays], **options)


@pytest.mark.parametrize("name, other, message", [
    ("matmul", 2, "matmul: expected other to be a Tensor, got int; use kdl.tensor(...)"),
    ("linear", None, "linear: expected weight to be a Tensor, got NoneType; use kdl.tensor(...)"),
    ("outer", ONE, "outer: expected vec2 to be a Tensor, got vec2 ndarray"),
])
def test_what_is_not_a_tensor_is_refused(name, other, message):
    function = getattr(F, name, None) or getattr(kdl, name)
    with pytest.raises(TypeError) as caught:
        function(kdl.tensor(ONE), other)
    assert str(caught.value) == message


def test_a_fractional_factor_of_integers_is_refused():
    x = kdl.tensor(INT)
    with pytest.raises(TypeError, match="addmm: expected alpha to be a number for int64 tensors, got alpha"):
        kdl.addmm(x[0, :2], x, x.T, alpha=0.5)


# --- in one kernel, and in which precision ---
@pytest.mark.parametrize("M, K, N", [(17, 700, 64), (50, 128, 384), (131, 77, 93), (200, 1100, 30), (1025, 16, 64),
                                     (70, 90, 700), (1500, 7, 96), (300, 3, 704), (1100, 1, 992)])
@pytest.mark.parametrize("a_turned", [False, True])
def test_products_by_tiles_are_exact_where_sums_are(M, K, N, a_turned, rng):
    check_product(M, K, N, a_turned, rng)


@pytest.mark.parametrize("M, K, N", [(2, 131, 130), (3, 1000, 17), (7, 16, 293), (8, 512, 512), (16, 35, 62),
                                     (2, 20000, 2)])
def test_products_of_few_rows_are_exact_where_sums_are(M, K, N, rng):
    check_product(M, K, N, False, rng)


def check_product(M, K, N, a_turned, rng):
    a, w = [rng.integers(-8, 9, shape).astype(np.float32) for shape in ((M, K), (N, K))]
    bias = rng.integers(-8, 9, N).astype(np.float32)
    given = np.asfortranarray(a) if a_turned else a
    y = np.full((M, N), np.nan, np.float32)
    assert not panels.WIDTH >= 16 or panels.way_of(given, w.T, y)
    for taken in (panels.LINES,) if M <= panels._FEW else (panels.PANELS, panels.TURNED):
        for added in (None, bias):
            panels.product(taken, given, w.T, added, y)
            np.testing.assert_array_equal(y, a @ w.T + (0 if added is None else added))
    panels.product(panels.AS_IT_LIES, given, np.ascontiguousarray(w.T), None, y)
    np.testing.assert_array_equal(y, a @ w.T)


def lying(array, turned):
    """A matrix as the flat array that lies in memory, and whether that is its transpose."""
    return array.ravel("F" if turned else "C"), turned


@pytest.mark.parametrize("a_turned, b_turned", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("grid", [(1, 1), (1, 3), (4, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_in_parts_are_exact_where_sums_are(dtype, grid, a_turned, b_turned, rng):
    for M, N, K in ((2, 3, 2), (50, 47, 9), (300, 149, 70)):
        a, b = [rng.integers(-8, 9, shape).astype(dtype) for shape in ((M, K), (K, N))]
        for bias in (np.zeros(0, dtype), rng.integers(-8, 9, N).astype(dtype)):
            y = np.full((M, N), np.nan, dtype)
            arguments = (blas.gemm_of(y.dtype), *lying(a, a_turned), *lying(b, b_turned), bias, y.reshape(-1),
                         M, N, K)
            blas._multiply(*arguments, False, *grid)
            expected = a.astype(int) @ b.astype(int) + (bias if bias.size else 0)
            np.testing.assert_array_equal(y, expected)
            blas._multiply(*arguments, True, *grid)
            np.testing.assert_array_equal(y, np.maximum(expected, 0))


@pytest.mark.parametrize("a_shape, b_shape", [((3, 4, 9, 5), (3, 4, 5, 8)), ((1, 4, 9, 5), (3, 1, 5, 8)),
                                              ((7, 9, 5), (5, 8)), ((9, 5), (7, 5, 8)), ((7, 9, 5), (1, 5, 8))])
def test_many_products_at_once_are_exact_where_sums_are(a_shape, b_shape, rng, monkeypatch):
    monkeypatch.setattr(blas, "SHARED", 0)
    monkeypatch.setattr(threads, "none", False)
    for dtype in (np.float32, np.float64):
        a, b = [rng.integers(-8, 9, shape).astype(dtype) for shape in (a_shape, b_shape)]
        for other in (b, np.ascontiguousarray(b.swapaxes(-1, -2)).swapaxes(-1, -2)):
            expected = np.matmul(a.astype(int), b.astype(int))
            for large in (1 << 25, 0):
                monkeypatch.setattr(blas, "_LARGE", large)
                y = np.full(expected.shape, np.nan, dtype)
                blas.matmul(a, other, y)
                np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("a_turned, b_turned", [(False, True), (True, False)])
def test_a_numpy_without_blas_multiplies_too(a_turned, b_turned, dtype, rng):
    a, b = [rng.integers(-8, 9, shape).astype(dtype) for shape in ((7, 5), (5, 6))]
    y, own = np.full((7, 6), np.nan, dtype), blas._own_gemm(np.dtype(dtype)).address
    for bias in (np.zeros(0, dtype), np.ones(6, dtype)):
        blas._multiply(own, *lying(a, a_turned), *lying(b, b_turned), bias, y.reshape(-1), 7, 6, 5, False, 1, 1)
        np.testing.assert_array_equal(y, a @ b + (bias if bias.size else 0))


def test_blas_has_its_threads_back_after_a_product(rng):
    if blas._openblas() is None:
        pytest.skip("NumPy's BLAS here is not OpenBLAS, which alone is told how many threads to use")
    get, set_threads = blas._openblas()
    before = get()
    set_threads(2)
    try:
        x = kdl.tensor(rng.standard_normal((200, 300)))
        x @ x.T
        assert get() == 2
    finally:
        set_threads(before)


def test_products_that_tiles_do_not_take(rng):
    def fits(M, K, N, dtype=np.float32, step=1, b_turned=True):
        a = np.empty((M * step, K), dtype)[::step]
        return panels.way_of(a, np.empty((K, N), dtype, "F" if b_turned else "C"), np.empty((M, N), dtype))
    assert not fits(128, 64, 96, np.float64) and not fits(128, 64, 96, step=2) and not fits(128, 64, 96, b_turned=False)
    assert not fits(32, 32, 32) and not fits(4096, 8, 40) and not fits(4096, 64, 33) and not fits(2048, 1536, 1536)
    assert not fits(1, 512, 512) and not fits(8, 16, 16) and not fits(8, 512, 512, step=2)


@pytest.mark.parametrize("namespace", ["cpu", "reference"])
def test_a_linear_layer_takes_the_relu_after_it_along(namespace, rng):
    x = rng.standard_normal((5, 4))
    results = []
    for hooked in (False, True):  # a hook keeps the layers apart
        kdl.manual_seed(1)
        model = kdl.nn.Sequential(kdl.nn.Linear(4, 6), kdl.nn.ReLU(), kdl.nn.Linear(6, 3), kdl.nn.ReLU()).double()
        if hooked:
            for layer in model:
                layer.register_forward_hook(lambda *_: None)
        leaf = kdl.tensor(x, requires_grad=True)
        with kernels.use(namespace):
            y = model(leaf)
        (y * y).sum().backward()
        results.append([y.detach().numpy(), leaf.grad.numpy(), *[p.grad.numpy() for p in model.parameters()]])
    for fused, apart in zip(*results, strict=True):
        np.testing.assert_array_equal(fused, apart)
    assert (results[0][0] == 0).any() and (results[0][0] > 0).any()


def test_relu_in_a_linear_layer_is_torchs(rng):
    arrays = [rng.standard_normal(s) for s in ((7, 5), (3, 5), (3,))]
    ours, theirs = ([library.tensor(a, requires_grad=True) for a in arrays] for library in (kdl, torch))
    gemm.linear_relu(*ours).sum().backward()
    torch.relu(torch.nn.functional.linear(*theirs)).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_the_precision_of_float32_is_a_switch():
    assert kdl.get_float32_matmul_precision() == "highest"
    try:
        for precision, tf32 in (("high", True), ("medium", True), ("highest", False)):
            kdl.set_float32_matmul_precision(precision)
            assert kdl.get_float32_matmul_precision() == precision and gemm.tf32() is tf32
    finally:
        kdl.set_float32_matmul_precision("highest")
    with pytest.raises(ValueError, match="one of 'highest', 'high', 'medium', got precision 'low'"):
        kdl.set_float32_matmul_precision("low")


def test_a_product_is_explained():
    from kdl.kernels import simt
    if not simt.available():
        pytest.skip(simt.problem())
    a = kdl.zeros(128, 2048)
    try:
        kdl.set_float32_matmul_precision("high")
        with kernels.use("simt"):
            assert "chosen: gemm_mma" in kdl.explain(kdl.matmul, a, a.T)
    finally:
        kdl.set_float32_matmul_precision("highest")
