"""Whole trainings: the same loss curves as torch's, and a resumed one ends bit for bit like an uninterrupted one."""
import numpy as np
import pytest

import kdl
from kdl import nn
from kdl.data import DataLoader, TensorDataset

torch = pytest.importorskip("torch", reason="trainings are compared with torch: pip install 'kdl-kernels[test]'")


def mlp(cls):
    return cls.Sequential(cls.Linear(12, 32), cls.Tanh(), cls.Linear(32, 24), cls.ReLU(), cls.Linear(24, 4))


def cnn(cls):
    return cls.Sequential(
        cls.Conv2d(2, 6, 3, padding=1), cls.BatchNorm2d(6), cls.ReLU(), cls.MaxPool2d(2),
        cls.Conv2d(6, 8, 3), cls.BatchNorm2d(8), cls.GELU(), cls.AvgPool2d(2), cls.Flatten(), cls.Linear(8, 4))


def transposed(cls):
    return cls.Sequential(cls.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), cls.SiLU(),
                          cls.ConvTranspose2d(4, 3, 2, stride=2), cls.LeakyReLU(0.1), cls.AdaptiveAvgPool2d((1, 2)),
                          cls.Flatten(), cls.Linear(6, 4))


NETWORKS = {"mlp": (mlp, (12,)), "cnn": (cnn, (2, 8, 8)), "transposed": (transposed, (2, 8, 8))}
OPTIMISERS = {"sgd": ("SGD", {"lr": 0.05, "momentum": 0.9}), "adam": ("Adam", {"lr": 0.005}),
              "adamw": ("AdamW", {"lr": 0.005, "weight_decay": 0.1})}


def curve(model, optimizer, scheduler, loss, x, y, batches):
    losses = []
    for indices in batches:
        optimizer.zero_grad()
        value = loss(model(x[indices]), y[indices])
        value.backward()
        optimizer.step()
        scheduler.step()
        losses.append(value.item())
    return losses


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_loss_curve_of_fifty_steps_is_torchs(network, optimiser, namespace):
    build, shape = NETWORKS[network]
    name, options = OPTIMISERS[optimiser]
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, *shape)), rng.integers(0, 4, 60)
    batches = rng.integers(0, 60, (50, 16))
    torch.manual_seed(0)
    theirs, ours = build(torch.nn).double(), build(nn).double()
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})

    mine = getattr(kdl.optim, name)(ours.parameters(), **options)
    other = getattr(torch.optim, name)(theirs.parameters(), **options)
    a = curve(ours, mine, kdl.optim.lr_scheduler.OneCycleLR(mine, 0.02, 50), nn.CrossEntropyLoss(),
              kdl.tensor(x), kdl.tensor(y), batches)
    b = curve(theirs, other, torch.optim.lr_scheduler.OneCycleLR(other, 0.02, 50), torch.nn.CrossEntropyLoss(),
              torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(batches))
    np.testing.assert_allclose(a, b, rtol=1e-8)
    for (key, p), q in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        np.testing.assert_allclose(p.array, q.numpy(), rtol=1e-6, atol=1e-9, err_msg=key)


class Training:
    """Everything that a checkpoint has to hold: weights, running statistics, dropout, order, optimiser, schedule."""

    def __init__(self, seed, optimiser, workers):
        kdl.manual_seed(seed)
        rng = np.random.default_rng(0)
        self.data = TensorDataset(rng.standard_normal((50, 2, 8, 8)).astype(np.float32), rng.integers(0, 4, 50))
        self.model = nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.2), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(36, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4))
        self.loader = DataLoader(self.data, batch_size=8, shuffle=True, num_workers=workers)
        name, options = OPTIMISERS[optimiser]
        self.optimizer = getattr(kdl.optim, name)(self.model.parameters(), **options)
        self.scheduler = kdl.optim.lr_scheduler.OneCycleLR(self.optimizer, 0.02, 40)
        self.parts = [self.model, self.optimizer, self.scheduler, self.loader]
        self.step = 0

    def train(self, until):
        while self.step < until:
            for x, y in self.loader:
                self.optimizer.zero_grad()
                nn.functional.cross_entropy(self.model(x), y).backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                self.scheduler.step()
                self.step += 1
                if self.step == until:
                    break
        return self

    def save(self, path):
        kdl.save({"parts": [part.state_dict() for part in self.parts], "random": kdl.get_rng_state(),
                  "step": self.step}, path)

    def load(self, path):
        checkpoint = kdl.load(path)
        for part, state in zip(self.parts, checkpoint["parts"], strict=True):
            part.load_state_dict(state)
        kdl.set_rng_state(checkpoint["random"])
        self.step = checkpoint["step"]
        return self


@pytest.mark.parametrize("stop", [3, 7, 14, 19])  # within an epoch and at its end, which has 7 steps
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("workers", [0, 1])
def test_resuming_ends_bit_for_bit_like_going_on(tmp_path, stop, optimiser, workers):
    whole = Training(1, optimiser, workers).train(23)
    Training(1, optimiser, workers).train(stop).save(tmp_path / "checkpoint")
    resumed = Training(99, optimiser, workers).load(tmp_path / "checkpoint").train(23)
    for (key, a), b in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a.array, b.array, err_msg=key)
    assert whole.optimizer.param_groups[0]["lr"] == resumed.optimizer.param_groups[0]["lr"]


def test_the_same_seed_gives_the_same_weights():
    a, b = (Training(5, "sgd", 0).train(9).model.state_dict() for _ in range(2))
    for key, value in a.items():
        np.testing.assert_array_equal(value.array, b[key].array, err_msg=key)


def test_a_network_learns_in_float32_and_in_evaluation_mode_keeps_still():
    training = Training(0, "adam", 0)
    x, y = training.data.tensors
    first = float(nn.functional.cross_entropy(training.model.eval()(x), y))
    training.model.train()
    training.train(40)
    training.model.eval()
    before = {key: value.array.copy() for key, value in training.model.state_dict().items()}
    assert float(nn.functional.cross_entropy(training.model(x), y)) < first
    for key, value in training.model.state_dict().items():
        np.testing.assert_array_equal(value.array, before[key], err_msg=key)
