"""Two networks play against each other until one of them makes digits (Goodfellow et al., 2014).

The generator turns noise z into an image; the discriminator d says whether an image is real. The discriminator
minimises the cross-entropy -log d(x) - log(1 - d(g(z))), the generator -log d(g(z)), the form whose gradient does not
vanish while it loses. At the balance the images have the distribution of the data. Real images count as 0.9 real, so
that the discriminator never is quite sure. With the class shown to both, one can order a digit.

Data: scikit-learn's digits, split 70/30. The distance of generated and real images is Frechet's in the features of a
classifier: |m1 - m2|^2 + tr(C1 + C2 - 2 sqrt(C1 C2)) for their means and covariances, divided by that of the baseline,
independent pixels with the right histograms. The conditional generator is held to more: a classifier trained on its
images alone must read real digits.
"""
import numpy as np

import kdl
from kdl import nn, optim
from kdl.models import Discriminator, Generator
from kdl.nn import functional as F
from kdl.recipes.common import digits
from kdl.utils import plots

METRIC = "distance over that of pixels"
GATES = [("distance over that of pixels", "<=", 0.65), ("share of the rarest class", ">=", 0.03),
         ("real digits read after learning from made ones", ">=", 0.8)]
EPOCHS = 120
NOISE = 32


class Game(nn.Module):
    """Both players, shown the one-hot class or zeros where it is left open, and an album of what some noise became."""

    def __init__(self, conditional, epochs):
        super().__init__()
        self.conditional = conditional
        self.generator, self.discriminator = Generator(NOISE + 10), Discriminator(64 + 10)
        self.milestones = sorted({2 ** i for i in range(epochs.bit_length())} | {epochs})
        self.register_buffer("noise", kdl.randn(10, NOISE))
        self.register_buffer("album", kdl.zeros(len(self.milestones), 10, 64))
        self.register_buffer("epochs", kdl.zeros((), dtype=kdl.int64))

    def condition(self, labels):
        return F.one_hot(labels, 10).float() * self.conditional

    def make(self, condition, noise=None):
        noise = kdl.randn(len(condition), NOISE, device=condition.device) if noise is None else noise
        return self.generator(kdl.cat([noise, condition], 1))

    def score(self, images, condition):
        return self.discriminator(kdl.cat([images, condition], 1))

    def photograph(self):
        """After every epoch: at a milestone, what the generator now makes of the noise goes into the album."""
        self.epochs += 1
        if int(self.epochs) in self.milestones:
            condition = self.condition(kdl.arange(10, device=self.noise.device))
            self.album[self.milestones.index(int(self.epochs))] = self.make(condition, self.noise)
        return {}


def play(job, x, y, conditional, name):
    """Trains both players in turn; returns the game and its losses."""
    game = Game(conditional, job.epochs).to(job.device)
    players = game.generator, game.discriminator
    generator, discriminator = [optim.Adam(p.parameters(), lr=1e-3, betas=(0.5, 0.999)) for p in players]

    def step(x, y):
        condition, real = game.condition(y), kdl.ones(len(x), 1, device=job.device)
        made = game.make(condition)
        discriminator.zero_grad()
        loss_d = F.binary_cross_entropy_with_logits(game.score(x, condition), 0.9 * real) \
            + F.binary_cross_entropy_with_logits(game.score(made.detach(), condition), 0 * real)
        loss_d.backward()
        discriminator.step()
        generator.zero_grad()
        loss_g = F.binary_cross_entropy_with_logits(game.score(made, condition), real)
        loss_g.backward()
        generator.step()
        return {"loss/discriminator": loss_d.detach(), "loss/generator": loss_g.detach()}

    history = job.loop(step, {"game": game, "generator": generator, "discriminator": discriminator}, (x, y),
                       batch_size=64, evaluate=game.photograph, name=name)
    return game, history


def frechet(a, b):
    """The squared Frechet distance of two clouds of features, as if both were normal."""
    covariance_a, covariance_b = np.cov(a.T), np.cov(b.T)
    root = np.sqrt(np.abs(np.linalg.eigvals(covariance_a @ covariance_b))).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariance_a + covariance_b) - 2 * root)


def run(job):
    images, labels = digits(flat=True)
    x, xt, y, yt = job.split(images, labels)
    pixels = job.tensor(np.stack([job.rng.permutation(column) for column in x.T], 1))
    x, xt, y, yt = [job.tensor(a) for a in (x, xt, y, yt)]
    reader = job.fit_reader(x, y)
    features = lambda images: job.predict(reader[:4], images).cpu().numpy()

    game, history = play(job, x, y, False, "game")
    ordered, history_ordered = play(job, x, y, True, "game with classes")
    wanted = job.tensor(job.rng.integers(0, 10, len(x)))
    with kdl.no_grad():
        made, made_to_order = [g.make(g.condition(wanted)) for g in (game, ordered)]
    student = job.fit_reader(made_to_order, wanted, "student")
    counts = np.bincount(job.predict(reader, made).argmax(1).cpu().numpy(), minlength=10)
    scale = frechet(features(pixels), features(xt))

    job.draw(plots.curves, "curves", {f"{name}/{key.partition('/')[2]}": values for name, h in (
        ("loss", history), ("loss with classes", history_ordered)) for key, values in h.items()},
             title="Both losses settle: the players hold each other in balance")
    album = game.album.reshape(-1, 10, 8, 8).cpu().numpy()
    job.draw(plots.image_rows, "over_time", {f"epoch {n}": row for n, row in zip(game.milestones, album)}, size=0.8,
             title="What the generator makes of the same noise")
    classes = job.tensor(np.tile(np.arange(10), 6))
    with kdl.no_grad():
        samples = ordered.make(ordered.condition(classes)).reshape(6, 10, 8, 8).cpu().numpy()
    job.draw(plots.images, "by_class", samples.reshape(-1, 8, 8), [str(int(c)) for c in classes], columns=10, size=0.8,
             title="Digits made to order")
    with job.figure("classes", 1, 1, 5.0, 3.2, "The classes of the images made without an order") as axes:
        axes[0, 0].bar(range(10), counts)
        axes[0, 0].set(xlabel="class, as a classifier reads it", ylabel="images", xticks=range(10))
    return {"distance of real training digits": frechet(features(x), features(xt)) / scale,
            "share of the rarest class": counts.min() / counts.sum(),
            "real digits read after learning from made ones": job.accuracy(student, xt, yt),
            "distance over that of pixels": frechet(features(made), features(xt)) / scale}, 1.0
