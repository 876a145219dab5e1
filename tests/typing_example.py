"""Typed code as a user writes it: data, a network and a training loop, checked by `mypy --strict` in test_typing.py.

It runs as well: `python -m tests.typing_example`.
"""
import numpy as np

import kdl
from kdl import nn, optim
from kdl.data import DataLoader, Dataset
from kdl.nn import functional as F
from kdl.optim.lr_scheduler import StepLR
from kdl.typing import DType, Tensor


class Waves(Dataset):
    """Sines of two frequencies, to be told apart."""

    def __init__(self, count: int, length: int, dtype: DType = kdl.float32) -> None:
        phases = np.random.default_rng(0).uniform(0, 6, count)
        self.labels = np.arange(count) % 2
        self.values = np.sin(phases[:, None] + np.arange(length) * (0.4 + 0.4 * self.labels[:, None])).astype(dtype)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return kdl.from_numpy(self.values[index]), int(self.labels[index])


class Network(nn.Module):
    """A convolution over time, and a linear layer."""

    def __init__(self, length: int, channels: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, channels, kernel_size=5, padding=2)
        self.norm = nn.BatchNorm1d(channels)
        self.out = nn.Linear(channels * length // 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.conv(x.unsqueeze(1))))
        return self.out(F.max_pool1d(y, 2).flatten(1))


def train(model: nn.Module, loader: DataLoader, epochs: int) -> list[float]:
    """The mean loss of every epoch."""
    optimizer = optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.99))
    schedule = StepLR(optimizer, step_size=2, gamma=0.5)
    history: list[float] = []
    for _ in range(epochs):
        losses: list[Tensor] = []
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        schedule.step()
        history.append(float(kdl.stack(losses).mean()))
    return history


@kdl.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    logits: Tensor = model.eval()(x)
    best, _ = logits.max(1)
    hits = (logits >= best[:, None]).long().argmax(dim=1) == y
    return hits.float().mean().item() if hits.numel() else float("nan")


def main() -> tuple[list[float], float]:
    kdl.manual_seed(0)
    waves = Waves(64, 16)
    model = Network(16)
    history = train(model, DataLoader(waves, batch_size=16, shuffle=True), epochs=3)
    grad = model.conv.weight.grad
    assert grad is not None and grad.shape == (4, 1, 5)
    norm = 2 * (grad / 2.0 + 1 - grad ** 2).abs().sum(dim=(0, 1), keepdim=True)
    assert norm.size(2) == 5 and norm.dtype == kdl.float32 and norm.to(kdl.float64).numpy().ndim == 3
    return history, accuracy(model, kdl.tensor(waves.values), kdl.tensor(waves.labels))


def mistakes(x: Tensor) -> None:
    """What the hints find; mypy complains of an `ignore` that is not needed."""
    F.relu("x")  # type: ignore[arg-type]
    x.sum(dim="rows")  # type: ignore[arg-type]
    nn.Conv2d(3, 8)  # type: ignore[call-arg]
    nn.Linear(3, 8)("x")  # type: ignore[arg-type]
    x.relus()  # type: ignore[attr-defined]
    number: int = x.mean()  # type: ignore[assignment]
    optim.SGD(x, learning_rate=number, lr="0.1")  # type: ignore[arg-type]


if __name__ == "__main__":
    print(main())
