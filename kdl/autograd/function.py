"""Function: an operation, and the tape node it becomes when it is recorded.

A node keeps what its backward needs as plain attributes, and `edges` to where its inputs came from. Nodes are numbered
as they are made, so that walking from the highest number down visits every node after all of its users.
"""
import itertools
import weakref

import numpy as np
from numpy import ndarray

from kdl import kernels
from kdl.autograd.autocast import active, cast_inputs
from kdl.autograd.mode import current, no_grad
from kdl.autograd.quiet import IGNORED, reset_errors, set_errors
from kdl.kernels import of_host
from kdl.tensor import Handle, Tensor
from kdl.types import FLOATS

_numbers = itertools.count(1)
_PLAIN = frozenset((int, float, bool, type(None)))


class Function:
    """One recorded operation: `forward(*arrays)` computes, `backward(gy, wanted)` gives the inputs' gradients.

    Calling an instance with tensors (and plain values, which pass through) runs `forward` on their arrays. Whatever
    forward assigns to `self` is saved for backward. Backward gets the gradient of the output (where forward returned
    a tuple: a tuple, None standing for outputs without one) and `wanted`, one bool per input; it returns one array,
    or a tuple with an array or None per input. What it returns is fresh, a view, or gy itself: the tape copies where
    it would alias. Both run without NumPy's warnings. `self.k` is the kernel namespace of the inputs,
    `needs_input_grad` is known before forward.
    """
    __slots__ = ("__dict__", "edges", "k", "n_outputs", "needs_input_grad", "number", "returns_tuple", "taps",
                 "versions")

    def __call__(self, *inputs):
        if active:
            inputs = cast_inputs(self, inputs)
        arrays, needs, host = [], [], True
        for x in inputs:
            if isinstance(x, Tensor):
                array = x.array
                if type(array) is not ndarray:
                    host = False
                arrays.append(array)
                needs.append(x._requires_grad)
            else:
                if type(x) not in _PLAIN:
                    host = False
                arrays.append(x)
                needs.append(False)
        self.k = of_host() if host else kernels.of(*arrays)
        recorded = True in needs and current.enabled
        self.needs_input_grad = tuple(needs) if recorded else (False,) * len(needs)
        before = set_errors(IGNORED)
        try:
            result = self.forward(*arrays)
        finally:
            reset_errors(before)
        if type(result) is tuple:
            self.returns_tuple = True
            outputs = tuple([_wrap(array, inputs) for array in result])
            if recorded:
                self._record(inputs, outputs)
            return outputs
        self.returns_tuple = False
        y = _wrap(result, inputs)
        if recorded:
            self._record(inputs, (y,))
        return y

    def forward(self, *arrays):
        raise NotImplementedError

    def backward(self, gy, wanted):
        raise NotImplementedError

    def _record(self, inputs, outputs):
        """Link this node to the nodes and leaves before it, and its floating-point outputs to it."""
        self.number = next(_numbers)
        self.taps = None
        self.n_outputs = len(outputs)
        self.edges, self.versions = edges, versions = [], []
        for x in inputs:
            if isinstance(x, Tensor):
                version, node = x.version, x.grad_fn
                versions.append((version, version[0], id(x.array)))
                edges.append((node, x.output_index) if node is not None else x if x._requires_grad else None)
            else:
                edges.append(None)
        for index, y in enumerate(outputs):
            version, array = y.version, y.array
            versions.append((version, version[0], id(array)))
            if array.dtype in FLOATS:
                y._requires_grad, y.grad_fn, y.output_index = True, self, index

    def run_backward(self, grads, wanted, retain_graph):
        """Check that what was saved is still there and unchanged, call backward, and free what was saved."""
        if self.versions is None:
            raise RuntimeError("backward: the recorded computation was already freed; "
                               "pass retain_graph=True to the first backward to walk it again")
        for version, then, array_id in self.versions:
            if version[0] != then and self._saved(array_id):
                raise RuntimeError(f"backward: a tensor saved by {type(self).__name__} was changed in place after it "
                                   "was used; clone it before changing it")
        gx = self.backward(tuple(grads) if self.returns_tuple else grads[0], wanted)
        if not retain_graph:
            self.__dict__.clear()
            self.versions = None
        return gx if type(gx) is tuple else (gx,)

    def _saved(self, array_id):
        """Whether the array, or a view of it, is among the attributes (an array that is not may be gone by now)."""
        saved = list(self.__dict__.values())
        while saved:
            value = saved.pop()
            if type(value) in (tuple, list):
                saved += value
            elif array_id in (id(value), id(getattr(value, "base", None))):
                return True
        return False

    def tap(self, index, tensor, hook):
        """Watch the gradient of output `index`: keep it in `tensor.grad`, or pass it through `hook`."""
        if self.taps is None:
            self.taps = {}
        hooks, keep = self.taps.setdefault(index, ({}, []))
        if hook is not None:
            return Handle(hooks, hook)
        if all(kept() is not tensor for kept in keep):
            keep.append(weakref.ref(tensor))  # weak: the tensor holds this node already

    @classmethod
    def apply(cls, *args, **kwargs):
        """torch.autograd.Function's form: static `forward(ctx, ...)` and `backward(ctx, *grads)` over tensors."""
        return Applied(cls, kwargs)(*args)


def edge_of(x):
    """Where a tensor's gradient goes: the node that made it and the number of its output, or the leaf itself."""
    return x if x.grad_fn is None else (x.grad_fn, x.output_index)


def as_array(value):
    """An array for what NumPy makes of 0-d results: a scalar. CuPy has none."""
    return np.asarray(value) if isinstance(value, (np.generic, float, int)) else value


def _wrap(array, inputs):
    """A tensor over what forward returned; one that shares memory with an input shares its version too."""
    if type(array) is not ndarray:
        array = as_array(array)
    y, owner = Tensor(array), array.base
    if owner is None:
        for x in inputs:
            if isinstance(x, Tensor) and x.array is array:
                y.version, y.is_view = x.version, True
                break
    else:
        for x in inputs:
            if isinstance(x, Tensor) and (x.array is owner or x.array.base is owner):
                y.version, y.is_view = x.version, True
                break
    return y


# --- Functions of users ---
class Context:
    """The `ctx` of a user's Function: what its forward keeps, as any attributes, for its backward."""

    def __init__(self, name):
        self._name, self._saved, self._constant, self._materialize = name, (), (), True

    def save_for_backward(self, *tensors):
        """Keep tensors (or None) for backward, which finds them in `saved_tensors`. Raises TypeError."""
        for x in tensors:
            if x is not None and not isinstance(x, Tensor):
                raise TypeError(f"save_for_backward: expected tensors or None, got {type(x).__name__}; "
                                "keep other values as attributes of ctx")
        self._saved = [(x, None if x is None else x.version[0]) for x in tensors]

    @property
    def saved_tensors(self):
        """What was saved. Raises RuntimeError for a tensor that was since changed in place."""
        for x, then in self._saved:
            if x is not None and x.version[0] != then:
                raise RuntimeError(f"backward: a tensor saved by {self._name} was changed in place after it was used; "
                                   "clone it before changing it")
        return tuple([x for x, _ in self._saved])

    def mark_non_differentiable(self, *outputs):
        """Say that these outputs of forward carry no gradient."""
        self._constant = outputs

    def set_materialize_grads(self, value):
        """Whether backward gets zeros (as by default) or None for an output that no gradient reached."""
        self._materialize = value


class Applied(Function):
    """The node of a user's Function."""

    def __init__(self, function, kwargs):
        self.function, self.kwargs = function, kwargs

    def __call__(self, *inputs):
        self.inputs = inputs
        return super().__call__(*inputs)

    def forward(self, *arrays):
        self.ctx = Context(self.function.__name__)
        self.ctx.needs_input_grad = self.needs_input_grad
        inputs = [x.detach() if isinstance(x, Tensor) else x for x in self.inputs]
        del self.inputs
        with no_grad():
            result = self.function.forward(self.ctx, *inputs, **self.kwargs)
        self.results = result if isinstance(result, tuple) else (result,)
        for y in self.results:
            if not isinstance(y, Tensor):
                raise TypeError(f"{self.function.__name__}.forward: expected tensors, got {type(y).__name__}")
        return tuple([y.array for y in self.results]) if isinstance(result, tuple) else result.array

    def _record(self, inputs, outputs):
        for y, result in zip(outputs, self.results, strict=True):
            y.version = result.version  # forward may have saved its result
        super()._record(inputs, outputs)
        for y, result in zip(outputs, self.results, strict=True):
            if any(result is constant for constant in self.ctx._constant):
                y._requires_grad, y.grad_fn = False, None
        self.outputs = [(y.shape, y.dtype) for y in outputs]
        self.expected = [x.shape if isinstance(x, Tensor) else None for x in inputs]
        del self.results

    def backward(self, gy, wanted):
        grads = gy if self.returns_tuple else (gy,)
        if self.ctx._materialize:
            grads = [self.k.zeros(*meta) if g is None else g for g, meta in zip(grads, self.outputs, strict=True)]
        result = self.function.backward(self.ctx, *[None if g is None else Tensor(g) for g in grads])
        result = result if isinstance(result, tuple) else (result,)
        name, n = f"{self.function.__name__}.backward", len(wanted)
        if len(result) < n or any(g is not None for g in result[n:]):
            raise RuntimeError(f"{name}: expected {n} gradients, one per input of forward, got {len(result)}")
        for i, (g, shape) in enumerate(zip(result, self.expected, strict=False)):
            if g is not None and not isinstance(g, Tensor):
                raise TypeError(f"{name}: expected tensors or None, got {type(g).__name__} for input {i}")
            if g is not None and wanted[i] and g.shape != shape:
                raise RuntimeError(f"{name}: expected a gradient of shape {shape} for input {i}, got {g.shape}")
        return tuple([g.array.copy() if g is not None and w else None for g, w in zip(result, wanted, strict=False)])
