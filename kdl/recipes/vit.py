"""The vision transformer reads an image as a sentence of patches (Dosovitskiy et al., 2021).

Every 2x2 patch of the digit becomes a vector, a learned place is added, and a class token stands before them. In each
block every token asks all others, softmax(q k' / sqrt(d)) v, and a small network works on each token alone; the class
token ends up with what the classifier needs. Nothing but the places says which patches are neighbours: the network has
to learn what a convolution has built in.

Data: scikit-learn's digits, split 70/30. Baseline: a linear model of the same pixels without their places, sorted.
"""
import numpy as np

import kdl
from kdl import nn, optim
from kdl.models import ViT
from kdl.nn import functional as F
from kdl.recipes.common import digits
from kdl.utils import plots

METRIC = "test accuracy"
GATES = [("test accuracy", ">=", 0.93), ("last loss", "<=", 0.535), ("rows of attention off one by", "<=", 1e-5)]
EPOCHS = 35


def run(job):
    images, labels = digits()
    x, xt, y, yt = [job.tensor(a) for a in job.split(images[:, None], labels)]
    model = ViT().to(job.device)
    optimizer = optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    test = lambda: {"loss/test": F.cross_entropy(job.predict(model, xt), yt, label_smoothing=0.1).item()}
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, job.epochs)
    history = job.fit(lambda x, y: F.cross_entropy(model(x), y, label_smoothing=0.1), model, optimizer, (x, y),
                      batch_size=64, scheduler=scheduler, evaluate=test)

    bag, bag_t = [a.flatten(1).sort(1).values for a in (x, xt)]
    linear = nn.Linear(64, 10).to(job.device)
    job.fit_classifier(linear, optim.Adam(linear.parameters(), lr=1e-2), (bag, y), (bag_t, yt), batch_size=64,
                       epochs=30, name="sorted pixels")
    accuracy = job.accuracy(model, xt, yt)

    job.draw(plots.curves, "curves", history, title="Cross-entropy with smoothed labels (0.1), which never reaches 0")
    job.draw_errors(model, xt, yt)
    off = draw(job, model, xt[:8])
    return {"last loss": history["loss/train"][-1], "rows of attention off one by": off,
            "test accuracy": accuracy}, job.accuracy(linear, bag_t, yt)


def draw(job, model, x):
    """Where the class token looks, block by block, and how alike the places are; the largest |sum of a row - 1|."""
    job.predict(model, x)
    weights = [block.weights.cpu().numpy() for block in model.blocks]
    maps = {f"block {i + 1}": w[:, 0, 1:].reshape(-1, 4, 4) for i, w in enumerate(weights)}
    job.draw(plots.image_rows, "attention", {"digit": x[:, 0].cpu().numpy(), **maps},
             title="Where the class token looks: its attention to the 4x4 patches in every block")
    with kdl.no_grad():
        place = F.normalize(model.place[0, 1:], dim=1)
        alike = (place @ place.T).cpu().numpy()
    with job.figure("places", 4, 4, 1.0, 1.0, "How alike each patch's learned place is to all others (cosine)") as axes:
        for axis, row in zip(axes.flat, alike):
            shown = axis.imshow(row.reshape(4, 4), cmap="RdBu_r", vmin=-1, vmax=1)
            axis.set(xticks=[], yticks=[])
        axis.figure.colorbar(shown, ax=axes, shrink=0.8, label="cosine")
    return max(float(np.abs(w.sum(-1) - 1).max()) for w in weights)
