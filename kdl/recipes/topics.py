"""What is this paragraph about? A bag of embedded words tells the article it was taken from (Joulin et al., 2017).

The words of a text are counted without their order: every word has a vector, the text is the mean of its words'
vectors, and a linear layer scores the topics. Half of the mean's units are dropped while training (and the kept ones
doubled), for there are more words than paragraphs.

Data: the paragraphs of the twelve longest articles of Python's reference manual, split 70/30; words seen once are all
the same unknown word. Baseline: the commonest article.
"""
import re
from collections import Counter

import numpy as np

from kdl import nn, optim
from kdl.nn import functional as F
from kdl.recipes.common import majority
from kdl.utils import plots

METRIC = "test accuracy"
GATES = [("test accuracy", ">=", 0.59)]
EPOCHS = 15
ARTICLES = 12


def paragraphs():
    """The words of every paragraph of at least eight, the number of its article, and the articles' names."""
    from pydoc_data.topics import topics
    texts = {name: [re.findall(r"[a-z_]+", part.lower()) for part in re.split(r"\n\s*\n", topics[name])]
             for name in sorted(topics)}
    texts = {name: [words for words in parts if len(words) >= 8] for name, parts in texts.items()}
    names = sorted(texts, key=lambda name: -len(texts[name]))[:ARTICLES]
    return ([words for name in names for words in texts[name]],
            np.repeat(np.arange(ARTICLES), [len(texts[name]) for name in names]), names)


class Bag(nn.Module):
    """Words in a row and where each text begins, to (N, classes)."""

    def __init__(self, vocabulary, classes):
        super().__init__()
        self.embed = nn.EmbeddingBag(vocabulary, 64, mode="mean")
        self.head = nn.Sequential(nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, classes))

    def forward(self, words, offsets):
        return self.head(self.embed(words, offsets))


def run(job):
    texts, labels, names = paragraphs()
    train, test, y, yt = job.split(np.arange(len(texts)), labels)
    seen = Counter(word for i in train for word in set(texts[i]))
    vocabulary = ["(unknown)"] + sorted(word for word in seen if seen[word] >= 2)
    number = {word: i for i, word in enumerate(vocabulary)}
    codes = [np.array([number.get(word, 0) for word in words]) for words in texts]
    pack = lambda chosen: (job.tensor(np.concatenate([codes[i] for i in chosen])),
                           job.tensor(np.cumsum([0] + [len(codes[i]) for i in chosen[:-1]])))

    model = Bag(len(vocabulary), ARTICLES).to(job.device)
    test_words, ys, yts = pack(test), job.tensor(y), job.tensor(yt)

    def evaluate():
        scores = model(*test_words)
        return {"loss/test": F.cross_entropy(scores, yts).item(),
                "accuracy/test": (scores.argmax(1) == yts).float().mean().item()}
    history = job.fit(lambda chosen, y: F.cross_entropy(model(*pack(chosen.tolist())), y), model,
                      optim.Adam(model.parameters(), lr=1e-2), (job.tensor(train), ys), batch_size=32,
                      evaluate=evaluate)
    scores = model(*test_words).detach().cpu().numpy()
    accuracy = float((scores.argmax(1) == yt).mean())

    job.draw(plots.curves, "curves", history, {"accuracy/commonest article": majority(y, yt)},
             title="Learning which article a paragraph is from")
    job.draw(plots.confusion_matrix, "confusion", yt, scores.argmax(1), names,
             title="Test paragraphs: the actual article and the predicted one")
    draw(job, model, vocabulary, seen, names)
    return {"paragraphs": len(texts), "words": len(vocabulary), "test accuracy": accuracy}, majority(y, yt)


def draw(job, model, vocabulary, seen, names):
    """For every article the words that alone score highest for it, among those in at least eight paragraphs."""
    common = np.array([i for i, word in enumerate(vocabulary) if seen[word] >= 8])
    weights = (model.embed.weight.relu() @ model.head[2].weight.T).detach().cpu().numpy()[common]
    weights -= weights.mean(1, keepdims=True)
    with job.figure("words", 3, 4, 2.9, 2.3, "The words that speak most for each article") as axes:
        for axis, name, column in zip(axes.flat, names, weights.T):
            best = np.argsort(column)[-8:]
            axis.barh([vocabulary[common[i]] for i in best], column[best])
            axis.set_title(name, fontsize=9)
            axis.tick_params(labelsize=7)
        for axis in axes[-1]:
            axis.set_xlabel("score", fontsize=8)
