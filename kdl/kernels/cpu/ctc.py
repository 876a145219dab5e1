"""Connectionist temporal classification on the CPU, a sequence per thread; the maths stands in kdl/ops/ctc.py."""
import numpy as np

from kdl.kernels.cpu.launch import device_function, jit, prange, widened
from kdl.kernels.cpu.math import decay, exp, log

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
def _reached(stay, step, skip, closed, emission, out):
    """What is emitted in each state, and log sum exp of the three it may be reached from; closed is -inf or 0."""
    nothing = out.dtype.type(-np.inf)
    for s in range(out.size):
        a, b, c = stay[s], step[s], skip[s] + closed[s]
        peak = b if b > a else a
        peak = c if c > peak else peak
        total = decay(a - peak) + decay(b - peak) + decay(c - peak)
        out[s] = emission[s] + (peak if peak == nothing else peak + log(total))


@device_function
def _closed(labels, states, x):
    """For states 2 and up, -inf where the state two before has the same label, otherwise 0."""
    T = x.dtype.type
    closed = np.zeros(states + 2, x.dtype)
    for s in range(2, states):
        closed[s] = T(-np.inf) if labels[s - 2] == labels[s] else T(0)
    return closed


@jit(serial_below=_SMALL)
def _forward(x, labels, steps, states, alpha, loss):
    T = x.dtype.type
    for n in prange(len(steps)):
        S, last, rows, own = states[n], steps[n] - 1, alpha[n], labels[n]
        if last < 0:
            loss[n] = T(0) if S == 1 else T(np.inf)
        else:
            closed, emission = _closed(own, S, x), np.empty(S, x.dtype)
            before, now = np.full(S + 2, T(-np.inf)), np.full(S + 2, T(-np.inf))  # two states more in front
            for s in range(min(S, 2)):
                now[2 + s] = rows[0, s] = x[0, n, own[s]]
            for t in range(1, last + 1):
                before, now = now, before
                for s in range(S):
                    emission[s] = x[t, n, own[s]]
                _reached(before[2:], before[1:], before, closed, emission, now[2:])
                for s in range(S):
                    rows[t, s] = now[2 + s]
            a, b = now[S + 1], now[S]
            peak = max(a, b)
            loss[n] = -peak if peak == T(-np.inf) else -(peak + log(exp(a - peak) + exp(b - peak)))


@jit(serial_below=_SMALL)
def _backward(x, labels, steps, states, alpha, loss, gy, gx):
    T = x.dtype.type
    for n in prange(len(steps)):
        S, last, own = states[n], steps[n] - 1, labels[n]
        closed, emission, chance = _closed(own, S, x), np.empty(S, x.dtype), np.empty(S, x.dtype)
        after, now = np.full(S + 2, T(-np.inf)), np.full(S + 2, T(-np.inf))  # two states more behind
        for t in range(last, -1, -1):
            for s in range(S):
                emission[s] = x[t, n, own[s]]
            if t < last:
                _reached(after, after[1:], after[2:], closed[2:], emission, now[:S])
            else:
                for s in range(max(S - 2, 0), S):
                    now[s] = emission[s]
            for s in range(S):
                chance[s] = exp(alpha[n, t, s] + now[s] - emission[s] + loss[n])
            for c in range(x.shape[2]):
                gx[t, n, c] = exp(x[t, n, c])
            for s in range(S):
                gx[t, n, own[s]] -= chance[s]
            for c in range(x.shape[2]):
                gx[t, n, c] *= gy[n]
            after, now = now, after
