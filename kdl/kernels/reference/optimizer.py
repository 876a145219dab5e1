"""Optimiser steps in NumPy, as the papers write them. Each changes the parameters and their running averages in place.

Arrays come in lists with one entry per parameter; a list of averages that an option does not need is None. Below, `g`
is a gradient and `p` its parameter. `maximize` climbs instead of descending, `weight_decay` adds weight_decay * p to
the gradient (with `decoupled`: shrinks p by lr * weight_decay instead), `step` counts from 1. The sources stand in
kdl/optim/.
"""
import numpy as np

from kdl.kernels.reference import wide


def sgd_step(grads, params, momentum_buffers, lr, momentum, dampening, weight_decay, nesterov, maximize):
    """Changes params and momentum_buffers."""
    for g, p, momentum_buffer in _entries(grads, params, momentum_buffers):
        g = _gradient(g, p, weight_decay, maximize)
        if momentum_buffer is not None:
            buffer = momentum * wide(momentum_buffer) + (1 - dampening) * g
            momentum_buffer[...] = buffer
            g = g + momentum * buffer if nesterov else buffer
        p[...] = wide(p) - lr * g


def adam_step(grads, params, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, step, lr, beta1, beta2, eps, weight_decay,
              decoupled, maximize):
    """Changes params, exp_avgs, exp_avg_sqs and max_exp_avg_sqs."""
    for g, p, exp_avg, exp_avg_sq, max_exp_avg_sq in _entries(grads, params, exp_avgs, exp_avg_sqs, max_exp_avg_sqs):
        w, g = _decayed(g, p, lr, weight_decay, decoupled, maximize)
        m, v = _moments(g, exp_avg, exp_avg_sq, beta1, beta2)
        if max_exp_avg_sq is not None:
            v = np.maximum(wide(max_exp_avg_sq), v)
            max_exp_avg_sq[...] = v
        denominator = np.sqrt(v) / (1 - beta2**step)**0.5 + eps
        p[...] = w - lr / (1 - beta1**step) * m / denominator


def nadam_step(grads, params, exp_avgs, exp_avg_sqs, step, mu_product, lr, beta1, beta2, eps, weight_decay,
               momentum_decay, decoupled, maximize):
    """Changes params, exp_avgs and exp_avg_sqs; `mu_product` is the product of the momenta mu up to this step."""
    for g, p, exp_avg, exp_avg_sq in _entries(grads, params, exp_avgs, exp_avg_sqs):
        w, g = _decayed(g, p, lr, weight_decay, decoupled, maximize)
        m, v = _moments(g, exp_avg, exp_avg_sq, beta1, beta2)
        mu = beta1 * (1 - 0.5 * 0.96**(step * momentum_decay))
        mu_next = beta1 * (1 - 0.5 * 0.96**((step + 1) * momentum_decay))
        denominator = np.sqrt(v / (1 - beta2**step)) + eps
        p[...] = (w - lr * (1 - mu) / (1 - mu_product) * g / denominator
                  - lr * mu_next / (1 - mu_product * mu_next) * m / denominator)


def radam_step(grads, params, exp_avgs, exp_avg_sqs, step, lr, beta1, beta2, eps, weight_decay, decoupled, maximize):
    """Changes params, exp_avgs and exp_avg_sqs."""
    for g, p, exp_avg, exp_avg_sq in _entries(grads, params, exp_avgs, exp_avg_sqs):
        w, g = _decayed(g, p, lr, weight_decay, decoupled, maximize)
        m, v = _moments(g, exp_avg, exp_avg_sq, beta1, beta2)
        update = lr / (1 - beta1**step) * m
        rho_inf = 2 / (1 - beta2) - 1
        rho = rho_inf - 2 * step * beta2**step / (1 - beta2**step)
        if rho > 5:  # the variance of the adaptive rate is finite
            rectification = ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))**0.5
            update = update * rectification * (1 - beta2**step)**0.5 / (np.sqrt(v) + eps)
        p[...] = w - update


def adamax_step(grads, params, exp_avgs, exp_infs, step, lr, beta1, beta2, eps, weight_decay, maximize):
    """Changes params, exp_avgs and exp_infs."""
    for g, p, exp_avg, exp_inf in _entries(grads, params, exp_avgs, exp_infs):
        g = _gradient(g, p, weight_decay, maximize)
        m = wide(exp_avg) + (1 - beta1) * (g - wide(exp_avg))
        u = np.maximum(beta2 * wide(exp_inf), np.abs(g) + eps)
        exp_avg[...], exp_inf[...] = m, u
        p[...] = wide(p) - lr / (1 - beta1**step) * m / u


def rmsprop_step(grads, params, square_avgs, grad_avgs, momentum_buffers, lr, alpha, eps, weight_decay, momentum,
                 maximize):
    """Changes params, square_avgs, grad_avgs (None unless centered) and momentum_buffers."""
    for g, p, square_avg, grad_avg, momentum_buffer in _entries(grads, params, square_avgs, grad_avgs,
                                                                momentum_buffers):
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


def adagrad_step(grads, params, sums, step, lr, lr_decay, eps, weight_decay, maximize):
    """Changes params and sums."""
    for g, p, sum in _entries(grads, params, sums):
        g = _gradient(g, p, weight_decay, maximize)
        total = wide(sum) + g * g
        sum[...] = total
        p[...] = wide(p) - lr / (1 + (step - 1) * lr_decay) * g / (np.sqrt(total) + eps)


def adadelta_step(grads, params, square_avgs, acc_deltas, lr, rho, eps, weight_decay, maximize):
    """Changes params, square_avgs and acc_deltas."""
    for g, p, square_avg, acc_delta in _entries(grads, params, square_avgs, acc_deltas):
        g = _gradient(g, p, weight_decay, maximize)
        v = rho * wide(square_avg) + (1 - rho) * g * g
        delta = np.sqrt(wide(acc_delta) + eps) / np.sqrt(v + eps) * g
        square_avg[...] = v
        acc_delta[...] = rho * wide(acc_delta) + (1 - rho) * delta * delta
        p[...] = wide(p) - lr * delta


def _entries(*lists):
    """The entries of each parameter; None from a list that is None."""
    n = len(lists[0])
    return zip(*[[None] * n if arrays is None else arrays for arrays in lists], strict=True)


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
