"""Handwriting as a sequence: recurrent networks read a digit row by row.

A recurrent network carries a state from step to step, h_t = tanh(W x_t + U h_(t-1) + b), with the same weights at every
step. The LSTM keeps a second state that it only adds to, c_t = f c_(t-1) + i g, under gates f and i that it learns; the
GRU does with one state, h_t = (1 - z) n + z h_(t-1). A bidirectional network reads from both ends, and layers may be
stacked. Here the scores come from the mean of all states.

Data: scikit-learn's digits as eight rows of eight pixels, split 70/30. Baseline: a linear classifier of the mean row,
which does not know the order.
"""
import kdl
from kdl import nn, optim
from kdl.recipes.common import digits
from kdl.utils import plots

METRIC = "worst test accuracy"
GATES = [("RNN", ">=", 0.85), ("GRU", ">=", 0.91), ("LSTM", ">=", 0.88), ("two-layer bidirectional LSTM", ">=", 0.935)]
EPOCHS = 60
CELLS = {"RNN": (nn.RNN, {}), "GRU": (nn.GRU, {}), "LSTM": (nn.LSTM, {}),
         "two-layer bidirectional LSTM": (nn.LSTM, {"num_layers": 2, "bidirectional": True})}


class Reader(nn.Module):
    """(N, 8, 8) rows to (N, 10) scores, from the mean of the states over the rows seen so far."""

    def __init__(self, cell, **options):
        super().__init__()
        self.cell = cell(8, 64, batch_first=True, **options)
        self.out = nn.Linear(128 if options.get("bidirectional") else 64, 10)

    def forward(self, x):
        return self.out(self.cell(x)[0].mean(1))


def run(job):
    images, labels = digits()
    x, xt, y, yt = [job.tensor(part) for part in job.split(images, labels)]
    models, histories = {}, {}
    for name, (cell, options) in CELLS.items():
        models[name] = model = Reader(cell, **options).to(job.device)
        optimizer = optim.Adam(model.parameters(), lr=1e-2)
        schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, job.epochs)
        histories[name] = job.fit_classifier(model, optimizer, (x, y), (xt, yt), batch_size=64, scheduler=schedule,
                                             name=name)
    bag = nn.Linear(8, 10).to(job.device)
    job.fit_classifier(bag, optim.Adam(bag.parameters(), lr=3e-2), (x.mean(1), y), (xt.mean(1), yt), batch_size=64,
                       epochs=30, name="mean row")

    job.draw(plots.curves, "curves", {f"{quantity}/{name}": history[key] for quantity, key in (
        ("training loss", "loss/train"), ("test accuracy", "accuracy/test")) for name, history in histories.items()},
             title="Four recurrent networks read digits row by row")
    job.draw_errors(models["LSTM"], xt, yt)
    draw(job, models, xt, yt)
    accuracies = {name: job.accuracy(model, xt, yt) for name, model in models.items()}
    return accuracies | {"worst test accuracy": min(accuracies.values())}, job.accuracy(bag, xt.mean(1), yt)


def draw(job, models, xt, yt):
    """The LSTM's state while it reads one digit, and the accuracy after every row."""
    with kdl.no_grad():
        states = models["LSTM"].cell(xt[:1])[0][0].cpu().numpy()
    title = "A digit, the LSTM's states while it reads, what is known by when"
    with job.figure("reading", 1, 3, 3.4, 3.0, title) as axes:
        axes[0, 0].imshow(xt[0].cpu().numpy(), cmap="gray")
        axes[0, 0].set(xlabel="column", ylabel="row")
        axes[0, 1].imshow(states, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        axes[0, 1].set(xlabel="unit", ylabel="row")
        for name in ("RNN", "GRU", "LSTM"):
            axes[0, 2].plot(range(1, 9), [job.accuracy(models[name], xt[:, :rows], yt) for rows in range(1, 9)],
                            marker="o", markersize=3, label=name)
        axes[0, 2].set(xlabel="rows seen", ylabel="accuracy")
        axes[0, 2].legend(frameon=False, fontsize=8)
        axes[0, 2].grid(alpha=0.3)
