"""A multilayer perceptron reads handwritten digits: the "hello world" of deep learning.

Layers of weighted sums with a bend between them, h = relu(W x + b), turn 64 pixels into ten scores z; the probability
of class c is softmax(z)_c = e^z_c / sum_k e^z_k, and training lowers the cross-entropy -log softmax(z)_label by
stochastic gradient descent: for a small random batch, W <- W - lr dL/dW. Without the hidden layers the same training
gives softmax regression, which can only draw straight borders between the digits.

Data: scikit-learn's 1,797 digits of 8x8 pixels, split 70/30 by the seed. Baseline: always the commonest digit.
"""
from kdl import nn, optim
from kdl.recipes.common import digits, majority
from kdl.utils import plots

METRIC = "test accuracy"
GATES = [("test accuracy", ">=", 0.945), ("train accuracy", ">=", 0.999), ("last loss", "<=", 0.006)]
EPOCHS = 60


def train(job, model, train, test, name):
    return job.fit_classifier(model, optim.SGD(model.parameters(), lr=0.2), train, test, batch_size=32, name=name)


def run(job):
    images, labels = digits(flat=True)
    x, xt, y, yt = [job.tensor(part) for part in job.split(images, labels)]
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).to(job.device)
    history = train(job, model, (x, y), (xt, yt), "perceptron")
    straight = train(job, nn.Linear(64, 10).to(job.device), (x, y), (xt, yt), "softmax regression")["accuracy/test"][-1]

    job.draw(plots.curves, "curves", history, {"accuracy/softmax regression": straight},
             title="Loss and accuracy over the epochs, and what softmax regression reaches")
    job.draw(plots.images, "first_layer", model[0].weight.detach().cpu().numpy().reshape(64, 8, 8), columns=16,
             title="What each hidden unit looks for: its 64 weights as a picture")
    job.draw_errors(model, xt, yt, xt.reshape(-1, 8, 8).cpu())
    return {"train accuracy": job.accuracy(model, x, y), "last loss": history["loss/train"][-1],
            "softmax regression": straight, "test accuracy": history["accuracy/test"][-1]}, majority(y, yt)
