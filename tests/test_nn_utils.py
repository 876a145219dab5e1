"""Clipping gradients, parameters as one vector, and parametrizations, against torch's."""
import copy
import pickle

import numpy as np
import pytest

import kdl
from kdl import nn
from kdl.nn import utils
from kdl.ops.linalg import solve

torch = pytest.importorskip("torch", reason="compared with torch: pip install 'kdl-kernels[test]'")


def pair(scale=1.0, dtype=np.float64):
    """The same parameters with gradients, one of them without, for kdl and torch."""
    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for shape in ((3, 4), (5,), (), (2, 2)):
        array, grad = (np.asarray(factor * rng.standard_normal(shape), dtype) for factor in (1, scale))
        ours.append(nn.Parameter(array))
        theirs.append(torch.from_numpy(array.copy()).requires_grad_())
        if shape != (2, 2):
            ours[-1].grad = kdl.Tensor(grad)
            theirs[-1].grad = torch.from_numpy(grad.copy())
    return ours, theirs


def assert_same_gradients(ours, theirs, rtol=1e-12):
    for p, q in zip(ours, theirs, strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            np.testing.assert_allclose(p.grad.array, q.grad.numpy(), rtol=rtol)


@pytest.mark.parametrize("norm_type", [2, 1, 3.5, float("inf")])
@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_clip_grad_norm(norm_type, scale):
    ours, theirs = pair(scale)
    a = utils.clip_grad_norm_(ours, 1.0, norm_type)
    b = torch.nn.utils.clip_grad_norm_(theirs, 1.0, norm_type)
    np.testing.assert_allclose(a.array, b.numpy(), rtol=1e-12)
    assert a.array.dtype == np.float64 and a.shape == ()
    assert_same_gradients(ours, theirs)


def test_clip_grad_norm_in_float32_and_halves():
    ours, theirs = pair(10, np.float32)
    norm = torch.nn.utils.clip_grad_norm_(theirs, 2.0)
    np.testing.assert_allclose(utils.clip_grad_norm_(ours, 2.0).array, norm.numpy(), 1e-6)
    assert_same_gradients(ours, theirs, 1e-6)
    p = nn.Parameter(np.zeros(70000, np.float16))
    p.grad = kdl.Tensor(np.full(70000, 10, np.float16))  # the sum of squares does not fit into float16
    assert abs(float(utils.clip_grad_norm_(p, 1.0)) - 10 * 70000**0.5) < 1
    np.testing.assert_allclose(p.grad.array.astype(float), 70000**-0.5, rtol=1e-2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_gradients_that_are_not_finite(bad):
    for refuse in (False, True):
        ours, theirs = pair()
        ours[0].grad.array[0, 0] = bad
        theirs[0].grad[0, 0] = bad
        if refuse:
            with pytest.raises(RuntimeError, match="norm of the gradients is"):
                utils.clip_grad_norm_(ours, 1.0, error_if_nonfinite=True)
        else:
            utils.clip_grad_norm_(ours, 1.0)
            torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        assert_same_gradients(ours, theirs)


def test_one_parameter_none_and_no_gradients():
    p = nn.Parameter(np.ones(4))
    assert float(utils.clip_grad_norm_(p, 1.0)) == 0
    assert float(utils.clip_grad_norm_([], 1.0)) == 0
    p.grad = kdl.Tensor(np.ones(4))
    before = p.grad.version[0]
    assert float(utils.clip_grad_norm_(p, 1.0)) == 2
    assert p.grad.version[0] > before
    ours, theirs = pair()
    assert float(utils.clip_grad_norm_((p for p in ours), 1.0)) == pytest.approx(
        float(torch.nn.utils.clip_grad_norm_((p for p in theirs), 1.0)))


@pytest.mark.parametrize("norm_type", [2, 1, float("inf")])
def test_norms_first_and_clipping_later(norm_type):
    ours, theirs = pair(10.0)
    norm = utils.get_total_norm([p.grad for p in ours if p.grad is not None], norm_type)
    expected = torch.nn.utils.get_total_norm([p.grad for p in theirs if p.grad is not None], norm_type)
    np.testing.assert_allclose(norm.array, expected.numpy(), rtol=1e-12)
    utils.clip_grads_with_norm_(ours, 0.5, norm)
    torch.nn.utils.clip_grads_with_norm_(theirs, 0.5, expected)
    assert_same_gradients(ours, theirs)
    assert float(utils.get_total_norm([])) == 0
    with pytest.raises(RuntimeError, match="get_total_norm: the norm"):
        utils.get_total_norm([kdl.tensor([float("inf")])], error_if_nonfinite=True)


def test_clip_grad_value():
    ours, theirs = pair()
    utils.clip_grad_value_(ours, 0.5)
    torch.nn.utils.clip_grad_value_(theirs, 0.5)
    assert_same_gradients(ours, theirs)


def test_vectors():
    ours, theirs = pair()
    vector = utils.parameters_to_vector(ours)
    np.testing.assert_array_equal(vector.detach().array, torch.nn.utils.parameters_to_vector(theirs).detach().numpy())
    vector.sum().backward()
    np.testing.assert_array_equal(ours[3].grad.array, np.ones((2, 2)))
    utils.vector_to_parameters(kdl.Tensor(np.arange(22.0)), ours)
    np.testing.assert_array_equal(ours[3].array, [[18, 19], [20, 21]])
    assert ours[2].array == 17 and ours[0].is_leaf
    with pytest.raises(ValueError, match="as many elements as the parameters have, got vec 5, parameters 22"):
        utils.vector_to_parameters(kdl.Tensor(np.arange(5.0)), ours)


# --- parametrizations ---
LAYERS = {"linear": ("Linear", (5, 4), (3, 5)), "wide": ("Linear", (4, 5), (3, 4)),
          "square": ("Linear", (4, 4), (3, 4)),
          "conv": ("Conv2d", (2, 3, 3), (2, 2, 5, 5)), "transposed": ("ConvTranspose1d", (3, 2, 2), (2, 3, 4)),
          "norm": ("LayerNorm", (4,), (3, 4)), "batch": ("Bilinear", (3, 2, 4), (5, 3))}


def as_torch(state):
    return {key: torch.from_numpy(np.array(value.array)) for key, value in state.items()}


def as_kdl(state):
    return {key: kdl.Tensor(value.detach().numpy().copy()) for key, value in state.items()}


def same_layers(name, wrap):
    """A layer of kdl and one of torch, both wrapped, with torch's state, and an input for them."""
    layer, arguments, shape = LAYERS[name]
    torch.manual_seed(3)
    theirs = getattr(torch.nn, layer)(*arguments, dtype=torch.float64) if layer != "LayerNorm" else (
        torch.nn.LayerNorm(*arguments).double())
    ours = getattr(nn, layer)(*arguments).double()
    with torch.no_grad():
        for p in theirs.parameters():
            p.normal_()
    ours.load_state_dict(as_kdl(theirs.state_dict()))
    wrap(ours, utils)
    wrap(theirs, torch.nn.utils)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(as_kdl(theirs.state_dict()))
    return ours, theirs, np.random.default_rng(1).standard_normal(shape)


def assert_trains_the_same(ours, theirs, x, steps=3, tolerance=1e-9):
    a = kdl.optim.SGD(ours.parameters(), lr=0.1, momentum=0.9)
    b = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    for training in [True] * steps + [False]:
        for module, optimizer, tensor in ((ours, a, kdl.Tensor(x)), (theirs, b, torch.from_numpy(x))):
            module.train(training)
            optimizer.zero_grad()
            (module(tensor) ** 2).mean().backward()
            optimizer.step()
        for key, value in theirs.state_dict().items():
            np.testing.assert_allclose(ours.state_dict()[key].array, value.numpy(), rtol=tolerance, atol=tolerance,
                                       err_msg=key)
    np.testing.assert_allclose(ours.weight.detach().array, theirs.weight.detach().numpy(), tolerance, tolerance)


@pytest.mark.parametrize("name, dim", [("linear", 0), ("linear", 1), ("linear", None), ("conv", 0), ("conv", 2),
                                       ("transposed", 1), ("conv", -1), ("norm", 0)])
@pytest.mark.parametrize("older", [False, True])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weight_norm_is_torchs(name, dim, older):
    ours, theirs, x = same_layers(name, lambda layer, u: (u if older else u.parametrizations).weight_norm(
        layer, "weight", dim))
    assert older or repr(ours) == repr(theirs)
    assert_trains_the_same(ours, theirs, x)
    for layer, u in ((ours, utils), (theirs, torch.nn.utils)):
        u.remove_weight_norm(layer) if older else u.parametrize.remove_parametrizations(layer, "weight")
    np.testing.assert_allclose(ours.weight.detach().array, theirs.weight.detach().numpy(), rtol=1e-9)
    assert list(ours.state_dict()) == list(theirs.state_dict()) and type(ours) is getattr(nn, LAYERS[name][0])
    assert isinstance(ours.weight, nn.Parameter)


@pytest.mark.parametrize("name, options", [("linear", {}), ("conv", {"n_power_iterations": 3}), ("transposed", {}),
                                           ("conv", {"dim": 1, "eps": 1e-6})])
@pytest.mark.parametrize("older", [False, True])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_spectral_norm_is_torchs(name, options, older):
    ours, theirs, x = same_layers(name, lambda layer, u: (u if older else u.parametrizations).spectral_norm(
        layer, **options))
    assert older or repr(ours) == repr(theirs)
    assert_trains_the_same(ours, theirs, x)
    if older:
        assert repr(utils.remove_spectral_norm(ours)) == repr(torch.nn.utils.remove_spectral_norm(theirs))
    else:
        ours.eval()
        original, now = ours.parametrizations.weight.original, ours.weight.detach().array
        utils.parametrize.remove_parametrizations(ours, "weight")
        assert ours.weight is original
        np.testing.assert_array_equal(ours.weight.detach().array, now)


def test_spectral_norm_finds_the_largest_singular_value():
    layer = utils.parametrizations.spectral_norm(nn.Linear(20, 30), n_power_iterations=30)
    assert np.linalg.norm(layer.weight.detach().array, 2) == pytest.approx(1, abs=1e-3)
    vector = utils.parametrizations.spectral_norm(nn.LayerNorm(4))
    np.testing.assert_allclose(vector.weight.detach().array, 0.5)


@pytest.mark.parametrize("name", ["linear", "wide", "square", "batch"])
@pytest.mark.parametrize("trivial", [True, False])
@pytest.mark.parametrize("way", [None, "matrix_exp", "cayley", "householder"])
def test_orthogonal_is_torchs(name, way, trivial):
    ours, theirs, x = same_layers(name, lambda layer, u: u.parametrizations.orthogonal(
        layer, "weight", way, use_trivialization=trivial))
    if name == "batch":
        np.testing.assert_allclose(ours.weight.detach().array, theirs.weight.detach().numpy(), rtol=1e-9, atol=1e-9)
        return
    assert_trains_the_same(ours, theirs, x)
    q = ours.weight.detach().array
    gram = q @ q.T if q.shape[0] < q.shape[1] else q.T @ q
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-9)
    if trivial or way == "householder" or (way is None and name != "square"):
        value = np.linalg.qr(np.random.default_rng(5).standard_normal((5, 5)))[0][:q.shape[0], :q.shape[1]]
        if value.shape[0] == value.shape[1]:
            value = np.linalg.qr(value)[0]
        ours.weight = kdl.Tensor(value)
        np.testing.assert_allclose(ours.weight.detach().array, value, atol=1e-9)


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).mT

    def right_inverse(self, a):
        return a.triu()


class Twice(nn.Module):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return 2 * x


def test_several_parametrizations_in_a_row():
    parametrize, layer = utils.parametrize, nn.Linear(3, 3)
    original = layer.weight
    optimizer = kdl.optim.SGD(layer.parameters(), lr=0.1)
    assert parametrize.register_parametrization(layer, "weight", Symmetric()) is layer
    assert layer.parametrizations.weight.original is original
    twice = Twice()
    parametrize.register_parametrization(layer, "weight", twice)
    parametrize.register_parametrization(layer, "bias", Twice())
    assert parametrize.is_parametrized(layer) and parametrize.is_parametrized(layer, "bias")
    assert not parametrize.is_parametrized(nn.Linear(2, 2)) and not parametrize.is_parametrized(layer, "other")
    assert type(layer).__name__ == "ParametrizedLinear" and isinstance(layer, nn.Linear)
    assert parametrize.type_before_parametrizations(layer) is nn.Linear
    w = layer.weight.detach().array
    np.testing.assert_array_equal(w, w.T)
    layer(kdl.ones(1, 3)).sum().backward()
    optimizer.step()
    twice.calls = 0
    with parametrize.cached():
        assert layer.weight is layer.weight
    assert twice.calls == 1 and layer.weight is not layer.weight
    with pytest.raises(RuntimeError, match="Twice does not implement right_inverse"):
        layer.weight = kdl.ones(3, 3)
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    assert layer.weight is original and type(layer).__name__ == "ParametrizedLinear"
    parametrize.remove_parametrizations(layer, "bias")
    assert type(layer) is nn.Linear and list(layer.state_dict()) == ["weight", "bias"]


def test_a_parametrized_module_is_copied_pickled_and_moved():
    layer = utils.parametrizations.weight_norm(nn.Linear(3, 2))
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        utils.parametrize.remove_parametrizations(other, "weight")
        assert type(other) is nn.Linear
        np.testing.assert_allclose(other.weight.detach().array, layer.weight.detach().array, rtol=1e-6)
    assert layer.double().weight.dtype == kdl.float64
    layer.weight = kdl.ones(2, 3, dtype=kdl.float64)
    np.testing.assert_allclose(layer.parametrizations.weight.original0.detach().array, 3**0.5)


@pytest.mark.parametrize("error, message, call", [
    (ValueError, "a parameter or buffer 'w', got module Linear",
     lambda: utils.parametrize.register_parametrization(nn.Linear(2, 3), "w", Twice())),
    (ValueError, r"a tensor of shape \(3, 2\), or unsafe=True, got result \(2, 3\)",
     lambda: utils.parametrize.register_parametrization(nn.Linear(2, 3), "weight", Turned())),
    (ValueError, "a parametrization on 'weight'",
     lambda: utils.parametrize.remove_parametrizations(nn.Linear(2, 3), "weight")),
    (ValueError, "leave_parametrized=True", lambda: utils.parametrize.remove_parametrizations(
        utils.parametrizations.weight_norm(nn.Linear(2, 3)), "weight", False)),
    (ValueError, "n_power_iterations > 0", lambda: utils.parametrizations.spectral_norm(nn.Linear(2, 3), "weight", 0)),
    (IndexError, "dim in", lambda: utils.parametrizations.spectral_norm(nn.Linear(2, 3), dim=2)),
    (ValueError, "orthogonal_map one of", lambda: utils.parametrizations.orthogonal(nn.Linear(2, 3), "weight", "qr")),
    (ValueError, "a matrix", lambda: utils.parametrizations.orthogonal(nn.Linear(2, 3), "bias")),
    (ValueError, "weight_norm on 'weight'", lambda: utils.remove_weight_norm(nn.Linear(2, 3))),
    (ValueError, "no other weight_norm", lambda: utils.weight_norm(utils.weight_norm(nn.Linear(2, 3)))),
])
def test_parametrizations_that_are_refused(error, message, call):
    with pytest.raises(error, match=message):
        call()


class Turned(nn.Module):
    def forward(self, x):
        return x.mT


def test_solving_systems():
    rng = np.random.default_rng(0)
    for a, b in (((3, 3), (3, 2)), ((2, 3, 3), (3, 2)), ((3, 3), (3,)), ((2, 3, 3), (2, 3))):
        a, b = rng.standard_normal(a), rng.standard_normal(b)
        x, y = (kdl.Tensor(v, requires_grad=True) for v in (a, b))
        p, q = (torch.from_numpy(v.copy()).requires_grad_() for v in (a, b))
        ours, theirs = solve(x, y), torch.linalg.solve(p, q)
        np.testing.assert_allclose(ours.detach().array, theirs.detach().numpy(), rtol=1e-9)
        (ours * ours).sum().backward()
        (theirs * theirs).sum().backward()
        np.testing.assert_allclose(x.grad.array, p.grad.numpy(), rtol=1e-8)
        np.testing.assert_allclose(y.grad.array, q.grad.numpy(), rtol=1e-8)
    with pytest.raises(ValueError, match="solve: expected A"):
        solve(kdl.ones(2, 3), kdl.ones(2, 2))


# --- fusion ---
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["Conv2d", "ConvTranspose2d", "Linear"])
def test_a_layer_and_its_batch_normalization_become_one(kind, bias, affine):
    rng = np.random.default_rng(0)
    sizes, shape = ((3, 4), (5, 3)) if kind == "Linear" else ((3, 4, 2), (2, 3, 5, 5))
    ours = getattr(nn, kind)(*sizes, bias=bias).double(), getattr(nn, f"BatchNorm{len(shape) - 2 or 1}d")(
        4, affine=affine).double()
    for tensor in (*ours[1].parameters(), ours[1].running_mean, ours[1].running_var):
        tensor.array[...] = rng.uniform(0.5, 2, 4)
    layer, bn = (m.eval() for m in ours)
    x = kdl.Tensor(rng.standard_normal(shape))
    if kind == "Linear":
        fused = utils.fuse_linear_bn_eval(layer, bn)
    else:
        fused = utils.fuse_conv_bn_eval(layer, bn, transpose=kind != "Conv2d")
    np.testing.assert_allclose(fused(x).detach().array, bn(layer(x)).detach().array, rtol=1e-10, atol=1e-12)
    assert fused.weight.requires_grad and (layer.bias is None) is not bias
    with pytest.raises(ValueError, match="both in evaluation mode"):
        utils.fuse_conv_bn_eval(layer, bn.train())


def test_fused_weights_are_torchs():
    arrays = [np.random.default_rng(i).uniform(0.5, 2, shape) for i, shape in enumerate(((4, 3, 2, 2), *[(4,)] * 5))]
    (w, b, mean, variance, scale, shift), results = arrays, []
    for make, call in ((kdl.Tensor, utils.fuse_conv_bn_weights),
                       (torch.from_numpy, torch.nn.utils.fuse_conv_bn_weights)):
        fused = call(*map(make, (w, b, mean, variance)), 1e-3, *map(make, (scale, shift)))
        results.append([x.detach().numpy() for x in fused])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
