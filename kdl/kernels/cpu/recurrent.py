"""Recurrent layers over a sequence on the CPU; the maths stands in kdl/ops/recurrent.py, the layout in the reference.

A step is one product and one compiled loop that does all the rest of it. Sequences do not meet, so a large batch is
cut into parts, which run the whole sequence side by side; the cut does not depend on the number of threads. Every step
multiplies by the same matrix, which BLAS would rearrange each time: for float32 it is rearranged once, into panels.
"""
from itertools import accumulate

import numpy as np

from kdl.kernels.cpu.blas import _parts, _share
from kdl.kernels.cpu.launch import jit, widened
from kdl.kernels.cpu.math import sigmoid, tanh
from kdl.kernels.cpu.tiles import ROWS, WIDTH, strip

_ROWS = 32  # sequences of a part at least: fewer make the products slow
_FEW = 6    # sequences or steps below which tiles do not pay: most rows for nothing, or panels laid out for little



# --- kernels ---
@widened("y", "hn")
def rnn_forward(x, w, b, h0, y, hn, sizes, reverse, relu):
    b = _or_empty(b, w)
    hn[...] = h0
    multiply = _multiplier(w.T, len(h0), len(sizes))

    def run(steps, count):
        s = np.empty((count, w.shape[0]), x.dtype)
        for start, n, lo, _, _ in steps:
            multiply(hn, lo, s, 0, n)
            _rnn_step(x, s, b, y, hn, start, n, lo, relu)
    _run(run, len(h0), sizes, reverse, w.size)


@widened("gx", "gh0")
def rnn_backward(y, w, gy, ghn, gx, gh0, sizes, reverse, relu):
    """gy and ghn may be None, for zeros."""
    gy = _or_no_rows(gy, y)
    gh0[...] = 0 if ghn is None else ghn
    multiply = _multiplier(w, len(gh0), len(sizes))

    def run(steps, count):
        for start, n, lo, _, _ in steps[::-1]:
            _rnn_backward_step(y, gy, gx, gh0, start, n, lo, relu)
            multiply(gx, start, gh0, lo, n)
    _run(run, len(gh0), sizes, reverse, w.size)


@widened("gates", "c", "y", "hn", "cn")
def lstm_forward(x, w, b, h0, c0, project, gates, c, y, hn, cn, sizes, reverse):
    """project may be None, and so may b."""
    b = _or_empty(b, w)
    hn[...], cn[...] = h0, c0
    multiply = _multiplier(w.T, len(h0), len(sizes))

    def run(steps, count):
        s = np.empty((count, w.shape[0]), x.dtype)
        m = np.empty((count, c.shape[1]), x.dtype)
        for start, n, lo, _, _ in steps:
            multiply(hn, lo, s, 0, n)
            if project is None:
                _lstm_step(x, s, b, gates, c, y, cn, start, n, lo, start)
            else:
                _lstm_step(x, s, b, gates, c, m, cn, start, n, lo, 0)
                np.matmul(m[:n], project.T, out=y[start:start + n])
            hn[lo:lo + n] = y[start:start + n]
    _run(run, len(h0), sizes, reverse, w.size)


@widened("gx", "gh", "gh0", "gc0")
def lstm_backward(gates, c, c0, w, project, gy, ghn, gcn, gx, gh, gh0, gc0, sizes, reverse):
    """gy, ghn and gcn may be None, for zeros; gh is None without project."""
    gh0[...] = 0 if ghn is None else ghn
    gc0[...] = 0 if gcn is None else gcn
    nothing = np.empty((0, 0), gx.dtype)
    multiply = _multiplier(w, len(gh0), len(sizes))

    def run(steps, count):
        total = np.empty((count, c.shape[1]), gx.dtype)
        for start, n, lo, before, n_before in steps[::-1]:
            if project is None:
                _lstm_backward_step(gates, c, c0, nothing if gy is None else gy, gh0, gx, gc0, start, n, lo, before,
                                    n_before, start, lo)
            else:
                rows = gh[start:start + n]
                rows[...] = gh0[lo:lo + n] if gy is None else gh0[lo:lo + n] + gy[start:start + n]
                np.matmul(rows, project, out=total[:n])
                _lstm_backward_step(gates, c, c0, nothing, total, gx, gc0, start, n, lo, before, n_before, 0, 0)
            multiply(gx, start, gh0, lo, n)
    _run(run, len(gh0), sizes, reverse, w.size)


@widened("gates", "y", "hn")
def gru_forward(x, w, b, h0, gates, y, hn, sizes, reverse):
    """b may be None."""
    b = _or_empty(b, w)
    hn[...] = h0
    multiply = _multiplier(w.T, len(h0), len(sizes))

    def run(steps, count):
        s = np.empty((count, w.shape[0]), x.dtype)
        for start, n, lo, _, _ in steps:
            multiply(hn, lo, s, 0, n)
            _gru_step(x, s, b, gates, y, hn, start, n, lo)
    _run(run, len(h0), sizes, reverse, w.size)


@widened("gx", "gs", "gh0")
def gru_backward(gates, y, h0, w, gy, ghn, gx, gs, gh0, sizes, reverse):
    """gy and ghn may be None, for zeros."""
    gy = _or_no_rows(gy, y)
    gh0[...] = 0 if ghn is None else ghn
    multiply = _multiplier(w, len(gh0), len(sizes))

    def run(steps, count):
        through = np.empty((count, y.shape[1]), gx.dtype)
        for start, n, lo, before, n_before in steps[::-1]:
            _gru_backward_step(gates, y, h0, gy, gx, gs, gh0, start, n, lo, before, n_before)
            multiply(gs, start, through, 0, n)
            gh0[lo:lo + n] += through[:n]
    _run(run, len(gh0), sizes, reverse, w.size)


# --- launch ---
def _run(function, batch, sizes, reverse, weights):
    """Call function(steps, count) for parts of the batch, of `count` sequences each.

    A step is (first row of the part, how many, first sequence of the part, first row of the part a step before, how
    many there are before): of sequences that start here there is none.
    """
    starts = [(end - n, n) for end, n in zip(accumulate(sizes), sizes, strict=True)]
    if reverse:
        starts.reverse()

    def work(part):
        lo, hi = part.start, part.stop
        steps, before, n_before = [], 0, 0
        for start, n in starts:
            n = min(n, hi) - lo
            if n > 0:
                steps.append((start + lo, n, lo, before, n_before))
                before, n_before = start + lo, n
        function(steps, hi - lo)
    _share(work, _parts(batch, max(1, min(16, batch // _ROWS))), sum(sizes) * weights)


def _multiplier(w, batch, steps):
    """A function (a, row, y, at, n) that makes n rows of y, from `at` on, those of a, from `row` on, times w."""
    if w.dtype != np.float32 or batch < _FEW or steps < _FEW:
        def multiply(a, row, y, at, n):
            np.matmul(a[row:row + n], w, out=y[at:at + n])
        return multiply
    depth, columns = w.shape
    panels = np.zeros((-(-columns // WIDTH), depth, WIDTH), np.float32)
    for panel, first in zip(panels, range(0, columns, WIDTH), strict=True):
        part = w[:, first:first + WIDTH]
        panel[:, :part.shape[1]] = part
    nothing, no_bias = np.zeros(1, np.int64), np.zeros(WIDTH, np.float32)
    tables = {}  # by n: where its rows of a and of y begin; a tile's rows beyond them are the first again

    def multiply(a, row, y, at, n):
        rows = tables.get(n)
        if rows is None:
            rows = np.zeros((2, -(-n // ROWS) * ROWS), np.int64)
            rows[:, :n] = np.arange(n) * [[depth], [columns]]
            tables[n] = rows  # complete: parts of the batch run side by side and share the tables
        _multiply(a, row * depth, rows[0], panels, y, at * columns, rows[1], n, columns, nothing, no_bias)
    return multiply


def _or_empty(b, w):
    return np.empty(0, w.dtype) if b is None else b


def _or_no_rows(gy, y):
    return np.empty((0, 0), y.dtype) if gy is None else gy


@jit(parallel=False)
def _multiply(a, a_at, starts, panels, y, y_at, places, n, columns, nothing, no_bias):
    depth = panels.shape[1]
    for panel in range(len(panels)):
        strip(a, a_at, starts, nothing, 1, panels, panel * depth * WIDTH, nothing, WIDTH, 1, depth, y,
               y_at + panel * WIDTH, places, 0, n, columns - panel * WIDTH, no_bias, 0, False)


# --- steps: n rows from `start` on, of the sequences from `lo` on ---
@jit(parallel=False)
def _rnn_step(x, s, b, y, h, start, n, lo, relu):
    T = x.dtype.type
    for i in range(n):
        row, out, total, state = x[start + i], y[start + i], s[i], h[lo + i]
        if b.size:
            for j in range(total.size):
                total[j] += b[j]
        if relu:
            for j in range(total.size):
                a = row[j] + total[j]
                out[j] = T(0) if a < T(0) else a
        else:
            for j in range(total.size):
                out[j] = tanh(row[j] + total[j])
        for j in range(total.size):
            state[j] = out[j]


@jit(parallel=False)
def _rnn_backward_step(y, gy, gx, gh, start, n, lo, relu):
    T = y.dtype.type
    for i in range(n):
        row, g, out = y[start + i], gh[lo + i], gx[start + i]
        if gy.size:
            more = gy[start + i]
            for j in range(g.size):
                g[j] += more[j]
        if relu:
            for j in range(g.size):
                out[j] = g[j] if row[j] > T(0) else T(0)
        else:
            for j in range(g.size):
                out[j] = g[j] * (T(1) - row[j] * row[j])


@jit(parallel=False)
def _lstm_step(x, s, b, gates, c, m, cell, start, n, lo, out):
    H = c.shape[1]
    for i in range(n):
        row, total, gate = x[start + i], s[i], gates[start + i]
        for j in range(4 * H):
            total[j] += row[j]
        if b.size:
            for j in range(4 * H):
                total[j] += b[j]
        for j in range(2 * H):
            gate[j] = sigmoid(total[j])
        for j in range(2 * H, 3 * H):
            gate[j] = tanh(total[j])
        for j in range(3 * H, 4 * H):
            gate[j] = sigmoid(total[j])
        state, new = cell[lo + i], c[start + i]
        for j in range(H):
            state[j] = gate[H + j] * state[j] + gate[j] * gate[2 * H + j]
        for j in range(H):  # not as slices, which take 1.5 s more to compile
            new[j] = state[j]
        made = m[out + i]
        for j in range(H):
            made[j] = gate[3 * H + j] * tanh(state[j])


@jit(parallel=False)
def _lstm_backward_step(gates, c, c0, gy, gh, gx, gc, start, n, lo, before, n_before, g_start, g_lo):
    """The gradient of the step's output is gh from row g_lo on, plus gy (where it has rows) from row g_start on."""
    T = gates.dtype.type
    H = c.shape[1]
    g = np.empty(H, gates.dtype)
    for row in range(n):
        gate, cell, out = gates[start + row], c[start + row], gx[start + row]
        previous = c[before + row] if row < n_before else c0[lo + row]
        given = gh[g_lo + row]
        for j in range(H):
            g[j] = given[j]
        if gy.size:
            more = gy[g_start + row]
            for j in range(H):
                g[j] += more[j]
        total = gc[lo + row]
        for j in range(H):
            t, o = tanh(cell[j]), gate[3 * H + j]
            total[j] += g[j] * o * (T(1) - t * t)
            out[3 * H + j] = g[j] * t * o * (T(1) - o)
        for j in range(H):
            i = gate[j]
            out[j] = total[j] * gate[2 * H + j] * i * (T(1) - i)
        for j in range(H):
            f = gate[H + j]
            out[H + j] = total[j] * previous[j] * f * (T(1) - f)
        for j in range(H):
            a = gate[2 * H + j]
            out[2 * H + j] = total[j] * gate[j] * (T(1) - a * a)
        for j in range(H):
            total[j] *= gate[H + j]


@jit(parallel=False)
def _gru_step(x, s, b, gates, y, h, start, n, lo):
    H = y.shape[1]
    for i in range(n):
        row, total, gate, state = x[start + i], s[i], gates[start + i], h[lo + i]
        if b.size:
            for j in range(3 * H):
                total[j] += b[j]
        for j in range(2 * H):
            gate[j] = sigmoid(row[j] + total[j])
        for j in range(H):
            gate[3 * H + j] = total[2 * H + j]
            gate[2 * H + j] = tanh(row[2 * H + j] + gate[j] * total[2 * H + j])
        for j in range(H):
            state[j] = gate[2 * H + j] + gate[H + j] * (state[j] - gate[2 * H + j])
        out = y[start + i]
        for j in range(H):
            out[j] = state[j]


@jit(parallel=False)
def _gru_backward_step(gates, y, h0, gy, gx, gs, gh, start, n, lo, before, n_before):
    """Leaves in gh what goes to the state past the gates."""
    T = gates.dtype.type
    H = y.shape[1]
    for i in range(n):
        gate, g, out, back = gates[start + i], gh[lo + i], gx[start + i], gs[start + i]
        previous = y[before + i] if i < n_before else h0[lo + i]
        if gy.size:
            more = gy[start + i]
            for j in range(H):
                g[j] += more[j]
        for j in range(H):
            z, a = gate[H + j], gate[2 * H + j]
            out[2 * H + j] = g[j] * (T(1) - z) * (T(1) - a * a)
            out[H + j] = g[j] * (previous[j] - a) * z * (T(1) - z)
            g[j] *= z
        for j in range(H):
            r = gate[j]
            out[j] = out[2 * H + j] * gate[3 * H + j] * r * (T(1) - r)
            back[2 * H + j] = out[2 * H + j] * r
        for j in range(2 * H):
            back[j] = out[j]
