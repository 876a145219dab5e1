"""export: one forward call, written as an ONNX model.

The call is traced twice (`trace.py`), the second time with other values of the inputs and another length of every
dynamic axis. What differs between the two graphs shows what depends on what: an int64 constant that grew in proportion
to a dynamic axis is a shape and is computed from that axis; any other difference means that the model looked at its
input in a way that no graph contains, and is an error.
"""
import inspect

import numpy as np
import onnx
from onnx import helper

import kdl
from kdl import random, types
from kdl.autograd import no_grad
from kdl.errors import expect, expect_type
from kdl.nn.module import Module
from kdl.onnx.operations import CALLS, FUNCTIONS, WRITES
from kdl.onnx.trace import Trace, Value
from kdl.tensor import Tensor

OPSET = 20
_OLDEST = 18


def export(model, args, path=None, *, input_names=None, output_names=None, dynamic_axes=None, opset_version=OPSET):
    """Write a module, in evaluation mode, as the ONNX file `path`; returns the onnx.ModelProto.

    `args` are the inputs of one call, a tensor or a tuple; what is no tensor among them becomes part of the graph.
    Outputs that are tuples, lists or dicts are written one after the other. dynamic_axes says which dimensions may have
    another length, as torch's: {"x": {0: "batch"}} or {"x": [0]}; axes of one name have one length. Names of inputs are
    those of `forward` unless given; parameters keep theirs of state_dict. Random numbers are drawn anew by the graph.
    Raises RuntimeError naming operation and module for what ONNX cannot say, TypeError, ValueError.
    (Open Neural Network Exchange, onnx.ai.)
    """
    expect_type(isinstance(model, Module), "export", "an nn.Module", model=type(model).__name__)
    expect(_OLDEST <= opset_version <= onnx.defs.onnx_opset_version(), "export",
           f"opset_version from {_OLDEST} to {onnx.defs.onnx_opset_version()}", opset_version=opset_version)
    args = tuple(args) if isinstance(args, (tuple, list)) else (args,)
    inputs = [x for x in args if isinstance(x, Tensor)]
    host = [*inputs, *model.parameters(), *model.buffers()]
    expect(not any(x.is_cuda for x in host), "export", "a model and inputs in host memory; use .cpu()", args="a GPU's")
    names = _input_names(model, args, input_names)
    symbols = _symbols(names, inputs, dynamic_axes)
    grown = {name: i + 1 for i, name in enumerate(dict.fromkeys(s for axes in symbols for s in axes.values()))}
    runs, state = [], random.get_rng_state()
    training = [m for m in model.modules() if m.training]
    try:
        model.eval()
        for second in (False, True):
            given = [_other(x, axes, second, grown) for x, axes in zip(inputs, symbols, strict=True)]
            runs.append(_Run(model, args, given, names, opset_version))
    finally:
        for module in training:
            module.training = True
        random.set_rng_state(state)
    proto = _Graph(*runs, symbols, output_names, opset_version).proto(type(model).__name__)
    onnx.checker.check_model(proto, full_check=True)
    if path is not None:
        onnx.save(proto, path)
    return proto


class _Run:
    """One traced call: the inputs, and the nodes that its outputs depend on."""

    def __init__(self, model, args, given, names, opset):
        trace = self.trace = Trace(model, opset, FUNCTIONS, CALLS, WRITES)
        expect(not set(names) & set(trace.initializers), "export", "input names that no parameter has",
               input_names=names)
        self.inputs = [Value(name, x.array.shape, x.array.dtype) for name, x in zip(names, given, strict=True)]
        for x, value in zip(given, self.inputs, strict=True):
            trace.add(x, value)
        rest = iter(given)
        with no_grad(), trace.active():
            result = model(*[next(rest) if isinstance(x, Tensor) else x for x in args])
            self.names, tensors = zip(*_outputs(result, ""), strict=True)
            self.outputs = [trace.value(y) for y in tensors]
        self.outputs = [Value(v.name, y.array.shape, y.array.dtype) for v, y in zip(self.outputs, tensors, strict=True)]
        wanted, self.nodes = {v.name for v in self.outputs}, []
        for node in reversed(trace.nodes):
            if wanted.intersection(node.outputs):
                if not node.type:
                    raise RuntimeError(node.attributes["reason"])
                self.nodes.append(node)
                wanted.update(node.inputs)
        self.nodes.reverse()
        self.wanted = wanted


class _Graph:
    """The graph that both runs agree on."""

    def __init__(self, first, second, symbols, output_names, opset):
        self.first, self.second, self.opset, self.nodes, self.constants = first, second, opset, [], {}
        self.axes = {}  # by name: the input and the axis that say its length, and the lengths in the two runs
        for i, axes in enumerate(symbols):
            for axis, name in axes.items():
                lengths = [run.inputs[i].shape[axis] for run in (first, second)]
                self.axes.setdefault(name, (first.inputs[i].name, axis, *lengths))
        self.symbols = symbols
        if len(first.nodes) != len(second.nodes) or not all(a.same(b) for a, b in zip(first.nodes, second.nodes)):
            different = next((a for a, b in zip(first.nodes, second.nodes) if not a.same(b)), first.nodes[-1])
            self._differs(different, "the operations or their arguments")
        users = {name: node for node in reversed(first.nodes) for name in node.inputs}
        for name in [name for name in first.trace.constants if name in first.wanted]:
            self._constant(name, users.get(name))
        same, names = {}, {}
        for name, array in list(self.constants.items()):
            names[name] = same.setdefault((array.dtype, array.shape, array.tobytes()), name)
        self.constants = {name: self.constants[name] for name in same.values()}
        for node in self.nodes:
            node.input[:] = [names.get(name, name) for name in node.input]
        self.nodes += [helper.make_node(
            n.type, [names.get(name, name) for name in n.inputs], n.outputs,
            name=f"{n.path or 'model'}/{n.operation}/{i}", **_attributes(n)) for i, n in enumerate(first.nodes)]
        run = self.first
        run.outputs = [Value(names.get(v.name, v.name), v.shape, v.dtype) for v in run.outputs]
        self._name_outputs(output_names)

    def _constant(self, name, user):
        """Add a constant, or the nodes that compute it from the dynamic axes."""
        a, b = self.first.trace.constants[name], self.second.trace.constants[name]
        if a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes():
            self.constants[name] = a
        elif a.shape == b.shape and (a.ndim == 0 or (a.dtype == types.int64 and a.ndim == 1)):
            changed = a != b
            if user is not None and user.type == "Reshape" and changed.sum() == 1 and -1 not in a:
                self.constants[name] = np.where(changed, -1, a)
            else:
                self._computed(name, a, b, user)
        elif a.ndim == b.ndim and a.size and b.size and len({*a.ravel().tolist(), *b.ravel().tolist()}) == 1:
            lengths = [np.asarray(x.shape, np.int64) for x in (a, b)]  # an array of one number
            self._computed(f"{name}_shape", *lengths, user)
            self._add("Expand", [self._fixed(f"{name}_value", a.ravel()[0]), f"{name}_shape"], name)
        else:
            self._differs(user, "a tensor that it takes as a constant")

    def _computed(self, name, a, b, user):
        """a as a sum of fixed numbers and multiples of dynamic axes."""
        fixed, total = np.where(a == b, a, 0), None
        left = a != b
        for axis, (input, place, before, after) in self.axes.items():
            fits = left & (a * after == b * before)
            left = left & ~fits
            if fits.any():
                length, part = f"{name}_{axis}_length", f"{name}_{axis}"
                self._add("Shape", [input], f"{length}_shape", start=place, end=place + 1)
                if a.ndim:
                    length = f"{length}_shape"
                else:  # a number, as in a division by the length
                    self._add("Squeeze", [f"{length}_shape"], f"{length}_whole")
                    self._add("Cast", [f"{length}_whole"], length, to=_onnx_dtype(a.dtype))
                times = a // before if a.dtype.kind in "iu" else a / before
                self._add("Mul", [length, self._fixed(f"{part}_times", np.where(fits, times, 0).astype(a.dtype))], part)
                if total is not None:
                    self._add("Add", [total, part], f"{part}_sum")
                total = part if total is None else f"{part}_sum"
        if left.any():
            self._differs(user, "a shape or an index")
        self._add("Add", [total, self._fixed(f"{name}_fixed", fixed)], name)

    def _fixed(self, name, array):
        self.constants[name] = np.asarray(array)
        return name

    def _add(self, type, inputs, output, **attributes):
        self.nodes.append(helper.make_node(type, inputs, [output], name=output, **attributes))

    def _differs(self, node, what):
        where = f" in module {node.path!r}" if node is not None and node.path else ""
        operation = node.operation if node is not None else "an output"
        raise RuntimeError(f"export: {operation}{where}: {what} changed with the values or the lengths of the inputs, "
                           "in a way that a graph does not contain (control flow, .item(), NumPy, a dynamic axis)")

    def _name_outputs(self, names):
        """Every output under a name of its own, by an Identity."""
        run = self.first
        if names is None:
            names = ["output" if len(run.outputs) == 1 and not run.names[0] else f"output{name}" for name in run.names]
        expect(len(names) == len(run.outputs) and len(set(names)) == len(names), "export",
               f"{len(run.outputs)} different output names", output_names=names)
        used = {v.name for v in run.inputs} | set(run.trace.initializers)
        expect(not used & set(names), "export", "output names that no input or parameter has", output_names=names)
        self.outputs = []
        for name, a, b in zip(names, run.outputs, self.second.outputs, strict=True):
            self._add("Identity", [a.name], name)
            shape = [n if n == m else next((s for s, (_, _, before, after) in self.axes.items()
                                            if (n, m) == (before, after)), None)
                     for n, m in zip(a.shape, b.shape, strict=True)]
            self.outputs.append(helper.make_tensor_value_info(name, _onnx_dtype(a.dtype), shape))

    def proto(self, name):
        """The model; constants come first, as nodes, so that initializers are the parameters alone."""
        run = self.first
        constants = [helper.make_node("Constant", [], [name], value=_tensor(array, name), name=name)
                     for name, array in self.constants.items()]
        inputs = [helper.make_tensor_value_info(v.name, _onnx_dtype(v.dtype), [
            axes.get(d, n) for d, n in enumerate(v.shape)]) for v, axes in zip(run.inputs, self.symbols, strict=True)]
        initializers = [_tensor(array, name) for name, array in run.trace.initializers.items() if name in run.wanted]
        graph = helper.make_graph([*constants, *self.nodes], name, inputs, self.outputs, initializers)
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets),
                                 producer_name="kdl", producer_version=kdl.__version__)


# --- arguments ---
def _input_names(model, args, given):
    """A name for every tensor among the arguments."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    names = []
    for i, x in enumerate(args):
        if isinstance(x, Tensor):
            plain = i < len(parameters) and parameters[i].kind is not inspect.Parameter.VAR_POSITIONAL
            names.append(parameters[i].name if plain else f"input_{i}")
        else:
            expect_type(not isinstance(x, (tuple, list, dict, np.ndarray)), "export",
                        "tensors, numbers and None among args", args=type(x).__name__)
    if given is not None:
        expect(len(given) == len(names) and len(set(given)) == len(given), "export",
               f"{len(names)} different input names", input_names=given)
        names = list(given)
    expect(names, "export", "at least one tensor among args", args=args)
    return names


def _symbols(names, inputs, dynamic_axes):
    """For every input the names of its dynamic axes."""
    axes, lengths = dict(dynamic_axes or {}), {}
    symbols = []
    for name, x in zip(names, inputs, strict=True):
        mine = axes.pop(name, {})
        mine = mine if isinstance(mine, dict) else {axis: f"{name}_{axis}" for axis in mine}
        expect(all(-x.ndim <= axis < x.ndim for axis in mine), "export", f"axes of {name}", dynamic_axes=mine, input=x)
        symbols.append({axis % x.ndim: symbol for axis, symbol in mine.items()})
        for axis, symbol in symbols[-1].items():
            expect(lengths.setdefault(symbol, x.shape[axis]) == x.shape[axis], "export",
                   f"one length of the dynamic axis {symbol!r}", dynamic_axes=dynamic_axes)
            expect(x.shape[axis] > 0, "export", "dynamic axes that are not empty", input=x)
    outputs = {name for name, of in axes.items() if name not in names}
    expect(all(isinstance(axes[name], (dict, list, tuple)) for name in outputs), "export",
           "dynamic_axes of input names", dynamic_axes=dynamic_axes)  # torch's calls name outputs, too: these follow
    return symbols


def _other(x, axes, second, grown):
    """The input of a run: dynamic axes at least 2 long; in the second run longer, and with other values of its kind."""
    array = x.array
    for axis, name in axes.items():
        n = max(array.shape[axis], 2) + second * grown[name]
        array = array.take(np.arange(n) % array.shape[axis], axis)
    if not second:
        return Tensor(array.copy())
    array = np.flip(array).copy()
    if array.dtype in types.FLOATS:
        noise = np.random.default_rng(0).uniform(0.9, 0.98, array.shape)
        array = (array.astype(np.float64) * noise + 0.01).astype(array.dtype)
    return Tensor(array)


def _outputs(result, name):
    """(suffix of its name, tensor) of every output."""
    if isinstance(result, Tensor):
        return [(name, result)]
    parts = result.items() if isinstance(result, dict) else enumerate(result) if isinstance(
        result, (tuple, list)) else None
    if result is None:
        return []
    expect_type(parts is not None, "export", "a model that returns tensors", output=type(result).__name__)
    found = [pair for key, part in parts for pair in _outputs(part, f"{name}_{key}")]
    expect(found, "export", "a model that returns a tensor", output=result)
    return found


# --- what onnx calls them ---
def _onnx_dtype(dtype):
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def _tensor(array, name):
    return onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)


def _attributes(node):
    return {key: _onnx_dtype(value) if isinstance(value, np.dtype) else value
            for key, value in node.attributes.items()}
