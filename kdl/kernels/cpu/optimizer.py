"""Optimiser steps on the CPU: one pass over the parameter, its gradient and its averages.

The arguments are those of kdl/kernels/reference/optimizer.py, where the formulae stand. The loops get every scalar as
a Python float (a NumPy scalar costs 0.3 us more to hand over) and cast it to the arrays' dtype. Small parameters take
a serial copy of the loop: waking the threads costs more than their step.
"""
import numpy as np

from kdl.kernels.cpu.launch import jit, prange
from kdl.types import HALVES

SERIAL_BELOW = 131072  # elements; sleeping threads take 50 to 100 us to wake, Adam on as many float32 takes 60 us


def sgd_step(grads, params, momentum_buffers, lr, momentum, dampening, weight_decay, nesterov, maximize):
    """Changes params and momentum_buffers."""
    _run(_sgd, (grads, params, momentum_buffers), lr, momentum, 1 - dampening, weight_decay, nesterov, maximize)


def adam_step(grads, params, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, step, lr, beta1, beta2, eps, weight_decay,
              decoupled, maximize):
    """Changes params, exp_avgs, exp_avg_sqs and max_exp_avg_sqs."""
    keep, weight_decay = (1 - lr * weight_decay, 0) if decoupled else (1, weight_decay)
    _run(_adam, (grads, params, exp_avgs, exp_avg_sqs, max_exp_avg_sqs), lr / (1 - beta1**step),
         (1 - beta2**step)**0.5, 1 - beta1, beta2, 1 - beta2, eps, weight_decay, keep, maximize)


def nadam_step(grads, params, exp_avgs, exp_avg_sqs, step, mu_product, lr, beta1, beta2, eps, weight_decay,
               momentum_decay, decoupled, maximize):
    """Changes params, exp_avgs and exp_avg_sqs; `mu_product` is the product of the momenta mu up to this step."""
    keep, weight_decay = (1 - lr * weight_decay, 0) if decoupled else (1, weight_decay)
    mu = beta1 * (1 - 0.5 * 0.96**(step * momentum_decay))
    mu_next = beta1 * (1 - 0.5 * 0.96**((step + 1) * momentum_decay))
    _run(_nadam, (grads, params, exp_avgs, exp_avg_sqs), lr * (1 - mu) / (1 - mu_product),
         lr * mu_next / (1 - mu_product * mu_next), 1 - beta2**step, 1 - beta1, beta2, 1 - beta2, eps, weight_decay,
         keep, maximize)


def radam_step(grads, params, exp_avgs, exp_avg_sqs, step, lr, beta1, beta2, eps, weight_decay, decoupled, maximize):
    """Changes params, exp_avgs and exp_avg_sqs."""
    keep, weight_decay = (1 - lr * weight_decay, 0) if decoupled else (1, weight_decay)
    rate = lr / (1 - beta1**step)
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * step * beta2**step / (1 - beta2**step)
    adapt = rho > 5  # the variance of the adaptive rate is finite
    if adapt:
        rectification = ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))**0.5
        rate *= rectification * (1 - beta2**step)**0.5
    _run(_radam, (grads, params, exp_avgs, exp_avg_sqs), rate, 1 - beta1, beta2, 1 - beta2, eps, weight_decay, keep,
         maximize, adapt)


def adamax_step(grads, params, exp_avgs, exp_infs, step, lr, beta1, beta2, eps, weight_decay, maximize):
    """Changes params, exp_avgs and exp_infs."""
    _run(_adamax, (grads, params, exp_avgs, exp_infs), lr / (1 - beta1**step), 1 - beta1, beta2, eps, weight_decay,
         maximize)


def rmsprop_step(grads, params, square_avgs, grad_avgs, momentum_buffers, lr, alpha, eps, weight_decay, momentum,
                 maximize):
    """Changes params, square_avgs, grad_avgs (None unless centered) and momentum_buffers."""
    _run(_rmsprop, (grads, params, square_avgs, grad_avgs, momentum_buffers), lr, alpha, 1 - alpha, eps, weight_decay,
         momentum, maximize)


def adagrad_step(grads, params, sums, step, lr, lr_decay, eps, weight_decay, maximize):
    """Changes params and sums."""
    _run(_adagrad, (grads, params, sums), lr / (1 + (step - 1) * lr_decay), eps, weight_decay, maximize)


def adadelta_step(grads, params, square_avgs, acc_deltas, lr, rho, eps, weight_decay, maximize):
    """Changes params, square_avgs and acc_deltas."""
    _run(_adadelta, (grads, params, square_avgs, acc_deltas), lr, rho, 1 - rho, eps, weight_decay, maximize)


def _run(loop, lists, *parameters):
    """Run a step's loop over flat views of every parameter's arrays; halves by way of float32 copies."""
    parameters = [float(p) for p in parameters]
    nothing = [None] * len(lists[0])
    for arrays in zip(*[nothing if arrays is None else arrays for arrays in lists], strict=True):
        if arrays[0].dtype not in HALVES:
            loop(*[a if a is None else a.ravel("K") for a in arrays], *parameters)
            continue
        wide = [None if a is None else a.astype(np.float32) for a in arrays]
        loop(*[a if a is None else a.ravel("K") for a in wide], *parameters)
        for a, w in zip(arrays[1:], wide[1:], strict=True):
            if a is not None:
                a[...] = w


@jit(serial_below=SERIAL_BELOW)
def _sgd(g, p, buffer, lr, momentum, undamped, weight_decay, nesterov, maximize):
    T = p.dtype.type
    lr, momentum, undamped, weight_decay = T(lr), T(momentum), T(undamped), T(weight_decay)
    for i in prange(p.size):
        d = -g[i] if maximize != 0 else g[i]
        if weight_decay != 0:
            d += weight_decay * p[i]
        if buffer is not None:
            b = momentum * buffer[i] + undamped * d
            buffer[i] = b
            d = d + momentum * b if nesterov != 0 else b
        p[i] -= lr * d


@jit(serial_below=SERIAL_BELOW)
def _adam(g, p, exp_avg, exp_avg_sq, max_exp_avg_sq, rate, root, weight1, beta2, weight2, eps, weight_decay, keep,
          maximize):
    T = p.dtype.type
    rate, root, weight1, beta2 = T(rate), T(root), T(weight1), T(beta2)
    weight2, eps, weight_decay, keep = T(weight2), T(eps), T(weight_decay), T(keep)
    for i in prange(p.size):
        d = -g[i] if maximize != 0 else g[i]
        if weight_decay != 0:
            d += weight_decay * p[i]
        m = exp_avg[i] + weight1 * (d - exp_avg[i])
        v = beta2 * exp_avg_sq[i] + weight2 * d * d
        exp_avg[i] = m
        exp_avg_sq[i] = v
        if max_exp_avg_sq is not None:
            v = max_exp_avg_sq[i] if max_exp_avg_sq[i] > v else v
            max_exp_avg_sq[i] = v
        p[i] = p[i] * keep - rate * m / (np.sqrt(v) / root + eps)


@jit(serial_below=SERIAL_BELOW)
def _nadam(g, p, exp_avg, exp_avg_sq, rate_g, rate_m, correction, weight1, beta2, weight2, eps, weight_decay, keep,
           maximize):
    T = p.dtype.type
    rate_g, rate_m, correction, weight1 = T(rate_g), T(rate_m), T(correction), T(weight1)
    beta2, weight2, eps, weight_decay, keep = T(beta2), T(weight2), T(eps), T(weight_decay), T(keep)
    for i in prange(p.size):
        d = -g[i] if maximize != 0 else g[i]
        if weight_decay != 0:
            d += weight_decay * p[i]
        m = exp_avg[i] + weight1 * (d - exp_avg[i])
        v = beta2 * exp_avg_sq[i] + weight2 * d * d
        exp_avg[i] = m
        exp_avg_sq[i] = v
        p[i] = p[i] * keep - (rate_g * d + rate_m * m) / (np.sqrt(v / correction) + eps)


@jit(serial_below=SERIAL_BELOW)
def _radam(g, p, exp_avg, exp_avg_sq, rate, weight1, beta2, weight2, eps, weight_decay, keep, maximize, adapt):
    T = p.dtype.type
    rate, weight1, beta2 = T(rate), T(weight1), T(beta2)
    weight2, eps, weight_decay, keep = T(weight2), T(eps), T(weight_decay), T(keep)
    for i in prange(p.size):
        d = -g[i] if maximize != 0 else g[i]
        if weight_decay != 0:
            d += weight_decay * p[i]
        m = exp_avg[i] + weight1 * (d - exp_avg[i])
        v = beta2 * exp_avg_sq[i] + weight2 * d * d
        exp_avg[i] = m
        exp_avg_sq[i] = v
        update = rate * m
        p[i] = p[i] * keep - (update / (np.sqrt(v) + eps) if adapt != 0 else update)


@jit(serial_below=SERIAL_BELOW)
def _adamax(g, p, exp_avg, exp_inf, rate, weight1, beta2, eps, weight_decay, maximize):
    T = p.dtype.type
    rate, weight1, beta2, eps, weight_decay = T(rate), T(weight1), T(beta2), T(eps), T(weight_decay)
    for i in prange(p.size):
        d = -g[i] if maximize != 0 else g[i]
        if weight_decay != 0:
            d += weight_decay * p[i]
        m = exp_avg[i] + weight1 * (d - exp_avg[i])
        u, size = beta2 * exp_inf[i], abs(d) + eps
        u = u if u >= size or u != u else size
        exp_avg[i] = m
        exp_inf[i] = u
        p[i] -= rate * m / u


@jit(serial_below=SERIAL_BELOW)
def _rmsprop(g, p, square_avg, grad_avg, buffer, lr, alpha, weight, eps, weight_decay, momentum, maximize):
    T = p.dtype.type
    lr, alpha, weight, eps, weight_decay, momentum = T(lr), T(alpha), T(weight), T(eps), T(weight_decay), T(momentum)
    for i in prange(p.size):
        d = -g[i] if maximize != 0 else g[i]
        if weight_decay != 0:
            d += weight_decay * p[i]
        v = alpha * square_avg[i] + weight * d * d
        square_avg[i] = v
        if grad_avg is not None:
            mean = grad_avg[i] + weight * (d - grad_avg[i])
            grad_avg[i] = mean
            v -= mean * mean
        update = d / (np.sqrt(v) + eps)
        if buffer is not None:
            update = momentum * buffer[i] + update
            buffer[i] = update
        p[i] -= lr * update


@jit(serial_below=SERIAL_BELOW)
def _adagrad(g, p, sum, rate, eps, weight_decay, maximize):
    T = p.dtype.type
    rate, eps, weight_decay = T(rate), T(eps), T(weight_decay)
    for i in prange(p.size):
        d = -g[i] if maximize != 0 else g[i]
        if weight_decay != 0:
            d += weight_decay * p[i]
        total = sum[i] + d * d
        sum[i] = total
        p[i] -= rate * d / (np.sqrt(total) + eps)


@jit(serial_below=SERIAL_BELOW)
def _adadelta(g, p, square_avg, acc_delta, lr, rho, weight, eps, weight_decay, maximize):
    T = p.dtype.type
    lr, rho, weight, eps, weight_decay = T(lr), T(rho), T(weight), T(eps), T(weight_decay)
    for i in prange(p.size):
        d = -g[i] if maximize != 0 else g[i]
        if weight_decay != 0:
            d += weight_decay * p[i]
        v = rho * square_avg[i] + weight * d * d
        delta = np.sqrt(acc_delta[i] + eps) / np.sqrt(v + eps) * d
        square_avg[i] = v
        acc_delta[i] = rho * acc_delta[i] + weight * delta * delta
        p[i] -= lr * delta
