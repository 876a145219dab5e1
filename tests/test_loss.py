"""Losses beyond the op table: generated arguments, ties, extreme values, refusals."""
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kdl
import kdl.nn.functional as F

torch = pytest.importorskip("torch", reason="compared with torch: pip install 'kdl-kernels[test]'")
TF = torch.nn.functional

few = settings(max_examples=40, deadline=None)
REDUCTIONS = st.sampled_from(["mean", "sum", "none"])
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
SEEDS = st.integers(0, 999)
INF, NAN = math.inf, math.nan


def compare(name, arrays, wanted, rng, tolerance=1e-9, **arguments):
    """Value, and gradients of the first `wanted` arrays, against torch."""
    ours = [kdl.Tensor(a.copy(), i < wanted) for i, a in enumerate(arrays)]
    theirs = [torch.tensor(a, requires_grad=i < wanted) for i, a in enumerate(arrays)]
    extra = {k: v for k, v in arguments.items() if isinstance(v, np.ndarray)}
    y = getattr(F, name)(*ours, **arguments | {k: kdl.Tensor(v) for k, v in extra.items()})
    ty = getattr(TF, name)(*theirs, **arguments | {k: torch.tensor(v) for k, v in extra.items()})
    np.testing.assert_allclose(y.detach().array, ty.detach().numpy(), rtol=tolerance, atol=tolerance)
    gy = rng.standard_normal(ty.shape)
    y.backward(kdl.tensor(gy))
    ty.backward(torch.tensor(gy))
    for i in range(wanted):
        np.testing.assert_allclose(ours[i].grad.array, theirs[i].grad.numpy(), rtol=tolerance, atol=tolerance,
                                   err_msg=f"gradient {i}")


# --- elementwise losses ---
@few
@given(name=st.sampled_from(["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"]), shape=SHAPES, seed=SEEDS,
       reduction=REDUCTIONS, weighted=st.booleans(), bend=st.sampled_from([0.5, 1.0, 2.0]), ties=st.booleans())
def test_distances_agree_with_torch(name, shape, seed, reduction, weighted, bend, ties):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, *shape)) * 2
    if ties:
        x, y = np.round(x * 2) / 2, np.round(y * 2) / 2  # distances of exactly 0 and of exactly the bend
    parameter = {"smooth_l1_loss": {"beta": bend}, "huber_loss": {"delta": bend}}.get(name, {})
    arguments = {"reduction": reduction, **parameter}
    if weighted and name != "smooth_l1_loss":
        arguments["weight"] = rng.uniform(0.5, 2, shape)
    compare(name, [x, y], 2, rng, **arguments)


@few
@given(name=st.sampled_from(["binary_cross_entropy", "binary_cross_entropy_with_logits"]), shape=SHAPES, seed=SEEDS,
       reduction=REDUCTIONS, weighted=st.booleans(), positive=st.booleans(), hard=st.booleans())
def test_binary_cross_entropies_agree_with_torch(name, shape, seed, reduction, weighted, positive, hard):
    rng = np.random.default_rng(seed)
    logits = name.endswith("logits")
    x = rng.standard_normal(shape) * 10 if logits else rng.uniform(0, 1, shape)
    y = rng.integers(0, 2, shape).astype(float) if hard else rng.uniform(0, 1, shape)
    arguments = {"reduction": reduction}
    if weighted:
        arguments["weight"] = rng.uniform(0.5, 2, shape[len(shape) // 2:])
    if positive and logits:
        arguments["pos_weight"] = rng.uniform(0.5, 2, shape[-1:])
    compare(name, [x, y], 2, rng, **arguments)


@few
@given(shape=SHAPES, seed=SEEDS, log_target=st.booleans(),
       reduction=st.sampled_from(["none", "sum", "mean", "batchmean"]))
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
def test_kl_div_agrees_with_torch(shape, seed, log_target, reduction):
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(shape) if log_target else rng.uniform(0.1, 1, shape)
    compare("kl_div", [rng.standard_normal(shape), y], 2, rng, log_target=log_target, reduction=reduction)


@few
@given(shape=SHAPES, seed=SEEDS, log_input=st.booleans(), full=st.booleans(), reduction=REDUCTIONS)
def test_poisson_nll_agrees_with_torch(shape, seed, log_input, full, reduction):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0.1, 2, shape), rng.uniform(0.1, 5, shape)
    compare("poisson_nll_loss", [x, y], 2, rng, log_input=log_input, full=full, reduction=reduction)


@few
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple), seed=SEEDS, full=st.booleans(),
       reduction=REDUCTIONS, kind=st.sampled_from(["all", "one", "without", "number", "tiny"]))
def test_gaussian_nll_agrees_with_torch(shape, seed, full, reduction, kind):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, *shape))
    if kind == "number":
        compare("gaussian_nll_loss", [x, y], 2, rng, var=0.7, full=full, reduction=reduction)
        return
    var = rng.uniform(0.1, 2, {"one": (*shape[:-1], 1), "without": shape[:-1]}.get(kind, shape))
    compare("gaussian_nll_loss", [x, y, var * 1e-4 if kind == "tiny" else var], 3, rng, full=full, reduction=reduction,
            eps=1e-4)


@few
@given(name=st.sampled_from(["hinge_embedding_loss", "soft_margin_loss"]), shape=SHAPES, seed=SEEDS,
       reduction=REDUCTIONS, margin=st.sampled_from([-0.5, 1.0, 2.0]))
def test_losses_over_two_classes_agree_with_torch(name, shape, seed, reduction, margin):
    rng = np.random.default_rng(seed)
    x, y = np.round(rng.standard_normal(shape) * 4) / 2, rng.choice([-1.0, 1.0], shape)
    compare(name, [x, y], 1, rng, reduction=reduction, **{"margin": margin} if name.startswith("hinge") else {})


@few
@given(shape=SHAPES, seed=SEEDS, reduction=REDUCTIONS, margin=st.sampled_from([0.0, 0.5]))
def test_margin_ranking_agrees_with_torch(shape, seed, reduction, margin):
    rng = np.random.default_rng(seed)
    x = np.round(rng.standard_normal((2, *shape)) * 2) / 2
    compare("margin_ranking_loss", [*x, rng.choice([-1.0, 1.0], shape)], 2, rng, margin=margin, reduction=reduction)


# --- losses of rows ---
@few
@given(rows=st.integers(0, 5), D=st.integers(1, 5), seed=SEEDS, reduction=REDUCTIONS,
       margin=st.sampled_from([-0.3, 0.0, 0.4]))
def test_cosine_embedding_agrees_with_torch(rows, D, seed, reduction, margin):
    rng = np.random.default_rng(seed)
    x1, x2 = rng.standard_normal((2, rows, D) if rows else (2, D))
    y = rng.choice([-1.0, 1.0], rows or ())
    compare("cosine_embedding_loss", [x1, x2, y], 2, rng, margin=margin, reduction=reduction)


@few
@given(rows=st.integers(0, 5), C=st.integers(1, 5), seed=SEEDS, reduction=REDUCTIONS, p=st.sampled_from([1, 2]),
       margin=st.sampled_from([0.5, 1.0]), weighted=st.booleans())
def test_multi_margin_agrees_with_torch(rows, C, seed, reduction, p, margin, weighted):
    rng = np.random.default_rng(seed)
    x = np.round(rng.standard_normal((rows, C) if rows else C) * 4) / 4
    weight = {"weight": rng.uniform(0.5, 2, C)} if weighted else {}
    compare("multi_margin_loss", [x, rng.integers(0, C, rows or ())], 1, rng, p=p, margin=margin, reduction=reduction,
            **weight)


@few
@given(rows=st.integers(0, 5), C=st.integers(1, 5), seed=SEEDS, reduction=REDUCTIONS)
def test_multilabel_margins_agree_with_torch(rows, C, seed, reduction):
    rng = np.random.default_rng(seed)
    shape = (rows, C) if rows else (C,)
    x = np.round(rng.standard_normal(shape) * 4) / 4
    compare("multilabel_margin_loss", [x, rng.integers(-1, C, shape)], 1, rng, reduction=reduction)
    compare("multilabel_soft_margin_loss", [x, rng.uniform(0, 1, shape)], 2, rng, reduction=reduction,
            weight=rng.uniform(0.5, 2, C))


@few
@given(rows=st.integers(0, 5), D=st.integers(1, 5), seed=SEEDS, reduction=REDUCTIONS, swap=st.booleans(),
       p=st.sampled_from([1, 2, 3.0]), margin=st.sampled_from([0.1, 1.0]))
def test_triplet_margin_agrees_with_torch(rows, D, seed, reduction, swap, p, margin):
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((3, rows, D) if rows else (3, D))
    compare("triplet_margin_loss", list(points), 3, rng, p=p, margin=margin, swap=swap, reduction=reduction)


# --- extreme values ---
def test_logits_may_be_extreme():
    x = np.array([1e4, -1e4, 1e30, -1e30, 0, 0, INF, -INF, NAN])
    y = np.array([1.0, 0, 0, 1, 0, 1, 1, 0, 1])
    for arguments in ({}, {"pos_weight": np.array(2.0)}):
        logits = kdl.tensor(x, requires_grad=True)
        extra = {k: kdl.tensor(v) for k, v in arguments.items()}
        loss = F.binary_cross_entropy_with_logits(logits, kdl.tensor(y), reduction="none", **extra)
        np.testing.assert_allclose(loss.detach().array[:4], np.array([0, 0, 1e30, 1e30 * (2 if arguments else 1)]))
        loss[:6].sum().backward()
        assert np.isfinite(logits.grad.array[:8]).all() and np.isnan(loss.detach().array[8])


@pytest.mark.parametrize("arguments", [{}, {"pos_weight": kdl.tensor(1.0, dtype=kdl.float32)}])
def test_the_loss_of_a_right_answer_keeps_its_precision(arguments):
    x = kdl.tensor([20.0, -20.0, 80.0, -80.0], dtype=kdl.float32)
    y = kdl.tensor([1.0, 0.0, 1.0, 0.0], dtype=kdl.float32)
    loss = F.binary_cross_entropy_with_logits(x, y, reduction="none", **arguments).array
    exact = np.log1p(np.exp([-20.0, -20.0, -80.0, -80.0]))
    np.testing.assert_allclose(loss, exact, rtol=1e-6)


def test_soft_margin_does_not_overflow():
    x = kdl.tensor([-1000.0, 1000.0], requires_grad=True)
    loss = F.soft_margin_loss(x, kdl.tensor([1.0, 1.0]), reduction="none")
    np.testing.assert_array_equal(loss.detach().array, [1000, 0])
    loss.sum().backward()
    np.testing.assert_array_equal(x.grad.array, [-1, 0])


def test_binary_cross_entropy_of_certainty_is_100_at_most(rng):
    x, y = np.array([0.0, 1, 0, 1, 1e-60]), np.array([1.0, 0, 0, 1, 1])
    compare("binary_cross_entropy", [x, y], 1, rng, 1e-8, reduction="none")  # torch's 1e-12 is rounded to float32
    y = kdl.tensor(y, requires_grad=True)
    F.binary_cross_entropy(kdl.tensor(x), y, reduction="sum").backward()
    np.testing.assert_allclose(y.grad.array, [100, -100, 100, -100, 100])


def test_a_probability_of_0_adds_nothing_to_the_divergence():
    y = F.kl_div(kdl.tensor([-1.0, -2.0]), kdl.tensor([0.0, 1.0]), reduction="none")
    np.testing.assert_array_equal(y.array, [0, 2])


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss",
                                  "hinge_embedding_loss", "poisson_nll_loss"])
def test_nan_and_inf_propagate(name):
    x, y = np.array([NAN, INF, 1.0]), np.array([-1.0, -1.0, 1.0])
    ours = getattr(F, name)(kdl.tensor(x), kdl.tensor(y), reduction="none").array
    theirs = getattr(TF, name)(torch.tensor(x), torch.tensor(y), reduction="none").numpy()
    np.testing.assert_allclose(ours, theirs)
    assert np.isnan(ours[0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_reduced_in_float32(dtype):
    x, y = kdl.ones(4000, dtype=getattr(kdl, dtype)), kdl.zeros(4000, dtype=getattr(kdl, dtype))
    loss = F.mse_loss(x * 30, y, reduction="mean")  # the sum, 3.6e6, is too large for float16
    assert loss.dtype == x.dtype and loss.item() == 900


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss"])
def test_promotion_is_that_of_torch(name):
    for a, b in (("float32", "int64"), ("float32", "float64"), ("float16", "float32"), ("float64", "uint8")):
        ours = getattr(F, name)(kdl.ones(3, dtype=getattr(kdl, a)), kdl.zeros(3, dtype=getattr(kdl, b)))
        theirs = getattr(TF, name)(torch.ones(3, dtype=getattr(torch, a)), torch.zeros(3, dtype=getattr(torch, b)))
        assert f"torch.{ours.dtype}" == str(theirs.dtype)


# --- refusals ---
A = {n: np.full(n, 0.5) for n in (2, 3, 4)} | {(3, 4): np.full((3, 4), 0.5), (3, 5): np.full((3, 5), 0.5)}
LABELS = np.array([0, 3, 1])
REFUSED = [  # name, arguments, keyword arguments, error, message; torch refuses all of them
    *[(name, (A[3], A[3]), {"reduction": "avg"}, ValueError, "expected reduction 'none', 'mean'")
      for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "kl_div",
                   "binary_cross_entropy_with_logits", "soft_margin_loss", "hinge_embedding_loss", "poisson_nll_loss",
                   "multilabel_soft_margin_loss")],
    *[(name, (A[3], A[4]), {}, ValueError, "expected input and target of the same shape, got input (3,), target (4,)")
      for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
                   "binary_cross_entropy_with_logits")],
    *[(name, (A[3], A[4]), {}, ValueError, "expected shapes that broadcast, got shapes (3,) and (4,)")
      for name in ("kl_div", "soft_margin_loss", "hinge_embedding_loss", "poisson_nll_loss")],
    *[(name, (A[3], A[3]), {"weight": A[2]}, ValueError, "of the same shape, got input (3,), weight (2,)")
      for name in ("mse_loss", "l1_loss", "huber_loss")],
    *[(name, (LABELS, LABELS), {}, TypeError, "expected floating-point operands, got dtypes int64 and int64")
      for name in ("mse_loss", "smooth_l1_loss", "huber_loss", "l1_loss")],
    *[(name, (A[3], LABELS), {}, TypeError, "expected a floating-point target, got int64; use target.float()")
      for name in ("binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div")],
    ("smooth_l1_loss", (A[3], A[3]), {"beta": -1.0}, ValueError, "expected beta >= 0, got beta -1.0"),
    ("huber_loss", (A[3], A[3]), {"delta": 0.0}, ValueError, "expected delta > 0, got delta 0.0"),
    ("binary_cross_entropy", (A[3] * 3, A[3]), {}, ValueError, "expected input in [0, 1]"),
    ("binary_cross_entropy", (A[3], -A[3]), {}, ValueError, "expected target in [0, 1]"),
    ("binary_cross_entropy", (A[3] * NAN, A[3]), {}, ValueError, "got smallest nan, largest nan"),
    ("binary_cross_entropy", (A[3], A[3]), {"weight": A[2]}, ValueError, "expected a weight that broadcasts"),
    ("binary_cross_entropy", (A[4], A[4]), {"weight": A[3, 4]}, ValueError, "got weight (3, 4), input (4,)"),
    ("binary_cross_entropy_with_logits", (A[4], A[4]), {"pos_weight": A[3, 4]}, ValueError, "got pos_weight (3, 4)"),
    ("gaussian_nll_loss", (A[3, 4], A[3, 4], -A[3, 4]), {}, ValueError, "expected var >= 0, got smallest -0.5"),
    ("gaussian_nll_loss", (A[3, 4], A[3, 4], -0.5), {}, ValueError, "expected var >= 0, got var -0.5"),
    ("gaussian_nll_loss", (A[3, 4], A[3, 4], A[4]), {}, ValueError, "expected var of input's shape"),
    ("gaussian_nll_loss", (A[3, 4], A[3, 4], 1), {}, TypeError, "expected var to be a Tensor or a float, got var int"),
    ("margin_ranking_loss", (A[3, 4], A[3, 4], A[4]), {}, ValueError, "expected tensors of one number of dimensions"),
    ("cosine_embedding_loss", (A[4], A[4], A[3]), {}, ValueError, "expected shapes (N, D), (N, D) and (N), or"),
    ("cosine_embedding_loss", (A[3, 4], A[3, 4], A[3, 4]), {}, ValueError, "got input1 (3, 4), input2 (3, 4), target"),
    ("triplet_margin_loss", (A[3, 4], A[3, 4], A[4]), {}, ValueError, "got anchor (3, 4), positive (3, 4), negative"),
    ("triplet_margin_loss", (A[4], A[4], A[4]), {"margin": 0}, ValueError, "expected margin > 0, got margin 0"),
    ("multi_margin_loss", (A[3, 4], LABELS), {"p": 3}, ValueError, "expected p 1 or 2, got p 3"),
    ("multi_margin_loss", (A[3, 4], LABELS + 1), {}, ValueError, "labels in [0, 4), got smallest 1, largest 4"),
    ("multi_margin_loss", (A[3, 4], LABELS - 1), {}, ValueError, "got smallest -1, largest 2"),
    ("multi_margin_loss", (A[3, 4], LABELS.astype(float)), {}, TypeError, "use target.long(), got dtype float64"),
    ("multi_margin_loss", (A[3, 4], LABELS[:2]), {}, ValueError, "expected shapes (N, C) and (N), or (C) and ()"),
    ("multi_margin_loss", (A[3, 4][None], LABELS), {}, ValueError, "expected input of shape (N, C) or (C)"),
    ("multi_margin_loss", (A[3, 4], LABELS), {"weight": A[3]}, ValueError, "expected a weight for each of 4 classes"),
    ("multi_margin_loss", (A[3, 4][:, :0], LABELS), {}, ValueError, "with at least one class"),
    ("multilabel_margin_loss", (A[3], LABELS), {}, ValueError, "expected labels in [-1, 3), got smallest 0, largest 3"),
    ("multilabel_margin_loss", (A[3], LABELS - 2), {}, ValueError, "got smallest -2, largest 1"),
    ("multilabel_margin_loss", (A[3, 4], LABELS), {}, ValueError, "of the same shape, got input (3, 4), target (3,)"),
    ("multilabel_margin_loss", (A[3], A[3]), {}, TypeError, "expected a target of dtype int64"),
    ("multilabel_soft_margin_loss", (np.array(1.0), np.array(1.0)), {}, ValueError, "expected input of shape (..., C)"),
]


@pytest.mark.parametrize("name, args, kwargs, error, message", REFUSED)
def test_refused_as_by_torch(name, args, kwargs, error, message):
    with pytest.raises(error, match=re.escape(message)) as raised:
        call(F, kdl.tensor, name, args, kwargs)
    assert str(raised.value).startswith(f"{name}: expected ")
    with pytest.raises(Exception):  # noqa: B017
        call(TF, torch.tensor, name, args, kwargs)


def call(module, tensor, name, args, kwargs):
    args = [tensor(a) if isinstance(a, np.ndarray) else a for a in args]
    return getattr(module, name)(*args, **{k: tensor(v) if isinstance(v, np.ndarray) else v for k, v in kwargs.items()})


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"])
def test_broadcasting_is_refused_where_torch_warns(name):
    args = A[3, 4], A[4]
    with pytest.raises(ValueError, match=r"got input \(3, 4\), target \(4,\)"):
        call(F, kdl.tensor, name, args, {})
    with pytest.warns(UserWarning, match="broadcasting"):
        call(TF, torch.tensor, name, args, {})


def test_other_than_tensors_are_refused():
    with pytest.raises(TypeError, match="mse_loss: expected target to be a Tensor, got float"):
        F.mse_loss(kdl.ones(3), 0.5)
    with pytest.raises(TypeError, match="kl_div: expected target to be a Tensor, got ndarray"):
        F.kl_div(kdl.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="deprecated size_average and reduce, got size_average None, reduce True"):
        F.mse_loss(kdl.ones(3), kdl.ones(3), reduce=True)
