"""Graph networks let examples help each other (Kipf and Welling, 2017; Velickovic et al., 2018).

The relations are among the examples, the nodes of a graph: each layer mixes the features of neighbours with weights
that all nodes share. The graph convolution takes relu(A X W), A the adjacency normalised by the degrees; in graph
attention every node weighs its neighbours anew, by a softmax over its edges. All nodes are seen while training, but
only few labels.

Data: all of scikit-learn's digits, joined to their 8 nearest neighbours, with 5 labels a class; Zachary's karate club
(1977), which split in two, with 2 labels for its 34 people. Baseline: the same network without the graph.
"""
import numpy as np

import kdl
from kdl import nn, optim
from kdl.models import GAT, GCN, normalized_adjacency
from kdl.nn import functional as F
from kdl.recipes.common import digits, needs
from kdl.utils import plots

METRIC = "GCN accuracy"
GATES = [("GCN accuracy", ">=", 0.81), ("GAT accuracy", ">=", 0.83), ("gain from the graph", ">=", 0.03),
         ("karate club accuracy", ">=", 0.9)]
EPOCHS = 150


def learn(job, model, inputs, labels, known, name):
    """Trains on the known labels alone; returns the answers for all nodes and the loss."""
    targets, chosen = job.tensor(labels[known]), job.tensor(known)
    model.to(job.device)
    optimizer = optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    history = job.fit(lambda: F.cross_entropy(model(*inputs)[chosen], targets), model, optimizer, name=name)
    with kdl.no_grad():
        return model(*inputs).argmax(1).cpu().numpy(), history["loss/train"]


def run(job):
    needs("networkx", "sklearn")
    import networkx as nx
    from sklearn.neighbors import kneighbors_graph
    club = nx.karate_club_graph()
    sides = np.array([club.nodes[n]["club"] == "Officer" for n in club]).astype(int)
    links = job.tensor(nx.to_numpy_array(club, weight=None))
    people = kdl.eye(len(club), device=job.device)
    leaders = np.array([0, len(club) - 1])
    karate, _ = learn(job, GCN(len(club), 16, 2, dropout=0.0), (people, normalized_adjacency(links)), sides, leaders,
                      "karate club")

    images, labels = digits(flat=True)
    order = job.rng.permutation(len(images))
    images, labels = images[order], labels[order]
    near = kneighbors_graph(images, 8).toarray()
    near = np.maximum(near, near.T)
    x, edges = job.tensor(images), job.tensor(np.stack(np.nonzero(near + np.eye(len(near)))))
    known = np.concatenate([np.flatnonzero(labels == c)[:5] for c in range(10)])
    hidden = np.setdiff1d(np.arange(len(labels)), known)
    mlp = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10))
    models = {"GCN": (GCN(64, 64, 10), (x, normalized_adjacency(job.tensor(near)))),
              "GAT": (GAT(64, 64, 10), (x, edges)), "without the graph": (mlp, (x,))}
    answers, losses, accuracy = {}, {}, {}
    for name, (model, inputs) in models.items():
        answers[name], losses[f"loss/{name}"] = learn(job, model, inputs, labels, known, name)
        accuracy[name] = float((answers[name] == labels)[hidden].mean())

    job.draw(plots.curves, "curves", losses, title="Cross-entropy of the 50 known labels")
    job.draw(plots.confusion_matrix, "confusion", labels[hidden], answers["GCN"][hidden],
             title="Digits without a label: the actual class and the GCN's")
    draw(job, club, sides, karate, models["GAT"], labels, known)
    return {"GAT accuracy": accuracy["GAT"], "karate club accuracy": float((karate == sides)[1:-1].mean()),
            "gain from the graph": min(accuracy["GCN"], accuracy["GAT"]) - accuracy["without the graph"],
            "GCN accuracy": accuracy["GCN"]}, accuracy["without the graph"]


def draw(job, club, sides, karate, attention, labels, known):
    """The club by predicted side, and around one digit the edges that its attention weighs."""
    import networkx as nx
    place = nx.spring_layout(club, seed=1)
    with job.figure("karate", 1, 1, 6.0, 4.6, "The karate club: colour is the predicted side; squares are the two that "
                    "were known, a red ring an error") as axes:
        nx.draw_networkx_edges(club, place, ax=axes[0, 0], edge_color="0.8")
        for nodes, shape in (((0, len(club) - 1), "s"), (range(1, len(club) - 1), "o")):
            nx.draw_networkx_nodes(club, place, nodes, ax=axes[0, 0], node_shape=shape, node_size=220,
                                   node_color=[("tab:blue", "tab:orange")[karate[n]] for n in nodes],
                                   edgecolors=["red" if karate[n] != sides[n] else "black" for n in nodes])
        nx.draw_networkx_labels(club, place, {n: n + 1 for n in club}, ax=axes[0, 0], font_size=7)
        axes[0, 0].set_axis_off()

    model, (x, edges) = attention
    with kdl.no_grad():
        weights = model.one.attend(x, edges)[1].cpu().numpy()[:, 0]
    source, target = edges.cpu().numpy()
    rows, captions = [], []
    for node in np.setdiff1d(np.arange(200), known)[:5]:
        at = np.flatnonzero((target == node) & (source != node))
        at = at[np.argsort(-weights[at])][:7]
        shown = np.concatenate([[node], source[at]])
        rows += [x[int(i)].reshape(8, 8).cpu().numpy() for i in shown]
        captions += ["digit"] + [f"{weights[i]:.2f}" for i in at]
        rows += [np.zeros((8, 8))] * (8 - len(shown))
        captions += [""] * (8 - len(shown))
    job.draw(plots.images, "attention", rows, captions, title="Digits and the neighbours they attend to most")
