"""The variational autoencoder learns a probability of images, and draws new ones (Kingma and Welling, 2014).

The encoder gives a Gaussian q(z|x) over codes instead of one code, the decoder a probability p(x|z) of every pixel.
Training raises the evidence lower bound

    log p(x) >= E_q log p(x|z) - KL(q(z|x) || N(0, 1)),   KL = sum (mean^2 + var - 1 - log var) / 2,

that is, rebuild well with codes that stay close to the normal distribution, from which new images are then drawn.
The expectation is one sample, z = mean + sigma eps with eps from N(0, 1): the gradient passes through mean and sigma.

Data: scikit-learn's digits in black and white, split 70/30. Baseline: 64 independent pixels. A classifier trained on
real digits judges the samples.
"""
import numpy as np

import kdl
from kdl import optim
from kdl.models import VAE
from kdl.nn import functional as F
from kdl.recipes.common import digits
from kdl.utils import plots

METRIC = "lower bound in nats per test image"
GATES = [("lower bound in nats per test image", ">=", -18.6), ("divergence from the prior in nats", ">=", 4.5),
         ("samples that look sure", ">=", 0.45), ("share of the rarest class", ">=", 0.03)]
EPOCHS = 150


def lower_bound(model, x):
    """The evidence lower bound of each image and the divergence in it, in nats."""
    logits, mean, log_var = model(x)
    rebuilt = -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    divergence = (mean ** 2 + log_var.exp() - 1 - log_var).sum(1) / 2
    return rebuilt - divergence, divergence


def run(job):
    images, labels = digits(flat=True)
    x, xt, y, yt = job.split((images > 0.5).astype(np.float32), labels)
    p = (x.sum(0) + 1) / (len(x) + 2)
    single = float((xt * np.log(p) + (1 - xt) * np.log(1 - p)).sum(1).mean())
    x, xt, y = job.tensor(x), job.tensor(xt), job.tensor(y)
    model = VAE().to(job.device)
    history = job.fit(lambda x: -lower_bound(model, x)[0].mean(), model, optim.Adam(model.parameters(), lr=1e-3), (x,),
                      batch_size=64, evaluate=lambda: {"loss/test": -lower_bound(model, xt)[0].mean().item()})
    reader = job.fit_reader(x, y)
    with kdl.no_grad():
        bound = np.mean([lower_bound(model, xt)[0].mean().item() for _ in range(10)])
        divergence = lower_bound(model, xt)[1].mean().item()
        ink = model.decoder(kdl.randn(1000, 8, device=job.device)).sigmoid()
        answers = job.predict(reader, kdl.bernoulli(ink)).softmax(1).cpu().numpy()
        draw(job, model, xt, yt, ink, history, -single)
    return {"divergence from the prior in nats": divergence,
            "samples that look sure": float((answers.max(1) > 0.9).mean()),
            "share of the rarest class": np.bincount(answers.argmax(1), minlength=10).min() / len(answers),
            "lower bound in nats per test image": bound}, single


def draw(job, model, xt, yt, ink, history, single):
    """Curves, samples, the codes of test digits, and the way from one digit to another."""
    job.draw(plots.curves, "curves", history, {"loss/independent pixels": single},
             title="The negative lower bound in nats per image")
    job.draw(plots.images, "samples", ink[:40].reshape(-1, 8, 8).cpu().numpy(), columns=10, size=0.8,
             title="New digits: the decoder's ink for codes from the normal distribution")
    codes = model.mean(model.body(xt))
    centred = codes.cpu().numpy() - codes.mean(0).cpu().numpy()
    plane = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    job.draw(plots.scatter, "codes", plane, yt, xlabel="first direction", ylabel="second direction",
             title="The mean codes of test digits, in their two main directions")
    step = kdl.linspace(0, 1, 10, device=job.device).unsqueeze(1)
    pairs = [(0, 1), (3, 8), (4, 9), (2, 7)]
    ends = [[codes[int(np.flatnonzero(yt == digit)[0])] for digit in pair] for pair in pairs]
    walks = {f"{a} to {b}": model.decoder((1 - step) * start + step * end).sigmoid().reshape(-1, 8, 8).cpu().numpy()
             for (a, b), (start, end) in zip(pairs, ends)}
    job.draw(plots.image_rows, "walks", walks, title="Straight ways through the code, from one test digit to another")
