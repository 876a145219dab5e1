"""Softmax and its logarithm along a dimension, and the losses made of them: cross-entropy and negative log-likelihood.

p = softmax(x):             p_c = exp(x_c - m) / sum_k exp(x_k - m), m = max_k x_k;    gx = p (gp - sum_k p_k gp_k)
l = log_softmax(x):         l_c = x_c - m - log sum_k exp(x_k - m);                    gx = gl - exp(l) sum_k gl_k
cross_entropy(x, target):   loss = -sum_c q_c l_c of every row;                        gx = (p sum_k q_k - q) g
    q_c = w_c ((1 - s) [c = target] + s / C), or w_c ((1 - s) target_c + s / C), for weights w and label smoothing s

For cross-entropy one kernel computes the loss and two numbers per row, m and the sum of the exponentials, from which
another computes the gradient; neither p nor l is stored. C is dimension 1 of (N, C, d1, ...), or the only one of (C).
A loss that is reduced mostly ends the computation, where its gradient is 1: on the CPU a third kernel computes gx for
that together with the loss, in one pass instead of two, and backward has nothing left to do. (On a GPU, to learn that
the gradient is 1 would take a wait for it.)
"""
import math

import numpy as np

from kdl import types
from kdl.autograd import Function, is_grad_enabled
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, dense, dimension, floating, like
from kdl.ops.loss import Loss, check_reduction, wide
from kdl.tensor import array_module, channels_to_end, method

__all__ = ["cross_entropy", "log_softmax", "nll_loss", "softmax", "softmin"]


@method
def softmax(input, dim, dtype=None):
    """exp(x) / sum exp(x) along `dim`, cast to `dtype` first if given.

    Shape: any. A row of -inf alone gives NaN. Raises IndexError for dim, TypeError unless floating-point.
    """
    return _apply("softmax", Softmax, input, dim, dtype)


@method
def log_softmax(input, dim, dtype=None):
    """x - log sum exp(x) along `dim`, cast to `dtype` first if given.

    Shape: any. A row of -inf alone gives NaN. Raises IndexError for dim, TypeError unless floating-point.
    """
    return _apply("log_softmax", LogSoftmax, input, dim, dtype)


def softmin(input, dim, dtype=None):
    """softmax(-x). Shape: any. Raises IndexError for dim, TypeError unless floating-point."""
    array_of("softmin", input)
    return _apply("softmin", Softmax, -input, dim, dtype)


def cross_entropy(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean",
                  label_smoothing=0.0):
    """The cross-entropy between logits and class labels (int64 or uint8) or class probabilities (floating-point).

    Shapes: input (N, C, d1, ...) or (C); labels (N, d1, ...) or (), probabilities as input; weight (C), of every class.
    Reduced by 'mean' (weighted, over rows whose label is not `ignore_index`; with probabilities, over all rows), 'sum'
    or 'none'; NaN where the mean has no rows. Raises ValueError for shapes that do not fit, labels outside [0, C) and
    NaN probabilities, TypeError for dtypes.
    """
    op = "cross_entropy"
    check_reduction(op, reduction, size_average, reduce)
    floating(op, input=input)
    if not (isinstance(label_smoothing, (int, float)) and 0 <= label_smoothing <= 1):
        expect(False, op, "label_smoothing in [0, 1]", label_smoothing=label_smoothing)
    C = _check_classes(op, input, weight)
    label_smoothing = float(label_smoothing)
    if array_of(op, target, "target").dtype in types.FLOATS and target.array.shape == input.array.shape:
        return _soft_cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)
    inside = _check_labels(op, input, target, C, ignore_index, ", or probabilities of the shape of input")
    function = CrossEntropy(reduction, int(ignore_index), label_smoothing, inside and not 0 <= ignore_index < C)
    return function(input, target, _constant(op, input, weight))


def nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
    """-w x_target, the negative log-likelihood of class labels (int64 or uint8) where x are log-probabilities.

    Shapes, reductions and errors are those of `cross_entropy` with labels; gx = -w g at the target, 0 elsewhere.
    """
    op = "nll_loss"
    check_reduction(op, reduction, size_average, reduce)
    floating(op, input=input)
    _check_labels(op, input, target, _check_classes(op, input, weight), ignore_index)
    return NLLLoss(reduction, int(ignore_index))(input, target, _constant(op, input, weight))


def _apply(op, function, input, dim, dtype):
    dim = dimension(op, dim, array_of(op, input).ndim)
    if dtype is not None:
        input = input.to(types.as_dtype(dtype))
    floating(op, input=input)
    return function(dim)(input)


def _soft_cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing):
    op = "cross_entropy"
    expect(ignore_index < 0, op, "no ignore_index with probabilities", ignore_index=ignore_index)
    dtype = types.result_type(input, target, *([] if weight is None else [weight]))
    input, target, weight = [x if x is None or x.array.dtype == dtype else x.to(dtype)
                             for x in (input, target, weight)]
    return SoftCrossEntropy(reduction, ignore_index, label_smoothing)(input, target, weight)


# --- arguments ---
def _check_classes(op, input, weight):
    """The number of classes, which the weights must fit."""
    shape = input.array.shape
    if not shape:
        expect(False, op, "input of shape (N, C, ...) or (C)", input=input)
    C = shape[min(1, len(shape) - 1)]
    if not C:
        expect(False, op, "at least one class", input=input)
    if weight is not None:
        expect(array_of(op, weight, "weight").shape == (C,), op, f"a weight for each of {C} classes", weight=weight,
               input=input)
        floating(op, weight=weight)
    return C


def _constant(op, input, weight):
    """The weights' array: gradients do not flow to the weights of labels."""
    if weight is None:
        return None
    floating(op, input=input, weight=weight)
    expect(not (weight.requires_grad and is_grad_enabled()), op,
           "a weight that does not require grad for class labels; use weight.detach()", weight__requires_grad=True)
    return dense(weight.array)


def _check_labels(op, input, target, C, ignore_index, alternative=""):
    """Raise unless target holds a label in [0, C), or ignore_index, for every row; whether all are in [0, C)."""
    labels, shape = array_of(op, target, "target"), input.array.shape
    expected = shape[:1] + shape[2:] if len(shape) > 1 else ()
    if labels.shape != expected and not (len(shape) == 1 and labels.shape == (1,)):
        expect(False, op, f"class labels of shape {expected}{alternative}", target=target, input=input)
    if labels.dtype not in (types.int64, types.uint8):
        expect_type(False, op, "class labels of dtype int64; use target.long()", target__dtype=labels.dtype)
    if not isinstance(ignore_index, int):
        expect_type(False, op, "ignore_index to be an int", ignore_index=ignore_index)
    xp = array_module(labels)
    if not labels.size:
        return True
    if xp is np:  # where negative numbers are large, the maximum says it all
        inside = (labels if labels.itemsize == 1 else labels.view(np.uint64)).max() < C
    else:
        inside = int(xp.max(labels)) < C and int(xp.min(labels)) >= 0
    if inside:
        return True
    bad = xp.argwhere(((labels < 0) | (labels >= C)) & (labels != ignore_index))
    if len(bad):
        position = tuple(int(i) for i in bad[0])
        expect(False, op, f"labels in [0, {C}) or ignore_index {ignore_index}", label=int(labels[position]),
               position=position, input=input)
    return False


# --- layouts ---
def _columns(array, dim):
    """A dense array as (outer, length of dim, inner): a view."""
    if not array.flags.c_contiguous:
        dim = (0, array.ndim - 1, *range(1, array.ndim - 1))[dim]
        array = channels_to_end(array)
    shape = array.shape or (1,)
    return array.reshape(math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1:]))


def _class_columns(array):
    return _columns(array, min(1, array.ndim - 1))


def _label_rows(k, target, columns):
    """The labels as (outer, inner), in the order of the columns; a copy, which stays what it was when checked."""
    return k.xp.array(target, types.int64, order="C").reshape(columns.shape[::2])


# --- softmax ---
class Softmax(Function):
    """Along one dimension, by the kernels `<stem>_forward` and `<stem>_backward`; backward needs y alone."""
    stem = "softmax"

    def __init__(self, dim):
        self.dim = dim

    def forward(self, x):
        x = dense(x)
        self.y = y = self.k.xp.empty_like(x)
        getattr(self.k, f"{self.stem}_forward")(_columns(x, self.dim), _columns(y, self.dim))
        return y

    def backward(self, gy, wanted):
        gx = self.k.xp.empty_like(self.y)
        arrays = self.y, like(gy, self.y), gx
        getattr(self.k, f"{self.stem}_backward")(*[_columns(a, self.dim) for a in arrays])
        return gx


class LogSoftmax(Softmax):
    stem = "log_softmax"


# --- losses over classes ---
class ClassLoss(Loss):
    """A loss for every row of the (outer, C, inner) view of x."""

    def __init__(self, reduction, ignore_index=-100, label_smoothing=0.0, all_count=False):
        self.reduction, self.ignore_index, self.label_smoothing = reduction, ignore_index, label_smoothing
        self.all_count = all_count  # whether it is known that no label is ignored

    def evaluate(self, name, x, columns, inputs, outputs, *parameters):
        """Run the kernel, together with the gradient for g = 1 where there is one that may be wanted."""
        both = self.gx = None
        if self.reduction != "none" and self.needs_input_grad[0]:
            both = getattr(self.k, f"{name}_forward_backward", None)
        if both is None:
            getattr(self.k, f"{name}_forward")(columns, *inputs, *outputs, *parameters)
        else:
            self.gx = self.k.xp.empty_like(x)
            g = 1 / self.divisor if self.reduction == "mean" else 1.0
            both(columns, *inputs, *outputs, _class_columns(self.gx), g, *parameters)

    def take_gradient(self, g):
        """The gradient that forward made, if it is that for g; only once, since whoever gets it may write into it."""
        gx, self.gx = self.gx, None
        return gx if gx is not None and g.item() == 1 else None

    def result(self, loss, x):
        """The losses (outer, inner), reduced, or in the shape of x without its classes."""
        if self.reduction == "none":
            loss = loss.reshape(x.shape[:1] + x.shape[2:] if x.ndim > 1 else ())
        return self.reduce(loss, x.dtype)

    def row_gradients(self, g, rows):
        """The gradients of the losses (outer, inner), from that of the result; rows is an array of their kind."""
        g = self.spread(self.k.xp.asarray(g, rows.dtype))
        if self.reduction == "none":
            return self.k.xp.ascontiguousarray(g).reshape(rows.shape)
        return self.k.xp.full(rows.shape, g, rows.dtype)

    def total_weight(self, labels, weight):
        """What the mean divides by: the weights of the labels, added up; NaN where that is 0."""
        if self.reduction != "mean":
            return None
        if self.all_count and weight is None:
            return float(labels.size) or math.nan
        used = self.k.xp.not_equal(labels, self.ignore_index)
        total = self.k.xp.count_nonzero(used) if weight is None else weight[labels[used]].sum(dtype=wide(weight.dtype))
        return float(total) or math.nan


class CrossEntropy(ClassLoss):
    """With labels; the kernels call m `peak` and the sum of the exponentials `total`."""

    def forward(self, x, target, weight):
        x = dense(x)
        columns = _class_columns(x)
        labels = _label_rows(self.k, target, columns)
        shape, dtype = labels.shape, wide(x.dtype)
        loss, peak, total = outputs = [self.k.empty(shape, dtype) for _ in range(3)]
        self.divisor = self.total_weight(labels, weight)
        self.evaluate("cross_entropy", x, columns, (labels, weight), outputs, self.ignore_index, self.label_smoothing)
        self.saved = x, labels, weight, peak, total
        return self.result(loss, x)

    def backward(self, g, wanted):
        gx = self.take_gradient(g)
        if gx is not None:
            return gx, None, None
        x, labels, weight, peak, total = self.saved
        gx = self.k.xp.empty_like(x)
        self.k.cross_entropy_backward(_class_columns(x), labels, weight, peak, total, self.row_gradients(g, peak),
                                      _class_columns(gx), self.ignore_index, self.label_smoothing)
        return gx, None, None


class SoftCrossEntropy(ClassLoss):
    """With probabilities, whose gradient is -(1 - s) w l g; that of w is -((1 - s) target + s / C) l g, summed.

    The kernels call the sum of q `mass`.
    """

    def forward(self, x, target, weight):
        x = dense(x)
        target, weight = like(target, x), None if weight is None else dense(weight)
        columns = _class_columns(x)
        shape, dtype = columns.shape[::2], wide(x.dtype)
        loss, peak, total, mass = outputs = [self.k.empty(shape, dtype) for _ in range(4)]
        self.divisor = loss.size or math.nan
        self.evaluate("soft_cross_entropy", x, columns, (_class_columns(target), weight), outputs,
                      self.label_smoothing)
        xp = self.k.xp
        if mass.size and xp.isnan(mass.min()):  # perhaps from the target: to search that would take a fifth of a step
            expect(not xp.isnan(target.min()), "cross_entropy", "probabilities without NaN", target=target)
        self.saved = x, target, weight, peak, total, mass
        return self.result(loss, x)

    def backward(self, g, wanted):
        gx = self.take_gradient(g) if wanted[0] else None
        if gx is not None and not (wanted[1] or wanted[2]):
            return gx, None, None
        x, target, weight, peak, total, mass = self.saved
        columns, g = _class_columns(x), self.row_gradients(g, peak)
        gtarget = gweight = None
        if wanted[0] and gx is None:
            gx = self.k.xp.empty_like(x)
            self.k.soft_cross_entropy_backward(columns, _class_columns(target), weight, peak, total, mass, g,
                                               _class_columns(gx), self.label_smoothing)
        if wanted[1] or wanted[2]:
            log_p = self.k.empty(columns.shape, x.dtype)
            self.k.log_softmax_forward(columns, log_p)
            gl = -g[:, None] * log_p
        if wanted[1]:
            gtarget = self.k.xp.empty_like(x)
            _class_columns(gtarget)[...] = (1 - self.label_smoothing) * (gl if weight is None else gl * weight[:, None])
        if wanted[2]:
            q = (1 - self.label_smoothing) * _class_columns(target) + self.label_smoothing / columns.shape[1]
            gweight = (gl * q).sum((0, 2), dtype=peak.dtype).astype(x.dtype, copy=False)
        return gx, gtarget, gweight


class NLLLoss(ClassLoss):
    """Where the label is t, the loss is -w_t x_t and gx_t = -w_t g."""

    def forward(self, x, target, weight):
        xp = self.k.xp
        x = dense(x)
        columns = _class_columns(x)
        labels = _label_rows(self.k, target, columns)
        used = labels != self.ignore_index
        t = xp.where(used, labels, 0)
        self.index = xp.arange(t.shape[0])[:, None], t, xp.arange(t.shape[1])
        self.w = xp.ones(t.shape, wide(x.dtype)) if weight is None else weight[t].astype(wide(x.dtype), copy=False)
        self.x, self.used, self.divisor = x, used, self.total_weight(labels, weight)
        return self.result(xp.where(used, -self.w * columns[self.index], 0), x)

    def backward(self, g, wanted):
        gx = self.k.xp.zeros_like(self.x)
        _class_columns(gx)[self.index] = self.k.xp.where(self.used, -self.w * self.row_gradients(g, self.w), 0)
        return gx, None, None
