"""Neurons that speak in spikes: leaky integrate-and-fire cells read digits (Neftci, Mostafa and Zenke, 2019).

A cell's membrane leaks and adds up what comes in, u <- 0.85 u + W s, and where it passes 1 the cell sends a spike and
falls back by 1. Only spikes, 0 or 1, pass from layer to layer: the pixels too are random spikes, more frequent where
there is ink. The step function has no useful derivative, so the backward pass takes that of a smooth one instead,
1 / (1 + 5 |u - 1|)^2, the surrogate gradient; the rest is backpropagation through the twelve steps of time.

Data: scikit-learn's digits, split 70/30. Baseline: the same network with its spiking layer left as it was drawn.
"""
import numpy as np

import kdl
from kdl import nn, optim
from kdl.recipes.common import digits
from kdl.utils import plots

METRIC = "test accuracy"
GATES = [("test accuracy", ">=", 0.935), ("last loss", "<=", 0.075)]
EPOCHS = 30
STEPS = 12


class Spike(kdl.autograd.Function):
    """1 where the membrane is above its threshold, with the surrogate gradient."""

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad):
        u, = ctx.saved_tensors
        return grad / (1 + 5 * u.abs()) ** 2


class SpikingNetwork(nn.Module):
    """(N, 64) pixels in 0..1 to (N, 10): the mean over time of what the output cells' membranes receive."""

    def __init__(self, hidden=96, leak=0.85):
        super().__init__()
        self.one, self.two, self.leak = nn.Linear(64, hidden), nn.Linear(hidden, 10), leak

    def forward(self, x):
        return sum(self.two(spikes) for _, _, spikes in self.steps(x)) / STEPS

    def steps(self, x):
        """For every step the spikes that come in, the membranes before the reset, and the spikes that go out."""
        u = 0.0
        for _ in range(STEPS):
            pixels = kdl.bernoulli(x)
            u = self.leak * u + self.one(pixels)
            spikes = Spike.apply(u - 1)
            yield pixels, u, spikes
            u = u - spikes.detach()


def run(job):
    images, labels = digits(flat=True)
    x, xt, y, yt = [job.tensor(a) for a in job.split(images, labels)]
    model, frozen = SpikingNetwork().to(job.device), SpikingNetwork().to(job.device)
    frozen.one.requires_grad_(False)
    history, control = [job.fit_classifier(network, optim.Adam(
        [p for p in network.parameters() if p.requires_grad], lr=3e-3), (x, y), (xt, yt), batch_size=64, name=name)
        for network, name in ((model, "all weights"), (frozen, "output weights alone"))]
    accuracy, baseline = job.accuracy(model, xt, yt), job.accuracy(frozen, xt, yt)

    job.draw(plots.curves, "curves", history | {f"accuracy/{name}": h["accuracy/test"] for name, h in (
        ("test", history), ("test, spiking layer frozen", control))}, title="Learning through the surrogate gradient")
    job.draw_errors(model, xt, yt, images=xt.reshape(-1, 8, 8).cpu())
    rate = draw(job, model, xt)
    return {"last loss": history["loss/train"][-1], "spikes per cell and step": rate,
            "test accuracy": accuracy}, baseline


@kdl.no_grad()
def draw(job, model, x):
    """The spikes that one digit makes, some membranes, and how often each hidden cell fires; the mean rate."""
    pixels, membranes, spikes = [np.stack([part.cpu().numpy() for part in parts]) for parts in zip(*model.steps(x))]
    with job.figure("inside", 1, 4, 3.2, 3.0, "One digit: spikes of its pixels, of the hidden cells, and the membranes "
                    "of five of them; all test digits: how often the cells fire") as axes:
        for axis, events, name in ((axes[0, 0], pixels[:, 0], "pixel"), (axes[0, 1], spikes[:, 0], "hidden cell")):
            axis.scatter(*np.nonzero(events), s=8, marker="|", linewidth=1.5, color="black")
            axis.set(xlabel="step", ylabel=name, xlim=(-0.5, STEPS - 0.5))
        busiest = np.argsort(-spikes[:, 0].sum(0))[:5]
        axes[0, 2].plot(membranes[:, 0, busiest], marker="o", markersize=3)
        axes[0, 2].axhline(1, linestyle="--", color="0.4", linewidth=1)
        axes[0, 2].set(xlabel="step", ylabel="membrane (dashed: threshold)")
        axes[0, 3].hist(spikes.mean((0, 1)), bins=24)
        axes[0, 3].set(xlabel="spikes per step", ylabel="hidden cells")
    return float(spikes.mean())
