"""Networks on graphs: graph convolution (Kipf and Welling, 2017) and graph attention (Velickovic et al., 2018).

Nodes mix their neighbours' features with weights that all nodes share. Graph convolution takes the graph as a matrix
(N, N), which `normalized_adjacency` makes from one with 1 where an edge is; graph attention as a list of edges.
"""
import kdl
from kdl import nn
from kdl.nn import functional as F

__all__ = ["GAT", "GCN", "GATLayer", "GCNLayer", "normalized_adjacency"]


def normalized_adjacency(adjacency):
    """D^-1/2 (A + I) D^-1/2, with D the degrees of A + I: a mean over a node and its neighbours."""
    with_self = adjacency + kdl.eye(len(adjacency), dtype=adjacency.dtype, device=adjacency.device)
    scale = with_self.sum(1).rsqrt()
    return scale.unsqueeze(1) * with_self * scale


class GCNLayer(nn.Module):
    """A x W + b: (N, in_features) to (N, out_features), for a normalised adjacency A."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)

    def forward(self, x, adjacency):
        return adjacency @ self.linear(x)


class GCN(nn.Module):
    """Two graph convolutions with a ReLU and dropout between: (N, features) to (N, classes)."""

    def __init__(self, features, hidden, classes, dropout=0.5):
        super().__init__()
        self.one, self.two, self.dropout = GCNLayer(features, hidden), GCNLayer(hidden, classes), nn.Dropout(dropout)

    def forward(self, x, adjacency):
        return self.two(self.dropout(F.relu(self.one(self.dropout(x), adjacency))), adjacency)


class GATLayer(nn.Module):
    """Every node takes the mean of its neighbours' features, weighted by softmax_j leaky_relu(a . W x_i + b . W x_j).

    `edges` (2, E) hold the numbers of sources j and of targets i; give every node an edge to itself. Shapes:
    (N, in_features) to (N, heads out_features), or to the mean over the heads with `concat=False`.
    """

    def __init__(self, in_features, out_features, heads=1, concat=True):
        super().__init__()
        self.heads, self.concat = heads, concat
        self.linear = nn.Linear(in_features, heads * out_features)
        self.source = nn.Parameter(0.1 * kdl.randn(heads, out_features))
        self.target = nn.Parameter(0.1 * kdl.randn(heads, out_features))

    def forward(self, x, edges):
        return self.attend(x, edges)[0]

    def attend(self, x, edges):
        """The new features, and the attention of every edge (E, heads)."""
        source, target = edges[0], edges[1]
        h = self.linear(x).reshape(len(x), self.heads, -1)
        scores = F.leaky_relu((h * self.source).sum(2)[source] + (h * self.target).sum(2)[target], 0.2)
        weights = (scores - scores.detach().max()).exp()
        attention = weights / kdl.zeros_like(h[:, :, 0]).index_add(0, target, weights)[target]
        y = kdl.zeros_like(h).index_add(0, target, attention.unsqueeze(2) * h[source])
        return (y.flatten(1) if self.concat else y.mean(1)), attention


class GAT(nn.Module):
    """Two attention layers with a ReLU and dropout between: (N, features) to (N, classes)."""

    def __init__(self, features, hidden, classes, heads=1, dropout=0.3):
        super().__init__()
        self.one, self.two = GATLayer(features, hidden, heads), GATLayer(heads * hidden, classes, 1, concat=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, edges):
        return self.two(self.dropout(F.relu(self.one(x, edges))), edges)
