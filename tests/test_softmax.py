"""Softmax and cross-entropy beyond the op table: generated arguments, extreme values, refusals, determinism."""
import math
import re

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kdl
import kdl.nn.functional as F
from kdl import kernels

torch = pytest.importorskip("torch", reason="compared with torch: pip install 'kdl-kernels[test]'")
TF = torch.nn.functional

few = settings(max_examples=40, deadline=None)
SHAPES = st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple)
INF, NAN = math.inf, math.nan


def both(array, requires_grad=True):
    """The same values as a kdl and as a torch tensor."""
    theirs = torch.tensor(np.array(array, order="C"), requires_grad=requires_grad)  # torch fails on channels-last ones
    return kdl.Tensor(array.copy("K"), requires_grad), theirs


def agree(ours, theirs, tolerance=1e-9):
    np.testing.assert_allclose(ours.detach().array, theirs.detach().numpy(), rtol=tolerance, atol=tolerance)


def agree_with_gradients(y, x, ty, tx, rng):
    agree(y, ty)
    gy = rng.standard_normal(ty.shape)
    y.backward(kdl.tensor(gy))
    ty.backward(torch.tensor(gy))
    for ours, theirs in zip(x, tx, strict=True):
        agree(ours.grad, theirs.grad)


# --- softmax ---
@few
@given(shape=SHAPES, data=st.data(), function=st.sampled_from(["softmax", "log_softmax", "softmin"]),
       scale=st.sampled_from([1, 30, 1e4]), seed=st.integers(0, 999))
def test_softmax_agrees_with_torch(shape, data, function, scale, seed):
    rng = np.random.default_rng(seed)
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    x, tx = both(rng.standard_normal(shape) * scale)
    y, ty = getattr(F, function)(x, dim), getattr(TF, function)(tx, dim)
    agree_with_gradients(y, [x], ty, [tx], rng)


@pytest.mark.parametrize("shape, dim", [((300, 40), 1), ((40, 300), 0), ((2, 90, 700), 1), ((1, 70000), 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_sum_to_one_and_do_not_depend_on_a_shift(rng, shape, dim, dtype, namespace):
    x = rng.standard_normal(shape).astype(dtype)
    y = F.softmax(kdl.Tensor(x), dim).array
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(y.sum(dim), 1, rtol=100 * eps)
    shifted = x + np.asarray(512, dtype)  # rounded: compared with what is left when it is taken back
    back = F.softmax(kdl.Tensor(shifted - np.asarray(512, dtype)), dim).array
    np.testing.assert_allclose(F.softmax(kdl.Tensor(shifted), dim).array, back, rtol=4 * eps)
    np.testing.assert_allclose(np.exp(F.log_softmax(kdl.Tensor(x), dim).array), y, rtol=300 * eps)


ROWS = {
    "masked": [0.5, -INF, 1.5, -INF], "all masked": [-INF] * 4, "huge": [1e30, -1e30, 0, 1e30],
    "low": [-1e30, 0, 1, -5], "nan": [1, NAN, 2, 3], "inf": [INF, 1, 2, 3], "two inf": [INF, 1, INF, 3],
    "far": [1e4, 1e4 - 1, 9e3, 0], "zeros": [0, -0.0, 0, 0], "negative": [-1e4, -1e4 - 2, -2e4, -1e4 - 1]}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("inner", [1, 3])
@pytest.mark.parametrize("function", ["softmax", "log_softmax"])
def test_softmax_of_extreme_values(function, inner, dtype, namespace):
    x = np.repeat(np.array(list(ROWS.values()))[:, :, None], inner, 2).astype(dtype)
    x, tx = both(x)
    y, ty = getattr(F, function)(x, 1), getattr(TF, function)(tx, 1)
    tolerance = 1e-6 if dtype == "float32" else 1e-12
    agree(y, ty, tolerance)
    y.backward(kdl.ones_like(y))
    ty.backward(torch.ones_like(ty))
    for row, ours, theirs in zip(ROWS, x.grad.array, tx.grad.numpy(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=1e-6, err_msg=row)


def test_dtype_is_that_of_the_result(rng):
    x = rng.standard_normal((3, 4)).astype(np.float32)
    y = F.softmax(kdl.Tensor(x, requires_grad=True), 1, dtype=kdl.float64)
    assert y.dtype == kdl.float64
    agree(y, TF.softmax(torch.tensor(x), 1, dtype=torch.float64), 1e-12)
    whole = kdl.tensor([[1, 2, 3]])
    agree(F.softmax(whole, 1, dtype=kdl.float32), TF.softmax(torch.tensor([[1, 2, 3]]), 1, dtype=torch.float32), 1e-6)
    assert whole.log_softmax(-1, kdl.float64).dtype == kdl.float64
    assert F.softmax(kdl.Tensor(x).half(), 0).dtype == kdl.float16


@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_channels_last_stays_channels_last(rng, dim):
    x = rng.standard_normal((2, 3, 4, 5))
    last = kdl.tensor(x, requires_grad=True).detach().contiguous(memory_format=kdl.channels_last).requires_grad_()
    y = F.softmax(last, dim)
    assert y.is_contiguous(memory_format=kdl.channels_last)
    agree(y, TF.softmax(torch.tensor(x), dim), 1e-12)


# --- losses over classes ---
@st.composite
def class_calls(draw):
    """Arrays and arguments for cross_entropy and nll_loss."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    C = draw(st.integers(1, 6))
    batch = draw(st.lists(st.integers(1, 4), max_size=4))
    shape = (batch[0], C, *batch[1:]) if batch else (C,)
    ignore_index = draw(st.sampled_from([-100, -1, 0, C - 1, 255]))
    labels = rng.integers(0, C, batch)
    if draw(st.booleans()):
        labels = np.where(rng.random(batch) < 0.3, ignore_index, labels)
    weight = rng.uniform(0.1, 2, C) if draw(st.booleans()) else None
    reduction = draw(st.sampled_from(["mean", "sum", "none"]))
    x = rng.standard_normal(shape) * draw(st.sampled_from([1, 20]))
    if len(shape) == 4 and draw(st.booleans()):
        x = np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1)
    return rng, x, labels, weight, {"reduction": reduction}, ignore_index


@few
@given(class_calls(), st.sampled_from([0.0, 0.1, 1.0]))
def test_cross_entropy_with_labels_agrees_with_torch(call, label_smoothing):
    rng, x, labels, weight, kwargs, ignore_index = call
    kwargs |= {"ignore_index": ignore_index, "label_smoothing": label_smoothing}
    x, tx = both(x)
    w, tw = (None, None) if weight is None else both(weight, False)
    y = F.cross_entropy(x, kdl.Tensor(labels), w, **kwargs)
    ty = TF.cross_entropy(tx, torch.tensor(labels), tw, **kwargs)
    agree_with_gradients(y, [x], ty, [tx], rng)


@few
@given(class_calls(), st.sampled_from([0.0, 0.1, 1.0]))
def test_cross_entropy_with_probabilities_agrees_with_torch(call, label_smoothing):
    rng, x, _, weight, kwargs, _ = call
    kwargs["label_smoothing"] = label_smoothing
    p, tp = both(rng.uniform(0, 1, x.shape))
    x, tx = both(x)
    w, tw = (None, None) if weight is None else both(weight)
    y, ty = F.cross_entropy(x, p, w, **kwargs), TF.cross_entropy(tx, tp, tw, **kwargs)
    agree_with_gradients(y, [x, p] + [w] * (w is not None), ty, [tx, tp] + [tw] * (w is not None), rng)


@few
@given(class_calls())
def test_nll_loss_agrees_with_torch(call):
    rng, x, labels, weight, kwargs, ignore_index = call
    x, tx = both(x)
    w, tw = (None, None) if weight is None else both(weight, False)
    y = F.nll_loss(x, kdl.Tensor(labels), w, ignore_index=ignore_index, **kwargs)
    ty = TF.nll_loss(tx, torch.tensor(labels), tw, ignore_index=ignore_index, **kwargs)
    agree_with_gradients(y, [x], ty, [tx], rng)


@few
@given(class_calls(), st.sampled_from([0.0, 0.1]))
def test_cross_entropy_is_the_nll_of_the_log_softmax(call, label_smoothing):
    rng, x, labels, weight, kwargs, ignore_index = call
    dim, w = min(1, x.ndim - 1), None if weight is None else kdl.Tensor(weight)
    x, z = kdl.Tensor(x, requires_grad=True), kdl.Tensor(x.copy(), requires_grad=True)
    y = F.cross_entropy(x, kdl.Tensor(labels), w, ignore_index=ignore_index, **kwargs)
    composed = F.nll_loss(F.log_softmax(z, dim), kdl.Tensor(labels), w, ignore_index=ignore_index, **kwargs)
    gy = kdl.tensor(rng.standard_normal(y.shape))
    y.backward(gy)
    composed.backward(gy)
    np.testing.assert_allclose(y.detach().array, composed.detach().array, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(x.grad.array, z.grad.array, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("inner", [1, 3])
@pytest.mark.parametrize("kind", ["labels", "smoothed", "probabilities"])
def test_cross_entropy_of_extreme_values(kind, inner, dtype, namespace):
    rows = np.array(list(ROWS.values()))
    x, tx = both(np.repeat(rows[:, :, None], inner, 2).astype(dtype))
    if kind == "probabilities":
        target, ttarget = both(np.full(x.shape, 0.25, dtype), False)
    else:
        target, ttarget = both(np.zeros((len(rows), inner), np.int64), False)
    options = {"reduction": "none", "label_smoothing": 0.1 * (kind == "smoothed")}
    y, ty = F.cross_entropy(x, target, **options), TF.cross_entropy(tx, ttarget, **options)
    tolerance = 1e-6 if dtype == "float32" else 1e-12
    agree(y, ty, tolerance)
    y.backward(kdl.ones_like(y))
    ty.backward(torch.ones_like(ty))
    for row, ours, theirs in zip(ROWS, x.grad.array, tx.grad.numpy(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=1e-6, err_msg=row)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["labels", "probabilities"])
@pytest.mark.parametrize("shape", [(6, 5), (3, 40, 300), (2, 5, 3, 4), (0, 5), (40, 900)])
def test_the_gradient_made_in_forward(rng, shape, kind, label_smoothing, weighted, reduction, namespace):
    """It serves one pass with the gradient 1 and then belongs to its receiver: further passes compute their own."""
    x, tx = both(rng.standard_normal(shape) * 5)
    w, tw = both(rng.uniform(0.5, 2, shape[1]), False) if weighted else (None, None)
    labels = rng.integers(-1, shape[1], (shape[0], *shape[2:])) if kind == "labels" else rng.uniform(0, 1, shape)
    options = {"reduction": reduction, "label_smoothing": label_smoothing}
    options |= {"ignore_index": -1} if kind == "labels" else {}
    y = F.cross_entropy(x, kdl.Tensor(labels), w, **options)
    ty = TF.cross_entropy(tx, torch.tensor(labels), tw, **options)
    agree(y, ty)
    expected, = torch.autograd.grad(ty, [tx])
    first, = kdl.autograd.grad(y, [x], retain_graph=True)
    agree(first, expected)
    first.array[...] = 7
    agree(kdl.autograd.grad(y, [x], kdl.full_like(y, 2.0), retain_graph=True)[0], 2 * expected)
    agree(kdl.autograd.grad(y, [x])[0], expected)


def test_a_scaled_loss_keeps_small_gradients_of_halves(rng):
    """The scale is multiplied before the gradient is rounded to float16, which has nothing between 0 and 6e-8."""
    x = kdl.Tensor((rng.standard_normal((4, 50)) * 5).astype(np.float16), requires_grad=True)
    wide = kdl.Tensor(x.array.astype(np.float64), requires_grad=True)
    labels = kdl.tensor(rng.integers(0, 50, 4))
    for z in (x, wide):
        F.cross_entropy(z, labels).backward(kdl.tensor(2.0**15, dtype=z.dtype))
    assert (np.abs(wide.grad.array) < 2.0**15 * 6e-8).any()
    np.testing.assert_allclose(x.grad.array, wide.grad.array, rtol=2e-3, atol=6e-8)


@pytest.mark.parametrize("inner", [1, 3])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_what_is_ignored_may_hold_anything(inner, label_smoothing, namespace):
    x = np.zeros((4, 3, inner), np.float32)
    x[0], x[1], x[2] = 1e30, NAN, INF
    x = kdl.Tensor(x, requires_grad=True)
    target = kdl.tensor(np.repeat([[7], [7], [7], [1]], inner, 1))
    loss = F.cross_entropy(x, target, ignore_index=7, label_smoothing=label_smoothing)
    assert loss.item() == pytest.approx(math.log(3))
    loss.backward()
    assert (x.grad.array[:3] == 0).all() and np.isfinite(x.grad.array).all()


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, [0.0, 0.0, 1.0]])
def test_a_mean_over_nothing_is_nan_as_in_torch(weight, label_smoothing):
    labels = [-100, -100] if weight is None else [0, 1]
    x, tx = both(np.zeros((2, 3)))
    options = {"label_smoothing": label_smoothing}
    w, tw = (None, None) if weight is None else both(np.array(weight), False)
    y = F.cross_entropy(x, kdl.tensor(labels), w, **options)
    ty = TF.cross_entropy(tx, torch.tensor(labels), tw, **options)
    y.backward()
    ty.backward()
    assert np.isnan(y.item()) and torch.isnan(ty)
    np.testing.assert_array_equal(x.grad.array, tx.grad.numpy())
    assert F.cross_entropy(x, kdl.tensor([-100, -100]), reduction="sum").item() == 0
    assert np.isnan(F.nll_loss(x, kdl.tensor([-100, -100])).item())


@pytest.mark.parametrize("shape", [(3, 262144), (2, 5000, 9)])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-6), ("float64", 1e-13)])
def test_many_classes_keep_their_precision(rng, shape, dtype, tolerance):
    x = (rng.standard_normal(shape) * 5).astype(dtype)
    labels = rng.integers(0, shape[1], shape[:1] + shape[2:])
    x = kdl.Tensor(x, requires_grad=True)
    loss = F.cross_entropy(x, kdl.Tensor(labels), reduction="none")
    below = x.detach().array.astype(np.longdouble) - x.detach().array.max(1, keepdims=True)
    logp = below - np.log(np.exp(below).sum(1, keepdims=True))
    expected = -np.take_along_axis(logp, labels[:, None], 1)[:, 0]
    np.testing.assert_allclose(loss.detach().array, expected.astype(float), rtol=tolerance)
    loss.sum().backward()
    gradient = np.exp(logp) - (np.arange(shape[1]).reshape(-1, *[1] * (len(shape) - 2)) == labels[:, None])
    np.testing.assert_allclose(x.grad.array, gradient.astype(float), rtol=10 * tolerance, atol=tolerance)
    np.testing.assert_allclose(x.grad.array.sum(1, dtype=np.float64), 0, atol=100 * tolerance)


@pytest.mark.parametrize("shape", [(600, 70), (3, 70, 300)])
def test_results_do_not_depend_on_the_number_of_threads(rng, shape):
    x = kdl.Tensor(rng.standard_normal(shape).astype(np.float32), requires_grad=True)
    labels = kdl.Tensor(rng.integers(0, 70, shape[:1] + shape[2:]))

    def run():
        y, loss = F.log_softmax(x, 1), F.cross_entropy(x, labels, label_smoothing=0.1)
        return [y.detach().array, loss.detach().array, *[kdl.grad(z, x)[0].array for z in (y.sum(), loss)]]
    threads = numba.get_num_threads()
    several = run()
    try:
        numba.set_num_threads(1)
        one = run()
    finally:
        numba.set_num_threads(threads)
    for a, b in zip(several, one, strict=True):
        np.testing.assert_array_equal(a, b)


def test_labels_may_be_uint8_or_of_a_batch_of_one_without_a_batch():
    x = kdl.tensor([[0.0, 1.0, 2.0]])
    expected = F.cross_entropy(x, kdl.tensor([2])).item()
    assert F.cross_entropy(x, kdl.tensor([2], dtype=kdl.uint8)).item() == expected
    unbatched = F.cross_entropy(x[0], kdl.tensor([2]), reduction="none")
    assert unbatched.shape == () and unbatched.item() == expected
    assert F.nll_loss(x[0], kdl.tensor([2])).item() == -2


def test_backward_uses_the_labels_that_were_checked():
    x = kdl.zeros(2, 3, requires_grad=True)
    labels = np.array([0, 1])
    loss = F.cross_entropy(x, kdl.Tensor(labels), reduction="sum")
    labels[:] = 10**12
    loss.backward()
    np.testing.assert_allclose(x.grad.array, [[-2 / 3, 1 / 3, 1 / 3], [1 / 3, -2 / 3, 1 / 3]], rtol=1e-6)


@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("float64", "float32"), ("float16", "float32"),
                                    ("float16", "bfloat16")])
def test_probabilities_of_another_dtype_promote(rng, dtypes):
    x, p = rng.standard_normal((3, 4)), rng.uniform(0, 1, (3, 4))
    ours = F.cross_entropy(*[kdl.tensor(a, dtype=getattr(kdl, d)) for a, d in zip((x, p), dtypes, strict=True)])
    theirs = TF.cross_entropy(*[torch.tensor(a, dtype=getattr(torch, d)) for a, d in zip((x, p), dtypes, strict=True)])
    assert str(theirs.dtype) == f"torch.{ours.dtype}"
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-3)


# --- refusals ---
REFUSED = [  # function, shape, target, other arguments, what is raised, what it says; torch refuses all of them
    ("cross_entropy", (3, 5), [0, 5, 1], {}, ValueError,
     "expected labels in [0, 5) or ignore_index -100, got label 5, position (1,), input (3, 5)"),
    ("cross_entropy", (3, 5), [0, 1, -1], {}, ValueError, "got label -1, position (2,)"),
    ("cross_entropy", (1, 5, 2, 2), [[[0, 1], [9, 2]]], {}, ValueError, "got label 9, position (0, 1, 0)"),
    ("nll_loss", (3, 5), [0, 2**40, 1], {}, ValueError, "got label 1099511627776, position (1,)"),
    ("nll_loss", (3, 5), [-100, -99, 1], {}, ValueError, "got label -99, position (1,)"),
    ("cross_entropy", (3, 5), [0, 1], {}, ValueError,
     "expected class labels of shape (3,), or probabilities of the shape of input, got target (2,), input (3, 5)"),
    ("cross_entropy", (3, 5, 2), [0, 1, 2], {}, ValueError, "expected class labels of shape (3, 2)"),
    ("cross_entropy", (1, 5), 1, {}, ValueError, "expected class labels of shape (1,)"),
    ("nll_loss", (3, 5), [0, 1], {}, ValueError, "expected class labels of shape (3,), got target (2,), input (3, 5)"),
    ("nll_loss", (), 0, {}, ValueError, "expected input of shape (N, C, ...) or (C), got input ()"),
    ("cross_entropy", (3, 5), [0.0, 1.0, NAN], {}, TypeError,
     "expected class labels of dtype int64; use target.long(), got target.dtype float"),
    ("cross_entropy", (3, 5), [True, False, True], {}, TypeError, "got target.dtype bool"),
    ("nll_loss", (3, 5), np.array([0, 1, 2], np.int32), {}, TypeError, "got target.dtype int32"),
    ("nll_loss", (3, 5), np.zeros((3, 5)), {}, ValueError, "expected class labels of shape (3,)"),
    ("cross_entropy", (3, 5), [0, 1, 2], {"reduction": "avg"}, ValueError,
     "expected reduction 'none', 'mean' or 'sum', got reduction 'avg'"),
    ("cross_entropy", (3, 5), [0, 1, 2], {"label_smoothing": 1.5}, ValueError, "label_smoothing in [0, 1]"),
    ("cross_entropy", (3, 5), [0, 1, 2], {"ignore_index": 0.5}, TypeError, "expected ignore_index to be an int"),
    ("cross_entropy", (3, 5), np.ones((3, 5)), {"ignore_index": 2}, ValueError, "no ignore_index with probabilities"),
    ("cross_entropy", (3, 5), [0, 1, 2], {"weight": np.ones(4)}, ValueError,
     "expected a weight for each of 5 classes, got weight (4,), input (3, 5)"),
    ("nll_loss", (3, 5), [0, 1, 2], {"weight": np.ones((1, 5))}, ValueError, "got weight (1, 5)"),
    ("nll_loss", (3, 5), [0, 1, 2], {"weight": np.ones(5, np.float32)}, TypeError, "expected tensors of one dtype"),
]


def tensors(arguments, make):
    return {name: make(value) if isinstance(value, np.ndarray) else value for name, value in arguments.items()}


@pytest.mark.parametrize("function, shape, target, arguments, error, message", REFUSED)
def test_refused_as_by_torch(function, shape, target, arguments, error, message):
    x = np.zeros(shape)
    with pytest.raises(error, match=re.escape(message)) as raised:
        getattr(F, function)(kdl.tensor(x), kdl.tensor(target), **tensors(arguments, kdl.tensor))
    assert str(raised.value).startswith(f"{function}: expected ")
    with pytest.raises(Exception):  # noqa: B017
        getattr(TF, function)(torch.tensor(x), torch.tensor(target), **tensors(arguments, torch.tensor))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("inner", [(), (4, 3)])
def test_probabilities_have_no_nan_but_weights_may(inner, dtype, namespace):
    x = kdl.zeros(3, 5, *inner, dtype=getattr(kdl, dtype), requires_grad=True)
    p = np.full(x.shape, 0.2, dtype)
    weight = kdl.tensor(np.array([1, 0, NAN, 1, 1], dtype))
    assert np.isnan(F.cross_entropy(x, kdl.tensor(p), weight).item())
    p[(1, 1, *(2 for _ in inner))] = NAN
    for w in (None, kdl.tensor(np.array([1, 0, 1, 1, 1], dtype))):
        with pytest.raises(ValueError, match="cross_entropy: expected probabilities without NaN, got target"):
            F.cross_entropy(x, kdl.tensor(p), w)
    assert F.cross_entropy(x[:0], kdl.tensor(p[:0]), reduction="sum").item() == 0


def test_other_refusals():
    x, labels = kdl.zeros(3, 5), kdl.tensor([0, 1, 2])
    with pytest.raises(ValueError, match="deprecated size_average and reduce, got size_average False"):
        F.cross_entropy(x, labels, size_average=False)
    with pytest.raises(ValueError, match="at least one class"):
        F.cross_entropy(kdl.zeros(3, 0), labels)
    with pytest.raises(ValueError, match=r"use weight.detach\(\)"):
        F.cross_entropy(x, labels, kdl.ones(5, requires_grad=True))
    with pytest.raises(TypeError, match="cross_entropy: expected a floating-point input, got int64"):
        F.cross_entropy(labels, labels)
    with pytest.raises(TypeError, match="cross_entropy: expected target to be a Tensor, got list"):
        F.cross_entropy(x, [0, 1, 2])
    with kdl.no_grad():
        F.cross_entropy(x, labels, kdl.ones(5, requires_grad=True))


@pytest.mark.parametrize("function", ["softmax", "log_softmax", "softmin"])
def test_softmax_refusals(function):
    function = getattr(F, function)
    name = function.__name__
    with pytest.raises(IndexError, match=rf"{name}: expected dim in \[-2, 1\], got 2"):
        function(kdl.zeros(3, 5), 2)
    with pytest.raises(TypeError, match=f"{name}: expected dim to be an int, got None"):
        function(kdl.zeros(3, 5), None)
    with pytest.raises(TypeError, match=f"{name}: expected a floating-point input, got int64"):
        function(kdl.tensor([1, 2]), 0)
    with pytest.raises(TypeError, match=f"{name}: expected a floating-point input, got int64"):
        function(kdl.zeros(2), 0, dtype=kdl.int64)
    with pytest.raises(TypeError, match=f"{name}: expected input to be a Tensor, got list"):
        function([1.0], 0)


def test_backward_never_writes_to_what_was_saved(rng, namespace):
    x = kdl.Tensor(rng.standard_normal((6, 5)), requires_grad=True)
    y = F.softmax(x, 1)
    before = y.detach().array.copy()
    gy = kdl.Tensor(rng.standard_normal((6, 5)))
    upstream = gy.array.copy()
    y.backward(gy)
    np.testing.assert_array_equal(y.detach().array, before)
    np.testing.assert_array_equal(gy.array, upstream)


def test_cpu_kernels_take_strided_weights(rng):
    weight = kdl.Tensor(rng.uniform(0.5, 1, 10)[::2])
    x, labels = kdl.Tensor(rng.standard_normal((4, 5))), kdl.Tensor(rng.integers(0, 5, 4))
    ours = F.cross_entropy(x, labels, weight).item()
    with kernels.use("reference"):
        assert F.cross_entropy(x, labels, weight).item() == pytest.approx(ours, rel=1e-12)


@pytest.mark.parametrize("hard", [False, True])
def test_gumbel_softmax_draws_from_the_softmax(hard):
    kdl.manual_seed(0)
    logits = kdl.tensor([0.0, 1.0, 2.0, -1.0], dtype=kdl.float64).expand(20000, 4).clone().requires_grad_()
    y = F.gumbel_softmax(logits, 0.5, hard)
    np.testing.assert_allclose(y.detach().array.sum(1), 1, atol=1e-12)
    frequencies = np.bincount(y.detach().array.argmax(1), minlength=4) / 20000
    np.testing.assert_allclose(frequencies, F.softmax(logits[0].detach(), 0).array, atol=0.01)
    if hard:
        np.testing.assert_allclose(np.sort(y.detach().array, 1), [[0, 0, 0, 1]] * 20000, atol=1e-12)
    (y * kdl.arange(4)).sum().backward()  # through the softmax: the gradients of a row add up to 0
    assert np.abs(logits.grad.array).max() > 0.1
    np.testing.assert_allclose(logits.grad.array.sum(1), 0, atol=1e-12)


def test_gumbel_softmax_along_a_dimension_and_in_half():
    assert F.gumbel_softmax(kdl.zeros(3, 4, 5), hard=True, dim=1).sum(1).array.max() == 1
    y = F.gumbel_softmax(kdl.zeros(300, 40, dtype=kdl.float16))
    assert y.dtype == kdl.float16 and np.isfinite(y.array).all()
    with pytest.warns(UserWarning, match="eps has no effect"):
        F.gumbel_softmax(kdl.zeros(3), eps=1e-5)
