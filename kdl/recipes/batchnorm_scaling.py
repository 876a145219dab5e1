"""Batch normalisation makes features of wildly different scale learnable.

In training each feature is normalised by the batch's own mean and variance, y = gamma (x - mean) / sqrt(var + eps) +
beta with var = mean((x - mean)^2), and the gradient goes through both statistics. Running averages of them, new = 0.9
old + 0.1 batch, are kept for evaluation alone, where one example must come out the same whatever stands beside it.

Data: 178 Italian wines with 13 measurements in their raw units, from 0.1 to 1,700 (Forina, 1988), split 70/30.
Baseline: the same network without normalisation.
"""
import numpy as np

from kdl import nn, optim
from kdl.recipes.common import table
from kdl.utils import plots

METRIC = "test accuracy"
GATES = [("test accuracy", ">=", 0.92), ("gap between alone and in a batch", "<=", 1e-5),
         ("error of the running mean", "<=", 0.015), ("error of the running variance", "<=", 0.07)]
EPOCHS = 60


def run(job):
    x, y, names = table("wine")
    x, xt, y, yt = [job.tensor(part) for part in job.split(x, y)]
    norm = nn.Sequential(nn.BatchNorm1d(13), nn.Linear(13, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))
    plain = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))
    histories = {}
    for name, model in (("with batch norm", norm), ("without", plain)):
        model.to(job.device)
        histories[name] = job.fit_classifier(model, optim.SGD(model.parameters(), lr=0.05), (x, y), (xt, yt),
                                             batch_size=31, name=name)
    together = job.predict(norm, xt)
    alone = job.predict(norm, xt, batch_size=1)
    mean, var = norm[0].running_mean.cpu().numpy(), norm[0].running_var.cpu().numpy()
    raw = x.cpu().numpy()

    job.draw(plots.curves, "curves", {f"{quantity}/{name}": history[key][1:] for quantity, key in (
        ("training loss", "loss/train"), ("test accuracy", "accuracy/test")) for name, history in histories.items()},
             title="Wines in raw units, from the second epoch on: with and without batch normalisation")
    job.draw_errors(norm, xt, yt)
    with job.figure("scales", 1, 2, 5.2, 3.6, "The 13 features before and after the first normalisation") as axes:
        for axis, values, label in zip(axes.flat, (raw, job.predict(norm[:1], x).cpu().numpy()),
                                       ("raw units (logarithmic)", "normalised")):
            axis.boxplot(values, orientation="horizontal", showfliers=False)
            axis.set(yticks=range(1, 14), yticklabels=[n.replace("_", " ") for n in names], xlabel=label)
            axis.tick_params(axis="y", labelsize=7)
        axes[0, 0].set_xscale("log")
    return {"gap between alone and in a batch": (alone - together).abs().max().item(),
            "error of the running mean": float(np.abs(mean / raw.mean(0) - 1).max()),
            "error of the running variance": float(np.abs(var / raw.var(0, ddof=1) - 1).max()),
            "test accuracy": job.accuracy(norm, xt, yt)}, job.accuracy(plain, xt, yt)
