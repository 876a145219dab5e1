"""Contrastive learning: features without labels, from what two views of an image share (Chen et al., SimCLR, 2020).

Every image of a batch is changed twice, at random. An encoder and a small head turn the 2n views into unit vectors z,
each of which must find its partner p among all others, by the loss called InfoNCE (van den Oord et al., 2018):

    -log(exp(z_i . z_p / T) / sum_{k != i} exp(z_i . z_k / T)),    T = 0.2

So the features keep what the changes leave, the shape, and drop what they alter: place, brightness, noise. The head is
thrown away; a linear classifier of the features, the probe, is fitted to 50 labels. For comparison an encoder learns
from those labels by triplets: an example must be nearer to one of its class than to one of another, by 0.5.

Data: scikit-learn's digits at random places of 12x12, split 70/30, five labels of each. Baseline: the probe on pixels.
"""
import numpy as np

import kdl
from kdl import nn, optim
from kdl.nn import functional as F
from kdl.recipes.common import digits
from kdl.utils import plots

METRIC = "probe's test accuracy"
GATES = [("probe's test accuracy", ">=", 0.84), ("probe's accuracy after triplets", ">=", 0.62)]
EPOCHS = 25


def placed(rng, images):
    """Each image at a random place of an empty canvas: (N, 8, 8) to (N, 1, 12, 12)."""
    canvas = np.zeros((len(images), 1, 12, 12), np.float32)
    for image, on, (i, j) in zip(images, canvas[:, 0], rng.integers(0, 5, (len(images), 2)), strict=True):
        on[i:i + 8, j:j + 8] = image
    return canvas


def view(rng, images):
    """Each image changed at random: in place and brightness, by noise, with 3x3 pixels erased."""
    canvas = placed(rng, images) * rng.uniform(0.7, 1.2, (len(images), 1, 1, 1))
    canvas += rng.normal(0, 0.1, canvas.shape)
    for on, (i, j) in zip(canvas[:, 0], rng.integers(0, 10, (len(images), 2)), strict=True):
        on[i:i + 3, j:j + 3] = 0
    return canvas


def encoder():
    """(N, 1, 12, 12) to features (N, 64), the maxima over all places."""
    block = lambda n, m: [nn.Conv2d(n, m, 3, padding=1), nn.BatchNorm2d(m), nn.ReLU()]
    return nn.Sequential(*block(1, 32), nn.MaxPool2d(2), *block(32, 64), *block(64, 64), nn.AdaptiveMaxPool2d(1),
                         nn.Flatten())


def info_nce(z, temperature=0.2):
    """The loss of the vectors (2n, d) of n first and n second views."""
    z, i = F.normalize(z, dim=1), kdl.arange(len(z), device=z.device)
    scores = (z @ z.T / temperature).masked_fill(i[:, None] == i, -1e9)
    return F.cross_entropy(scores, i.roll(len(z) // 2))


def fit_contrastive(job, model, images):
    network = nn.Sequential(model, nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32)).to(job.device)
    loss = lambda batch: info_nce(network(job.tensor(view(job.rng, np.tile(batch.cpu().numpy(), (2, 1, 1))))))
    return job.fit(loss, network, optim.Adam(network.parameters(), lr=2e-3), (job.tensor(images),), batch_size=128,
                   name="contrastive")["loss/train"]


def fit_triplets(job, model, images, labels):
    def one(allowed):
        return np.array([job.rng.choice(np.flatnonzero(row)) for row in allowed])

    def loss(anchors):
        anchors = anchors.cpu().numpy()
        same, itself = labels[anchors, None] == labels, anchors[:, None] == np.arange(len(labels))
        return F.triplet_margin_loss(*[F.normalize(model(job.tensor(view(job.rng, images[chosen]))), dim=1)
                                       for chosen in (anchors, one(same & ~itself), one(~same))], margin=0.5)
    return job.fit(loss, model, optim.Adam(model.parameters(), lr=2e-3), (job.tensor(np.arange(len(images))),),
                   batch_size=len(images), epochs=job.epochs * 8 // 5, name="triplets")["loss/train"]


def run(job):
    x, xt, y, yt = job.split(*digits())
    few = np.concatenate([np.flatnonzero(y == c)[:5] for c in range(10)])
    asked, known = [job.tensor(placed(job.rng, images)) for images in (xt, x[few])]
    untrained, model, by_triplets = [encoder().to(job.device) for _ in range(3)]
    losses = {"InfoNCE": fit_contrastive(job, model, x), "triplets": fit_triplets(job, by_triplets, x[few], y[few])}
    features, accuracy = {}, {}
    encoders = {"pixels": nn.Flatten(), "untrained": untrained, "contrastive": model, "triplets": by_triplets}
    for name, network in encoders.items():
        features[name] = job.predict(network, asked).cpu().numpy()
        accuracy[name] = probe(job.predict(network, known).cpu().numpy(), y[few], features[name], yt)

    job.draw(plots.curves, "curves", losses, title="The loss without labels and that of triplets with labels")
    job.draw(plots.image_rows, "views", {f"view {i}": view(job.rng, x[:8])[:, 0] for i in (1, 2)},
             title="Two views of each digit")
    draw_features(job, {name: features[name] for name in ("untrained", "contrastive")}, yt)
    return {"probe's accuracy untrained": accuracy["untrained"], "probe's accuracy after triplets":
            accuracy["triplets"], "probe's test accuracy": accuracy["contrastive"]}, accuracy["pixels"]


def probe(x, y, xt, yt):
    """The test accuracy of a linear classifier of features."""
    from sklearn.linear_model import LogisticRegression
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    return LogisticRegression(max_iter=2000).fit((x - mean) / deviation, y).score((xt - mean) / deviation, yt)


def draw_features(job, features, labels):
    """Features of examples as a map of the plane, and as the cosines between them."""
    from sklearn.manifold import TSNE
    order = np.argsort(labels, kind="stable")
    middles = [np.flatnonzero(labels[order] == c).mean() for c in range(10)]
    title = "Test digits before and after learning without labels: maps (t-SNE) and cosines of centred features"
    with job.figure("features", 2, 2, 4.6, 3.8, title) as axes:
        for (above, below), (name, values) in zip(axes.T, features.items(), strict=True):
            plots.draw_points(above, TSNE(random_state=0).fit_transform(values), labels)
            above.set(title=name, xticks=[], yticks=[])
            centred = (values - values.mean(0))[order]
            length = np.linalg.norm(centred, axis=1)
            shown = below.imshow(centred @ centred.T / length / length[:, None], cmap="RdBu_r", vmin=-1, vmax=1)
            below.set(xticks=middles, yticks=middles, xticklabels=range(10), yticklabels=range(10), xlabel="class",
                      ylabel="class")
        below.figure.colorbar(shown, ax=axes[1].tolist(), label="cosine")
