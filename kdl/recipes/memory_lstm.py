"""Why the LSTM: it remembers across forty steps of noise (Hochreiter and Schmidhuber, 1997).

A digit arrives in eight rows, then forty rows of noise pass, and only then is its class asked for. In a plain recurrent
network the state is overwritten at every step, and the gradient from the answer back to the digit is a product of forty
Jacobians. The LSTM's cell, c_t = f c_(t-1) + i g, is carried on unchanged where its forget gate f is 1 and its input
gate i is 0; nothing fixes how long. Here the gate starts open, with a bias of the logarithm of the lag.

Data: scikit-learn's digits, split 70/30; a ninth input says whether the pen is writing. Baseline: the plain network.
"""
import numpy as np

import kdl
from kdl import nn, optim
from kdl.nn import functional as F
from kdl.recipes.common import digits
from kdl.utils import plots

METRIC = "LSTM test accuracy"
GATES = [("LSTM test accuracy", ">=", 0.63), ("GRU test accuracy", ">=", 0.55), ("gain over the RNN", ">=", 0.1)]
EPOCHS = 35
LAG = 40


class Reader(nn.Module):
    """(N, T, 9) rows to (N, 10) scores, from the last state."""

    def __init__(self, cell):
        super().__init__()
        self.cell, self.out = cell(9, 64, batch_first=True), nn.Linear(64, 10)
        if cell is not nn.RNN:  # rows 64 to 127 are the gate that keeps the state: LSTM's f, GRU's z
            with kdl.no_grad():
                self.cell.bias_ih_l0[64:128].fill_(float(np.log(LAG)))

    def forward(self, x):
        return self.out(self.cell(x)[0][:, -1])


def delayed(rng, images):
    """The rows of each digit, then rows of noise, each with the pen's state beside it: (N, 8 + LAG, 9)."""
    rows = np.concatenate([images, rng.normal(0, 0.3, (len(images), LAG, 8)).astype(np.float32)], 1)
    pen = np.broadcast_to((np.arange(8 + LAG) < 8).astype(np.float32)[:, None], (len(images), 8 + LAG, 1))
    return np.concatenate([rows, pen], 2)


def run(job):
    images, labels = digits()
    x, xt, y, yt = job.split(images, labels)
    x, xt, y, yt = [job.tensor(part) for part in (delayed(job.rng, x), delayed(job.rng, xt), y, yt)]
    models, histories = {}, {}
    for name, cell in (("RNN", nn.RNN), ("LSTM", nn.LSTM), ("GRU", nn.GRU)):
        models[name] = model = Reader(cell).to(job.device)
        histories[name] = job.fit_classifier(model, optim.Adam(model.parameters(), lr=3e-3), (x, y), (xt, yt),
                                             batch_size=64, clip=1.0, name=name)
    accuracy = {name: job.accuracy(model, xt, yt) for name, model in models.items()}

    job.draw(plots.curves, "curves", {f"{quantity}/{name}": history[key] for quantity, key in (
        ("training loss", "loss/train"), ("test accuracy", "accuracy/test")) for name, history in histories.items()},
             title="A digit, then forty rows of noise, then the question")
    draw(job, models, x, y)
    return {"GRU test accuracy": accuracy["GRU"], "gain over the RNN": accuracy["LSTM"] - accuracy["RNN"],
            "LSTM test accuracy": accuracy["LSTM"]}, accuracy["RNN"]


def draw(job, models, x, y):
    """Gates and cell of the LSTM over time, and how much of the gradient reaches each row."""
    cell = models["LSTM"].cell
    h = c = kdl.zeros(1, 64, device=job.device)
    forget, cells = [], []
    with kdl.no_grad():
        for t in range(8 + LAG):
            i, f, g, o = (F.linear(x[:1, t], cell.weight_ih_l0, cell.bias_ih_l0)
                          + F.linear(h, cell.weight_hh_l0, cell.bias_hh_l0)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            forget.append(f.sigmoid()[0].cpu().numpy())
            cells.append(c[0].cpu().numpy())
    with job.figure("inside", 1, 3, 3.8, 3.0, "The LSTM's forget gate and cell; the gradient at every row") as axes:
        panels = (axes[0, 0], forget, "forget gate", 0, 1), (axes[0, 1], cells, "cell", -3, 3)
        for axis, values, name, low, high in panels:
            shown = axis.imshow(np.array(values).T, aspect="auto", cmap="RdBu_r", vmin=low, vmax=high)
            axis.set(xlabel="step", ylabel="unit", title=name)
            axis.figure.colorbar(shown, ax=axis)
        for name, model in models.items():
            inputs = x[:100].detach().requires_grad_()
            F.cross_entropy(model(inputs), y[:100]).backward()
            axes[0, 2].semilogy(inputs.grad.norm(dim=(0, 2)).cpu().numpy(), label=name)
        axes[0, 2].axvspan(0, 7, color="0.9")
        axes[0, 2].set(xlabel="step (grey: the digit)", ylabel="norm of the gradient")
        axes[0, 2].legend(frameon=False, fontsize=8)
