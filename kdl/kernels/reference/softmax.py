"""Softmax, log-softmax and cross-entropy in NumPy, along axis 1 of (outer, C, inner). The maths: kdl/ops/softmax.py."""
import numpy as np

from kdl.kernels.reference import wide


def softmax_forward(x, y):
    e = np.exp(_below_peak(x)[1])
    y[...] = e / e.sum(1, keepdims=True)


def softmax_backward(y, gy, gx):
    y, gy = wide(y), wide(gy)
    gx[...] = y * (gy - (y * gy).sum(1, keepdims=True))


def log_softmax_forward(x, y):
    z = _below_peak(x)[1]
    y[...] = z - np.log(np.exp(z).sum(1, keepdims=True))


def log_softmax_backward(y, gy, gx):
    y, gy = wide(y), wide(gy)
    gx[...] = gy - np.exp(y) * gy.sum(1, keepdims=True)


def cross_entropy_forward(x, target, weight, loss, peak, total, ignore_index, label_smoothing):
    """An ignored row gets loss 0, peak 0 and total 1."""
    w, used, label = _labels(x, target, weight, ignore_index)
    logp = _statistics(x, peak, total)
    loss[...] = np.take_along_axis(-w * logp, label, 1)[:, 0] * (1 - label_smoothing)
    if label_smoothing:
        loss -= (w * logp).mean(1) * label_smoothing
    loss[~used], peak[~used], total[~used] = 0, 0, 1


def cross_entropy_backward(x, target, weight, peak, total, gy, gx, ignore_index, label_smoothing):
    w, used, label = _labels(x, target, weight, ignore_index)
    q = w * (label_smoothing / x.shape[1] + (1 - label_smoothing) * (np.arange(x.shape[1])[:, None] == label))
    gx[...] = _gradient(x, q, q.sum(1), peak, total, gy)
    np.copyto(gx, 0, where=~used[:, None])


def cross_entropy_forward_backward(x, target, weight, loss, peak, total, gx, gy, ignore_index, label_smoothing):
    """Both; the gradient of every loss is gy."""
    cross_entropy_forward(x, target, weight, loss, peak, total, ignore_index, label_smoothing)
    cross_entropy_backward(x, target, weight, peak, total, np.full_like(loss, gy), gx, ignore_index, label_smoothing)


def soft_cross_entropy_forward(x, target, weight, loss, peak, total, mass, label_smoothing):
    q = _smoothed(target, weight, label_smoothing)
    loss[...] = -(q * _statistics(x, peak, total)).sum(1)
    mass[...] = q.sum(1)


def soft_cross_entropy_backward(x, target, weight, peak, total, mass, gy, gx, label_smoothing):
    gx[...] = _gradient(x, _smoothed(target, weight, label_smoothing), mass, peak, total, gy)


def soft_cross_entropy_forward_backward(x, target, weight, loss, peak, total, mass, gx, gy, label_smoothing):
    """Both; the gradient of every loss is gy."""
    soft_cross_entropy_forward(x, target, weight, loss, peak, total, mass, label_smoothing)
    soft_cross_entropy_backward(x, target, weight, peak, total, mass, np.full_like(loss, gy), gx, label_smoothing)


def _below_peak(x):
    """The largest x along C, and every x less that."""
    x = wide(x)
    peak = x.max(1, keepdims=True, initial=-np.inf)
    return peak, x - peak


def _statistics(x, peak, total):
    """Fill in the largest x along C and the sum of exp(x - largest); returns the log-softmax."""
    top, z = _below_peak(x)
    peak[...], total[...] = top[:, 0], np.exp(z).sum(1)
    return z - np.log(total)[:, None]


def _gradient(x, q, mass, peak, total, gy):
    p = np.exp(wide(x) - peak[:, None]) / total[:, None]
    return gy[:, None] * (p * mass[:, None] - q)


def _labels(x, target, weight, ignore_index):
    """The weights of the classes as (C, 1), which rows are used, and their labels as (outer, 1, inner)."""
    w = np.ones((x.shape[1], 1), wide(x).dtype) if weight is None else wide(weight)[:, None]
    used = target != ignore_index
    return w, used, np.where(used, target, 0)[:, None]


def _smoothed(target, weight, label_smoothing):
    """q_c = w_c ((1 - s) target_c + s / C)."""
    q = (1 - label_smoothing) * wide(target) + label_smoothing / target.shape[1]
    return q if weight is None else q * wide(weight)[:, None]
