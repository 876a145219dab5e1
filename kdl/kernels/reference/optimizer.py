"""Optimiser steps in NumPy, as the papers write them. Each changes `p` and its running averages in place.

`g` is the gradient, `maximize` climbs instead of descending, `weight_decay` adds weight_decay * p to the gradient
(with `decoupled`: shrinks p by lr * weight_decay instead), `step` counts from 1. Averages that an option does not need
are None. The sources stand in kdl/optim/.
"""
import numpy as np

from kdl.kernels.reference import wide


def sgd_step(g, p, momentum_buffer, lr, momentum, dampening, weight_decay, nesterov, maximize):
    """Changes p and momentum_buffer."""
    g = _gradient(g, p, weight_decay, maximize)
    if momentum_buffer is not None:
        buffer = momentum * wide(momentum_buffer) + (1 - dampening) * g
        momentum_buffer[...] = buffer
        g = g + momentum * buffer if nesterov else buffer
    p[...] = wide(p) - lr * g


def adam_step(g, p, exp_avg, exp_avg_sq, max_exp_avg_sq, step, lr, beta1, beta2, eps, weight_decay, decoupled,
              maximize):
    """Changes p, exp_avg, exp_avg_sq and max_exp_avg_sq."""
    w, g = _decayed(g, p, lr, weight_decay, decoupled, maximize)
    m, v = _moments(g, exp_avg, exp_avg_sq, beta1, beta2)
    if max_exp_avg_sq is not None:
        v = np.maximum(wide(max_exp_avg_sq), v)
        max_exp_avg_sq[...] = v
    denominator = np.sqrt(v) / (1 - beta2**step)**0.5 + eps
    p[...] = w - lr / (1 - beta1**step) * m / denominator


def nadam_step(g, p, exp_avg, exp_avg_sq, step, mu_product, lr, beta1, beta2, eps, weight_decay, momentum_decay,
               decoupled, maximize):
    """Changes p, exp_avg and exp_avg_sq; `mu_product` is the product of the momenta mu up to this step."""
    w, g = _decayed(g, p, lr, weight_decay, decoupled, maximize)
    m, v = _moments(g, exp_avg, exp_avg_sq, beta1, beta2)
    mu = beta1 * (1 - 0.5 * 0.96**(step * momentum_decay))
    mu_next = beta1 * (1 - 0.5 * 0.96**((step + 1) * momentum_decay))
    denominator = np.sqrt(v / (1 - beta2**step)) + eps
    p[...] = (w - lr * (1 - mu) / (1 - mu_product) * g / denominator
              - lr * mu_next / (1 - mu_product * mu_next) * m / denominator)


def radam_step(g, p, exp_avg, exp_avg_sq, step, lr, beta1, beta2, eps, weight_decay, decoupled, maximize):
    """Changes p, exp_avg and exp_avg_sq."""
    w, g = _decayed(g, p, lr, weight_decay, decoupled, maximize)
    m, v = _moments(g, exp_avg, exp_avg_sq, beta1, beta2)
    update = lr / (1 - beta1**step) * m
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * step * beta2**step / (1 - beta2**step)
    if rho > 5:  # the variance of the adaptive rate is finite
        rectification = ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))**0.5
        update = update * rectification * (1 - beta2**step)**0.5 / (np.sqrt(v) + eps)
    p[...] = w - update


def adamax_step(g, p, exp_avg, exp_inf, step, lr, beta1, beta2, eps, weight_decay, maximize):
    """Changes p, exp_avg and exp_inf."""
    g = _gradient(g, p, weight_decay, maximize)
    m = wide(exp_avg) + (1 - beta1) * (g - wide(exp_avg))
    u = np.maximum(beta2 * wide(exp_inf), np.abs(g) + eps)
    exp_avg[...], exp_inf[...] = m, u
    p[...] = wide(p) - lr / (1 - beta1**step) * m / u


def rmsprop_step(g, p, square_avg, grad_avg, momentum_buffer, lr, alpha, eps, weight_decay, momentum, maximize):
    """Changes p, square_avg, grad_avg (None unless centered) and momentum_buffer."""
    g = _gradient(g, p, weight_decay, maximize)
    v = alpha * wide(square_avg) + (1 - alpha) * g * g
    square_avg[...] = v
    if grad_avg is not None:
        mean = wide(grad_avg) + (1 - alpha) * (g - wide(grad_avg))
        grad_avg[...] = mean
        v = v - mean * mean
    update = g / (np.sqrt(v) + eps)
    if momentum_buffer is not None:
        update = momentum * wide(momentum_buffer) + update
        momentum_buffer[...] = update
    p[...] = wide(p) - lr * update


def adagrad_step(g, p, sum, step, lr, lr_decay, eps, weight_decay, maximize):
    """Changes p and sum."""
    g = _gradient(g, p, weight_decay, maximize)
    total = wide(sum) + g * g
    sum[...] = total
    p[...] = wide(p) - lr / (1 + (step - 1) * lr_decay) * g / (np.sqrt(total) + eps)


def adadelta_step(g, p, square_avg, acc_delta, lr, rho, eps, weight_decay, maximize):
    """Changes p, square_avg and acc_delta."""
    g = _gradient(g, p, weight_decay, maximize)
    v = rho * wide(square_avg) + (1 - rho) * g * g
    delta = np.sqrt(wide(acc_delta) + eps) / np.sqrt(v + eps) * g
    square_avg[...] = v
    acc_delta[...] = rho * wide(acc_delta) + (1 - rho) * delta * delta
    p[...] = wide(p) - lr * delta


def _gradient(g, p, weight_decay, maximize):
    g = -wide(g) if maximize else wide(g)
    return g + weight_decay * wide(p) if weight_decay != 0 else g


def _decayed(g, p, lr, weight_decay, decoupled, maximize):
    """The parameter and the gradient after weight decay."""
    if decoupled:
        return wide(p) * (1 - lr * weight_decay), _gradient(g, p, 0, maximize)
    return wide(p), _gradient(g, p, weight_decay, maximize)


def _moments(g, exp_avg, exp_avg_sq, beta1, beta2):
    """Update the running averages of g and g^2, and return them unrounded."""
    m = wide(exp_avg) + (1 - beta1) * (g - wide(exp_avg))
    v = beta2 * wide(exp_avg_sq) + (1 - beta2) * g * g
    exp_avg[...], exp_avg_sq[...] = m, v
    return m, v
