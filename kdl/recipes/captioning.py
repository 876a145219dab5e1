"""Captions: a network looks at a picture of two digits and writes the number in words (Xu et al., 2015).

Convolutions turn the picture into eight columns of features a_j. An LSTM cell writes the caption letter by letter; for
each it looks at the picture again: its state h asks the columns, w = softmax(a_j . W h / sqrt(d)), and it gets the sum
of w_j a_j beside the last letter. Nobody tells it where the digits are, nor that there are two; in "forty two" each
word comes from a digit of its own, but "twelve" needs both.

Data: scikit-learn's digits side by side, split 70/30; fifteen of the hundred numbers are kept from training. Baseline:
one of the 85 others at random.
"""
import numpy as np

import kdl
from kdl import nn, optim
from kdl.nn import functional as F
from kdl.recipes.common import digits
from kdl.utils import plots

METRIC = "captions exactly right"
GATES = [("captions exactly right", ">=", 0.85), ("exactly right for numbers never seen", ">=", 0.45)]
EPOCHS = 20
SMALL = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
         "seventeen eighteen nineteen").split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
START, STOP = "<", ">"
ALPHABET = sorted({*"".join(SMALL + TENS), " ", START, STOP})
LENGTH = 14  # of the longest caption and a sign that it stops


def caption(number):
    if number < 20:
        return SMALL[number]
    return TENS[number // 10 - 2] + (" " + SMALL[number % 10] if number % 10 else "")


def encode(numbers):
    """The letters of each caption between the signs that it starts and stops: (N, LENGTH + 1) places in ALPHABET."""
    return np.array([[ALPHABET.index(c) for c in (START + caption(n)).ljust(LENGTH + 1, STOP)] for n in numbers])


def scenes(rng, images, labels, numbers, count):
    """Two images side by side (count, 1, 8, 16) that show one of the numbers, and the numbers."""
    pairs = rng.integers(0, len(images), (8 * count, 2))
    shown = labels[pairs] @ [10, 1]
    chosen = np.flatnonzero(np.isin(shown, numbers))[:count]
    return np.concatenate(list(images[pairs[chosen]].transpose(1, 0, 2, 3)), 2)[:, None], shown[chosen]


class Captioner(nn.Module):
    """Pictures (N, 1, 8, 16) and the letters so far (N, T) to scores of each next one; `step` writes one by one."""

    def __init__(self, hidden=96):
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
                                 nn.MaxPool2d(2), nn.Conv2d(32, hidden, (4, 3), padding=(0, 1)), nn.ReLU())
        self.place = nn.Parameter(0.1 * kdl.randn(1, 8, hidden))
        self.letter, self.cell = nn.Embedding(len(ALPHABET), 32), nn.LSTMCell(32 + hidden, hidden)
        self.query, self.out = nn.Linear(hidden, hidden), nn.Linear(2 * hidden, len(ALPHABET))

    def forward(self, x, letters):
        columns, state = self.look(x)
        scores = []
        for letter in letters.unbind(1):
            score, state, _ = self.step(letter, columns, state)
            scores.append(score)
        return kdl.stack(scores, 1)

    def look(self, x):
        """The picture's columns of features (N, 8, hidden), and the state that the writing starts from."""
        columns = self.cnn(x).squeeze(2).transpose(1, 2) + self.place
        h = columns.mean(1)
        return columns, (h, kdl.zeros_like(h))

    def step(self, letter, columns, state):
        """Scores of the next letter, the new state, and the weight of each column."""
        question = self.query(state[0]).unsqueeze(2)
        weights = (columns @ question).squeeze(2).div(columns.shape[2] ** 0.5).softmax(1)
        seen = (weights.unsqueeze(1) @ columns).squeeze(1)
        state = self.cell(kdl.cat([self.letter(letter), seen], 1), state)
        return self.out(kdl.cat([state[0], seen], 1)), state, weights


@kdl.no_grad()
def write(model, x):
    """The likeliest letters one after another (N, LENGTH), and where the network looked for each (N, LENGTH, 8)."""
    model.eval()
    columns, state = model.look(x)
    letter = kdl.full((len(x),), ALPHABET.index(START), dtype=kdl.int64, device=x.device)
    letters, looks = [], []
    for _ in range(LENGTH):
        scores, state, weights = model.step(letter, columns, state)
        letter = scores.argmax(1)
        letters.append(letter)
        looks.append(weights)
    return kdl.stack(letters, 1).cpu().numpy(), kdl.stack(looks, 1).cpu().numpy()


def run(job):
    images, labels = digits()
    images, images_t, labels, labels_t = job.split(images, labels)
    kept, known = np.split(job.rng.permutation(100), [15])
    test = {"numbers seen": scenes(job.rng, images_t, labels_t, known, 1000),
            "never seen": scenes(job.rng, images_t, labels_t, kept, 500)}
    pictures, truth = zip(*[(job.tensor(x), encode(numbers)[:, 1:]) for x, numbers in test.values()], strict=True)
    exact = lambda: {name: float((write(model, x)[0] == letters).all(1).mean())
                     for name, x, letters in zip(test, pictures, truth, strict=True)}

    model = Captioner().to(job.device)
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    x, numbers = scenes(job.rng, images, labels, known, 2000)
    loss = lambda x, text: F.cross_entropy(model(x, text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
    history = job.fit(loss, model, optimizer, (job.tensor(x), job.tensor(encode(numbers))), batch_size=50, clip=5.0,
                      scheduler=optim.lr_scheduler.CosineAnnealingLR(optimizer, job.epochs),
                      evaluate=lambda: {f"captions exactly right/{name}": share for name, share in exact().items()})

    right = exact()
    job.draw(plots.curves, "curves", history, title="The loss per letter, and the share of captions that are right")
    draw(job, model, *[np.concatenate([x[:2] for x in part]) for part in zip(*test.values(), strict=True)])
    return {"exactly right for numbers never seen": right["never seen"],
            "captions exactly right": right["numbers seen"]}, 1 / len(known)


def draw(job, model, x, numbers):
    """Pictures, two of numbers seen and two of numbers never seen, and where the network looks for every letter."""
    letters, looks = write(model, job.tensor(x))
    with job.figure("attention", 2, 4, 3.1, 2.0, "Test pictures, what was written, and where each letter looks; the "
                    "two numbers on the right were never seen") as axes:
        for above, below, picture, text, weights in zip(*axes, x[:, 0], letters, looks, strict=True):
            said = "".join(ALPHABET[i] for i in text)
            count = said.index(STOP) + 1 if STOP in said else LENGTH
            above.imshow(picture, cmap="gray", aspect="auto")
            above.set_title(said[:count].rstrip(STOP), fontsize=9)
            above.set(xticks=[], yticks=[])
            below.imshow(weights[:count], cmap="Blues", vmin=0, vmax=1, aspect="auto")
            below.set_yticks(range(count), ["stop" if c == STOP else "space" if c == " " else c for c in said[:count]],
                             fontsize=7)
            below.set_xlabel("column of features", fontsize=8)
            below.set_xticks(range(8), range(8), fontsize=7)
