"""What the recipes of language share: the characters of Python's manual, n-grams to beat, and a model that writes."""
import numpy as np

import kdl
from kdl import optim
from kdl.nn import functional as F
from kdl.recipes.common import manual
from kdl.utils import plots

STEPS = 50  # an epoch's


def characters():
    """The manual as numbers of its characters, cut 90 % / 10 %, and the alphabet: printable ASCII and the newline."""
    text = "".join(c if c == "\n" or " " <= c <= "~" else "?" for c in manual())
    alphabet, codes = np.unique(list(text), return_inverse=True)
    cut = len(codes) * 9 // 10
    return codes[:cut], codes[cut:], list(alphabet)


def ngram_bits(train, test, n, size):
    """Bits per character of an n-gram model: each order backs off into the one below it (Witten and Bell, 1991)."""
    def lookup(keys, values, wanted):
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[at] == wanted, values[at], 0)

    p = np.full(len(test), 1 / size)
    for k in range(1, n + 1):
        number = lambda s, k=k: sum(s[i:len(s) - k + 1 + i].astype(np.int64) * size ** (k - 1 - i) for i in range(k))
        grams, counts = np.unique(number(train), return_counts=True)
        contexts, where = np.unique(grams // size, return_inverse=True)
        wanted = number(np.concatenate([train[len(train) - k + 1:], test]))
        count = lookup(grams, counts, wanted)
        total, kinds = [lookup(contexts, np.bincount(where, w), wanted // size) for w in (counts, None)]
        p = np.where(total > 0, (count + kinds * p) / np.maximum(total + kinds, 1), p)
    return float(-np.log2(p).mean())


def windows(job, codes, count, length):
    """Random windows of the text: (count, length + 1)."""
    begin = job.rng.integers(0, len(codes) - length - 1, count)
    return job.tensor(codes[begin[:, None] + np.arange(length + 1)])


def loss_of(model, window):
    """The mean cross-entropy, in nats, of every character of (N, T + 1) windows after their first."""
    scores = model(window[:, :-1])
    return F.cross_entropy(scores.flatten(0, 1), window[:, 1:].flatten())


def fit_writer(job, model, codes, lr, length=64, batch_size=32):
    """Trains on random windows: AdamW, one cycle of the learning rate, gradients clipped to norm 1."""
    optimizer = optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    scheduler = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=job.epochs * STEPS, pct_start=0.1)

    def step():
        optimizer.zero_grad()
        loss = loss_of(model, windows(job, codes, batch_size, length))
        loss.backward()
        kdl.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        return {"bits per character/train": loss.item() / np.log(2)}
    return job.loop(step, {"model": model, "optimizer": optimizer, "scheduler": scheduler}, steps=STEPS)


@kdl.no_grad()
def bits(job, model, codes, length):
    """Bits per character over all of the text, in windows of one length."""
    model.eval()
    count = (len(codes) - 1) // length
    window = job.tensor(codes[np.arange(count)[:, None] * length + np.arange(length + 1)])
    total = sum(loss_of(model, part).item() * len(part) for part in window.split(64))
    return total / count / float(np.log(2))


@kdl.no_grad()
def write(job, model, alphabet, text, length=64, count=240):
    """The text continued by characters drawn from the model, and of each the surprise in bits."""
    codes, surprise = [alphabet.index(c) for c in text], []
    for _ in range(count):
        p = model(job.tensor(np.array([codes[-length:]])))[0, -1].softmax(0).cpu().numpy().astype(float)
        codes.append(int(job.rng.choice(len(alphabet), p=p / p.sum())))
        surprise.append(-np.log2(p[codes[-1]]))
    return "".join(alphabet[c] for c in codes[len(text):]), surprise


def draw_writer(job, history, trigram, text, surprise):
    """The learning curve above the trigram's bits, and what the model wrote, coloured by its surprise."""
    job.draw(plots.curves, "curves", history, {"bits per character/trigram, test": trigram},
             title=f"Bits per character; an epoch is {STEPS} batches")
    with job.figure("sample", 1, 1, 9.0, 2.6, "Written by the model; red: a surprise to itself") as axes:
        row, column = 0, 0
        for character, amount in zip(text, surprise):
            if character == "\n" or column == 80:
                row, column = row + 1, 0
            if character != "\n":
                pale = 1 - min(amount / 8, 1)
                axes[0, 0].text(column, -row, character, family="monospace", fontsize=9, ha="center", va="center",
                                bbox={"pad": 0.5, "linewidth": 0, "facecolor": (1, pale, pale)})
                column += 1
        axes[0, 0].set(xlim=(-1, 81), ylim=(-row - 1, 1))
        axes[0, 0].set_axis_off()
