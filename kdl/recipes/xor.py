"""XOR: what one straight line cannot separate, one hidden layer can.

A linear classifier sigmoid(w x + b) answers 1/2 everywhere on XOR, whatever it learns: its loss stays at ln 2. Three
stacked linear layers are one linear layer again, W3 W2 W1 x, and do no better. With a tanh between two of them the
network bends the plane until a line is enough.

Data: the four points of XOR, all in every step; 10 starts with other weights. Baseline: the linear models' accuracy.
"""
import numpy as np

from kdl import nn, optim
from kdl.nn import functional as F
from kdl.utils import plots

METRIC = "share of starts that solve it"
GATES = [("share of starts that solve it", ">=", 0.9), ("median loss", "<=", 0.002),
         ("loss of one linear layer", ">=", 0.693), ("loss of one linear layer", "<=", 0.694),
         ("loss of three linear layers", ">=", 0.693), ("loss of three linear layers", "<=", 0.694)]
EPOCHS = 400
X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
Y = np.array([0, 1, 1, 0], np.float32)


def train(job, model, name):
    """The losses, and the share of the four points that come out right."""
    x, y = job.tensor(X), job.tensor(Y[:, None])
    history = job.fit(lambda: F.binary_cross_entropy_with_logits(model(x), y), model,
                      optim.Adam(model.parameters(), lr=0.05), name=name)
    return history["loss/train"], ((job.predict(model, x) > 0) == (y > 0)).float().mean().item()


def run(job):
    networks = [nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)).to(job.device) for _ in range(10)]
    hidden = [train(job, network, f"hidden layer, start {i}") for i, network in enumerate(networks)]
    line = nn.Linear(2, 1).to(job.device)
    one = train(job, line, "one linear layer")
    three = train(job, nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(4, 1)).to(job.device),
                  "three linear layers")

    job.draw(plots.curves, "curves", {"loss/hidden layer": hidden[0][0], "loss/linear": one[0],
                                      "loss/three linear": three[0]}, {"loss/ln 2": np.log(2)}, xlabel="step",
             title="XOR: the linear models stay at ln 2")
    best = networks[int(np.argmin([losses[-1] for losses, _ in hidden]))]
    with job.figure("boundaries", 1, 2, 3.4, 3.2, "The probability of 1: one linear layer, one hidden layer") as axes:
        for axis, model in zip(axes.flat, (line, best)):
            probability = lambda p, model=model: job.predict(model, job.tensor(p)).sigmoid().cpu().numpy()
            plots.draw_boundary(axis, probability, X, Y.astype(int))
    return {"median loss": float(np.median([losses[-1] for losses, _ in hidden])),
            "loss of one linear layer": one[0][-1], "loss of three linear layers": three[0][-1],
            "share of starts that solve it": np.mean([right == 1 and losses[-1] < 0.1 for losses, right in hidden])
            }, max(one[1], three[1])
