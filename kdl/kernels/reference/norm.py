"""Normalisation within examples in NumPy: the maths of kdl/ops/norm.py, in float64."""
import numpy as np

_quiet = np.errstate(invalid="ignore", over="ignore", divide="ignore")  # NaN and infinity are values like any others


@_quiet
def layer_norm_forward(x, weight, bias, y, mean, rstd, eps):
    """x (rows, cols), weight and bias (cols) or None; with mean None it is RMS normalisation: nothing is subtracted."""
    wide = x.astype(np.float64)
    if mean is not None:
        mean[...] = wide.mean(1)
        wide -= wide.mean(1, keepdims=True)
    r = 1 / np.sqrt(np.square(wide).mean(1, keepdims=True) + eps)
    rstd[...] = r[:, 0]
    normalized = wide * r
    y[...] = (normalized if weight is None else normalized * weight) + (0 if bias is None else bias)


@_quiet
def layer_norm_backward(x, gy, weight, mean, rstd, gx, gw, gb):
    """gx, gw and gb may be None where nobody asks for them."""
    normalized = (x.astype(np.float64) - (0 if mean is None else mean[:, None])) * rstd[:, None]
    gy = gy.astype(np.float64)
    if gx is not None:
        gx[...] = _backward_x(normalized, gy if weight is None else gy * weight, rstd[:, None], mean is not None, 1)
    if gw is not None:
        gw[...] = (gy * normalized).sum(0)
    if gb is not None:
        gb[...] = gy.sum(0)


@_quiet
def group_norm_forward(x, weight, bias, y, mean, rstd, eps):
    """x (N, G, channels of a group, inner), mean and rstd (N, G), weight and bias (channels) or None."""
    wide = x.astype(np.float64)
    m = wide.mean((2, 3), keepdims=True)
    r = 1 / np.sqrt(np.square(wide - m).mean((2, 3), keepdims=True) + eps)
    mean[...], rstd[...] = m[..., 0, 0], r[..., 0, 0]
    y[...] = (wide - m) * r * _channels(x, weight, 1) + _channels(x, bias, 0)


@_quiet
def group_norm_backward(x, gy, weight, mean, rstd, gx, gw, gb):
    """gx, gw and gb may be None where nobody asks for them."""
    r = rstd[..., None, None]
    normalized = (x.astype(np.float64) - mean[..., None, None]) * r
    gy = gy.astype(np.float64)
    if gx is not None:
        gx[...] = _backward_x(normalized, gy * _channels(x, weight, 1), r, True, (2, 3))
    if gw is not None:
        gw[...] = (gy * normalized).sum((0, 3)).ravel()
    if gb is not None:
        gb[...] = gy.sum((0, 3)).ravel()


def _backward_x(normalized, g, rstd, centred, axes):
    along = normalized * (g * normalized).mean(axes, keepdims=True)
    return rstd * (g - along - (g.mean(axes, keepdims=True) if centred else 0))


def _channels(x, values, otherwise):
    """One value per channel, so that it multiplies x."""
    return otherwise if values is None else values.reshape(x.shape[1], x.shape[2], 1)
