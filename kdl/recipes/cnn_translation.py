"""What convolution is for: a digit that moves is still the same digit.

A convolution applies the same small filters everywhere, so that moving the input moves the maps with it: it is
equivariant. The maximum over all places then forgets where something was found: that makes the answer invariant. A
multilayer perceptron has its own weight for every pixel and must see a digit everywhere to know it everywhere.

Data: scikit-learn's digits on a canvas of 20x20; they are learned in the upper part and asked for in the lower one.
Baseline: a perceptron of layers.
"""
import numpy as np

from kdl import nn, optim
from kdl.recipes.common import digits
from kdl.utils import plots

METRIC = "test accuracy in the unseen half"
GATES = [("test accuracy in the unseen half", ">=", 0.96), ("test accuracy where it learned", ">=", 0.965)]
EPOCHS = 15


def placed(images, rows, columns):
    """Each image on an empty canvas (1, 20, 20), its upper left corner at the given row and column."""
    canvas = np.zeros((len(images), 1, 20, 20), np.float32)
    for image, on, i, j in zip(images, canvas[:, 0], rows, columns):
        on[i:i + 8, j:j + 8] = image
    return canvas


def run(job):
    images, labels = digits()
    x, xt, y, yt = job.split(images, labels)
    anywhere = lambda images, low, high: placed(images, job.rng.integers(low, high, len(images)),
                                                job.rng.integers(0, 13, len(images)))
    top, same, low = [job.tensor(a) for a in (anywhere(x, 0, 3), anywhere(xt, 0, 3), anywhere(xt, 10, 13))]
    y, targets = job.tensor(y), job.tensor(yt)
    cnn = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
                        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
                        nn.Linear(64, 10))
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(400, 128), nn.ReLU(), nn.Linear(128, 10))
    histories = {}
    for name, model in (("convolutions", cnn), ("perceptron", mlp)):
        optimizer = optim.Adam(model.to(job.device).parameters(), lr=3e-3)
        schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, job.epochs)
        histories[f"loss/{name}"] = job.fit_classifier(model, optimizer, (top, y), (same, targets), batch_size=64,
                                                       scheduler=schedule, name=name)["loss/train"]

    job.draw(plots.curves, "curves", histories, title="Training loss, with digits in the upper part")
    job.draw_errors(cnn, low, targets)
    with job.figure("places", 1, 2, 3.8, 3.3, "Accuracy by row and column; rows above the line were learned") as axes:
        for axis, (name, model) in zip(axes.flat, (("convolutions", cnn), ("perceptron", mlp))):
            accuracy = [[job.accuracy(model, job.tensor(placed(xt[:100], [i] * 100, [j] * 100)), targets[:100])
                         for j in range(0, 13, 2)] for i in range(13)]
            shown = axis.imshow(accuracy, vmin=0, vmax=1, aspect="auto", extent=(-1, 13, 12.5, -0.5))
            axis.axhline(2.5, color="white", linestyle="--")
            axis.set(title=name, xlabel="column", ylabel="row")
        axis.figure.colorbar(shown, ax=axes.ravel().tolist(), label="accuracy")
    return {"test accuracy where it learned": job.accuracy(cnn, same, targets),
            "perceptron where it learned": job.accuracy(mlp, same, targets),
            "test accuracy in the unseen half": job.accuracy(cnn, low, targets)}, job.accuracy(mlp, low, targets)
