"""Recurrent layers: FLOPs are those of the two products of every step, two for each weight and sequence,
and as many again for each gradient."""
from benchmarks.harness import bench
from tests.optable import normal, uniform


def _parameters(gates, inputs, hidden):
    """Weights and biases of the usual size: with larger ones the steps would magnify every rounding."""
    bound = hidden**-0.5
    return [uniform(-bound, bound, *shape) for shape in
            ((gates * hidden, inputs), (gates * hidden, hidden), (gates * hidden,), (gates * hidden,))]


for _steps, _batch, _inputs, _hidden in ((32, 64, 64, 64), (64, 32, 128, 256)):
    for _name, _gates in (("rnn_tanh", 1), ("gru", 3), ("lstm", 4)):
        _state = normal(1, _batch, _hidden)
        bench(_name, normal(_steps, _batch, _inputs), [_state, _state] if _name == "lstm" else _state,
              _parameters(_gates, _inputs, _hidden), True, 1, 0.0, True, False, False,
              flops=2 * _steps * _batch * _gates * _hidden * (_inputs + _hidden),
              backward_flops=4 * _steps * _batch * _gates * _hidden * (_inputs + _hidden),
              bytes=4 * _steps * _batch * (_inputs + _hidden), backward_bytes=8 * _steps * _batch * (_inputs + _hidden))
