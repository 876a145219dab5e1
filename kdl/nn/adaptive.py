"""AdaptiveLogSoftmaxWithLoss: the softmax over very many classes of which few are frequent."""
from collections import namedtuple

from kdl.errors import expect
from kdl.nn.containers import ModuleList, Sequential
from kdl.nn.gemm import Linear
from kdl.nn.module import Module
from kdl.ops.join import cat
from kdl.ops.select import where
from kdl.ops.softmax import log_softmax

__all__ = ["AdaptiveLogSoftmaxWithLoss"]

ASMoutput = namedtuple("ASMoutput", ["output", "loss"])


class AdaptiveLogSoftmaxWithLoss(Module):
    """log p of each target, and the mean loss -log p, where classes are sorted by frequency, the most frequent first.

    The head tells the first cutoffs[0] classes and the clusters apart; cluster i, the classes from cutoffs[i] to the
    next cutoff, are told apart after a projection to in_features / div_value^(i + 1): p = p(cluster) p(class | it).
    Shapes: (N, in_features) with targets (N), or (in_features) with (). Raises ValueError. (Grave et al., 2017.)
    """

    def __init__(self, in_features, n_classes, cutoffs, div_value=4.0, head_bias=False, device=None, dtype=None):
        super().__init__()
        cutoffs = list(cutoffs)
        expect(cutoffs and cutoffs == sorted(set(cutoffs)) and 0 < cutoffs[0] and cutoffs[-1] < n_classes
               and all(int(c) == c for c in cutoffs), "AdaptiveLogSoftmaxWithLoss",
               "growing integers between 1 and n_classes - 1", cutoffs=cutoffs, n_classes=n_classes)
        self.in_features, self.n_classes, self.cutoffs = in_features, n_classes, [*cutoffs, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size, self.n_clusters = cutoffs[0], len(cutoffs)
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, head_bias, device, dtype)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            width = int(in_features // div_value ** (i + 1))
            classes = self.cutoffs[i + 1] - self.cutoffs[i]
            self.tail.append(Sequential(Linear(in_features, width, False, device, dtype),
                                        Linear(width, classes, False, device, dtype)))

    def reset_parameters(self):
        """Draw the parameters anew."""
        self.head.reset_parameters()
        for projection, classes in self.tail:
            projection.reset_parameters()
            classes.reset_parameters()

    def forward(self, input_, target_):
        """The log-probabilities of the targets, and the mean of their negatives, as (output, loss)."""
        name = "AdaptiveLogSoftmaxWithLoss"
        expect(target_.ndim < 2 and input_.ndim == target_.ndim + 1 and input_.shape[:-1] == target_.shape, name,
               "input (N, in_features) with target (N), or (in_features) with ()", input=input_, target=target_)
        input, target = (input_, target_) if target_.ndim else (input_.unsqueeze(0), target_.unsqueeze(0))
        expect(bool(((target >= 0) & (target < self.n_classes)).all()), name, f"targets in [0, {self.n_classes - 1}]",
               target=target.tolist())
        place = target
        for i, low in enumerate(self.cutoffs[:-1]):
            place = where(target >= low, self.shortlist_size + i, place)
        output = log_softmax(self.head(input), 1).gather(1, place.unsqueeze(1)).squeeze(1)
        for i, low in enumerate(self.cutoffs[:-1]):
            rows = (place == self.shortlist_size + i).nonzero().squeeze(1)
            if rows.numel():
                inner = log_softmax(self.tail[i](input.index_select(0, rows)), 1)
                label = (target.index_select(0, rows) - low).unsqueeze(1)
                output = output.index_add(0, rows, inner.gather(1, label).squeeze(1))
        loss = (-output).mean()
        return ASMoutput(output if target_.ndim else output.squeeze(0), loss)

    def log_prob(self, input):
        """The log-probabilities of all classes, (N, n_classes)."""
        head = log_softmax(self.head(input), 1)
        parts = [head[:, :self.shortlist_size]]
        for i in range(self.n_clusters):
            parts.append(log_softmax(self.tail[i](input), 1) + head[:, self.shortlist_size + i].unsqueeze(1))
        return cat(parts, 1)

    def predict(self, input):
        """The class of the highest probability for each row: the head's, where that is no cluster."""
        first = self.head(input).argmax(1)
        if not bool((first >= self.shortlist_size).any()):
            return first
        return where(first >= self.shortlist_size, self.log_prob(input).argmax(1), first)
