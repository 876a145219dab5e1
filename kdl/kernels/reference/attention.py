"""Attention in NumPy: the maths of kdl/ops/attention.py.

q (N, H, L, E), k (N, H, S, E) and v (N, H, S, V) may be views whose rows are contiguous. mask, which is added, has four
dimensions, of which any may be 1, or is None. With `causal` query i sees the keys up to i. A row that may look nowhere
gets 0.
"""
import numpy as np

from kdl.kernels.reference import wide


def attention_forward(q, k, v, mask, y, log_total, scale, causal):
    """log_total (N, H, L) is the logarithm of the sum of a row's exponentials, inf for a row that may look nowhere."""
    s = _scores(q, k, mask, scale, causal)
    peak = s.max(-1, keepdims=True)
    nowhere = np.isneginf(peak)
    e = np.exp(s - np.where(nowhere, 0, peak))
    total = np.where(nowhere, 1, e.sum(-1, keepdims=True))
    y[...] = e / total @ wide(v)
    log_total[...] = np.where(nowhere, np.inf, peak + np.log(total))[..., 0]


def attention_backward(q, k, v, mask, y, log_total, gy, gq, gk, gv, scale, causal):
    p = np.exp(_scores(q, k, mask, scale, causal) - log_total[..., None])
    gy = wide(gy)
    gv[...] = p.swapaxes(-1, -2) @ gy
    gs = p * (gy @ wide(v).swapaxes(-1, -2) - (gy * wide(y)).sum(-1, keepdims=True)) * scale
    gq[...] = gs @ wide(k)
    gk[...] = gs.swapaxes(-1, -2) @ wide(q)


def _scores(q, k, mask, scale, causal):
    s = wide(q) @ wide(k).swapaxes(-1, -2) * wide(q).dtype.type(scale)
    if mask is not None:
        s = s + wide(mask)
    return np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf) if causal else s
