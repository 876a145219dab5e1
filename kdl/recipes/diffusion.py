"""A word becomes a picture: denoising diffusion, steered by text (Ho, Jain and Abbeel, 2020).

Noise is mixed into an image in T steps, x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e, until only noise is left; a network
learns to tell the noise e from x_t, the step t and the word, by the mean squared error. A picture is drawn backwards:
from pure noise, every step takes away a part of the noise that the network sees,

    x_{t-1} = mean of q(x_{t-1} | x_t, predicted x_0) + sigma_t z,   z from N(0, 1).

The a_t fall along a cosine (Nichol and Dhariwal, 2021). The words are spelled: a bag of embeddings of their letters.

Data: scikit-learn's digits, split 70/30, and their names. A classifier of real digits must read the word back from the
picture, and one trained on pictures alone must read real digits. Baseline: guessing.
"""
import numpy as np

import kdl
from kdl import nn, optim
from kdl.nn import functional as F
from kdl.recipes.common import digits
from kdl.utils import plots

METRIC = "words read back"
GATES = [("words read back", ">=", 0.955), ("real digits read after learning from made ones", ">=", 0.9)]
EPOCHS = 250
WORDS = "zero one two three four five six seven eight nine".split()
STEPS = 50
COSINE = np.cos((np.arange(STEPS + 1) / STEPS + 0.008) / 1.008 * np.pi / 2) ** 2
BETA = np.clip(1 - COSINE[1:] / COSINE[:-1], 0, 0.999)
KEPT = np.cumprod(1 - BETA)  # a_t


class Denoiser(nn.Module):
    """The noise in images (N, 64) after t (N) steps, for words given as letters and where each begins."""

    def __init__(self, width=256):
        super().__init__()
        self.word, self.time = nn.EmbeddingBag(26, width, mode="sum"), nn.Embedding(STEPS, width)
        self.image = nn.Linear(64, width)
        self.body = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, width), nn.LayerNorm(width),
                                  nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 64))

    def forward(self, x, t, letters, offsets):
        return self.body(self.image(x) + self.time(t) + self.word(letters, offsets))


def spell(job, labels):
    """The letters of the labels' words in a row, and where each word begins."""
    letters = [[ord(c) - ord("a") for c in WORDS[label]] for label in labels]
    return job.tensor(np.concatenate(letters)), job.tensor(np.cumsum([0] + [len(word) for word in letters[:-1]]))


@kdl.no_grad()
def sample(job, model, labels):
    """Draws a picture (64) in 0..1 for every label; also how they looked on the way, noise first."""
    words, x, way = spell(job, labels), kdl.randn(len(labels), 64, device=job.device), []
    for t in reversed(range(STEPS)):
        way.append(x)
        noise = model(x, kdl.full((len(labels),), t, dtype=kdl.int64, device=job.device), *words)
        before, kept, beta = float(KEPT[t - 1]) if t else 1.0, float(KEPT[t]), float(BETA[t])
        clean = ((x - (1 - kept) ** 0.5 * noise) / kept ** 0.5).clamp(-1, 1)
        mean = (before ** 0.5 * beta * clean + (1 - beta) ** 0.5 * (1 - before) * x) / (1 - kept)
        x = mean + (beta * (1 - before) / (1 - kept)) ** 0.5 * kdl.randn_like(x)
    return (x / 2 + 0.5).clamp(0, 1), way + [x]


def run(job):
    images, labels = digits(flat=True)
    x, xt, y, yt = job.split(images, labels)
    model = Denoiser().to(job.device)
    optimizer = optim.Adam(model.parameters(), lr=2e-3)

    def loss(x, y):
        t, noise = job.rng.integers(0, STEPS, len(x)), kdl.randn_like(x)
        kept = job.tensor(KEPT[t]).unsqueeze(1)
        mixed = kept.sqrt() * (2 * x - 1) + (1 - kept).sqrt() * noise
        return F.mse_loss(model(mixed, job.tensor(t), *spell(job, y.tolist())), noise)
    history = job.fit(loss, model, optimizer, (job.tensor(x), job.tensor(y)), batch_size=64,
                      scheduler=optim.lr_scheduler.CosineAnnealingLR(optimizer, job.epochs))

    reader = job.fit_reader(job.tensor(x), job.tensor(y))
    wanted = job.rng.integers(0, 10, 1000)
    made, _ = sample(job, model, wanted)
    student = job.fit_reader(made, job.tensor(wanted), "student")

    job.draw(plots.curves, "curves", history, title="The mean squared error of the predicted noise")
    samples = sample(job, model, np.repeat(np.arange(10), 8))[0].reshape(10, 8, 8, 8).cpu().numpy()
    job.draw(plots.image_rows, "words", dict(zip(WORDS, samples)), size=0.75, title="Eight pictures for every word")
    _, way = sample(job, model, np.arange(10))
    shown = np.linspace(0, STEPS, 11).astype(int)
    rows = {word: np.stack([way[t][i].reshape(8, 8).cpu().numpy() for t in shown]) for i, word in enumerate(WORDS)}
    job.draw(plots.image_rows, "from_noise", rows, [f"t = {STEPS - t}" for t in shown], size=0.75,
             title="From noise to the digit that the word asks for")
    return {"real digits read after learning from made ones": job.accuracy(student, job.tensor(xt), job.tensor(yt)),
            "words read back": job.accuracy(reader, made, job.tensor(wanted))}, 0.1
