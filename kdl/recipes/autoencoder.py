"""The autoencoder squeezes a digit through two numbers and rebuilds it (Hinton and Salakhutdinov, 2006).

An encoder maps the image to a code of k numbers, a decoder maps the code back, and both learn to make the mean squared
error between image and rebuilt image small; nobody says what the code should mean. With linear layers the best code is
that of principal component analysis, so PCA with the same k is the yardstick: 1 is no better. Trained on noisy images
with the clean ones as targets, the same network takes noise away.

Data: scikit-learn's digits, split 70/30. Baseline: PCA with two components.
"""
import numpy as np

from kdl import nn, optim
from kdl.models import Autoencoder
from kdl.nn import functional as F
from kdl.recipes.common import digits
from kdl.utils import plots

METRIC = "error over PCA's, 2 numbers"
GATES = [("error over PCA's, 2 numbers", "<=", 0.7), ("error over PCA's, 8 numbers", "<=", 0.72),
         ("10 nearest neighbours in the code", ">=", 0.74), ("error over the noise's", "<=", 0.3)]
EPOCHS = 60
NOISE = 0.3


def train(job, k, x, target, epochs, name):
    """An autoencoder with a code of k numbers, its pixels kept in 0..1, and the history of its loss."""
    model = Autoencoder((64, 128, 64, k))
    model.decoder.append(nn.Sigmoid())
    model.to(job.device)
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    scheduler = optim.lr_scheduler.StepLR(optimizer, max(epochs // 3, 1), 0.4)
    history = job.fit(lambda x, target: F.mse_loss(model(x), target), model, optimizer, (x, target), batch_size=64,
                      epochs=epochs, scheduler=scheduler, name=name)
    return model, history["loss/train"]


def run(job):
    images, labels = digits(flat=True)
    x, xt, y, yt = job.split(images, labels)
    from sklearn.decomposition import PCA
    from sklearn.neighbors import KNeighborsClassifier
    array = lambda model, a: job.predict(model, job.tensor(a)).cpu().numpy()
    error = lambda a: float(((a - xt) ** 2).mean())
    histories, rebuilt, measured = {}, {"image": xt}, {}
    for k in (8, 2):
        model, histories[f"loss/{k} numbers"] = train(job, k, job.tensor(x), job.tensor(x), job.epochs, f"{k} numbers")
        pca = PCA(k).fit(x)
        linear = pca.inverse_transform(pca.transform(xt))
        rebuilt |= {f"{k} numbers": array(model, xt), f"PCA, {k}": linear}
        measured[f"error over PCA's, {k} numbers"] = error(rebuilt[f"{k} numbers"]) / error(linear)
    codes, codes_t = array(model.encoder, x), array(model.encoder, xt)
    neighbours = KNeighborsClassifier(10).fit(codes, y).score(codes_t, yt)

    noisy, noisy_t = [a + job.rng.normal(0, NOISE, a.shape).astype(np.float32) for a in (np.tile(x, (3, 1)), xt)]
    model, histories["loss/denoising"] = train(job, 32, job.tensor(noisy), job.tensor(np.tile(x, (3, 1))),
                                               max(job.epochs // 3, 1), "denoising")
    clean = array(model, noisy_t)

    job.draw(plots.curves, "curves", histories, title="The mean squared error per pixel while training")
    with job.figure("codes", 1, 2, 5.0, 4.0, "Test digits by their two numbers: the network's and PCA's") as axes:
        for axis, points, name in zip(axes[0], (codes_t, pca.transform(xt)), ("autoencoder", "PCA")):
            plots.draw_points(axis, points, yt)
            axis.set(xlabel="first number", ylabel="second number", title=name)
    rows = rebuilt | {"noisy": noisy_t, "denoised": clean}
    job.draw(plots.image_rows, "rebuilt", {name: a[:10].reshape(-1, 8, 8) for name, a in rows.items()}, size=0.9,
             title="Test digits, rebuilt from 8 and from 2 numbers; with noise, and the noise taken away")
    return {"10 nearest neighbours in the code": neighbours, "error over the noise's": error(clean) / NOISE ** 2,
            **measured}, 1.0
