"""Attention on the CPU, some queries of one head at a time: their scores stay in a cache (after Dao et al., 2022).

A block of scores is a product, loops that make probabilities of it, and a product with the values; what is kept for the
gradient is one number for each query, and the probabilities are computed again. With `causal` a block ends at the last
key that its queries see, so half the work is left out. Maths: kdl/ops/attention.py; arguments: the reference.
"""
from math import prod

import numpy as np

from kdl.kernels.cpu.blas import gemm, run
from kdl.kernels.cpu.launch import NOTHING, device_function, jit, prange, widened
from kdl.kernels.cpu.math import decay, log
from kdl.kernels.cpu.softmax_rows import _largest

_SCORES = 1 << 16  # of a block: in float32 256 KB
_ROWS = 64         # queries of a block at most: with `causal`, more would do more in vain


@widened("y")
def attention_forward(q, k, v, mask, y, log_total, scale, causal):
    _run(_forward, q, k, v, mask, y, log_total, scale, causal)


@widened("gq", "gk", "gv")
def attention_backward(q, k, v, mask, y, log_total, gy, gq, gk, gv, scale, causal):
    _run(_backward, q, k, v, mask, y, log_total, gy, gq, gk, gv, scale, causal)


def _run(loops, q, k, v, mask, *arguments):
    *arrays, scale, causal = arguments
    flat, pitches = NOTHING[q.dtype], (0, 0, 0, 0)
    if mask is not None:
        flat = np.ascontiguousarray(mask).reshape(-1)
        pitches = tuple([prod(mask.shape[i + 1:]) * (mask.shape[i] > 1) for i in range(4)])
    rows = min(q.shape[2], _ROWS, max(16, _SCORES // k.shape[2]))
    run(loops, q.size * k.shape[2], q.dtype, q, k, v, flat, pitches, *arrays, q.dtype.type(scale), causal, rows)


@device_function
def _pitch(array):
    """How far apart the rows of a head are."""
    return max(array.strides[2] // array.itemsize, array.shape[3])


@device_function
def _at(array, n, h, row):
    """Where a row of a head begins."""
    return (n * array.strides[0] + h * array.strides[1] + row * array.strides[2]) // array.itemsize


@jit(parallel=False)
def _score(address, q, k, mask, pitches, n, h, top, rows, scale, causal, s):
    """The scores of some queries and of the keys that the last of them sees."""
    seen = s.shape[1]
    gemm(address, rows, seen, q.shape[3], q, _at(q, n, h, top), False, _pitch(q), k, _at(k, n, h, 0), True, _pitch(k),
         False, s, 0, seen)
    for i in range(rows):
        end = min(seen, top + i + 1) if causal else seen
        if mask.size:
            row = mask[n * pitches[0] + h * pitches[1] + (top + i) * pitches[2]:]
            if pitches[3]:
                for j in range(end):
                    s[i, j] = s[i, j] * scale + row[j]
            else:
                for j in range(end):
                    s[i, j] = s[i, j] * scale + row[0]
        else:
            for j in range(end):
                s[i, j] *= scale
        for j in range(end, seen):
            s[i, j] = -np.inf


@jit(reassociate=True)
def _forward(address, q, k, v, mask, pitches, y, log_total, scale, causal, most):
    T = q.dtype.type
    N, H, L, V = y.shape
    S, blocks = k.shape[2], (L + most - 1) // most
    for task in prange(N * H * blocks):
        n, h, top = task // blocks // H, task // blocks % H, task % blocks * most
        rows = min(most, L - top)
        seen = min(S, top + rows) if causal else S
        s, totals = np.empty((rows, seen), q.dtype), np.empty(rows, q.dtype)
        _score(address, q, k, mask, pitches, n, h, top, rows, scale, causal, s)
        for i in range(rows):
            peak, total = _largest(s, i), T(0)
            shift = T(0) if peak == -np.inf else peak
            for j in range(seen):
                e = decay(s[i, j] - shift)
                s[i, j] = e
                total += e
            totals[i] = T(1) / total if total != T(0) else T(0)
            log_total[n, h, top + i] = shift + log(total) if total != T(0) else T(np.inf)
        gemm(address, rows, V, seen, s, 0, False, seen, v, _at(v, n, h, 0), False, _pitch(v), False, y,
             ((n * H + h) * L + top) * V, V)
        for i in range(rows):
            for j in range(V):
                y[n, h, top + i, j] *= totals[i]


@jit(reassociate=True)
def _backward(address, q, k, v, mask, pitches, y, log_total, gy, gq, gk, gv, scale, causal, most):
    T = q.dtype.type
    N, H, L, V = y.shape
    S, E = k.shape[2:]
    for task in prange(N * H):
        n, h = task // H, task % H
        k_at, v_at = _at(k, n, h, 0), _at(v, n, h, 0)
        for i in range(S):
            for j in range(E):
                gk[n, h, i, j] = T(0)
            for j in range(V):
                gv[n, h, i, j] = T(0)
        for top in range(0, L, most):
            rows = min(most, L - top)
            seen = min(S, top + rows) if causal else S
            p, gs, row_at = np.empty((rows, seen), q.dtype), np.empty((rows, seen), q.dtype), task * L + top
            _score(address, q, k, mask, pitches, n, h, top, rows, scale, causal, p)
            gemm(address, rows, seen, V, gy, row_at * V, False, V, v, v_at, True, _pitch(v), False, gs, 0, seen)
            for i in range(rows):
                dot, shift = T(0), log_total[n, h, top + i]
                for j in range(V):
                    dot += y[n, h, top + i, j] * gy[n, h, top + i, j]
                for j in range(seen):
                    e = decay(p[i, j] - shift)
                    p[i, j] = e
                    gs[i, j] = e * (gs[i, j] - dot) * scale
            gemm(address, seen, V, rows, p, 0, True, seen, gy, row_at * V, False, V, True, gv, task * S * V, V)
            gemm(address, rows, E, seen, gs, 0, False, seen, k, k_at, False, _pitch(k), False, gq, row_at * E, E)
            gemm(address, seen, E, rows, gs, 0, True, seen, q, _at(q, n, h, top), False, _pitch(q), True, gk,
                 task * S * E, E)
