"""Vanishing and exploding gradients, and the shortcut past them (He et al., 2016).

Through n layers the gradient is a product of n Jacobians. A sigmoid's slope is at most 1/4: twenty layers of them leave
the first weights next to nothing to learn from. Weights drawn too large make the product explode; clipping the
gradient's norm bounds the step, not the cause. In a residual block y = relu(x + F(x)) the identity carries the gradient
past F unchanged, and depth costs nothing.

Data: scikit-learn's digits. Twenty layers of 64 units; baseline: the sigmoid network.
"""
import numpy as np

from kdl import nn, optim
from kdl.nn import functional as F
from kdl.recipes.common import digits
from kdl.utils import plots

METRIC = "residual test accuracy"
GATES = [("residual test accuracy", ">=", 0.92), ("sigmoid test accuracy", "<=", 0.12),
         ("relu test accuracy", ">=", 0.86),
         ("sigmoid log10 ratio", "<=", -11.5), ("relu log10 ratio", ">=", -0.8), ("relu log10 ratio", "<=", 0.5),
         ("residual log10 ratio", ">=", -0.5), ("residual log10 ratio", "<=", 0.3),
         ("log10 norm when exploding", ">=", 10.5), ("norm once clipped", "<=", 1.0001),
         ("norm once clipped", ">=", 0.999)]
EPOCHS = 20
DEPTH, WIDTH = 20, 64


class Residual(nn.Module):
    """relu(x + W2 relu(W1 x))."""

    def __init__(self, n):
        super().__init__()
        self.one, self.two = nn.Linear(n, n), nn.Linear(n, n)

    def forward(self, x):
        return F.relu(x + self.two(F.relu(self.one(x))))


def plain(activation, gain):
    """Layers without a shortcut; the gain scales Glorot's uniform weights."""
    layers = []
    for _ in range(DEPTH):
        layers += [nn.Linear(WIDTH, WIDTH), activation()]
        nn.init.xavier_uniform_(layers[-2].weight, gain)
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10))


def gradient_norms(model, x, y):
    """The norm of every weight matrix's gradient, from the first layer on, before any training."""
    F.cross_entropy(model(x), y).backward()
    return np.array([w.grad.norm().item() for w in model.parameters() if w.ndim == 2])


def run(job):
    images, labels = digits(flat=True)
    x, xt, y, yt = [job.tensor(part) for part in job.split(images, labels)]
    networks = {"sigmoid": plain(nn.Sigmoid, 1.0), "tanh": plain(nn.Tanh, 5 / 3), "relu": plain(nn.ReLU, 2 ** 0.5),
                "exploding": plain(nn.ReLU, 5.0),
                "residual": nn.Sequential(nn.Linear(64, WIDTH), *[Residual(WIDTH) for _ in range(DEPTH // 2)],
                                          nn.Linear(WIDTH, 10))}
    norms = {name: gradient_norms(model.to(job.device), x[:200], y[:200]) for name, model in networks.items()}
    exploding = list(networks["exploding"].parameters())
    before = nn.utils.clip_grad_norm_(exploding, 1.0).item()
    clipped = sum((p.grad ** 2).sum().item() for p in exploding) ** 0.5

    histories = {}
    for name in ("sigmoid", "relu", "residual"):
        optimizer = optim.Adam(networks[name].parameters(), lr=1e-3)
        schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, job.epochs)
        histories[name] = job.fit_classifier(networks[name], optimizer, (x, y), (xt, yt), batch_size=64,
                                             scheduler=schedule, name=name)
    with job.figure("gradients", 1, 1, 6.2, 3.8, "The gradient of each layer's weights before training") as axes:
        for name, values in norms.items():
            axes[0, 0].semilogy(range(1, len(values) + 1), values, marker="o", markersize=3, label=name)
        axes[0, 0].set(xlabel="layer, from the input", ylabel="norm of the gradient")
        axes[0, 0].legend(frameon=False, fontsize=8)
        axes[0, 0].grid(alpha=0.3)
    job.draw(plots.curves, "curves", {f"{quantity}/{name}": history[key] for quantity, key in (
        ("training loss", "loss/train"), ("test accuracy", "accuracy/test")) for name, history in histories.items()},
             title="Twenty layers: sigmoid, ReLU, and ReLU with shortcuts")
    return {f"{name} log10 ratio": float(np.log10(values[0] / values[-1])) for name, values in norms.items()} | {
        "log10 norm when exploding": float(np.log10(before)), "norm once clipped": clipped} | {
        f"{name} test accuracy": job.accuracy(networks[name], xt, yt) for name in histories
        }, job.accuracy(networks["sigmoid"], xt, yt)
