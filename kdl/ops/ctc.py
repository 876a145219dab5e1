"""Connectionist temporal classification: the loss of a label sequence whose places in time are unknown.

With l the target with a blank before, between and after its labels, a path stays at a state s, goes on to the next, or
past a blank to the one after where their labels differ. In logarithms, x being those of the labels' probabilities:

forward   alpha_t(s) = x_t(l_s) + log sum exp of alpha_(t-1) at s, s - 1 and, where it may be skipped to, s - 2;
          loss = -log sum exp of alpha at the last step and the last two states
backward  beta runs from the end in the same way; gx_t(c) = exp(x_t(c)) - sum over the s with l_s = c of
          exp(alpha_t(s) + beta_t(s) - x_t(c) + loss): as if x came from a log_softmax, which then passes it on as it is

(Graves et al., 2006.)
"""
import numpy as np

from kdl import types
from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, floating
from kdl.ops.loss import check_reduction
from kdl.tensor import Tensor

__all__ = ["ctc_loss"]


def ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False):
    """The negative log-probability of the targets, over all alignments, for log_probs (T, N, C) or (T, C).

    targets: (N, S) labels without blanks, of which target_lengths[n] count, or all of them one after the other; (S)
    for (T, C). Of log_probs n the first input_lengths[n] steps count. The mean is over the losses divided by their
    target's length. zero_infinity sets losses of targets that do not fit, and their gradients, to 0. Raises TypeError,
    ValueError.
    """
    op = "ctc_loss"
    floating(op, log_probs=log_probs)
    check_reduction(op, reduction)
    expect(log_probs.ndim in (2, 3), op, "log_probs of shape (T, N, C) or (T, C)", log_probs=log_probs)
    alone = log_probs.ndim == 2
    x = log_probs.unsqueeze(1) if alone else log_probs
    T, N, C = x.shape
    expect(0 <= blank < C, op, "blank within the classes", blank=blank, log_probs=log_probs)
    steps, lengths = [_lengths(op, name, given, N) for name, given in (("input_lengths", input_lengths),
                                                                     ("target_lengths", target_lengths))]
    expect(not N or (steps.min() >= 0 and steps.max() <= T), op, f"input_lengths from 0 to {T}",
           input_lengths=steps.tolist())
    labels = Tensor(_interleaved(op, targets, lengths, blank, C, alone)).to(log_probs.device)
    loss = CTCLoss(steps, 2 * lengths + 1, zero_infinity)(x, labels)
    if reduction == "mean":
        return (loss / Tensor(np.maximum(lengths, 1).astype(loss.dtype)).to(loss.device)).mean()
    if reduction == "sum":
        return loss.sum()
    return loss.squeeze(0) if alone else loss


def _lengths(op, name, given, N):
    """The lengths as an int64 array on the host."""
    lengths = np.asarray(given.tolist() if isinstance(given, Tensor) else given).reshape(-1)
    expect_type(lengths.dtype.kind in "iu" or lengths.size == 0, op, f"{name} to be ints", **{name: lengths.tolist()})
    expect(lengths.shape == (N,), op, f"{N} {name}", **{name: lengths.tolist()})
    return lengths.astype(types.int64)


def _interleaved(op, targets, lengths, blank, C, alone):
    """(N, 2 S + 1): the labels with blanks around them, as int64 on the host."""
    labels = array_of(op, targets, "targets")
    expect_type(labels.dtype in (types.int64, types.int32), op, "targets of dtype int64 or int32",
                targets=labels.dtype)
    labels = np.asarray(targets.detach().cpu().numpy())
    N, longest = len(lengths), int(lengths.max(initial=0))
    expect(lengths.min(initial=0) >= 0, op, "target_lengths of at least 0", target_lengths=lengths.tolist())
    result = np.full((N, 2 * longest + 1), blank, types.int64)
    if labels.ndim == 2 and not alone:
        expect(len(labels) == N and labels.shape[1] >= longest, op, f"targets of shape ({N}, {longest}) at least",
               targets=targets, target_lengths=lengths.tolist())
        rows = [row[:n] for row, n in zip(labels, lengths, strict=True)]
    else:
        expect(labels.ndim == 1 and labels.size == lengths.sum(), op, "as many targets as target_lengths add up to",
               targets=targets, target_lengths=lengths.tolist())
        rows = np.split(labels, np.cumsum(lengths)[:-1]) if N else []
    for row, states in zip(rows, result, strict=True):
        expect(not row.size or (row.min() >= 0 and row.max() < C), op, f"targets in [0, {C})", targets=row.tolist())
        states[1:2 * len(row):2] = row
    return result


class CTCLoss(Function):
    """One loss per sequence; the kernels call the numbers of steps and of states that count `steps` and `states`."""

    def __init__(self, steps, states, zero_infinity):
        self.lengths, self.zero_infinity = (steps, states), zero_infinity

    def forward(self, x, labels):
        xp, dtype = self.k.xp, types.float32 if x.dtype in types.HALVES else x.dtype
        self.x, self.labels = xp.ascontiguousarray(x), xp.asarray(labels)
        self.lengths = [xp.asarray(a) for a in self.lengths]
        T, N, _ = x.shape
        self.alpha, self.loss = self.k.empty((N, T, labels.shape[1]), dtype), self.k.empty(N, dtype)
        if N:
            self.k.ctc_loss_forward(self.x, self.labels, *self.lengths, self.alpha, self.loss)
        loss = xp.where(xp.isinf(self.loss), 0, self.loss) if self.zero_infinity else self.loss
        return loss.astype(x.dtype)

    def backward(self, gy, wanted):
        gx = self.k.xp.empty_like(self.x)
        if gx.size:
            gy = self.k.xp.ascontiguousarray(gy, self.loss.dtype)
            self.k.ctc_loss_backward(self.x, self.labels, *self.lengths, self.alpha, self.loss, gy, gx)
        if self.zero_infinity:
            gx[:, self.k.xp.isinf(self.loss)] = 0
        return gx, None
