"""Eleven ways down the same hill: what optimisers do with one and the same gradient.

SGD steps along -g. Momentum keeps a velocity, v <- 0.9 v + g, and Nesterov's form looks ahead along it. Adagrad,
RMSprop and Adadelta divide each weight's step by the size of its own past gradients; Adam does that to a momentum and
corrects both for their start at zero, AdamW keeps weight decay out of it. A learning rate that is too small hardly
moves, one that is too large does not converge: both are shown for SGD.

Data: scikit-learn's digits, 15 epochs of the same batches from the same weights. Baseline: always the commonest digit.
"""
import numpy as np

import kdl
from kdl import nn, optim
from kdl.recipes.common import digits, majority
from kdl.utils import plots

OPTIMIZERS = {
    "SGD": (optim.SGD, {"lr": 0.2}, (0.14, 0.2)),
    "momentum": (optim.SGD, {"lr": 0.05, "momentum": 0.9}, (0.062, 0.105)),
    "Nesterov": (optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}, (0.06, 0.102)),
    "Adagrad": (optim.Adagrad, {"lr": 0.03}, (0.085, 0.145)), "Adadelta": (optim.Adadelta, {"lr": 1.0}, (0.095, 0.147)),
    "RMSprop": (optim.RMSprop, {"lr": 0.002}, (0.09, 0.15)), "Adam": (optim.Adam, {"lr": 0.005}, (0.051, 0.093)),
    "AMSGrad": (optim.Adam, {"lr": 0.005, "amsgrad": True}, (0.051, 0.093)),
    "AdamW": (optim.AdamW, {"lr": 0.005, "weight_decay": 0.05}, (0.056, 0.1)),
    "Adamax": (optim.Adamax, {"lr": 0.01}, (0.072, 0.12)), "NAdam": (optim.NAdam, {"lr": 0.005}, (0.047, 0.09)),
}
RATES = {"rate 0.0005": (5e-4, ((">=", 2.25),)), "rate 0.2": (0.2, ()), "rate 50": (50.0, ((">=", 2.3), ("<=", 40.0)))}

METRIC = "worst test accuracy"
GATES = [("worst test accuracy", ">=", 0.92),
         *((f"loss with {name}", relation, bound) for name, (_, _, bounds) in OPTIMIZERS.items()
           for relation, bound in zip((">=", "<="), bounds)),
         *((f"loss with {name}", *gate) for name, (_, gates) in RATES.items() for gate in gates)]
EPOCHS = 15


def run(job):
    images, labels = digits(flat=True)
    x, xt, y, yt = [job.tensor(part) for part in job.split(images, labels)]
    start = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).to(job.device)
    weights = {name: w.clone() for name, w in start.state_dict().items()}

    def train(name, make, **options):
        kdl.manual_seed(job.seed)
        start.load_state_dict(weights)
        optimizer = make(start.parameters(), **options)
        history = job.fit_classifier(start, optimizer, (x, y), (xt, yt), batch_size=64, name=name)
        return history["loss/train"], history["accuracy/test"][-1]

    results = {name: train(name, make, **options) for name, (make, options, _) in OPTIMIZERS.items()}
    rates = {name: train(name, optim.SGD, lr=rate)[0] for name, (rate, _) in RATES.items()}

    job.draw(plots.curves, "curves", {f"loss/{name}": losses for name, (losses, _) in results.items()},
             title="The same network, batches and start, down by eleven optimisers")
    with job.figure("rates", 1, 2, 4.4, 3.2, "Learning rates of SGD, and the paths on a narrow valley") as axes:
        for name, losses in rates.items():
            axes[0, 0].semilogy(losses, label=name)
        axes[0, 0].set(xlabel="epoch", ylabel="loss")
        valley(axes[0, 1])
        for axis in axes.flat:
            axis.legend(frameon=False, fontsize=8)
    losses = {name: values[-1] for name, (values, _) in results.items()} | {
        name: values[-1] if np.isfinite(values[-1]) else 1e9 for name, values in rates.items()}
    return {f"loss with {name}": loss for name, loss in losses.items()} | {
        "worst test accuracy": min(accuracy for _, accuracy in results.values())}, majority(y.cpu(), yt.cpu())


def valley(axis):
    """Paths of four optimisers on x^2 / 20 + y^2."""
    side = np.linspace(-9, 9, 100), np.linspace(-3, 3, 100)
    axis.contour(*side, side[0][None] ** 2 / 20 + side[1][:, None] ** 2, levels=12, colors="0.8")
    for name, make, options in (("SGD", optim.SGD, {"lr": 0.9}), ("momentum", optim.SGD, {"lr": 0.1, "momentum": 0.9}),
                                ("RMSprop", optim.RMSprop, {"lr": 0.4}), ("Adam", optim.Adam, {"lr": 0.6})):
        point = kdl.tensor([-8.0, 2.5], requires_grad=True)
        optimizer, path = make([point], **options), [(-8.0, 2.5)]
        for _ in range(30):
            optimizer.zero_grad()
            (point[0] ** 2 / 20 + point[1] ** 2).backward()
            optimizer.step()
            path.append(tuple(point.tolist()))
        axis.plot(*np.array(path).T, marker=".", markersize=3, linewidth=1, label=name)
    axis.set(xlabel="x", ylabel="y")
