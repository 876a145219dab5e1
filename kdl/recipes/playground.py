"""Four toy worlds and a small network that bends the plane until they come apart: the TensorFlow playground.

Two classes of points lie as rings, as half moons, as the quadrants of XOR and as two spirals. A line can do little with
any of them. Two layers of 32 tanh units build curved coordinates first, in which a line is enough: each hidden unit is
a soft step across the plane, and the layers after it add such steps up.

Data: 500 generated points each, half of them to test on. Baseline: a linear classifier, averaged over the worlds.
"""
import numpy as np

from kdl import nn, optim
from kdl.recipes.common import needs
from kdl.utils import plots

METRIC = "worst test accuracy"
GATES = [("worst test accuracy", ">=", 0.93)]
EPOCHS = 200


def worlds(rng):
    """Name, points (500, 2) and labels of each."""
    needs("sklearn")
    from sklearn.datasets import make_circles, make_moons
    n, seed = 500, int(rng.integers(1 << 30))
    yield "circles", *make_circles(n, noise=0.08, factor=0.5, random_state=seed)
    yield "moons", *make_moons(n, noise=0.15, random_state=seed)
    square = rng.uniform(-1, 1, (n, 2))
    yield "xor", square, (square[:, 0] * square[:, 1] > 0).astype(int)
    radius, label = rng.uniform(0.1, 1, n), rng.integers(0, 2, n)
    angle = 3.5 * np.pi * radius + np.pi * label
    yield "spiral", np.c_[radius * np.sin(angle), radius * np.cos(angle)] + rng.normal(0, 0.02, (n, 2)), label


def run(job):
    measured, lines, models = {}, [], []
    for name, points, labels in worlds(job.rng):
        x, xt, y, yt = [job.tensor(part) for part in job.split(points, labels, test=0.5)]
        model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))
        model.to(job.device)
        job.fit_classifier(model, optim.Adam(model.parameters(), lr=0.01), (x, y), (xt, yt), batch_size=25, name=name)
        line = nn.Linear(2, 2).to(job.device)
        job.fit_classifier(line, optim.Adam(line.parameters(), lr=0.01), (x, y), (xt, yt), batch_size=25, epochs=50,
                           name=f"{name}, a line")
        measured[name] = job.accuracy(model, xt, yt)
        lines.append(job.accuracy(line, xt, yt))
        models.append((name, model, x.cpu().numpy(), y.cpu().numpy()))

    title = "What the network answers over the plane, and what it learned from"
    with job.figure("boundaries", 1, 4, 3.0, 2.9, title) as axes:
        for axis, (name, model, x, y) in zip(axes.flat, models):
            chance = lambda p, model=model: job.predict(model, job.tensor(p)).softmax(1)[:, 1].cpu().numpy()
            plots.draw_boundary(axis, chance, x, y)
            axis.set_title(f"{name}: {measured[name]:.3f}", fontsize=9)
    with job.figure("units", 4, 8, 1.2, 1.2, "Eight hidden units of each network: soft steps across the plane") as axes:
        for row, (name, model, x, _) in zip(axes, models):
            side = np.linspace(x.min(), x.max(), 50, dtype=np.float32)
            fields = job.predict(model[:2], job.tensor(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)), 2500)
            for unit, axis in enumerate(row):
                field = fields[:, unit].reshape(50, 50).cpu().numpy()
                axis.imshow(field, cmap="RdBu_r", vmin=-1, vmax=1, origin="lower")
                axis.set(xticks=[], yticks=[])
            row[0].set_ylabel(name, fontsize=8)
    return measured | {"worst test accuracy": min(measured.values())}, float(np.mean(lines))
