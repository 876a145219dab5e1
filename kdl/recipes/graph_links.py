"""Who will be seen together? A graph autoencoder finds hidden links (Kipf and Welling, 2016).

Two graph convolutions, Z = A relu(A W1) W2 with A the normalised adjacency, give every person a vector; two people are
linked with the probability sigmoid(z_i . z_j + b), trained on the links that are left to see, rare as they are: each
counts as much as there are more pairs without one.

Data: the 77 people of Les Miserables and who appears with whom (Knuth, 1993); 15 % of the links are hidden, and as many
pairs without a link drawn, ten times anew. Baseline: the product of the two degrees, common popularity.
"""
import numpy as np

import kdl
from kdl import nn, optim
from kdl.models import GCNLayer, normalized_adjacency
from kdl.nn import functional as F
from kdl.recipes.common import auc, needs
from kdl.utils import plots

METRIC = "hidden links found, AUC"
GATES = [("hidden links found, AUC", ">=", 0.815)]
EPOCHS = 80
SPLITS = 10


class GraphAutoencoder(nn.Module):
    """The scores (N, N) of all pairs of nodes of a graph, from its links (N, N) alone."""

    def __init__(self, links, hidden=32, code=16):
        super().__init__()
        self.one, self.two = GCNLayer(len(links), hidden), GCNLayer(hidden, code)
        self.bias = nn.Parameter(kdl.zeros(1))
        self.register_buffer("adjacency", normalized_adjacency(links))
        self.register_buffer("people", kdl.eye(len(links)))

    def forward(self):
        z = self.two(F.relu(self.one(self.people, self.adjacency)), self.adjacency)
        return z @ z.T + self.bias


def run(job):
    needs("networkx")
    import networkx as nx
    graph = nx.les_miserables_graph()
    links = nx.to_numpy_array(graph, weight=None)
    i, j = np.triu_indices(len(links), 1)
    found, popular, histories = [], [], []
    for split in range(SPLITS):
        share = int(0.15 * links[i, j].sum())
        hidden, absent = [job.rng.permutation(np.flatnonzero(links[i, j] == value))[:share] for value in (1, 0)]
        seen = links.copy()
        seen[i[hidden], j[hidden]] = seen[j[hidden], i[hidden]] = 0
        target = job.tensor(seen)
        model = GraphAutoencoder(target).to(job.device)
        rarity = (target == 0).sum() / target.sum()
        loss = lambda model=model, target=target, rarity=rarity: F.binary_cross_entropy_with_logits(
            model(), target, pos_weight=rarity)
        histories.append(job.fit(loss, model, optim.Adam(model.parameters(), lr=0.01), name=f"split {split + 1}"))
        scores, degree = model().detach().cpu().numpy(), seen.sum(1)
        products = degree[:, None] * degree
        found.append(auc(scores[i[hidden], j[hidden]], scores[i[absent], j[absent]]))
        popular.append(auc(products[i[hidden], j[hidden]], products[i[absent], j[absent]]))

    history = {f"loss/split {n + 1}": h["loss/train"] for n, h in enumerate(histories[:3])}
    job.draw(plots.curves, "curves", history, title="Weighted cross-entropy of all pairs, three of the ten splits")
    draw(job, graph, seen, scores, np.stack([i[hidden], j[hidden]], 1))
    return {"worst split": min(found), METRIC: float(np.mean(found))}, float(np.mean(popular))


def draw(job, graph, seen, scores, hidden):
    """The last split: its graph with the hidden links, found or not, and the score of every pair."""
    import networkx as nx
    names, place = list(graph), nx.kamada_kawai_layout(graph, weight=None)
    threshold = np.quantile(scores[np.triu_indices(len(seen), 1)], 0.9)
    with job.figure("graph", 1, 1, 8.0, 6.0, "The last split: hidden links found (green: among the top tenth of all "
                    "pairs) and missed (red)") as axes:
        nx.draw_networkx_edges(nx.from_numpy_array(seen), dict(enumerate(place.values())), ax=axes[0, 0],
                               edge_color="0.85", width=0.6)
        for a, b in hidden:
            colour = "tab:green" if scores[a, b] >= threshold else "tab:red"
            axes[0, 0].plot(*np.stack([place[names[a]], place[names[b]]]).T, color=colour, linewidth=1.4)
        degree = seen.sum(1)
        nx.draw_networkx_nodes(graph, place, ax=axes[0, 0], node_size=10 + 6 * degree, node_color="tab:blue")
        famous = {names[k]: names[k] for k in np.argsort(-degree)[:14]}
        nx.draw_networkx_labels(graph, place, famous, ax=axes[0, 0], font_size=7, verticalalignment="bottom")
        axes[0, 0].set_axis_off()
    order = np.argsort(-seen.sum(1))[:40]
    rows = [names[k] for k in order]
    job.draw(plots.heatmap, "scores", 1 / (1 + np.exp(-scores[np.ix_(order, order)])), rows, rows,
             title="The probability of a link between the forty most linked people")
