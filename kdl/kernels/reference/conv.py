"""Convolution in NumPy, in two or three dimensions. The maths stands in kdl/ops/conv.py.

`padding` counts the zeros before x; those behind it follow from the size of y. `tf32` lets tensor cores round float32
operands to TF32; there are none here.
"""
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from kdl.kernels.reference import wide


def conv2d_forward(x, w, b, y, stride, padding, dilation, groups, tf32):
    """y[n, k] = b[k] + the sum over the group's c and the taps t of w[k, c, t] x[n, c, window t]; b may be None."""
    windows = _windows(_padded(wide(x), w, y, stride, padding, dilation), w, y, stride, dilation)
    n = w.ndim - 2
    for ins, outs in _groups(x, y, groups):
        products = np.tensordot(windows[:, ins], wide(w[outs]), ((1, *range(n + 2, 2 * n + 2)), (1, *range(2, n + 2))))
        y[:, outs] = np.moveaxis(products, -1, 1) + (0 if b is None else wide(b[outs]).reshape(-1, *(1,) * n))


def conv2d_backward_x(gy, w, gx, stride, padding, dilation, groups, tf32):
    """gx[n, c, window t] = the sum over the group's k of w[k, c, t] gy[n, k], added up over the taps t."""
    total = _padded(np.zeros(gx.shape, wide(gx).dtype), w, gy, stride, padding, dilation)
    for ins, outs in _groups(gx, gy, groups):
        for tap in np.ndindex(w.shape[2:]):
            window = [slice(t * d, t * d + (o - 1) * s + 1, s)
                      for t, d, o, s in zip(tap, dilation, gy.shape[2:], stride)]
            total[:, ins, *window] += np.einsum("nk...,kc->nc...", wide(gy[:, outs]), wide(w[outs, :, *tap]))
    gx[...] = total[:, :, *[slice(p, p + size) for p, size in zip(padding, gx.shape[2:])]]


def conv2d_backward_w(x, gy, gw, stride, padding, dilation, groups, tf32):
    """gw[k, c, t] = the sum over n and outputs of gy[n, k] x[n, c, window t]."""
    windows = _windows(_padded(wide(x), gw, gy, stride, padding, dilation), gw, gy, stride, dilation)
    axes = (0, *range(2, gw.ndim))
    for ins, outs in _groups(x, gy, groups):
        gw[outs] = np.tensordot(wide(gy[:, outs]), windows[:, ins], (axes, axes))


def conv_backward_b(gy, gb):
    """gb[k] = the sum of gy over everything but channel k."""
    gb[...] = wide(gy).sum((0, *range(2, gy.ndim)))


conv3d_forward, conv3d_backward_x, conv3d_backward_w = conv2d_forward, conv2d_backward_x, conv2d_backward_w


def _padded(x, w, y, stride, padding, dilation):
    """x among as many zeros as the windows reach."""
    pairs = [(p, max(0, (o - 1) * s - p + d * (k - 1) + 1 - size)) for size, k, o, s, p, d in zip(
        x.shape[2:], w.shape[2:], y.shape[2:], stride, padding, dilation)]
    return np.pad(x, [(0, 0), (0, 0), *pairs])


def _windows(x, w, y, stride, dilation):
    """The windows of a padded x, one for each output in y, as a view (N, C, outputs ..., taps ...)."""
    space, every = tuple(range(2, w.ndim)), (slice(None), slice(None))
    windows = sliding_window_view(x, [d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:])], space)
    outputs = [slice(0, (o - 1) * s + 1, s) for o, s in zip(y.shape[2:], stride)]
    return windows[*every, *outputs, *[slice(None, None, d) for d in dilation]]


def _groups(x, y, groups):
    """Pairs of slices: the channels of x, and those of y that see them."""
    ins, outs = x.shape[1] // groups, y.shape[1] // groups
    return [(slice(g * ins, (g + 1) * ins), slice(g * outs, (g + 1) * outs)) for g in range(groups)]
