"""The tape: what a computation recorded, and the walk that turns it into gradients.

Every differentiable operation is a `Function` instance, and that instance is the tape node: it keeps what its
backward needs as plain attributes, and `edges` to where its inputs came from. Nodes are numbered as they are made, so
walking them from the highest number down visits every node after all of its users; the walk is a loop over a heap,
and the depth of a network costs no recursion.
"""
import heapq
import itertools
import threading
from functools import wraps

import numpy as np

from kdl import kernels, types
from kdl.tensor import Handle, Tensor

__all__ = ["Function", "backward", "grad", "no_grad", "enable_grad", "set_grad_enabled", "is_grad_enabled",
           "gradcheck"]


# --- whether to record ---
class _Mode(threading.local):
    enabled = True


_mode = _Mode()


def is_grad_enabled():
    """Whether operations are being recorded in this thread."""
    return _mode.enabled


class set_grad_enabled:
    """Switch recording on or off, at once and, as a context manager, until the end of the block."""

    def __init__(self, mode):
        self.before = _mode.enabled
        _mode.enabled = bool(mode)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        _mode.enabled = self.before


class _Within:
    """A context manager with a fixed mode that is also a decorator, with or without brackets."""
    mode = None

    def __new__(cls, function=None):
        self = super().__new__(cls)
        return self if function is None else self(function)

    def __enter__(self):
        self.before = _mode.enabled
        _mode.enabled = self.mode
        return self

    def __exit__(self, *exception):
        _mode.enabled = self.before

    def __call__(self, function):
        @wraps(function)
        def wrapped(*args, **kwargs):
            with type(self)():
                return function(*args, **kwargs)
        return wrapped


class no_grad(_Within):
    """Do not record operations inside; a context manager or a decorator."""
    mode = False


class enable_grad(_Within):
    """Record operations inside, even within `no_grad`; a context manager or a decorator."""
    mode = True


# --- the node ---
_numbers = itertools.count()


class Function:
    """One recorded operation: `forward(*arrays)` computes, `backward(gy, wanted)` gives the inputs' gradients.

    Calling an instance with tensors (and plain values, which pass through) runs `forward` on their arrays. Whatever
    forward assigns to `self` is saved for backward. Backward gets the gradient of the output (where forward returned
    a tuple: a tuple, None standing for outputs without one) and `wanted`, one bool per input; it returns one array,
    or a tuple with an array or None per input. What it returns is fresh, a view, or gy itself: the tape copies where
    it would alias. `self.k` is the kernel namespace of the inputs, `needs_input_grad` is known before forward.
    """
    __slots__ = ("edges", "number", "k", "needs_input_grad", "versions", "n_outputs", "taps", "__dict__")

    def __call__(self, *inputs):
        arrays = [x.array if isinstance(x, Tensor) else x for x in inputs]
        self.k = kernels.of(*arrays)
        needs = [isinstance(x, Tensor) and x.requires_grad for x in inputs] if _mode.enabled else [False] * len(inputs)
        self.needs_input_grad = needs
        result = self.forward(*arrays)
        if type(result) is tuple:
            outputs = tuple([_wrap(array, inputs) for array in result])
        else:
            outputs = (_wrap(result, inputs),)
        if True in needs:
            self._record(inputs, outputs)
        return outputs if type(result) is tuple else outputs[0]

    def forward(self, *arrays):
        raise NotImplementedError

    def backward(self, gy, wanted):
        raise NotImplementedError

    def _record(self, inputs, outputs):
        """Link this node to the nodes and leaves before it, and its floating-point outputs to it."""
        self.number = next(_numbers)
        self.taps = None
        self.n_outputs = len(outputs)
        self.edges = [None if not needed else x if x.grad_fn is None else (x.grad_fn, x.output_index)
                      for x, needed in zip(inputs, self.needs_input_grad)]
        for index, y in enumerate(outputs):
            if y.array.dtype in types.FLOATS:
                y.requires_grad, y.grad_fn, y.output_index = True, self, index
        saved = {id(value) for value in self.__dict__.values()}
        self.versions = [(x.version, x.version[0]) for x in (*inputs, *outputs)
                         if isinstance(x, Tensor) and id(x.array) in saved]

    def run_backward(self, grads, wanted, retain_graph):
        """Check that what was saved is still there and unchanged, call backward, and free the node."""
        for version, then in self.versions:
            if version[0] != then:
                raise RuntimeError(f"backward: a tensor saved by {type(self).__name__} was changed in place after it "
                                   "was used; clone it before changing it")
        gx = self.backward(grads[0] if self.n_outputs == 1 else tuple(grads), wanted)
        if not retain_graph:
            self.__dict__.clear()
            self.edges = None
        return gx if type(gx) is tuple else (gx,)

    def tap(self, index, tensor, hook):
        """Watch the gradient of output `index`: keep it in `tensor.grad`, or pass it through `hook`."""
        if self.taps is None:
            self.taps = {}
        hooks, keep = self.taps.setdefault(index, ({}, []))
        if hook is not None:
            return Handle(hooks, hook)
        keep.append(tensor)

    @classmethod
    def apply(cls, *args, **kwargs):
        """torch.autograd.Function's form: static `forward(ctx, ...)` and `backward(ctx, *grads)` over tensors."""
        return _Applied(cls, kwargs)(*args)


def _wrap(array, inputs):
    """A tensor over what forward returned; one that shares memory with an input shares its version too."""
    if not hasattr(array, "flags") or isinstance(array, np.generic):
        array = np.asarray(array)  # NumPy turns 0-d results into scalars
    y = Tensor(array)
    owner = array.base
    if owner is not None:
        for x in inputs:
            if isinstance(x, Tensor) and (x.array is owner or x.array.base is owner):
                y.version, y.is_view = x.version, True
                break
    return y


class _Applied(Function):
    """The node of a user's Function; it is the `ctx` that the user's static methods see."""

    def __init__(self, function, kwargs):
        self.function, self.kwargs = function, kwargs
        self.saved, self.constant = (), ()

    def save_for_backward(self, *tensors):
        """Keep tensors for backward, which finds them in `saved_tensors`."""
        self.saved = tensors
        self.saved_then = [x.version[0] if isinstance(x, Tensor) else 0 for x in tensors]

    @property
    def saved_tensors(self):
        for x, then in zip(self.saved, self.saved_then if self.saved else ()):
            if isinstance(x, Tensor) and x.version[0] != then:
                raise RuntimeError(f"backward: a tensor saved by {self.function.__name__} was changed in place after "
                                   "it was used; clone it before changing it")
        return tuple(self.saved)

    def mark_non_differentiable(self, *outputs):
        """Say that these outputs of forward carry no gradient."""
        self.constant = tuple(id(y.array) for y in outputs)

    def __call__(self, *inputs):
        self.inputs = inputs
        return super().__call__(*inputs)

    def forward(self, *arrays):
        inputs = [x.detach() if isinstance(x, Tensor) else x for x in self.inputs]
        del self.inputs
        with no_grad():
            result = self.function.forward(self, *inputs, **self.kwargs)
        outputs = result if isinstance(result, tuple) else (result,)
        for y in outputs:
            if not isinstance(y, Tensor):
                raise TypeError(f"{self.function.__name__}.forward: expected tensors, got {type(y).__name__}")
        arrays = tuple([y.array for y in outputs])
        self.shapes = [(y.shape, y.dtype) for y in arrays]
        self.constant = [id(y) in self.constant for y in arrays]
        return arrays if isinstance(result, tuple) else arrays[0]

    def _record(self, inputs, outputs):
        super()._record(inputs, outputs)
        for y, constant in zip(outputs, self.constant):
            if constant:
                y.requires_grad, y.grad_fn = False, None

    def backward(self, gy, wanted):
        grads = gy if self.n_outputs > 1 else (gy,)
        grads = [Tensor(self.k.zeros(*meta) if g is None else g) for g, meta in zip(grads, self.shapes)]
        result = self.function.backward(self, *grads)
        result = result if isinstance(result, tuple) else (result,)
        if len(result) != len(wanted):
            raise RuntimeError(f"{self.function.__name__}.backward: expected {len(wanted)} gradients, one per input "
                               f"of forward, got {len(result)}")
        return tuple([g.array.copy() if isinstance(g, Tensor) and w else None for g, w in zip(result, wanted)])


# --- the walk ---
def backward(tensors, grad_tensors=None, retain_graph=False, create_graph=False, inputs=None):
    """Accumulate the gradient of the tensors into the `grad` of the leaves (or of `inputs` alone). See Tensor.backward."""
    roots = _roots("backward", tensors, grad_tensors, create_graph)
    if inputs is None:
        _walk(roots, None, retain_graph)
        return
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    for x, g in zip(inputs, _walk(roots, inputs, retain_graph)):
        if g is not None:
            _accumulate(x, g, fresh=True)


def grad(outputs, inputs, grad_outputs=None, retain_graph=False, create_graph=False, allow_unused=False):
    """The gradients of the outputs with respect to the inputs, as a tuple; no tensor's `grad` is touched.

    Only what lies between outputs and inputs is computed. Raises RuntimeError for an input that the outputs do not
    depend on, unless `allow_unused`, which gives None for it.
    """
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    for i, x in enumerate(inputs):
        if not x.requires_grad:
            raise RuntimeError(f"grad: inputs[{i}] does not require grad")
    grads = _walk(_roots("grad", outputs, grad_outputs, create_graph), inputs, retain_graph)
    for i, g in enumerate(grads):
        if g is None and not allow_unused:
            raise RuntimeError(f"grad: the outputs do not depend on inputs[{i}]; pass allow_unused=True to get None")
    return tuple([None if g is None else Tensor(g) for g in grads])


def _roots(op, tensors, gradients, create_graph):
    """Pairs of a tensor and the array its gradient starts from, checked."""
    if create_graph:
        raise NotImplementedError(f"{op}: create_graph=True (gradients of gradients) is not supported")
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    gradients = [gradients] if gradients is None or isinstance(gradients, Tensor) else list(gradients)
    gradients = gradients * len(tensors) if gradients == [None] else gradients
    if len(gradients) != len(tensors):
        raise RuntimeError(f"{op}: expected one gradient per tensor, got {len(gradients)} for {len(tensors)}")
    roots = []
    for y, g in zip(tensors, gradients):
        if not y.requires_grad:
            raise RuntimeError(f"{op}: the tensor does not require grad: nothing was recorded")
        if g is None:
            if y.array.size != 1:
                raise RuntimeError(f"{op}: gradient is needed for a tensor of shape {tuple(y.shape)}; "
                                   "only a tensor with one element has the implicit gradient 1")
            g = kernels.of(y.array).xp.ones_like(y.array)
        else:
            g = g.array if isinstance(g, Tensor) else np.asarray(g)
            if g.shape != y.array.shape:
                raise RuntimeError(f"{op}: expected a gradient of the tensor's shape {tuple(y.shape)}, "
                                   f"got {tuple(g.shape)}")
            g = g.astype(y.array.dtype, copy=False)
        roots.append((y, g))
    return roots


class _Sum:
    """A gradient that may arrive in parts: the first is only referred to, the sum of more is this object's own."""
    __slots__ = ("array", "owned")

    def __init__(self, array):
        self.array, self.owned = array, False

    def add(self, array):
        if self.owned:
            self.array += array
        else:
            self.array, self.owned = self.array + array, True


def _walk(roots, inputs, retain_graph):
    """Visit the nodes below the roots, latest first.

    Without `inputs` every leaf's `grad` is accumulated; with them nothing is, and their gradients are returned.
    """
    captured = None if inputs is None else {(x.grad_fn or x, x.output_index): None for x in inputs}
    needed = None if inputs is None else _needed([y for y, _ in roots], captured)
    pending, heap = {}, []

    def send(edge, g, fresh):
        if isinstance(edge, Tensor):
            g = _call_hooks(edge.hooks, g)
            if captured is None:
                _accumulate(edge, g, fresh)
            else:
                _capture(captured, (edge, 0), g)
            return
        node, index = edge
        if node not in pending:
            if node.edges is None:
                raise RuntimeError("backward: the recorded computation was already freed; "
                                   "pass retain_graph=True to the first backward to walk it again")
            pending[node] = [None] * node.n_outputs
            heapq.heappush(heap, (-node.number, node))
        slot = pending[node]
        if slot[index] is None:
            slot[index] = _Sum(g)
        else:
            slot[index].add(g)

    for y, g in roots:
        send(y if y.grad_fn is None else (y.grad_fn, y.output_index), g, False)
    while heap:
        node = heapq.heappop(heap)[1]
        grads = [None if part is None else part.array for part in pending.pop(node)]
        if node.taps is not None:
            _run_taps(node, grads)
        if captured is not None:
            for index, g in enumerate(grads):
                if g is not None and (node, index) in captured:
                    captured[node, index] = g
        edges = node.edges
        wanted = tuple([e is not None and (needed is None or _wanted(e, captured, needed)) for e in edges])
        if True not in wanted:
            continue
        gx = node.run_backward(grads, wanted, retain_graph)
        for i, g in enumerate(gx):
            if g is not None and wanted[i]:
                fresh = g.base is None and all(g is not other for other in (*grads, *gx[:i], *gx[i + 1:]))
                send(edges[i], g, fresh)
    if inputs is not None:
        return [captured[x.grad_fn or x, x.output_index] for x in inputs]


def _wanted(edge, captured, needed):
    return (edge, 0) in captured if isinstance(edge, Tensor) else edge in captured or edge[0] in needed


def _needed(roots, captured):
    """The nodes from which one of the captured tensors can be reached."""
    nodes, stack = {}, [y.grad_fn for y in roots if y.grad_fn is not None]
    while stack:
        node = stack.pop()
        if node.number not in nodes and node.edges is not None:
            nodes[node.number] = node
            stack += [edge[0] for edge in node.edges if type(edge) is tuple]
    needed = set()
    for number in sorted(nodes):
        if any(edge is not None and _wanted(edge, captured, needed) for edge in nodes[number].edges):
            needed.add(nodes[number])
    return needed


def _capture(captured, key, g):
    if key in captured:
        captured[key] = g if captured[key] is None else captured[key] + g


def _accumulate(leaf, g, fresh):
    """Add to a leaf's grad in place; the first gradient becomes the grad, copied unless nobody else holds it."""
    if leaf.grad is not None:
        leaf.grad.array += g
        leaf.grad.version[0] += 1
    elif fresh and g.flags.c_contiguous and g.dtype == leaf.array.dtype:
        leaf.grad = Tensor(g)
    else:
        leaf.grad = Tensor(g.astype(leaf.array.dtype, order="C", copy=True))


def _call_hooks(hooks, g):
    for hook in list(hooks.values()) if hooks else ():
        replacement = hook(Tensor(g))
        g = g if replacement is None else replacement.array
    return g


def _run_taps(node, grads):
    """Hooks first, then retained gradients, as torch orders them."""
    for index, (hooks, keep) in node.taps.items():
        if grads[index] is not None:
            grads[index] = _call_hooks(hooks, grads[index])
            for tensor in keep:
                _accumulate(tensor, grads[index], fresh=False)


# --- checking a gradient ---
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
        above = run().array.astype(np.float64, copy=True)
        x.array[position] = value - eps
        below = run().array
        x.array[position] = value
        columns.append(((above - below) / (2 * eps)).ravel())
    return np.stack(columns, 1) if columns else np.zeros((run().array.size, 0))
