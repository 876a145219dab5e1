"""Is this a face? A small convolutional network on 25x25 images (LeCun et al., 1998; Huang et al., 2007).

Two strided convolutions with batch normalisation, then dropout and a linear layer. A hundred images are few for a
network: mirrored copies double them, dropout and decoupled weight decay (AdamW) hold the weights back, and every image
is tested exactly once, in two halves that take turns (2-fold cross-validation).

Data: scikit-image's 100 faces of Labeled Faces in the Wild and 100 cut-outs without one. Baseline: a linear model.
"""
import numpy as np

from kdl import nn, optim
from kdl.recipes.common import needs
from kdl.utils import plots

METRIC = "accuracy, two-fold"
GATES = [("accuracy, two-fold", ">=", 0.96)]
EPOCHS = 20


def network():
    """(N, 1, 25, 25) to scores (N, 2) for no face and face."""
    return nn.Sequential(nn.Conv2d(1, 16, 5, stride=2), nn.BatchNorm2d(16), nn.ReLU(),
                         nn.Conv2d(16, 32, 3, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
                         nn.Flatten(), nn.Dropout(0.5), nn.Linear(800, 2))


def run(job):
    needs("skimage")
    from skimage import data
    x = data.lfw_subset().astype(np.float32)[:, None] - 0.5
    y = np.repeat([1, 0], 100)
    order = job.rng.permutation(200)
    scores, linear_scores, histories = np.zeros((200, 2)), np.zeros((200, 2)), {}
    for fold, (test, rest) in enumerate(((order[:100], order[100:]), (order[100:], order[:100])), 1):
        train = [job.tensor(np.concatenate(pair)) for pair in ((x[rest], x[rest][..., ::-1]), (y[rest], y[rest]))]
        held_out = job.tensor(x[test]), job.tensor(y[test])
        cnn = network().to(job.device)
        history = job.fit_classifier(cnn, optim.AdamW(cnn.parameters(), lr=2e-3, weight_decay=0.05), train, held_out,
                                     batch_size=20, name=f"network, fold {fold}")
        histories |= {f"{key} fold {fold}": values for key, values in history.items()}
        linear = nn.Sequential(nn.Flatten(), nn.Linear(625, 2)).to(job.device)
        job.fit_classifier(linear, optim.Adam(linear.parameters(), lr=1e-3), train, held_out, batch_size=20,
                           epochs=2 * job.epochs, name=f"linear model, fold {fold}")
        scores[test] = job.predict(cnn, held_out[0]).cpu().numpy()
        linear_scores[test] = job.predict(linear, held_out[0]).cpu().numpy()

    margin = scores[:, 1] - scores[:, 0]
    job.draw(plots.curves, "curves", histories, title="Both folds: cross-entropy and test accuracy")
    job.draw(plots.confusion_matrix, "confusion", y, scores.argmax(1), ["other", "face"],
             title="Test images: actual and predicted")
    sure = np.argsort(margin)
    shown = np.concatenate([sure[::-1][:8], sure[96:104], sure[:8]])
    job.draw(plots.images, "scores", x[shown, 0], [f"{margin[i]:+.1f}" for i in shown],
             title="Score for a face less that against: the surest faces, the least sure, the surest others")
    wrong = np.flatnonzero(scores.argmax(1) != y)
    if len(wrong):
        job.draw(plots.images, "errors", x[wrong[:16], 0], [("other", "face")[y[i]] for i in wrong[:16]],
                 title="All errors" if len(wrong) <= 16 else "Sixteen errors")
    job.draw(plots.images, "filters", cnn[0].weight.detach()[:, 0].cpu().numpy(), title="The first layer's filters")
    return {"accuracy, two-fold": float((scores.argmax(1) == y).mean())}, float((linear_scores.argmax(1) == y).mean())
