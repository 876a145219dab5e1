"""What fires together wires together: Hebb's rule as a memory and as a statistician (Hopfield, 1982; Oja, 1982).

Hebb: a weight grows by the product of the activities it joins. Stored so, W = sum_p x_p x_p' / n without its diagonal,
patterns of -1 and +1 are recalled by x <- sign(W x), which lowers the energy -x'W x / 2 until a stored pattern is
reached. On a single linear unit y = v'x the bare rule grows without bound; Oja's y (x - y v) keeps |v| = 1 and finds
the first principal component. Neither uses a gradient of a loss.

Data: seven photographs of scikit-image and scikit-learn, 32x32 and black and white, recalled with 30 % of their pixels
flipped; scikit-learn's digits, split 70/30. Baseline: the flipped photographs as they are.
"""
import numpy as np

import kdl
from kdl import nn
from kdl.recipes.common import digits, needs
from kdl.utils import plots

METRIC = "pixels recalled"
GATES = [("pixels recalled", ">=", 0.93), ("energies that fall", ">=", 1.0),
         ("Oja's variance over the principal component's", ">=", 0.94), ("length of Oja's vector", ">=", 0.99),
         ("length of Oja's vector", "<=", 1.01)]
EPOCHS = 40
FLIPPED = 0.3


def photographs():
    """Seven photographs (7, 1024), -1 below their median and +1 above it."""
    from skimage import data
    from skimage.transform import resize
    from sklearn.datasets import load_sample_image
    pictures = [data.camera(), data.coins(), data.moon(), data.text(), data.brick(), data.coffee(),
                load_sample_image("flower.jpg")]
    small = [resize(p.astype(float).reshape(*p.shape[:2], -1).mean(2), (32, 32), anti_aliasing=True) for p in pictures]
    return np.stack([np.where(p > np.median(p), 1.0, -1.0).ravel() for p in small]).astype(np.float32)


class Hopfield(nn.Module):
    """A memory of patterns (P, n) of -1 and +1: forward takes a step of recall, all pixels at once."""

    def __init__(self, patterns):
        super().__init__()
        count, n = patterns.shape
        self.register_buffer("weight", (patterns.T @ patterns - count * kdl.eye(n, device=patterns.device)) / n)

    def forward(self, x):
        return kdl.where(x @ self.weight >= 0, 1.0, -1.0)

    def energy(self, x):
        return -((x @ self.weight) * x).sum(1) / 2


class Oja(nn.Module):
    """One linear unit, and the epoch it is in."""

    def __init__(self, features):
        super().__init__()
        self.register_buffer("v", 0.1 * kdl.randn(features))
        self.register_buffer("epoch", kdl.zeros((), dtype=kdl.int64))

    def learn(self, x):
        y = x @ self.v
        self.v += 0.02 / (1 + 0.1 * int(self.epoch)) * (y @ x / len(x) - (y * y).mean() * self.v)
        return {}


def run(job):
    needs("sklearn", "skimage")
    photos = photographs()
    stored = job.tensor(photos)
    memory = Hopfield(stored)
    recalled = [job.tensor(photos * np.where(job.rng.random(photos.shape) < FLIPPED, -1, 1))]
    for _ in range(20):
        recalled.append(memory(recalled[-1]))
    energies = kdl.stack([memory.energy(x) for x in recalled]).cpu().numpy()

    images, labels = digits(flat=True)
    x, _, _, _ = job.split(images, labels)
    x -= x.mean(0)
    unit = Oja(64).to(job.device)
    _, spread, directions = np.linalg.svd(x, full_matrices=False)

    def evaluate():
        unit.epoch += 1
        v = unit.v.cpu().numpy()
        squared = float(v @ v)
        return {"variance/Oja's vector": float(((x @ v) ** 2).mean()) / squared, "length/Oja's vector": squared ** 0.5}
    history = job.loop(kdl.no_grad()(unit.learn), {"unit": unit}, (job.tensor(x),), batch_size=8, evaluate=evaluate)
    v = unit.v.cpu().numpy()

    rows = {"stored": stored, "flipped": recalled[0], "one step": recalled[1], "twenty": recalled[-1]}
    job.draw(plots.image_rows, "recall", {name: a.reshape(-1, 32, 32).cpu().numpy() for name, a in rows.items()},
             title="Photographs recalled after 30 % of their pixels were flipped")
    job.draw(plots.curves, "energy", {f"energy/photograph {i + 1}": list(e) for i, e in enumerate(energies.T)},
             title="Recall lowers the energy", xlabel="state (1: flipped)")
    best = float(spread[0] ** 2 / len(x))
    job.draw(plots.curves, "curves", history, {"variance/first principal component": best, "length/one": 1.0},
             title="Oja's rule finds the direction of most variance")
    first = directions[0] * np.sign(directions[0] @ v)
    job.draw(plots.images, "component", [v.reshape(8, 8), first.reshape(8, 8)], ["Oja's vector", "component"], size=1.6,
             title="Oja's vector and the first principal component")
    return {"energies that fall": float((energies[-1] < energies[0]).mean()),
            "Oja's variance over the principal component's": history["variance/Oja's vector"][-1] / best,
            "length of Oja's vector": history["length/Oja's vector"][-1],
            "pixels recalled": (recalled[-1] == stored).float().mean().item()}, 1 - FLIPPED
