"""Activations in NumPy: the maths of kdl/ops/activation.py, a line or two each."""
import math

import numpy as np

from kdl.kernels.reference import wide


# --- bent lines ---
def relu_forward(x, y):
    y[...] = np.where(x < 0, 0, x)  # in this order NaN stays NaN


def relu_backward(y, gy, gx):
    gx[...] = np.where(y <= 0, 0, gy)


def leaky_relu_forward(x, y, negative_slope):
    x = wide(x)
    y[...] = np.where(x > 0, x, x * negative_slope)


def leaky_relu_backward(x, gy, gx, negative_slope):
    x, gy = wide(x), wide(gy)
    gx[...] = np.where(x > 0, gy, gy * negative_slope)


def prelu_forward(x, weight, y):
    x = wide(x)
    y[...] = np.where(x > 0, x, x * wide(weight)[:, None])


def prelu_backward_x(x, weight, gy, gx):
    gy = wide(gy)
    gx[...] = np.where(x > 0, gy, gy * wide(weight)[:, None])


def prelu_backward_w(x, gy, gw):
    gw[...] = np.where(x > 0, 0, wide(x) * wide(gy)).sum((0, 2))


def hardtanh_forward(x, y, min_val, max_val):
    y[...] = np.where(x < min_val, min_val, np.where(x > max_val, max_val, x))


def hardtanh_backward(x, gy, gx, min_val, max_val):
    gx[...] = np.where((x <= min_val) | (x >= max_val), 0, gy)


def hardsigmoid_forward(x, y):
    y[...] = _relu6(wide(x) + 3) / 6


def hardsigmoid_backward(x, gy, gx):
    gx[...] = np.where((x > -3) & (x < 3), wide(gy) / 6, 0)


def hardswish_forward(x, y):
    x = wide(x)
    y[...] = x * _relu6(x + 3) / 6


def hardswish_backward(x, gy, gx):
    x, gy = wide(x), wide(gy)
    gx[...] = np.where(x <= -3, 0, np.where(x < 3, gy * (x / 3 + 0.5), gy))


def threshold_forward(x, y, threshold, value):
    y[...] = np.where(x <= threshold, value, x)


def threshold_backward(x, gy, gx, threshold):
    gx[...] = np.where(x <= threshold, 0, gy)


def softshrink_forward(x, y, lambd):
    x = wide(x)
    y[...] = np.where(x > lambd, x - lambd, np.where(x < -lambd, x + lambd, x * 0))  # x * 0 keeps NaN


def softshrink_backward(x, gy, gx, lambd):
    gx[...] = np.where((x >= -lambd) & (x <= lambd), 0, gy)


def hardshrink_forward(x, y, lambd):
    y[...] = np.where((x >= -lambd) & (x <= lambd), 0, x)


def hardshrink_backward(x, gy, gx, lambd):
    gx[...] = np.where((x >= -lambd) & (x <= lambd), 0, gy)


# --- exponentials ---
def elu_forward(x, y, alpha, scale, input_scale):
    x = wide(x)
    y[...] = np.where(x > 0, scale * x, scale * alpha * np.expm1(np.minimum(x, 0) * input_scale))


def elu_backward(x, gy, gx, alpha, scale, input_scale):
    x, gy = wide(x), wide(gy)
    below = gy * (scale * alpha * input_scale) * np.exp(np.minimum(x, 0) * input_scale)
    gx[...] = np.where(x <= 0, below, gy * scale)


def sigmoid_forward(x, y):
    y[...] = _sigmoid(wide(x))


def sigmoid_backward(y, gy, gx):
    y = wide(y)
    gx[...] = wide(gy) * (1 - y) * y


def logsigmoid_forward(x, y):
    y[...] = -_softplus(-wide(x))


def logsigmoid_backward(x, gy, gx):
    gx[...] = wide(gy) * _sigmoid(-wide(x))


def softplus_forward(x, y, beta, threshold):
    x = wide(x)
    y[...] = np.where(x * beta > threshold, x, _softplus(x * beta) / beta)


def softplus_backward(x, gy, gx, beta, threshold):
    x, gy = wide(x), wide(gy)
    gx[...] = np.where(x * beta > threshold, gy, gy * _sigmoid(x * beta))


def softsign_forward(x, y):
    x = wide(x)
    y[...] = x / (1 + np.abs(x))


def softsign_backward(x, gy, gx):
    gx[...] = wide(gy) / (1 + np.abs(wide(x))) ** 2


def tanh_forward(x, y):
    y[...] = np.tanh(wide(x))


def tanh_backward(y, gy, gx):
    gx[...] = wide(gy) * (1 - wide(y) ** 2)


def tanhshrink_forward(x, y):
    x = wide(x)
    y[...] = x - np.tanh(x)


def tanhshrink_backward(x, gy, gx):
    gx[...] = wide(gy) * np.tanh(wide(x)) ** 2


# --- x times a gate ---
def gelu_forward(x, y):
    x = wide(x)
    y[...] = x * _normal_cdf(x)


def gelu_backward(x, gy, gx):
    x = wide(x)
    gx[...] = wide(gy) * (_normal_cdf(x) + x * (np.exp(-x * x / 2) / math.sqrt(2 * math.pi)))


def gelu_tanh_forward(x, y):
    x = wide(x)
    y[...] = x / 2 * (1 + np.tanh(_gelu_inner(x)))


def gelu_tanh_backward(x, gy, gx):
    x = wide(x)
    t, slope = np.tanh(_gelu_inner(x)), math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    gx[...] = wide(gy) * ((1 + t) / 2 + x / 2 * (1 - t * t) * slope)


def silu_forward(x, y):
    x = wide(x)
    y[...] = x * _sigmoid(x)


def silu_backward(x, gy, gx):
    x = wide(x)
    s = _sigmoid(x)
    gx[...] = wide(gy) * s * (1 + x * (1 - s))


def mish_forward(x, y):
    x = wide(x)
    y[...] = x * np.tanh(_softplus(x))


def mish_backward(x, gy, gx):
    x = wide(x)
    t = np.tanh(_softplus(x))
    gx[...] = wide(gy) * (t + x * _sigmoid(x) * (1 - t * t))


def glu_forward(x, y):
    x = wide(x)
    y[...] = x[:, 0] * _sigmoid(x[:, 1])


def glu_backward(x, gy, gx):
    x, gy = wide(x), wide(gy)
    s = _sigmoid(x[:, 1])
    gx[:, 0] = gy * s
    gx[:, 1] = gy * x[:, 0] * s * (1 - s)


# --- formulas in common ---
def _relu6(x):
    return np.clip(x, 0, 6)


def _sigmoid(x):
    e = np.exp(-np.abs(x))  # cannot overflow
    return np.where(x < 0, e, 1) / (1 + e)


def _softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _normal_cdf(x):
    return (0.5 * (1 + _erf(x / math.sqrt(2)))).astype(x.dtype)


def _gelu_inner(x):
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)


_erf = np.vectorize(math.erf, otypes=[np.float64])
