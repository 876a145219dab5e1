"""`kdl warmup`: compile the kernels that a model needs, before it is needed.

Numba compiles a kernel at its first call, for the dtypes that it gets, and keeps it on disk. A warm-up makes these
calls: forward, loss, backward, a step of every usual optimiser, and an evaluation.
"""
import difflib
import sys
import tempfile
import time
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO

import kdl
from kdl import models, optim, recipes
from kdl.nn import functional as F


def _scores(model, *inputs, classes=10):
    """A model that gives scores of classes, one row for an example or for every place of one."""
    def loss():
        scores = model(*inputs)
        return F.cross_entropy(scores.reshape(-1, classes), kdl.randint(0, classes, (scores.numel() // classes,)))
    return model, loss


def _values(model, *inputs, loss=F.binary_cross_entropy_with_logits):
    """A model that gives values to be compared with others, and perhaps mean and log variance to be kept small."""
    def compare():
        result = model(*inputs)
        values, *rest = result if isinstance(result, tuple) else (result,)
        return sum([part.square().mean() for part in rest], loss(values, kdl.rand_like(values)))
    return model, compare


def _photos(model):
    return _scores(model, kdl.randn(4, 3, 224, 224), classes=1000)


def _text(shape=(16, 64), characters=65):
    return kdl.randint(0, characters, shape)


# A name, and what makes its model and its loss; of a size that is usual, for the ways of a kernel go by sizes.
MODELS = {
    "autoencoder": lambda: _values(models.Autoencoder(), kdl.rand(64, 64), loss=F.mse_loss),
    "charlstm": lambda: _scores(models.CharLSTM(65), _text(), classes=65),
    "discriminator": lambda: _values(models.Discriminator(), kdl.rand(64, 64)),
    "gat": lambda: _scores(models.GAT(16, 8, 10, heads=4), kdl.randn(64, 16), kdl.randint(0, 64, (2, 256))),
    "gcn": lambda: _scores(models.GCN(16, 16, 10), kdl.randn(64, 16), kdl.eye(64)),
    "generator": lambda: _values(models.Generator(), kdl.randn(64, 32), loss=F.binary_cross_entropy),
    "gpt": lambda: _scores(models.GPT(65), _text(), classes=65),
    "lenet5": lambda: _scores(models.LeNet5(), kdl.randn(32, 1, 32, 32)),
    "mlp": lambda: _scores(models.MLP([784, 512, 10]), kdl.randn(64, 784)),
    "resnet18": lambda: _photos(models.resnet18()),
    "resnet20": lambda: _scores(models.resnet20(), kdl.randn(32, 3, 32, 32)),
    "resnet34": lambda: _photos(models.resnet34()),
    "resnet50": lambda: _photos(models.resnet50()),
    "unet": lambda: _values(models.UNet(width=16), kdl.rand(8, 1, 64, 64)),
    "vae": lambda: _values(models.VAE(), kdl.rand(64, 64)),
    "vit": lambda: _scores(models.ViT(), kdl.rand(32, 1, 8, 8)),
}
_OPTIMIZERS = [lambda p: optim.SGD(p, lr=0.01, momentum=0.9), lambda p: optim.Adam(p), lambda p: optim.AdamW(p)]


def main(names=()):
    """Warm up for models and recipes, with a progress bar; the exit code. Raises ValueError for unknown names."""
    from tqdm import tqdm

    from kdl.kernels.cpu.launch import dispatchers
    names = list(dict.fromkeys(names)) or ["lenet5", "mlp"]
    parts = [part for name in names for part in _parts(name)]
    start, compiled, loaded = time.perf_counter(), *_counts(dispatchers)
    with tqdm(parts, disable=not sys.stderr.isatty(), dynamic_ncols=True, bar_format="{l_bar}{bar}| {elapsed}") as bar:
        for text, run in bar:
            bar.set_description(f"{text}, {_counts(dispatchers)[0] - compiled} kernels compiled")
            run()
    compiled, loaded = [after - before for after, before in zip(_counts(dispatchers), (compiled, loaded))]
    print(f"{', '.join(names)}: {compiled} kernels compiled, {loaded} loaded from disk, in "
          f"{time.perf_counter() - start:.1f} s")
    return 0


def _counts(dispatchers):
    """How many variants of kernels this process has compiled, and how many it found on disk."""
    stats = [kernel.stats for kernel in dispatchers]
    return sum(sum(s.cache_misses.values()) for s in stats), sum(sum(s.cache_hits.values()) for s in stats)


def _parts(name):
    """What there is to do for a name: texts and functions without arguments, to be called in turn."""
    if name in MODELS:
        return _steps(name, MODELS[name])
    if name in _trained():
        return [(f"{name}: one epoch", lambda: _one_epoch(name))]
    known = [*MODELS, *_trained()]
    near = difflib.get_close_matches(name.lower(), known, cutoff=0.5) or known
    raise ValueError(f"warmup: there is no model or recipe {name!r}; did you mean {' or '.join(near)}?")


def _trained():
    """The recipes that are not named as a model is."""
    return [name for name in recipes.names() if name not in MODELS]


def _steps(name, make):
    """A training step in parts, so that the bar moves."""
    held = {}

    def forward():
        held["model"], held["loss"] = make()
        held["value"] = held["loss"]()

    def evaluate():
        held["model"].eval()
        with kdl.no_grad():
            held["loss"]()
        held.clear()

    def step():
        for optimizer in _OPTIMIZERS:
            optimizer(held["model"].parameters()).step()
    parts = {"forward": forward, "backward": lambda: held["value"].backward(), "optimisers": step,
             "evaluation": evaluate}
    return [(f"{name}: {part}", run) for part, run in parts.items()]


def _one_epoch(name):
    from kdl.recipes.common import Job
    recipe = import_module(f"kdl.recipes.{name}")
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        recipe.run(Job(name, recipe, {}, 1 if getattr(recipe, "EPOCHS", None) else None, out=folder))
