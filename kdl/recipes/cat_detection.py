"""Is this patch of a photograph part of the cat? One neuron, a hidden layer, convolutions.

The neuron is logistic regression on 768 colours, p = sigmoid(w x + b). The second network puts a layer before it,
h = sigmoid(W1 x + b1). Its gradients can be written by hand: cross-entropy after a sigmoid leaves the error d2 = p - t
at the output, the chain rule d1 = (W2' d2) h (1 - h) at the hidden layer, and the gradients are the means over the
examples of the products d2 h' and d1 x'; of the products, since both factors depend on the example. Autograd is held
to them. The third network's filters of 3x3 pixels find the grain and colour of fur wherever in the patch it lies;
what else is brown and streaked, hair or a table, can pass for it.

Data: scikit-image's photographs: patches of 16x16 pixels of the cat Chelsea against those of an astronaut, a cup of
coffee and a rocket; the left 60 % of every photograph trains, mirrored too, the rest tests. Baseline: the neuron.
"""
import numpy as np

import kdl
from kdl import nn, optim
from kdl.nn import functional as F
from kdl.recipes.common import needs
from kdl.utils import plots

METRIC = "convolutions' test accuracy"
GATES = [("convolutions' test accuracy", ">=", 0.93), ("hidden layer's test accuracy", ">=", 0.68),
         ("autograd away from the gradients by hand", "<=", 1e-6)]
EPOCHS = 12
SIZE, CUT = 16, 135  # a patch's side; the column of a photograph where its part for the test begins


def photographs():
    """The cat and the others, (3, 150, 225) each, in -0.5..0.5."""
    from skimage import data
    from skimage.transform import resize
    return [resize(photo, (150, 225), anti_aliasing=True).astype(np.float32).transpose(2, 0, 1) - 0.5
            for photo in (data.chelsea(), data.astronaut(), data.coffee(), data.rocket())]


def patches(rng, photos, begin, end, count):
    """`count` patches (3, SIZE, SIZE) of the cat, as many of the others, from the columns begin..end; 1 for the cat."""
    x = []
    for photo, share in zip(photos, (3, 1, 1, 1), strict=True):
        for _ in range(count * share // 3):
            i, j = rng.integers(0, 150 - SIZE), rng.integers(begin, end - SIZE)
            x.append(photo[:, i:i + SIZE, j:j + SIZE])
    return np.stack(x), np.repeat(np.float32([1, 0]), count)[:, None]


def gradients_by_hand(network, x, t):
    """What backpropagation must find for the weights and biases of the hidden layer and of the output."""
    _, first, _, second = network
    x = x.flatten(1)
    h = first(x).sigmoid()
    d2 = (second(h).sigmoid() - t) / len(x)
    d1 = d2 @ second.weight * h * (1 - h)
    return d1.T @ x, d1.sum(0), d2.T @ h, d2.sum(0)


def furthest_gradient(network, x, t):
    """The largest difference between autograd and the gradients by hand."""
    F.binary_cross_entropy_with_logits(network(x), t).backward()
    pairs = zip(gradients_by_hand(network, x, t), network.parameters(), strict=True)
    return max((by_hand - p.grad).abs().max().item() for by_hand, p in pairs)


def run(job):
    needs("skimage")
    photos = photographs()
    x, y = [job.tensor(a) for a in patches(job.rng, photos, 0, CUT, 900)]
    xt, yt = [job.tensor(a) for a in patches(job.rng, photos, CUT, 225, 300)]
    x, y = kdl.cat([x, x.flip(3)]), kdl.cat([y, y])
    neuron = nn.Sequential(nn.Flatten(), nn.Linear(768, 1))
    hidden = nn.Sequential(nn.Flatten(), nn.Linear(768, 64), nn.Sigmoid(), nn.Linear(64, 1))
    cnn = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3, padding=1),
                        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(256, 1))
    gap = furthest_gradient(hidden.to(job.device), x[::72], y[::72])

    histories, accuracy = {}, {}
    for name, model in (("neuron", neuron), ("hidden layer", hidden), ("convolutions", cnn)):
        def evaluate(model=model):
            return {"accuracy/test": ((job.predict(model, xt) > 0) == (yt > 0)).float().mean().item()}

        loss = lambda x, y, model=model: F.binary_cross_entropy_with_logits(model(x), y)
        optimizer = optim.Adam(model.to(job.device).parameters(), lr=1e-3)
        history = job.fit(loss, model, optimizer, (x, y), batch_size=64, evaluate=evaluate, name=name,
                          scheduler=optim.lr_scheduler.CosineAnnealingLR(optimizer, job.epochs))
        histories[f"training loss/{name}"] = history["loss/train"]
        histories[f"test accuracy/{name}"] = history["accuracy/test"]
        accuracy[name] = history["accuracy/test"][-1]

    job.draw(plots.curves, "curves", histories, title="Cross-entropy in training, accuracy on the test patches")
    scores = job.predict(cnn, xt).cpu().numpy()[:, 0]
    job.draw(plots.confusion_matrix, "confusion", yt.cpu().numpy()[:, 0].astype(int), (scores > 0).astype(int),
             ["other", "cat"], title="Test patches: actual and predicted")
    shown = np.concatenate([np.argsort(key)[:8] for key in (-scores, np.abs(scores), scores)])
    job.draw(plots.images, "patches", xt.cpu().numpy()[shown].transpose(0, 2, 3, 1) + 0.5,
             [f"{scores[k]:+.1f}" for k in shown], columns=8,
             title="Test patches and their scores: the surest cat, the least sure, the surest others")
    draw_map(job, cnn, photos)
    weight = cnn[0].weight.detach().cpu().numpy().transpose(0, 2, 3, 1)
    job.draw(plots.images, "filters", 0.5 + 0.5 * weight / np.abs(weight).max(),
             title="The first layer's filters as colours (gray: no weight)")
    return {"hidden layer's test accuracy": accuracy["hidden layer"], "autograd away from the gradients by hand": gap,
            "convolutions' test accuracy": accuracy["convolutions"]}, accuracy["neuron"]


def draw_map(job, model, photos):
    """Every photograph under the scores of the patches around its pixels, every third row and column."""
    with job.figure("map", 2, 4, 3.0, 2.2, "Where it sees the cat: the probability by the centre of the patch "
                    "(right of the line: unseen in training)") as axes:
        for (above, below), photo in zip(axes.T, photos, strict=True):
            windows = np.lib.stride_tricks.sliding_window_view(photo, (SIZE, SIZE), (1, 2))[:, ::3, ::3]
            rows, columns = windows.shape[1:3]
            windows = windows.transpose(1, 2, 0, 3, 4).reshape(-1, 3, SIZE, SIZE)
            p = job.predict(model, job.tensor(windows)).sigmoid().cpu().numpy().reshape(rows, columns)
            above.imshow(photo.transpose(1, 2, 0) + 0.5)
            below.imshow(photo.mean(0), cmap="gray")
            heat = below.imshow(p, cmap="RdBu_r", alpha=0.6, vmin=0, vmax=1,
                                extent=(6, 6 + 3 * columns, 6 + 3 * rows, 6))
            for axis in (above, below):
                axis.axvline(CUT, color="white", linewidth=1)
                axis.set(xticks=[], yticks=[], xlim=(0, 224), ylim=(149, 0))
        axes[0, 0].figure.colorbar(heat, ax=axes.ravel().tolist(), label="probability of cat")
