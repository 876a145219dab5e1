"""Pooling against torch over generated windows, and what the op table does not ask: ties, NaN, refusals, layouts."""
import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import kdl
import kdl.nn.functional as F
from kdl import kernels

torch = pytest.importorskip("torch", reason="pooling is compared with torch: pip install 'kdl-kernels[test]'")
TF = torch.nn.functional

NAN, INF = float("nan"), float("inf")


# --- generated windows ---
@st.composite
def inputs(draw, smallest=1):
    """An array of small integers (so that maxima tie) for 1, 2 or 3 spatial axes, batched or not."""
    n = draw(st.integers(1, 3))
    shape = [draw(st.integers(smallest, 8)) for _ in range(n)]
    shape = [draw(st.integers(1, 3)), *shape]
    if draw(st.booleans()):
        shape.insert(0, draw(st.integers(0, 3)))
    return n, np.random.default_rng(draw(st.integers(0, 99))).integers(-3, 3, shape).astype(np.float64)


def ints(draw, n, low, high):
    values = st.integers(low, high)
    return draw(values | st.tuples(*[values] * n) | st.lists(values, min_size=n, max_size=n))


@st.composite
def max_pools(draw):
    n, x = draw(inputs())
    options = {"stride": None if draw(st.booleans()) else ints(draw, n, 1, 4), "padding": ints(draw, n, 0, 2),
               "dilation": ints(draw, n, 1, 3), "ceil_mode": draw(st.booleans()), "return_indices": draw(st.booleans())}
    return f"max_pool{n}d", x, (ints(draw, n, 1, 5),), options


@st.composite
def avg_pools(draw):
    n, x = draw(inputs())
    options = {"stride": None if draw(st.booleans()) else ints(draw, n, 1, 4), "padding": ints(draw, n, 0, 2),
               "ceil_mode": draw(st.booleans()), "count_include_pad": draw(st.booleans())}
    if n > 1:
        options["divisor_override"] = draw(st.none() | st.sampled_from([1, 7, -2]))
    return f"avg_pool{n}d", x, (ints(draw, n, 1, 5),), options


@st.composite
def adaptive_pools(draw):
    n, x = draw(inputs())
    kind = draw(st.sampled_from(["avg", "max"]))
    return f"adaptive_{kind}_pool{n}d", x, (ints(draw, n, 1, 9),), {}


def run(library, tensor, name, x, args, options):
    """Outputs, then the gradient of the first, as arrays; or the error."""
    x = tensor(x).requires_grad_()
    try:
        outputs = getattr(library, name)(x, *args, **options)
    except (RuntimeError, ValueError, TypeError) as error:
        return error
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    gy = np.random.default_rng(5).standard_normal(tuple(outputs[0].shape))
    outputs[0].backward(tensor(gy))
    return [np.asarray(y.detach()) for y in outputs] + [np.asarray(x.grad)]


def same_as_torch(call):
    name, x, args, options = call
    theirs = run(TF, lambda a: torch.from_numpy(a.copy()), name, x, args, options)
    for namespace in ("reference", "cpu"):
        with kernels.use(namespace):
            ours = run(F, lambda a: kdl.tensor(a), name, x, args, options)
        if isinstance(theirs, Exception):
            assert isinstance(ours, ValueError), f"torch refuses: {theirs}"
            continue
        assert not isinstance(ours, Exception), f"torch accepts, but: {ours}"
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def may_miss_the_input(x, n, padding, dilation):
    """Whether a dilated window can step over the whole input; then torch's index and gradient lie beside the array."""
    padding, dilation = np.broadcast_to(padding, n), np.broadcast_to(dilation, n)
    return any(start % d >= length for length, p, d in zip(x.shape[-n:], padding, dilation, strict=True)
               for start in range(-p, 0))


@settings(max_examples=80, deadline=None)
@given(max_pools())
def test_max_pool_agrees_with_torch(call):
    name, x, _, options = call
    assume(not may_miss_the_input(x, int(name[-2]), options["padding"], options["dilation"]))
    same_as_torch(call)


@settings(max_examples=50, deadline=None)
@given(avg_pools())
def test_avg_pool_agrees_with_torch(call):
    same_as_torch(call)


@settings(max_examples=50, deadline=None)
@given(adaptive_pools())
def test_adaptive_pool_agrees_with_torch(call):
    same_as_torch(call)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("n", [2, 3])
def test_channels_last_in_channels_last_out(n, dtype, namespace, rng):
    size = (5, 6, 7)[:n]
    plain = rng.standard_normal((2, 3, *size)).astype(getattr(kdl, dtype))
    x = kdl.Tensor(np.moveaxis(np.moveaxis(plain, 1, -1).copy(), -1, 1), requires_grad=True)
    for name, args in ((f"max_pool{n}d", (2,)), (f"avg_pool{n}d", (2,)), (f"adaptive_avg_pool{n}d", (2,)),
                       (f"adaptive_max_pool{n}d", (2,))):
        y, expected = getattr(F, name)(x, *args), getattr(F, name)(kdl.Tensor(plain), *args)
        if "max" in name:
            np.testing.assert_array_equal(y.detach().array, expected.array)
        else:  # the layouts add in different orders
            ulp = float(ml_dtypes.finfo(plain.dtype).eps)
            np.testing.assert_allclose(y.detach().array.astype(float), expected.array.astype(float), 2 * ulp, 2 * ulp)
        gx = y.grad_fn.backward(np.ones(y.shape, plain.dtype), (True,))
        for array in (y.array, gx):
            assert np.moveaxis(array, 1, -1).flags.c_contiguous and not array.flags.c_contiguous


# --- maxima ---
@pytest.mark.parametrize("name, args", [("max_pool1d", (4,)), ("max_pool1d", (3, 1, 1)), ("adaptive_max_pool1d", (3,))])
def test_first_of_equals_wins(name, args, namespace):
    x = np.zeros((1, 2, 12))
    _, ours = getattr(F, name)(kdl.Tensor(x), *args, return_indices=True)
    _, theirs = getattr(TF, name)(torch.from_numpy(x), *args, return_indices=True)
    np.testing.assert_array_equal(ours.array, theirs.numpy())


@pytest.mark.parametrize("shape, name, args", [
    ((1, 2, 6, 8), "max_pool2d", (2,)), ((1, 2, 6, 8), "max_pool2d", (3, 2, 1)),
    ((1, 2, 6, 8), "max_pool2d", (5, 1, 2)), ((1, 2, 6, 8), "max_pool2d", (6,)),
    ((1, 2, 6, 8), "adaptive_max_pool2d", ((2, 3),)),
    ((2, 2, 4, 4, 6), "max_pool3d", (2, 1, 1)), ((2, 4, 4, 6), "adaptive_max_pool3d", (2,))])
@pytest.mark.parametrize("values", [(NAN, 1.0), (NAN, -INF, 0.0), (-INF,), (INF, NAN, -INF, 2.0), (-0.0, 0.0)])
def test_nan_and_infinities(shape, name, args, values, namespace, rng):
    x = rng.choice(values, shape)
    ours, at = getattr(F, name)(kdl.Tensor(x), *args, return_indices=True)
    theirs, there = getattr(TF, name)(torch.from_numpy(x), *args, return_indices=True)
    np.testing.assert_array_equal(ours.array, theirs.numpy())
    np.testing.assert_array_equal(at.array, there.numpy())


def test_a_window_that_misses_the_input_is_minus_infinity(namespace):
    x = kdl.tensor([[[3.0, 5.0]]], requires_grad=True)
    y, index = F.max_pool1d(x, 2, 1, 1, 3, return_indices=True)  # places -1 and 2
    assert y.tolist() == [[[-INF]]] and index.tolist() == [[[-1]]]
    y.sum().backward()
    assert x.grad.tolist() == [[[0.0, 0.0]]]


@pytest.mark.parametrize("taps", [254, 255, 256, 300])
def test_windows_around_the_limit_of_one_byte(taps, namespace, rng):
    x = rng.standard_normal((2, 1, taps + 9))
    same_as_torch(("max_pool1d", x, (taps, 1), {"return_indices": True}))
    same_as_torch(("max_pool1d", x, (taps, 1, taps // 2), {"return_indices": True}))


@pytest.mark.parametrize("name, args, options", [
    ("max_pool2d", (10**6,), {}), ("max_pool2d", ((2, 10**9), (10**9, 1), (1, 2)), {}),
    ("max_pool2d", (1, (10**9, 1)), {}), ("max_pool2d", (3, 10**9, 1, 10**9), {}), ("avg_pool2d", (10**9,), {}),
    ("avg_pool2d", (1, (10**9, 1)), {}),
    ("avg_pool2d", ((2, 10**9), (10**9, 1), (1, 2)), {"count_include_pad": False})])
def test_huge_windows_and_strides(name, args, options, rng):
    same_as_torch((name, rng.standard_normal((2, 3, 5, 20)), args, {"ceil_mode": True, **options}))


def test_overlapping_windows_add_up(namespace):
    x = kdl.tensor([[[0.0, 9.0, 0.0, 0.0]]], requires_grad=True)
    F.max_pool1d(x, 2, 1).sum().backward()
    assert x.grad.tolist() == [[[0.0, 2.0, 1.0, 0.0]]]


@pytest.mark.parametrize("return_indices", [False, True])
def test_indices_carry_no_gradient(return_indices):
    x = kdl.tensor(np.arange(16.0).reshape(1, 1, 4, 4), requires_grad=True)
    result = F.max_pool2d(x, 2, return_indices=return_indices)
    assert isinstance(result, tuple) == return_indices
    if return_indices:
        assert result[1].dtype == kdl.int64 and not result[1].requires_grad


# --- averages ---
def test_adaptive_average_of_everything_is_the_mean(namespace, rng):
    x = rng.standard_normal((3, 4, 5, 6))
    y = F.adaptive_avg_pool2d(kdl.Tensor(x), 1).array
    np.testing.assert_allclose(y[:, :, 0, 0], x.mean((2, 3)), rtol=1e-13)


@pytest.mark.parametrize("kernels_name", ["reference", "cpu"])
def test_average_keeps_nan_and_infinity_to_their_windows(kernels_name):
    x = kdl.Tensor(np.array([[[NAN, 1, INF, -INF, INF, 1, 1, 1.0]]]), requires_grad=True)
    with kernels.use(kernels_name):
        y, adapted = F.avg_pool1d(x, 2), F.adaptive_avg_pool1d(x, 4)
        kdl.autograd.backward([y, adapted], [kdl.Tensor(np.array([[[INF, -INF, 1, 1]]]))] * 2)
    for average in (y, adapted):
        np.testing.assert_array_equal(average.detach().array, [[[NAN, NAN, INF, 1]]])
    np.testing.assert_array_equal(x.grad.array, [[[INF, INF, -INF, -INF, 1, 1, 1, 1]]])


def test_average_of_many_float32_values_is_accurate(namespace, rng):
    x = rng.uniform(1, 2, (1, 2, 256, 256)).astype(np.float32)
    mean = x.astype(np.float64).mean((2, 3))
    np.testing.assert_allclose(F.adaptive_avg_pool2d(kdl.Tensor(x), 1).array[:, :, 0, 0], mean, rtol=2e-6)


@pytest.mark.parametrize("size", [1, 5, 16, 17, 31, 32, 49, 100, 1100])
@pytest.mark.parametrize("odd", [None, np.nan, np.inf, -np.inf])
def test_whole_planes_have_torch_s_maximum_and_mean(size, odd, namespace, rng):
    x = rng.integers(-3, 4, (40, 3, size)).astype(np.float32)  # with ties
    if odd is not None:
        x[rng.random(x.shape) < 0.1] = odd
    x[0, 0] = -np.inf if odd is None else odd
    theirs = torch.from_numpy(x).requires_grad_()
    ours = kdl.Tensor(x, requires_grad=True)
    for y, t in ((F.adaptive_max_pool1d(ours, 1), TF.adaptive_max_pool1d(theirs, 1)),
                 (F.adaptive_avg_pool1d(ours, 1), TF.adaptive_avg_pool1d(theirs, 1))):
        np.testing.assert_allclose(y.detach().array, t.detach().numpy(), rtol=1e-6, atol=1e-6)
        ours.grad = theirs.grad = None
        y.sum().backward()
        t.sum().backward()
        np.testing.assert_allclose(ours.grad.array, theirs.grad.numpy(), rtol=1e-6)
    at = F.adaptive_max_pool1d(ours, 1, return_indices=True)[1]
    np.testing.assert_array_equal(at.array, TF.adaptive_max_pool1d(theirs, 1, return_indices=True)[1].numpy())


@pytest.mark.parametrize("name, size, args", [
    ("max_pool2d", (7, 7), (7,)), ("max_pool2d", (9, 6), ((4, 3), 3, (2, 1), (2, 1))),
    ("max_pool3d", (3, 5, 6), (3, 2, 1)), ("avg_pool2d", (7, 7), (7,)), ("avg_pool2d", (9, 6), (4, 3, 2)),
    ("avg_pool3d", (4, 5, 4), (2,)), ("max_pool2d", (17, 19), (4, 4, 1)), ("avg_pool2d", (17, 19), (4, 3, 1)),
    ("adaptive_max_pool2d", (5, 6), ((5, 6),)), ("adaptive_avg_pool2d", (5, 6), ((5, 6),)),
    ("adaptive_max_pool2d", (9, 8), ((4, 3),)), ("adaptive_avg_pool2d", (9, 8), ((4, 3),)),
    ("adaptive_max_pool3d", (3, 4, 5), (2,)), ("adaptive_avg_pool3d", (3, 4, 5), ((2, 3, 4),)),
])
@pytest.mark.parametrize("channels", [4, 9])
@pytest.mark.parametrize("odd", [None, np.nan])
def test_windows_of_many_small_planes(name, size, args, channels, odd, namespace, rng):
    x = rng.integers(-3, 4, (4, channels, *size)).astype(np.float32)  # with ties
    if odd is not None:
        x[rng.random(x.shape) < 0.05] = odd
    theirs, ours = torch.from_numpy(x.copy()).requires_grad_(), kdl.Tensor(x, requires_grad=True)
    y, t = getattr(F, name)(ours, *args), getattr(TF, name)(theirs, *args)
    np.testing.assert_allclose(y.detach().array, t.detach().numpy(), rtol=1e-6, atol=1e-6)
    gy = rng.standard_normal(y.shape).astype(np.float32)
    y.backward(kdl.Tensor(gy))
    t.backward(torch.from_numpy(gy))
    np.testing.assert_allclose(ours.grad.array, theirs.grad.numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("size, args", [
    ((70,), (2,)), ((67,), (3, 2, 1, True)), ((1,), (2, 2, 1)), ((5, 64), (2,)), ((5, 65), (2, 2, 1)),
    ((6, 33), (3, 2)),
    ((7, 34), (3, 2, 1)), ((8, 31), (3, 2, 1, True)), ((6, 40), ((1, 3), (3, 2))), ((9, 10), ((4, 2), (3, 2), (2, 0))),
    ((3, 4, 34), (2,)), ((5, 4, 9), ((3, 2, 2), (2, 3, 2))), ((4, 5, 35), (3, 2, 1)),
    ((12,), (2,)), ((2, 2), (2,)), ((4, 4), (2,)), ((4, 8), (2,)), ((7, 7), (2,)), ((10, 10), (2,)), ((34, 16), (2,)),
    ((9, 16), ((3, 2), (2, 2))), ((6, 6), ((1, 2), (2, 2))), ((4, 4, 6), (2,)), ((5, 4, 8), ((3, 1, 2), (1, 2, 2)))])
@pytest.mark.parametrize("odd", [None, np.nan, -np.inf])
def test_windows_that_halve_rows(kind, size, args, odd, namespace, rng):
    x = rng.integers(-3, 4, (2, 3, *size)).astype(np.float32)  # with ties
    if odd is not None:
        x[rng.random(x.shape) < 0.3] = odd
    name, options = f"{kind}_pool{len(size)}d", {"ceil_mode": True} if len(args) == 4 else {}
    theirs, ours = torch.from_numpy(x.copy()).requires_grad_(), kdl.Tensor(x, requires_grad=True)
    if kind == "max":
        y, at = getattr(F, name)(ours, *args[:3], **options, return_indices=True)
        t, there = getattr(TF, name)(theirs, *args[:3], **options, return_indices=True)
        np.testing.assert_array_equal(at.array, there.numpy())
    else:
        y, t = getattr(F, name)(ours, *args[:3], **options), getattr(TF, name)(theirs, *args[:3], **options)
    np.testing.assert_allclose(y.detach().array, t.detach().numpy(), rtol=1e-6, atol=1e-6)
    gy = rng.standard_normal(y.shape).astype(np.float32)
    y.backward(kdl.Tensor(gy))
    t.backward(torch.from_numpy(gy))
    np.testing.assert_allclose(ours.grad.array, theirs.grad.numpy(), rtol=1e-6, atol=1e-6)


# --- unpooling ---
@pytest.mark.parametrize("n, args", [(1, (2,)), (1, (3, 2, 1)), (2, (2,)), (2, ((3, 2), (3, 2), (1, 0))), (3, (2,))])
@pytest.mark.parametrize("batched", [True, False])
def test_unpool_puts_maxima_back(n, args, batched, rng):
    x = rng.permutation(4 * 6**n).reshape(2, 2, *[6] * n).astype(np.float64)
    x = x if batched else x[0]
    maxima, at = getattr(F, f"max_pool{n}d")(kdl.Tensor(x), *args, return_indices=True)
    maxima.requires_grad_()
    y = getattr(F, f"max_unpool{n}d")(maxima, at, *args, output_size=x.shape[-n:])
    expected = getattr(TF, f"max_unpool{n}d")(torch.from_numpy(maxima.detach().array), torch.from_numpy(at.array),
                                              *args, output_size=x.shape[-n:])
    np.testing.assert_array_equal(y.detach().array, expected.numpy())
    gy = rng.standard_normal(y.shape)
    gx, = kdl.grad(y, maxima, kdl.Tensor(gy))
    flat = gy.reshape(*gy.shape[:-n], -1)
    np.testing.assert_array_equal(gx.array, np.take_along_axis(flat, at.array.reshape(*flat.shape[:-1], -1), -1)
                                  .reshape(gx.shape))


# --- what is refused, as torch does ---
X2, X3 = (1, 1, 4, 4), (1, 1, 4, 4, 4)


@pytest.mark.parametrize("name, shape, args, options, error, words", [
    ("max_pool2d", (4, 4), (2,), {}, ValueError, r"input of shape \(N, C, H, W\) or \(C, H, W\), got input \(4, 4\)"),
    ("max_pool1d", (1, 2, 3, 4), (2,), {}, ValueError, r"\(N, C, L\) or \(C, L\)"),
    ("avg_pool3d", (2, 2, 2), (2,), {}, ValueError, r"\(N, C, D, H, W\) or \(C, D, H, W\)"),
    ("max_pool2d", (1, 0, 4, 4), (2,), {}, ValueError, "C, H, W > 0"),
    ("max_pool2d", (0, 4, 4), (2,), {}, ValueError, "C, H, W > 0"),
    ("avg_pool2d", (2, 2, 0, 4), (2,), {}, ValueError, "C, H, W > 0"),
    ("max_pool2d", X2, (0,), {}, ValueError, r"kernel_size, stride and dilation > 0, got kernel_size \(0, 0\)"),
    ("avg_pool2d", X2, (2, 0), {}, ValueError, r"stride \(0, 0\)"),
    ("max_pool2d", X2, (2,), {"dilation": 0}, ValueError, r"dilation \(0, 0\)"),
    ("max_pool2d", X2, (2,), {"padding": 2}, ValueError, r"0 <= padding <= kernel_size / 2, got padding \(2, 2\)"),
    ("max_pool1d", (1, 1, 9), (2, 1, 2, 3), {}, ValueError, "padding <= kernel_size / 2"),
    ("avg_pool3d", X3, (2,), {"padding": -1}, ValueError, "0 <= padding"),
    ("max_pool2d", X2, (5,), {}, ValueError, r"windows that fit into the input, got input \(1, 1, 4, 4\), kernel_size"),
    ("avg_pool3d", X3, (5,), {"padding": 2}, ValueError, "kernel_size no larger than the input"),
    ("max_pool2d", X2, ((2, 2, 2),), {}, ValueError, "kernel_size to be an int or 2 ints"),
    ("max_pool1d", (1, 1, 4), ((2, 2),), {}, ValueError, "kernel_size to be an int"),
    ("max_pool2d", X2, (2.0,), {}, TypeError, "kernel_size to be an int or 2 ints, got 2.0"),
    ("max_pool2d", X2, (True,), {}, TypeError, "kernel_size"),
    ("max_pool2d", X2, (2,), {"padding": "same"}, TypeError, "padding"),
    ("avg_pool2d", X2, (2,), {"divisor_override": 0}, ValueError, "divisor_override != 0"),
    ("avg_pool2d", X2, (2,), {"divisor_override": 1.5}, TypeError, "divisor_override to be an int or None"),
    ("adaptive_avg_pool2d", (4, 4), (2,), {}, ValueError, r"\(N, C, H, W\)"),
    ("adaptive_avg_pool2d", (1, 1, 0, 4), (2,), {}, ValueError, "H, W > 0"),
    ("adaptive_max_pool2d", (1, 0, 4, 4), (2,), {}, ValueError, "at least one channel"),
    ("adaptive_avg_pool2d", X2, ((-1, 2),), {}, ValueError, r"output_size >= 0, got output_size \(-1, 2\)"),
    ("adaptive_avg_pool2d", X2, ((2,),), {}, ValueError, "output_size to be an int or 2 ints"),
    ("adaptive_max_pool3d", X3, ((2, 2),), {}, ValueError, "output_size to be an int or 3 ints"),
    ("adaptive_avg_pool2d", X2, (None,), {}, TypeError, "output_size"),
    ("adaptive_avg_pool1d", (1, 1, 4), ([None],), {}, TypeError, "output_size"),
])
def test_refuses(name, shape, args, options, error, words):
    with pytest.raises(error, match=f"{name}: expected.*{words}"):
        getattr(F, name)(kdl.Tensor(np.ones(shape)), *args, **options)
    with pytest.raises((RuntimeError, ValueError, TypeError, IndexError)):
        getattr(TF, name)(torch.ones(shape), *args, **options)


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"])
def test_refuses_integers_and_arrays(name):
    with pytest.raises(TypeError, match=f"{name}: expected a floating-point input, got int64"):
        getattr(F, name)(kdl.tensor(np.ones((1, 1, 4, 4), np.int64)), 2)
    with pytest.raises(TypeError, match=f"{name}: expected input to be a Tensor"):
        getattr(F, name)(np.ones((1, 1, 4, 4)), 2)


@pytest.mark.parametrize("indices, options, error, words", [
    (np.full((1, 1, 2, 2), 16), {}, ValueError, r"indices in \[0, 16\), got smallest 16, largest 16"),
    (np.full((1, 1, 2, 2), -1), {}, ValueError, r"indices in \[0, 16\)"),
    (np.zeros((1, 1, 2, 2), np.int32), {}, TypeError, "int64"),
    (np.zeros((1, 1, 2, 1), np.int64), {}, ValueError, r"indices.shape == input.shape"),
    (np.zeros((1, 1, 2, 2), np.int64), {"output_size": (6, 5)}, ValueError, "less than a stride away"),
    (np.zeros((1, 1, 2, 2), np.int64), {"output_size": (5,)}, ValueError, "output_size"),
    (np.zeros((1, 1, 2, 2), np.int64), {"stride": 1, "padding": 2}, ValueError, "not negative"),
])
def test_unpool_refuses(indices, options, error, words):
    with pytest.raises(error, match=f"max_unpool2d: expected.*{words}"):
        F.max_unpool2d(kdl.Tensor(np.ones((1, 1, 2, 2))), kdl.tensor(indices), 2, **options)
    with pytest.raises((RuntimeError, ValueError)):
        TF.max_unpool2d(torch.ones(1, 1, 2, 2), torch.from_numpy(indices), 2, **options)


# --- the same whatever the number of threads ---
def test_threads_change_no_bit(rng):
    import numba
    x = kdl.Tensor(rng.standard_normal((7, 9, 30, 41)).astype(np.float32), requires_grad=True)
    gy = kdl.Tensor(rng.standard_normal((7, 9, 15, 21)).astype(np.float32))
    results, threads = [], numba.get_num_threads()
    for count in {1, threads}:
        numba.set_num_threads(count)
        ys = [F.max_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 3, 2, 1), F.adaptive_avg_pool2d(x, (15, 21))]
        results.append([a.array for y in ys for a in (y.detach(), *kdl.grad(y, x, gy))])
    for a, b in zip(results[0], results[-1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_lp_pool_of_zeros_and_of_negative_sums():
    x = np.array([[[0.0, 0, 0, 1, -2, 1, -3, 4]]])
    a, b = kdl.Tensor(x).requires_grad_(), torch.from_numpy(x.copy()).requires_grad_()
    ours, theirs = F.lp_pool1d(a, 3, 2), torch.nn.functional.lp_pool1d(b, 3, 2)
    np.testing.assert_allclose(ours.detach().array, theirs.detach().numpy())
    ours[..., :2].sum().backward()
    theirs[..., :2].sum().backward()
    np.testing.assert_allclose(a.grad.array, b.grad.numpy())


def test_fractional_windows_that_do_not_fit():
    x = kdl.ones(2, 3, 6, 6)
    for arguments in ({"output_size": 6}, {"output_size": 0}, {"output_size": (5, 6)}):
        with pytest.raises(ValueError, match="windows that fit into the input"):
            F.fractional_max_pool2d(x, 2, **arguments)
    with pytest.raises(ValueError, match="one of output_size and output_ratio"):
        F.fractional_max_pool2d(x, 2)
    with pytest.raises(ValueError, match="2 numbers between 0 and 1"):
        F.fractional_max_pool2d(x, 2, output_ratio=(0.5, 1.5))
    with pytest.raises(ValueError, match=r"_random_samples of shape \(2, 3, 2\)"):
        F.fractional_max_pool2d(x, 2, 3, _random_samples=kdl.ones(2, 3))
    with pytest.raises(ValueError, match="input of 3 or 4 dimensions"):
        F.fractional_max_pool2d(x[0, 0], 2, 3)
