"""RNN, LSTM and GRU over sequences, and their cells for one step."""
import math
import warnings

from kdl.errors import expect, expect_type
from kdl.nn import init
from kdl.nn.module import Module
from kdl.nn.parameter import new_parameter
from kdl.nn.utils.rnn import PackedSequence
from kdl.ops import recurrent

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]


class RNNBase(Module):
    """What RNN, LSTM and GRU share: parameters, first states, packed sequences.

    Layer l has weight_ih_l{l} (gates hidden_size, inputs), weight_hh_l{l}, bias_ih_l{l} and bias_hh_l{l}, with the
    ending _reverse those of the other direction, all uniform in +-1/sqrt(hidden_size) at first.
    """

    def __init__(self, mode, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0,
                 bidirectional=False, proj_size=0, device=None, dtype=None):
        super().__init__()
        name = type(self).__name__
        for fact, value in (("bias", bias), ("batch_first", batch_first)):
            expect_type(isinstance(value, bool), name, f"{fact} to be a bool", **{fact: repr(value)})
        for fact, value in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            expect_type(isinstance(value, int), name, f"{fact} to be an int", **{fact: repr(value)})
            expect(value > 0, name, f"{fact} > 0", **{fact: value})
        expect(not isinstance(dropout, bool) and 0 <= dropout <= 1, name, "dropout in [0, 1]", dropout=dropout)
        expect(0 <= proj_size < hidden_size, name, "proj_size smaller than hidden_size, or 0", proj_size=proj_size,
               hidden_size=hidden_size)
        if dropout > 0 and num_layers == 1:
            warnings.warn(f"{name}: dropout stands between layers, so {dropout} has no effect with one layer",
                          stacklevel=3)
        self.mode, self.input_size, self.hidden_size, self.num_layers = mode, input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        gates, out = _GATES[mode] * hidden_size, proj_size or hidden_size
        self._names = []
        for layer in range(num_layers):
            width = input_size if layer == 0 else out * (1 + bidirectional)
            for ending in ("", "_reverse")[:1 + bidirectional]:
                shapes = {"weight_ih": (gates, width), "weight_hh": (gates, out)}
                if bias:
                    shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                for stem, shape in shapes.items():
                    self._names.append(f"{stem}_l{layer}{ending}")
                    self.register_parameter(self._names[-1], new_parameter(*shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self):
        """Draw the parameters anew."""
        _reset(self)

    @property
    def all_weights(self):
        """The parameters, a list for each layer and direction."""
        each = len(self._names) // (self.num_layers * (1 + self.bidirectional))
        weights = [getattr(self, name) for name in self._names]
        return [weights[i:i + each] for i in range(0, len(weights), each)]

    def flatten_parameters(self):
        """Nothing: the parameters are used where they are."""

    def forward(self, input, hx=None):
        """The outputs, packed where input is, and the last states (with one for a sequence alone)."""
        name, packed = type(self).__name__, isinstance(input, PackedSequence)
        x, sizes, order, back = input if packed else (input, None, None, None)
        dims = (2,) if packed else (2, 3)
        expect(x.ndim in dims and x.shape[-1] == self.input_size, name,
               f"an input of {'2' if packed else '2 or 3'} dimensions, the last of input_size", input=x,
               input_size=self.input_size)
        lstm = self.mode == "lstm"
        if hx is None:
            batch = () if x.ndim == 2 and not packed else (
                int(sizes.array[0]) if packed else x.shape[0 if self.batch_first else 1],)
            places = self.num_layers * (1 + self.bidirectional)
            hx = [x.new_zeros(places, *batch, size)
                  for size in (self.proj_size or self.hidden_size, self.hidden_size)[:1 + lstm]]
        else:
            expect_type(not lstm or (isinstance(hx, (tuple, list)) and len(hx) == 2), name,
                        "hx to be a pair of tensors, h and c", hx=type(hx).__name__)
            hx = list(hx) if lstm else [hx]
            hx = [h if order is None else h.index_select(1, order) for h in hx]
        weights = [getattr(self, name) for name in self._names]
        y, *last = getattr(recurrent, self.mode)(
            x, hx if lstm else hx[0], weights, self.bias, self.num_layers, self.dropout, self.training,
            self.bidirectional, self.batch_first, sizes)
        if back is not None:
            last = [h.index_select(1, back) for h in last]
        return input._replace(data=y) if packed else y, tuple(last) if lstm else last[0]

    def extra_repr(self):
        parts = [f"{self.input_size}, {self.hidden_size}"]
        for name, usual in (("proj_size", 0), ("num_layers", 1), ("bias", True), ("batch_first", False),
                            ("dropout", 0), ("bidirectional", False)):
            if getattr(self, name) != usual:
                parts.append(f"{name}={getattr(self, name)}")
        return ", ".join(parts)


class RNN(RNNBase):
    """h' = tanh, or relu, of W_ih x + b_ih + W_hh h + b_hh, over sequences (T, N, I), (N, T, I) or (T, I).

    Returns the outputs of the last layer and the last states (layers directions, N, H). (Elman, 1990.)
    """

    def __init__(self, input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True, batch_first=False,
                 dropout=0.0, bidirectional=False, device=None, dtype=None):
        expect(nonlinearity in ("tanh", "relu"), "RNN", "nonlinearity 'tanh' or 'relu'", nonlinearity=nonlinearity)
        super().__init__(f"rnn_{nonlinearity}", input_size, hidden_size, num_layers, bias, batch_first, dropout,
                         bidirectional, 0, device, dtype)
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """RNN with a cell c that the gates i, f, g, o write, keep and read: c' = f c + i g, h' = o tanh(c').

    States are pairs (h, c). proj_size > 0 takes the outputs through weight_hr (proj_size, hidden_size). (Hochreiter and
    Schmidhuber, 1997.)
    """

    def __init__(self, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0,
                 bidirectional=False, proj_size=0, device=None, dtype=None):
        super().__init__("lstm", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
                         proj_size, device, dtype)


class GRU(RNNBase):
    """RNN with the gates r, z: n = tanh(W_in x + b_in + r (W_hn h + b_hn)), h' = (1 - z) n + z h. (Cho et al., 2014.)
    """

    def __init__(self, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0,
                 bidirectional=False, device=None, dtype=None):
        super().__init__("gru", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0,
                         device, dtype)


class _Cell(Module):

    def __init__(self, mode, input_size, hidden_size, bias, device, dtype):
        super().__init__()
        self.mode, self.input_size, self.hidden_size, self.bias = mode, input_size, hidden_size, bias
        gates = _GATES[self.mode] * hidden_size
        for name, shape in (("weight_ih", (gates, input_size)), ("weight_hh", (gates, hidden_size)),
                            ("bias_ih", (gates,)), ("bias_hh", (gates,))):
            self.register_parameter(name, new_parameter(*shape, device=device, dtype=dtype)
                                    if bias or not name.startswith("bias") else None)
        self.reset_parameters()

    def reset_parameters(self):
        """Draw the parameters anew."""
        _reset(self)

    def forward(self, input, hx=None):
        """The new state, from an input (N, I) or (I) and the state before, zeros unless given."""
        name, lstm = type(self).__name__, self.mode == "lstm"
        expect(input.ndim in (1, 2) and input.shape[-1] == self.input_size, name,
               "an input of 1 or 2 dimensions, the last of input_size", input=input, input_size=self.input_size)
        states = hx if lstm and hx is not None else (hx,) * (1 + lstm)
        if hx is None:
            states = [input.new_zeros(*input.shape[:-1], self.hidden_size)] * (1 + lstm)
        for h in states:
            if h.shape != (*input.shape[:-1], self.hidden_size):
                expect(False, name, "states (N, hidden_size), or without N", hx=h, input=input,
                       hidden_size=self.hidden_size)
        alone = input.ndim == 1
        if alone:
            input, states = input.unsqueeze(0), [h.unsqueeze(0) for h in states]
        cell = getattr(recurrent, f"{self.mode}_cell")
        new = cell(input, states if lstm else states[0], self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        if not lstm:
            return new.squeeze(0) if alone else new
        return tuple([h.squeeze(0) for h in new]) if alone else new

    def extra_repr(self):
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Cell):
    """One step of an RNN: h' = tanh, or relu, of W_ih x + b_ih + W_hh h + b_hh."""

    def __init__(self, input_size, hidden_size, bias=True, nonlinearity="tanh", device=None, dtype=None):
        expect(nonlinearity in ("tanh", "relu"), "RNNCell", "nonlinearity 'tanh' or 'relu'", nonlinearity=nonlinearity)
        super().__init__(f"rnn_{nonlinearity}", input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def extra_repr(self):
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}")


class LSTMCell(_Cell):
    """One step of an LSTM: (h', c') from an input and (h, c)."""

    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        super().__init__("lstm", input_size, hidden_size, bias, device, dtype)


class GRUCell(_Cell):
    """One step of a GRU."""

    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        super().__init__("gru", input_size, hidden_size, bias, device, dtype)


_GATES = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}


def _reset(module):
    bound = 1 / math.sqrt(module.hidden_size) if module.hidden_size > 0 else 0
    for parameter in module.parameters():
        init.uniform_(parameter, -bound, bound)
