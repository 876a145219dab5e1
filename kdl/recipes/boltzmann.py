"""Boltzmann machines: images are probable where their energy is low (Hinton, 2002; Tieleman, 2008).

The restricted machine joins visible pixels v and hidden units h, E(v, h) = -a'v - b'h - v'W h with p ~ exp(-E). Given
one side, the units of the other are independent, so that Gibbs sampling goes back and forth; the gradient of log p(v)
is <v h> under the data less <v h> under the model, the latter taken from a chain that is never restarted (persistent
contrastive divergence). No backpropagation is involved. With 16 hidden units the sum over all 2^16 of their states is
feasible, and the likelihood exact. The fully visible machine has symmetric weights between pixels, and learns to tell
each pixel from all the others (pseudo-likelihood).

Data: scikit-learn's digits in black and white, split 70/30. Baseline: 64 independent pixels.
"""
import numpy as np

import kdl
from kdl import nn, optim
from kdl.nn import functional as F
from kdl.recipes.common import digits
from kdl.utils import plots

METRIC = "log-likelihood in nats per test image"
GATES = [("log-likelihood in nats per test image", ">=", -20.9), ("pseudo-likelihood in nats", ">=", -15.3),
         ("digits told from pixels by energy, AUC", ">=", 0.85)]
EPOCHS = 150
HIDDEN = 16
BATCH = 64


class Restricted(nn.Module):
    """64 visible and 16 hidden units; the chain of images is part of its state."""

    def __init__(self, p):
        super().__init__()
        self.register_buffer("weight", 0.05 * kdl.randn(64, HIDDEN))
        self.register_buffer("visible_bias", (p / (1 - p)).log())
        self.register_buffer("hidden_bias", kdl.zeros(HIDDEN))
        self.register_buffer("chain", kdl.bernoulli(p.expand(BATCH, -1)))

    def hidden(self, v):
        return (v @ self.weight + self.hidden_bias).sigmoid()

    def gibbs(self, v):
        """Draws the hidden units for the visible ones, then these for those."""
        return kdl.bernoulli((kdl.bernoulli(self.hidden(v)) @ self.weight.T + self.visible_bias).sigmoid())

    def free_energy(self, v):
        """-log sum_h exp(-E(v, h))."""
        return -(v @ self.visible_bias) - F.softplus(v @ self.weight + self.hidden_bias).sum(1)

    def log_partition(self):
        """log sum over all v and h of exp(-E), by all 2^16 states of h."""
        device = self.weight.device
        h = (kdl.arange(2 ** HIDDEN, device=device).unsqueeze(1) // 2 ** kdl.arange(HIDDEN, device=device) % 2).float()
        return kdl.logsumexp(h @ self.hidden_bias + F.softplus(h @ self.weight.T + self.visible_bias).sum(1), 0).item()

    def learn(self, v, rate):
        """A step up the likelihood of v: the statistics of the data less those of the chain, two Gibbs steps on."""
        self.chain.copy_(self.gibbs(self.gibbs(self.chain)))
        up, down, chain = self.hidden(v), self.hidden(self.chain), self.chain
        self.weight += rate * ((v.T @ up - chain.T @ down) / BATCH - 2e-4 * self.weight)
        self.visible_bias += rate * (v - chain).mean(0)
        self.hidden_bias += rate * (up - down).mean(0)


class Visible(nn.Module):
    """The score of each pixel given the others: symmetric weights, none from a pixel to itself."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(kdl.zeros(64, 64)), nn.Parameter(kdl.zeros(64))
        self.register_buffer("off_diagonal", 1 - kdl.eye(64))

    def forward(self, x):
        return x @ ((self.weight + self.weight.T) * self.off_diagonal) + self.bias


def run(job):
    images, labels = digits(flat=True)
    x, xt, _, _ = job.split((images > 0.5).astype(np.float32), labels)
    p = (x.sum(0) + 1) / (len(x) + 2)
    single = float((xt * np.log(p) + (1 - xt) * np.log(1 - p)).sum(1).mean())
    pixels = job.tensor((job.rng.random(xt.shape) < p).astype(np.float32))
    x, xt = job.tensor(x), job.tensor(xt)
    machine = Restricted(job.tensor(p)).to(job.device)
    schedule = nn.Module()
    schedule.register_buffer("epoch", kdl.zeros((), dtype=kdl.int64))

    @kdl.no_grad()
    def step(v):
        machine.learn(v, 0.05 * (1 - int(schedule.epoch) / job.epochs))
        return {}

    def evaluate():
        schedule.epoch += 1
        return {"free energy/train": machine.free_energy(x[:len(xt)]).mean().item(),
                "free energy/test": machine.free_energy(xt).mean().item(),
                "free energy/independent pixels": machine.free_energy(pixels).mean().item()}
    history = job.loop(step, {"machine": machine, "schedule": schedule}, (x,), batch_size=BATCH, evaluate=evaluate,
                       name="restricted")
    energy, energy_pixels = [machine.free_energy(v).cpu().numpy() for v in (xt, pixels)]

    full = Visible().to(job.device)
    job.fit(lambda v: F.binary_cross_entropy_with_logits(full(v), v), full, optim.Adam(full.parameters(), lr=0.01),
            (x,), batch_size=BATCH, epochs=max(job.epochs * 40 // 150, 1), name="fully visible")
    scores = job.predict(full, xt)
    pseudo = -F.binary_cross_entropy_with_logits(scores, xt, reduction="sum").item() / len(xt)

    draw(job, machine, history, pixels[:10], energy, energy_pixels)
    return {"pseudo-likelihood in nats": pseudo,
            "digits told from pixels by energy, AUC": float((energy[:, None] < energy_pixels).mean()),
            "log-likelihood in nats per test image": -float(energy.mean()) - machine.log_partition()}, single


def draw(job, machine, history, start, energy, energy_pixels):
    """What each hidden unit sees, a chain that starts from noise, and the energies of digits and of noise."""
    job.draw(plots.curves, "curves", history, title="The free energy of digits falls below that of made-up pixels")
    job.draw(plots.images, "weights", machine.weight.T.reshape(-1, 8, 8).cpu().numpy(),
             title="The weights of the sixteen hidden units")
    rows, v = {"start": start}, start
    for count in range(1, 65):
        v = machine.gibbs(v)
        if count & (count - 1) == 0:
            rows[f"{count} steps"] = v
    job.draw(plots.image_rows, "chain", {name: v.reshape(-1, 8, 8).cpu().numpy() for name, v in rows.items()}, size=0.8,
             title="Gibbs sampling from independent pixels")
    with job.figure("energies", 1, 1, 5.0, 3.2, "The free energy tells digits from independent pixels") as axes:
        for name, values in (("test digits", energy), ("independent pixels", energy_pixels)):
            axes[0, 0].hist(values, bins=40, alpha=0.6, label=name)
        axes[0, 0].set(xlabel="free energy in nats", ylabel="images")
        axes[0, 0].legend(frameon=False, fontsize=8)
