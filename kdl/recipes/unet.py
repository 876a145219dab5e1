"""U-Net finds the ink of digits that were drawn over a photograph (Ronneberger, Fischer and Brox, 2015).

The network answers for every pixel. Its way down sees ever larger parts of the image at ever lower resolution, its way
up returns to the pixels; skip connections hand the features of each resolution across, for the small maps know what
there is and the large ones where exactly. Trained on cross-entropy plus the Dice loss, 1 - 2 |A B| / (|A| + |B|), which
does not care how few pixels are ink.

Data: scikit-learn's photograph of a Chinese palace with four digits added, lighter or darker; its left half and 70 % of
the digits train, the rest tests. Baseline: the best threshold on the distance from the image's median.
"""
import numpy as np

from kdl import optim
from kdl.models import UNet
from kdl.nn import functional as F
from kdl.recipes.common import digits, needs
from kdl.utils import plots

METRIC = "intersection over union"
GATES = [("intersection over union", ">=", 0.54), ("gain over the threshold", ">=", 0.2),
         ("gain from the skips", ">=", 0.1)]
EPOCHS = 12


def scenes(rng, ink, half, count):
    """Images (N, 1, 32, 32) from one half of the photograph, with noise, and where the ink is."""
    from sklearn.datasets import load_sample_image
    photo = load_sample_image("china.jpg").mean(2).astype(np.float32)[::2, ::2] / 255
    photo = photo[:, :160] if half == "left" else photo[:, 160:]
    x, mask = np.zeros((2, count, 1, 32, 32), np.float32)
    for image, where in zip(x[:, 0], mask[:, 0]):
        i, j = rng.integers(0, photo.shape[0] - 32), rng.integers(0, photo.shape[1] - 32)
        image[...] = photo[i:i + 32, j:j + 32]
        for _ in range(4):
            digit, shade = ink[rng.integers(len(ink))], rng.choice([-0.4, 0.4])
            i, j = rng.integers(0, 25, 2)
            image[i:i + 8, j:j + 8] += shade * digit
            where[i:i + 8, j:j + 8] = np.maximum(where[i:i + 8, j:j + 8], digit > 0.5)
    return x + rng.normal(0, 0.02, x.shape).astype(np.float32), mask


def loss(scores, mask):
    p = scores.sigmoid()
    dice = 1 - (2 * (p * mask).sum() + 1) / (p.sum() + mask.sum() + 1)
    return F.binary_cross_entropy_with_logits(scores, mask) + dice


def overlap(found, mask):
    """The intersection over the union of two sets of pixels."""
    return float((found & mask).sum() / (found | mask).sum())


def best_threshold(x, mask, xt):
    """The pixels of xt further from their image's median than the distance that serves best on x."""
    away, away_t = [np.abs(a - np.median(a, (2, 3), keepdims=True)) for a in (x, xt)]
    return away_t > max(np.linspace(0.02, 0.6, 59), key=lambda distance: overlap(away > distance, mask > 0))


def run(job):
    needs("sklearn")
    images, labels = digits()
    ink, ink_t, _, _ = job.split(images, labels)
    x, mask = scenes(job.rng, ink, "left", 800)
    xt, mask_t = scenes(job.rng, ink_t, "right", 200)
    found, histories = {"threshold": best_threshold(x, mask, xt)}, {}
    xs, masks = job.tensor(x), job.tensor(mask)
    for name, skips in (("U-Net", True), ("without skips", False)):
        model = UNet(width=8, depth=2, skips=skips).to(job.device)
        histories[f"loss/{name}"] = job.fit(
            lambda x, mask, model=model: loss(model(x), mask), model, optim.Adam(model.parameters(), lr=5e-3),
            (xs, masks), batch_size=30, name=name)["loss/train"]
        found[name] = job.predict(model, job.tensor(xt), batch_size=100).cpu().numpy() > 0
    scores = {name: overlap(pixels, mask_t > 0) for name, pixels in found.items()}

    job.draw(plots.curves, "curves", histories, title="Cross-entropy plus Dice loss, with and without skip connections")
    rows = {"scene": xt, "ink": mask_t, **{name: found[name] for name in ("U-Net", "without skips", "threshold")}}
    job.draw(plots.image_rows, "scenes", {name: pictures[:6, 0] for name, pictures in rows.items()},
             title="Test scenes, their ink, and what was found of it")
    return {"without skips": scores["without skips"], "gain over the threshold": scores["U-Net"] - scores["threshold"],
            "gain from the skips": scores["U-Net"] - scores["without skips"],
            "intersection over union": scores["U-Net"]}, scores["threshold"]
