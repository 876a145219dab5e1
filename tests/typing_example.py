"""Typed code as a user writes it: data, a network and a training loop, checked by `mypy --strict` in test_typing.py.

It runs as well: `python -m tests.typing_example`.
"""
from typing import Any

import numpy as np

import kdl
from kdl import autograd, nn, optim
from kdl.data import DataLoader, Dataset
from kdl.distributions import Categorical, Distribution, Independent, Normal, kl_divergence
from kdl.nn import functional as F
from kdl.nn.utils import clip_grad_norm_, parametrizations, parametrize
from kdl.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence, pad_sequence
from kdl.optim.lr_scheduler import StepLR
from kdl.optim.swa_utils import AveragedModel, get_ema_avg_fn
from kdl.typing import DType, Tensor
from kdl.utils.checkpoint import checkpoint


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


class Cube(autograd.Function):
    """A function with its own gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        return 3 * x**2 * gy


def mixed_step(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """One step in mixed precision on whatever device there is, and the norm of its gradients."""
    device = "cuda" if kdl.cuda.is_available() else "cpu"
    scaler, optimizer = kdl.amp.GradScaler(device), optim.SGD(model.parameters(), lr=0.1)
    with kdl.amp.autocast(device, dtype=kdl.bfloat16):
        loss = F.cross_entropy(model(x), y)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    norm = clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    average = AveragedModel(model, avg_fn=get_ema_avg_fn(0.99))
    average.update_parameters(model)
    return float(norm) + scaler.get_scale()


def packed(sequences: list[Tensor]) -> Tensor:
    """The last outputs of a recurrent network over sequences of different lengths."""
    gru = parametrizations.weight_norm(nn.GRU(2, 3), "weight_ih_l0")
    with parametrize.cached():
        batch: PackedSequence = pack_padded_sequence(pad_sequence(sequences), [len(s) for s in sequences])
        outputs, last = gru(batch)
    padded, lengths = pad_packed_sequence(outputs)
    assert lengths.tolist() == [len(s) for s in sequences] and padded.size(2) == last.size(2)
    hidden: Tensor = checkpoint(gru, pad_sequence(sequences))[1]
    return hidden


def distributions() -> Tensor:
    """Log-probabilities, divergences, a little linear algebra."""
    normal = Independent(Normal(kdl.zeros(3), 2.0), 1)
    choice: Distribution = Categorical(logits=kdl.zeros(4))
    distance = kl_divergence(Normal(0.0, 1.0), Normal(kdl.tensor(1.0), 1.0))
    matrix = kdl.linalg.inv(kdl.eye(3)) @ normal.rsample((2,)).t()
    return normal.log_prob(matrix.t()).sum() + choice.entropy() + distance + kdl.linalg.norm(matrix, "fro")


def main() -> tuple[list[float], float]:
    kdl.manual_seed(0)
    waves = Waves(64, 16)
    model = Network(16)
    history = train(model, DataLoader(waves, batch_size=16, shuffle=True), epochs=3)
    grad = model.conv.weight.grad
    assert grad is not None and grad.shape == (4, 1, 5)
    norm = 2 * (grad / 2.0 + 1 - grad ** 2).abs().sum(dim=(0, 1), keepdim=True)
    assert norm.size(2) == 5 and norm.dtype == kdl.float32 and norm.to(kdl.float64).numpy().ndim == 3
    x = kdl.ones(2, requires_grad=True)
    assert autograd.gradcheck(Cube.apply, (x.double().detach().requires_grad_(),)) and Cube.apply(x).requires_grad
    assert mixed_step(model, kdl.tensor(waves.values), kdl.tensor(waves.labels)) > 0
    assert packed([kdl.ones(3, 2), kdl.ones(2, 2)]).shape == (1, 2, 3) and distributions().ndim == 0
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
    clip_grad_norm_(x, "1")  # type: ignore[arg-type]
    pad_packed_sequence(x)  # type: ignore[arg-type]
    Normal(0.0, 1.0).log_prob("x")  # type: ignore[arg-type]
    kdl.amp.GradScaler(growth_interval="x")  # type: ignore[arg-type]
    kdl.linalg.inv([x])  # type: ignore[arg-type]
    kdl.cuda.get_device_name() + 1  # type: ignore[operator]
    kdl.onnx.export(x, x)  # type: ignore[arg-type]


if __name__ == "__main__":
    print(main())
