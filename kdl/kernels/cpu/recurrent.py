"""Recurrent layers over a sequence on the CPU; the maths stands in kdl/ops/recurrent.py, the layout in the reference.

All steps are one compiled loop: a product, and loops that do all the rest. Sequences do not meet, so a large batch is
cut into parts, which run the whole sequence side by side; the cut does not depend on the number of threads. Every step
multiplies by the same matrix, which BLAS would rearrange each time: for float32 it is rearranged once, into panels.
"""
from itertools import accumulate

import numpy as np

from kdl.kernels.cpu.blas import gemm, run
from kdl.kernels.cpu.launch import NOTHING, jit, prange, widened
from kdl.kernels.cpu.math import sigmoid, tanh
from kdl.kernels.cpu.tiles import ROWS, WIDTH, strip_kernel

_ROWS = 32  # sequences of a part at least: fewer make the products slow
_PARTS = 16  # at most
_FEW = 6    # sequences or steps below which tiles do not pay: most rows for nothing, or panels laid out for little
_TILE = min(ROWS, 8)  # rows: a batch is a multiple of 8 more often than of the usual 12

_strip = strip_kernel(_TILE)


# --- kernels ---
@widened("y", "hn")
def rnn_forward(x, w, b, h0, y, hn, sizes, reverse, relu):
    hn[...] = h0
    s = np.empty((len(h0), len(w)), x.dtype)
    _run(_rnn_steps, (*_forward_weights(w, b, h0, sizes), x, s, y, hn, relu), hn, w, sizes, reverse)


@widened("gx", "gh0")
def rnn_backward(y, w, gy, ghn, gx, gh0, sizes, reverse, relu):
    """gy and ghn may be None, for zeros."""
    gh0[...] = 0 if ghn is None else ghn
    _run(_rnn_backward_steps, (*_backward_weights(w, gh0, sizes), y, _or_no_rows(gy, y), gx, gh0, relu), gh0, w, sizes,
         reverse)


@widened("gates", "c", "y", "hn", "cn")
def lstm_forward(x, w, b, h0, c0, project, gates, c, y, hn, cn, sizes, reverse):
    """project may be None, and so may b."""
    hn[...], cn[...] = h0, c0
    s = np.empty((len(h0), len(w)), x.dtype)
    made = y if project is None else np.empty_like(c)
    _run(_lstm_steps, (*_forward_weights(w, b, h0, sizes), _or_no_rows(project, w), *_by_gate(4, x, s, gates), c, made,
                       y, hn, cn), hn, w, sizes, reverse)


@widened("gx", "gh", "gh0", "gc0")
def lstm_backward(gates, c, c0, w, project, gy, ghn, gcn, gx, gh, gh0, gc0, sizes, reverse):
    """gy, ghn and gcn may be None, for zeros; gh is None without project."""
    gh0[...] = 0 if ghn is None else ghn
    gc0[...] = 0 if gcn is None else gcn
    gates, by_gate = _by_gate(4, gates, gx)
    total = gh0 if project is None else np.empty_like(c0)
    _run(_lstm_backward_steps, (*_backward_weights(w, gh0, sizes), _or_no_rows(project, w), gates, c, c0,
                                _or_no_rows(gy, gx), by_gate, _or_no_rows(gh, gx), total, gh0, gc0), gh0, w, sizes,
         reverse)


@widened("gates", "y", "hn")
def gru_forward(x, w, b, h0, gates, y, hn, sizes, reverse):
    """b may be None."""
    hn[...] = h0
    s = np.empty((len(h0), len(w)), x.dtype)
    _run(_gru_steps, (*_forward_weights(w, b, h0, sizes), *_by_gate(3, x, s), *_by_gate(4, gates), y, hn), hn, w, sizes,
         reverse)


@widened("gx", "gs", "gh0")
def gru_backward(gates, y, h0, w, gy, ghn, gx, gs, gh0, sizes, reverse):
    """gy and ghn may be None, for zeros."""
    gh0[...] = 0 if ghn is None else ghn
    _run(_gru_backward_steps, (*_backward_weights(w, gh0, sizes), *_by_gate(4, gates), y, h0, _or_no_rows(gy, y),
                               *_by_gate(3, gx, gs), gh0), gh0, w, sizes, reverse)


# --- launch ---
def _run(loops, arrays, h, w, sizes, reverse):
    """Call a loop with the steps of all parts of the batch, where each part's begin, and the arrays.

    A step is (first row of the part, how many, first sequence of the part, first row of the part a step before, how
    many there are before): of sequences that start here there is none.
    """
    starts = [(end - n, n) for end, n in zip(accumulate(sizes), sizes, strict=True)]
    if reverse:
        starts.reverse()
    steps, begins, batch = [], [0], len(h)
    parts = max(1, min(_PARTS, batch // _ROWS))
    for part in range(parts):
        lo, hi = batch * part // parts, batch * (part + 1) // parts
        before, n_before = 0, 0
        for start, n in starts:
            n = min(n, hi) - lo
            if n > 0:
                steps.append((start + lo, n, lo, before, n_before))
                before, n_before = start + lo, n
        begins.append(len(steps))
    multiplications = sum(sizes) * w.size if parts > 1 else 0
    run(loops, multiplications, w.dtype, np.array(begins), np.array(steps, np.int64).reshape(-1, 5), *arrays)


def _forward_weights(w, b, h, sizes):
    """What `_times` needs to multiply by w' and add b: the matrix as (depth, columns), its panels, and b."""
    return _weights(w.T, b, h, sizes)


def _backward_weights(w, gh, sizes):
    """What `_times` needs to multiply by w."""
    return _weights(w, None, gh, sizes)


def _weights(w, b, h, sizes):
    b = NOTHING[w.dtype] if b is None else b
    if w.dtype != np.float32:
        return w, None, b
    depth, columns = w.shape
    if len(h) < _FEW or len(sizes) < _FEW:
        return w, np.empty((0, 0, 0), np.float32), b
    panels = np.zeros((-(-columns // WIDTH), depth, WIDTH), np.float32)
    for panel, first in zip(panels, range(0, columns, WIDTH), strict=True):
        part = w[:, first:first + WIDTH]
        panel[:, :part.shape[1]] = part
    bias = np.zeros(len(panels) * WIDTH, np.float32)
    bias[:b.size] = b
    return w, panels, bias


def _or_no_rows(array, like):
    return np.empty((0, 0), like.dtype) if array is None else array


def _by_gate(gates, *arrays):
    """Each row's gates as rows of their own: with sums of indices instead, the loops over them would be slow."""
    return [a.reshape(len(a), gates, a.shape[1] // gates) for a in arrays]


@jit(parallel=False)
def _times(address, w, panels, bias, a, row, y, at, n, add):
    """n rows of y, from `at` on, become those of a, from `row` on, times the matrix, plus bias; or that is added."""
    depth, columns = w.shape
    if panels is not None:
        if panels.size:
            nothing = np.zeros(1, np.int64)
            starts, places = np.zeros((2, -(-n // _TILE) * _TILE), np.int64)
            for i in range(n):
                starts[i], places[i] = i * depth, i * columns
            for panel in range(len(panels)):
                _strip(a, row * depth, starts, nothing, 1, panels, panel * depth * WIDTH, nothing, WIDTH, 1, depth, y,
                       at * columns + panel * WIDTH, places, 0, n, columns - panel * WIDTH, bias, panel * WIDTH, add)
            return
    if bias.size:
        rows = y.reshape(len(y), columns)
        for i in range(at, at + n):
            for j in range(columns):
                rows[i, j] = bias[j]
    turned = w.strides[0] == w.itemsize and columns > 1
    gemm(address, n, columns, depth, a, row * depth, False, depth, w, 0, turned, depth if turned else columns,
         add or bias.size > 0, y, at * columns, columns)


# --- loops over steps: n rows from `start` on, of the sequences from `lo` on ---
# A number is read by its full index: to take rows out first would count references, which takes as long as the maths.
@jit
def _rnn_steps(address, begins, steps, w, panels, bias, x, s, y, h, relu):
    T = x.dtype.type
    for part in prange(begins.size - 1):
        for step in range(begins[part], begins[part + 1]):
            start, n, lo = steps[step, 0], steps[step, 1], steps[step, 2]
            _times(address, w, panels, bias, h, lo, s, lo, n, False)
            for i in range(n):
                row, own = start + i, lo + i
                if relu:
                    for j in range(y.shape[1]):
                        a = x[row, j] + s[own, j]
                        y[row, j] = T(0) if a < T(0) else a
                else:
                    for j in range(y.shape[1]):
                        y[row, j] = tanh(x[row, j] + s[own, j])
                for j in range(y.shape[1]):
                    h[own, j] = y[row, j]


@jit
def _rnn_backward_steps(address, begins, steps, w, panels, bias, y, gy, gx, gh, relu):
    T = y.dtype.type
    for part in prange(begins.size - 1):
        for step in range(begins[part + 1] - 1, begins[part] - 1, -1):
            start, n, lo = steps[step, 0], steps[step, 1], steps[step, 2]
            for i in range(n):
                row, own = start + i, lo + i
                if gy.size:
                    for j in range(y.shape[1]):
                        gh[own, j] += gy[row, j]
                if relu:
                    for j in range(y.shape[1]):
                        gx[row, j] = gh[own, j] if y[row, j] > T(0) else T(0)
                else:
                    for j in range(y.shape[1]):
                        gx[row, j] = gh[own, j] * (T(1) - y[row, j] * y[row, j])
                for j in range(y.shape[1]):
                    gh[own, j] = T(0)
            _times(address, w, panels, bias, gx, start, gh, lo, n, True)


@jit
def _lstm_steps(address, begins, steps, w, panels, bias, project, x, s, gates, c, made, y, h, state):
    for part in prange(begins.size - 1):
        for step in range(begins[part], begins[part + 1]):
            start, n, lo = steps[step, 0], steps[step, 1], steps[step, 2]
            _times(address, w, panels, bias, h, lo, s, lo, n, False)
            for i in range(n):
                row, own = start + i, lo + i
                for j in range(c.shape[1]):
                    gates[row, 0, j] = sigmoid(x[row, 0, j] + s[own, 0, j])
                    gates[row, 1, j] = sigmoid(x[row, 1, j] + s[own, 1, j])
                for j in range(c.shape[1]):
                    gates[row, 2, j] = tanh(x[row, 2, j] + s[own, 2, j])
                    gates[row, 3, j] = sigmoid(x[row, 3, j] + s[own, 3, j])
                for j in range(c.shape[1]):
                    new = gates[row, 1, j] * state[own, j] + gates[row, 0, j] * gates[row, 2, j]
                    state[own, j] = new
                    c[row, j] = new
                    made[row, j] = gates[row, 3, j] * tanh(new)
            if project.size:
                P, H = project.shape
                gemm(address, n, P, H, made, start * H, False, H, project, 0, True, H, False, y, start * P, P)
            for i in range(n):
                row, own = start + i, lo + i
                for j in range(h.shape[1]):
                    h[own, j] = y[row, j]


@jit
def _lstm_backward_steps(address, begins, steps, w, panels, bias, project, gates, c, c0, gy, gx, gh, total, gh0, gc):
    T = gates.dtype.type
    for part in prange(begins.size - 1):
        for step in range(begins[part + 1] - 1, begins[part] - 1, -1):
            start, n, lo = steps[step, 0], steps[step, 1], steps[step, 2]
            before, n_before = steps[step, 3], steps[step, 4]
            if project.size:
                P, H = project.shape
                for i in range(n):
                    row, own = start + i, lo + i
                    for j in range(P):
                        gh[row, j] = gh0[own, j] + (gy[row, j] if gy.size else T(0))
                        gh0[own, j] = T(0)
                gemm(address, n, H, P, gh, start * P, False, P, project, 0, False, H, False, total, lo * H, H)
            for i in range(n):
                row, own = start + i, lo + i
                if gy.size and not project.size:
                    for j in range(c.shape[1]):
                        total[own, j] += gy[row, j]
                for j in range(c.shape[1]):
                    g, t, o = total[own, j], tanh(c[row, j]), gates[row, 3, j]
                    gc[own, j] += g * o * (T(1) - t * t)
                    gx[row, 3, j] = g * t * o * (T(1) - o)
                    total[own, j] = T(0)
                for j in range(c.shape[1]):
                    a, b = gates[row, 0, j], gates[row, 2, j]
                    gx[row, 0, j] = gc[own, j] * b * a * (T(1) - a)
                    gx[row, 2, j] = gc[own, j] * a * (T(1) - b * b)
                if i < n_before:
                    for j in range(c.shape[1]):
                        gx[row, 1, j] = gc[own, j] * c[before + i, j]
                else:
                    for j in range(c.shape[1]):
                        gx[row, 1, j] = gc[own, j] * c0[own, j]
                for j in range(c.shape[1]):
                    f = gates[row, 1, j]
                    gx[row, 1, j] *= f * (T(1) - f)
                    gc[own, j] *= f
            _times(address, w, panels, bias, gx, start, gh0, lo, n, True)


@jit
def _gru_steps(address, begins, steps, w, panels, bias, x, s, gates, y, h):
    for part in prange(begins.size - 1):
        for step in range(begins[part], begins[part + 1]):
            start, n, lo = steps[step, 0], steps[step, 1], steps[step, 2]
            _times(address, w, panels, bias, h, lo, s, lo, n, False)
            for i in range(n):
                row, own = start + i, lo + i
                for j in range(y.shape[1]):
                    gates[row, 0, j] = sigmoid(x[row, 0, j] + s[own, 0, j])
                    gates[row, 1, j] = sigmoid(x[row, 1, j] + s[own, 1, j])
                for j in range(y.shape[1]):
                    gates[row, 3, j] = s[own, 2, j]
                    gates[row, 2, j] = tanh(x[row, 2, j] + gates[row, 0, j] * s[own, 2, j])
                for j in range(y.shape[1]):
                    new = gates[row, 2, j] + gates[row, 1, j] * (h[own, j] - gates[row, 2, j])
                    h[own, j] = new
                    y[row, j] = new


@jit
def _gru_backward_steps(address, begins, steps, w, panels, bias, gates, y, h0, gy, gx, gs, gh):
    T = gates.dtype.type
    for part in prange(begins.size - 1):
        for step in range(begins[part + 1] - 1, begins[part] - 1, -1):
            start, n, lo = steps[step, 0], steps[step, 1], steps[step, 2]
            before, n_before = steps[step, 3], steps[step, 4]
            for i in range(n):
                row, own = start + i, lo + i
                if gy.size:
                    for j in range(y.shape[1]):
                        gh[own, j] += gy[row, j]
                if i < n_before:
                    for j in range(y.shape[1]):
                        gx[row, 1, j] = gh[own, j] * (y[before + i, j] - gates[row, 2, j])
                else:
                    for j in range(y.shape[1]):
                        gx[row, 1, j] = gh[own, j] * (h0[own, j] - gates[row, 2, j])
                for j in range(y.shape[1]):
                    z, a = gates[row, 1, j], gates[row, 2, j]
                    gx[row, 1, j] *= z * (T(1) - z)
                    gs[row, 1, j] = gx[row, 1, j]
                    gx[row, 2, j] = gh[own, j] * (T(1) - z) * (T(1) - a * a)
                    gh[own, j] *= z
                for j in range(y.shape[1]):
                    r = gates[row, 0, j]
                    gs[row, 2, j] = gx[row, 2, j] * r
                    gx[row, 0, j] = gx[row, 2, j] * gates[row, 3, j] * r * (T(1) - r)
                    gs[row, 0, j] = gx[row, 0, j]
            _times(address, w, panels, bias, gs, start, gh, lo, n, True)
