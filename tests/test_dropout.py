"""Dropout where it is random: how often, how much, what is shared by a channel, and that backward drops the same."""
import math

import numpy as np
import pytest

import kdl
import kdl.nn.functional as F
from kdl.ops.dropout import kept
from tests.optable import TOLERANCE

CHANNELS = [(F.dropout1d, (50, 40, 3)), (F.dropout1d, (900, 3)), (F.dropout2d, (50, 40, 2, 3)),
            (F.dropout2d, (50, 40, 3)), (F.dropout3d, (50, 40, 1, 2, 3)), (F.dropout3d, (900, 1, 2, 3)),
            (F.feature_alpha_dropout, (50, 40)), (F.feature_alpha_dropout, (50, 40, 2, 3))]
EVERY = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)
LOWEST = -1.7580993408473766


@pytest.fixture(autouse=True)
def seeded():
    kdl.manual_seed(0)


def of_ndim(function):
    """A tensor that the function accepts."""
    return kdl.ones(2, 3, 4, 2, 2) if function is F.dropout3d else kdl.ones(2, 3, 4)


@pytest.mark.parametrize("p", [0.5, 0.1, 1 / 3, 1e-4, 0.99999])
def test_elements_are_dropped_with_probability_p(p):
    n = 1 << 20
    mask = kept(np.empty(n), p)
    assert abs((n - mask.sum()) - n * p) < 6 * math.sqrt(n * p * (1 - p))


def test_probability_is_not_rounded_to_the_bits_drawn():
    p = 0.4 / 65536
    dropped = sum((~kept(np.empty(1 << 20), p)).sum() for _ in range(64))
    assert abs(dropped - (p * 2**26)) < 6 * math.sqrt(p * 2**26)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dropout_scales_what_it_keeps(rng, dtype):
    x = kdl.tensor(rng.standard_normal((60, 70)) + 5, dtype=getattr(kdl, dtype), requires_grad=True)
    y = F.dropout(x, 0.2)
    assert y.dtype == x.dtype
    kept = y.detach().array != 0
    expected = x.detach().array.astype(np.float64) / 0.8
    np.testing.assert_allclose(y.detach().array[kept].astype(np.float64), expected[kept], rtol=TOLERANCE[dtype])
    y.backward(kdl.ones_like(y))
    np.testing.assert_array_equal(x.grad.array != 0, kept)
    np.testing.assert_array_equal(x.grad.array[kept], np.asarray(1.25, x.dtype))


def test_elements_are_independent():
    a, b = kept(np.empty((2, 1 << 18)), 0.3)
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.015
    assert abs(np.corrcoef(a[1:], a[:-1])[0, 1]) < 0.015


@pytest.mark.parametrize("function, shape", CHANNELS)
def test_channels_are_dropped_whole(function, shape):
    y = function(kdl.ones(*shape), 0.3, True).array
    ndim = len(shape) - {F.dropout1d: 1, F.dropout3d: 3}.get(function, len(shape) - 2)
    planes = y.reshape(math.prod(shape[:ndim]), -1)
    np.testing.assert_array_equal(planes, np.repeat(planes[:, :1], planes.shape[1], 1))
    dropped = (planes[:, 0] < 0.9).mean()
    assert len(np.unique(planes)) == 2 and abs(dropped - 0.3) < 6 * math.sqrt(0.21 / len(planes))


@pytest.mark.parametrize("p", [0.2, 0.7])
def test_alpha_dropout_keeps_mean_and_variance(rng, p):
    x = rng.standard_normal(1 << 20)
    y = F.alpha_dropout(kdl.tensor(x), p, True).array
    assert abs(y.mean()) < 0.01 and abs(y.std() - 1) < 0.01


def test_alpha_dropout_is_affine_in_what_it_keeps(rng):
    p = 0.3
    scale = ((1 - p) * (1 + p * LOWEST**2))**-0.5
    x = kdl.tensor(rng.standard_normal(500), requires_grad=True)
    y = F.alpha_dropout(x, p, True)
    kept = scale * x.detach().array - scale * p * LOWEST
    dropped = scale * LOWEST * (1 - p)
    mask = np.abs(y.detach().array - dropped) > 1e-9
    np.testing.assert_allclose(y.detach().array, np.where(mask, kept, dropped), rtol=1e-12, atol=1e-12)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.array, mask * scale, rtol=1e-12)


@pytest.mark.parametrize("function", EVERY)
def test_a_seed_gives_the_same_mask(function):
    x = of_ndim(function)
    kdl.manual_seed(3)
    first, other = function(x, 0.5, True), function(x, 0.5, True)
    kdl.manual_seed(3)
    np.testing.assert_array_equal(function(x, 0.5, True).array, first.array)
    assert function is not F.dropout or not np.array_equal(first.array, other.array)


def test_in_place_writes_into_the_input(rng):
    x = kdl.tensor(rng.standard_normal((8, 9)))
    memory = x.array
    assert F.dropout(x, 0.5, inplace=True) is x and x.array is memory and (memory == 0).any()
    leaf = kdl.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        F.dropout(leaf, 0.5, inplace=True)


def test_evaluation_returns_the_input_itself():
    x = kdl.ones(3)
    assert F.dropout(x, 0.5, training=False) is x and F.dropout(x, 0.0) is x and F.alpha_dropout(x) is x


def test_nan_and_inf_are_not_hidden():
    x = kdl.tensor([math.nan, math.inf])
    assert np.isnan(F.dropout(x, 1.0).array).all()
    y = F.dropout(x, 0.5).array
    assert np.isnan(y[0]) and not np.isfinite(y[1])


def test_a_half_is_dropped_to_zero_where_the_scale_overflows():
    y = F.dropout(kdl.ones(4000, dtype=kdl.float16), 0.99999).array
    assert (y == 0).sum() > 3900 and not np.isnan(y).any()


@pytest.mark.parametrize("function", EVERY)
@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_p_outside_its_range_is_refused(function, p):
    with pytest.raises(ValueError, match=rf"{function.__name__}: expected p in \[0, 1\], got p {p}"):
        function(of_ndim(function), p)


@pytest.mark.parametrize("function, shape", [
    (F.dropout1d, (4,)), (F.dropout1d, (2, 3, 4, 5)), (F.dropout2d, (3, 4)), (F.dropout2d, (2, 3, 4, 5, 6)),
    (F.dropout3d, (2, 3, 4)), (F.feature_alpha_dropout, (4,))])
def test_ranks_without_channels_are_refused(function, shape):
    with pytest.raises(ValueError, match=rf"{function.__name__}: expected a tensor of .* dimensions"):
        function(kdl.ones(*shape), 0.5)


def test_other_than_floating_point_tensors_are_refused():
    with pytest.raises(TypeError, match="dropout: expected a floating-point input"):
        F.dropout(kdl.ones(3, dtype=kdl.int64))
    with pytest.raises(TypeError, match="dropout: expected input to be a Tensor"):
        F.dropout(np.ones(3))


# --- torch's masks ---
def layouts(library, x):
    x = library.tensor(x)
    return {"rows": x, "columns": x.transpose(1, 3), "channels last": x.to(memory_format=library.channels_last)}


DRAWN = {"dropout": (), "dropout2d": (), "alpha_dropout": (True,), "feature_alpha_dropout": (True,)}


@pytest.mark.parametrize("layout", ["rows", "columns", "channels last"])
@pytest.mark.parametrize("p", [0.5, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("name", DRAWN)
def test_masks_are_torchs(rng, name, p, layout):
    x, y = rng.standard_normal((4, 6, 5, 7)).astype(np.float32), []
    for library in (kdl, pytest.importorskip("torch", reason="compared with torch: pip install 'kdl-kernels[test]'")):
        library.manual_seed(8)
        y.append(getattr(library.nn.functional, name)(layouts(library, x)[layout], p, *DRAWN[name]).numpy())
    np.testing.assert_allclose(*y, rtol=0 if "alpha" not in name else 1e-6, atol=0 if "alpha" not in name else 1e-6)


@pytest.mark.parametrize("run", [
    lambda lib, x: lib.nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=0.3),
    lambda lib, x: lib.nn.functional.rrelu(x, training=True),
    lambda lib, x: lib.nn.functional.gumbel_softmax(x, dim=1),
    lambda lib, x: lib.nn.functional.fractional_max_pool2d(x, 2, 3),
    lambda lib, x: lib.nn.LSTM(7, 4, 2, dropout=0.4)(x[0])[0].detach(),
    lambda lib, x: lib.nn.MultiheadAttention(7, 1, 0.4)(x[0], x[0], x[0])[0].detach()],
    ids=["attention", "rrelu", "gumbel_softmax", "fractional_max_pool2d", "LSTM", "MultiheadAttention"])
def test_what_else_is_random_is_torchs(rng, run):
    x, y = rng.standard_normal((4, 6, 5, 7)).astype(np.float32), []
    for library in (kdl, pytest.importorskip("torch", reason="compared with torch: pip install 'kdl-kernels[test]'")):
        library.manual_seed(8)
        y.append(run(library, library.tensor(x)).numpy())
        y.append(library.rand(1).numpy())
    np.testing.assert_allclose(y[0], y[2], rtol=1e-5, atol=1e-6)
    assert y[1] == y[3]
