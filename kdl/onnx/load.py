"""load: an ONNX model as a Module, its nodes run one after the other by kdl's functions (`operators.py`)."""
import numpy as np
import onnx
from onnx import helper, numpy_helper

from kdl import types
from kdl.errors import expect, expect_type
from kdl.nn.module import Module
from kdl.nn.parameter import Parameter
from kdl.onnx.operators import OPERATORS
from kdl.tensor import Tensor

_STATISTICS = {"BatchNormalization": (3, 4)}  # what is learned in another way than by a gradient


def load(path):
    """The ONNX model of a file (or an onnx.ModelProto) as a Module, which takes the graph's inputs in their order.

    Floating-point initializers are its parameters (running statistics: buffers), under their own names, so that a
    state_dict that was exported comes back. It returns a tensor, or a tuple where the graph has several outputs, and
    can be trained on. Raises ValueError naming the operators that kdl does not know. (Open Neural Network Exchange,
    onnx.ai.)
    """
    proto = path if isinstance(path, onnx.ModelProto) else onnx.load(path)
    if proto.functions:
        from onnx import inliner
        proto = inliner.inline_local_functions(proto)
    return Graph(proto)


class Graph(Module):
    """The network of an ONNX model."""

    def __init__(self, proto):
        super().__init__()
        graph = proto.graph
        self.opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)
        self._nodes = [_Step(node) for node in graph.node if node.op_type != "Constant"]
        missing = sorted({n.name for n in self._nodes if n.name not in OPERATORS})
        expect(not missing, "load", "operators that kdl knows", missing=", ".join(missing))
        buffers = {n.inputs[i] for n in self._nodes for i in _STATISTICS.get(n.name, ())}
        self._places, self._constants, given = {}, {}, set()
        for node in graph.node:
            if node.op_type == "Constant":
                self._constants[node.output[0]] = Tensor(_constant(node))
        for initializer in graph.initializer:
            given.add(initializer.name)
            array = _array(initializer)
            learned = array.dtype in types.FLOATS and initializer.name not in buffers
            self._places[initializer.name] = self._keep(initializer.name, Tensor(array), learned)
        self.input_names = [v.name for v in graph.input if v.name not in given]
        self.output_names = [v.name for v in graph.output]
        last = {name: i for i, node in enumerate(self._nodes) for name in node.inputs}
        for i, node in enumerate(self._nodes):  # what nobody needs any more is let go
            node.frees = [n for n in {*node.inputs, *node.outputs} if last.get(n, i) == i and n not in
                          self.output_names and n not in self._constants and n not in self._places]

    def _keep(self, name, tensor, learned):
        """Register a tensor under its dotted name; returns the module and the attribute that hold it."""
        *path, leaf = name.split(".")
        module = self
        for part in path:
            child = module._modules.get(part) if part else None
            if child is None:
                if not part or hasattr(module, part):
                    return self._keep(name.replace(".", "_") or "_", tensor, learned)
                child = Module()
                module.add_module(part, child)
            module = child
        while not leaf or hasattr(module, leaf):
            leaf += "_"
        if learned:
            module.register_parameter(leaf, Parameter(tensor))
        else:
            module.register_buffer(leaf, tensor)
        return module, leaf

    def forward(self, *inputs, **named):
        names = self.input_names
        values = dict(zip(names, inputs, strict=False), **named)
        expect(len(inputs) <= len(names) and set(values) == set(names) and len(values) == len(inputs) + len(named),
               "load", f"the inputs {', '.join(names)}", inputs=len(inputs), named=sorted(named))
        for name, value in values.items():
            expect_type(isinstance(value, Tensor), "load", f"{name} to be a Tensor", **{name: type(value).__name__})
        values.update(self._constants)
        values.update({name: getattr(module, leaf) for name, (module, leaf) in self._places.items()})
        for node in self._nodes:
            xs = [values[name] if name else None for name in node.inputs]
            try:
                results = OPERATORS[node.name](node, *xs)
            except Exception as error:
                error.add_note(f"in node {node.label!r} ({node.name}) of the ONNX graph")
                raise
            results = results if isinstance(results, (tuple, list)) else (results,)
            values.update(zip(node.outputs, results, strict=False))
            for name in node.frees:
                values.pop(name, None)
        outputs = [values[name] for name in self.output_names]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def extra_repr(self):
        return (f"{len(self._nodes)} nodes, {', '.join(self.input_names)} -> {', '.join(self.output_names)}, "
                f"opset {self.opset}")


class _Step:
    """A node: its operator, the names of its inputs and outputs, and its attributes by `get`."""

    def __init__(self, node):
        self.name = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        self.label, self.inputs, self.outputs, self.frees = node.name, list(node.input), list(node.output), []
        self.attributes = {}
        for a in node.attribute:
            value = helper.get_attribute_value(a)
            value = value.decode() if isinstance(value, bytes) else value
            self.attributes[a.name] = [v.decode() if isinstance(v, bytes) else v for v in value] if isinstance(
                value, list) else value

    def get(self, name, default=None):
        return self.attributes.get(name, default)

    def ints(self, name, input=None, default=None):
        """Ints that are an attribute in old opsets and an input in new ones."""
        if input is not None:
            return [int(v) for v in input.array.reshape(-1)]
        return self.attributes.get(name, default)


def _array(tensor):
    array = numpy_helper.to_array(tensor)
    return np.array(array)  # writable, and not kept alive by the message


def _constant(node):
    """The array of a Constant node, in any of its forms."""
    for a in node.attribute:
        value = helper.get_attribute_value(a)
        if a.name == "value":
            return _array(value)
        if a.name in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
        if a.name in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
    raise ValueError(f"load: expected a constant tensor or numbers in node {node.name!r}")
