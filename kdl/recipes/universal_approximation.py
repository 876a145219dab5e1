"""Universal approximation: one hidden layer, wide enough, draws any curve (Cybenko, 1989).

Every continuous function on a compact set is the limit of sums c_1 s(w_1 x + b_1) + ... + c_n s(w_n x + b_n), for any s
that is not a polynomial. The theorem says that weights exist, not that descent finds them: started as bumps of many
slopes spread over the interval, networks of 4, 16, 64 and 256 tanh units come closer and closer here. A deep and narrow
ReLU network draws the same curve by straight pieces.

Data: the brightness along one row of a photograph. Baseline: a polynomial of degree 10.
"""
import numpy as np

import kdl
from kdl import nn, optim
from kdl.nn import functional as F
from kdl.recipes.common import needs

METRIC = "mean square error at width 256"
GATES = [("mean square error at width 256", "<=", 0.008), ("falling with every width", ">=", 1),
         ("deep ReLU network", "<=", 0.15)]
EPOCHS = 1500
WIDTHS = (4, 16, 64, 256)


def target():
    """Places in [-1, 1] and the standardised brightness there, smoothed over six pixels."""
    needs("sklearn", "scipy")
    from scipy.ndimage import gaussian_filter1d
    from sklearn.datasets import load_sample_image
    row = gaussian_filter1d(load_sample_image("china.jpg")[200].mean(1) / 255, 6)[::2]
    return np.linspace(-1, 1, len(row))[:, None], ((row - row.mean()) / row.std())[:, None]


def wide(width):
    """One hidden layer whose units start as steps of 0 to 20 slopes, everywhere on [-1, 1]."""
    first, last = nn.Linear(1, width), nn.Linear(width, 1)
    with kdl.no_grad():
        nn.init.uniform_(first.weight, -20, 20)
        first.bias.copy_(-first.weight[:, 0] * (kdl.rand(width) * 2 - 1))
    return nn.Sequential(first, nn.Tanh(), last)


def fitted(job, model, x, y, name):
    """The curve of the trained model and its mean square error."""
    model.to(job.device)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, job.epochs)
    xs, ys = job.tensor(x), job.tensor(y)
    losses = job.fit(lambda: F.mse_loss(model(xs), ys), model, optimizer, scheduler=scheduler, name=name)["loss/train"]
    return job.predict(model, xs).cpu().numpy(), losses[-1]


def run(job):
    x, y = target()
    results = [fitted(job, wide(width), x, y, f"width {width}") for width in WIDTHS]
    deep = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    results.append(fitted(job, deep, x, y, "deep ReLU network"))
    errors = [error for _, error in results]
    polynomial = np.mean((np.polyval(np.polyfit(x[:, 0], y[:, 0], 10), x) - y) ** 2)

    names = [*(f"{w} tanh units" for w in WIDTHS), "1-32-32-1 ReLU"]
    title = "The brightness of one row of a photograph, and what each network draws"
    with job.figure("curves", 2, 3, 3.6, 2.4, title) as axes:
        for axis, name, (curve, error) in zip(axes.flat, names, results):
            axis.plot(x, y, color="0.7", linewidth=3, label="target")
            axis.plot(x, curve, label="network")
            axis.set_title(f"{name}: error {error:.4f}", fontsize=9)
            axis.legend(frameon=False, fontsize=7)
        axes[1, 2].loglog(WIDTHS, errors[:4], marker="o")
        axes[1, 2].axhline(polynomial, color="0.4", linestyle="--", label="polynomial of degree 10")
        axes[1, 2].set(xlabel="width", ylabel="mean square error")
        axes[1, 2].legend(frameon=False, fontsize=7)
    return {f"width {w}": e for w, e in zip(WIDTHS, errors[:3])} | {
        "deep ReLU network": errors[4], "falling with every width": float(np.all(np.diff(errors[:4]) < 0)),
        "mean square error at width 256": errors[3]}, polynomial
