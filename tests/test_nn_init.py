"""First values: bounds and variances against the formulae, and torch's defaults for every layer."""
import math

import numpy as np
import pytest

import kdl
from kdl import nn
from kdl.nn import init

torch = pytest.importorskip("torch", reason="defaults are compared with torch: pip install 'kdl-kernels[test]'")

BIG = (120, 50, 3, 3)
FAN_IN, FAN_OUT = 50 * 9, 120 * 9


def filled(function, *args, shape=BIG, seed=1, dtype=kdl.float64, **kwargs):
    p = nn.Parameter(np.full(shape, np.nan, dtype))
    before = p.version[0]
    result = getattr(init, function)(p, *args, **kwargs) if "generator" in kwargs or seed is None else getattr(
        init, function)(p, *args, generator=kdl.Generator().manual_seed(seed), **kwargs)
    assert result is p and p.requires_grad and p.is_leaf and p.version[0] > before
    return p.array


def assert_uniform(array, bound, low=None):
    """Mean and variance within five standard errors, and extremes close to the bounds but not beyond."""
    low = -bound if low is None else low
    width, n = bound - low, array.size
    assert low <= array.min() < low + 20 * width / n and bound - 20 * width / n < array.max() <= bound
    assert abs(array.mean() - (low + bound) / 2) < 5 * width / math.sqrt(12 * n)
    assert abs(array.var() / (width**2 / 12) - 1) < 5 * math.sqrt(0.8 / n)


def assert_normal(array, std, mean=0.0):
    n = array.size
    assert abs(array.mean() - mean) < 5 * std / math.sqrt(n)
    assert abs(array.var() / std**2 - 1) < 5 * math.sqrt(2 / n)
    assert 3 < np.abs(array - mean).max() / std < 6.5


def test_uniform_and_normal():
    assert_uniform(filled("uniform_", -0.3, 2.0), 2.0, -0.3)
    assert_uniform(filled("uniform_"), 1.0, 0.0)
    assert_normal(filled("normal_", 3.0, 0.2), 0.2, 3.0)
    assert_normal(filled("normal_"), 1.0)


def test_xavier():
    assert_uniform(filled("xavier_uniform_", 2.0), 2 * math.sqrt(6 / (FAN_IN + FAN_OUT)))
    assert_normal(filled("xavier_normal_", 0.5), 0.5 * math.sqrt(2 / (FAN_IN + FAN_OUT)))


@pytest.mark.parametrize("mode, fan", [("fan_in", FAN_IN), ("fan_out", FAN_OUT)])
@pytest.mark.parametrize("nonlinearity, a, gain", [("relu", 0, math.sqrt(2)), ("leaky_relu", 0.2, math.sqrt(2 / 1.04)),
                                                   ("tanh", 0, 5 / 3)])
def test_kaiming(mode, fan, nonlinearity, a, gain):
    assert_uniform(filled("kaiming_uniform_", a, mode, nonlinearity), gain * math.sqrt(3 / fan))
    assert_normal(filled("kaiming_normal_", a, mode, nonlinearity), gain / math.sqrt(fan))


@pytest.mark.parametrize("mean, std, a, b", [(0, 1, -2, 2), (0, 1, 1, 4), (5, 2, -2, 3), (0, 1, 8, 9), (0, 0.02, -2, 2),
                                             (1, 1, 0.9, 1.0)])
def test_trunc_normal(mean, std, a, b):
    from scipy import stats
    x = filled("trunc_normal_", mean, std, a, b, shape=(20000,))
    expected = stats.truncnorm((a - mean) / std, (b - mean) / std, mean, std)
    assert a <= x.min() and x.max() <= b
    assert stats.kstest(x, expected.cdf).pvalue > 1e-4


def test_constants():
    assert (filled("constant_", 0.3, seed=None) == 0.3).all()
    assert (filled("ones_", seed=None) == 1).all() and (filled("zeros_", seed=None) == 0).all()
    np.testing.assert_array_equal(filled("eye_", shape=(3, 5), seed=None), np.eye(3, 5))


@pytest.mark.parametrize("shape", [(6, 2, 3), (4, 4, 3, 2), (6, 3, 1, 4, 5)])
@pytest.mark.parametrize("groups", [1, 2])
def test_dirac_is_torchs(shape, groups):
    theirs = torch.nn.init.dirac_(torch.empty(shape), groups)
    np.testing.assert_array_equal(filled("dirac_", groups, shape=shape, seed=None), theirs.numpy())


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (4, 2, 3, 3), (20, 2, 3)])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_orthogonal(shape, dtype):
    q = filled("orthogonal_", 2.0, shape=shape, dtype=getattr(kdl, dtype)).astype(np.float64).reshape(shape[0], -1) / 2
    q = q if q.shape[0] <= q.shape[1] else q.T
    tolerance = {"float64": 1e-13, "float32": 1e-6, "float16": 3e-3}[dtype]
    np.testing.assert_allclose(q @ q.T, np.eye(len(q)), atol=tolerance)


def test_orthogonal_has_no_preferred_sign():
    corner = [filled("orthogonal_", shape=(3, 3), seed=seed)[0, 0] for seed in range(200)]
    assert abs(np.mean(corner)) < 0.2


@pytest.mark.parametrize("name, param", [("linear", None), ("conv2d", None), ("sigmoid", None), ("tanh", None),
                                         ("relu", None), ("selu", None), ("leaky_relu", None), ("leaky_relu", 0.3)])
def test_gains_are_torchs(name, param):
    assert init.calculate_gain(name, param) == torch.nn.init.calculate_gain(name, param)


def test_generators_and_seeds():
    a, b = filled("normal_", seed=3), filled("normal_", seed=3)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, filled("normal_", seed=4))
    for function in ("uniform_", "normal_", "trunc_normal_", "xavier_uniform_", "kaiming_normal_", "orthogonal_"):
        kdl.manual_seed(9)
        p = nn.Parameter(np.empty((4, 3)))
        getattr(init, function)(p)
        q = nn.Parameter(np.empty((4, 3)))
        getattr(init, function)(q, generator=kdl.Generator().manual_seed(9))
        np.testing.assert_array_equal(p.array, q.array, err_msg=function)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_other_dtypes(dtype):
    dtype = getattr(kdl, dtype)
    for function in ("uniform_", "normal_", "trunc_normal_", "xavier_uniform_", "kaiming_normal_"):
        x = filled(function, dtype=dtype, shape=(30, 40))
        assert x.dtype == dtype and np.isfinite(x.astype(np.float32)).all()


@pytest.mark.parametrize("message, call", [
    ("at least two dimensions to count", lambda i, p: i.kaiming_uniform_(p(3))),
    ("at least two dimensions", lambda i, p: i.xavier_normal_(p(3))),
    ("mode 'fan_in' or 'fan_out', got mode fan", lambda i, p: i.kaiming_normal_(p(3, 3), mode="fan")),
    ("got nonlinearity sine", lambda i, p: i.calculate_gain("sine")),
    ("number as negative slope", lambda i, p: i.calculate_gain("leaky_relu", "steep")),
    ("a 2-D tensor", lambda i, p: i.eye_(p(3))), ("3-D, 4-D or 5-D", lambda i, p: i.dirac_(p(3, 3))),
    ("groups to divide", lambda i, p: i.dirac_(p(3, 3, 3), 2)),
    ("at least two dimensions", lambda i, p: i.orthogonal_(p(3))),
])
def test_refusals_are_torchs(message, call):
    with pytest.raises(ValueError, match=message):
        call(init, lambda *shape: kdl.Tensor(np.zeros(shape)))
    with pytest.raises(ValueError):
        call(torch.nn.init, lambda *shape: torch.zeros(shape))


def test_trunc_normal_refuses_an_empty_interval():
    with pytest.raises(ValueError, match="a < b and std > 0"):
        init.trunc_normal_(kdl.Tensor(np.zeros(3)), a=1, b=1)


# --- the layers' own ---
@pytest.mark.parametrize("build, fan_in", [
    (lambda: nn.Linear(300, 200), 300), (lambda: nn.Conv1d(40, 60, 7), 280), (lambda: nn.Conv2d(20, 60, 5), 500),
    (lambda: nn.Conv2d(40, 60, 5, groups=4), 250), (lambda: nn.Conv3d(10, 40, 3), 270),
    (lambda: nn.ConvTranspose2d(60, 20, 5), 500), (lambda: nn.ConvTranspose1d(60, 40, 7, groups=2), 140),
    (lambda: nn.Bilinear(100, 20, 30), 100)])
def test_layers_start_uniform_within_the_inverse_root_of_fan_in(build, fan_in):
    kdl.manual_seed(0)
    layer = build().double()
    assert_uniform(layer.weight.array, 1 / math.sqrt(fan_in))
    assert np.abs(layer.bias.array).max() <= 1 / math.sqrt(fan_in)
    assert layer.bias.array.std() > 0.5 / math.sqrt(3 * fan_in)


def test_the_other_layers_start_as_torchs():
    for ours, theirs in ((nn.BatchNorm2d(5), torch.nn.BatchNorm2d(5)), (nn.PReLU(3), torch.nn.PReLU(3))):
        for (name, a), (_, b) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
            np.testing.assert_array_equal(a.array, b.numpy(), err_msg=name)
            assert str(a.dtype) == str(b.dtype).removeprefix("torch.")


def test_layers_without_inputs_can_be_built():
    assert nn.Linear(0, 3).bias.array.tolist() == [0, 0, 0]
    nn.Linear(3, 0)


def test_reset_parameters_draws_anew():
    layer = nn.Linear(3, 4)
    before = layer.weight.array.copy()
    layer.reset_parameters()
    assert not np.array_equal(before, layer.weight.array)
    bn = nn.BatchNorm1d(2)
    bn(kdl.Tensor(np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)))
    bn.reset_parameters()
    assert int(bn.num_batches_tracked) == 0 and not bn.running_mean.array.any()


def test_sparse_columns():
    kdl.manual_seed(0)
    w = nn.init.sparse_(kdl.empty(50, 8), 0.3, std=2.0).array
    assert ((w == 0).sum(0) == 15).all() and 1.5 < w[w != 0].std() < 2.5
    assert len({tuple(column) for column in (w == 0).T}) > 1
    with pytest.raises(ValueError, match="sparse_: expected a matrix"):
        nn.init.sparse_(kdl.empty(3), 0.5)


# --- torch's numbers ---
FILLS = {"uniform_": (-1, 2), "normal_": (1, 2), "xavier_uniform_": (), "xavier_normal_": (), "kaiming_uniform_": (),
         "kaiming_normal_": (), "orthogonal_": (2,), "trunc_normal_": (), "sparse_": (0.3,)}
LAYERS = {
    "Linear": (5, 7), "Bilinear": (3, 4, 5), "Conv1d": (2, 3, 3), "Conv2d": (2, 4, 3, 1, 1, 1, 2), "Conv3d": (2, 3, 2),
    "ConvTranspose1d": (2, 3, 3), "ConvTranspose2d": (2, 3, 3), "ConvTranspose3d": (2, 3, 3), "Embedding": (30, 4),
    "EmbeddingBag": (30, 4), "RNN": (5, 6, 2), "LSTM": (5, 6, 2), "GRU": (5, 6), "RNNCell": (5, 6),
    "LSTMCell": (5, 6), "GRUCell": (5, 6), "MultiheadAttention": (8, 2), "TransformerEncoderLayer": (8, 2, 16),
    "TransformerDecoderLayer": (8, 2, 16), "AdaptiveLogSoftmaxWithLoss": (8, 20, [5])}


def seeded(library):
    library.manual_seed(11)
    return library


@pytest.mark.parametrize("shape", [(3, 4), (40, 30), (30, 40)])
@pytest.mark.parametrize("name", FILLS)
def test_fills_are_torchs(name, shape):
    ours, theirs = [getattr(library.nn.init, name)(seeded(library).empty(*shape), *FILLS[name]).numpy()
                    for library in (kdl, torch)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("a, b", [(2, 3), (-4, -1)])
def test_truncated_tails_are_torchs(a, b):
    ours, theirs = [seeded(library).nn.init.trunc_normal_(library.empty(50, 30), 0, 1, a, b).numpy()
                    for library in (kdl, torch)]
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_start_with_torchs_numbers(name):
    ours, theirs = [dict(getattr(seeded(library).nn, name)(*LAYERS[name]).named_parameters())
                    for library in (kdl, torch)]
    assert ours.keys() == theirs.keys()
    for key, parameter in ours.items():
        np.testing.assert_allclose(parameter.detach().numpy(), theirs[key].detach().numpy(), rtol=1e-5, atol=1e-6)
