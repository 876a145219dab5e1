"""The support vector machine: a linear model whose loss asks for a margin (Cortes and Vapnik, 1995).

The hinge loss max(0, 1 - t f(x)) is zero only where an example is on the right side by a margin; with |w|^2 / 2 as
penalty the widest margin wins, and the solution hangs on the few examples at it, the support vectors. The kernel form
f(x) = sum_i a_i k(x_i, x) + b does the same in the space of a kernel, |f|^2 = a'K a, and bends the border. Both are
convex, and libsvm's exact solutions are the judge. It is a linear layer with another loss, not a network of layers.

Data: scikit-learn's breast cancer table, split 70/30; digits for ten classes at once. Baseline: the bias alone.
"""
import numpy as np

from kdl import nn, optim
from kdl.nn import functional as F
from kdl.recipes.common import digits, standardized, table
from kdl.utils import plots

METRIC = "objective over libsvm's"
GATES = [("objective over libsvm's", "<=", 1.002), ("agreement with libsvm's RBF machine", ">=", 0.97),
         ("digits with a margin per class", ">=", 0.94)]
EPOCHS = 1500
C = 0.1


def linear_machine(job, x, t, name):
    """Minimises |w|^2 / 2 + C sum max(0, 1 - t (w x + b)) by subgradients with a falling rate."""
    model = nn.Linear(x.shape[1], 1).to(job.device)
    optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    hinge = lambda: ((model.weight ** 2).sum() / 2 + C * (1 - t * model(x)).clamp(min=0).sum()) / 10
    scheduler = optim.lr_scheduler.ExponentialLR(optimizer, 0.997)
    return model, job.fit(hinge, model, optimizer, scheduler=scheduler, name=name)["loss/train"]


def kernel_machine(job, K, t, name):
    """Minimises a'K a / 2 + sum max(0, 1 - t (K a + b)) over the weights a of the examples."""
    model = nn.Linear(len(K), 1).to(job.device)
    nn.init.zeros_(model.weight)

    def objective():
        a = model.weight[0]
        return (a * (K @ a)).sum() / 2 + (1 - t * model(K)).clamp(min=0).sum()
    job.fit(objective, model, optim.Adam(model.parameters(), lr=0.01), epochs=job.epochs * 2 // 5, name=name)
    return model


def run(job):
    x, y, _ = table("breast_cancer")
    x, xt, y, yt = job.split(x.astype(np.float64), y)
    (x, xt), t, tt = standardized(x, xt), 2.0 * y - 1, 2.0 * yt - 1
    ts = job.tensor(t[:, None])
    model, losses = linear_machine(job, job.tensor(x), ts, "linear machine")

    from sklearn.metrics.pairwise import rbf_kernel
    from sklearn.svm import SVC
    exact = SVC(C=C, kernel="linear", tol=1e-6).fit(x, t)
    objective = lambda w, b: (w ** 2).sum() / 2 + C * np.maximum(0, 1 - t * (x @ w + b)).sum()
    least = objective(exact.coef_[0], exact.intercept_[0])
    w, b = model.weight.detach().cpu().numpy()[0].astype(float), model.bias.item()

    machine = kernel_machine(job, job.tensor(rbf_kernel(x, x, 0.02)), ts, "kernel machine")
    rbf = SVC(C=1.0, gamma=0.02, tol=1e-6).fit(x, t)
    answers = np.sign(job.predict(machine, job.tensor(rbf_kernel(xt, x, 0.02))).cpu().numpy()[:, 0])

    images, labels = digits(flat=True)
    d, dt, e, et = [job.tensor(part) for part in job.split(images, labels)]
    ten = nn.Linear(64, 10).to(job.device)
    job.fit(lambda x, y: F.multi_margin_loss(ten(x), y), ten,
            optim.SGD(ten.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4), (d, e), batch_size=64, epochs=40,
            name="ten classes")
    draw(job, x, y, t, losses, least / 10)
    return {"linear test accuracy": float((np.sign(xt @ w + b) == tt).mean()),
            "RBF test accuracy": float((answers == tt).mean()),
            "agreement with libsvm's RBF machine": float((answers == rbf.predict(xt)).mean()),
            "digits with a margin per class": job.accuracy(ten, dt, et),
            "objective over libsvm's": objective(w, b) / least}, 2 * C * min((t > 0).sum(), (t < 0).sum()) / least


def draw(job, x, y, t, losses, least):
    """The descent, and both machines in the plane of the two main directions of the data."""
    from sklearn.metrics.pairwise import rbf_kernel
    plane = x @ np.linalg.svd(x, full_matrices=False)[2][:2].T / 3
    kernel = lambda p: rbf_kernel(p, plane, 1.0)
    targets = job.tensor(t[:, None])
    flat, _ = linear_machine(job, job.tensor(plane), targets, "linear machine in the plane")
    bent = kernel_machine(job, job.tensor(kernel(plane)), targets, "kernel machine in the plane")
    scores = (lambda p: job.predict(flat, job.tensor(p)).cpu().numpy()[:, 0],
              lambda p: job.predict(bent, job.tensor(kernel(p))).cpu().numpy()[:, 0])
    job.draw(plots.curves, "curves", {"objective / 10/train": losses[:300]}, {"objective / 10/libsvm": least},
             xlabel="step", title="The linear machine's objective over the first 300 steps")
    title = "In two main directions of the data: borders, margins (dashed), support vectors (ringed)"
    with job.figure("margins", 1, 2, 4.6, 4.0, title) as axes:
        for axis, score in zip(axes.flat, scores):
            plots.draw_boundary(axis, lambda p, score=score: (score(p) + 1) / 2, plane, y)
            side = np.linspace(*axis.get_xlim(), 80), np.linspace(*axis.get_ylim(), 80)
            grid = score(np.stack(np.meshgrid(*side), -1).reshape(-1, 2)).reshape(80, 80)
            axis.contour(*side, grid, levels=[-1, 0, 1], colors="black", linestyles=["--", "-", "--"], linewidths=0.8)
            at = t * score(plane) < 1.01
            axis.scatter(*plane[at].T, s=42, facecolor="none", edgecolor="black", linewidth=0.7)
