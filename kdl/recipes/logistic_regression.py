"""Logistic regression: a diagnosis with a probability.

The log odds of a malignant tumour are taken as a weighted sum of measurements, p = sigmoid(w x + b), and the weights
minimise the cross-entropy plus a penalty on their size, |w|^2 / 2n, without which separable data would drive them to
infinity. The problem is convex: descent must reach the one minimum, which scikit-learn's exact solver also finds.

Data: 569 breast tumours with 30 measurements of their cells (Street et al., 1993), split 70/30. Baseline: always
"benign".
"""
import numpy as np

from kdl import nn, optim
from kdl.nn import functional as F
from kdl.recipes.common import majority, standardized, table
from kdl.utils import plots

METRIC = "test accuracy"
GATES = [("test accuracy", ">=", 0.95), ("objective over the exact one", "<=", 1.0005)]
EPOCHS = 1000


def run(job):
    x, y, names = table("breast_cancer")
    x, xt, y, yt = job.split(x.astype(np.float64), y)
    x, xt = standardized(x, xt)
    penalty = 1 / len(x)
    model = nn.Linear(30, 1).to(job.device)
    optimizer = optim.SGD([{"params": [model.weight], "weight_decay": penalty}, {"params": [model.bias]}], lr=0.2,
                          momentum=0.9)
    xs, ys = job.tensor(x), job.tensor(y[:, None].astype(np.float32))
    history = job.fit(lambda: F.binary_cross_entropy_with_logits(model(xs), ys), model, optimizer)

    def objective(w, b):
        z = x @ w + b
        return np.mean(np.logaddexp(0, z) - y * z) + penalty / 2 * (w ** 2).sum()

    from sklearn.linear_model import LogisticRegression
    exact = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(x, y)
    least = objective(exact.coef_[0], exact.intercept_[0])
    w, b = model.weight.detach().cpu().numpy()[0].astype(float), model.bias.item()
    predicted = (job.predict(model, job.tensor(xt)).cpu().numpy()[:, 0] > 0).astype(int)

    job.draw(plots.curves, "curves", {"loss/train": history["loss/train"][:200]}, xlabel="step",
             title="Cross-entropy over the first 200 steps")
    job.draw(plots.confusion_matrix, "confusion", yt, predicted, ["malignant", "benign"],
             title="Test patients: diagnosis and prediction")
    order = np.argsort(w)
    with job.figure("weights", 1, 1, 6.0, 5.4, "What speaks for benign (right) and for malignant (left)") as axes:
        axes[0, 0].barh(range(30), w[order], color=np.where(w[order] > 0, "C0", "C3"))
        axes[0, 0].set(yticks=range(30), yticklabels=[names[i] for i in order], xlabel="weight (standardised measures)")
        axes[0, 0].tick_params(axis="y", labelsize=7)
        axes[0, 0].grid(alpha=0.3, axis="x")
    return {"objective over the exact one": objective(w, b) / least,
            "exact solver's test accuracy": exact.score(xt, yt),
            "test accuracy": float((predicted == yt).mean())}, majority(y, yt)
