"""Recurrent layers: a state h that every step of a sequence renews (Elman, 1990).

rnn    h' = tanh(a), or relu(a), with a = w_ih x + b_ih + w_hh h + b_hh
lstm   i, f, o = sigmoid and g = tanh of the four parts of a;  c' = f c + i g;  h' = o tanh(c'), through w_hr if given
       (Hochreiter and Schmidhuber, 1997; with the forget gate of Gers et al., 2000; projection: Sak et al., 2014)
gru    r, z = sigmoid of the first two parts of a;  n = tanh(w_in x + b_in + r (w_hn h + b_hn));  h' = (1 - z) n + z h
       (Cho et al., 2014)

What the input brings to all steps is one product; a kernel runs the steps, forward and backward, and gives the
gradients of a; those of w_ih and w_hh are one product each. With t = tanh(c') and gh, gc what comes to h' and c':
  rnn    ga = gh (1 - h'^2), or gh where h' > 0
  lstm   gc += gh o (1 - t^2);  ga = (gc g i (1 - i), gc c f (1 - f), gc i (1 - g^2), gh t o (1 - o));  on to c: gc f
  gru    gan = gh (1 - z) (1 - n^2);  gaz = gh (h - n) z (1 - z);  gar = gan (w_hn h + b_hn) r (1 - r);  on to h: gh z
and on to h besides: ga w_hh.

Shapes: input (T, N, I), or (N, T, I) with batch_first, or without N; states (layers directions, N, H), where h has P
for H with a projection. With `batch_sizes`, input is (rows, I) instead: the sequences of a batch, longest first, step
by step, without padding; step t has batch_sizes[t] rows. Parameters come as a list, for each layer and direction w_ih
(gates H, I), w_hh (gates H, H), b_ih and b_hh if has_biases, and w_hr (P, H) with a projection. A second layer reads
the outputs (of both directions) of the first, after dropout. All functions raise TypeError and ValueError.
"""
from itertools import pairwise

import numpy as np

from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.common import floating
from kdl.ops.dropout import dropout as drop
from kdl.ops.gemm import linear, product
from kdl.ops.join import cat, stack
from kdl.tensor import Tensor

__all__ = ["gru", "gru_cell", "lstm", "lstm_cell", "rnn_relu", "rnn_relu_cell", "rnn_tanh", "rnn_tanh_cell"]


def rnn_tanh(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first=False,
             batch_sizes=None):
    """The outputs of the last layer and the last states of all, for tanh; see above for shapes."""
    return _layers("rnn_tanh", input, (hx,), params, has_biases, num_layers, dropout, train, bidirectional, batch_first,
                   batch_sizes)


def rnn_relu(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first=False,
             batch_sizes=None):
    """`rnn_tanh` with relu in the place of tanh."""
    return _layers("rnn_relu", input, (hx,), params, has_biases, num_layers, dropout, train, bidirectional, batch_first,
                   batch_sizes)


def gru(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first=False, batch_sizes=None):
    """`rnn_tanh` with the gates of the GRU: reset, update, new."""
    return _layers("gru", input, (hx,), params, has_biases, num_layers, dropout, train, bidirectional, batch_first,
                   batch_sizes)


def lstm(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first=False, batch_sizes=None):
    """Outputs, last h and last c of an LSTM, whose gates are input, forget, cell, output; hx is (h, c)."""
    return _layers("lstm", input, tuple(hx), params, has_biases, num_layers, dropout, train, bidirectional, batch_first,
                   batch_sizes)


def rnn_tanh_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """One step: the new state (N, H) from input (N, I) and state (N, H)."""
    return _cell("rnn_tanh", input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


def rnn_relu_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """`rnn_tanh_cell` with relu in the place of tanh."""
    return _cell("rnn_relu", input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


def gru_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """`rnn_tanh_cell` of a GRU."""
    return _cell("gru", input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


def lstm_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """One step of an LSTM: the new (h, c) from input (N, I) and hx = (h, c), each (N, H)."""
    return _cell("lstm", input, tuple(hx), w_ih, w_hh, b_ih, b_hh)


# --- composition ---
def _layers(op, input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first, batch_sizes):
    directions, (_, states, _) = 1 + bool(bidirectional), _CELLS[op]
    floating(op, input=input, **{f"params[{i}]": p for i, p in enumerate(params)}, **_named(hx))
    each = len(params) // max(num_layers * directions, 1)
    expected = 4 if has_biases else 2
    expect(each * num_layers * directions == len(params) and each in (expected, expected + (op == "lstm")), op,
           f"{expected} parameters for each of {num_layers * directions} layers and directions", params=len(params))
    expect(len(hx) == states, op, f"{states} states", states=len(hx))
    packed, alone = batch_sizes is not None, batch_sizes is None and input.ndim == 2
    expect(input.ndim == 2 if packed else input.ndim in (2, 3), op,
           "an input of shape (rows, I)" if packed else "an input of two or three dimensions", input=input)
    if alone:
        input, hx = input.unsqueeze(0 if batch_first else 1), [h.unsqueeze(1) for h in hx]
    if batch_first and not packed:
        input = input.transpose(0, 1)
    if packed:
        sizes = _sizes(op, batch_sizes, input)
    else:
        expect(len(input) > 0, op, "a sequence of at least one step", input=input)
        sizes = (input.shape[1],) * len(input)
    for name, h in _named(hx).items():
        expect(h.ndim == 3 and h.shape[:2] == (num_layers * directions, sizes[0]), op,
               f"{name} of shape ({num_layers * directions}, {sizes[0]}, H): layers times directions, and the batch",
               **{name: h, "input": input})
    last = [[] for _ in hx]
    for layer in range(num_layers):
        outputs = []
        for direction in range(directions):
            place = layer * directions + direction
            own = params[place * each:(place + 1) * each]
            y, *state = _direction(op, input, [h[place] for h in hx], own, has_biases, sizes, direction == 1)
            outputs.append(y)
            for kept, h in zip(last, state, strict=True):
                kept.append(h)
        input = outputs[0] if directions == 1 else cat(outputs, -1)
        if dropout > 0 and layer < num_layers - 1:
            input = drop(input, dropout, bool(train))
    last = [stack(kept) if len(kept) > 1 else kept[0].unsqueeze(0) for kept in last]
    if batch_first and not packed:
        input = input.transpose(0, 1)
    if alone:
        input, last = input.squeeze(0 if batch_first else 1), [h.squeeze(1) for h in last]
    return input, *last


def _direction(op, input, states, params, has_biases, sizes, reverse):
    """Outputs and last states of one layer in one direction."""
    w_ih, w_hh = params[:2]
    b_ih, b_hh = params[2:4] if has_biases else (None, None)
    project = params[-1] if len(params) in (3, 5) else None
    gates, _, function = _CELLS[op]
    H = w_hh.shape[0] // gates
    P = H if project is None else project.shape[0]
    if w_ih.shape != (gates * H, input.shape[-1]) or w_hh.shape != (gates * H, P):
        expect(False, op, f"w_ih ({gates} H, I) and w_hh ({gates} H, {'H' if project is None else 'P'})", w_ih=w_ih,
               w_hh=w_hh, input=input)
    for name, b in (("b_ih", b_ih), ("b_hh", b_hh)):
        if b is not None and b.shape != (gates * H,):
            expect(False, op, f"{name} of length {gates * H}", **{name: b})
    for name, h, length in zip(("h", "c"), states, (P, H), strict=False):
        if h.shape[-1] != length:
            expect(False, op, f"{name}.shape[-1] == {length}", **{name: h})
    x = linear(input, w_ih, b_ih)
    return function(op, sizes, reverse)(x, w_hh, b_hh, *states, *(() if project is None else (project,)))


def _cell(op, input, states, w_ih, w_hh, b_ih, b_hh):
    floating(op + "_cell", input=input, **_named(states), w_ih=w_ih, w_hh=w_hh, b_ih=b_ih, b_hh=b_hh)
    expect(input.ndim == 2, op + "_cell", "an input of shape (N, I)", input=input)
    for name, h in _named(states).items():
        if h.ndim != 2 or len(h) != len(input):
            expect(False, op + "_cell", f"{name} of shape ({len(input)}, H)", **{name: h, "input": input})
    biases = (b_ih, b_hh) if b_ih is not None else ()
    expect((b_ih is None) == (b_hh is None), op + "_cell", "both b_ih and b_hh, or neither", b_ih=b_ih, b_hh=b_hh)
    _, *last = _direction(op, input, states, (w_ih, w_hh, *biases), b_ih is not None, (len(input),), False)
    return tuple(last)


def _named(states):
    return dict(zip(("h", "c"), states, strict=False))


def _sizes(op, batch_sizes, input):
    """The numbers of rows of the steps as a tuple of ints."""
    sizes = tuple(batch_sizes.tolist() if isinstance(batch_sizes, Tensor) else batch_sizes)
    expect_type(all(isinstance(n, int) for n in sizes), op, "batch_sizes to be ints", batch_sizes=sizes)
    expect(sizes and min(sizes) > 0 and all(a >= b for a, b in pairwise(sizes)) and sum(sizes) == len(input), op,
           "batch_sizes above 0 that never grow and add up to the rows", batch_sizes=sizes, input=input)
    return sizes


# --- Functions ---
class Recurrent(Function):
    """One layer in one direction: outputs and last states from x = w_ih input + b_ih, w_hh, b_hh and first states."""

    def __init__(self, op, sizes, reverse):
        self.op, self.sizes, self.reverse = op, sizes, reverse

    def rows(self, array):
        """(T, N, ...) as (rows, ...)."""
        array = self.k.xp.ascontiguousarray(array)
        return array if array.ndim == 2 else array.reshape(-1, array.shape[-1])

    def empties(self, x, *widths):
        """Arrays of so many columns and the rows of x, in its dtype."""
        return [self.k.empty((len(x), width), x.dtype) for width in widths]

    def dense(self, *arrays):
        """Contiguous, where they are given."""
        return [a if a is None else self.k.xp.ascontiguousarray(a) for a in arrays]

    def incoming(self, grads):
        """The gradients of outputs, as rows, and of last states."""
        gy, *states = grads
        return None if gy is None else self.rows(gy), *self.dense(*states)

    def parameter_gradients(self, gs, wanted):
        """Those of w_hh and b_hh, from that of what the state brings to the gates."""
        gw = gb = None
        if wanted[1]:
            gw = product(self.k, gs.T, self.before())
        if wanted[2]:
            gb = self.k.empty(gs.shape[1], gs.dtype)
            self.k.linear_backward_b(gs, gb)
        return gw, gb

    def before(self):
        """The state that each row's step began with."""
        xp, y, h0, sizes = self.k.xp, self.y, self.h0, self.sizes
        if sizes[0] == sizes[-1]:
            parts = (y[sizes[0]:], h0) if self.reverse else (h0, y[:len(y) - sizes[0]])
            return xp.concatenate(parts)
        starts = np.cumsum((0, *sizes[:-1])).tolist()
        steps = list(zip(starts, sizes, strict=True))
        result, known = xp.empty_like(y), h0.copy()
        for start, n in reversed(steps) if self.reverse else steps:
            result[start:start + n] = known[:n]
            known[:n] = y[start:start + n]
        return result


class RNN(Recurrent):
    def forward(self, x, w, b, h0):
        self.shape, rows = x.shape, self.rows(x)
        w, b, self.h0 = self.dense(w, b, h0)
        self.w, self.y, = w, self.empties(rows, w.shape[1])[0]
        hn = self.k.xp.empty_like(self.h0)
        self.k.rnn_forward(rows, w, b, self.h0, self.y, hn, self.sizes, self.reverse, self.op == "rnn_relu")
        return self.y.reshape(*x.shape[:-1], w.shape[1]), hn

    def backward(self, grads, wanted):
        gy, ghn = self.incoming(grads)
        gx, gh0 = self.k.xp.empty_like(self.y), self.k.xp.empty_like(self.h0)
        self.k.rnn_backward(self.y, self.w, gy, ghn, gx, gh0, self.sizes, self.reverse, self.op == "rnn_relu")
        return gx.reshape(self.shape), *self.parameter_gradients(gx, wanted), gh0


class GRU(Recurrent):
    def forward(self, x, w, b, h0):
        self.shape, rows, H = x.shape, self.rows(x), w.shape[1]
        w, b, self.h0 = self.dense(w, b, h0)
        self.w, (self.gates, self.y) = w, self.empties(rows, 4 * H, H)
        hn = self.k.xp.empty_like(self.h0)
        self.k.gru_forward(rows, w, b, self.h0, self.gates, self.y, hn, self.sizes, self.reverse)
        return self.y.reshape(*x.shape[:-1], H), hn

    def backward(self, grads, wanted):
        gy, ghn = self.incoming(grads)
        gx, gs = self.empties(self.y, *[3 * self.y.shape[1]] * 2)
        gh0 = self.k.xp.empty_like(self.h0)
        self.k.gru_backward(self.gates, self.y, self.h0, self.w, gy, ghn, gx, gs, gh0, self.sizes, self.reverse)
        return gx.reshape(self.shape), *self.parameter_gradients(gs, wanted), gh0


class LSTM(Recurrent):
    def forward(self, x, w, b, h0, c0, project=None):
        self.shape, rows, (H, P) = x.shape, self.rows(x), (w.shape[0] // 4, w.shape[1])
        w, b, self.h0, self.c0, self.project = self.dense(w, b, h0, c0, project)
        self.w, (self.gates, self.c, self.y) = w, self.empties(rows, 4 * H, H, P)
        hn, cn = self.k.xp.empty_like(self.h0), self.k.xp.empty_like(self.c0)
        self.k.lstm_forward(rows, w, b, self.h0, self.c0, self.project, self.gates, self.c, self.y, hn, cn, self.sizes,
                            self.reverse)
        return self.y.reshape(*x.shape[:-1], P), hn, cn

    def backward(self, grads, wanted):
        gy, ghn, gcn = self.incoming(grads)
        gx, gh0, gc0 = [self.k.xp.empty_like(a) for a in (self.gates, self.h0, self.c0)]
        gh = None if self.project is None else self.k.xp.empty_like(self.y)
        self.k.lstm_backward(self.gates, self.c, self.c0, self.w, self.project, gy, ghn, gcn, gx, gh, gh0, gc0,
                             self.sizes, self.reverse)
        gradients = gx.reshape(self.shape), *self.parameter_gradients(gx, wanted), gh0, gc0
        if self.project is None:
            return gradients
        made = self.gates[:, -self.c.shape[1]:] * self.k.xp.tanh(self.c)
        return *gradients, product(self.k, gh.T, made)


_CELLS = {"rnn_tanh": (1, 1, RNN), "rnn_relu": (1, 1, RNN), "gru": (3, 1, GRU), "lstm": (4, 2, LSTM)}
