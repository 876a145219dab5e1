"""L-BFGS and averaged weights against torch's."""
import itertools

import numpy as np
import pytest

import kdl
from kdl import nn, optim

torch = pytest.importorskip("torch", reason="compared with torch: pip install 'kdl-kernels[test]'")

A = np.random.default_rng(0).standard_normal((6, 6))
A = A @ A.T + np.eye(6)
PROBLEMS = {
    "quadratic": (np.arange(6.0), lambda lib, p: 0.5 * (p * (lib.tensor(A) @ p)).sum() - p.sum()),
    "Rosenbrock": (np.array([-1.2, 1.0, -0.5, 0.8]),
                   lambda lib, p: (100 * (p[1:] - p[:-1] ** 2) ** 2 + (1 - p[:-1]) ** 2).sum()),
}


def path(lib, start, loss, steps, **options):
    """Parameters and losses after each step."""
    p = lib.tensor(start, requires_grad=True)
    optimizer = lib.optim.LBFGS([p], **options)

    def closure():
        optimizer.zero_grad()
        value = loss(lib, p)
        value.backward()
        return value

    found = []
    for _ in range(steps):
        value = optimizer.step(closure)
        found.append([*np.asarray(p.detach()), float(value.detach())])
    return np.array(found), optimizer


@pytest.mark.parametrize("options", [
    {}, {"lr": 0.3}, {"line_search_fn": "strong_wolfe"}, {"history_size": 2, "line_search_fn": "strong_wolfe"},
    {"max_iter": 3, "line_search_fn": "strong_wolfe"},
    {"max_iter": 50, "max_eval": 7, "line_search_fn": "strong_wolfe"},
    {"tolerance_grad": 1e-2, "line_search_fn": "strong_wolfe"}, {"max_iter": 1, "lr": 0.1}], ids=str)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_steps_are_torchs(problem, options):
    start, loss = PROBLEMS[problem]
    if problem == "Rosenbrock" and "line_search_fn" not in options:
        options = options | {"lr": 1e-3}  # without a search larger steps leave for infinity
    (ours, mine), (theirs, other) = (path(lib, start, loss, 5, **options) for lib in (kdl, torch))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8)
    state = mine.state[mine.param_groups[0]["params"][0]]
    expected = other.state[other.param_groups[0]["params"][0]]
    assert (state["n_iter"], state["func_evals"]) == (expected["n_iter"], expected["func_evals"])


def test_it_finds_the_minimum_and_continues_after_a_save(tmp_path):
    start, loss = PROBLEMS["Rosenbrock"]
    whole, _ = path(kdl, start, loss, 6, max_iter=4, line_search_fn="strong_wolfe")
    np.testing.assert_allclose(path(kdl, start, loss, 20, line_search_fn="strong_wolfe")[0][-1][:4], 1, atol=1e-6)

    p = kdl.tensor(start, requires_grad=True)
    for part in range(2):
        optimizer = optim.LBFGS([p], max_iter=4, line_search_fn="strong_wolfe")
        if part:
            optimizer.load_state_dict(kdl.load(tmp_path / "state"))

        def closure(optimizer=optimizer):
            optimizer.zero_grad()
            value = loss(kdl, p)
            value.backward()
            return value
        for _ in range(3):
            optimizer.step(closure)
        kdl.save(optimizer.state_dict(), tmp_path / "state")
    np.testing.assert_array_equal(p.detach().numpy(), whole[-1][:4])


def test_what_it_refuses():
    p = kdl.zeros(2, requires_grad=True)
    with pytest.raises(ValueError, match="one group"):
        optim.LBFGS([{"params": [p]}, {"params": [kdl.zeros(1, requires_grad=True)]}])
    with pytest.raises(ValueError, match="strong_wolfe"):
        optim.LBFGS([p], line_search_fn="armijo")


# --- averages ---
def models():
    torch.manual_seed(0)
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    ours = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    ours.load_state_dict({k: kdl.from_numpy(v.numpy().copy()) for k, v in theirs.state_dict().items()})
    return ours, theirs


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("kind", ["swa", "ema", "ema multi"])
def test_averages_are_torchs(kind, use_buffers):
    make = {"swa": lambda u: {}, "ema": lambda u: {"avg_fn": u.get_ema_avg_fn(0.8)},
            "ema multi": lambda u: {"multi_avg_fn": u.get_ema_multi_avg_fn(0.8)}}[kind]
    pair = models()
    averaged = [lib.swa_utils.AveragedModel(model, use_buffers=use_buffers, **make(lib.swa_utils))
                for lib, model in zip((optim, torch.optim), pair)]
    for step in range(4):
        x = np.random.default_rng(step).standard_normal((5, 4)).astype(np.float32)
        for model, average, tensor in zip(pair, averaged, (kdl.from_numpy, torch.from_numpy)):
            model(tensor(x))
            with (kdl.no_grad() if model is pair[0] else torch.no_grad()):
                for p in model.parameters():
                    p.mul_(1.5)
            average.update_parameters(model)
    theirs = averaged[1].state_dict()
    for name, value in averaged[0].state_dict().items():
        np.testing.assert_allclose(value.numpy(), theirs[name].numpy(), rtol=1e-5, atol=1e-6, err_msg=name)


def test_update_bn_is_torchs():
    batches = [np.random.default_rng(i).standard_normal((6, 4)).astype(np.float32) + i for i in range(3)]
    ours, theirs = models()
    optim.swa_utils.update_bn([kdl.from_numpy(b) for b in batches], ours)
    torch.optim.swa_utils.update_bn([torch.from_numpy(b) for b in batches], theirs)
    for name in ("running_mean", "running_var"):
        np.testing.assert_allclose(getattr(ours[1], name).numpy(), getattr(theirs[1], name).numpy(), rtol=1e-5)
    assert ours[1].momentum == 0.1


@pytest.mark.parametrize("strategy, epochs", list(itertools.product(["cos", "linear"], [0, 1, 5])))
def test_swalr_is_torchs(strategy, epochs):
    rates = []
    for lib, zeros in ((optim, lambda: kdl.zeros(1, requires_grad=True)), (torch.optim, lambda: torch.zeros(1))):
        optimizer = lib.SGD([{"params": [zeros()], "lr": 0.5}, {"params": [zeros()], "lr": 0.01}], lr=0.1)
        scheduler = lib.swa_utils.SWALR(optimizer, [0.05, 0.2], epochs, strategy)
        found = []
        for _ in range(8):
            optimizer.step()
            scheduler.step()
            found.append([g["lr"] for g in optimizer.param_groups])
        rates.append(found)
    np.testing.assert_allclose(*rates, rtol=1e-9)
