"""Linear regression: gradient descent finds what a formula gives exactly.

The model y = w x + b with the mean square error is convex, so that descent, W <- W - lr dL/dW, ends at the one solution
of the normal equations, W = (X'X)^-1 X'y, which needs no descent at all: here it is the judge. Momentum, v <- 0.9 v + g
and W <- W - lr v, carries the descent along the valleys that correlated features make.

Data: 442 diabetes patients, ten features, the disease's progression after a year (Efron et al., 2004), split 70/30.
Baseline: the mean of the training targets, whose R2 is 0.
"""
import numpy as np

from kdl import nn, optim
from kdl.nn import functional as F
from kdl.recipes.common import standardized, table
from kdl.utils import plots

METRIC = "loss over the exact one"
GATES = [("loss over the exact one", "<=", 1.0001), ("largest error of a weight", "<=", 1e-4)]
EPOCHS = 1500


def run(job):
    x, y, names = table("diabetes")
    x, xt, y, yt = job.split(x.astype(np.float64), y)
    (x, xt), (y, yt) = standardized(x, xt), standardized(y, yt)
    model = nn.Linear(10, 1).to(job.device)
    xs, ys = job.tensor(x), job.tensor(y[:, None])
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    history = job.fit(lambda: F.mse_loss(model(xs), ys), model, optimizer)

    columns, columns_t = np.c_[x, np.ones(len(x))], np.c_[xt, np.ones(len(xt))]
    exact = np.linalg.lstsq(columns, y, rcond=None)[0]
    least = np.mean((columns @ exact - y) ** 2)
    learned = np.r_[model.weight.detach().cpu().numpy()[0], model.bias.detach().cpu().numpy()]
    r2 = lambda w: float(1 - np.mean((columns_t @ w - yt) ** 2) / yt.var())

    with job.figure("descent", 1, 2, 4.4, 3.2, "Descent to the closed form: the excess loss, and the weights") as axes:
        axes[0, 0].semilogy(np.maximum(np.array(history["loss/train"]) - least, 1e-9))
        axes[0, 0].set(xlabel="step", ylabel="loss above the least")
        axes[0, 1].barh(np.arange(10) - 0.2, exact[:10], 0.4, label="normal equations")
        axes[0, 1].barh(np.arange(10) + 0.2, learned[:10], 0.4, label="descent")
        axes[0, 1].set(yticks=range(10), yticklabels=names, xlabel="weight of the standardised feature")
        axes[0, 1].legend(frameon=False, fontsize=8)
        for axis in axes.flat:
            axis.grid(alpha=0.3)
    job.draw(plots.curves, "curves", {"loss/train": history["loss/train"][:60]}, {"loss/exact": least}, xlabel="step",
             title="The first 60 steps")
    return {"largest error of a weight": float(np.abs(learned - exact).max()), "test R2": r2(learned),
            "test R2 of the exact weights": r2(exact), "loss over the exact one": history["loss/train"][-1] / least
            }, float(y.var() / least)
