"""The first artificial neurons: McCulloch and Pitts (1943), and Rosenblatt's perceptron that learns (1958).

A McCulloch-Pitts neuron with n inputs of 0 or 1 fires when their sum reaches its threshold, g >= theta: theta = 1 makes
it OR, theta = n makes it AND. The perceptron has real weights and a bias, answers sign(w x + b), and learns from its
mistakes alone: w <- w + t x where the target t in {-1, +1} was missed. If a straight line separates the two classes the
rule stops after finitely many mistakes; on XOR, where none does, it never stops.

Data: the iris table (setosa against the rest), digits 0 and 1, the four points of XOR. Baseline: always "not setosa".
"""
from itertools import product

import numpy as np

import kdl
from kdl.recipes.common import digits, table

METRIC = "test accuracy"
GATES = [("test accuracy", ">=", 1.0), ("mistakes in the last epoch", "<=", 0), ("truth tables right", ">=", 1),
         ("accuracy on digits 0 and 1", ">=", 0.98), ("mistakes on XOR in the last epoch", ">=", 1)]
XOR = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32), np.array([-1, 1, 1, -1])


def fires(x, theta):
    """Whether the neuron fires for each row of inputs."""
    return (x.sum(1) >= theta).float()


def perceptron(job, x, t, epochs):
    """The weights, the bias last, and the mistakes of every epoch; ends with the first epoch that has none."""
    x, t = job.tensor(np.c_[x, np.ones(len(x), np.float32)]), job.tensor(t)
    w, mistakes = kdl.zeros(x.shape[1], device=job.device), []
    for _ in range(epochs):
        mistakes.append(0)
        for i in job.rng.permutation(len(x)):
            if kdl.sign(x[i] @ w) != t[i]:
                w += t[i] * x[i]
                mistakes[-1] += 1
        if not mistakes[-1]:
            break
    return w, mistakes


def accuracy(job, w, x, t):
    return (kdl.sign(job.tensor(x) @ w[:-1] + w[-1]) == job.tensor(t)).float().mean().item()


def run(job):
    tables = [(np.array(list(product([0, 1], repeat=n)), np.float32), n) for n in (2, 3, 4)]
    right = [np.array_equal(fires(job.tensor(x), theta).cpu().numpy(), wanted)
             for x, n in tables for theta, wanted in ((1, x.max(1)), (n, x.min(1)))]

    x, species, _ = table("iris")
    x, xt, t, tt = job.split(x, np.where(species == 0, 1, -1))
    w, mistakes = perceptron(job, x, t, 100)
    images, labels = digits(flat=True)
    kept = labels < 2
    a, at, b, bt = job.split(images[kept], np.where(labels[kept] == 0, 1, -1))
    v, digit_mistakes = perceptron(job, a, b, 20)
    _, xor_mistakes = perceptron(job, *XOR, 200)

    draw(job, {"iris": mistakes, "digits 0 and 1": digit_mistakes, "XOR": xor_mistakes})
    return {"truth tables right": float(np.mean(right)), "mistakes in the last epoch": mistakes[-1],
            "accuracy on digits 0 and 1": accuracy(job, v, at, bt),
            "mistakes on XOR in the last epoch": xor_mistakes[-1],
            "test accuracy": accuracy(job, w, xt, tt)}, float((tt == -1).mean())


def draw(job, mistakes):
    lines = {"OR": (XOR[0].max(1), [(1, 1, 0.5)]), "AND": (XOR[0].min(1), [(1, 1, 1.5)]),
             "XOR": (XOR[1] > 0, [(1, 1, 0.5), (1, 1, 1.5)])}
    with job.figure("truth_tables", 1, 3, 2.6, 2.7, "OR and AND need one line, XOR needs two") as axes:
        for axis, (name, (fired, borders)) in zip(axes.flat, lines.items()):
            axis.scatter(*XOR[0].T, c=fired, cmap="RdBu_r", edgecolor="black", s=90, zorder=2)
            for p, q, theta in borders:
                axis.plot([-0.3, 1.3], [(theta + 0.3 * p) / q, (theta - 1.3 * p) / q], color="0.4", linestyle="--")
            axis.set(title=f"{name} (red: fires)", xlabel="x1", ylabel="x2", xlim=(-0.3, 1.3), ylim=(-0.3, 1.3),
                     xticks=[0, 1], yticks=[0, 1])
    title = "Mistakes per epoch: none is left where a line separates the classes"
    with job.figure("mistakes", 1, 3, 3.2, 2.6, title) as axes:
        for axis, (name, counts) in zip(axes.flat, mistakes.items()):
            axis.plot(range(1, len(counts) + 1), counts, marker="o", markersize=3)
            axis.set(title=name, xlabel="epoch", ylabel="mistakes")
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.grid(alpha=0.3)
