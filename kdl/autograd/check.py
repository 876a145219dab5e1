"""gradcheck: recorded gradients against central differences."""
import numpy as np

from kdl import types
from kdl.autograd.mode import no_grad
from kdl.autograd.walk import grad
from kdl.tensor import Tensor


def gradcheck(func, inputs, eps=1e-6, atol=1e-5, rtol=1e-3, raise_exception=True):
    """Compare the recorded gradients of `func(*inputs)` with central differences, for every input that requires grad.

    |analytic - numeric| <= atol + rtol |numeric| must hold for every element of every Jacobian, with
    numeric = (f(x + eps) - f(x - eps)) / (2 eps). Inputs should be float64. Returns True; otherwise raises
    RuntimeError naming input, output and the largest difference, or returns False without `raise_exception`.
    """
    inputs = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    for i, x in enumerate(inputs):
        if isinstance(x, Tensor) and x.requires_grad and x.dtype != types.float64:
            raise ValueError(f"gradcheck: expected float64 inputs, got {x.dtype} for inputs[{i}]")

    def run():
        outputs = func(*inputs)
        outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        return [y for y in outputs if isinstance(y, Tensor) and y.is_floating_point()]

    for o, y in enumerate(run()):
        for i, x in enumerate(inputs):
            if not (isinstance(x, Tensor) and x.requires_grad):
                continue
            numeric = _numeric_jacobian(lambda o=o: run()[o], x, eps)
            analytic = np.zeros_like(numeric)
            for row in range(y.numel() if y.requires_grad else 0):
                gy = np.zeros(y.array.shape)
                gy.flat[row] = 1
                g, = grad(y, x, Tensor(gy), retain_graph=True, allow_unused=True)
                analytic[row] = 0 if g is None else g.array.ravel()
            bad = ~(np.abs(analytic - numeric) <= atol + rtol * np.abs(numeric))
            if bad.any():
                if not raise_exception:
                    return False
                row, column = np.argwhere(bad)[np.argmax(np.abs(analytic - numeric)[bad])]
                raise RuntimeError(f"gradcheck: d output[{o}].flat[{row}] / d inputs[{i}].flat[{column}]: recorded "
                                   f"{analytic[row, column]:.6g}, central difference {numeric[row, column]:.6g} "
                                   f"({bad.sum()} of {bad.size} elements differ)")
    return True


@no_grad
def _numeric_jacobian(run, x, eps):
    """d y.flat[row] / d x.flat[column] by central differences, moving x in place."""
    shape = x.array.shape
    columns = []
    for position in np.ndindex(shape):
        value = x.array[position]
        x.array[position] = value + eps
        above = run().array.astype(np.float64)  # a copy: it may be a view of x
        x.array[position] = value - eps
        below = run().array.astype(np.float64)
        x.array[position] = value
        columns.append(((above - below) / (2 * eps)).ravel())
    return np.stack(columns, 1) if columns else np.zeros((run().array.size, 0))
