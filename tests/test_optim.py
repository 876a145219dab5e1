"""Optimisers: trajectories against torch's, states, groups, and what they refuse."""
import copy
import itertools

import numpy as np
import pytest

import kdl
from kdl import kernels, optim
from kdl.nn import Parameter

torch = pytest.importorskip("torch", reason="optimisers are compared with torch: pip install 'kdl-kernels[test]'")


@pytest.fixture
def float64_counters():
    """torch keeps NAdam's product of momenta in the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def combinations(**choices):
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


DECAYED = {"weight_decay": [0, 0.1], "maximize": [False, True]}
OPTIONS = {
    "SGD": [o for o in combinations(momentum=[0, 0.9], dampening=[0, 0.3], nesterov=[False, True], **DECAYED)
            if not o["nesterov"] or (o["momentum"] and not o["dampening"])],
    "Adam": combinations(amsgrad=[False, True], eps=[1e-8, 1e-2], **DECAYED)
    + [{"decoupled_weight_decay": True, "weight_decay": 0.3}],
    "AdamW": combinations(amsgrad=[False, True], betas=[(0.9, 0.999), (0.3, 0.5)], **DECAYED),
    "RMSprop": combinations(momentum=[0, 0.8], centered=[False, True], alpha=[0.99, 0.4], **DECAYED),
    "Adagrad": combinations(lr_decay=[0, 0.1], initial_accumulator_value=[0, 0.5], **DECAYED),
    "Adadelta": combinations(rho=[0.9, 1.0], **DECAYED),
    "Adamax": combinations(betas=[(0.9, 0.999), (0.2, 0.4)], **DECAYED),
    "NAdam": combinations(decoupled_weight_decay=[False, True], momentum_decay=[4e-3, 0.5], **DECAYED),
    "Rprop": combinations(etas=[(0.5, 1.2), (0.7, 1.5)], step_sizes=[(1e-6, 50), (0.01, 0.1)], maximize=[False, True]),
    "ASGD": combinations(t0=[1e6, 5], lambd=[1e-4, 0.1], alpha=[0.75, 0.5], **DECAYED),
    "RAdam": combinations(decoupled_weight_decay=[False, True], betas=[(0.9, 0.999), (0.5, 0.8)], **DECAYED),
}
SHAPES = [(3, 4), (5,), (), (2, 3, 2, 2)]
CASES = [pytest.param(name, options, id=f"{name}-{'-'.join(map(str, options.values()))}")
         for name, all_options in OPTIONS.items() for options in all_options]


def gradients(step, dtype):
    rng = np.random.default_rng(100 + step)
    return [np.asarray(rng.standard_normal(shape) * 10.0**rng.integers(-2, 2), dtype) for shape in SHAPES]


def starts(dtype):
    rng = np.random.default_rng(1)
    return [np.asarray(rng.standard_normal(shape), dtype) for shape in SHAPES]


def ours(dtype=np.float64):
    return [Parameter(a) for a in starts(dtype)]


def train(params, optimizer, steps, from_array, first=0):
    """Steps with gradients that depend on the step's number alone; one parameter has none at every third step."""
    for step in range(first, first + steps):
        for i, (p, g) in enumerate(zip(params, gradients(step, np.asarray(params[0].detach()).dtype), strict=True)):
            p.grad = None if i == 1 and step % 3 == 0 else from_array(g)
        optimizer.step()
    return [np.asarray(p.detach()) for p in params]


@pytest.mark.parametrize("name, options", CASES)
def test_twenty_steps_are_torchs(name, options, namespace, float64_counters):
    params, others = ours(), [torch.from_numpy(a).requires_grad_() for a in starts(np.float64)]
    mine = train(params, getattr(optim, name)(params, lr=0.05, **options), 20, kdl.Tensor)
    theirs = train(others, getattr(torch.optim, name)(others, lr=0.05, **options), 20, torch.from_numpy)
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OPTIONS)
def test_defaults_are_torchs(name):
    params, others = ours(), [torch.from_numpy(a).requires_grad_() for a in starts(np.float64)]
    mine, theirs = getattr(optim, name)(params), getattr(torch.optim, name)(others)
    assert mine.defaults.items() <= theirs.defaults.items()
    a, b = train(params, mine, 3, kdl.Tensor), train(others, theirs, 3, torch.from_numpy)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name, options", [CASES[i].values for i in range(0, len(CASES), 3)])
def test_namespace_agrees_with_reference(name, options, dtype, namespace):
    dtype = getattr(kdl, dtype)
    results = []
    for chosen in (namespace, "reference"):
        with kernels.use(chosen):
            params = ours(dtype)
            results.append(train(params, getattr(optim, name)(params, lr=0.05, **options), 4, kdl.Tensor))
    tolerance = {"float32": 2e-5, "float16": 2e-3, "bfloat16": 1.6e-2}[str(dtype)]
    for a, b in zip(*results, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", OPTIONS)
def test_large_parameters_take_the_parallel_loop(name):
    n = 131072 + 17
    results = []
    for chosen in ("cpu", "reference"):
        rng = np.random.default_rng(0)
        p = Parameter(rng.standard_normal(n))
        optimizer = getattr(optim, name)([p], lr=0.1, **({} if name == "Rprop" else {"weight_decay": 0.1}))
        with kernels.use(chosen):
            for _ in range(3):
                p.grad = kdl.Tensor(rng.standard_normal(n))
                optimizer.step()
        results.append(p.array)
    np.testing.assert_allclose(*results, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["SGD", "Adam", "Adagrad"])
def test_layout_does_not_matter(name):
    rng = np.random.default_rng(0)
    start, grads = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((4, 2, 3, 4, 5))
    last = np.moveaxis(np.moveaxis(start, 1, -1).copy(), -1, 1)
    parts = np.zeros((4, 3, 4, 5))
    parts[::2] = start
    strided = parts[::2]
    results = []
    for array in (start.copy(), last, strided):
        p = Parameter(array)
        optimizer = getattr(optim, name)([p], lr=0.1, **({"momentum": 0.9} if name == "SGD" else {}))
        for i, g in enumerate(grads):
            p.grad = kdl.Tensor(g if i % 2 else np.asfortranarray(g))
            if i == 2:
                p.array = np.ascontiguousarray(p.array)  # as Module.to(memory_format=...) does
            optimizer.step()
        results.append(p.array)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    assert not np.array_equal(strided, start), "the parameter's own memory has to change"


@pytest.mark.parametrize("name, options", [
    ("SGD", {"momentum": 0.9}), ("Adam", {"amsgrad": True}), ("AdamW", {}), ("NAdam", {}), ("RAdam", {}),
    ("RMSprop", {"centered": True, "momentum": 0.5}), ("Adagrad", {"lr_decay": 0.1}), ("Adadelta", {}), ("Adamax", {})])
def test_a_restored_optimiser_goes_on_bit_for_bit(name, options):
    params = ours()
    optimizer = getattr(optim, name)(params, lr=0.03, **options)
    train(params, optimizer, 5, kdl.Tensor)
    state = copy.deepcopy(optimizer.state_dict())
    others = [Parameter(p.array.copy()) for p in params]
    train(params, optimizer, 5, kdl.Tensor, first=5)
    restored = getattr(optim, name)(others)
    restored.load_state_dict(state)
    train(others, restored, 5, kdl.Tensor, first=5)
    for a, b in zip(params, others, strict=True):
        np.testing.assert_array_equal(a.array, b.array)


def test_states_do_not_share_memory_after_loading():
    params = ours()
    optimizer = optim.Adam(params)
    train(params, optimizer, 2, kdl.Tensor)
    other = optim.Adam(ours())
    other.load_state_dict(optimizer.state_dict())
    mine, theirs = optimizer.state[params[0]], other.state[other.param_groups[0]["params"][0]]
    assert not np.shares_memory(mine["exp_avg"].array, theirs["exp_avg"].array)


def test_the_state_has_torchs_layout():
    params, others = ours(), [torch.from_numpy(a).requires_grad_() for a in starts(np.float64)]
    mine = optim.Adam([{"params": params[:1]}, {"params": params[1:], "lr": 0.5}])
    theirs = torch.optim.Adam([{"params": others[:1]}, {"params": others[1:], "lr": 0.5}])
    train(params, mine, 4, kdl.Tensor)
    train(others, theirs, 4, torch.from_numpy)
    a, b = mine.state_dict(), theirs.state_dict()
    assert a.keys() == b.keys()
    assert [g["params"] for g in a["param_groups"]] == [g["params"] for g in b["param_groups"]]
    assert {i: s.keys() for i, s in a["state"].items()} == {i: s.keys() for i, s in b["state"].items()}
    for ours_, theirs_ in zip(a["param_groups"], b["param_groups"], strict=True):
        assert ours_.items() <= theirs_.items()

    translated = {"state": {i: {k: kdl.Tensor(v.numpy()) for k, v in s.items()} for i, s in b["state"].items()},
                  "param_groups": b["param_groups"]}
    fresh = ours()
    for p, q in zip(fresh, others, strict=True):
        p.array[...] = q.detach().numpy()
    loaded = optim.Adam([{"params": fresh[:1]}, {"params": fresh[1:]}])
    loaded.load_state_dict(translated)
    after = train(fresh, loaded, 4, kdl.Tensor, first=4)
    for x, y in zip(after, train(others, theirs, 4, torch.from_numpy, first=4), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)


def test_groups_have_their_own_options():
    params, others = ours(), [torch.from_numpy(a).requires_grad_() for a in starts(np.float64)]
    mine = optim.SGD([{"params": params[0], "lr": 0.5}, {"params": params[1:3], "weight_decay": 0.1}], lr=0.01)
    theirs = torch.optim.SGD([{"params": others[0], "lr": 0.5}, {"params": others[1:3], "weight_decay": 0.1}], lr=0.01)
    mine.add_param_group({"params": params[3], "momentum": 0.9})
    theirs.add_param_group({"params": others[3], "momentum": 0.9})
    for a, b in zip(train(params, mine, 5, kdl.Tensor), train(others, theirs, 5, torch.from_numpy), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert repr(mine).startswith("SGD (\nParameter Group 0\n    dampening: 0\n")


def test_named_parameters_keep_their_names():
    params = ours()
    optimizer = optim.SGD([(f"p{i}", p) for i, p in enumerate(params)])
    assert optimizer.param_groups[0]["param_names"] == ["p0", "p1", "p2", "p3"]
    with pytest.raises(ValueError, match="names for all parameters or for none"):
        optim.SGD([("p0", params[0]), params[1]])


def test_the_closure_runs_with_gradients_and_its_loss_comes_back():
    p = Parameter(np.array([2.0]))
    optimizer = optim.SGD([p], lr=0.5)

    def closure():
        assert kdl.is_grad_enabled()
        p.grad = kdl.Tensor(np.array([1.0]))
        return "loss"

    with kdl.no_grad():
        assert optimizer.step(closure) == "loss"
    assert p.array[0] == 1.5


def test_zero_grad():
    params = ours()
    optimizer = optim.SGD(params)
    params[0].grad = kdl.Tensor(np.ones((3, 4)))
    optimizer.zero_grad(set_to_none=False)
    assert not params[0].grad.array.any()
    optimizer.zero_grad()
    assert params[0].grad is None


def test_a_step_counts_as_a_change_in_place():
    p = Parameter(np.ones(3))
    p.grad = kdl.Tensor(np.ones(3))
    before = p.version[0]
    optim.SGD([p]).step()
    assert p.version[0] == before + 1


def test_a_tensor_as_learning_rate_counts_as_its_number():
    p = Parameter(np.ones(1))
    assert optim.SGD([p], lr=kdl.Tensor(np.array(0.25))).param_groups[0]["lr"] == 0.25


def test_torchs_choices_of_implementation_are_accepted_and_others_not():
    optim.AdamW(ours(), fused=True, foreach=None, capturable=False, differentiable=False)
    with pytest.raises(NotImplementedError, match="differentiable"):
        optim.SGD(ours(), differentiable=True)
    with pytest.raises(TypeError, match="unexpected argument 'momentun'"):
        optim.SGD(ours(), momentun=0.9)


@pytest.mark.parametrize("name, options", [
    ("SGD", {"lr": -1}), ("SGD", {"momentum": -0.1}), ("SGD", {"weight_decay": -1}),
    ("SGD", {"nesterov": True}), ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}),
    ("Adam", {"lr": -1e-3}), ("Adam", {"eps": -1}), ("Adam", {"betas": (1.0, 0.9)}), ("Adam", {"betas": (0.9, -0.1)}),
    ("AdamW", {"weight_decay": -1}), ("RMSprop", {"alpha": -1}), ("RMSprop", {"momentum": -1}),
    ("Adagrad", {"lr_decay": -1}), ("Adagrad", {"initial_accumulator_value": -1}), ("Adadelta", {"rho": 1.5}),
    ("Adamax", {"betas": (0.9, 1.0)}), ("NAdam", {"momentum_decay": -1}), ("RAdam", {"lr": -1}),
    ("Adam", {"lr": float("nan")}),
])
def test_bad_options_are_refused_as_in_torch(name, options):
    with pytest.raises(ValueError, match=f"^{name}: expected .*, got "):
        getattr(optim, name)(ours(), **options)
    with pytest.raises(ValueError):
        getattr(torch.optim, name)([torch.zeros(1, requires_grad=True)], **options)


def test_bad_parameters_are_refused():
    p = Parameter(np.ones(2))
    with pytest.raises(ValueError, match="at least one parameter"):
        optim.SGD([])
    with pytest.raises(TypeError, match=r"use \[tensor\]"):
        optim.SGD(p)
    with pytest.raises(TypeError, match="expected parameters to be tensors, got parameter ndarray"):
        optim.SGD([np.ones(3)])
    with pytest.raises(TypeError, match="fixed order"):
        optim.SGD([{"params": {p}}])
    with pytest.raises(ValueError, match="every parameter once"):
        optim.SGD([p, p])
    with pytest.raises(ValueError, match="every parameter once"):
        optim.SGD([p]).add_param_group({"params": [p]})
    with pytest.raises(TypeError, match="lr to be a number"):
        optim.SGD([p], lr="fast")


def test_gradients_and_states_that_do_not_fit_are_refused():
    p = Parameter(np.ones(4))
    optimizer = optim.Adam([p])
    p.grad = kdl.Tensor(np.ones(3))
    with pytest.raises(ValueError, match=r"Adam.step: expected a gradient of the parameter's shape and dtype, "
                                         r"got gradient \(3,\)"):
        optimizer.step()
    p.grad = kdl.Tensor(np.ones(4))
    optimizer.step()
    p.array = np.ones(9)
    p.grad = kdl.Tensor(np.ones(9))
    with pytest.raises(ValueError, match=r"exp_avg\w* of the parameter's shape, got exp_avg\w* \(4,\), param"):
        optimizer.step()
    np.testing.assert_array_equal(p.array, 1)


def test_a_state_for_other_groups_is_refused_whole():
    mine, other = optim.SGD(ours(), lr=0.5), optim.SGD(ours()[:2], lr=0.1)
    with pytest.raises(ValueError, match=r"got saved \[2\], optimizer \[4\]"):
        mine.load_state_dict(other.state_dict())
    assert mine.param_groups[0]["lr"] == 0.5


def test_empty_parameters_are_fine():
    p = Parameter(np.zeros((0, 3)))
    p.grad = kdl.Tensor(np.zeros((0, 3)))
    for name in OPTIONS:
        getattr(optim, name)([p]).step()


def test_nan_in_a_gradient_reaches_the_parameter():
    for name in OPTIONS:
        p = Parameter(np.ones(3))
        p.grad = kdl.Tensor(np.array([1.0, np.nan, 1.0]))
        getattr(optim, name)([p], lr=0.1).step()
        np.testing.assert_array_equal(np.isnan(p.array), [False, True, False], err_msg=name)


def test_overflow_is_silent(namespace):
    for name in OPTIONS:
        p = Parameter(np.full(3, 1e300))
        p.grad = kdl.Tensor(np.array([1e300, np.inf, -np.inf]))
        getattr(optim, name)([p], lr=1e10).step()
