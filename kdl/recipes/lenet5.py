"""LeNet-5 reads handwritten digits (LeCun, Bottou, Bengio, Haffner, 1998).

A convolution slides small filters over the image and keeps what answers to each in a map; pooling halves the maps, so
that the next filters see a larger part of the image and small shifts matter less; fully connected layers turn the last
maps into ten scores. Trained by stochastic gradient descent with momentum on the cross-entropy of the scores.

Data: scikit-learn's 1,797 digits, each pixel repeated 4x4 to fill the 32x32 input, split 70/30 by the seed; or the
four IDX files of MNIST or Fashion-MNIST, padded from 28x28. Baseline: a linear classifier of the same images.
"""
import numpy as np

import kdl
from kdl import nn, optim
from kdl.models import LeNet5
from kdl.recipes.common import digits
from kdl.utils import plots

METRIC = "test accuracy"
GATES = [("test accuracy", ">=", 0.957), ("last loss", "<=", 0.015)]
EPOCHS = 10
SETTINGS = {
    "data": (None, "folder with the IDX files of MNIST or Fashion-MNIST (.gz or not) instead of scikit-learn's digits",
             {"metavar": "PATH"}),
    "variant": ("tanh", "tanh and average pooling, as in 1998, or ReLU and max pooling", {"choices": ["tanh", "relu"]}),
    "batch_size": (32, "examples per step", {"metavar": "N"}),
    "lr": (0.05, "learning rate", {"metavar": "RATE"}),
}


def load(job):
    """Train images (N, 1, 32, 32) in 0..1, test images, train labels, test labels, as arrays."""
    if job.data is None:
        images, labels = digits()
        return job.split(images.repeat(4, 1).repeat(4, 2)[:, None], labels)
    x, y, xt, yt = kdl.data.read_mnist(job.data)
    if x.shape[1:] != (28, 28) or xt.shape[1:] != (28, 28):
        raise ValueError(f"lenet5: expected images of 28x28 in {job.data}, got {x.shape[1:]} and {xt.shape[1:]}")
    if max(y.max(initial=0), yt.max(initial=0)) > 9:
        raise ValueError(f"lenet5: expected labels 0..9 in {job.data}, got {max(y.max(), yt.max())}")
    enlarge = lambda images: np.pad(images.astype(np.float32) / 255, ((0, 0), (2, 2), (2, 2)))[:, None]
    return enlarge(x), enlarge(xt), y, yt


def run(job):
    x, xt, y, yt = [job.tensor(part) for part in load(job)]
    model = LeNet5(variant=job.variant).to(job.device)
    optimizer = optim.SGD(model.parameters(), lr=job.lr, momentum=0.9)
    print(f"LeNet-5 ({job.variant}): {len(x)} training and {len(xt)} test images, "
          f"{sum(p.numel() for p in model.parameters()):,} weights, on {job.device}", flush=True)

    history = job.fit_classifier(model, optimizer, (x, y), (xt, yt), batch_size=job.batch_size)
    draw(job, model, history, xt, yt)

    linear = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)).to(job.device)
    job.fit_classifier(linear, optim.SGD(linear.parameters(), lr=0.05, momentum=0.9), (x, y), (xt, yt),
                       batch_size=job.batch_size, name="linear baseline")
    return {"last loss": history["loss/train"][-1], "test accuracy": history["accuracy/test"][-1]
            }, job.accuracy(linear, xt, yt)


def draw(job, model, history, xt, yt):
    with kdl.no_grad():
        maps = model.features[:2](xt[:1])[0].cpu().numpy()
    job.draw(plots.curves, "curves", history, title="LeNet-5: loss and accuracy over the epochs")
    job.draw_errors(model, xt, yt)
    job.draw(plots.filters, "filters", model.features[0].weight.detach().cpu().numpy(), maps, xt[0, 0].cpu().numpy(),
             title="LeNet-5: the first layer's filters and what they answer to one digit")
