"""Regularisation: how to keep a network from learning its training examples by heart.

150 digits, a fifth of them with wrong labels, are soon learned without an error, the wrong ones too. Weight decay pulls
weights to zero, dropout silences random units so that none relies on another, early stopping ends before the noise is
learned. Dropout is inverted: in training a unit survives with probability 1 - p and is then scaled by 1 / (1 - p), so
that nothing is left to do in evaluation. In linear models an L1 penalty makes most weights exactly unimportant, L2
makes all of them small.

Data: 150 noisy digits; for the penalties scikit-learn's breast cancer table. Baseline: the network without any of it.
"""
import numpy as np

import kdl
from kdl import nn, optim
from kdl.nn import functional as F
from kdl.recipes.common import digits, standardized, table
from kdl.utils import plots

METRIC = "test accuracy with dropout"
GATES = [("gain of dropout", ">=", 0.0), ("gap of dropout's mean", "<=", 0.01),
         ("training accuracy without any", ">=", 0.99),
         ("share of zeros under L1", ">=", 0.65), ("share of zeros under L2", "<=", 0.1),
         ("norm under L2 over plain", "<=", 0.35)]
EPOCHS = 100


def network(p):
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Dropout(p), nn.Linear(256, 256), nn.ReLU(), nn.Dropout(p),
                         nn.Linear(256, 10))


def noisy_digits(job):
    images, labels = digits(flat=True)
    x, xt, y, yt = job.split(images, labels)
    x, y = x[:150], y[:150].copy()
    wrong = job.rng.random(150) < 0.2
    y[wrong] = job.rng.integers(0, 10, wrong.sum())
    return [job.tensor(part) for part in (x, xt, y, yt)]


def sizes(job, x, y, name, l1=0.0, l2=0.0):
    """The sizes of a logistic regression's weights under penalties l1 sum |w| + l2 sum w^2."""
    model = nn.Linear(30, 1).to(job.device)
    w = model.weight
    loss = lambda: F.binary_cross_entropy_with_logits(model(x), y) + l1 * w.abs().sum() + l2 * (w ** 2).sum()
    job.fit(loss, model, optim.SGD(model.parameters(), lr=0.05, momentum=0.9), epochs=8 * job.epochs, name=name)
    return w.detach().abs().cpu().numpy()[0]


def dropout_gap(job):
    """How far dropout's mean in training is from its input's, and its output in evaluation from its input."""
    ones, drop = kdl.ones(400, 250, device=job.device), nn.Dropout(0.3)
    kept = drop(ones)
    return kept, max(abs(kept.mean().item() - 1), (drop.eval()(ones) - ones).abs().max().item())


def run(job):
    x, xt, y, yt = noisy_digits(job)
    histories, measured = {}, {}
    for name, p, decay, epochs in (("without any", 0.0, 0.0, job.epochs), ("with weight decay", 0.0, 0.3, job.epochs),
                                   ("with dropout", 0.5, 0.0, job.epochs), ("stopped early", 0.0, 0.0, 8)):
        model = network(p).to(job.device)
        optimizer = optim.AdamW(model.parameters(), lr=2e-3, weight_decay=decay)
        histories[name] = job.fit_classifier(model, optimizer, (x, y), (xt, yt), batch_size=50, epochs=epochs,
                                             name=name)
        measured[f"test accuracy {name}"] = job.accuracy(model, xt, yt)
        measured[f"training accuracy {name}"] = job.accuracy(model, x, y)
    kept, gap = dropout_gap(job)

    a, _, b, _ = job.split(*table("breast_cancer")[:2])
    a, b = job.tensor(standardized(a, a)[0]), job.tensor(b[:, None].astype(np.float32))
    plain, one, two = (sizes(job, a, b, f"L1 {l1}, L2 {l2}", l1, l2) for l1, l2 in ((0, 0), (0.03, 0), (0, 0.03)))

    job.draw(plots.curves, "curves", {f"{quantity}/{name}": history[key] for quantity, key in (
        ("test loss", "loss/test"), ("test accuracy", "accuracy/test")) for name, history in histories.items()},
             title="150 noisy digits: the test loss and accuracy, with and without regularisation")
    title = "Sizes of 30 weights: plain, under L1, under L2; and a mask of dropout"
    with job.figure("weights", 1, 4, 3.0, 2.6, title) as axes:
        for axis, name, values in zip(axes.flat, ("plain", "L1", "L2"), (plain, one, two)):
            axis.hist(values, np.linspace(0, max(plain), 25))
            axis.set(xlabel="|w|", ylabel="weights", title=name)
        axes[0, 3].imshow(kept[:40, :60].cpu().numpy(), cmap="gray")
        axes[0, 3].set(title="dropout, p = 0.3", xticks=[], yticks=[])
    return measured | {
        "gain of dropout": measured["test accuracy with dropout"] - measured["test accuracy without any"],
        "gap of dropout's mean": gap, "share of zeros under L1": float((one < 0.01).mean()),
        "share of zeros under L2": float((two < 0.01).mean()),
        "norm under L2 over plain": float(np.linalg.norm(two) / np.linalg.norm(plain))
        }, measured["test accuracy without any"]
