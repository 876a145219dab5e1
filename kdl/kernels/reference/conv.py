"""Convolution in NumPy: one product per tap, over 2 or 3 dimensions alike. The maths stands in kdl/ops/conv.py."""
import numpy as np

from kdl.kernels.reference import wide


def conv2d_forward(x, w, b, y, stride, padding, dilation, groups):
    """y[n, k] = b[k] + sum over c and taps of x[n, c, window] w[k, c, tap]; b may be None."""
    x, total = _padded(wide(x), padding), np.zeros(y.shape, wide(y).dtype)
    for tap, window in _taps(w, y, stride, dilation):
        xg = x[window].reshape(y.shape[0], groups, w.shape[1], *y.shape[2:])
        wg = wide(w[tap]).reshape(groups, -1, w.shape[1])
        total += np.einsum("ngc...,gkc->ngk...", xg, wg).reshape(y.shape)
    y[...] = total if b is None else total + wide(b).reshape(-1, *(1,) * (y.ndim - 2))


def conv2d_backward_x(gy, w, gx, stride, padding, dilation, groups):
    total = _padded(np.zeros(gx.shape, wide(gx).dtype), padding)
    gyg = wide(gy).reshape(gy.shape[0], groups, w.shape[0] // groups, *gy.shape[2:])
    for tap, window in _taps(w, gy, stride, dilation):
        wg = wide(w[tap]).reshape(groups, -1, w.shape[1])
        total[window] += np.einsum("ngk...,gkc->ngc...", gyg, wg).reshape(gx.shape[:2] + gy.shape[2:])
    gx[...] = total[(slice(None), slice(None), *[slice(p, p + size) for p, size in zip(padding, gx.shape[2:])])]


def conv2d_backward_w(x, gy, gw, stride, padding, dilation, groups):
    pixels = int(np.prod(gy.shape[2:]))
    x, gyg = _padded(wide(x), padding), wide(gy).reshape(gy.shape[0], groups, gw.shape[0] // groups, pixels)
    for tap, window in _taps(gw, gy, stride, dilation):
        xg = x[window].reshape(gy.shape[0], groups, gw.shape[1], pixels)
        gw[tap] = np.einsum("ngkp,ngcp->gkc", gyg, xg).reshape(gw.shape[:2])


def conv_backward_b(gy, gb):
    """gb[k] = the sum of gy over everything but channel k."""
    gb[...] = wide(gy).sum((0, *range(2, gy.ndim)))


def _padded(array, padding):
    return np.pad(array, [(0, 0), (0, 0), *[(p, p) for p in padding]])


def _taps(w, y, stride, dilation):
    """Every place in the filter, as an index of w, and the places of the padded input that it meets."""
    for tap in np.ndindex(*w.shape[2:]):
        window = [slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, o, s in zip(tap, dilation, y.shape[2:], stride)]
        yield (slice(None), slice(None), *tap), (slice(None), slice(None), *window)


conv3d_forward, conv3d_backward_x, conv3d_backward_w = conv2d_forward, conv2d_backward_x, conv2d_backward_w
