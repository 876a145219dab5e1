"""The backward pass: a loop over the recorded nodes, so that the depth of a network costs no recursion."""
import heapq

import numpy as np

from kdl.autograd.function import as_array, edge_of
from kdl.autograd.mode import no_grad
from kdl.autograd.quiet import quiet
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
    grads = [captured[edge] for edge in edges]
    for i, g in enumerate(grads):
        if g is None and not allow_unused:
            raise RuntimeError(f"grad: the outputs do not depend on inputs[{i}]; pass allow_unused=True to get None")
    return tuple([None if g is None else Tensor(g) for g in grads])


def _inputs(op, inputs):
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if not inputs:
        raise RuntimeError(f"{op}: expected at least one input, got none")
    for i, x in enumerate(inputs):
        if not x.requires_grad:
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
    for y, g in zip(tensors, gradients, strict=True):
        if not y.requires_grad:
            raise RuntimeError(f"{op}: the tensor does not require grad: nothing was recorded")
        if g is None:
            if y.array.size != 1:
                raise RuntimeError(f"{op}: gradient is needed for a tensor of shape {y.shape}; "
                                   "only a tensor with one element has the implicit gradient 1")
            g = array_module(y.array).ones(y.array.shape, y.array.dtype)
        else:
            g = g.array if isinstance(g, Tensor) else np.asarray(g)
            if g.shape != y.array.shape:
                raise RuntimeError(f"{op}: expected a gradient of the tensor's shape {y.shape}, got {g.shape}")
            g = g.astype(y.array.dtype, copy=False)
        roots.append((y, g))
    return roots


@no_grad
@quiet
def _walk(roots, edges, retain_graph):
    """One backward pass from the roots: accumulates into the leaves, or returns {edge: gradient} for the edges given.

    Gradients returned have memory of their own; None stands where none arrived.
    """
    if edges is None:
        return _Walk(None, None).run(roots, retain_graph)
    return _Walk(dict.fromkeys(edges), _needed(roots, set(edges))).run(roots, retain_graph)


class _Sum:
    """A gradient that may arrive in parts: the first may be only referred to, a sum is this object's own."""
    __slots__ = ("array", "owned")

    def __init__(self, array, owned=False):
        self.array, self.owned = array, owned

    def add(self, array):
        add = array_module(array).add
        if self.owned:
            add(self.array, array, out=self.array)
        else:
            self.array, self.owned = as_array(add(self.array, array)), True


class _Walk:
    """Visits the nodes below the roots, latest first, so that each has its whole gradient when its turn comes."""

    def __init__(self, captured, needed):
        self.captured = captured  # edge -> gradient, for the edges asked for; None: the leaves accumulate
        self.needed = needed  # the nodes that lead to one of those edges
        self.heap = []  # negated numbers of the nodes to visit
        self.pending = {}  # number -> the node and, for each of its outputs, a _Sum or None
        self.leaves = {}  # leaf -> _Sum, where the whole gradient must be known before it is used

    def run(self, roots, retain_graph):
        for y, g in roots:
            self.send(edge_of(y), g, (g, g), ())
        while self.heap:
            node, sums = self.pending.pop(-heapq.heappop(self.heap))
            grads = [None if part is None else part.array for part in sums]
            if node.taps is not None:
                _run_taps(node, grads)
            wanted = node.needs_input_grad if self.captured is None else self.capture(node, grads)
            if True not in wanted:
                continue
            gx = node.run_backward(grads, wanted, retain_graph)
            for edge, g, asked in zip(node.edges, gx, wanted, strict=True):
                if asked and g is not None:
                    self.send(edge, g, gx, grads)
        for leaf, total in self.leaves.items():
            g = _call_hooks(leaf.hooks, total.array)
            owned = total.owned and not leaf.hooks
            if self.captured is None:
                _accumulate(leaf, g, owned)
            else:
                self.captured[leaf] = g if owned else g.copy("K")
        return self.captured

    def send(self, edge, g, gx, grads):
        """Add a gradient to where the edge leads; it is one of a node's gx, which was computed from its grads."""
        if type(g) is not np.ndarray:
            g = as_array(g)
        if type(edge) is not tuple:
            if self.captured is None and not edge.hooks:
                _accumulate(edge, g, edge.grad is None and _alone(g, (*gx, *grads)))
            elif edge in self.leaves:
                self.leaves[edge].add(g)
            elif self.captured is None or edge in self.captured:
                self.leaves[edge] = _Sum(g, _alone(g, (*gx, *grads)))
            return
        node, index = edge
        if node.number not in self.pending:
            self.pending[node.number] = node, [None] * node.n_outputs
            heapq.heappush(self.heap, -node.number)
        sums = self.pending[node.number][1]
        if sums[index] is None:
            sums[index] = _Sum(g)
        else:
            sums[index].add(g)

    def capture(self, node, grads):
        """Keep what was asked for of this node's gradients; which of its inputs lead to more of it."""
        for index, g in enumerate(grads):
            if g is not None and (node, index) in self.captured:
                self.captured[node, index] = g.copy("K")
        return tuple([e is not None and _leads(e, self.captured, self.needed) for e in node.edges])


def _leads(edge, asked, needed):
    return edge in asked or (type(edge) is tuple and edge[0] in needed)


def _needed(roots, asked):
    """The nodes from which one of the edges asked for can be reached."""
    nodes, stack = {}, [y.grad_fn for y, _ in roots if y.grad_fn is not None]
    while stack:
        node = stack.pop()
        if node.number not in nodes:
            nodes[node.number] = node
            stack += [edge[0] for edge in node.edges if type(edge) is tuple]
    needed = set()
    for number in sorted(nodes):
        if any(edge is not None and _leads(edge, asked, needed) for edge in nodes[number].edges):
            needed.add(nodes[number])
    return needed


def _alone(g, holders):
    """Whether nothing else among the gradients shares this one's memory, so that it may be kept and added to."""
    owner = g
    if g.base is not None:  # all of another array in another order of axes, as channels-last ones are
        owner = g.base
        if type(owner) is not type(g) or owner.base is not None or owner.size != g.size:
            return False
    sharing = 0
    for h in holders:
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
