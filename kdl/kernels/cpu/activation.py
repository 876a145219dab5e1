"""Activations on the CPU: one loop each, forward and backward. The maths stands in kdl/ops/activation.py."""
from kdl.kernels.cpu.launch import elementwise, prange


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
