from tests.optable import case, normal, op


def parameters(gates, inputs, H, layers=1, directions=1, biases=True, P=None):
    """The list of parameters, as torch orders it."""
    out, result = P or H, []
    for layer in range(layers):
        for _ in range(directions):
            width = inputs if layer == 0 else directions * out
            result += [normal(gates * H, width), normal(gates * H, out)]
            result += [normal(gates * H), normal(gates * H)] if biases else []
            result += [normal(P, H)] if P else []
    return result


for _name, _gates in (("rnn_tanh", 1), ("rnn_relu", 1), ("gru", 3)):
    op(_name, case(normal(3, 2, 3), normal(1, 2, 4), parameters(_gates, 3, 4), True, 1, 0.0, True, False, False),
       case(normal(2, 3, 2), normal(4, 2, 2), parameters(_gates, 2, 2, 2, 2), True, 2, 0.0, False, True, True),
       case(normal(1, 1, 2), normal(2, 1, 1), parameters(_gates, 2, 1, 2, biases=False), False, 2, 0.0, True, False,
            False))
    op(f"{_name}_cell", case(normal(2, 3), normal(2, 4), *parameters(_gates, 3, 4)),
       case(normal(1, 3), normal(1, 4), *parameters(_gates, 3, 4, biases=False)))
op("lstm", case(normal(3, 2, 3), [normal(1, 2, 4), normal(1, 2, 4)], parameters(4, 3, 4), True, 1, 0.0, True, False,
                False),
   case(normal(2, 3, 2), [normal(4, 2, 2), normal(4, 2, 2)], parameters(4, 2, 2, 2, 2), True, 2, 0.0, False, True,
        True),
   case(normal(3, 2, 2), [normal(2, 2, 2), normal(2, 2, 3)], parameters(4, 2, 3, directions=2, P=2), True, 1, 0.0,
        True, True, False),
   case(normal(1, 1, 2), [normal(2, 1, 1)] * 2, parameters(4, 2, 1, 2, biases=False), False, 2, 0.0, True, False,
        False))
op("lstm_cell", case(normal(2, 3), [normal(2, 4), normal(2, 4)], *parameters(4, 3, 4)),
   case(normal(1, 3), [normal(1, 4), normal(1, 4)], *parameters(4, 3, 4, biases=False)))
