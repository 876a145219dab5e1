"""Connectionist temporal classification on the CPU, a sequence per thread; the maths stands in kdl/ops/ctc.py."""
import numpy as np

from kdl.kernels.cpu.launch import device_function, jit, prange, widened
from kdl.kernels.cpu.math import exp, log

_SMALL = 1 << 13  # elements below which waking threads takes longer than the loop


@widened("alpha", "loss")
def ctc_loss_forward(x, labels, steps, states, alpha, loss):
    """Of alpha the rest is -inf."""
    alpha[...] = -np.inf
    _forward(x, labels, steps, states, alpha, loss)


@widened("gx")
def ctc_loss_backward(x, labels, steps, states, alpha, loss, gy, gx):
    gx[...] = 0
    _backward(x, labels, steps, states, alpha, loss, gy, gx)


@device_function
def _arriving(row, labels, s, one, two, states):
    """log sum exp of the states s, one and two of a row, the last where labels differ; those outside are left out."""
    T = row.dtype.type
    nothing = T(-np.inf)
    a = row[s]
    b = row[one] if 0 <= one < states else nothing
    c = row[two] if 0 <= two < states and labels[two] != labels[s] else nothing
    peak = max(a, max(b, c))
    return peak if peak == nothing else peak + log(exp(a - peak) + exp(b - peak) + exp(c - peak))


@jit(serial_below=_SMALL)
def _forward(x, labels, steps, states, alpha, loss):
    T = x.dtype.type
    for n in prange(len(steps)):
        S, last, rows, own = states[n], steps[n] - 1, alpha[n], labels[n]
        if last < 0:
            loss[n] = T(0) if S == 1 else T(np.inf)
        else:
            for s in range(min(S, 2)):
                rows[0, s] = x[0, n, own[s]]
            for t in range(1, last + 1):
                for s in range(S):
                    rows[t, s] = x[t, n, own[s]] + _arriving(rows[t - 1], own, s, s - 1, s - 2, S)
            a = rows[last, S - 1]
            b = rows[last, S - 2] if S > 1 else T(-np.inf)
            peak = max(a, b)
            loss[n] = -peak if peak == T(-np.inf) else -(peak + log(exp(a - peak) + exp(b - peak)))


@jit(serial_below=_SMALL)
def _backward(x, labels, steps, states, alpha, loss, gy, gx):
    T = x.dtype.type
    for n in prange(len(steps)):
        S, last, own = states[n], steps[n] - 1, labels[n]
        beta, next_beta = np.full(S, T(-np.inf)), np.full(S, T(-np.inf))
        for t in range(last, -1, -1):
            for s in range(S):
                if t < last:
                    beta[s] = x[t, n, own[s]] + _arriving(next_beta, own, s, s + 1, s + 2, S)
                elif s >= S - 2:
                    beta[s] = x[t, n, own[s]]
            for c in range(x.shape[2]):
                gx[t, n, c] = exp(x[t, n, c])
            for s in range(S):
                gx[t, n, own[s]] -= exp(alpha[n, t, s] + beta[s] - x[t, n, own[s]] + loss[n])
            for c in range(x.shape[2]):
                gx[t, n, c] *= gy[n]
            beta, next_beta = next_beta, beta
