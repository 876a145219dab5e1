"""A miniature BERT fills gaps in a text from both sides (Devlin et al., 2019).

A fifth of the characters is chosen, and the network is asked for them: cross-entropy at those places alone. Of the
chosen ones 80 % are replaced by a mask, 10 % by a random character and 10 % are left, so that the network can trust no
place it sees and must have an opinion of every one. No mask hides the future: a place asks what stands before and
behind it, softmax(q k' / sqrt(d)) v. Such a network reads; it cannot write a text from left to right, as GPT does.

Data: Python's reference manual in windows of 32 characters, its last tenth for the test, where every ninth character is
hidden. Baseline: the commonest character between the same two neighbours.
"""
import numpy as np

import kdl
from kdl import optim
from kdl.models import GPT
from kdl.nn import functional as F
from kdl.recipes.text import characters, windows
from kdl.utils import plots

METRIC = "hidden characters right"
GATES = [("hidden characters right", ">=", 0.65), ("gain over both neighbours", ">=", 0.08)]
EPOCHS = 6
LENGTH, GAP = 32, 14  # of a window, and the place in it whose attention is drawn


class Bert(GPT):
    """GPT's blocks without the mask: (N, T) numbers to (N, T, vocabulary) scores of what belongs at each place."""

    def forward(self, x):
        return self.out(self.norm(self.body(self.embed(x))))

    def embed(self, x):
        return self.token(x) + self.place(kdl.arange(x.shape[1], device=x.device))


def hide(x, size):
    """The text with a fifth of it hidden, the number `size` for the mask, and the targets: -100 where none is asked."""
    chosen, dice = kdl.rand_like(x, dtype=kdl.float32) < 0.2, kdl.rand_like(x, dtype=kdl.float32)
    changed = kdl.where(dice < 0.8, size, kdl.where(dice < 0.9, kdl.randint_like(x, size), x))
    return kdl.where(chosen, changed, x), kdl.where(chosen, x, -100)


def between(train, x, size):
    """The commonest character of the training text between the neighbours of each place of x."""
    table = np.zeros((size, size, size), np.int32)
    np.add.at(table, (train[:-2], train[2:], train[1:-1]), 1)
    return table[np.roll(x, 1, 1), np.roll(x, -1, 1)].argmax(2)


def run(job):
    train, test, alphabet = characters()
    size = len(alphabet)
    x = job.tensor(train[:len(train) // LENGTH * LENGTH].reshape(-1, LENGTH))
    xt = windows(job, test, 1000, LENGTH - 1)
    gaps = np.zeros(xt.shape, bool)
    gaps[:, 5:-1:9] = True
    hidden = job.tensor(gaps)

    model = Bert(size + 1, width=64, context=LENGTH).to(job.device)
    optimizer = optim.AdamW(model.parameters(), lr=8e-3, weight_decay=0.01)
    steps = job.epochs * (len(x) // 96)
    scheduler = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=8e-3, total_steps=steps, pct_start=0.1)
    guess = lambda: job.predict(model, xt.masked_fill(hidden, size), batch_size=100).argmax(2)

    def loss(x):
        seen, target = hide(x, size)
        return F.cross_entropy(model(seen).flatten(0, 1), target.flatten(), ignore_index=-100)

    history = job.fit(loss, model, optimizer, (x,), batch_size=96, scheduler=scheduler, schedule_steps=True, clip=1.0,
                      evaluate=lambda: {"accuracy/test": (guess() == xt)[hidden].float().mean().item()})
    actual, filled = xt.cpu().numpy(), guess().cpu().numpy()
    right = lambda guess: float((guess == actual)[gaps].mean())
    score, neighbours = right(filled), right(between(train, actual, size))

    job.draw(plots.curves, "curves", history, {"accuracy/both neighbours": neighbours},
             title="Filling gaps: the loss, and the share of hidden test characters that are right")
    draw_gaps(job, actual, filled, gaps, alphabet)
    draw_attention(job, model, xt, size)
    return {"commonest character": right(np.bincount(train).argmax()), "gain over both neighbours": score - neighbours,
            "hidden characters right": score}, neighbours


def draw_gaps(job, actual, filled, gaps, alphabet, count=12):
    shown = [c.replace("\n", "¶").replace(" ", "·") for c in alphabet]
    with job.figure("gaps", 1, 1, 6.0, 5.2, "Filled gaps of test windows: right (green); wrong (red), with the actual "
                    "character below") as axes:
        for row, column in np.ndindex(count, LENGTH):
            truth, guess, gap = actual[row, column], filled[row, column], gaps[row, column]
            colour = "white" if not gap else "palegreen" if guess == truth else "salmon"
            axes[0, 0].text(column, -row, shown[guess if gap else truth], family="monospace", fontsize=10,
                            ha="center", va="center", bbox={"pad": 1.5, "linewidth": 0, "facecolor": colour})
            if gap and guess != truth:
                axes[0, 0].text(column, -row - 0.5, shown[truth], family="monospace", fontsize=8, ha="center",
                                va="center")
        axes[0, 0].set(xlim=(-1, LENGTH), ylim=(-count, 1))
        axes[0, 0].set_axis_off()


@kdl.no_grad()
def draw_attention(job, model, x, size):
    """Where a hidden character looks, as a mean over the test windows, in every head of both blocks."""
    x = x.clone()
    x[:, GAP] = size
    x, rows = model.embed(x), {}
    for number, block in enumerate(model.body.layers, 1):
        y = block.norm1(x)
        weights = block.self_attn(y, y, y, average_attn_weights=False)[1][:, :, GAP].mean(0).cpu().numpy()
        rows |= {f"block {number}, head {head}": row for head, row in enumerate(weights, 1)}
        x = block(x)
    job.draw(plots.heatmap, "attention", np.stack(list(rows.values())), list(rows), np.arange(LENGTH) - GAP,
             title="Where a hidden character looks: attention by head, the mean over test windows",
             xlabel="place, counted from the hidden character")
