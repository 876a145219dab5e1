"""How a module is called, and what hooks see of it: the call, its result, the gradients of its inputs and outputs."""
import warnings
from collections import OrderedDict
from typing import NamedTuple

from kdl.autograd import Function, is_grad_enabled
from kdl.tensor import Handle, Tensor

_everywhere = OrderedDict()  # the hooks of all modules


class Hook(NamedTuple):
    """A hook as the tables hold it; `kind` says when it is called."""
    kind: str
    call: object
    with_kwargs: bool = False
    always_call: bool = False


class Hooked:
    """What Module has of hooks: they stand in `_hooks` in the order of their calls, None before there is one."""

    def __call__(self, *args, **kwargs):
        try:
            if not (self._hooks or _everywhere):
                return self.forward(*args, **kwargs)
            return self._call_with_hooks(args, kwargs)
        except Exception as error:
            _say_where(self, error)
            raise

    def register_forward_pre_hook(self, hook, *, prepend=False, with_kwargs=False):
        """Call `hook(module, args)` before forward; what it returns replaces the arguments. Returns a handle.

        With `with_kwargs`: `hook(module, args, kwargs)`, which returns a pair.
        """
        return self._add_hook(Hook("before", hook, with_kwargs), prepend)

    def register_forward_hook(self, hook, *, prepend=False, with_kwargs=False, always_call=False):
        """Call `hook(module, args, output)` after forward; what it returns replaces the output. Returns a handle.

        With `with_kwargs`: `hook(module, args, kwargs, output)`. With `always_call` also where forward or another hook
        raised an error.
        """
        return self._add_hook(Hook("after", hook, with_kwargs, always_call), prepend)

    def register_full_backward_pre_hook(self, hook, prepend=False):
        """Call `hook(module, grad_output)` when the gradients of the outputs are known.

        They are a tuple; what it returns replaces them. Returns a handle.
        """
        return self._add_hook(Hook("backward before", hook), prepend)

    def register_full_backward_hook(self, hook, prepend=False):
        """Call `hook(module, grad_input, grad_output)` when the gradients of the inputs are known.

        Both are tuples, with None for inputs that want no gradient; what it returns replaces `grad_input`. Inputs and
        outputs that are tensors count, positional ones only. Returns a handle.
        """
        return self._add_hook(Hook("backward", hook), prepend)

    def _add_hook(self, hook, prepend):
        if self._hooks is None:
            self._hooks = OrderedDict()
        handle = Handle(self._hooks, hook)
        if prepend:
            self._hooks.move_to_end(handle.key, last=False)
        return handle

    def _hooks_of(self, kind):
        """The hooks of a kind, those of all modules first."""
        return [hook for hooks in (_everywhere, self._hooks or {}) for hook in hooks.values() if hook.kind == kind]

    def _call_with_hooks(self, args, kwargs):
        result = waiting = None
        try:
            for hook in self._hooks_of("before"):
                args, kwargs = _changed_arguments(self, hook, args, kwargs)
            watch = None
            backward = self._hooks_of("backward before"), self._hooks_of("backward")
            if any(backward) and is_grad_enabled():
                watch = BackwardWatch(self, *backward)
                args = watch.enter(args)
            result = self.forward(*args, **kwargs)
            waiting = self._hooks_of("after")
            while waiting:
                changed = _seen(self, waiting.pop(0), args, kwargs, result)
                result = result if changed is None else changed
            return result if watch is None else watch.leave(result)
        except Exception:
            for hook in self._hooks_of("after") if waiting is None else waiting:
                if hook.always_call:
                    try:
                        _seen(self, hook, args, kwargs, result)
                    except Exception as error:
                        warnings.warn("a forward hook with always_call=True raised an error after another one: "
                                      f"{error}", stacklevel=3)
            raise


def _changed_arguments(module, hook, args, kwargs):
    """The arguments after a hook that comes before forward."""
    changed = hook.call(module, args, kwargs) if hook.with_kwargs else hook.call(module, args)
    if changed is None:
        return args, kwargs
    if not hook.with_kwargs:
        return changed if isinstance(changed, tuple) else (changed,), kwargs
    if not isinstance(changed, tuple) or len(changed) != 2:
        raise RuntimeError(f"forward pre hook of {type(module).__name__}: expected None or a pair (args, kwargs), got "
                           f"{changed!r:.60}")
    return changed


def _seen(module, hook, args, kwargs, result):
    return hook.call(module, args, kwargs, result) if hook.with_kwargs else hook.call(module, args, result)


def is_watched(module):
    """Whether a call of the module runs hooks."""
    return bool(module._hooks or _everywhere)


# --- hooks of all modules ---
def register_module_forward_pre_hook(hook):
    """`Module.register_forward_pre_hook` of every module there is and will be, before its own; returns a handle."""
    return Handle(_everywhere, Hook("before", hook))


def register_module_forward_hook(hook, *, with_kwargs=False, always_call=False):
    """`Module.register_forward_hook` of every module there is and will be, before its own; returns a handle."""
    return Handle(_everywhere, Hook("after", hook, with_kwargs, always_call))


def register_module_full_backward_pre_hook(hook):
    """`Module.register_full_backward_pre_hook` of every module there is and will be, before its own."""
    return Handle(_everywhere, Hook("backward before", hook))


def register_module_full_backward_hook(hook):
    """`Module.register_full_backward_hook` of every module there is and will be, before its own; returns a handle."""
    return Handle(_everywhere, Hook("backward", hook))


# --- gradients ---
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

    def __init__(self, module, pre_hooks, hooks):
        self.module, self.pre_hooks, self.hooks = module, pre_hooks, hooks
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
        grads = _spread(grads, self.outputs, self.n_outputs)
        for hook in self.pre_hooks:
            grads = self._replaced(hook, grads, hook.call(self.module, grads))
        self.grad_output = grads
        if not self.inputs:
            self._run_hooks((None,) * self.n_inputs)
        return _gathered(grads, self.outputs)

    def _inputs_ready(self, grads):
        if self.grad_output is None:
            return grads
        return _gathered(self._run_hooks(_spread(grads, self.inputs, self.n_inputs)), self.inputs)

    def _run_hooks(self, grad_input):
        for hook in self.hooks:
            grad_input = self._replaced(hook, grad_input, hook.call(self.module, grad_input, self.grad_output))
        return grad_input

    def _replaced(self, hook, grads, changed):
        """The gradients, or those that a hook returned instead. Raises RuntimeError for another number."""
        if changed is None:
            return grads
        changed = changed if isinstance(changed, tuple) else (changed,)
        if len(changed) != len(grads):
            what, of = ("pre hook", "output") if hook.kind == "backward before" else ("hook", "argument")
            raise RuntimeError(f"full backward {what} of {type(self.module).__name__}: expected {len(grads)} "
                               f"gradients, one per {of}, got {len(changed)}")
        return changed


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


def _gathered(grads, positions):
    """The arrays of the gradients at the positions."""
    return tuple([None if grads[i] is None else grads[i].array for i in positions])


# --- errors ---
def _say_where(module, error):
    """Keep a note on the error that names the innermost module that raised it, by its path from `module`."""
    if not hasattr(error, "_raised_in"):
        error.add_note(f"in {type(module).__name__}")
        error._raised_in = module, len(error.__notes__) - 1
    raised_in, note = error._raised_in
    path = next((path for path, candidate in module.named_modules() if candidate is raised_in), "")
    if path:
        error.__notes__[note] = f"in layer {path!r} of {type(module).__name__} ({type(raised_in).__name__})"
