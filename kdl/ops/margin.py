"""Losses with a margin: what is right must be ahead of what is wrong, or near to what is like it, by some distance.

Each is a sum of hinges max(0, h), whose derivative is that of h where h is at least 0, and 0 elsewhere. Reductions are
those of kdl/ops/loss.py.
"""
from kdl import types
from kdl.autograd.autocast import active, widened
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, floating
from kdl.ops.compare import clamp, minimum
from kdl.ops.indexing import add_at
from kdl.ops.loss import (
    BinaryCrossEntropyWithLogits,
    Elementwise,
    Loss,
    check_reduction,
    check_same_shape,
    evaluated,
    reduced,
    sigmoid,
    softplus,
    wide,
)
from kdl.ops.maths import sqrt
from kdl.ops.reduce import mean, norm
from kdl.ops.shape import broadcast_tensors

__all__ = ["cosine_embedding_loss", "cosine_similarity", "hinge_embedding_loss", "margin_ranking_loss",
           "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss", "pairwise_distance",
           "soft_margin_loss", "triplet_margin_loss", "triplet_margin_with_distance_loss"]


# --- two classes, named 1 and -1 ---
def hinge_embedding_loss(input, target, margin=1.0, size_average=None, reduce=None, reduction="mean"):
    """x where y is 1, max(0, margin - x) where it is -1. Shapes: any that broadcast. Raises ValueError for others."""
    check_reduction("hinge_embedding_loss", reduction, size_average, reduce)
    return evaluated("hinge_embedding_loss", HingeEmbedding(reduction, margin), input, target)


def soft_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """log(1 + exp(-y x)). Shapes: any that broadcast. Raises ValueError for others."""
    check_reduction("soft_margin_loss", reduction, size_average, reduce)
    return evaluated("soft_margin_loss", SoftMargin(reduction), input, target)


def margin_ranking_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """max(0, margin - y (x1 - x2)): x1 must be above x2 where y is 1, and below where it is -1.

    Shapes: of one number of dimensions, and broadcast. Raises ValueError for others.
    """
    op = "margin_ranking_loss"
    check_reduction(op, reduction, size_average, reduce)
    _check_ndim(op, input1=input1, input2=input2, target=target)
    return evaluated(op, MarginRanking(reduction, margin), input1, input2, target)


def cosine_embedding_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """1 - cos(x1, x2) where y is 1, max(0, cos(x1, x2) - margin) where it is -1, 0 elsewhere.

    Shapes: (N, D), (N, D) and (N), or (D), (D) and (). Raises ValueError for others.
    """
    op = "cosine_embedding_loss"
    check_reduction(op, reduction, size_average, reduce)
    ndim = array_of(op, target, "target").ndim
    expect(ndim < 2 and array_of(op, input1, "input1").ndim == array_of(op, input2, "input2").ndim == ndim + 1, op,
           "shapes (N, D), (N, D) and (N), or (D), (D) and ()", input1=input1, input2=input2, target=target)
    squares = [(x * x).sum(-1) + 1e-12 for x in (input1, input2)]
    cosine = (input1 * input2).sum(-1) / sqrt(squares[0] * squares[1])
    return evaluated(op, CosineEmbedding(reduction, margin), cosine, target)


# --- many classes ---
def multi_margin_loss(input, target, p=1, margin=1.0, weight=None, size_average=None, reduce=None, reduction="mean"):
    """sum_{c != y} w_y max(0, margin - x_y + x_c)^p / C, for a label y.

    Shapes: input (N, C) and target (N), or (C) and (); weight (C). Raises ValueError for others, for p other than 1 or
    2 and for labels outside [0, C), TypeError unless input is floating-point and target int64.
    """
    op = "multi_margin_loss"
    check_reduction(op, reduction, size_average, reduce)
    expect(p in (1, 2), op, "p 1 or 2", p=p)
    C = _check_classes(op, input)
    labels = array_of(op, target, "target")
    expect(labels.shape == input.array.shape[:-1] or (labels.shape == (1,) and input.ndim == 1), op,
           "shapes (N, C) and (N), or (C) and ()", input=input, target=target)
    _check_labels(op, labels, 0, C)
    if weight is not None:
        expect(array_of(op, weight, "weight").shape == (C,), op, f"a weight for each of {C} classes", weight=weight)
        floating(op, input=input, weight=weight)
    return _per_row(op, MultiMargin(reduction, p, margin), input, target, None if weight is None else weight.array)


def multilabel_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """sum over the labels y of a row, and over all c that are not among them, of max(0, 1 - (x_y - x_c)) / C.

    Shapes: input and target (N, C), or (C); a row's labels end before the first -1. Raises ValueError for others and
    for labels outside [-1, C), TypeError unless input is floating-point and target int64.
    """
    op = "multilabel_margin_loss"
    check_reduction(op, reduction, size_average, reduce)
    C = _check_classes(op, input)
    check_same_shape(op, input=input, target=target)
    _check_labels(op, target.array, -1, C)
    return _per_row(op, MultiLabelMargin(reduction), input, target)


def multilabel_soft_margin_loss(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """The mean over C of -w (y log s + (1 - y) log(1 - s)), s = sigmoid(x).

    Shapes: input (..., C), to which target and weight broadcast. Raises ValueError for others.
    """
    op = "multilabel_soft_margin_loss"
    check_reduction(op, reduction, size_average, reduce)
    expect(array_of(op, input).ndim, op, "input of shape (..., C)", input=input)
    loss = evaluated(op, BinaryCrossEntropyWithLogits("none"), input, target)
    if weight is not None:
        loss = loss * weight
    return reduced(mean(loss, input.ndim - 1), reduction)


# --- distances between points ---
def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along a dimension of two tensors that broadcast."""
    floating("cosine_similarity", x1=x1, x2=x2)
    if active:
        x1, x2 = widened("cosine_similarity", x1, x2)
    x1, x2 = broadcast_tensors(x1, x2)
    units = [x / norm(x, 2, dim, keepdim=True).clamp_min(eps) for x in (x1, x2)]
    return (units[0] * units[1]).sum(dim)


def pairwise_distance(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    """The p-norm of x1 - x2 + eps along the last dimension. Shapes: (N, D) or (D), which broadcast."""
    array_of("pairwise_distance", x1, "x1")
    array_of("pairwise_distance", x2, "x2")
    return norm(x1 - x2 + eps, p, -1, keepdim)


def triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2, eps=1e-6, swap=False, size_average=None,
                        reduce=None, reduction="mean"):
    """max(0, margin + d(anchor, positive) - d(anchor, negative)) for d = `pairwise_distance`.

    With `swap`, d(positive, negative) takes the place of d(anchor, negative) where it is less. Shapes: (N, D) or (D),
    all three of one number of dimensions. Raises ValueError for others and unless margin > 0. (Balntas et al., 2016.)
    """
    op = "triplet_margin_loss"
    check_reduction(op, reduction, size_average, reduce)
    if active:
        anchor, positive, negative = widened(op, anchor, positive, negative)
    return _triplet(op, lambda x, y: pairwise_distance(x, y, p, eps), anchor, positive, negative, margin, swap,
                    reduction)


def triplet_margin_with_distance_loss(anchor, positive, negative, *, distance_function=None, margin=1.0, swap=False,
                                      reduction="mean"):
    """`triplet_margin_loss` for any distance: a function of two tensors."""
    op = "triplet_margin_with_distance_loss"
    check_reduction(op, reduction)
    return _triplet(op, distance_function or pairwise_distance, anchor, positive, negative, margin, swap, reduction)


def _triplet(op, distance, anchor, positive, negative, margin, swap, reduction):
    expect(margin > 0, op, "margin > 0", margin=margin)
    _check_ndim(op, anchor=anchor, positive=positive, negative=negative)
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = minimum(far, distance(positive, negative))
    return reduced(clamp(near - far + margin, min=0), reduction)


# --- arguments ---
def _check_ndim(op, **tensors):
    ndims = {array_of(op, x, name).ndim for name, x in tensors.items()}
    expect(len(ndims) == 1, op, "tensors of one number of dimensions", **tensors)


def _check_classes(op, input):
    floating(op, input=input)
    shape = input.array.shape
    expect(len(shape) in (1, 2) and shape[-1], op, "input of shape (N, C) or (C), with at least one class", input=input)
    return shape[-1]


def _check_labels(op, labels, lowest, C):
    expect_type(labels.dtype == types.int64, op, "a target of dtype int64; use target.long()", dtype=labels.dtype)
    if labels.size:
        low, high = labels.min(), labels.max()
        expect(lowest <= low and high < C, op, f"labels in [{lowest}, {C})", smallest=low, largest=high)


def _per_row(op, function, input, *constants):
    """A loss of the rows of input, computed in float32 for halves."""
    if active:
        input, = widened(op, input)
    dtype = input.array.dtype
    return function(input.to(wide(dtype)), *constants).to(dtype)


# --- two classes ---
class HingeEmbedding(Elementwise):
    def __init__(self, reduction, margin):
        self.reduction, self.margin = reduction, margin

    def value(self, xp, x, y):
        return xp.where(y != 1, xp.maximum(self.margin - x, 0), 0) + xp.where(y != -1, x, 0)

    def derivatives(self, xp, g, x, y):
        return lambda: xp.where(y != -1, g, 0) - xp.where((y != 1) & (x <= self.margin), g, 0), None


class SoftMargin(Elementwise):
    def value(self, xp, x, y):
        return softplus(xp, -y * x)

    def derivatives(self, xp, g, x, y):
        return lambda: -g * y * sigmoid(xp, -y * x), lambda: -g * x * sigmoid(xp, -y * x)


class MarginRanking(Elementwise):
    def __init__(self, reduction, margin):
        self.reduction, self.margin = reduction, margin

    def value(self, xp, x1, x2, y):
        return xp.maximum(self.margin - y * (x1 - x2), 0)

    def derivatives(self, xp, g, x1, x2, y):
        g = xp.where(self.margin - y * (x1 - x2) >= 0, g, 0)
        return lambda: -g * y, lambda: g * y, lambda: g * (x2 - x1)


class CosineEmbedding(Elementwise):
    def __init__(self, reduction, margin):
        self.reduction, self.margin = reduction, margin

    def value(self, xp, cosine, y):
        return xp.where(y == 1, 1 - cosine, 0) + xp.where(y == -1, xp.maximum(cosine - self.margin, 0), 0)

    def derivatives(self, xp, g, cosine, y):
        return lambda: xp.where((y == -1) & (cosine >= self.margin), g, 0) - xp.where(y == 1, g, 0), None


# --- many classes ---
class MultiMargin(Loss):
    """gx_c = w_y p h_c^(p - 1) g / C where h_c > 0, and gx_y is minus their sum."""

    def __init__(self, reduction, p, margin):
        self.reduction, self.p, self.margin = reduction, p, margin

    def forward(self, x, target, weight):
        xp, C = self.k.xp, x.shape[-1]
        self.shape, x = x.shape, x.reshape(-1, C)
        self.at = at = xp.arange(len(x)), target.reshape(-1)
        h = xp.maximum(x + (self.margin - x[at])[:, None], 0)
        h[at] = 0
        w = 1 / C if weight is None else weight[at[1]] / C
        self.slope = (h > 0 if self.p == 1 else 2 * h) * xp.asarray(w, x.dtype).reshape(-1, 1)
        self.divisor = len(x)
        return self.reduce(((h if self.p == 1 else h * h).sum(1) * w).reshape(target.shape), x.dtype)

    def backward(self, g, wanted):
        gx = self.slope * self.spread(g).reshape(-1, 1)
        gx[self.at] = -gx.sum(1)
        return gx.reshape(self.shape), None, None


class MultiLabelMargin(Loss):
    """Every pair of a label y and a class c with a positive hinge adds g / C to gx_c and takes it from gx_y."""

    def forward(self, x, target):
        xp, C = self.k.xp, x.shape[-1]
        self.shape, shape = x.shape, x.shape[:-1]
        x, target = x.reshape(-1, C), target.reshape(-1, C)
        valid = (target < 0).cumsum(1) == 0
        most = int(valid.sum(1).max()) if len(x) else 0
        valid, target = valid[:, :most], xp.where(valid, target, 0)[:, :most]
        row = xp.arange(len(x))[:, None]
        wrong = xp.ones(x.shape, bool)
        wrong[xp.broadcast_to(row, valid.shape)[valid], target[valid]] = False
        h = xp.maximum(1 - x[row, target][:, :, None] + x[:, None], 0)
        h = xp.where(valid[:, :, None] & wrong[:, None], h, 0)
        self.positive, self.positions, self.divisor = h > 0, row * C + target, len(x)
        return self.reduce((h.sum((1, 2)) / C).reshape(shape), x.dtype)

    def backward(self, g, wanted):
        g = (self.spread(g) / self.shape[-1]).reshape(-1, 1)
        toward = self.positive.sum(1) * g
        away = add_at(self.k, toward.shape, self.positions, self.positive.sum(2) * g)
        return (toward - away).reshape(self.shape).astype(g.dtype, copy=False), None
