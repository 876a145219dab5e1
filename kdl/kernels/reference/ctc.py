"""Connectionist temporal classification in NumPy: the maths of kdl/ops/ctc.py, a sequence after the other."""
import numpy as np

from kdl.kernels.reference import wide


def ctc_loss_forward(x, labels, steps, states, alpha, loss):
    """x (T, N, C), labels (N, 2 S + 1) with blanks between them, steps and states (N): how many of each count.

    alpha (N, T, 2 S + 1) and loss (N) are float32 for halves; of alpha the rest is -inf.
    """
    alpha[...] = -np.inf
    for n, (T, S) in enumerate(zip(steps, states, strict=True)):
        if T == 0:
            loss[n] = 0 if S == 1 else np.inf
            continue
        logs, skips = wide(x)[:T, n, labels[n, :S]], _skips(labels[n, :S])
        rows = alpha[n, :T, :S]
        rows[0, :2] = logs[0, :2]
        for t in range(1, T):
            rows[t] = logs[t] + _arriving(rows[t - 1], skips)
        loss[n] = -np.logaddexp.reduce(rows[-1, -2:])


def ctc_loss_backward(x, labels, steps, states, alpha, loss, gy, gx):
    """gy and loss (N) are float32 for halves; gx is 0 after the steps that count."""
    gx[...] = 0
    with np.errstate(invalid="ignore"):  # no path at all: NaN
        for n, (T, S) in enumerate(zip(steps, states, strict=True)):
            if T == 0:
                continue
            logs, skips = wide(x)[:T, n, labels[n, :S]], _skips(labels[n, :S][::-1])
            beta = np.full((T, S), -np.inf, alpha.dtype)
            beta[-1, -2:] = logs[-1, -2:]
            for t in range(T - 2, -1, -1):
                beta[t] = logs[t] + _arriving(beta[t + 1][::-1], skips)[::-1]
            g = np.exp(wide(x)[:T, n])
            np.subtract.at(g, (slice(None), labels[n, :S]), np.exp(alpha[n, :T, :S] + beta - logs + loss[n]))
            gx[:T, n] = gy[n] * g


def _skips(labels):
    """0 where the state two before may be left for this one, -inf elsewhere."""
    skips = np.full(len(labels), -np.inf)
    skips[2:][labels[2:] != labels[:-2]] = 0
    return skips


def _arriving(row, skips):
    """log sum exp of the states that may be left for each."""
    one, two = np.full_like(row, -np.inf), np.full_like(row, -np.inf)
    one[1:], two[2:] = row[:-1], row[:-2]
    return np.logaddexp(np.logaddexp(row, one), two + skips.astype(row.dtype))
