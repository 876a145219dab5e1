"""word2vec: words become vectors that say which other words stand near (Mikolov et al., 2013).

Skip-gram with negative sampling. A word w has a vector u_w, a neighbour c another one v_c, and the network is a
logistic regression on u_w . v_c: was c really near w, or drawn at random? The loss of a pair with five drawn words n is

    -log sigmoid(u_w . v_c) - sum_n log sigmoid(-u_w . v_n).

Neighbours are drawn from the frequencies to the power 3/4, some occurrences of the commonest words are left out, and
nearer neighbours count more often. Words used alike get vectors alike: what was never asked for is what is wanted.

Data: the words of Python's reference manual that occur five times at least, the last tenth of the text for the test.
AUC: how often a true pair of the test scores above one put together at random. Baseline: chance.
"""
import re
from collections import Counter

import numpy as np

import kdl
from kdl import nn, optim
from kdl.nn import functional as F
from kdl.recipes.common import auc, manual
from kdl.utils import plots

METRIC = "held-out pairs told, AUC"
GATES = [("held-out pairs told, AUC", ">=", 0.61), ("percent of words nearer than the plural", "<=", 16)]
EPOCHS = 40
WINDOW, NEGATIVES = 4, 5


class SkipGram(nn.Module):
    """Vectors u of words and v of neighbours; words (N,) and neighbours (N, K) to scores (N, K)."""

    def __init__(self, words, size=48):
        super().__init__()
        self.u, self.v = nn.Embedding(words, size), nn.Embedding(words, size)
        nn.init.normal_(self.u.weight, std=0.1)
        nn.init.zeros_(self.v.weight)

    def forward(self, words, neighbours):
        return (self.v(neighbours) @ self.u(words).unsqueeze(2)).squeeze(2)


def corpus(rng):
    """The manual's words as numbers to train on and to test, the vocabulary, and how often each word is there."""
    text = re.findall(r"[a-z]+", manual().lower())
    cut = len(text) * 9 // 10
    count = Counter(text[:cut])
    vocabulary = sorted(word for word in count if count[word] >= 5)
    number = {word: i for i, word in enumerate(vocabulary)}
    frequency = np.array([count[word] for word in vocabulary])
    keep = np.sqrt(1e-3 * frequency.sum() / frequency)
    parts = [np.array([number[word] for word in part if word in number]) for part in (text[:cut], text[cut:])]
    return *[part[rng.random(len(part)) < keep[part]] for part in parts], vocabulary, frequency


def neighbours(words, at):
    """For each place in the text a word near it, at distance d with probability in proportion to WINDOW + 1 - d."""
    near = WINDOW + 1 - kdl.arange(-WINDOW, WINDOW + 1, device=at.device).abs()
    near[WINDOW] = 0
    return words[at + near.float().multinomial(len(at), replacement=True) - WINDOW]


def run(job):
    train, test, vocabulary, frequency = corpus(job.rng)
    model = SkipGram(len(vocabulary)).to(job.device)
    noise, words, words_t = job.tensor(frequency ** 0.75), job.tensor(train), job.tensor(test)
    places = lambda words: kdl.arange(WINDOW, len(words) - WINDOW, device=job.device)
    at = places(words_t).repeat(5)
    true = words_t[at], neighbours(words_t, at)
    false = words_t[at], true[1][kdl.randperm(len(at), device=job.device)]

    def loss(at):
        near, drawn = neighbours(words, at), noise.multinomial(len(at) * NEGATIVES, replacement=True)
        scores = model(words[at], kdl.cat([near.unsqueeze(1), drawn.reshape(-1, NEGATIVES)], 1))
        return -F.logsigmoid(scores[:, 0]).mean() - F.logsigmoid(-scores[:, 1:]).sum(1).mean()

    def evaluate():
        return {"AUC/test": auc(*[model(word, near.unsqueeze(1))[:, 0].cpu().numpy() for word, near in (true, false)])}

    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    scheduler = optim.lr_scheduler.ExponentialLR(optimizer, 0.93)
    history = job.fit(loss, model, optimizer, (places(words),), batch_size=1024, scheduler=scheduler, evaluate=evaluate)

    vectors = F.normalize(model.u.weight.detach(), dim=1).cpu().numpy()
    number = {word: i for i, word in enumerate(vocabulary)}
    plural = np.array([(number[word], number[word + "s"]) for word in vocabulary
                       if word + "s" in number and len(word) > 2])
    alike = vectors[plural[:, 0]] @ vectors.T
    nearer = alike > np.take_along_axis(alike, plural[:, 1:], 1)

    job.draw(plots.curves, "curves", history, {"AUC/chance": 0.5},
             title="The loss of training pairs, and how well held-out ones are told from random ones")
    draw_neighbours(job, vectors, vocabulary)
    draw_map(job, vectors, vocabulary, frequency, plural)
    return {"words": len(vocabulary), "plurals": len(plural),
            "percent of words nearer than the plural": float(100 * nearer.mean()),
            "held-out pairs told, AUC": history["AUC/test"][-1]}, 0.5


def draw_neighbours(job, vectors, vocabulary):
    """The eight words nearest to some, and their cosines."""
    asked = ["class", "function", "exception", "string", "import", "integer", "true", "list"]
    with job.figure("neighbours", 2, 4, 2.5, 2.4, "The words nearest to eight others") as axes:
        for axis, word in zip(axes.flat, asked, strict=True):
            cosine = vectors @ vectors[vocabulary.index(word)]
            best = np.argsort(cosine)[-9:-1]
            axis.barh([vocabulary[i] for i in best], cosine[best])
            axis.set(xlim=(0, 1), xlabel="cosine")
            axis.set_title(word, fontsize=10)
            axis.tick_params(labelsize=8)


def draw_map(job, vectors, vocabulary, frequency, plural):
    """The commonest words on their principal axes, and singular to plural; what would cover another is left out."""
    common = np.argsort(frequency)[::-1][:150, None]
    often = plural[np.argsort(frequency[plural].min(1))[::-1][:40]]
    arrow = {"arrowstyle": "->", "color": "C0", "alpha": 0.6, "shrinkA": 5, "shrinkB": 5}
    with job.figure("map", 1, 2, 6.2, 5.4, "Words on the principal axes of their vectors: the commonest; singular to "
                    "plural") as axes:
        for axis, groups in zip(axes[0], (common, often), strict=True):
            chosen = vectors[groups] - vectors[groups].mean((0, 1))
            points = chosen @ np.linalg.svd(chosen.reshape(groups.size, -1), full_matrices=False)[2][:2].T
            points /= np.abs(points).max((0, 1))
            drawn = []
            for words, place in zip(groups, points, strict=True):
                labels = [(x, y, vocabulary[i]) for i, (x, y) in zip(words, place, strict=True)]
                if any(abs(y - v) < 0.06 and abs(x - u) < 0.017 * len(one + other)
                       for k, (x, y, one) in enumerate(labels) for u, v, other in drawn + labels[:k]):
                    continue
                drawn += labels
                for label in labels:
                    axis.text(*label, fontsize=7.5, ha="center", va="center")
                if len(words) == 2:
                    axis.annotate("", place[1], place[0], arrowprops=arrow)
            axis.set(xlim=(-1.12, 1.12), ylim=(-1.08, 1.08), xlabel="first axis", ylabel="second axis")
