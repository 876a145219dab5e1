"""LeNet-5 reads handwritten digits (LeCun, Bottou, Bengio, Haffner, 1998).

A convolution slides small filters over the image and keeps what answers to each in a map; pooling halves the maps, so
that the next filters see a larger part of the image and small shifts matter less; fully connected layers turn the last
maps into ten scores. Trained by stochastic gradient descent with momentum on the cross-entropy of the scores.

Data: scikit-learn's 1,797 digits, each pixel repeated 4x4 to fill the 32x32 input, split 70/30 by the seed; or the
four IDX files of MNIST or Fashion-MNIST, padded from 28x28.
"""
from pathlib import Path

import numpy as np

import kdl
from kdl import optim
from kdl.models import LeNet5
from kdl.recipes import common
from kdl.utils import plots

GATE = 0.95
DEFAULTS = {"data": None, "variant": "tanh", "seed": 0, "batch_size": 32, "lr": 0.05}
EPOCHS = 10


def add_arguments(parser):
    parser.add_argument("--data", metavar="PATH",
                        help="folder with the IDX files of MNIST or Fashion-MNIST (.gz or not) instead of "
                             "scikit-learn's digits")
    parser.add_argument("--variant", choices=["tanh", "relu"],
                        help="tanh and average pooling, as in 1998 (default), or ReLU and max pooling")
    parser.add_argument("--batch-size", type=int, metavar="N", help=f"examples per step (default "
                                                                    f"{DEFAULTS['batch_size']})")
    parser.add_argument("--lr", type=float, metavar="RATE", help=f"learning rate (default {DEFAULTS['lr']})")


def load(path, seed):
    """Train images (N, 1, 32, 32) in 0..1 and labels, then the same for testing, as arrays."""
    if path is not None:
        x, y, xt, yt = kdl.data.read_mnist(path)
        if x.shape[1:] != (28, 28) or xt.shape[1:] != (28, 28):
            raise ValueError(f"lenet5: expected images of 28x28 in {path}, got {x.shape[1:]} and {xt.shape[1:]}")
        if max(y.max(initial=0), yt.max(initial=0)) > 9:
            raise ValueError(f"lenet5: expected labels 0..9 in {path}, got {max(y.max(), yt.max())}")
        enlarge = lambda images: np.pad(images.astype(np.float32) / 255, ((0, 0), (2, 2), (2, 2)))[:, None]
        return enlarge(x), y.astype(np.int64), enlarge(xt), yt.astype(np.int64)
    images, labels = common.digits()
    images = images.repeat(4, 1).repeat(4, 2)[:, None]
    order = np.random.default_rng(seed).permutation(len(images))
    cut = round(0.7 * len(order))
    return images[order[:cut]], labels[order[:cut]], images[order[cut:]], labels[order[cut:]]


def run(options):
    """Train, test, draw, save; the exit code is 1 when the default job ends below the gate."""
    given = {name: getattr(options, name) for name in DEFAULTS if getattr(options, name) is not None}
    checkpoint = common.load_checkpoint(options.resume, "lenet5", given) if options.resume else None
    settings = {**DEFAULTS, **(checkpoint["settings"] if checkpoint else {}), **given}
    epochs = EPOCHS if options.epochs is None else options.epochs
    if epochs < 1 or settings["batch_size"] < 1:
        raise ValueError(f"lenet5: expected at least one epoch and one example per step, got --epochs {epochs} "
                         f"--batch-size {settings['batch_size']}")
    device = kdl.device(options.device)
    out = Path(options.out or "runs/lenet5")

    x, y, xt, yt = [kdl.from_numpy(a).to(device) for a in load(settings["data"], settings["seed"])]
    if settings["batch_size"] > len(x):
        raise ValueError(f"lenet5: --batch-size {settings['batch_size']} is larger than the {len(x)} training images")
    kdl.manual_seed(settings["seed"])
    model = LeNet5(variant=settings["variant"]).to(device)
    training = common.Run("lenet5", settings, model, optim.SGD(model.parameters(), lr=settings["lr"], momentum=0.9))
    if checkpoint:
        training.restore(checkpoint)
    print(f"LeNet-5 ({settings['variant']}): {len(x)} training and {len(xt)} test images, "
          f"{sum(p.numel() for p in model.parameters()):,} weights, on {device}", flush=True)

    out.mkdir(parents=True, exist_ok=True)
    common.fit(training, (x, y), (xt, yt), epochs, settings["batch_size"], out / "checkpoint.safetensors")
    logits, _ = common.evaluate(model, xt, yt)
    predicted = logits.argmax(1)
    accuracy = float((predicted == yt).float().mean())
    for picture in draw(out, training, model, xt[:1], yt, predicted):
        print(f"wrote {picture}")
    print(f"wrote {out / 'checkpoint.safetensors'}")
    default_job = settings["data"] is None and epochs >= EPOCHS
    return common.report("test accuracy", accuracy, GATE if default_job else None)


def draw(out, training, model, example, actual, predicted):
    """The three pictures; returns their paths."""
    with kdl.no_grad():
        maps = model.features[:2](example)[0].cpu().numpy()
    weight = model.features[0].weight.detach().cpu().numpy()
    return [plots.curves(out / "curves.png", training.history, "LeNet-5: loss and accuracy"),
            plots.confusion_matrix(out / "confusion.png", actual.cpu().numpy(), predicted.cpu().numpy(),
                                   title="LeNet-5: test digits"),
            plots.filters(out / "filters.png", weight, maps, example.cpu().numpy()[0, 0],
                          "LeNet-5: first layer's filters and what they answer to one digit")]
