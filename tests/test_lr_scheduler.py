"""Learning-rate schedules against torch's, over 100 steps."""
import json
import math

import numpy as np
import pytest

import kdl
from kdl.optim import SGD, Adam
from kdl.optim import lr_scheduler as ours

torch = pytest.importorskip("torch", reason="schedules are compared with torch: pip install 'kdl-kernels[test]'")
theirs = torch.optim.lr_scheduler
pytestmark = pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")


def groups(make, lrs):
    return [{"params": [make()], "lr": lr} for lr in lrs]


def pair(optimizer="SGD", lrs=(0.5, 0.02), **options):
    """The same optimiser twice: kdl's and torch's."""
    mine = getattr(kdl.optim, optimizer)(groups(lambda: kdl.Tensor(np.zeros(2), requires_grad=True), lrs), **options)
    other = getattr(torch.optim, optimizer)(groups(lambda: torch.zeros(2, requires_grad=True), lrs), **options)
    return mine, other


def rates(optimizer):
    keys = ("lr", "momentum", "betas")
    return [value for group in optimizer.param_groups for key in keys if key in group
            for value in np.ravel(group[key])]


def follow(build, steps=100, **optimizer):
    """Step both schedules; the rates and momenta must agree at every step."""
    (a, b), schedulers = pair(**optimizer), []
    for module, optimizer in ((ours, a), (theirs, b)):
        schedulers.append(build(module, optimizer))
    for step in range(steps):
        np.testing.assert_allclose(rates(a), rates(b), rtol=1e-12, atol=1e-15, err_msg=f"step {step}")
        np.testing.assert_allclose(schedulers[0].get_last_lr(), schedulers[1].get_last_lr(), rtol=1e-12, atol=1e-15)
        schedulers[0].step()
        schedulers[1].step()


@pytest.mark.parametrize("name, arguments", [
    ("StepLR", {"step_size": 7}), ("StepLR", {"step_size": 30, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [3, 10, 10, 50], "gamma": 0.3}), ("MultiStepLR", {"milestones": []}),
    ("ConstantLR", {}), ("ConstantLR", {"factor": 0.25, "total_iters": 20}),
    ("LinearLR", {}), ("LinearLR", {"start_factor": 0.05, "end_factor": 0.7, "total_iters": 40}),
    ("ExponentialLR", {"gamma": 0.93}),
    ("CosineAnnealingLR", {"T_max": 100}), ("CosineAnnealingLR", {"T_max": 13, "eta_min": 1e-3}),
    ("CosineAnnealingLR", {"T_max": 1}),
    ("CosineAnnealingWarmRestarts", {"T_0": 10}), ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2}),
    ("CosineAnnealingWarmRestarts", {"T_0": 1, "T_mult": 3, "eta_min": 1e-4}),
    ("PolynomialLR", {}), ("PolynomialLR", {"total_iters": 60, "power": 2.5}),
])
def test_rates_are_torchs(name, arguments):
    follow(lambda module, optimizer: getattr(module, name)(optimizer, **arguments))


@pytest.mark.parametrize("arguments", [
    {"max_lr": 0.1, "total_steps": 101}, {"max_lr": [0.1, 2.0], "epochs": 10, "steps_per_epoch": 11},
    {"max_lr": 0.1, "total_steps": 120, "three_phase": True, "anneal_strategy": "linear"},
    {"max_lr": 1.0, "total_steps": 100, "pct_start": 0.05, "div_factor": 10.0, "final_div_factor": 5.0},
    {"max_lr": 1.0, "total_steps": 100, "cycle_momentum": False},
    {"max_lr": 1.0, "total_steps": 100, "base_momentum": 0.5, "max_momentum": [0.9, 0.8]},
])
@pytest.mark.parametrize("optimizer", [{"optimizer": "SGD", "momentum": 0.9}, {"optimizer": "Adam"}])
def test_one_cycle_is_torchs(arguments, optimizer):
    follow(lambda module, optimizer: module.OneCycleLR(optimizer, **arguments), **optimizer)


@pytest.mark.parametrize("arguments", [
    {"step_size_up": 7}, {"step_size_up": 5, "step_size_down": 12, "mode": "triangular2"},
    {"step_size_up": 6, "mode": "exp_range", "gamma": 0.97}, {"step_size_up": 9, "cycle_momentum": False},
    {"step_size_up": 6, "base_momentum": 0.3, "max_momentum": [0.7, 0.8]},
    {"step_size_up": 6, "scale_fn": lambda cycle: 1 / cycle},
    {"step_size_up": 6, "scale_fn": lambda step: 0.99**step, "scale_mode": "iterations", "mode": "own"},
])
@pytest.mark.parametrize("optimizer", [{"optimizer": "SGD", "momentum": 0.9}, {"optimizer": "Adam"}])
def test_cycles_are_torchs(arguments, optimizer):
    follow(lambda module, optimizer: module.CyclicLR(optimizer, [0.01, 0.001], 0.1, **arguments), **optimizer)


def test_lambda_is_torchs():
    functions = [lambda epoch: 0.95**epoch, lambda epoch: 1 / (1 + epoch)]
    follow(lambda module, optimizer: module.LambdaLR(optimizer, functions))
    follow(lambda module, optimizer: module.LambdaLR(optimizer, functions[0]))
    follow(lambda module, optimizer: module.MultiplicativeLR(optimizer, functions))
    follow(lambda module, optimizer: module.MultiplicativeLR(optimizer, lambda epoch: 0.97))


def test_sequences_are_torchs():
    def build(module, optimizer):
        return module.SequentialLR(optimizer, [
            module.LinearLR(optimizer, 0.1, total_iters=5), module.CosineAnnealingLR(optimizer, 20, 1e-4),
            module.ConstantLR(optimizer, 0.5, 3), module.StepLR(optimizer, 4, 0.5),
            module.CosineAnnealingWarmRestarts(optimizer, 6), module.MultiStepLR(optimizer, [0, 3], 0.5),
            module.ExponentialLR(optimizer, 0.9), module.LambdaLR(optimizer, lambda epoch: 1 / (epoch + 1)),
            module.PolynomialLR(optimizer, 6), module.MultiplicativeLR(optimizer, lambda epoch: 0.8),
        ], [5, 25, 33, 45, 60, 70, 80, 85, 93])
    follow(build)
    follow(lambda module, optimizer: module.SequentialLR(
        optimizer, [module.ExponentialLR(optimizer, 0.5), module.OneCycleLR(optimizer, 0.3, 200)], [4]), momentum=0.9)
    follow(lambda module, optimizer: module.SequentialLR(
        optimizer, [module.ExponentialLR(optimizer, 0.5), module.CyclicLR(optimizer, 0.1, 0.3, 20)], [4]), momentum=0.9)


def test_chains_are_torchs():
    def build(module, optimizer):
        return module.ChainedScheduler([
            module.ConstantLR(optimizer, 0.1, 4), module.ExponentialLR(optimizer, 0.97), module.StepLR(optimizer, 9),
            module.PolynomialLR(optimizer, 90)], *([optimizer] if module is ours else []))
    follow(build)
    follow(lambda module, optimizer: module.SequentialLR(
        optimizer, [module.ChainedScheduler([module.StepLR(optimizer, 3), module.ExponentialLR(optimizer, 0.9)]),
                    module.ConstantLR(optimizer, 0.5, 3)], [20]))


def test_one_sequence_inside_another_starts_over():
    optimizer, _ = pair(lrs=(1.0,))
    inner = ours.SequentialLR(optimizer, [ours.ConstantLR(optimizer, 0.5, 2), ours.ExponentialLR(optimizer, 0.1)], [3])
    outer = ours.SequentialLR(optimizer, [ours.ConstantLR(optimizer, 0.25, 9), inner], [2])
    seen = []
    for _ in range(8):
        seen += optimizer.param_groups[0]["lr"],
        outer.step()
    np.testing.assert_allclose(seen, [0.25, 0.25, 0.5, 0.5, 1, 1, 0.1, 0.01])


def test_two_schedules_in_turn_are_torchs():
    (a, b) = pair()
    both = [[module.ExponentialLR(o, 0.97), module.StepLR(o, 10, 0.5), module.LinearLR(o, 0.2, total_iters=9)]
            for module, o in ((ours, a), (theirs, b))]
    for _ in range(40):
        np.testing.assert_allclose(rates(a), rates(b), rtol=1e-12)
        for schedulers in both:
            for scheduler in schedulers:
                scheduler.step()


@pytest.mark.parametrize("arguments", [
    {}, {"mode": "max", "patience": 1, "factor": 0.5}, {"patience": 2, "cooldown": 3, "min_lr": 1e-3},
    {"patience": 0, "threshold": 0.05, "threshold_mode": "abs", "min_lr": [1e-3, 1e-2]},
    {"patience": 1, "mode": "max", "threshold": 0.1, "threshold_mode": "abs"}, {"patience": 0, "eps": 0.1},
])
def test_plateau_is_torchs(arguments):
    rng = np.random.default_rng(5)
    metrics = 2 * np.exp(-np.arange(100) / 30) + rng.normal(0, 0.1, 100)
    metrics[40] = math.nan
    a, b = pair()
    mine, other = ours.ReduceLROnPlateau(a, **arguments), theirs.ReduceLROnPlateau(b, **arguments)
    for metric in metrics:
        mine.step(kdl.Tensor(np.array(metric)))
        other.step(metric)
        assert rates(a) == rates(b)
        assert mine.get_last_lr() == other.get_last_lr()


def test_fractional_epochs_of_warm_restarts_are_torchs():
    for arguments in ({"T_0": 3}, {"T_0": 2, "T_mult": 2}):
        a, b = pair()
        mine, other = (module.CosineAnnealingWarmRestarts(o, **arguments) for module, o in ((ours, a), (theirs, b)))
        for epoch in np.arange(0, 20, 0.3):
            mine.step(epoch)
            other.step(epoch)
            np.testing.assert_allclose(rates(a), rates(b), rtol=1e-12)


BUILDERS = {
    "step": lambda o: ours.StepLR(o, 3), "multi": lambda o: ours.MultiStepLR(o, [2, 9]),
    "cosine": lambda o: ours.CosineAnnealingLR(o, 8), "restarts": lambda o: ours.CosineAnnealingWarmRestarts(o, 4, 2),
    "cycle": lambda o: ours.OneCycleLR(o, 0.1, 50), "lambda": lambda o: ours.LambdaLR(o, lambda e: 1 / (1 + e)),
    "cycles": lambda o: ours.CyclicLR(o, 0.01, 0.1, 4), "polynomial": lambda o: ours.PolynomialLR(o, 20, 2.0),
    "factors": lambda o: ours.MultiplicativeLR(o, lambda e: 1 / (1 + e)),
    "chain": lambda o: ours.ChainedScheduler([ours.StepLR(o, 3), ours.ExponentialLR(o, 0.9)]),
    "sequence": lambda o: ours.SequentialLR(o, [ours.LinearLR(o, total_iters=4), ours.ExponentialLR(o, 0.9)], [4]),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_a_restored_schedule_goes_on_as_if_never_stopped(name):
    optimizer = pair("Adam")[0]
    scheduler = BUILDERS[name](optimizer)
    for _ in range(6):
        scheduler.step()
    state = json.loads(json.dumps([scheduler.state_dict(), optimizer.state_dict()]))  # plain values only
    if name == "multi":
        state[0]["milestones"] = {int(k): v for k, v in state[0]["milestones"].items()}  # JSON has no integer keys
    other = pair("Adam")[0]
    restored = BUILDERS[name](other)
    restored.load_state_dict(state[0])
    other.load_state_dict(state[1])
    for _ in range(20):
        assert rates(optimizer) == rates(other)
        scheduler.step()
        restored.step()
        assert scheduler.get_last_lr() == restored.get_last_lr()


def test_last_epoch_continues_a_schedule():
    a, b = pair()
    for optimizer in (a, b):
        for group in optimizer.param_groups:
            group["initial_lr"] = 2 * group["lr"]
    mine, other = ours.CosineAnnealingLR(a, 10, last_epoch=4), theirs.CosineAnnealingLR(b, 10, last_epoch=4)
    for _ in range(20):
        np.testing.assert_allclose(rates(a), rates(b), rtol=1e-12)
        mine.step()
        other.step()
    with pytest.raises(KeyError, match="initial_lr"):
        ours.StepLR(pair()[0], 3, last_epoch=2)


def test_the_state_of_a_callable_object_is_kept():
    class Warm:
        def __init__(self, steps):
            self.steps = steps

        def __call__(self, epoch):
            return min(1, epoch / self.steps)

    optimizer = pair()[0]
    state = ours.LambdaLR(optimizer, Warm(8)).state_dict()
    restored = ours.LambdaLR(optimizer, Warm(3))
    restored.load_state_dict(state)
    assert restored.lr_lambdas[0].steps == 8
    cycles = [ours.CyclicLR(pair("Adam")[0], 0.1, 0.2, 4, scale_fn=Warm(steps)) for steps in (8, 3)]
    cycles[1].load_state_dict(cycles[0].state_dict())
    assert cycles[1]._scale_fn_custom.steps == 8


@pytest.mark.parametrize("name, arguments", [("CyclicLR", (0.01, 0.1, 4)), ("PolynomialLR", (20,)), ("StepLR", (3,))])
def test_torchs_states_load(name, arguments):
    a, b = pair("Adam")
    mine, other = getattr(ours, name)(a, *arguments), getattr(theirs, name)(b, *arguments)
    for _ in range(5):
        other.step()
    mine.load_state_dict(other.state_dict())
    for group, like in zip(a.param_groups, b.param_groups, strict=True):
        group["lr"] = like["lr"]
    for _ in range(9):
        mine.step()
        other.step()
        np.testing.assert_allclose(rates(a), rates(b), rtol=1e-12)


def one(**options):
    return SGD([kdl.Tensor(np.zeros(1), requires_grad=True)], lr=0.1, **options)


@pytest.mark.parametrize("error, message, build", [
    (TypeError, "StepLR: expected an Optimizer, got optimizer int", lambda: ours.StepLR(3, 1)),
    (ValueError, "ConstantLR: expected 0 <= factor <= 1, got factor 2", lambda: ours.ConstantLR(one(), 2)),
    (ValueError, "LinearLR: expected 0 < start_factor <= 1", lambda: ours.LinearLR(one(), 0)),
    (ValueError, "LinearLR: expected 0 <= end_factor <= 1", lambda: ours.LinearLR(one(), 1, 2)),
    (ValueError, "int T_0 > 0, got T_0 0", lambda: ours.CosineAnnealingWarmRestarts(one(), 0)),
    (ValueError, "int T_mult >= 1, got T_mult 0.5", lambda: ours.CosineAnnealingWarmRestarts(one(), 3, 0.5)),
    (ValueError, "total_steps, or epochs and steps_per_epoch", lambda: ours.OneCycleLR(one(), 1.0)),
    (ValueError, "int total_steps > 0, got total_steps -4", lambda: ours.OneCycleLR(one(), 1.0, -4)),
    (ValueError, "pct_start in", lambda: ours.OneCycleLR(one(), 1.0, 4, pct_start=1.5)),
    (ValueError, "anneal_strategy", lambda: ours.OneCycleLR(one(), 1.0, 4, anneal_strategy="up")),
    (ValueError, "one max_lr per parameter group", lambda: ours.OneCycleLR(one(), [1.0, 2.0], 4)),
    (ValueError, "momentum or betas", lambda: ours.OneCycleLR(
        kdl.optim.Adagrad(one().param_groups[0]["params"]), 1.0, 4)),
    (ValueError, "factor < 1", lambda: ours.ReduceLROnPlateau(one(), factor=1.0)),
    (ValueError, "mode 'min' or 'max'", lambda: ours.ReduceLROnPlateau(one(), mode="low")),
    (ValueError, "mode 'triangular', ", lambda: ours.CyclicLR(one(), 0.1, 1.0, mode="saw")),
    (ValueError, "one base_lr per parameter group", lambda: ours.CyclicLR(one(), [0.1, 0.2], 1.0)),
    (ValueError, "momentum or betas", lambda: ours.CyclicLR(
        kdl.optim.Adagrad(one().param_groups[0]["params"]), 0.1, 1.0)),
    (TypeError, "CyclicLR: expected an Optimizer", lambda: ours.CyclicLR(3, 0.1, 1.0)),
    (ValueError, "one or more schedulers", lambda: ours.ChainedScheduler([])),
    (ValueError, "without a metric", lambda: ours.ChainedScheduler([ours.ReduceLROnPlateau(one())])),
    (ValueError, "the same optimizer", lambda: ours.ChainedScheduler([ours.StepLR(one(), 1), ours.StepLR(one(), 1)])),
    (TypeError, "MultiplicativeLR: expected a function", lambda: ours.MultiplicativeLR(one(), 0.5)),
    (ValueError, "one milestone between", lambda: ours.SequentialLR(one(), [], [])),
])
def test_refusals(error, message, build):
    with pytest.raises(error, match=message):
        build()


def test_a_sequence_refuses_what_does_not_fit():
    a, b = one(), one()
    with pytest.raises(ValueError, match="the same optimizer"):
        ours.SequentialLR(a, [ours.StepLR(b, 1)], [])
    with pytest.raises(ValueError, match="without a metric"):
        ours.SequentialLR(a, [ours.ReduceLROnPlateau(a)], [])


def test_one_cycle_ends():
    optimizer = Adam([kdl.Tensor(np.zeros(1), requires_grad=True)])
    scheduler = ours.OneCycleLR(optimizer, 0.1, 3)
    for _ in range(3):
        scheduler.step()
    with pytest.raises(ValueError, match="at most total_steps"):
        scheduler.step()
