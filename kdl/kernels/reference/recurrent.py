"""Recurrent layers over a sequence in NumPy: the maths of kdl/ops/recurrent.py, a step after the other.

Rows of all steps lie one after the other: step t has sizes[t] rows, the first of the batch, and sizes never grow. x is
what the input brings to the gates, its bias included; w and b multiply and shift the state. With `reverse` the steps
run from the last to the first.
"""
import numpy as np

from kdl.kernels.reference import wide

_quiet = np.errstate(invalid="ignore", over="ignore")  # NaN and infinity are values like any others


@_quiet
def rnn_forward(x, w, b, h0, y, hn, sizes, reverse, relu):
    """y (rows, H) is the state after each row, hn (N, H) the last of every sequence; b may be None."""
    h = wide(h0).copy()
    for rows, n in _steps(sizes, reverse):
        a = wide(x[rows]) + _product(h[:n], w, b)
        h[:n] = np.maximum(a, 0) if relu else np.tanh(a)
        y[rows] = h[:n]
    hn[...] = h


@_quiet
def rnn_backward(y, w, gy, ghn, gx, gh0, sizes, reverse, relu):
    """gy and ghn may be None, for zeros."""
    gh = _start(ghn, gh0)
    for rows, n in _steps(sizes, not reverse):
        total, h = gh[:n] + _rows(gy, rows), wide(y[rows])
        ga = total * (h > 0) if relu else total * (1 - h * h)
        gx[rows] = ga
        gh[:n] = ga @ wide(w)
    gh0[...] = gh


@_quiet
def lstm_forward(x, w, b, h0, c0, project, gates, c, y, hn, cn, sizes, reverse):
    """gates (rows, 4 H) are i, f, g, o after their activation, c (rows, H) the cell after each row.

    project (P, H) or None takes the H outputs of a step to P; y and the state are (rows, P) then.
    """
    H = c.shape[1]
    h, cell = wide(h0).copy(), wide(c0).copy()
    for rows, n in _steps(sizes, reverse):
        a = wide(x[rows]) + _product(h[:n], w, b)
        i, f, o = [_sigmoid(a[:, k * H:(k + 1) * H]) for k in (0, 1, 3)]
        g = np.tanh(a[:, 2 * H:3 * H])
        cell[:n] = f * cell[:n] + i * g
        m = o * np.tanh(cell[:n])
        h[:n] = m if project is None else m @ wide(project).T
        gates[rows], c[rows], y[rows] = np.concatenate([i, f, g, o], 1), cell[:n], h[:n]
    hn[...], cn[...] = h, cell


@_quiet
def lstm_backward(gates, c, c0, w, project, gy, ghn, gcn, gx, gh, gh0, gc0, sizes, reverse):
    """gh (rows, P) is the gradient of each row's output, what later steps send included, or None without project."""
    state, gc = _start(ghn, gh0), _start(gcn, gc0)
    previous = _previous(c, c0, sizes, reverse)
    for rows, n in _steps(sizes, not reverse):
        total = state[:n] + _rows(gy, rows)
        if project is not None:
            gh[rows] = total
            total = total @ wide(project)
        i, f, g, o = np.split(wide(gates[rows]), 4, 1)
        tanh_c = np.tanh(wide(c[rows]))
        total_c = gc[:n] + total * o * (1 - tanh_c * tanh_c)
        ga = np.concatenate([total_c * g * i * (1 - i), total_c * wide(previous[rows]) * f * (1 - f),
                             total_c * i * (1 - g * g), total * tanh_c * o * (1 - o)], 1)
        gx[rows] = ga
        state[:n], gc[:n] = ga @ wide(w), total_c * f
    gh0[...], gc0[...] = state, gc


@_quiet
def gru_forward(x, w, b, h0, gates, y, hn, sizes, reverse):
    """gates (rows, 4 H) are r, z, n after their activation, and what the state brings to n before r multiplies it."""
    H = y.shape[1]
    h = wide(h0).copy()
    for rows, n in _steps(sizes, reverse):
        a, s = wide(x[rows]), _product(h[:n], w, b)
        r, z = [_sigmoid(a[:, k * H:(k + 1) * H] + s[:, k * H:(k + 1) * H]) for k in (0, 1)]
        new = np.tanh(a[:, 2 * H:] + r * s[:, 2 * H:])
        h[:n] = new + z * (h[:n] - new)
        gates[rows], y[rows] = np.concatenate([r, z, new, s[:, 2 * H:]], 1), h[:n]
    hn[...] = h


@_quiet
def gru_backward(gates, y, h0, w, gy, ghn, gx, gs, gh0, sizes, reverse):
    """gx and gs (rows, 3 H) are the gradients of what input and state bring to the gates."""
    gh = _start(ghn, gh0)
    previous = _previous(y, h0, sizes, reverse)
    for rows, n in _steps(sizes, not reverse):
        total = gh[:n] + _rows(gy, rows)
        r, z, new, s = np.split(wide(gates[rows]), 4, 1)
        ga_n = total * (1 - z) * (1 - new * new)
        ga_z = total * (wide(previous[rows]) - new) * z * (1 - z)
        ga_r = ga_n * s * r * (1 - r)
        gx[rows], state = np.concatenate([ga_r, ga_z, ga_n], 1), np.concatenate([ga_r, ga_z, ga_n * r], 1)
        gs[rows] = state
        gh[:n] = total * z + state @ wide(w)
    gh0[...] = gh


def _steps(sizes, reverse):
    """The rows of every step, and how many they are."""
    ends = np.cumsum(sizes)
    steps = [(slice(end - n, end), n) for end, n in zip(ends, sizes, strict=True)]
    return reversed(steps) if reverse else steps


def _previous(values, first, sizes, reverse):
    """For every row, the values of the same sequence a step before, `first` (N, ...) where there is none."""
    state, previous = first.copy(), np.empty_like(values)
    for rows, n in _steps(sizes, reverse):
        previous[rows] = state[:n]
        state[:n] = values[rows]
    return previous


def _product(h, w, b):
    return h @ wide(w).T + (0 if b is None else wide(b))


def _start(gradient, like):
    return np.zeros(like.shape, wide(like).dtype) if gradient is None else wide(gradient).copy()


def _rows(gy, rows):
    return 0 if gy is None else wide(gy[rows])


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))
