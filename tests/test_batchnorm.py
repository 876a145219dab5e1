"""Batch normalisation against torch over generated calls, its running statistics, its numerics, and what it refuses."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kdl
import kdl.nn.functional as F
from kdl import kernels

torch = pytest.importorskip("torch", reason="batch_norm is compared with torch: pip install 'kdl-kernels[test]'")
TF = torch.nn.functional


def to_torch(array):
    if array.dtype == kdl.bfloat16:
        return torch.from_numpy(array.astype(np.float32)).bfloat16()
    return torch.from_numpy(array.copy())


def to_numpy(x):
    x = x.detach()
    return x.array.astype(np.float64) if isinstance(x, kdl.Tensor) else x.double().numpy()


def run(library, tensor, x, channels, gy, *options):
    """Output, running statistics after the call, and the gradients, as float64 arrays."""
    x = tensor(x).requires_grad_()
    mean, var, weight, bias = [None if a is None else tensor(a) for a in channels]
    affine = [a.requires_grad_() for a in (weight, bias) if a is not None]
    y = library.batch_norm(x, mean, var, weight, bias, *options)
    y.backward(tensor(gy))
    results = [y, mean, var, x.grad, *[a.grad for a in affine]]
    return [to_numpy(a) for a in results if a is not None], [str(a.dtype).removeprefix("torch.") for a in results
                                                             if a is not None]


def same_as_torch(x, channels, *options, tolerance):
    gy = np.random.default_rng(3).standard_normal(x.shape).astype(x.dtype)
    theirs, their_dtypes = run(TF, to_torch, x, channels, gy, *options)
    for namespace in ("reference", "cpu"):
        with kernels.use(namespace):
            ours, our_dtypes = run(F, lambda a: kdl.Tensor(a.copy()), x, channels, gy, *options)
        assert our_dtypes == their_dtypes
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max(initial=0)))


@st.composite
def calls(draw):
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    shape = (draw(st.integers(0, 6)), draw(st.integers(1, 20)), *draw(st.lists(st.integers(1, 5), max_size=3)))
    training = draw(st.booleans())
    if training and np.prod(shape) == shape[1]:
        shape = (2, *shape[1:])
    channels = [rng.standard_normal(shape[1]), rng.uniform(0.5, 2, shape[1]), rng.standard_normal(shape[1]),
                rng.standard_normal(shape[1])]
    if training and draw(st.booleans()):
        channels[:2] = None, None
    channels[2:] = [a if draw(st.booleans()) else None for a in channels[2:]]
    x = draw(st.sampled_from([0.0, 3.0, -50.0])) + rng.standard_normal(shape)
    return x, channels, training, draw(st.floats(0, 1)), draw(st.sampled_from([1e-5, 1e-3, 0.5]))


@settings(max_examples=50, deadline=None)
@given(calls())
def test_agrees_with_torch(call):
    same_as_torch(*call, tolerance=1e-9)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("parameters", ["float32", "the input's"])
@pytest.mark.parametrize("dtype, tolerance", [("float16", 2e-3), ("bfloat16", 1.6e-2)])
@pytest.mark.parametrize("shape", [(6, 5), (3, 5, 4, 7)])
def test_halves_with_parameters_of_either_dtype(shape, dtype, tolerance, parameters, training, rng):
    dtype = getattr(kdl, dtype)
    channels = [rng.standard_normal(5), rng.uniform(0.5, 2, 5), rng.standard_normal(5), rng.standard_normal(5)]
    channels = [a.astype(np.float32 if parameters == "float32" else dtype) for a in channels]
    same_as_torch(rng.standard_normal(shape).astype(dtype), channels, training, 0.2, tolerance=tolerance)


# --- running statistics ---
def test_running_statistics_move_in_place(namespace, rng):
    x = rng.standard_normal((4, 3, 5))
    storage = np.zeros((2, 6))
    mean, var = kdl.Tensor(storage[0, ::2]), kdl.Tensor(storage[1, ::2])  # not contiguous
    F.batch_norm(kdl.Tensor(x), mean, var, training=True, momentum=0.25)
    np.testing.assert_allclose(storage[0, ::2], 0.25 * x.mean((0, 2)), rtol=1e-12)
    np.testing.assert_allclose(storage[1, ::2], 0.25 * x.var((0, 2), ddof=1), rtol=1e-12)
    assert not storage[:, 1::2].any() and mean.version[0] == var.version[0] == 1


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0)])
def test_an_empty_batch_leaves_them_alone(shape, namespace):
    mean, var = kdl.Tensor(np.full(3, 2.0)), kdl.Tensor(np.full(3, 5.0))
    weight = kdl.Tensor(np.ones(3), requires_grad=True)
    y = F.batch_norm(kdl.Tensor(np.zeros(shape)), mean, var, weight, training=True)
    y.backward(kdl.Tensor(np.zeros(shape)))
    assert y.shape == shape and mean.tolist() == [2.0] * 3 and var.tolist() == [5.0] * 3
    assert weight.grad.tolist() == [0.0] * 3


def test_inference_notices_statistics_changed_before_backward(rng):
    x = kdl.Tensor(rng.standard_normal((4, 3)), requires_grad=True)
    mean, var = kdl.Tensor(np.zeros(3)), kdl.Tensor(np.ones(3))
    y = F.batch_norm(x, mean, var)
    F.batch_norm(x.detach(), mean, var, training=True)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward(kdl.Tensor(np.ones((4, 3))))


# --- properties and numerics ---
@pytest.mark.parametrize("shape", [(64, 7), (16, 7, 30), (8, 7, 6, 5)])
def test_output_has_mean_zero_and_variance_one(shape, namespace, rng):
    x = rng.normal(5, 3, shape)
    y = F.batch_norm(kdl.Tensor(x), None, None, training=True, eps=1e-12).array
    axes = (0, *range(2, len(shape)))
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axes), 1, rtol=1e-9)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", [(700, 6, 1, 1), (16, 6, 9, 9)])
@pytest.mark.parametrize("mean, std", [(0, 1), (1e3, 1), (-1e4, 10), (1, 1e-3)])
@pytest.mark.parametrize("outlier", [False, True])
def test_float32_far_from_zero(mean, std, outlier, shape, layout, namespace, rng):
    x = rng.normal(mean, std, shape).astype(np.float32)
    if outlier:
        x[0] = 0  # the first value of every channel is no guide to its mean
    gy, w = rng.normal(1, 1, shape).astype(np.float32), rng.standard_normal(6).astype(np.float32)

    def gradients_and_all(dtype):
        tensors = [kdl.Tensor(a.astype(dtype), requires_grad=True) for a in (x, w)]
        if layout == "channels_last":
            tensors[0] = kdl.Tensor(np.moveaxis(np.moveaxis(x.astype(dtype), 1, -1).copy(), -1, 1), requires_grad=True)
        running = [kdl.Tensor(np.zeros(6, dtype)), kdl.Tensor(np.zeros(6, dtype))]
        y = F.batch_norm(tensors[0], *running, tensors[1], training=True, momentum=1.0, eps=1e-12)
        y.backward(kdl.Tensor(gy.astype(dtype)))
        return [y.detach().array, *[a.array for a in running], *[a.grad.array for a in tensors]]
    for ours, exact in zip(gradients_and_all(np.float32), gradients_and_all(np.float64), strict=True):
        np.testing.assert_allclose(ours, exact, atol=1e-6 * np.abs(exact).max())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_stay_in_their_channel(value, training, namespace, rng):
    x = rng.standard_normal((4, 3, 5))
    x[1, 2, 3] = value
    running = np.zeros(3), np.ones(3)
    ours = F.batch_norm(kdl.Tensor(x), *map(kdl.Tensor, running), training=training)
    theirs = TF.batch_norm(torch.from_numpy(x), *map(torch.from_numpy, running), training=training)
    np.testing.assert_allclose(ours.array, theirs.numpy(), rtol=1e-9, atol=1e-12)


def test_a_constant_channel_becomes_the_bias(namespace):
    x = kdl.Tensor(np.full((4, 2, 3), 7.25, np.float32))
    y = F.batch_norm(x, None, None, None, kdl.Tensor(np.array([1, -2], np.float32)), True)
    np.testing.assert_array_equal(y.array, np.broadcast_to(np.array([[1], [-2]], np.float32), (4, 2, 3)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", [(5, 6), (3, 4, 5)])
def test_channels_last_in_channels_last_out(size, dtype, training, namespace, rng):
    plain = rng.standard_normal((2, 3, *size)).astype(getattr(kdl, dtype))
    x = kdl.Tensor(np.moveaxis(np.moveaxis(plain, 1, -1).copy(), -1, 1), requires_grad=True)
    running = kdl.Tensor(np.zeros(3, np.float32)), kdl.Tensor(np.ones(3, np.float32))
    y = F.batch_norm(x, *running, training=training)
    gx, *_ = y.grad_fn.backward(np.ones(y.shape, plain.dtype), (True, False, False, False, False))
    for array in (y.array, gx):
        assert np.moveaxis(array, 1, -1).flags.c_contiguous and not array.flags.c_contiguous


@pytest.mark.parametrize("shape", [(300, 200), (40, 30, 11, 13)])
def test_threads_change_no_bit(shape, rng):
    import numba
    x = kdl.Tensor(rng.standard_normal(shape).astype(np.float32), requires_grad=True)
    w = kdl.Tensor(rng.standard_normal(shape[1]).astype(np.float32), requires_grad=True)
    gy = kdl.Tensor(rng.standard_normal(shape).astype(np.float32))
    results, threads = [], numba.get_num_threads()
    try:
        for count in (1, threads):
            numba.set_num_threads(count)
            y = F.batch_norm(x, None, None, w, training=True)
            results.append([a.array for a in (y.detach(), *kdl.grad(y, (x, w), gy))])
    finally:
        numba.set_num_threads(threads)
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_only_where_wanted(training, namespace, rng):
    arrays = rng.standard_normal((4, 3, 5)), rng.standard_normal(3), rng.standard_normal(3)
    gy = kdl.Tensor(np.ones((4, 3, 5)))

    def gradients(*wanted):
        inputs = [kdl.Tensor(a, requires_grad=w) for a, w in zip(arrays, wanted, strict=True)]
        running = (None, None) if training else (kdl.Tensor(np.zeros(3)), kdl.Tensor(np.ones(3)))
        y = F.batch_norm(inputs[0], *running, *inputs[1:], training)
        return [g.array for g in kdl.grad(y, [a for a in inputs if a.requires_grad], gy)]
    for together, alone in zip(gradients(True, True, True), (gradients(True, False, False),
                               gradients(False, True, False), gradients(False, False, True)), strict=True):
        np.testing.assert_array_equal(alone[0], together)


# --- what is refused, as torch does ---
def ones(*shape, dtype="float64"):
    return kdl.Tensor(np.ones(shape, dtype))


def torch_ones(*shape, dtype="float64"):
    return torch.ones(shape, dtype=getattr(torch, dtype))


@pytest.mark.parametrize("call, error, words", [
    (lambda f, ones: f(ones(3), ones(3), ones(3)), ValueError, r"input of shape \(N, C\) or \(N, C, ...\)"),
    (lambda f, ones: f(ones(2, 3), None, None), ValueError, "running_mean and running_var in inference"),
    (lambda f, ones: f(ones(2, 3), ones(3), None), ValueError, "in inference, got running_mean .3,., running_var None"),
    (lambda f, ones: f(ones(2, 3), ones(3), None, training=True), ValueError, "or neither"),
    (lambda f, ones: f(ones(2, 3), ones(4), ones(3)), ValueError,
     r"running_mean.shape == \(input.shape\[1\],\), got running_mean \(4,\), input \(2, 3\)"),
    (lambda f, ones: f(ones(2, 3), ones(3), ones(1, 3)), ValueError, "running_var.shape"),
    (lambda f, ones: f(ones(2, 3), ones(3), ones(3), ones(2)), ValueError, "weight.shape"),
    (lambda f, ones: f(ones(2, 3), ones(3), ones(3), None, ones(4)), ValueError, "bias.shape"),
    (lambda f, ones: f(ones(1, 3), None, None, training=True), ValueError, "more than one value per channel"),
    (lambda f, ones: f(ones(1, 3, 1, 1), None, None, training=True), ValueError, r"got input \(1, 3, 1, 1\)"),
    (lambda f, ones: f(ones(2, 3), None, None, training=True, eps=0), ValueError, "eps > 0, got eps 0"),
    (lambda f, ones: f(ones(2, 3), ones(3), ones(3), eps=-1e-5), ValueError, "eps > 0, got eps -1e-05"),
    (lambda f, ones: f(ones(2, 3), None, None, training=True, momentum=None), TypeError, "momentum to be a number"),
    (lambda f, ones: f(ones(2, 3), ones(3).requires_grad_(), ones(3)), ValueError, "running_mean without gradient"),
    (lambda f, ones: f(ones(2, 3, dtype="int64"), ones(3), ones(3)), TypeError, "floating-point input, got int64"),
    (lambda f, ones: f(ones(2, 3), ones(3), ones(3), np.ones(3)), TypeError, "weight to be a Tensor or None"),
    (lambda f, ones: f(ones(2, 3), ones(3, dtype="float32"), ones(3, dtype="float32")), TypeError,
     "of one dtype, the input's, or float32 for float16 and bfloat16, got input float64, running_mean float32"),
    (lambda f, ones: f(ones(2, 3, dtype="float32"), ones(3), ones(3)), TypeError, "of one dtype"),
    (lambda f, ones: f(ones(2, 3, dtype="float16"), ones(3, dtype="float16"), ones(3, dtype="float32")),
     TypeError, "of one dtype"),
])
def test_refuses(call, error, words):
    with pytest.raises(error, match=f"batch_norm: expected.*{words}"):
        call(F.batch_norm, ones)
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        call(TF.batch_norm, torch_ones)


def test_inference_with_eps_zero_is_allowed(namespace, rng):
    x = rng.standard_normal((2, 3))
    y = F.batch_norm(kdl.Tensor(x), kdl.Tensor(np.zeros(3)), kdl.Tensor(np.full(3, 4.0)), eps=0)
    np.testing.assert_allclose(y.array, x / 2, rtol=1e-15)
