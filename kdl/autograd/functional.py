"""Derivatives of functions as matrices and products with them: jacobian, vjp."""
import numpy as np

from kdl.autograd.mode import enable_grad
from kdl.autograd.walk import grad
from kdl.errors import expect
from kdl.tensor import Tensor, array_module

__all__ = ["jacobian", "vjp"]


def jacobian(func, inputs, create_graph=False, strict=False, vectorize=False, strategy="reverse-mode"):
    """d func(*inputs) / d inputs: for an output and an input the tensor (*output shape, *input shape).

    A tensor for one of each, a tuple over the outputs or inputs that are tuples. One backward pass is made for every
    element of the outputs. With `strict` an output that does not depend on an input is refused, and is 0 otherwise.
    `vectorize` changes nothing. Raises ValueError, RuntimeError.
    """
    expect(not create_graph and strategy == "reverse-mode", "jacobian", "create_graph=False and reverse-mode",
           create_graph=create_graph, strategy=strategy)
    outputs, leaves, several_outputs, several_inputs = _recorded("jacobian", func, inputs)
    rows = []
    for y in outputs:
        columns = [[] for _ in leaves]
        for i in range(y.numel()):
            unit = array_module(y.array).zeros(y.numel(), y.dtype)
            unit[i] = 1
            for column, g in zip(columns, _gradients("jacobian", y, leaves, Tensor(unit.reshape(y.shape)), strict),
                                 strict=True):
                column.append(g.array)
        rows.append([Tensor(array_module(x.array).stack(column).reshape(*y.shape, *x.shape)) if column
                     else x.detach().new_zeros(*y.shape, *x.shape) for column, x in zip(columns, leaves, strict=True)])
    rows = [tuple(row) if several_inputs else row[0] for row in rows]
    return tuple(rows) if several_outputs else rows[0]


def vjp(func, inputs, v=None, create_graph=False, strict=False):
    """(func(*inputs), v' times its jacobian): v has the shape of the output, and may be left out for one element.

    Raises ValueError, RuntimeError.
    """
    expect(not create_graph, "vjp", "create_graph=False", create_graph=create_graph)
    outputs, leaves, several_outputs, several_inputs = _recorded("vjp", func, inputs)
    given = [None] * len(outputs) if v is None else list(v) if isinstance(v, (tuple, list)) else [v]
    expect(len(given) == len(outputs), "vjp", "one v for every output", outputs=len(outputs), given=len(given))
    total = [x.detach().new_zeros(x.shape) for x in leaves]
    for y, w in zip(outputs, given, strict=True):
        expect(w is not None or y.numel() == 1, "vjp", "v for an output of more than one element", output=y)
        w = Tensor(np.ones(y.shape, y.dtype)).to(y.device) if w is None else w
        total = [t + g for t, g in zip(total, _gradients("vjp", y, leaves, w, strict), strict=True)]
    outputs = tuple([y.detach() for y in outputs])
    return outputs if several_outputs else outputs[0], tuple(total) if several_inputs else total[0]


def _recorded(op, func, inputs):
    """The outputs of func as a list, the leaves they were computed from, and whether there are several of each."""
    several = isinstance(inputs, (tuple, list))
    leaves = [x.detach().clone().requires_grad_() for x in (inputs if several else [inputs])]
    with enable_grad():
        outputs = func(*leaves)
    more = isinstance(outputs, (tuple, list))
    outputs = list(outputs) if more else [outputs]
    expect(all(isinstance(y, Tensor) for y in outputs), op, "a function that returns tensors",
           outputs=[type(y).__name__ for y in outputs])
    return outputs, leaves, more, several


def _gradients(op, y, leaves, v, strict):
    grads = grad(y, leaves, v, retain_graph=True, allow_unused=True) if y.requires_grad else [None] * len(leaves)
    if strict and any(g is None for g in grads):
        raise RuntimeError(f"{op}: an output does not depend on an input, which strict=True refuses")
    return [x.detach().new_zeros(x.shape) if g is None else g for g, x in zip(grads, leaves, strict=True)]
