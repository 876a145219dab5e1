"""What a convolutional network looks at, seen in the pixels in three ways (Zeiler and Fergus, 2014).

Deconvnet: an activation is sent back through its layers. Pooling is undone by putting each value where its maximum was
found (the remembered switches), the rectifier rectifies again, and a convolution becomes its transpose with the same
weights; nothing is learned for it. What comes back should look like the patch that the unit has responded to. Saliency
(Simonyan et al., 2014): the gradient of the class's score by the pixels, times the pixels, says which the answer hangs
on; erasing the six foremost must cost more belief than six others. Activation maximisation (Erhan et al., 2009): steps
on an image instead of the weights find what a network would most like to see as a class; another one must read it so.

Data: scikit-learn's digits, split 70/30. Baseline: the correlation with the patch at this place of another image.
"""
import numpy as np

import kdl
from kdl import nn, optim
from kdl.nn import functional as F
from kdl.recipes.common import digits
from kdl.utils import plots

METRIC = "correlation of projection and patch"
GATES = [("correlation of projection and patch", ">=", 0.55), ("test accuracy", ">=", 0.94),
         ("belief lost with salient pixels", ">=", 0.48), ("dreams that another network reads", ">=", 0.8)]
EPOCHS = 15


class Network(nn.Module):
    """(N, 1, 8, 8) to (N, 10) scores, with the way back from the second layer's maps (N, 32, 4, 4) to the pixels."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.out = nn.Linear(128, 10)

    def maps(self, x):
        """The second layer's maps, and the switches of the pooling before it."""
        pooled, switches = F.max_pool2d(self.first(x).relu(), 2, return_indices=True)
        return self.second(pooled).relu(), switches

    def forward(self, x):
        return self.out(F.max_pool2d(self.maps(x)[0], 2).flatten(1))

    def project(self, maps, switches):
        pooled = F.conv_transpose2d(maps.relu(), self.second.weight, padding=1)
        return F.conv_transpose2d(F.max_unpool2d(pooled, switches, 2).relu(), self.first.weight, padding=1)


def patches(images, places):
    """Of each image (N, 8, 8) the 8x8 pixels that one of the 16 places of the second layer sees, 0 beyond the edge."""
    wide = np.pad(images, ((0, 0), (3, 5), (3, 5)))
    return np.stack([image[2 * i:2 * i + 8, 2 * j:2 * j + 8] for image, i, j in zip(wide, places // 4, places % 4)])


def correlation(a, b):
    """The mean correlation of pairs of patches, 0 where one is flat."""
    a, b = [p - p.mean((1, 2), keepdims=True) for p in (a, b)]
    return float(((a * b).mean((1, 2)) / np.maximum(a.std((1, 2)) * b.std((1, 2)), 1e-9)).mean())


@kdl.no_grad()
def strongest(model, x):
    """For each filter the nine images that excite it most: their numbers, the places, and their projections."""
    images = model.maps(x)[0].amax((2, 3)).argsort(0, descending=True)[:9].T.flatten()
    maps, switches = model.maps(x[images])
    filters = kdl.arange(32, device=x.device).repeat_interleave(9)
    places = maps.flatten(2)[kdl.arange(len(images), device=x.device), filters].argmax(1)
    alone = F.one_hot(filters * 16 + places, 512).reshape(maps.shape) * maps
    images, places, back = [a.cpu().numpy() for a in (images, places, model.project(alone, switches)[:, 0])]
    return images, places, patches(back, places)


def saliency(model, x, y):
    """How much each pixel (N, 8, 8) adds to the score of the image's class or takes from it."""
    x = x.detach().requires_grad_()
    model(x).gather(1, y[:, None]).sum().backward()
    return (x.grad * x.detach()).abs()[:, 0].cpu().numpy()


def erased(images, importance):
    """The images (N, 8, 8) without their six most important pixels."""
    pixels = images.reshape(-1, 64).copy()
    np.put_along_axis(pixels, np.argsort(-importance.reshape(-1, 64))[:, :6], 0, 1)
    return pixels.reshape(-1, 8, 8)


def dream(job, model):
    """Ten images that the model takes for the ten classes, dark where ink gains nothing; and the loss on the way."""
    album = nn.ParameterList([nn.Parameter(kdl.full((10, 1, 8, 8), -1.0, device=job.device))])
    loss = lambda: (F.cross_entropy(model(album[0].sigmoid()), kdl.arange(10, device=job.device))
                    + 0.002 * (album[0].sigmoid() ** 2).sum())
    history = job.fit(loss, album, optim.Adam(album.parameters(), lr=0.2), epochs=7 * job.epochs, name="dreams")
    return album[0].detach().sigmoid(), history["loss/train"]


def run(job):
    x, xt, y, yt = job.split(*digits())
    train, test = [(job.tensor(images[:, None]), job.tensor(labels)) for images, labels in ((x, y), (xt, yt))]
    model, other = models = Network().to(job.device), Network().to(job.device)
    histories = {}
    for name, net in zip(("network", "other network"), models, strict=True):
        history = job.fit_classifier(net, optim.Adam(net.parameters(), lr=3e-3), train, test, batch_size=64, name=name)
        histories |= {f"training loss/{name}": history["loss/train"], f"test accuracy/{name}": history["accuracy/test"]}
    numbers, places, back = strongest(model, test[0])
    seen, away = [patches(xt[chosen], places) for chosen in (numbers, job.rng.integers(0, len(xt), len(numbers)))]
    used = (seen.std((1, 2)) > 0) & (back.std((1, 2)) > 0)
    own, foreign = [correlation(back[used], others[used]) for others in (seen, away)]

    salient = saliency(model, *test)
    without = erased(xt, salient), erased(xt, (xt > 0.3) + job.rng.random(xt.shape))
    lost, lost_by_chance = [1 - job.predict(model, job.tensor(images[:, None])).softmax(1).gather(
        1, test[1][:, None]).mean().item() for images in without]
    dreams, histories["dreams' loss"] = dream(job, model)
    read = job.predict(other, dreams).argmax(1).cpu().numpy()

    job.draw(plots.curves, "curves", histories, title="Two networks' training, and that of the dreams of one")
    job.draw_errors(model, *test)
    rows = {f"{name} {i + 1}": tiles[9 * i:9 * i + 9]
            for i in range(4) for name, tiles in (("seen by", seen), ("sent back by", back))}
    job.draw(plots.image_rows, "projections", rows, size=1.0,
             title="The nine test digits that excite a filter most, where it sees them, and its activation sent back")
    first = [np.flatnonzero(yt == c)[0] for c in range(10)]
    rows = {"digit": xt[first], "saliency": salient[first], "six erased": without[0][first]}
    job.draw(plots.image_rows, "saliency", rows, title="The pixels that the answer hangs on")
    job.draw(plots.images, "dreams", dreams[:, 0].cpu().numpy(), [f"{c}, read as {r}" for c, r in enumerate(read)],
             columns=5, size=1.3, title="What the network would like to see, and what another reads in it")
    return {"test accuracy": job.accuracy(model, *test), "belief lost with salient pixels": lost,
            "belief lost with other ink": lost_by_chance,
            "dreams that another network reads": float((read == np.arange(10)).mean()),
            "correlation of projection and patch": own}, foreign
