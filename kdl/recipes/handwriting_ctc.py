"""Handwriting is read without being cut into characters: a network in time and the CTC loss (Graves et al., 2006).

A line of digits is given with its transcript, but not with the place of each digit. Convolutions turn the image into a
sequence of columns, an LSTM reads it in both directions, and every column gets the probabilities of the ten digits and
of a blank. A path names one of the eleven per column; it spells what is left when repetitions are merged and then
blanks removed, so that a blank must part two equal digits. The loss is -log of the summed probability of all paths that
spell the transcript, by the forward-backward recursion. Reading takes the likeliest class of every column.

Data: three to six of scikit-learn's digits in a row, unevenly spaced, from the 70 % to train on, or the rest.
Baseline: cut the ink into equal pieces (their number is given away) and classify each with a perceptron of layers.
"""
import numpy as np

from kdl import nn, optim
from kdl.nn import functional as F
from kdl.recipes.common import digits
from kdl.utils import plots

METRIC = "character error rate"
GATES = [("character error rate", "<=", 0.045), ("lines without an error", ">=", 0.82)]
EPOCHS = 15
WIDTH, STEPS, BLANK = 64, 32, 0  # of the image, of the sequence; digit d is class d + 1


def lines(rng, images, labels, count):
    """Images (count, 1, 8, WIDTH), their transcripts as classes (count, 6), blank where shorter, and their lengths."""
    x, classes = np.zeros((count, 1, 8, WIDTH), np.float32), np.full((count, 6), BLANK)
    lengths = rng.integers(3, 7, count)
    for line, spelled, length in zip(x[:, 0], classes, lengths, strict=True):
        chosen, at = rng.integers(0, len(images), length), rng.integers(0, 4)
        for i in chosen:
            room = line[:, at:at + 8]
            np.maximum(room, images[i, :, :room.shape[1]], out=room)
            at += rng.integers(7, 11)
        spelled[:length] = labels[chosen] + 1
    return x, classes, lengths


class Reader(nn.Module):
    """(N, 1, 8, WIDTH) to log-probabilities (N, STEPS, 11)."""

    def __init__(self, hidden=48):
        super().__init__()
        self.look = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
                                  nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.read = nn.LSTM(32 * 4, hidden, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * hidden, 11)

    def forward(self, x):
        columns = self.look(x).flatten(1, 2).transpose(1, 2)
        return self.out(self.read(columns)[0]).log_softmax(2)


def spell(path):
    """The digits of a path: repetitions merged, then blanks removed."""
    before = np.concatenate([[BLANK], path[:-1]])
    return path[(path != BLANK) & (path != before)] - 1


def distance(a, b):
    """The least number of insertions, deletions and changes that make b out of a (Levenshtein)."""
    row = np.arange(len(b) + 1)
    for p in a:
        above, row[0] = row.copy(), row[0] + 1
        for j, q in enumerate(b):
            row[j + 1] = min(above[j + 1] + 1, row[j] + 1, above[j] + (p != q))
    return int(row[-1])


def equal_cuts(job, classifier, line, count):
    """The digits of a line that is cut into equal pieces from its first ink to its last."""
    ink = np.flatnonzero(line.sum((0, 1)))
    begin = np.linspace(ink[0], max(ink[-1] - 7, ink[0]), count).round().astype(int)
    pieces = np.stack([line[:, :, i:i + 8] for i in np.minimum(begin, WIDTH - 8)])
    return job.predict(classifier, job.tensor(pieces)).argmax(1).cpu().numpy()


def run(job):
    images, labels = digits()
    images, images_t, labels, labels_t = job.split(images, labels)
    model = Reader().to(job.device)
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    x, classes, lengths = [job.tensor(part) for part in lines(job.rng, images, labels, 1500)]
    xt, classes_t, lengths_t = lines(job.rng, images_t, labels_t, 400)
    truth = [spelled[:length] - 1 for spelled, length in zip(classes_t, lengths_t, strict=True)]

    def loss(x, classes, lengths):
        steps = lengths.new_full((len(x),), STEPS)
        return F.ctc_loss(model(x).transpose(0, 1), classes, steps, lengths, BLANK)

    def wrong():
        read = job.predict(model, job.tensor(xt)).argmax(2).cpu().numpy()
        return np.array([distance(spell(path), digits) for path, digits in zip(read, truth, strict=True)])

    evaluate = lambda: {"character error rate/test": wrong().sum() / lengths_t.sum()}
    history = job.fit(loss, model, optimizer, (x, classes, lengths), batch_size=30, clip=5.0, evaluate=evaluate,
                      scheduler=optim.lr_scheduler.CosineAnnealingLR(optimizer, job.epochs))
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).to(job.device)
    job.fit(lambda x, y: F.cross_entropy(classifier(x), y), classifier, optim.Adam(classifier.parameters(), lr=3e-3),
            (job.tensor(images[:, None]), job.tensor(labels)), batch_size=64, epochs=20, name="single digits")
    cuts = sum(distance(equal_cuts(job, classifier, line, len(digits)), digits)
               for line, digits in zip(xt, truth, strict=True)) / lengths_t.sum()

    errors = wrong()
    rate = errors.sum() / lengths_t.sum()
    job.draw(plots.curves, "curves", history, {"character error rate/equal cuts": cuts},
             title="The CTC loss, and the share of test characters that are wrong")
    draw(job, model, xt, truth, np.concatenate([np.flatnonzero(errors == 0)[:3], np.flatnonzero(errors)[:3]]))
    return {"lines without an error": float((errors == 0).mean()), "character error rate": float(rate)}, float(cuts)


def draw(job, model, x, truth, chosen):
    """Six lines, and below each the probabilities of the eleven classes at every column."""
    p = job.predict(model, job.tensor(x[chosen])).exp().cpu().numpy()
    with job.figure("alignment", 6, 2, 5.4, 1.1, "Test lines read right (left) and wrong (right), above what each "
                    "column was taken for") as axes:
        panels = zip(axes[::2].T.flat, axes[1::2].T.flat, x[chosen, 0], p, chosen, strict=False)
        for above, below, line, columns, number in panels:
            read = spell(columns.argmax(1))
            above.imshow(line, cmap="gray_r", aspect="auto", extent=(-0.5, STEPS - 0.5, 8, 0))
            above.set_title("{} read as {}".format(*["".join(map(str, d)) for d in (truth[number], read)]), fontsize=9)
            above.set(xticks=[], yticks=[])
            below.imshow(columns.T, cmap="Blues", aspect="auto", vmin=0, vmax=1)
            below.set_yticks(range(0, 11, 2), ["blank", *range(1, 10, 2)], fontsize=7)
            below.tick_params("x", labelsize=7)
        for axis in axes[-1]:
            axis.set_xlabel("column", fontsize=8)
