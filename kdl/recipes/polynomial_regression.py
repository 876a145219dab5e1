"""Polynomial regression: a curve by linear means, and what overfitting looks like.

A polynomial of degree 2 in ten features, y = x'W x + w x + b, is still linear in its weights: its descent ends at the
least squares solution. More degrees fit the training data ever better. On 15 patients, degree 9 in one feature passes
close to every point and is far from everything between them: the training error falls, the test error rises.

Data: scikit-learn's diabetes table, split 70/30; for the second part the BMI of 15 training patients. Baseline: the
mean of the training targets.
"""
import numpy as np
from numpy.polynomial.legendre import legvander

from kdl import nn, optim
from kdl.nn import functional as F
from kdl.recipes.common import standardized, table
from kdl.utils import plots

METRIC = "loss over the exact one"
GATES = [("loss over the exact one", "<=", 1.06), ("training error, degree 9 over 1", "<=", 0.95),
         ("test error, degree 9 over 1", ">=", 1.2)]
EPOCHS = 3000
DEGREES = (1, 3, 5, 7, 9)


class Quadratic(nn.Module):
    """x'W x + w x + b."""

    def __init__(self, features):
        super().__init__()
        self.square, self.line = nn.Bilinear(features, features, 1, bias=False), nn.Linear(features, 1)

    def forward(self, x):
        return self.square(x, x) + self.line(x)


def descend(job, model, x, y, lr, name):
    x, y = job.tensor(x), job.tensor(y)
    optimizer = optim.Adam(model.parameters(), lr=lr)
    return job.fit(lambda: F.mse_loss(model(x), y), model, optimizer, name=name)["loss/train"]


def run(job):
    x, y, names = table("diabetes")
    x, xt, y, yt = job.split(x.astype(np.float64), y[:, None])
    (x, xt), (y, yt) = standardized(x, xt), standardized(y, yt)
    model = Quadratic(10).to(job.device)
    losses = descend(job, model, x, y, 0.02, "degree 2 in ten features")
    rows, columns = np.triu_indices(10)
    design = np.c_[np.ones(len(x)), x, x[:, rows] * x[:, columns]]
    least = np.mean((design @ np.linalg.lstsq(design, y, rcond=None)[0] - y) ** 2)

    bmi = names.index("bmi")
    scale = np.abs(x[:, bmi]).max()
    features = lambda values, degree: legvander(np.clip(values / scale, -1, 1), degree)[:, 1:]
    train, test, curves = [], [], []
    grid = np.linspace(x[:15, bmi].min(), x[:15, bmi].max(), 200)
    for degree in DEGREES:
        curve = nn.Linear(degree, 1).to(job.device)
        train.append(descend(job, curve, features(x[:15, bmi], degree), y[:15], 0.05, f"degree {degree}")[-1])
        answers = [job.predict(curve, job.tensor(features(v, degree))).cpu().numpy() for v in (xt[:, bmi], grid)]
        test.append(np.mean((answers[0] - yt) ** 2))
        curves.append(answers[1][:, 0])

    title = "Fifteen patients: higher degrees fit them better and the others worse"
    with job.figure("overfitting", 1, 2, 4.6, 3.4, title) as axes:
        axes[0, 0].scatter(x[:15, bmi], y[:15, 0], color="black", s=18, zorder=3, label="training patients")
        for degree, curve in zip(DEGREES, curves):
            axes[0, 0].plot(grid, curve, label=f"degree {degree}")
        axes[0, 0].set(xlabel="BMI (standardised)", ylabel="progression (standardised)", ylim=(-3, 3))
        axes[0, 1].semilogy(DEGREES, train, marker="o", label="training error")
        axes[0, 1].semilogy(DEGREES, test, marker="o", label="test error")
        axes[0, 1].set(xlabel="degree", ylabel="mean square error", xticks=DEGREES)
        for axis in axes.flat:
            axis.legend(frameon=False, fontsize=8)
            axis.grid(alpha=0.3)
    job.draw(plots.curves, "curves", {"loss/train": losses[:400]}, {"loss/least squares": least}, xlabel="step",
             title="Degree 2 in ten features: the first 400 steps")
    r2 = 1 - np.mean((job.predict(model, job.tensor(xt)).cpu().numpy() - yt) ** 2) / yt.var()
    return {"test R2": r2, "training error, degree 9 over 1": train[-1] / train[0],
            "test error, degree 9 over 1": test[-1] / test[0], "loss over the exact one": losses[-1] / least
            }, float(y.var() / least)
