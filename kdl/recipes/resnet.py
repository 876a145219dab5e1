"""A residual network of twenty layers, and the same network without its shortcuts (He et al., 2016).

A block computes y = relu(F(x) + x): it learns what to change, and where nothing is to be changed F need only be zero.
The ReLU follows the addition, so that F may take away as well as add. Without the shortcuts the same twenty layers fit
even the training data worse, although they could express the same function: the trouble is descent, not capacity.

Data: scikit-learn's digits, 8x8, split 70/30. Baseline: always the commonest digit.
"""
import numpy as np

import kdl
from kdl import optim
from kdl.models import resnet20
from kdl.nn import functional as F
from kdl.recipes.common import digits, majority
from kdl.utils import plots

METRIC = "test accuracy"
GATES = [("test accuracy", ">=", 0.96), ("last loss", "<=", 0.03)]
EPOCHS = 10


def train(job, model, train, test, name):
    optimizer = optim.SGD(model.to(job.device).parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    milestones = [job.epochs * 6 // 10, job.epochs * 8 // 10]
    return job.fit_classifier(model, optimizer, train, test, batch_size=64, name=name,
                              scheduler=optim.lr_scheduler.MultiStepLR(optimizer, milestones, 0.1))


def run(job):
    images, labels = digits()
    x, xt, y, yt = [job.tensor(part) for part in job.split(images[:, None], labels)]
    residual, plain = (resnet20(in_channels=1, widths=(8, 16, 32), shortcut=shortcut) for shortcut in (True, False))
    history = train(job, residual, (x, y), (xt, yt), "with shortcuts")
    without = train(job, plain, (x, y), (xt, yt), "without")

    job.draw(plots.curves, "curves", {"training loss/with shortcuts": history["loss/train"],
                                      "training loss/without": without["loss/train"],
                                      "test accuracy/with shortcuts": history["accuracy/test"],
                                      "test accuracy/without": without["accuracy/test"]},
             title="Twenty layers with and without shortcuts")
    job.draw_errors(residual, xt, yt)
    draw_inside(job, residual, xt)
    return {"last loss": history["loss/train"][-1], "test accuracy without shortcuts": without["accuracy/test"][-1],
            "test accuracy": history["accuracy/test"][-1]}, majority(y.cpu(), yt.cpu())


@kdl.no_grad()
def draw_inside(job, model, x):
    """The maps of one digit after every stage, and how large F(x) is beside x in every block."""
    stages, ratios = [F.relu(model.bn1(model.conv1(x[:200])))], []
    for stage in (model.layer1, model.layer2, model.layer3):
        h = stages[-1]
        for block in stage:
            carried = h if block.downsample is None else block.downsample(h)
            change = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(h)))))
            ratios.append((change.norm() / carried.norm()).item())
            h = block(h)
        stages.append(h)
    with job.figure("stages", 4, 8, 1.1, 1.15, "The first eight maps of one digit: stem, and after each stage") as axes:
        for row, maps in zip(axes, stages):
            for axis, shown in zip(row, maps[0].cpu().numpy()):
                axis.imshow(shown, cmap="gray")
                axis.set_axis_off()
    with job.figure("changes", 1, 1, 5.0, 3.0, "What each block adds to its shortcut: |F(x)| / |x|") as axes:
        axes[0, 0].bar(np.arange(1, len(ratios) + 1), ratios)
        axes[0, 0].set(xlabel="block", ylabel="|F(x)| / |x|")
