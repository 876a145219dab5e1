"""What the recipes share: real data, the job with its loop and its checkpoints, and the verdict.

A recipe is a module with a docstring that teaches, and

    METRIC = "test accuracy"                                # what it is judged by
    GATES = [("test accuracy", ">=", 0.945), ("train accuracy", ">=", 0.999)]  # what must hold
    EPOCHS = 60                                             # passes over the data, unless --epochs says otherwise

    def run(job):
        ...
        return {"test accuracy": 0.97, "train accuracy": 1.0}, baseline

with `SETTINGS = {"lr": (0.05, "learning rate")}` for options of its own. `run` trains through `job.fit` or `job.loop`,
draws through `job.draw` and `job.figure`, and returns what it measured, and what the metric is without the system.
"""
import importlib.util
import json
import math
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import kdl
from kdl import data, nn, optim, types
from kdl.nn import functional as F
from kdl.nn.utils import clip_grad_norm_
from kdl.utils import plots


# --- data ---
def digits(flat=False):
    """The 1,797 handwritten digits that scikit-learn carries (UCI, 1998): images (N, 8, 8) or (N, 64) in 0..1, labels.

    The file is read directly, because importing scikit-learn takes longer than training on it. Raises RuntimeError
    where scikit-learn is not installed.
    """
    needs("sklearn")
    folder = Path(importlib.util.find_spec("sklearn").submodule_search_locations[0])
    table = np.loadtxt(folder / "datasets" / "data" / "digits.csv.gz", delimiter=",", dtype=np.float32)
    images = table[:, :-1] / 16
    return images if flat else images.reshape(-1, 8, 8), table[:, -1].astype(np.int64)


def table(name):
    """One of scikit-learn's bundled tables ("iris", "wine", "diabetes", "breast_cancer"): features, target, names.

    Raises RuntimeError where scikit-learn is not installed.
    """
    needs("sklearn")
    from sklearn import datasets
    bunch = getattr(datasets, f"load_{name}")()
    return bunch.data.astype(np.float32), bunch.target, list(bunch.feature_names)


def standardized(train, test):
    """Both with the training part's mean taken away, divided by its standard deviation."""
    mean, deviation = train.mean(0), train.std(0)
    return (train - mean) / deviation, (test - mean) / deviation


def majority(y, y_test):
    """The accuracy of always answering the commonest training label."""
    y, y_test = np.asarray(y), np.asarray(y_test)
    return float((y_test == np.bincount(y).argmax()).mean())


def auc(true, false):
    """The chance that one of the true scores is above one of the false ones; a tie is half a chance."""
    false = np.sort(false)
    below, not_above = [np.searchsorted(false, true, side) for side in ("left", "right")]
    return float((below + not_above).mean() / (2 * len(false)))


def manual():
    """Python's own reference manual, which comes with the interpreter: one text of about 465,000 characters."""
    from pydoc_data.topics import topics
    return "\n".join(topics[name] for name in sorted(topics))


def needs(*packages):
    """Raise RuntimeError, with what to install, unless the packages that a recipe's data come from are there."""
    missing = [p for p in packages if importlib.util.find_spec(p) is None]
    if missing:
        raise RuntimeError(f"this recipe's data need {' and '.join(missing)}: pip install 'kdl-kernels[demo]'")


# --- the job ---
class Job:
    """One run of a recipe: its seed and settings, where its files go, and where it continues.

    `rng` is NumPy's generator for splits and noise, `device` where tensors go, `epochs` how many passes are wanted, and
    every setting is an attribute. Raises ValueError for a checkpoint of another recipe or of other settings.
    """

    def __init__(self, name, recipe, given, epochs=None, device="cpu", out=None, resume=None):
        self.name, self.recipe, self.device = name, recipe, kdl.device(device)
        self.default_epochs = getattr(recipe, "EPOCHS", None)
        self.epochs = self.default_epochs if epochs is None else epochs
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"{name}: expected at least one epoch, got --epochs {epochs}")
        checkpoint = _checkpoint(resume, name, given) if resume else None
        defaults = {"seed": 0} | {setting: value for setting, (value, *_) in settings_of(recipe).items()}
        self.settings = defaults | (checkpoint["settings"] if checkpoint else {}) | given
        self.phases = checkpoint["phases"] if checkpoint else {}
        for setting, value in self.settings.items():
            setattr(self, setting, value)
        self.out = Path(out or Path("runs") / name)
        self.pictures, self.begun, self.started = [], [], time.monotonic()
        self.rng = np.random.default_rng(self.seed)
        kdl.manual_seed(self.seed)

    # --- data ---
    def tensor(self, array):
        """An array as a tensor on the job's device: float32, or int64 where it holds integers."""
        array = np.asarray(array)
        kind = {"f": types.float32, "i": types.int64, "u": types.int64}.get(array.dtype.kind, array.dtype)
        return kdl.from_numpy(np.ascontiguousarray(array, kind)).to(self.device)

    def split(self, *arrays, test=0.3):
        """Arrays shuffled together and cut: for each the part to train on and, a share `test`, that to test on."""
        order = self.rng.permutation(len(arrays[0]))
        cut = round(len(order) * (1 - test))
        return [part for a in arrays for part in (a[order[:cut]], a[order[cut:]])]

    # --- training ---
    def fit(self, loss, model, optimizer, examples=None, *, batch_size=None, epochs=None, scheduler=None,
            schedule_steps=False, clip=None, evaluate=None, name="training"):
        """Train a model: for every batch of the examples, a step of the optimiser down the gradient of `loss(*batch)`.

        `clip` bounds the norm of the gradient; the scheduler moves on after every epoch, or with schedule_steps after
        every step. The rest is as in `loop`, whose history it returns.
        """
        def step(*batch):
            optimizer.zero_grad()
            value = loss(*batch)
            value.backward()
            if clip is not None:
                clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            if schedule_steps:
                scheduler.step()
            return {"loss/train": value.detach()}

        parts = {"model": model, "optimizer": optimizer}
        if scheduler is not None:
            parts["scheduler"] = scheduler
        return self.loop(step, parts, examples, batch_size=batch_size, epochs=epochs, evaluate=evaluate, name=name,
                         after=None if scheduler is None or schedule_steps else scheduler.step)

    def fit_classifier(self, model, optimizer, train, test, **options):
        """`fit` by the cross-entropy of the model's scores; notes loss and accuracy on both (examples, labels)."""
        def evaluate():
            logits = self.predict(model, test[0])
            return {"loss/test": F.cross_entropy(logits, test[1]), "accuracy/test": _share(logits, test[1])}

        loss = lambda x, y: F.cross_entropy(model(x), y)
        return self.fit(loss, model, optimizer, train, evaluate=evaluate, **options)

    def fit_reader(self, x, y, name="reader", epochs=30):
        """A classifier of flat digits, 64-128-32-10: it judges what generative models make, and its last hidden layer
        (`reader[:4]`) measures how alike pictures are."""
        reader = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 10))
        reader = reader.to(self.device)
        self.fit(lambda x, y: F.cross_entropy(reader(x), y), reader, optim.Adam(reader.parameters(), lr=2e-3), (x, y),
                 batch_size=64, epochs=epochs, name=name)
        return reader

    def loop(self, step, parts, examples=None, *, batch_size=None, steps=1, epochs=None, evaluate=None, after=None,
             name="training"):
        """Run `step(*batch)` over the epochs, with a progress bar and checkpoints; returns {"quantity/series": [...]}.

        Batches are shuffled anew each epoch and of one length; without examples there are `steps` empty ones. `parts`
        are what has a state: models (set to training), optimisers, schedulers. Steps return what to average over the
        epoch, and `evaluate()`, with models in evaluation mode and nothing recorded, what to note after it; `after()`
        ends an epoch. A recipe with several loops names them.
        """
        epochs = self.epochs if epochs is None else epochs
        loader = [()] * steps
        if examples is not None:
            if not 1 <= batch_size <= len(examples[0]):
                raise ValueError(f"{self.name}: expected a batch size from 1 to {len(examples[0])} examples, got "
                                 f"{batch_size}")
            loader = data.DataLoader(data.TensorDataset(*examples), batch_size, shuffle=True, drop_last=True)
        phase = _Phase(self, name, parts)
        with _Progress(epochs * len(loader), phase.epoch * len(loader)) as progress:
            while phase.epoch < epochs:
                _set_training(parts, True)
                sums = {}
                for batch in loader:
                    for key, value in step(*batch).items():
                        sums.setdefault(key, []).append(value)
                    progress.step()
                means = {key: _mean(values) for key, values in sums.items()}
                if after is not None:
                    after()
                if evaluate is not None:
                    _set_training(parts, False)
                    with kdl.no_grad():
                        means |= evaluate()
                phase.finish_epoch(means, last=phase.epoch + 1 == epochs)
                figures = ", ".join(f"{key.replace('/', ' ')} {value:.4f}" for key, value in means.items())
                progress.epoch(f"{name} {phase.epoch}/{epochs}: {figures}", phase.epoch / epochs)
        _set_training(parts, False)
        return phase.history

    @kdl.no_grad()
    def predict(self, model, x, batch_size=512):
        """The model's outputs for all examples, in evaluation mode and without a recording."""
        model.eval()
        return kdl.cat([model(x[i:i + batch_size]) for i in range(0, len(x), batch_size)])

    def accuracy(self, model, x, y):
        """The share of examples whose largest score is that of their label."""
        return _share(self.predict(model, x), y)

    # --- pictures ---
    def draw(self, plot, name, *args, title, **kwargs):
        """Draw with a function of `kdl.utils.plots` into <name>.png; the title says what it shows."""
        self.out.mkdir(parents=True, exist_ok=True)
        self._drawn(plot(self.out / f"{name}.png", *args, title=title, **kwargs), title)

    @contextmanager
    def figure(self, name, rows, columns, width, height, title):
        """The axes, (rows, columns) of so many inches each, of a picture that is written as <name>.png at the end."""
        self.out.mkdir(parents=True, exist_ok=True)
        with plots.figure(self.out / f"{name}.png", rows, columns, width, height, title) as axes:
            yield axes
        self._drawn(self.out / f"{name}.png", title)

    def draw_errors(self, model, x, y, images=None, count=16):
        """A classifier's confusion matrix, and the images (x, where it is images) it was surest of and wrong about."""
        logits, actual = self.predict(model, x).cpu().numpy(), y.cpu().numpy()
        predicted = logits.argmax(1)
        self.draw(plots.confusion_matrix, "confusion", actual, predicted,
                  title="Test examples: the actual class and the predicted one")
        if images is None and x.ndim > 2:
            images = x.cpu()
        wrong = np.flatnonzero(predicted != actual)
        worst = wrong[np.argsort(logits[wrong, actual[wrong]] - logits[wrong].max(1))][:count]
        if images is not None and len(worst):
            captions = [f"{actual[i]} as {predicted[i]}" for i in worst]
            shown = np.asarray(images)[worst].reshape(len(worst), *images.shape[-2:])
            self.draw(plots.images, "errors", shown, captions, title="The errors it was surest of")

    def _drawn(self, path, title):
        self.pictures.append({"file": path.name, "title": title})
        print(f"wrote {path}", flush=True)

    # --- the verdict ---
    def judge(self, measured, baseline):
        """Write result.json, print every measure and at last the metric; the exit code: 1 where a gate is not passed.

        A job with other settings, or fewer epochs, than the default ones is not judged.
        """
        metric, judged = self.recipe.METRIC, self._is_default()
        gates = self.recipe.GATES
        missed = {name for name, relation, bound in gates if not _keeps(measured[name], relation, bound)}
        self.out.mkdir(parents=True, exist_ok=True)
        result = {"recipe": self.name, "settings": self.settings, "metric": metric, "baseline": baseline,
                  "measured": measured, "gates": gates, "judged": judged, "passed": not missed,
                  "pictures": self.pictures, "seconds": time.monotonic() - self.started}
        partial = self.out / ".result.json.partial"
        with open(partial, "w") as file:
            json.dump(result, file, indent=1, default=float)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.out / "result.json")
        for name in [*(name for name in measured if name != metric), metric]:
            facts = [f"baseline {baseline:.4g}"] if name == metric and baseline is not None else []
            bounds = [f"gate {relation} {bound:g}" for gate, relation, bound in gates if judged and gate == name]
            verdict = f": {'outside the gate' if name in missed else 'OK'}" if bounds else ""
            facts += bounds
            print(f"{name} {measured[name]:.4g}" + (f" ({', '.join(facts)})" if facts else "") + verdict)
        return int(judged and bool(missed))

    def _is_default(self):
        """Whether the settings are those that the gates were set for."""
        return (self.epochs is None or self.epochs >= self.default_epochs) and all(
            self.settings[name] == value for name, (value, *_) in settings_of(self.recipe).items())


def settings_of(recipe):
    """The options of a recipe's own: name -> (default, help, further arguments of argparse's add_argument)."""
    return getattr(recipe, "SETTINGS", {})


def _share(logits, labels):
    return (logits.argmax(1) == labels).float().mean().item()


def _keeps(value, relation, bound):
    return value >= bound if relation == ">=" else value <= bound


def _mean(values):
    return float(np.mean([float(v) for v in values])) if values else math.nan


def _set_training(parts, training):
    for part in parts.values():
        if isinstance(part, nn.Module):
            part.train(training)


# --- checkpoints ---
class _Phase:
    """One loop of a job: how far it is, what was noted, and what it takes to continue it bit for bit."""
    seconds = 1.0  # between two checkpoints, the first and the last excepted

    def __init__(self, job, name, parts):
        if name in job.begun:
            raise ValueError(f"{job.name}: expected every loop to have its own name, got {name!r} twice")
        job.begun.append(name)
        self.job, self.name, self.parts, self.saved = job, name, parts, -math.inf
        self.epoch, self.history = 0, {}
        state = job.phases.get(name)
        if state is not None:
            for part, value in state["parts"].items():
                parts[part].load_state_dict(value)
            self.epoch, self.history = state["epoch"], state["history"]
            kdl.set_rng_state(state["random"])
            job.rng.bit_generator.state = json.loads(state["rng"])

    def finish_epoch(self, means, last):
        self.epoch += 1
        for key, value in means.items():
            self.history.setdefault(key, []).append(float(value))
        now = time.monotonic()
        if last or now - self.saved > self.seconds:
            self.saved = now
            self.save()

    def save(self):
        job = self.job
        job.phases[self.name] = {
            "epoch": self.epoch, "history": self.history, "random": kdl.get_rng_state(),
            "rng": json.dumps(job.rng.bit_generator.state),
            "parts": {name: part.state_dict() for name, part in self.parts.items()}}
        job.out.mkdir(parents=True, exist_ok=True)
        kdl.save({"recipe": job.name, "settings": job.settings, "phases": job.phases},
                 job.out / "checkpoint.safetensors")


def _checkpoint(path, recipe, given):
    """A checkpoint of this recipe. Raises ValueError when it is another's, or contradicts the settings given."""
    checkpoint = kdl.load(path)
    if not isinstance(checkpoint, dict) or checkpoint.get("recipe") != recipe:
        raise ValueError(f"--resume: {path} is not a checkpoint of {recipe}")
    for name, value in given.items():
        stored = checkpoint["settings"].get(name, value)
        if stored != value:
            raise ValueError(f"--resume: {path} was trained with {name} {stored}, got --{name.replace('_', '-')} "
                             f"{value}; leave the option out, or start anew")
    return checkpoint


# --- progress ---
class _Progress:
    """A bar on a terminal, with the figures of the last epoch; elsewhere a line for every tenth of the way."""

    def __init__(self, total, done):
        from tqdm import tqdm
        self.terminal, self.tenth = sys.stderr.isatty(), 0
        self.bar = tqdm(total=total, initial=done, unit="step", disable=not self.terminal, dynamic_ncols=True)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.bar.close()

    def step(self):
        self.bar.update()

    def epoch(self, text, share):
        if self.terminal:
            self.bar.set_description(text)
        elif int(10 * share) > self.tenth or share == 1:
            self.tenth = int(10 * share)
            print(text, flush=True)
