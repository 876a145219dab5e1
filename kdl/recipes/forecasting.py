"""Forecasting a series: a GRU says how it will change.

The network reads a series step by step and predicts the change to the next value, x_(t+1) - x_t, rather than the value:
what it must beat is the forecast "no change", which is hard to beat wherever a series is smooth. The Huber loss counts
small errors squared and large ones by their size, so that a few jumps do not rule the weights.

Data: the scan lines of a photograph in three colours; the left 60 % of each is the past to learn from, the rest the
future. Baseline: no change (1 by definition); the best linear predictor from 16 steps stands beside it.
"""
import numpy as np

from kdl import nn, optim
from kdl.nn import functional as F
from kdl.recipes.common import needs
from kdl.utils import plots

METRIC = "error over that of no change"
GATES = [("error over that of no change", "<=", 0.885)]
EPOCHS = 15
WARM, CUT, PIECE = 16, 384, 65  # steps before forecasts count; where the future begins; the length of a piece


class Forecast(nn.Module):
    """(N, T, 3) values to (N, T, 3) forecasts of the next ones."""

    def __init__(self, hidden=32):
        super().__init__()
        self.cell, self.out = nn.GRU(3, hidden, batch_first=True), nn.Linear(hidden, 3)

    def forward(self, x):
        return x + self.out(self.cell(x)[0])


def linear_forecast(past, future):
    """The forecasts of the least squares predictor from the last 16 steps of all colours."""
    def lags(rows):
        steps = [rows[:, WARM - k:rows.shape[1] - 1 - k] for k in range(WARM)]
        return np.concatenate([*steps, np.ones_like(steps[0][:, :, :1])], 2)
    a = lags(past)
    w = np.linalg.lstsq(a.reshape(-1, a.shape[2]), past[:, WARM + 1:].reshape(-1, 3), rcond=None)[0]
    return lags(future) @ w


def run(job):
    needs("sklearn")
    from sklearn.datasets import load_sample_image
    photo = (load_sample_image("china.jpg").astype(np.float32)[::2] / 255 - 0.5) * 4
    past, future = photo[:, :CUT], photo[:, CUT:]
    pieces = np.concatenate([past[:, i:i + PIECE] for i in range(0, CUT - PIECE, PIECE - 1)])
    x, y = job.tensor(pieces[:, :-1]), job.tensor(pieces[:, 1:])
    model = Forecast().to(job.device)
    optimizer = optim.Adam(model.parameters(), lr=5e-3)
    history = job.fit(lambda x, y: F.huber_loss(model(x), y, delta=0.5), model, optimizer, (x, y), batch_size=32,
                      scheduler=optim.lr_scheduler.CosineAnnealingLR(optimizer, job.epochs))

    truth, now = future[:, WARM + 1:], future[:, WARM:-1]
    forecast = job.predict(model, job.tensor(future[:, :-1])).cpu().numpy()[:, WARM:]
    linear = linear_forecast(past, future)
    same = np.mean((now - truth) ** 2)
    job.draw(plots.curves, "curves", history, title="The Huber loss over the epochs")
    draw(job, truth, forecast, now, linear)
    return {"linear predictor's error over that of no change": np.mean((linear - truth) ** 2) / same,
            "error over that of no change": np.mean((forecast - truth) ** 2) / same}, 1.0


def draw(job, truth, forecast, now, linear):
    line, shown = 60, slice(0, 120)
    with job.figure("forecasts", 1, 2, 5.0, 3.2, "One scan line's red with forecasts; the error by place") as axes:
        axes[0, 0].plot(truth[line, shown, 0], color="0.6", linewidth=2.5, label="truth")
        axes[0, 0].plot(forecast[line, shown, 0], linewidth=1, label="GRU, one step ahead")
        axes[0, 0].set(xlabel="step", ylabel="brightness")
        for name, values in (("no change", now), ("linear", linear), ("GRU", forecast)):
            error = ((values - truth) ** 2).mean((0, 2))
            axes[0, 1].plot(error.reshape(-1)[:len(error) // 16 * 16].reshape(-1, 16).mean(1), label=name)
        axes[0, 1].set(xlabel="stretch of 16 steps", ylabel="mean square error")
        for axis in axes.flat:
            axis.legend(frameon=False, fontsize=8)
            axis.grid(alpha=0.3)
