"""Batch normalisation in NumPy: the maths of kdl/ops/batchnorm.py. Moments are taken in float64, in two passes."""
import numpy as np

_quiet = np.errstate(invalid="ignore", over="ignore", divide="ignore")  # NaN and infinity are values like any others


@_quiet
def batch_norm_forward_training(x, weight, bias, y, mean, rstd, running_mean, running_var, momentum, eps):
    """Also updates running_mean and running_var in place, which may be None, as weight and bias may."""
    wide = x.astype(np.float64)
    m = wide.mean((0, 2), keepdims=True)
    var = np.square(wide - m).mean((0, 2), keepdims=True)
    r = 1 / np.sqrt(var + eps)
    y[...] = _scaled((wide - m) * r, weight, bias)
    mean[...], rstd[...] = m.ravel(), r.ravel()
    if running_mean is not None:
        count = x.shape[0] * x.shape[2]
        running_mean += momentum * (m.ravel() - running_mean)
        running_var += momentum * (var.ravel() * count / (count - 1) - running_var)


@_quiet
def batch_norm_forward_inference(x, weight, bias, running_mean, running_var, y, eps):
    y[...] = _scaled(_normalized(x, running_mean, 1 / np.sqrt(running_var.astype(np.float64) + eps)), weight, bias)


@_quiet
def batch_norm_backward(x, gy, weight, mean, rstd, gx, gw, gb):
    """gx, gw and gb may be None where nobody asks for them."""
    normalized, gy = _normalized(x, mean, rstd), gy.astype(np.float64)
    normalized -= normalized.mean((0, 2), keepdims=True)  # what rounding took off the mean
    if gx is not None:
        along = normalized * (gy * normalized).mean((0, 2), keepdims=True)
        gx[...] = _scaled(gy - gy.mean((0, 2), keepdims=True) - along, _times(weight, rstd), None)
    _backward_affine(normalized, gy, gw, gb)


@_quiet
def batch_norm_backward_inference(x, gy, weight, running_mean, running_var, gx, gw, gb, eps):
    """gx, gw and gb may be None where nobody asks for them."""
    rstd, gy = 1 / np.sqrt(running_var.astype(np.float64) + eps), gy.astype(np.float64)
    if gx is not None:
        gx[...] = _scaled(gy, _times(weight, rstd), None)
    _backward_affine(_normalized(x, running_mean, rstd), gy, gw, gb)


def _normalized(x, mean, rstd):
    return (x.astype(np.float64) - mean[:, None]) * rstd[:, None]


def _scaled(array, weight, bias):
    array = array if weight is None else array * weight[:, None]
    return array if bias is None else array + bias[:, None]


def _times(weight, rstd):
    return rstd if weight is None else weight * rstd


def _backward_affine(normalized, gy, gw, gb):
    if gw is not None:
        gw[...] = (gy * normalized).sum((0, 2))
    if gb is not None:
        gb[...] = gy.sum((0, 2))
