"""Full backward hooks: how a module sees the gradients of one call's inputs and outputs."""
from kdl.autograd import Function
from kdl.tensor import Tensor


class _Gate(Function):
    """The identity over several tensors; in backward `ready` gets all their gradients and returns them, or others."""

    def __init__(self, ready):
        self.ready = ready

    def forward(self, *arrays):
        return tuple([array.view() for array in arrays])

    def backward(self, gy, wanted):
        return self.ready(gy if isinstance(gy, tuple) else (gy,))


class BackwardWatch:
    """Brings the gradients of one call's inputs and outputs to the module's full backward hooks."""

    def __init__(self, module):
        self.module = module
        self.hooks = [hook for hook, _ in module._hooks["backward"].values()]
        self.grad_output = None

    def enter(self, args):
        """The arguments, with those that require grad behind a gate."""
        self.n_inputs = len(args)
        args, self.inputs = _through_gate(args, self._inputs_ready)
        return args

    def leave(self, result):
        """The output, or tuple of outputs, behind a gate; anything else is not watched."""
        if not isinstance(result, (Tensor, tuple, list)):
            return result
        single = isinstance(result, Tensor)
        outputs, self.outputs = _through_gate((result,) if single else tuple(result), self._outputs_ready)
        self.n_outputs = len(outputs)
        return outputs[0] if single else outputs

    def _outputs_ready(self, grads):
        self.grad_output = _spread(grads, self.outputs, self.n_outputs)
        if not self.inputs:
            self._run_hooks((None,) * self.n_inputs)
        return grads

    def _inputs_ready(self, grads):
        if self.grad_output is None:
            return grads
        changed = self._run_hooks(_spread(grads, self.inputs, self.n_inputs))
        return tuple([None if changed[i] is None else changed[i].array for i in self.inputs])

    def _run_hooks(self, grad_input):
        for hook in self.hooks:
            changed = hook(self.module, grad_input, self.grad_output)
            if changed is None:
                continue
            changed = changed if isinstance(changed, tuple) else (changed,)
            if len(changed) != len(grad_input):
                raise RuntimeError(f"full backward hook of {type(self.module).__name__}: expected {len(grad_input)} "
                                   f"gradients, one per argument, got {len(changed)}")
            grad_input = changed
        return grad_input


def _through_gate(values, ready):
    """The values, those that require grad passed through one gate, and the positions of these."""
    positions = [i for i, x in enumerate(values) if isinstance(x, Tensor) and x.requires_grad]
    values = list(values)
    if positions:
        for i, x in zip(positions, _Gate(ready)(*[values[i] for i in positions]), strict=True):
            values[i] = x
    return tuple(values), positions


def _spread(grads, positions, n):
    """The gradients as tensors at their positions among n, None elsewhere."""
    spread = [None] * n
    for i, g in zip(positions, grads, strict=True):
        spread[i] = None if g is None else Tensor(g)
    return tuple(spread)
