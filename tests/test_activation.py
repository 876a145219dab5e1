"""Activations against torch: generated arguments, special values, integers, in-place forms, errors, large arrays."""
import inspect
import math

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import kdl
import kdl.nn.functional as F
from kdl import kernels
from tests.optable import TOLERANCE

torch = pytest.importorskip("torch", reason="activations are compared with torch: pip install 'kdl-kernels[test]'")
TF = torch.nn.functional

number = st.floats(-2, 2).map(lambda v: round(v, 2))
positive = st.floats(0.1, 3).map(lambda v: round(v, 2))
power_of_two = st.sampled_from([-2.0, -0.5, 0.25, 0.5, 1.0, 2.0])  # torch's celu gradient rounds 1 / alpha to float32
bounds = st.tuples(number, positive).map(lambda b: {"min_val": b[0], "max_val": b[0] + b[1]})
ARGUMENTS = {
    "relu": {}, "relu6": {}, "leaky_relu": {"negative_slope": number}, "hardtanh": bounds, "hardsigmoid": {},
    "hardswish": {}, "threshold": {"threshold": number, "value": number}, "softshrink": {"lambd": positive},
    "hardshrink": {"lambd": number}, "elu": {"alpha": number}, "selu": {}, "celu": {"alpha": power_of_two},
    "sigmoid": {}, "logsigmoid": {}, "softplus": {"beta": positive, "threshold": st.floats(-3, 30)}, "softsign": {},
    "tanh": {}, "tanhshrink": {}, "gelu": {"approximate": st.sampled_from(["none", "tanh"])}, "silu": {}, "mish": {},
}
REQUIRED = {"threshold": (0.1, 20.0)}
IN_PLACE = ["relu", "relu6", "leaky_relu", "hardtanh", "hardsigmoid", "hardswish", "threshold", "elu", "selu", "celu",
            "silu", "mish"]
UNDERSCORED = ["relu_", "leaky_relu_", "hardtanh_", "threshold_", "elu_", "selu_", "celu_", "sigmoid_", "tanh_"]
every_activation = pytest.mark.parametrize("name", ARGUMENTS)


def find(library, name):
    """The function, from nn.functional or the top level."""
    functional = F if library is kdl else TF
    return getattr(functional, name, None) or getattr(library, name)


def run(library, name, arrays, args=(), kwargs=None, gy=None):
    """The value, and the gradients of all arrays for the upstream gradient gy (ones by default), as arrays."""
    make = kdl.Tensor if library is kdl else torch.from_numpy
    tensors = [make(np.array(a)).requires_grad_() for a in arrays]
    y = find(library, name)(*tensors, *args, **(kwargs or {}))
    y.backward(make(np.ones(tuple(y.shape), arrays[0].dtype) if gy is None else gy))
    return [y.detach().numpy(), *[x.grad.numpy() for x in tensors]]


def assert_same(ours, theirs, name=None):
    for part, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert a.dtype == b.dtype and a.shape == b.shape
        tolerance = TOLERANCE[str(a.dtype)]
        if name == "hardsigmoid" and part == 1:
            tolerance = max(tolerance, 3e-8)  # torch's gradient holds 1/6 rounded to float32, in float64 too
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# --- values and gradients ---
@given(st.data())
@settings(max_examples=150, deadline=None)
def test_generated_arguments(data):
    name = data.draw(st.sampled_from(list(ARGUMENTS)))
    given_by = ARGUMENTS[name]
    kwargs = data.draw(st.fixed_dictionaries(given_by) if isinstance(given_by, dict) else given_by)
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x, gy = (rng.uniform(-4, 4, shape).astype(dtype) for _ in range(2))
    assert_same(run(kdl, name, [x], (), kwargs, gy), run(torch, name, [x], (), kwargs, gy), name)


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_generated_prelu(data):
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))
    shared = len(shape) < 2 or data.draw(st.booleans())
    weight = data.draw(st.sampled_from([(), (1,)])) if shared else shape[1:2]
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x, gy = (np.asarray(rng.standard_normal(shape), dtype) for _ in range(2))
    w = np.asarray(rng.standard_normal(weight), dtype)
    assert_same(run(kdl, "prelu", [x, w], gy=gy), run(torch, "prelu", [x, w], gy=gy))


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_generated_glu(data):
    shape = list(data.draw(hnp.array_shapes(max_dims=4, min_side=0, max_side=4)))
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    shape[dim] *= 2
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    x = np.random.default_rng(data.draw(st.integers(0, 99))).standard_normal(shape).astype(dtype)
    assert_same(run(kdl, "glu", [x], (dim,)), run(torch, "glu", [x], (dim,)))


KINKS = [0.0, -0.0, 0.1, 0.5, 1.0, 3.0, 6.0, 20.0]
SPECIAL = np.array([v for a in (*KINKS, 100.0, 1e30, math.inf) for v in (a, -a)] + [math.nan])


@pytest.mark.parametrize("use", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name, kwargs", [*[(name, {}) for name in ARGUMENTS], ("gelu", {"approximate": "tanh"})])
def test_kinks_infinities_and_nan(name, kwargs, dtype, use):
    args, x = REQUIRED.get(name, ()), SPECIAL.astype(dtype)
    gradients = np.stack([np.ones_like(x), np.linspace(-3, 3, len(x), dtype=dtype), np.full_like(x, np.nan)])
    with kernels.use(use), np.errstate(all="ignore"):
        ours = [run(kdl, name, [x], args, kwargs, gy) for gy in gradients]
    if name == "gelu" and not kwargs:  # torch's float32 gelu is NaN at +inf, its float64 one is inf
        x, gradients = x.astype(np.float64), gradients.astype(np.float64)
    theirs = [[a.astype(dtype) for a in run(torch, name, [x], args, kwargs, gy)] for gy in gradients]
    if name == "softsign":  # torch's gradient at infinity is inf / inf; the limit is 0
        for a, b in zip(ours, theirs, strict=True):
            a[1][np.isinf(x)] = b[1][np.isinf(x)] = 0
    for a, b in zip(ours, theirs, strict=True):
        assert_same(a, b, name)


def test_far_values_keep_their_digits():
    def value(function, x, **kwargs):
        return function(kdl.Tensor(np.array(x)), **kwargs).item()
    assert value(F.logsigmoid, -1e30) == -1e30
    assert value(F.softplus, 800.0, threshold=1e4) == 800.0  # e^800 overflows
    assert value(F.softplus, -700.0) == pytest.approx(math.exp(-700), rel=1e-13)
    assert value(F.mish, -30.0) == pytest.approx(-30 * math.exp(-30), rel=1e-12)
    for x in (-3.0, -9.0, -20.0):  # 1 + erf(x / sqrt(2)) has no digits left here
        assert value(F.gelu, x) == pytest.approx(x * math.erfc(-x / math.sqrt(2)) / 2, rel=1e-13)


def test_half_types_round_once(rng):
    for name in ARGUMENTS:
        args = REQUIRED.get(name, ())
        x = rng.standard_normal(200).astype(np.float16)
        assert_same(run(kdl, name, [x], args), run(torch, name, [x], args))


def test_channels_last_stays_channels_last(rng):
    x = kdl.tensor(rng.standard_normal((2, 3, 4, 5))).contiguous(memory_format=kdl.channels_last).requires_grad_()
    y = F.prelu(x, kdl.tensor(rng.standard_normal(3)))
    assert y.is_contiguous(kdl.channels_last)
    assert F.gelu(x.detach()).is_contiguous(kdl.channels_last)


# --- large arrays: the threaded loops ---
@pytest.mark.parametrize("name", ["relu", "softplus", "gelu", "glu"])
def test_threaded_loops_agree_with_reference(name, rng):
    x = rng.standard_normal((2, 40_000)).astype(np.float32)
    ours = run(kdl, name, [x])
    with kernels.use("reference"):
        assert_same(ours, run(kdl, name, [x]))


@pytest.mark.parametrize("shape, weights", [((70_001,), 1), ((3, 4, 9001), 4), ((9001, 8), 8)])
def test_prelu_weight_gradient_does_not_depend_on_threads(shape, weights, rng):
    x, gy = rng.standard_normal((2, *shape)).astype(np.float32)
    w = rng.standard_normal(weights).astype(np.float32)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = run(kdl, "prelu", [x, w], gy=gy)
    finally:
        numba.set_num_threads(threads)
    together = run(kdl, "prelu", [x, w], gy=gy)
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)
    exact = run(kdl, "prelu", [x.astype(np.float64), w.astype(np.float64)], gy=gy.astype(np.float64))
    np.testing.assert_allclose(together[2], exact[2], rtol=1e-5, atol=1e-3)


# --- integers ---
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("name, args", [("relu", ()), ("relu6", ()), ("hardtanh", (1, 5)), ("hardtanh", (0.5, 2.7)),
                                        ("threshold", (3, 7)), ("threshold", (2.9, 1.5)), ("sigmoid", ()),
                                        ("tanh", ()), ("softsign", ()), ("tanhshrink", ())])
def test_integers(name, args, dtype):
    x = np.array([0, 1, 2, 3, 5, 9] if dtype == np.uint8 else [-9, -2, -1, 0, 1, 2, 3, 9], dtype)
    ours, theirs = find(kdl, name)(kdl.Tensor(x), *args), find(torch, name)(torch.from_numpy(x.copy()), *args)
    assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.")
    np.testing.assert_allclose(ours.array, theirs.numpy(), rtol=1e-6)
    assert not ours.requires_grad


def test_bool_becomes_float():
    for name in ("sigmoid", "tanh"):
        ours = getattr(kdl, name)(kdl.tensor([True, False])).array
        np.testing.assert_allclose(ours, getattr(torch, name)(torch.tensor([True, False])).numpy(), rtol=1e-6)


# --- in place ---
@pytest.mark.parametrize("name", [*IN_PLACE, *UNDERSCORED])
def test_in_place(name, rng):
    args = REQUIRED.get(name.removesuffix("_"), ())
    kwargs = {} if name.endswith("_") else {"inplace": True}
    array = rng.standard_normal((3, 4))
    x, expected = kdl.tensor(array), find(kdl, name.removesuffix("_"))(kdl.tensor(array), *args)
    memory = x.array
    assert find(kdl, name)(x, *args, **kwargs) is x and x.array is memory
    np.testing.assert_array_equal(memory, expected.array)
    results = []
    for library, make in ((kdl, kdl.tensor), (torch, torch.tensor)):
        leaf = make(array, requires_grad=True)
        h = leaf * 2
        y = find(library, name)(h, *args, **kwargs)
        assert y is h
        y.sum().backward()
        results.append(leaf.grad.numpy())
    np.testing.assert_allclose(*results, rtol=3e-8)  # torch's 1/6 in hardsigmoid is rounded to float32
    with pytest.raises(RuntimeError, match="leaf"):
        find(kdl, name)(kdl.tensor(array, requires_grad=True), *args, **kwargs)


def test_integers_in_place():
    x = kdl.tensor([-1, 2, 9])
    assert F.relu6(x, inplace=True).tolist() == [0, 2, 6] == x.tolist()
    for function in (kdl.sigmoid_, kdl.tanh_):
        with pytest.raises(RuntimeError, match="float32 result cannot be stored in a int64"):
            function(x)


# --- interface ---
@pytest.mark.parametrize("name", [*ARGUMENTS, *UNDERSCORED, "prelu", "glu"])
def test_signature_is_torchs(name):
    parameters = inspect.signature(find(kdl, name)).parameters
    try:
        theirs = inspect.signature(getattr(TF, name, None) or getattr(torch, name)).parameters
    except ValueError:
        pytest.skip("torch's is built in")
    assert [(p.name, p.default) for p in parameters.values()] == [(p.name, p.default) for p in theirs.values()]


@pytest.mark.parametrize("name", [*ARGUMENTS, *UNDERSCORED, "prelu", "glu"])
def test_names_stand_where_torchs_do(name):
    assert hasattr(kdl.Tensor, name) == hasattr(torch.Tensor, name)
    assert hasattr(kdl, name) == hasattr(torch, name)


X = np.zeros((2, 3), np.float32)
REFUSED = [
    ("relu", (X > 0,), {}, TypeError, "relu: expected a floating-point input, got bool"),
    ("gelu", (X.astype(int),), {}, TypeError, "gelu: expected a floating-point input, got int64"),
    ("softsign", (X > 0,), {}, TypeError, "softsign: expected a floating-point input, got bool"),
    ("gelu", (X, "erf"), {}, (TypeError, ValueError), None),
    ("gelu", (X,), {"approximate": "erf"}, ValueError, "gelu: expected approximate to be 'none' or 'tanh', got "
     "approximate erf"),
    ("leaky_relu", (X, "a"), {}, TypeError, "leaky_relu: expected negative_slope to be a number, got negative_slope a"),
    ("elu", (X, None), {}, TypeError, "elu: expected alpha to be a number, got alpha None"),
    ("elu", (X, 1e300), {}, ValueError, "elu: expected alpha to fit into float32, got alpha 1e.300"),
    ("celu", (X, 0), {}, ValueError, "celu: expected alpha != 0, got alpha 0"),
    ("celu", (X, 1e-300), {}, ValueError, "celu: expected 1 / alpha to fit into float32"),
    ("softplus", (X, "a"), {}, TypeError, "softplus: expected beta to be a number, got beta a"),
    ("softshrink", (X, -1), {}, ValueError, "softshrink: expected lambd >= 0, got lambd -1"),
    ("softshrink", (X, math.nan), {}, ValueError, "softshrink: expected lambd >= 0, got lambd nan"),
    ("hardtanh", (X, 2.0, 1.0), {}, ValueError,
     "hardtanh: expected min_val <= max_val, got min_val 2.0, max_val 1.0"),
    ("hardtanh", (X.astype(np.uint8), -1, 1), {}, ValueError, "hardtanh: expected min_val to fit into uint8"),
    ("threshold", (X.astype(np.uint8), 1, 300), {}, ValueError, "threshold: expected value to fit into uint8"),
    ("threshold", (X.astype(np.int64), math.inf, 1), {}, ValueError, "threshold: expected threshold to fit into int64"),
    ("threshold", (X, 1), {}, TypeError, None),
    ("prelu", (X, np.zeros(2, np.float32)), {}, ValueError, "prelu: expected weight to have one element, or one per "
     r"channel of input \(dimension 1\), got weight \(2,\), input \(2, 3\)"),
    ("prelu", (X[0], np.zeros(3, np.float32)), {}, ValueError, "prelu: expected weight to have one element"),
    ("prelu", (X, np.zeros((1, 3), np.float32)), {}, ValueError, "prelu: expected weight to be 0-d or 1-d"),
    ("prelu", (X, np.zeros(3)), {}, TypeError,
     "prelu: expected tensors of one dtype, got input float32, weight float64"),
    ("prelu", (X, None), {}, TypeError, "prelu: expected weight to be a Tensor, got NoneType"),
    ("prelu", (None, X[0]), {}, TypeError, "prelu: expected input to be a Tensor, got NoneType"),
    ("prelu", (X, np.zeros(0, np.float32)), {}, ValueError, "prelu: expected weight to have one element"),
    ("glu", (X,), {}, ValueError, r"glu: expected an even length along dim, got input \(2, 3\), dim 1"),
    ("glu", (X[0, 0],), {}, ValueError, r"glu: expected an even length along dim, got input \(\)"),
    ("glu", (X, 2), {}, IndexError, r"glu: expected dim in \[-2, 1\], got 2"),
    ("glu", (X, 1.0), {}, TypeError, "glu: expected dim to be an int, got 1.0"),
]


@pytest.mark.parametrize("name, args, kwargs, error, text", REFUSED)
def test_what_torch_refuses_is_refused(name, args, kwargs, error, text):
    def call(library, make):
        return find(library, name)(*[make(a) if isinstance(a, (np.ndarray, np.generic)) else a for a in args], **kwargs)
    with pytest.raises(error, match=text):
        call(kdl, lambda a: kdl.Tensor(np.asarray(a)))
    with pytest.raises((RuntimeError, TypeError, ValueError, IndexError)):
        call(torch, lambda a: torch.from_numpy(np.array(a)))


@pytest.mark.parametrize("input", [None, 1.0, [1.0], X])
@every_activation
def test_only_tensors_are_taken(name, input):
    with pytest.raises(TypeError, match=f"{name}: expected input to be a Tensor, got {type(input).__name__}"):
        find(kdl, name)(input, *REQUIRED.get(name, ()))


def test_random_slopes_of_rrelu():
    kdl.manual_seed(0)
    x = kdl.Tensor(np.where(np.arange(4000) % 2, 1.0, -1.0), requires_grad=True)
    y = F.rrelu(x, 0.2, 0.6, training=True)
    slopes = -y.detach().array[::2]
    assert (y.detach().array[1::2] == 1).all() and 0.2 <= slopes.min() < 0.22 and 0.58 < slopes.max() < 0.6
    assert abs(slopes.mean() - 0.4) < 0.01
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.array[::2], slopes)
    assert (x.grad.array[1::2] == 1).all()
    z = kdl.Tensor(x.detach().array.copy())
    assert F.rrelu_(z, 0.2, 0.6, True) is z and abs(z.array[::2].mean() + 0.4) < 0.01
    assert F.rrelu(z.half(), training=True).dtype == kdl.float16
    for bounds in ((0.5, 0.2), (0.1, np.inf)):
        with pytest.raises(ValueError, match="finite lower <= upper"):
            F.rrelu(z, *bounds)
