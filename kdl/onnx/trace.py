"""Following a forward call: every operation that runs becomes nodes of an ONNX graph.

While a trace is active, `Function.__call__`, the functions of the table CALLS that work on arrays without being
Functions (comparisons, argmax, topk, gather ...) and those that write in place are replaced by ones that also tell the
trace; nothing of kdl is slower before or afterwards. What an array holds is known by the array's identity, so that
`detach` and `data` need no care. A value that came from nowhere the trace knows is a constant; `export` traces twice,
with different inputs, and refuses constants that turn out not to be constant.

Writing in place changes every array that shares the memory: `Trace.wrote` works out from the addresses which elements
of which known array those are. A call is followed inside as well, so a row may decline by returning None.
"""
import inspect
import sys
import threading
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

import numpy as np

from kdl import types
from kdl.autograd import Function
from kdl.nn.module import Module
from kdl.tensor import Tensor

_BOOLEAN = {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Not", "And", "Or", "Xor", "IsNaN", "IsInf"}
_POSITIONS = {"ArgMax", "ArgMin", "Shape", "NonZero"}


class Value:
    """A tensor of the graph: its name, its dtype, its shape where known, and its array where it is a constant."""
    __slots__ = ("constant", "dtype", "name", "shape")

    def __init__(self, name, shape, dtype, constant=None):
        self.name, self.shape, self.dtype, self.constant = name, shape, dtype, constant

    @property
    def ndim(self):
        return len(self.shape)


class Node:
    """A node of the graph, the kdl operation it stands for and the path of the module that called it."""
    __slots__ = ("attributes", "inputs", "operation", "outputs", "path", "type")

    def __init__(self, type, inputs, outputs, attributes, operation, path):
        self.type, self.inputs, self.outputs, self.attributes = type, inputs, outputs, attributes
        self.operation, self.path = operation, path

    def same(self, other):
        return (self.type, self.inputs, self.outputs, self.attributes, self.path) == (
            other.type, other.inputs, other.outputs, other.attributes, other.path)


class Known:
    """What an array holds, as of a version of the tensor it belongs to."""
    __slots__ = ("array", "stamp", "value", "version")

    def __init__(self, array, value, version):
        self.array, self.value, self.version = array, value, version
        self.stamp = version and version[0]


class Trace:
    """The nodes of one forward call. `op` adds one; the rows of the tables call it with Values, arrays and numbers."""

    def __init__(self, model, opset, functions, calls, writes):
        self.opset, self.functions, self.calls, self.writes = opset, functions, calls, writes
        self.nodes, self.constants, self.known, self.linear = [], {}, {}, {}
        self.paths, self.path, self.operation = {id(m): name for name, m in model.named_modules()}, [""], ""
        self.thread = threading.get_ident()
        self.initializers = {}
        for name, tensor in [*model.state_dict(keep_vars=True).items(), *model.named_buffers()]:
            if id(tensor.array) not in self.known:
                self.initializers[name] = tensor.array
                self.add(tensor, Value(name, tensor.array.shape, tensor.array.dtype))

    # --- what the rows use ---
    def op(self, type, *inputs, outputs=1, dtype=None, **attributes):
        """Add a node; a Value, or a tuple of several. Numbers get the dtype of the first Value, None is left out.

        Lists of ints are int64 constants. `dtype` is that of the outputs, of the first Value unless given.
        """
        first = next((x.dtype for x in inputs if isinstance(x, Value)), types.float32)
        names = [x.name if isinstance(x, Value) else "" if x is None else self.constant(x, first).name for x in inputs]
        while names and not names[-1]:
            names.pop()
        if dtype is None:
            dtype = types.boolean if type in _BOOLEAN else types.int64 if type in _POSITIONS else first
        made = tuple([Value(f"v{len(self.nodes)}_{i}" if outputs > 1 else f"v{len(self.nodes)}", None, dtype)
                      for i in range(outputs)])
        self.nodes.append(Node(type, names, [v.name for v in made], attributes, self.operation, self.path[-1]))
        return made if outputs > 1 else made[0]

    def constant(self, value, dtype=None):
        """A constant of the graph: an array as it is, a number of the dtype, a list of ints as int64."""
        if not isinstance(value, (np.ndarray, np.generic)):
            value = np.asarray(value, types.int64 if isinstance(value, (list, tuple)) else dtype)
        value = np.array(value, order="C")  # a copy: it may be written to
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return Value(name, value.shape, value.dtype, value)

    def cast(self, x, dtype):
        """The Value in the dtype; a number as a constant."""
        if not isinstance(x, Value):
            return self.constant(np.asarray(x, dtype))
        return x if x.dtype == dtype else self.op("Cast", x, to=dtype, dtype=dtype)

    def refuse(self, reason):
        """A value that the graph cannot contain; only if the outputs depend on it is this an error."""
        return self.op("", reason=f"export: {self.operation}{self.place()} {reason}")

    def place(self):
        return f" in module {self.path[-1]!r}" if self.path[-1] else ""

    # --- arrays and what they hold ---
    def add(self, tensor, value):
        """Note what a tensor or an array holds."""
        array = tensor.array if isinstance(tensor, Tensor) else tensor
        value = Value(value.name, array.shape, array.dtype, value.constant)
        self.known[id(array)] = Known(array, value, tensor.version if isinstance(tensor, Tensor) else None)

    def find(self, x):
        """What the trace knows of a tensor or an array, itself or as a view of one that it knows, or None."""
        array = x.array if isinstance(x, Tensor) else x
        known = self.known.get(id(array))
        if known is None:
            around = [k for k in self.sharing(array) if k.value.dtype == array.dtype] if array.base is not None else []
            if not around:
                return None
            value = self.constant(array)
            for other in around:
                value = self.seen(other, array, value)
            self.add(x, value)
            known = self.known[id(array)]
        if known.version is not None and known.version[0] != known.stamp:
            refused = self.refuse("uses a tensor that was changed in place in a way that export does not follow")
            return Known(array, Value(refused.name, array.shape, array.dtype), None)
        return known

    def value(self, x):
        """The Value of a tensor or an array: a constant where the trace does not know it; others as they are."""
        if isinstance(x, (Tensor, np.ndarray)):
            known = self.find(x)
            return known.value if known else self.constant(x.array if isinstance(x, Tensor) else x)
        if isinstance(x, (tuple, list)):
            return (list if isinstance(x, list) else tuple)([self.value(v) for v in x])
        return x

    def live(self, x):
        """Whether something that the trace knows is among the arguments."""
        if isinstance(x, (Tensor, np.ndarray)):
            return self.find(x) is not None
        return isinstance(x, (tuple, list)) and any(self.live(v) for v in x)

    def sharing(self, array):
        """The known arrays that may share memory with an array."""
        return [known for known in self.known.values() if np.may_share_memory(known.array, array)]

    def seen(self, known, array, old):
        """The Value of an array from a known one that shares its memory; elsewhere it keeps `old`."""
        ours, theirs = _addresses(array).ravel(), _addresses(known.array).ravel()
        order = np.argsort(theirs, kind="stable")
        places = order[np.minimum(np.searchsorted(theirs, ours, sorter=order), len(order) - 1)]
        met = theirs[places] == ours
        if not met.any():
            return old
        found = self.op("Gather", self.op("Reshape", known.value, [-1]), places[met])
        if not met.all():
            found = self.op("ScatterElements", self.op("Reshape", old, [-1]), np.flatnonzero(met), found)
        return self.op("Reshape", found, list(array.shape))

    def wrote(self, tensor, value):
        """Note that a tensor was written to, and so every known array that shares its memory."""
        array = tensor.array
        self.add(tensor, value)
        written = self.known[id(array)]
        for known in self.sharing(array):
            if known is not written and known.value.dtype == array.dtype:
                same = known.array.ctypes.data == array.ctypes.data and known.array.shape == array.shape and (
                    known.array.strides == array.strides)
                old = known.value
                seen = written.value if same else self.seen(written, known.array, old)
                known.value = Value(seen.name, old.shape, old.dtype)
        for known in self.known.values():
            if known.version is tensor.version:
                known.stamp = tensor.version[0]

    def emit(self, operation, row, arguments, result):
        """Let a row add the nodes of an operation that ran, and note what its results hold."""
        results = _flat(result)
        self.operation = operation
        values = None if row is None else row(self, *arguments)
        if values is None:
            if row is None and not all(self.find(x) is not None for x in results):
                values = [self.refuse("has no ONNX form that kdl knows")] * len(results)
            else:
                return
        for x, value in zip(results, values if isinstance(values, (tuple, list)) else (values,), strict=False):
            self.add(x, value)

    # --- in the place of kdl's own ---
    def function_call(self, original):
        def call(function, *inputs):
            if threading.get_ident() != self.thread or not self.live(inputs):
                return original(function, *inputs)
            values = self.value(inputs)
            result = original(function, *inputs)
            name = type(function).__name__
            user = f"the Function {function.function.__name__}" if name == "Applied" else name
            self.emit(user, self.functions.get(name), (function, *values), result)
            return result
        return call

    def call(self, name, original, row):
        signature, always = inspect.signature(original), name.startswith("random.")

        def call(*args, **kwargs):
            if threading.get_ident() != self.thread or not (always or self.live((*args, *kwargs.values()))):
                return original(*args, **kwargs)
            values, named = self.value(args), {key: self.value(x) for key, x in kwargs.items()}
            result = original(*args, **kwargs)
            bound = signature.bind(*values, **named)
            bound.apply_defaults()
            self.emit(name.partition(".")[2].lstrip("_"), row, tuple(bound.arguments.values()), result)
            return result
        return call

    def write(self, name, original, row):
        def call(target, *args, **kwargs):
            everything = (target, *args, *kwargs.values())
            if threading.get_ident() != self.thread or not self.live(everything):
                return original(target, *args, **kwargs)
            base = target.array.base
            if isinstance(base, np.ndarray) and not self.sharing(base):
                self.add(base, self.value(base))
            if self.find(target) is None:
                self.add(target, self.value(target))
            values, named = self.value((target, *args)), {key: self.value(x) for key, x in kwargs.items()}
            result = original(target, *args, **kwargs)
            self.operation = name.partition(".")[2].lstrip("_")
            self.wrote(target, row(self, *values, **named))
            return result
        return call

    def module_call(self, original):
        def call(module, *args, **kwargs):
            self.path.append(self.paths.get(id(module), type(module).__name__))
            try:
                return original(module, *args, **kwargs)
            finally:
                self.path.pop()
        return call

    @contextmanager
    def active(self):
        """While it lasts, what runs in this thread is followed."""
        undo = []

        def put(owner, name, new):
            undo.append((owner, name, getattr(owner, name)))
            setattr(owner, name, new)

        found = {}
        for make, rows in ((self.call, self.calls), (self.write, self.writes)):
            for name, row in rows.items():
                module, _, attribute = name.partition(".")
                module = import_module("kdl.random" if module == "random" else f"kdl.ops.{module}")
                original = getattr(module, attribute)
                found[id(original)] = make(name, original, row)
        found[id(import_module("kdl.ops.pointwise").written)] = lambda *args: False  # add_ etc. come to assign_ then
        try:
            for cls in (Function, *_below(Function)):
                if "__call__" in vars(cls):
                    put(cls, "__call__", self.function_call(vars(cls)["__call__"]))
            put(Module, "__call__", self.module_call(Module.__call__))
            owners = [m for m in list(sys.modules.values()) if isinstance(m, ModuleType)] + [Tensor]
            for owner in owners:
                for name, value in list(vars(owner).items()):
                    if id(value) in found:
                        put(owner, name, found[id(value)])
                    for cell in (getattr(value, "__closure__", None) or ()) if owner is Tensor else ():
                        if id(_content(cell)) in found:  # operators, and forms in place
                            put(cell, "cell_contents", found[id(cell.cell_contents)])
            yield self
        finally:
            for owner, name, old in reversed(undo):
                setattr(owner, name, old)


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None


def _below(cls):
    for sub in cls.__subclasses__():
        yield sub
        yield from _below(sub)


def _flat(result):
    """The tensors and arrays of a result, in order."""
    if isinstance(result, (Tensor, np.ndarray)):
        return [result]
    return [x for part in result for x in _flat(part)] if isinstance(result, (tuple, list)) else []


def _addresses(array):
    """The address of every element."""
    addresses = np.full((), array.ctypes.data, np.int64)
    for length, step in zip(array.shape, array.strides, strict=True):
        addresses = addresses[..., None] + np.arange(length) * step
    return addresses
