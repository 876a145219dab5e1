"""Reductions against torch: generated dimensions, special values, ties, zeros, halves, dtypes, errors."""
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kdl
from tests.optable import TOLERANCE

torch = pytest.importorskip("torch", reason="reductions are compared with torch")

SPECIAL = [0.0, -0.0, 1.0, 1.0, -2.5, 3.0, 3.0, math.inf, -math.inf, math.nan]
SUMS = ["sum", "mean", "nansum", "nanmean", "amax", "amin", "logsumexp", "norm"]
ALONG = ["max", "min", "median", "prod", "argmax", "argmin"]


def both(call, array, grad=True):
    """The values of `call(library, tensor)` and the gradient of a weighted sum of them, from kdl and from torch."""
    results = []
    for library, make in ((kdl, lambda a: kdl.Tensor(np.array(a))), (torch, lambda a: torch.tensor(np.array(a)))):
        x = make(array)
        x.requires_grad_(grad and array.dtype.kind == "f")
        y = call(library, x)
        outputs = list(y) if isinstance(y, tuple) else [y]
        for z in outputs:
            if z.requires_grad:
                weights = np.random.default_rng(5).uniform(0.5, 1.5, tuple(z.shape))
                z.backward(make(weights.astype(str(z.dtype).removeprefix("torch."))), retain_graph=True)
        results.append([*(z.detach().numpy() for z in outputs), None if x.grad is None else x.grad.numpy()])
    return results


def assert_same(ours, theirs, tolerance=None):
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype and a.shape == b.shape
            t = tolerance or TOLERANCE.get(str(a.dtype), 0)
            np.testing.assert_allclose(a, b, rtol=t, atol=t)


# --- values and gradients ---
@given(st.data())
@settings(max_examples=100, deadline=None)
def test_reductions_over_generated_dimensions(data):
    name = data.draw(st.sampled_from(SUMS))
    shape = tuple(data.draw(st.lists(st.integers(1, 4), max_size=4)))
    dims = st.lists(st.integers(0, max(len(shape) - 1, 0)), unique=True, min_size=name == "logsumexp")
    dim = data.draw(st.one_of(dims.map(tuple), st.integers(-max(len(shape), 1), max(len(shape) - 1, 0))))
    if shape == () and dim == (0,):
        dim = 0
    keepdim = data.draw(st.booleans())
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    x = np.random.default_rng(data.draw(st.integers(0, 99))).uniform(0.5, 2, shape).astype(dtype)
    powers = st.sampled_from([0.5, 1, 1.5, 2, 3, -1, math.inf, -math.inf])
    options = {"p": data.draw(powers)} if name == "norm" else {}
    if name == "norm" and dim == ():
        dim = None  # torch makes nothing of an empty tuple here for some p
    assert_same(*both(lambda library, x: getattr(library, name)(x, dim=dim, keepdim=keepdim, **options), x))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_variances_over_generated_dimensions(data):
    name = data.draw(st.sampled_from(["var", "std", "var_mean", "std_mean"]))
    shape = tuple(data.draw(st.lists(st.integers(2, 4), min_size=1, max_size=4)))
    dim = data.draw(st.one_of(st.none(), st.lists(st.integers(0, len(shape) - 1), unique=True, min_size=1).map(tuple)))
    options = {"keepdim": data.draw(st.booleans()), "correction": data.draw(st.sampled_from([0, 1, 0.5, -2]))}
    x = np.random.default_rng(data.draw(st.integers(0, 99))).standard_normal(shape)
    assert_same(*both(lambda library, x: getattr(library, name)(x, dim=dim, **options), x))


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_functions_of_one_dimension(data):
    name = data.draw(st.sampled_from([*ALONG, "cumsum", "cumprod"]))
    shape = tuple(data.draw(st.lists(st.integers(1, 5), max_size=4)))
    dim = data.draw(st.integers(-max(len(shape), 1), max(len(shape) - 1, 0)))
    options = {"keepdim": data.draw(st.booleans())} if name in ALONG else {}
    size = math.prod(shape)
    x = (np.random.default_rng(data.draw(st.integers(0, 99))).permutation(size) - size // 2).reshape(shape) / 4
    assert_same(*both(lambda library, x: getattr(library, name)(x, dim, **options), x))


@pytest.mark.parametrize("name", [*SUMS, *ALONG, "cumsum", "all", "any", "count_nonzero"])
def test_special_values(name):
    rows = np.array(list(itertools.product(SPECIAL, repeat=3)))
    if name == "median":
        rows = np.sort(rows)[:, ::-1]  # the index among equal ones is torch's secret
        call = lambda library, x: library.median(x, 1).values
    elif name == "norm":
        call = lambda library, x: library.norm(x, 2, 1)
    elif name in ("max", "min"):
        call = lambda library, x: tuple(getattr(library, name)(x, 1))
    else:
        call = lambda library, x: getattr(library, name)(x, 1)
    ours, theirs = both(call, rows)
    if name == "median":
        ours, theirs = ours[:1], theirs[:1]
    assert_same(ours, theirs)


@pytest.mark.parametrize("p", [0, 0.5, 1, 1.5, 2, 3, math.inf, -math.inf, -1, -2])
def test_norms_of_rows_with_zeros_and_ties(p):
    rows = np.array(list(itertools.product([0.0, 1.0, -1.0, 2.0], repeat=3)))
    ours, theirs = both(lambda library, x: library.norm(x, p, 1), rows, grad=p != 0)
    assert_same(ours, theirs)
    assert_same(*both(lambda library, x: library.norm(x, p), rows[1:], grad=p != 0))


@pytest.mark.parametrize("name", ["max", "min", "median", "sum", "argmax", "argmin"])
@pytest.mark.parametrize("row", [[1, 3, 3], [1, 1, 3], [2, 2, 2, 2], [math.nan, 1], [1, math.nan, math.nan, 0],
                                 [math.inf, math.inf], [-math.inf, 0], [0.0, -0.0], [1.0]])
def test_ties_over_all_elements(name, row):
    assert_same(*both(lambda library, x: getattr(library, name)(x), np.array([row, row], np.float64)))


@pytest.mark.parametrize("row", [[2, 0, 3, 4], [0, 2, 0, 3], [0, 0], [1, 2, 3], [0.0], [-0.0, 5], [1e-200, 1e-200, 0]])
def test_products_of_rows_with_zeros(row):
    x = np.array([row, row[::-1]], np.float64)
    for call in (lambda _, x: x.prod(), lambda _, x: x.prod(0), lambda _, x: x.prod(1, True),
                 lambda _, x: x.cumprod(1), lambda _, x: x.cumprod(0)):
        assert_same(*both(call, x))


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
@pytest.mark.parametrize("row", [[1, 2, 4], [1, 1, 1], [3], [], [math.nan, 1], [math.inf, 1]])
@pytest.mark.parametrize("correction", [0, 1, 3, 4])
def test_variance_of_few_or_equal_elements(row, correction):
    for name in ("var", "std"):
        assert_same(*both(lambda library, x, n=name: getattr(library, n)(x, correction=correction),
                          np.array(row, np.float64)))


def test_variance_is_exact_far_from_zero(rng):
    x = (1e4 + rng.standard_normal((4, 1000))).astype(np.float32)
    np.testing.assert_allclose(kdl.Tensor(x).var(1).array, x.astype(np.float64).var(1, ddof=1), rtol=1e-5)


@pytest.mark.parametrize("rows", [[[math.inf, 1], [math.inf, math.inf], [-math.inf, -math.inf], [math.nan, 0]],
                                  [[1000, 1001], [-1000, -1001], [0, -math.inf], [0, 0]]])
def test_logsumexp_of_extreme_values(rows):
    assert_same(*both(lambda library, x: library.logsumexp(x, 1), np.array(rows, np.float64)))


# --- dtypes ---
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32",
                                   "float64"])
@pytest.mark.parametrize("name", ["sum", "mean", "prod", "var", "max", "amax", "argmax", "median", "all", "any", "norm",
                                  "cumsum", "cumprod", "count_nonzero", "nansum", "nanmean", "logsumexp"])
def test_result_dtype_or_refusal_is_torchs(name, dtype):
    outcomes = []
    for library, make in ((kdl, kdl.Tensor), (torch, torch.from_numpy)):
        x = make(np.array([[1, 0, 1], [1, 1, 0]])).to(getattr(library, dtype))
        args = (0,) if name in ("cumsum", "cumprod", "logsumexp") else ()
        try:
            y = getattr(library, name)(x, *args)
            outcomes.append((str(y.dtype).removeprefix("torch."), y.tolist()))
        except (TypeError, RuntimeError, NotImplementedError) as error:
            outcomes.append(type(error))
    ours, theirs = outcomes
    assert isinstance(ours, tuple) == isinstance(theirs, tuple), outcomes
    if isinstance(ours, tuple):
        assert ours[0] == theirs[0]
        np.testing.assert_allclose(ours[1], theirs[1], rtol=TOLERANCE.get(ours[0], 0))


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "cumsum", "cumprod", "nansum", "norm"])
@pytest.mark.parametrize("kind", ["int64", "float64", "float16"])
def test_the_dtype_argument(name, kind):
    for source in (np.float32, np.int32):
        outcomes = []
        for library, make in ((kdl, kdl.Tensor), (torch, torch.from_numpy)):
            x = make(np.array([[1.5, 2.5], [3.7, 1.2]]).astype(source))
            args = (0,) if name.startswith("cum") else ()
            try:
                y = getattr(library, name)(x, *args, dtype=getattr(library, kind))
                outcomes.append((str(y.dtype).removeprefix("torch."), y.tolist()))
            except (TypeError, RuntimeError):
                outcomes.append(None)
        ours, theirs = outcomes
        assert (ours is None) == (theirs is None), (source, outcomes)
        if ours is not None:
            assert ours[0] == theirs[0]
            np.testing.assert_allclose(ours[1], theirs[1], rtol=TOLERANCE.get(kind, 0))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_accumulated_in_float32_and_rounded_once(dtype, rng):
    dtype = getattr(kdl, dtype)
    x = rng.uniform(0.9, 1.1, (3, 3000)).astype(dtype)
    exact = x.astype(np.float64)
    for call in (lambda x: x.sum(1), lambda x: x.mean(1), lambda x: x.norm(dim=1), lambda x: x.logsumexp(1),
                 lambda x: x.var(1), lambda x: x.nansum(), lambda x: x.cumsum(1)):
        y = call(kdl.Tensor(x))
        assert y.dtype == dtype
        reference = call(kdl.Tensor(exact)).array.astype(np.float32)
        np.testing.assert_allclose(y.array.astype(np.float32), reference.astype(dtype).astype(np.float32),
                                   rtol=1e-2 if dtype == kdl.bfloat16 else 1e-3)
    t = kdl.Tensor(x, requires_grad=True)
    t.mean().backward()
    assert t.grad.dtype == dtype
    wide = kdl.Tensor(np.ones((3, 3000)).astype(dtype))
    assert wide.sum().item() == np.float32(9000).astype(dtype)


def test_the_gradient_of_a_broadcast_half_is_summed_in_float32():
    x = kdl.Tensor(np.ones((1, 1), kdl.bfloat16), requires_grad=True)
    (x + kdl.Tensor(np.ones((1000, 1), kdl.bfloat16))).sum().backward()
    assert x.grad.item() == 1000


def test_float32_sums_of_many_elements_stay_exact_enough(rng):
    x = rng.random((1000, 1000), np.float32)
    np.testing.assert_allclose(kdl.Tensor(x).sum().item(), x.sum(dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(kdl.Tensor(x).mean(0).array, x.mean(0, dtype=np.float64), rtol=2e-5)


# --- forms ---
def test_max_and_min_in_their_three_forms(rng):
    x = kdl.Tensor(rng.standard_normal((3, 4)))
    y = kdl.Tensor(rng.standard_normal((3, 4)))
    values, indices = x.max(1)
    chosen = x.max(dim=1, keepdim=True)
    assert chosen.values.shape == (3, 1) and chosen.indices.dtype == np.int64
    np.testing.assert_array_equal(values.array, x.array.max(1))
    np.testing.assert_array_equal(indices.array, x.array.argmax(1))
    assert x.max().item() == x.array.max() and x.min().item() == x.array.min()
    np.testing.assert_array_equal(kdl.max(x, y).array, np.maximum(x.array, y.array))
    np.testing.assert_array_equal(x.min(other=y).array, np.minimum(x.array, y.array))
    assert not indices.requires_grad


def test_the_gradient_of_a_sum_keeps_channels_last(rng):
    x = rng.standard_normal((2, 4, 5, 3)).transpose(0, 3, 1, 2)
    t = kdl.Tensor(x, requires_grad=True)
    y = t * 1
    y.retain_grad()
    y.mean((2, 3)).sum().backward()
    assert t.grad.array.strides == x.strides
    np.testing.assert_allclose(t.grad.array, 1 / 20)


# --- errors ---
@pytest.mark.parametrize("call, error, text", [
    (lambda x, _: x.sum(2), IndexError, r"sum: expected dim in \[-2, 1\], got 2"),
    (lambda x, _: x.sum((0, -2)), ValueError, r"sum: expected each dim once, got dim \(0, -2\)"),
    (lambda x, _: x.sum("a"), TypeError, "sum: expected dim to be an int, got 'a'"),
    (lambda x, _: x.cumsum(2), IndexError, "cumsum: expected dim in"),
    (lambda x, _: x.cumprod(0.5), TypeError, "cumprod: expected dim to be an int"),
    (lambda x, _: x.prod((0, 1)), TypeError, "prod: expected dim to be an int"),
    (lambda x, _: x.max((0, 1)), TypeError, "max: expected dim to be an int"),
    (lambda x, _: x.argmax((0, 1)), TypeError, "argmax: expected dim to be an int"),
    (lambda x, _: x.long().mean(), TypeError, "mean: expected a floating-point tensor, got dtype int64"),
    (lambda x, _: x.long().var(), TypeError, "var: expected a floating-point tensor"),
    (lambda x, _: x.long().norm(), TypeError, "norm: expected a floating-point tensor"),
    (lambda x, _: x.var(unbiased=True, correction=1), TypeError, "var: expected unbiased or correction, not both"),
    (lambda x, _: x.norm("a"), ValueError, "norm: expected p to be a number or 'fro', got p a"),
    (lambda x, empty: empty.norm(math.inf), ValueError, "norm: expected elements to take an inf or negative norm of"),
    (lambda x, _: x.logsumexp(()), ValueError, "logsumexp: expected at least one dim"),
    (lambda x, empty: empty.max(), ValueError, r"max: expected at least one element \(or a dim\), got input \(0, 3\)"),
    (lambda x, empty: empty.max(0), ValueError, r"max: expected a dimension that is not empty, got input \(0, 3\), d"),
    (lambda x, empty: empty.amin(0), ValueError, "amin: expected at least one element"),
    (lambda x, empty: empty.argmin(), ValueError, "argmin: expected at least one element"),
    (lambda x, empty: empty.median(0), ValueError, "median: expected a dimension that is not empty"),
    (lambda x, _: (x > 0).argmax(), TypeError, "argmax: expected a tensor that is not boolean"),
    (lambda x, _: (x > 0).median(), TypeError, "median: expected a tensor that is not boolean"),
])
def test_errors_say_what_was_expected(call, error, text):
    with pytest.raises(error, match=text):
        call(kdl.Tensor(np.ones((2, 3))), kdl.Tensor(np.ones((0, 3))))
    with pytest.raises((RuntimeError, TypeError, IndexError)):
        call(torch.ones((2, 3), dtype=torch.float64), torch.ones((0, 3)))


@pytest.mark.parametrize("function", [kdl.sum, kdl.mean, kdl.max, kdl.argmax, kdl.median, kdl.all, kdl.norm, kdl.prod])
def test_functions_ask_for_a_tensor(function):
    with pytest.raises(TypeError, match="expected input to be a Tensor, got ndarray"):
        function(np.ones(3))


def test_reductions_of_nothing():
    empty = kdl.Tensor(np.zeros((2, 0)))
    assert empty.sum().item() == 0 and empty.prod().item() == 1 and math.isnan(empty.mean().item())
    assert empty.all().item() is True and empty.any().item() is False and empty.count_nonzero().item() == 0
    assert empty.logsumexp(1).tolist() == [-math.inf] * 2 and math.isnan(empty.median().item())
    assert empty.norm().item() == 0 and empty.max(0).values.shape == (0,) and empty.cumsum(1).shape == (2, 0)
