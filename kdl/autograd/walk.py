"""The backward pass: a loop over the recorded nodes, so that the depth of a network costs no recursion."""
from heapq import heappop, heappush

import numpy as np
from numpy import ndarray

from kdl.autograd.function import as_array, edge_of
from kdl.autograd.mode import current
from kdl.autograd.quiet import IGNORED, reset_errors, set_errors
from kdl.errors import describe
from kdl.tensor import Tensor, array_module


def backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, inputs=None):
    """Accumulate the tensors' gradients into the `grad` of the leaves, or of `inputs` alone. See Tensor.backward."""
    roots = _roots("backward", tensors, grad_tensors, create_graph)
    if inputs is None:
        _walk(roots, None, retain_graph)
        return
    edges = {edge_of(x): x for x in _inputs("backward", inputs)}
    for edge, g in _walk(roots, edges, retain_graph).items():
        if g is not None:
            _accumulate(edges[edge], g, owned=True)


def grad(outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False, allow_unused=False):
    """The gradients of the outputs with respect to the inputs, as a tuple; no tensor's `grad` is touched.

    Only what lies between outputs and inputs is computed. Raises RuntimeError for an input that the outputs do not
    depend on, unless `allow_unused`, which gives None for it.
    """
    edges = [edge_of(x) for x in _inputs("grad", inputs)]
    captured = _walk(_roots("grad", outputs, grad_outputs, create_graph), edges, retain_graph)
    grads = []
    for i, edge in enumerate(edges):
        g = captured[edge]
        if g is None and not allow_unused:
            raise RuntimeError(f"grad: the outputs do not depend on inputs[{i}]; pass allow_unused=True to get None")
        grads.append(None if g is None else Tensor(g))
    return tuple(grads)


def _inputs(op, inputs):
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if not inputs:
        raise RuntimeError(f"{op}: expected at least one input, got none")
    for i, x in enumerate(inputs):
        if not x._requires_grad:
            raise RuntimeError(f"{op}: inputs[{i}] does not require grad")
    return inputs


def _roots(op, tensors, gradients, create_graph):
    """Pairs of a tensor and the array its gradient starts from, checked."""
    if create_graph:
        raise NotImplementedError(f"{op}: create_graph=True (gradients of gradients) is not supported")
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if gradients is None:
        gradients = [None] * len(tensors)
    elif isinstance(gradients, (tuple, list)):
        gradients = list(gradients)
    else:
        gradients = [gradients]
    if len(gradients) != len(tensors):
        raise RuntimeError(f"{op}: expected one gradient per tensor, got {len(gradients)} for {len(tensors)}")
    roots = []
    for i, y in enumerate(tensors):  # zip with `strict` would take 0.2 us more, of 1
        g = gradients[i]
        if not y._requires_grad:
            raise RuntimeError(f"{op}: the tensor does not require grad: nothing was recorded")
        if g is None:
            if y.array.size != 1:
                raise RuntimeError(f"{op}: gradient is needed for a tensor of shape {y.shape}; "
                                   "only a tensor with one element has the implicit gradient 1")
            g = array_module(y.array).ones(y.array.shape, y.array.dtype)
        else:
            g = g.array if isinstance(g, Tensor) else np.asarray(g)
            array = y.array
            if g.shape != array.shape:
                raise RuntimeError(f"{op}: expected a gradient of the tensor's shape {y.shape}, got {g.shape}")
            if g.dtype != array.dtype:
                g = g.astype(array.dtype)
        roots.append((y, g))
    return roots


def _walk(roots, edges, retain_graph):
    """One backward pass from the roots: accumulates into the leaves, or returns {edge: gradient} for the edges given.

    Nothing is recorded and no warnings are given. Gradients returned have memory of their own; None stands where none
    arrived.
    """
    captured = leading = None
    if edges is not None:
        captured = dict.fromkeys(edges)
        leading = _leading(roots, captured)
    recording, current.enabled = current.enabled, False
    before = set_errors(IGNORED)
    try:
        _visit(roots, captured, leading, retain_graph)
    finally:
        reset_errors(before)
        current.enabled = recording
    return captured


def _visit(roots, captured, leading, retain_graph):
    """Visit the nodes below the roots, latest first, so that each has its whole gradient when its turn comes.

    `captured` has the edges whose gradients were asked for, and `leading` the nodes that lead there; both are None
    where the leaves accumulate.
    """
    heap = []  # negated numbers of the nodes to visit
    pending = {}  # number -> the node and, for each of its outputs, the gradient or None
    leaves = {}  # leaf -> _Sum, where the whole gradient must be known before it is used
    edges, gx, wanted = [], [], []
    for y, g in roots:
        edges.append(edge_of(y))
        gx.append(g)
        wanted.append(True)
    grads = gx  # what a node got: whether its gradients share memory with others is seen among gx and these
    while True:
        for i, edge in enumerate(edges):
            g = gx[i]
            if g is None or not wanted[i]:
                continue
            if type(g) is not ndarray:
                g = as_array(g)
            if type(edge) is tuple:
                node, index = edge
                number = node.number
                if number in pending:
                    sums = pending[number][1]
                else:
                    sums = [None] * node.n_outputs
                    pending[number] = node, sums
                    heappush(heap, -number)
                sums[index] = g if sums[index] is None else as_array(array_module(g).add(sums[index], g))
            elif captured is None and not edge.hooks:
                _accumulate(edge, g, edge.grad is None and _alone(g, gx, grads))
            elif edge in leaves:
                leaves[edge].add(g)
            elif captured is None or edge in captured:
                leaves[edge] = _Sum(g, _alone(g, gx, grads))
        if not heap:
            break
        node, grads = pending.pop(-heappop(heap))
        if node.taps is not None:
            _run_taps(node, grads)
        if captured is None:
            wanted = node.needs_input_grad
        else:
            for index, g in enumerate(grads):
                if g is not None and (node, index) in captured:
                    captured[node, index] = g.copy("K")
            wanted = leading.get(node, ())
        if True in wanted:
            edges, gx = node.edges, node.run_backward(grads, wanted, retain_graph)
        else:
            edges = gx = wanted = ()
    for leaf, total in leaves.items():
        g, owned = total.array, total.owned
        if leaf.hooks:
            g, owned = _call_hooks(leaf.hooks, g), False
        if captured is None:
            _accumulate(leaf, g, owned)
        else:
            captured[leaf] = g if owned else g.copy("K")


class _Sum:
    """The gradient of a leaf, which may arrive in parts: the first may be only referred to, a sum is its own."""
    __slots__ = ("array", "owned")

    def __init__(self, array, owned):
        self.array, self.owned = array, owned

    def add(self, array):
        add = array_module(array).add
        if self.owned:
            add(self.array, array, out=self.array)
        else:
            self.array, self.owned = as_array(add(self.array, array)), True


def _leading(roots, asked):
    """For every node from which one of the edges asked for can be reached, which of its inputs lead there."""
    nodes, stack = {}, [y.grad_fn for y, _ in roots if y.grad_fn is not None]
    while stack:
        node = stack.pop()
        if node.number not in nodes:
            nodes[node.number] = node
            for edge in node.edges:
                if type(edge) is tuple:
                    stack.append(edge[0])
    leading = {}
    for number in sorted(nodes):
        node = nodes[number]
        leads = [edge in asked or (type(edge) is tuple and edge[0] in leading) for edge in node.edges]
        if True in leads:
            leading[node] = tuple(leads)
    return leading


def _alone(g, gx, grads):
    """Whether nothing else among these gradients shares this one's memory, so that it may be kept and added to."""
    owner = g
    if g.base is not None:  # all of another array in another order of axes, as channels-last ones are
        owner = g.base
        if type(owner) is not type(g) or owner.base is not None or owner.size != g.size:
            return False
    sharing = 0
    for h in (*gx, *grads):
        if h is owner or (h is not None and h.base is owner):
            sharing += 1
    return sharing <= 1


def _accumulate(leaf, g, owned):
    """Add to a leaf's grad in place; the first gradient becomes the grad, copied unless nobody else holds it."""
    if leaf.grad is not None:
        array_module(g).add(leaf.grad.array, g, out=leaf.grad.array)
        leaf.grad.version[0] += 1
        return
    like = leaf.array
    if not (owned and g.dtype == like.dtype and (g.flags.c_contiguous or g.strides == like.strides)):
        g = array_module(g).array(g, like.dtype, order="K" if g.strides == like.strides else "C")
    leaf.grad = Tensor(g)


def _call_hooks(hooks, g):
    for hook in list(hooks.values()) if hooks else ():
        replacement = hook(Tensor(g))
        if replacement is not None:
            if not isinstance(replacement, Tensor) or replacement.array.shape != g.shape:
                raise RuntimeError(f"hook: expected None or a tensor of shape {g.shape}, got "
                                   f"{describe({'replacement': replacement})}")
            g = replacement.array
    return g


def _run_taps(node, grads):
    """Hooks first, then retained gradients, as torch orders them."""
    for index, (hooks, keep) in node.taps.items():
        if grads[index] is not None:
            grads[index] = _call_hooks(hooks, grads[index])
            for kept in keep:
                tensor = kept()
                if tensor is not None:
                    _accumulate(tensor, grads[index], owned=False)
