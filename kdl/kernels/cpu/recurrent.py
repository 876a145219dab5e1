"""Recurrent layers over a sequence on the CPU; the maths stands in kdl/ops/recurrent.py, the layout in the reference.

A step is one product and loops that do all the rest of it. Sequences do not meet, so a large batch is cut into parts,
which run the whole sequence side by side; the cut does not depend on the number of threads. Every step multiplies by
the same matrix, which BLAS would rearrange each time: for float32 it is rearranged once, into panels, and all steps are
one compiled loop. Otherwise BLAS multiplies, and the same loop is called for one step at a time.
"""
from itertools import accumulate

import numpy as np

from kdl.kernels.cpu.blas import _parts, _share
from kdl.kernels.cpu.launch import jit, widened
from kdl.kernels.cpu.math import sigmoid, tanh
from kdl.kernels.cpu.tiles import ROWS, WIDTH, strip_kernel

_ROWS = 32  # sequences of a part at least: fewer make the products slow
_FEW = 6    # sequences or steps below which tiles do not pay: most rows for nothing, or panels laid out for little
_TILE = min(ROWS, 8)  # rows: a batch is a multiple of 8 more often than of the usual 12

_strip = strip_kernel(_TILE)


# --- kernels ---
@widened("y", "hn")
def rnn_forward(x, w, b, h0, y, hn, sizes, reverse, relu):
    hn[...] = h0
    s = np.empty((len(h0), len(w)), x.dtype)
    _forward(_rnn_steps, (x, s, y, hn, relu), hn, w, b, s, sizes, reverse)


@widened("gx", "gh0")
def rnn_backward(y, w, gy, ghn, gx, gh0, sizes, reverse, relu):
    """gy and ghn may be None, for zeros."""
    gh0[...] = 0 if ghn is None else ghn
    _backward(_rnn_backward_steps, (y, _or_no_rows(gy, y), gx, gh0, relu), gx, w, gh0, sizes, reverse)


@widened("gates", "c", "y", "hn", "cn")
def lstm_forward(x, w, b, h0, c0, project, gates, c, y, hn, cn, sizes, reverse):
    """project may be None, and so may b."""
    hn[...], cn[...] = h0, c0
    s = np.empty((len(h0), len(w)), x.dtype)
    parts = _by_gate(4, x, s, gates)
    if project is None:
        _forward(_lstm_steps, (*parts, c, y, hn, cn), hn, w, b, s, sizes, reverse)
        return
    made, last = np.empty_like(c), np.empty_like(cn)

    def after(start, n, lo):
        np.matmul(made[start:start + n], project.T, out=y[start:start + n])
        hn[lo:lo + n] = y[start:start + n]
    _forward(_lstm_steps, (*parts, c, made, last, cn), hn, w, b, s, sizes, reverse, after)


@widened("gx", "gh", "gh0", "gc0")
def lstm_backward(gates, c, c0, w, project, gy, ghn, gcn, gx, gh, gh0, gc0, sizes, reverse):
    """gy, ghn and gcn may be None, for zeros; gh is None without project."""
    gh0[...] = 0 if ghn is None else ghn
    gc0[...] = 0 if gcn is None else gcn
    gates, by_gate = _by_gate(4, gates, gx)
    if project is None:
        arrays = gates, c, c0, _or_no_rows(gy, gx), by_gate, gh0, gc0
        _backward(_lstm_backward_steps, arrays, gx, w, gh0, sizes, reverse)
        return
    total = np.empty_like(c0)

    def before(start, n, lo):
        rows = gh[start:start + n]
        rows[...] = gh0[lo:lo + n] if gy is None else gh0[lo:lo + n] + gy[start:start + n]
        np.matmul(rows, project, out=total[lo:lo + n])
        gh0[lo:lo + n] = 0
    arrays = gates, c, c0, _or_no_rows(None, gx), by_gate, total, gc0
    _backward(_lstm_backward_steps, arrays, gx, w, gh0, sizes, reverse, before)


@widened("gates", "y", "hn")
def gru_forward(x, w, b, h0, gates, y, hn, sizes, reverse):
    """b may be None."""
    hn[...] = h0
    s = np.empty((len(h0), len(w)), x.dtype)
    _forward(_gru_steps, (*_by_gate(3, x, s), *_by_gate(4, gates), y, hn), hn, w, b, s, sizes, reverse)


@widened("gx", "gs", "gh0")
def gru_backward(gates, y, h0, w, gy, ghn, gx, gs, gh0, sizes, reverse):
    """gy and ghn may be None, for zeros."""
    gh0[...] = 0 if ghn is None else ghn
    arrays = *_by_gate(4, gates), y, h0, _or_no_rows(gy, y), *_by_gate(3, gx, gs), gh0
    _backward(_gru_backward_steps, arrays, gs, w, gh0, sizes, reverse)


# --- launch ---
def _forward(loop, arrays, h, w, b, s, sizes, reverse, after=None):
    """Before each step s = h w' + b; `after` is called as after(start, n, lo), and then BLAS multiplies."""
    w = w.T
    panels, bias = _panels(w, b, len(h), len(sizes)) if after is None else (None, None)

    def run(steps):
        if panels is not None:
            loop(steps, panels, bias, *arrays)
            return
        for step, (start, n, lo, _, _) in enumerate(steps.tolist()):
            rows = s[lo:lo + n]
            np.matmul(h[lo:lo + n], w, out=rows)
            if b is not None:
                rows += b
            loop(steps[step:step + 1], None, None, *arrays)
            if after is not None:
                after(start, n, lo)
    _run(run, len(h), sizes, reverse, w.size)


def _backward(loop, arrays, gs, w, gh, sizes, reverse, before=None):
    """After each step, the last first, gh += gs w; `before` is called as before(start, n, lo)."""
    panels, bias = _panels(w, None, len(gh), len(sizes)) if before is None else (None, None)

    def run(steps):
        if panels is not None:
            loop(steps, panels, bias, *arrays)
            return
        for step, (start, n, lo, _, _) in reversed(list(enumerate(steps.tolist()))):
            if before is not None:
                before(start, n, lo)
            loop(steps[step:step + 1], None, None, *arrays)
            gh[lo:lo + n] += gs[start:start + n] @ w
    _run(run, len(gh), sizes, reverse, w.size)


def _run(function, batch, sizes, reverse, weights):
    """Call function(steps) for parts of the batch.

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
        function(np.array(steps, np.int64))
    _share(work, _parts(batch, max(1, min(16, batch // _ROWS))), sum(sizes) * weights)


def _panels(w, b, batch, steps):
    """A matrix in panels of the tile's width and its bias in full panels; None twice where BLAS is to multiply."""
    if w.dtype != np.float32 or batch < _FEW or steps < _FEW:
        return None, None
    depth, columns = w.shape
    panels = np.zeros((-(-columns // WIDTH), depth, WIDTH), np.float32)
    for panel, first in zip(panels, range(0, columns, WIDTH), strict=True):
        part = w[:, first:first + WIDTH]
        panel[:, :part.shape[1]] = part
    bias = np.zeros(len(panels) * WIDTH, np.float32)
    bias[:columns] = 0 if b is None else b
    return panels, bias


def _or_no_rows(gy, like):
    return np.empty((0, 0), like.dtype) if gy is None else gy


def _by_gate(gates, *arrays):
    """Each row's gates as rows of their own: with sums of indices instead, the loops over them would be slow."""
    return [a.reshape(len(a), gates, a.shape[1] // gates) for a in arrays]


@jit(parallel=False)
def _multiply(a, row, panels, bias, y, at, n, add):
    """n rows of y, from `at` on, become those of a, from `row` on, times the matrix, plus bias; or that is added."""
    depth, columns = panels.shape[1], y.size // len(y)
    nothing = np.zeros(1, np.int64)
    starts, places = np.zeros((2, -(-n // _TILE) * _TILE), np.int64)
    for i in range(n):
        starts[i], places[i] = i * depth, i * columns
    for panel in range(len(panels)):
        _strip(a, row * depth, starts, nothing, 1, panels, panel * depth * WIDTH, nothing, WIDTH, 1, depth, y,
               at * columns + panel * WIDTH, places, 0, n, columns - panel * WIDTH, bias, panel * WIDTH, add)


# --- loops over steps: n rows from `start` on, of the sequences from `lo` on ---
# A number is read by its full index: to take rows out first would count references, which takes as long as the maths.
@jit(parallel=False)
def _rnn_steps(steps, panels, bias, x, s, y, h, relu):
    T = x.dtype.type
    for step in range(len(steps)):
        start, n, lo = steps[step, 0], steps[step, 1], steps[step, 2]
        if panels is not None:
            _multiply(h, lo, panels, bias, s, lo, n, False)
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


@jit(parallel=False)
def _rnn_backward_steps(steps, panels, bias, y, gy, gx, gh, relu):
    T = y.dtype.type
    for step in range(len(steps) - 1, -1, -1):
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
        if panels is not None:
            _multiply(gx, start, panels, bias, gh, lo, n, True)


@jit(parallel=False)
def _lstm_steps(steps, panels, bias, x, s, gates, c, y, h, state):
    for step in range(len(steps)):
        start, n, lo = steps[step, 0], steps[step, 1], steps[step, 2]
        if panels is not None:
            _multiply(h, lo, panels, bias, s, lo, n, False)
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
                y[row, j] = gates[row, 3, j] * tanh(new)
            for j in range(c.shape[1]):
                h[own, j] = y[row, j]


@jit(parallel=False)
def _lstm_backward_steps(steps, panels, bias, gates, c, c0, gy, gx, gh, gc):
    T = gates.dtype.type
    for step in range(len(steps) - 1, -1, -1):
        start, n, lo = steps[step, 0], steps[step, 1], steps[step, 2]
        before, n_before = steps[step, 3], steps[step, 4]
        for i in range(n):
            row, own = start + i, lo + i
            if gy.size:
                for j in range(c.shape[1]):
                    gh[own, j] += gy[row, j]
            for j in range(c.shape[1]):
                g, t, o = gh[own, j], tanh(c[row, j]), gates[row, 3, j]
                gc[own, j] += g * o * (T(1) - t * t)
                gx[row, 3, j] = g * t * o * (T(1) - o)
                gh[own, j] = T(0)
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
        if panels is not None:
            _multiply(gx, start, panels, bias, gh, lo, n, True)


@jit(parallel=False)
def _gru_steps(steps, panels, bias, x, s, gates, y, h):
    for step in range(len(steps)):
        start, n, lo = steps[step, 0], steps[step, 1], steps[step, 2]
        if panels is not None:
            _multiply(h, lo, panels, bias, s, lo, n, False)
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


@jit(parallel=False)
def _gru_backward_steps(steps, panels, bias, gates, y, h0, gy, gx, gs, gh):
    T = gates.dtype.type
    for step in range(len(steps) - 1, -1, -1):
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
        if panels is not None:
            _multiply(gs, start, panels, bias, gh, lo, n, True)
