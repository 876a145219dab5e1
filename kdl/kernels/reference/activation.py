"""Activations in NumPy: the maths of kdl/ops/activation.py, a line each."""
import numpy as np

from kdl.kernels.reference.wide import wide


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
