"""Linear algebra against torch.linalg, and decompositions against what they stand for."""
import numpy as np
import pytest

import kdl
from kdl.autograd import gradcheck

torch = pytest.importorskip("torch", reason="compared with torch: pip install 'kdl-kernels[test]'")


@pytest.mark.parametrize("name, arguments, shape", [
    ("vector_norm", (), (3, 4)), ("vector_norm", (1, 1), (3, 4)), ("vector_norm", (float("inf"), (0, 2)), (2, 3, 4)),
    ("matrix_norm", (), (2, 3, 4)), ("matrix_norm", (1,), (2, 3, 4)), ("matrix_norm", (-1,), (3, 4)),
    ("matrix_norm", (float("inf"), (0, 2)), (2, 3, 4)), ("matrix_norm", (-float("inf"), (2, 0), True), (2, 3, 4)),
    ("norm", (), (2, 3, 4)), ("norm", (3,), (5,)), ("norm", ("fro",), (3, 4)), ("norm", (1,), (3, 4)),
    ("norm", (1, 1), (3, 4)), ("norm", (None, (0, 1)), (3, 4)), ("inv", (), (2, 3, 3)), ("det", (), (2, 3, 3)),
    ("matrix_power", (3,), (3, 3)), ("matrix_power", (-2,), (3, 3)), ("matrix_power", (0,), (2, 3, 3)),
    ("matrix_exp", (), (3, 3)), ("matrix_norm", (2,), (2, 3, 4)), ("matrix_norm", (-2, (0, 2), True), (2, 3, 4)),
    ("matrix_norm", ("nuc", (2, 0)), (2, 3, 4)), ("norm", (2,), (3, 4)), ("cond", (), (2, 3, 4)),
    ("cond", (-2,), (3, 4)), ("eigvalsh", (), (2, 3, 3)),
    ("eigvalsh", ("U",), (3, 3)), ("svdvals", (), (2, 3, 4)), ("pinv", (), (2, 4, 3)), ("pinv", (), (3, 4)),
    ("vander", (), (2, 3)), ("diagonal", (), (2, 3, 4)), ("matrix_rank", (), (2, 4, 3))])
def test_linear_algebra_is_torchs(name, arguments, shape):
    x = np.random.default_rng(2).standard_normal(shape)
    a, b = kdl.Tensor(x).requires_grad_(), torch.from_numpy(x.copy()).requires_grad_()
    ours, theirs = getattr(kdl.linalg, name)(a, *arguments), getattr(torch.linalg, name)(b, *arguments)
    np.testing.assert_allclose(ours.detach().array, theirs.detach().numpy(), rtol=1e-9)
    if theirs.requires_grad and ours.requires_grad:
        (ours ** 2).sum().backward()
        (theirs ** 2).sum().backward()
        np.testing.assert_allclose(a.grad.array, b.grad.numpy(), rtol=1e-8, atol=1e-9)


def test_chains_of_products_and_cross_products():
    rng = np.random.default_rng(0)
    for shapes in (((2, 9), (9, 3), (3, 7)), ((9,), (9, 3), (3, 7), (7, 2)), ((4, 9), (9, 3), (3,)), ((4,), (4,))):
        arrays = [rng.standard_normal(shape) for shape in shapes]
        np.testing.assert_allclose(kdl.linalg.multi_dot([kdl.Tensor(a) for a in arrays]).array,
                                   torch.linalg.multi_dot([torch.from_numpy(a) for a in arrays]).numpy(), rtol=1e-10)
    a, b = rng.standard_normal((2, 4, 3))
    np.testing.assert_allclose(kdl.linalg.cross(kdl.Tensor(a), kdl.Tensor(b)).array, np.cross(a, b))
    np.testing.assert_allclose(kdl.linalg.solve(kdl.Tensor(a[:3]), kdl.Tensor(b[:3])).array,
                               np.linalg.solve(a[:3], b[:3]))
    with pytest.raises(ValueError, match="ord 'fro', 'nuc', 1, -1, 2, -2, inf or -inf"):
        kdl.linalg.matrix_norm(kdl.ones(2, 2), 3)
    with pytest.raises(ValueError, match="two dimensions for 'nuc'"):
        kdl.linalg.norm(kdl.ones(2), "nuc")
    with pytest.raises(ValueError, match="square matrices"):
        kdl.inverse(kdl.ones(2, 3))


# --- decompositions: what does not depend on the signs of vectors ---
def symmetric(m):
    return m @ m.mT + m.shape[-1] * 0.1 * (m @ m.mT) @ (m @ m.mT)


def spectrum(lib, m):
    w, v = lib.linalg.eigh(symmetric(m))
    return w, (v * w[..., None, :].log()) @ v.mT


def of_svd(lib, m):
    u, s, vh = lib.linalg.svd(m, full_matrices=False)
    return s, u @ vh, (u * s.sin()[..., None, :]) @ vh


def of_qr(lib, m):
    q, r = lib.linalg.qr(m)
    sign = lib.sign(lib.diagonal(r, 0, -2, -1)).detach()
    return q * sign[..., None, :], r * sign[..., :, None]


CALLS = {
    "cholesky": (lambda lib, m: lib.linalg.cholesky(symmetric(m)), [(3, 3)]),
    "cholesky upper": (lambda lib, m: lib.linalg.cholesky(symmetric(m), upper=True), [(2, 3, 3)]),
    "eigh": (spectrum, [(2, 3, 3)]), "svd": (of_svd, [(4, 4)]), "svd high": (of_svd, [(2, 5, 3)]),
    "svd wide": (of_svd, [(3, 5)]), "qr": (of_qr, [(2, 3, 3)]), "qr high": (of_qr, [(5, 3)]),
    "qr wide": (of_qr, [(2, 3, 5)]),
    "qr complete": (lambda lib, m: lib.linalg.qr(m, mode="complete")[1].abs(), [(3, 4)]),
    "cholesky_solve": (lambda lib, b, m: lib.cholesky_solve(b, lib.linalg.cholesky(symmetric(m))), [(3, 2), (3, 3)]),
    "cholesky_inverse": (lambda lib, m: lib.cholesky_inverse(lib.linalg.cholesky(symmetric(m), upper=True), True),
                         [(3, 3)]),
    "logdet": (lambda lib, m: lib.logdet(symmetric(m)), [(2, 4, 4)]),
    "lstsq": (lambda lib, a, b: lib.linalg.lstsq(a, b).solution, [(5, 3), (5, 2)]),
    "lower": (lambda lib, a, b: lib.linalg.solve_triangular(a + 3 * lib.eye(3), b, upper=False), [(2, 3, 3), (3, 2)]),
    "upper": (lambda lib, a, b: lib.linalg.solve_triangular(a, b, upper=True, unitriangular=True), [(3, 3), (2, 3, 2)]),
    "right": (lambda lib, a, b: lib.linalg.solve_triangular(a, b, upper=True, left=False, unitriangular=True),
              [(3, 3), (2, 3)]),
    "vecdot": (lambda lib, a, b: lib.linalg.vecdot(a, b, dim=0), [(3, 2), (3, 2)]),
    "low rank": (lambda lib, a, b: lib.linalg.pinv(a @ b), [(4, 2), (2, 3)]),
}


@pytest.mark.parametrize("name", CALLS)
def test_decompositions_are_torchs(name):
    function, shapes = CALLS[name]
    arrays = [np.random.default_rng(i).standard_normal(shape) for i, shape in enumerate(shapes)]
    ours = [kdl.Tensor(a.copy()).requires_grad_() for a in arrays]
    theirs = [torch.from_numpy(a.copy()).requires_grad_() for a in arrays]
    outputs = function(kdl, *ours), function(torch, *theirs)
    outputs = [y if isinstance(y, tuple) else (y,) for y in outputs]
    for i, (a, b) in enumerate(zip(*outputs, strict=True)):
        np.testing.assert_allclose(a.detach().array, b.detach().numpy(), rtol=1e-8, atol=1e-10)
        w = np.random.default_rng(i).standard_normal(a.shape)
        (a * kdl.Tensor(w)).sum().backward(retain_graph=True)
        (b * torch.from_numpy(w)).sum().backward(retain_graph=True)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad.array, b.grad.numpy(), rtol=1e-7, atol=1e-8)
    if name != "low rank":  # central differences leave the matrices of low rank only by rounding
        assert gradcheck(lambda *xs: function(kdl, *xs), [x.detach().requires_grad_() for x in ours])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(3, 3), (2, 5, 3), (3, 5), (1, 1), (0, 3), (3, 0), (0, 2, 2)])
def test_products_of_the_parts_are_the_matrices(shape, dtype):
    a = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    x, near = kdl.Tensor(a), {"rtol": 0, "atol": 5e-6 if dtype == "float32" else 1e-13}
    for full in (False, True):
        u, s, vh = kdl.linalg.svd(x, full)
        assert [y.shape for y in (u, s, vh)] == [tuple(y.shape) for y in torch.linalg.svd(torch.from_numpy(a), full)]
        k = s.shape[-1]
        np.testing.assert_allclose(((u[..., :k] * s[..., None, :]) @ vh[..., :k, :]).array, a, **near)
    for mode in ("reduced", "complete"):
        q, r = kdl.linalg.qr(x, mode)
        assert q.dtype == r.dtype == x.dtype
        np.testing.assert_allclose((q @ r).array, a, **near)


def test_least_squares_are_torchs():
    rng = np.random.default_rng(0)
    for a_shape, b_shape in (((6, 3), (6, 2)), ((2, 6, 3), (2, 6, 2)), ((3, 5), (3, 1)), ((3, 3), (3, 2))):
        a, b = rng.standard_normal(a_shape), rng.standard_normal(b_shape)
        ours = kdl.linalg.lstsq(kdl.Tensor(a), kdl.Tensor(b))
        theirs = torch.linalg.lstsq(torch.from_numpy(a), torch.from_numpy(b), driver="gelsd")
        for name in ("solution", "residuals", "rank", "singular_values"):
            np.testing.assert_allclose(getattr(ours, name).array, getattr(theirs, name).numpy(), 1e-9, err_msg=name)
    vector = kdl.linalg.lstsq(kdl.Tensor(a), kdl.Tensor(b[:, 0])).solution
    np.testing.assert_allclose(vector.array, ours.solution.array[:, 0], rtol=1e-9)


def test_ranks_and_determinants():
    low = np.outer([1.0, 2, 3], [1.0, -1, 2])
    assert kdl.linalg.matrix_rank(kdl.Tensor(low)).item() == 1
    assert kdl.linalg.matrix_rank(kdl.Tensor(np.diag([1.0, 1e-3, 0])), rtol=1e-2).item() == 1
    assert kdl.linalg.matrix_rank(kdl.Tensor(np.diag([5.0, 3.0, 0])), atol=4.0).item() == 1
    square = np.random.default_rng(0).standard_normal((2, 3, 3))
    for p in (1, "fro", np.inf, "nuc"):
        np.testing.assert_allclose(kdl.linalg.cond(kdl.Tensor(square), p).array,
                                   torch.linalg.cond(torch.from_numpy(square), p).numpy(), rtol=1e-9)
    assert kdl.linalg.vander(kdl.tensor([2, 3]), 3).tolist() == [[1, 2, 4], [1, 3, 9]]
    big = np.eye(400) * 1e3
    assert kdl.slogdet(kdl.Tensor(big)).logabsdet.item() == pytest.approx(400 * np.log(1e3))
    for m in (np.diag([1.0, -2]), np.zeros((2, 2))):
        np.testing.assert_equal(kdl.logdet(kdl.Tensor(m)).item(), torch.logdet(torch.from_numpy(m)).item())


def test_what_is_refused():
    x = kdl.ones(4, 2, dtype=kdl.float64, requires_grad=True) * kdl.tensor([[1.0], [2], [4], [3]], dtype=kdl.float64)
    with pytest.raises(kdl.linalg.LinAlgError):
        kdl.linalg.cholesky(-kdl.eye(2))
    for function in (kdl.linalg.cholesky, kdl.linalg.eigh, kdl.slogdet):
        with pytest.raises(ValueError, match="square matrices"):
            function(kdl.ones(2, 3))
    for function in (kdl.linalg.svd, kdl.linalg.qr, kdl.linalg.pinv):
        with pytest.raises(ValueError, match="matrices"):
            function(kdl.ones(3))
        with pytest.raises(TypeError, match="float32 or float64"):
            function(kdl.ones(3, 3, dtype=kdl.float16))
    with pytest.raises(RuntimeError, match="full_matrices=False"):
        kdl.linalg.svd(x).U.sum().backward()
    kdl.linalg.svd(x).S.sum().backward()
    with pytest.raises(RuntimeError, match="mode='reduced'"):
        kdl.linalg.qr(x, "complete").Q.sum().backward()
    with pytest.raises(ValueError, match="UPLO"):
        kdl.linalg.eigh(kdl.eye(2), "X")
    with pytest.raises(ValueError, match="vander: expected N >= 0"):
        kdl.vander(kdl.ones(2), -1)
