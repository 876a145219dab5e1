"""What the recipes share: data, the training loop with its checkpoints, and the final report."""
import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import kdl
from kdl import data


# --- data ---
def digits():
    """The 1,797 handwritten digits that scikit-learn carries (UCI, 1998): images (N, 8, 8) in 0..1, labels (N,).

    The file is read directly, because importing scikit-learn takes longer than training on it. Raises RuntimeError
    where scikit-learn is not installed.
    """
    sklearn = importlib.util.find_spec("sklearn")
    file = sklearn and Path(sklearn.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    if not file or not file.exists():
        raise RuntimeError("digits: needs scikit-learn's data; pip install 'kdl-kernels[demo]'")
    table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    return table[:, :-1].reshape(-1, 8, 8) / 16, table[:, -1].astype(np.int64)


# --- training ---
@dataclass
class Run:
    """One training run and everything it takes to continue it bit for bit."""
    recipe: str
    settings: dict
    model: kdl.nn.Module
    optimizer: kdl.optim.Optimizer
    scheduler: "object | None" = None
    epoch: int = 0
    history: dict = field(default_factory=lambda: {"loss": {"train": [], "test": []}, "accuracy": {"test": []}})

    def save(self, path):
        """Write the checkpoint: weights, optimiser, scheduler, random numbers, epoch, history and settings."""
        kdl.save({"recipe": self.recipe, "settings": self.settings, "epoch": self.epoch, "history": self.history,
                  "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                  "scheduler": self.scheduler and self.scheduler.state_dict(), "random": kdl.get_rng_state()}, path)

    def restore(self, checkpoint):
        """Continue where the checkpoint was written."""
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(checkpoint["scheduler"])
        self.epoch, self.history = checkpoint["epoch"], checkpoint["history"]
        kdl.set_rng_state(checkpoint["random"])


def load_checkpoint(path, recipe, given):
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


def fit(run, train, test, epochs, batch_size, checkpoint):
    """Train a classifier up to `epochs` epochs by cross-entropy, with a progress bar; a checkpoint after each epoch."""
    from tqdm import tqdm
    loader = data.DataLoader(data.TensorDataset(*train), batch_size=batch_size, shuffle=True, drop_last=True)
    terminal = sys.stderr.isatty()
    with tqdm(total=epochs * len(loader), initial=run.epoch * len(loader), unit="step", disable=not terminal,
              dynamic_ncols=True) as bar:
        while run.epoch < epochs:
            losses = []
            run.model.train()
            for x, y in loader:
                run.optimizer.zero_grad()
                loss = kdl.nn.functional.cross_entropy(run.model(x), y)
                loss.backward()
                run.optimizer.step()
                losses.append(loss.detach())
                bar.update()
            if run.scheduler is not None:
                run.scheduler.step()
            run.epoch += 1
            logits, test_loss = evaluate(run.model, *test)
            accuracy = float((logits.argmax(1) == test[1]).float().mean())
            run.history["loss"]["train"].append(float(kdl.stack(losses).mean()))
            run.history["loss"]["test"].append(test_loss)
            run.history["accuracy"]["test"].append(accuracy)
            run.save(checkpoint)
            line = (f"epoch {run.epoch}/{epochs}: loss {run.history['loss']['train'][-1]:.4f}, "
                    f"test loss {test_loss:.4f}, test accuracy {accuracy:.4f}")
            bar.set_description(line)
            if not terminal:
                print(line, flush=True)


@kdl.no_grad
def evaluate(model, x, y, batch_size=512):
    """The logits of every example and their mean cross-entropy, with the model in evaluation mode."""
    model.eval()
    logits = kdl.cat([model(x[i:i + batch_size]) for i in range(0, len(x), batch_size)])
    return logits, float(kdl.nn.functional.cross_entropy(logits, y))


# --- the last line ---
def report(metric, value, gate):
    """Print `metric value (gate): OK` and return the exit code: 1 below the gate; without a gate always 0."""
    if gate is None:
        print(f"{metric} {value:.4f}")
        return 0
    passed = value >= gate
    print(f"{metric} {value:.4f} (gate {gate}): {'OK' if passed else 'below the gate'}")
    return 0 if passed else 1
