"""Activations on the CPU: one loop each, forward and backward. The maths stands in kdl/ops/activation.py."""
import numpy as np

from kdl.kernels.cpu.launch import device_function, elementwise, jit, prange, widened
from kdl.kernels.cpu.math import decay, exp, expm1, normal, sigmoid, softplus, tanh


# --- bent lines ---
@elementwise("y")
def relu_forward(x, y):
    T = x.dtype.type
    for i in prange(x.size):
        y[i] = T(0) if x[i] < T(0) else x[i]  # in this order NaN stays NaN


@elementwise("gx")
def relu_backward(y, gy, gx):
    T = y.dtype.type
    for i in prange(y.size):
        gx[i] = T(0) if y[i] <= T(0) else gy[i]


@elementwise("y")
def leaky_relu_forward(x, y, negative_slope):
    T = x.dtype.type
    for i in prange(x.size):
        y[i] = x[i] if x[i] > T(0) else x[i] * negative_slope


@elementwise("gx")
def leaky_relu_backward(x, gy, gx, negative_slope):
    T = x.dtype.type
    for i in prange(x.size):
        gx[i] = gy[i] if x[i] > T(0) else gy[i] * negative_slope


@widened("y")
def prelu_forward(x, weight, y):
    _prelu(x, weight, x, y)


@widened("gx")
def prelu_backward_x(x, weight, gy, gx):
    _prelu(x, weight, gy, gx)


@widened("gw")
def prelu_backward_w(x, gy, gw):
    outer, channels, inner = x.shape
    if inner < _ROWS:
        partial = np.empty((-(-outer // _ROWS), channels, inner), x.dtype)
        _prelu_sums_of_columns(*[a.reshape(len(a), channels * inner) for a in (x, gy, partial)])
    else:
        partial = np.empty((outer, channels, -(-inner // _BLOCK)), x.dtype)
        _prelu_sums_of_blocks(x, gy, partial)
    gw[...] = partial.sum((0, 2), dtype=np.float64)


@elementwise("y")
def hardtanh_forward(x, y, min_val, max_val):
    for i in prange(x.size):
        low = min_val if x[i] < min_val else x[i]
        y[i] = max_val if low > max_val else low


@elementwise("gx")
def hardtanh_backward(x, gy, gx, min_val, max_val):
    T = x.dtype.type
    for i in prange(x.size):
        gx[i] = T(0) if (x[i] <= min_val) | (x[i] >= max_val) else gy[i]


@elementwise("y")
def hardsigmoid_forward(x, y):
    T = x.dtype.type
    for i in prange(x.size):
        y[i] = _relu6(x[i] + T(3)) * T(1 / 6)


@elementwise("gx")
def hardsigmoid_backward(x, gy, gx):
    T = x.dtype.type
    for i in prange(x.size):
        gx[i] = gy[i] * T(1 / 6) if (x[i] > T(-3)) & (x[i] < T(3)) else T(0)


@elementwise("y")
def hardswish_forward(x, y):
    T = x.dtype.type
    for i in prange(x.size):
        y[i] = x[i] * (_relu6(x[i] + T(3)) * T(1 / 6))


@elementwise("gx")
def hardswish_backward(x, gy, gx):
    T = x.dtype.type
    for i in prange(x.size):
        above = gy[i] * (x[i] * T(1 / 3) + T(0.5)) if x[i] < T(3) else gy[i]
        gx[i] = T(0) if x[i] <= T(-3) else above


@elementwise("y")
def threshold_forward(x, y, threshold, value):
    for i in prange(x.size):
        y[i] = value if x[i] <= threshold else x[i]


@elementwise("gx")
def threshold_backward(x, gy, gx, threshold):
    T = x.dtype.type
    for i in prange(x.size):
        gx[i] = T(0) if x[i] <= threshold else gy[i]


@elementwise("y")
def softshrink_forward(x, y, lambd):
    T = x.dtype.type
    for i in prange(x.size):
        below = x[i] + lambd if x[i] < -lambd else x[i] * T(0)  # x * 0 keeps NaN
        y[i] = x[i] - lambd if x[i] > lambd else below


@elementwise("gx")
def softshrink_backward(x, gy, gx, lambd):
    T = x.dtype.type
    for i in prange(x.size):
        gx[i] = T(0) if (x[i] >= -lambd) & (x[i] <= lambd) else gy[i]


@elementwise("y")
def hardshrink_forward(x, y, lambd):
    T = x.dtype.type
    for i in prange(x.size):
        y[i] = T(0) if (x[i] >= -lambd) & (x[i] <= lambd) else x[i]


@elementwise("gx")
def hardshrink_backward(x, gy, gx, lambd):
    T = x.dtype.type
    for i in prange(x.size):
        gx[i] = T(0) if (x[i] >= -lambd) & (x[i] <= lambd) else gy[i]


# --- exponentials ---
@elementwise("y")
def elu_forward(x, y, alpha, scale, input_scale):
    T = x.dtype.type
    for i in prange(x.size):
        y[i] = scale * x[i] if x[i] > T(0) else scale * alpha * expm1(x[i] * input_scale)


@elementwise("gx")
def elu_backward(x, gy, gx, alpha, scale, input_scale):
    T = x.dtype.type
    for i in prange(x.size):
        slope = scale * alpha * input_scale * exp(x[i] * input_scale) if x[i] <= T(0) else scale
        gx[i] = gy[i] * slope


@elementwise("y")
def sigmoid_forward(x, y):
    for i in prange(x.size):
        y[i] = sigmoid(x[i])


@elementwise("gx")
def sigmoid_backward(y, gy, gx):
    T = y.dtype.type
    for i in prange(y.size):
        gx[i] = gy[i] * (T(1) - y[i]) * y[i]


@elementwise("y")
def logsigmoid_forward(x, y):
    for i in prange(x.size):
        y[i] = -softplus(-x[i])


@elementwise("gx")
def logsigmoid_backward(x, gy, gx):
    for i in prange(x.size):
        gx[i] = gy[i] * sigmoid(-x[i])


@elementwise("y")
def softplus_forward(x, y, beta, threshold):
    for i in prange(x.size):
        z = x[i] * beta
        y[i] = x[i] if z > threshold else softplus(z) / beta


@elementwise("gx")
def softplus_backward(x, gy, gx, beta, threshold):
    for i in prange(x.size):
        z = x[i] * beta
        gx[i] = gy[i] if z > threshold else gy[i] * sigmoid(z)


@elementwise("y")
def softsign_forward(x, y):
    T = x.dtype.type
    for i in prange(x.size):
        y[i] = x[i] / (T(1) + abs(x[i]))


@elementwise("gx")
def softsign_backward(x, gy, gx):
    T = x.dtype.type
    for i in prange(x.size):
        d = T(1) + abs(x[i])
        gx[i] = gy[i] / (d * d)


@elementwise("y")
def tanh_forward(x, y):
    for i in prange(x.size):
        y[i] = tanh(x[i])


@elementwise("gx")
def tanh_backward(y, gy, gx):
    T = y.dtype.type
    for i in prange(y.size):
        gx[i] = gy[i] * (T(1) - y[i] * y[i])


@elementwise("y")
def tanhshrink_forward(x, y):
    for i in prange(x.size):
        y[i] = x[i] - tanh(x[i])


@elementwise("gx")
def tanhshrink_backward(x, gy, gx):
    for i in prange(x.size):
        t = tanh(x[i])
        gx[i] = gy[i] * (t * t)


# --- x times a gate ---
@elementwise("y")
def gelu_forward(x, y):
    for i in prange(x.size):
        below, _ = normal(x[i])
        y[i] = x[i] * below


@elementwise("gx")
def gelu_backward(x, gy, gx):
    for i in prange(x.size):
        below, density = normal(x[i])
        gx[i] = gy[i] * (below + x[i] * density)


# (1 + tanh u) / 2 = sigmoid(2u), and 2u = 2 sqrt(2 / pi) (x + 0.044715 x^3)
@elementwise("y")
def gelu_tanh_forward(x, y):
    T = x.dtype.type
    for i in prange(x.size):
        y[i] = x[i] * sigmoid(T(1.5957691216057308) * (x[i] + T(0.044715) * (x[i] * x[i] * x[i])))


@elementwise("gx")
def gelu_tanh_backward(x, gy, gx):
    T = x.dtype.type
    for i in prange(x.size):
        s = sigmoid(T(1.5957691216057308) * (x[i] + T(0.044715) * (x[i] * x[i] * x[i])))
        slope = T(1.5957691216057308) * (T(1) + T(3 * 0.044715) * (x[i] * x[i]))
        gx[i] = gy[i] * (s + x[i] * (s * (T(1) - s)) * slope)


@elementwise("y")
def silu_forward(x, y):
    for i in prange(x.size):
        y[i] = x[i] * sigmoid(x[i])


@elementwise("gx")
def silu_backward(x, gy, gx):
    T = x.dtype.type
    for i in prange(x.size):
        s = sigmoid(x[i])
        gx[i] = gy[i] * s * (T(1) + x[i] * (T(1) - s))


@elementwise("y")
def mish_forward(x, y):
    for i in prange(x.size):
        gate, _ = _tanh_softplus(x[i])
        y[i] = x[i] * gate


@elementwise("gx")
def mish_backward(x, gy, gx):
    for i in prange(x.size):
        gate, slope = _tanh_softplus(x[i])
        gx[i] = gy[i] * (gate + x[i] * slope)


@widened("y")
@jit(serial_below=1 << 16)
def glu_forward(x, y):
    for o in prange(y.shape[0]):
        for i in range(y.shape[1]):
            y[o, i] = x[o, 0, i] * sigmoid(x[o, 1, i])


@widened("gx")
@jit(serial_below=1 << 16)
def glu_backward(x, gy, gx):
    T = x.dtype.type
    for o in prange(gy.shape[0]):
        for i in range(gy.shape[1]):
            gx[o, 0, i] = sigmoid(x[o, 1, i])
        for i in range(gy.shape[1]):  # a loop for each array: with both in one it is not vectorised
            s = gx[o, 0, i]
            gx[o, 1, i] = gy[o, i] * x[o, 0, i] * (s * (T(1) - s))
        for i in range(gy.shape[1]):
            gx[o, 0, i] *= gy[o, i]


# --- formulas in common ---
@device_function
def _relu6(x):
    T = type(x)
    low = T(0) if x < T(0) else x
    return T(6) if low > T(6) else low


@device_function
def _tanh_softplus(x):
    """t = tanh(log(1 + e^x)) and dt/dx by one exponential: t = (1 + 2a) / (1 + 2a + 2a^2), a = e^-|x|, for x > 0."""
    T = type(x)
    a = decay(-abs(x))
    n = a * (a + T(2)) if x < T(0) else T(1) + T(2) * a
    d = n + (T(2) if x < T(0) else T(2) * (a * a))
    return n / d, T(4) * (T(1) + a) * (a if x < T(0) else a * a) / (d * d)


# --- prelu's loops over (outer, channels, inner) ---
_BLOCK = 4096  # elements that one task takes from a row
_ROWS = 256    # rows that one task sums, column by column


def _prelu(x, weight, g, y):
    """y = g where x > 0, weight g elsewhere."""
    if weight.size == 1:
        leaky_relu_backward(x, g, y, weight[0])
    elif x.shape[2] == 1:
        _prelu_columns(x[:, :, 0], weight, g[:, :, 0], y[:, :, 0])
    else:
        _prelu_rows(x, weight, g, y)


@jit(serial_below=1 << 16)
def _prelu_rows(x, weight, g, y):
    outer, channels, inner = x.shape
    T = x.dtype.type
    for row in prange(outer * channels):
        o, c = row // channels, row % channels
        w = weight[c]
        for i in range(inner):
            y[o, c, i] = g[o, c, i] if x[o, c, i] > T(0) else g[o, c, i] * w


@jit(serial_below=1 << 16)
def _prelu_columns(x, weight, g, y):
    T = x.dtype.type
    for o in prange(x.shape[0]):
        for c in range(x.shape[1]):
            y[o, c] = g[o, c] if x[o, c] > T(0) else g[o, c] * weight[c]


@jit(reassociate=True, serial_below=1 << 16)
def _prelu_sums_of_blocks(x, gy, partial):
    channels, blocks = partial.shape[1:]
    T = x.dtype.type
    for task in prange(partial.size):
        o, c, b = task // (channels * blocks), task // blocks % channels, task % blocks
        block = slice(b * _BLOCK, (b + 1) * _BLOCK)
        row, g = x[o, c, block], gy[o, c, block]  # not x[o, c, i]: an index that may be negative is not vectorised
        total = T(0)
        for i in range(row.size):
            total += T(0) if row[i] > T(0) else row[i] * g[i]
        partial[o, c, b] = total


@jit(serial_below=1 << 16)
def _prelu_sums_of_columns(x, gy, partial):
    T = x.dtype.type
    for b in prange(partial.shape[0]):
        partial[b] = T(0)
        for o in range(b * _ROWS, min((b + 1) * _ROWS, x.shape[0])):
            for c in range(x.shape[1]):
                partial[b, c] += T(0) if x[o, c] > T(0) else x[o, c] * gy[o, c]
