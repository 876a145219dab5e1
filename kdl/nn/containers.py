"""Containers: modules in a row, in a list, in a dict, and parameters in a list."""
import operator
from collections import OrderedDict
from itertools import chain

from kdl.nn.activation import ReLU
from kdl.nn.gemm import Linear
from kdl.nn.hooks import is_watched
from kdl.nn.module import Module, indent
from kdl.nn.parameter import Parameter
from kdl.nn.pool import MaxPool1d, MaxPool2d, MaxPool3d
from kdl.tensor import Tensor

__all__ = ["ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"]


class _Row(Module):
    """What Sequential and ModuleList share: submodules named "0", "1", ... (or by a dict) and used by position."""

    def _key(self, index):
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"{type(self).__name__}: expected an index in [{-len(self)}, {len(self) - 1}], "
                             f"got {index}")
        return list(self._modules)[index]

    def __len__(self):
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules.values())

    def __setitem__(self, index, module):
        setattr(self, self._key(index), module)

    def __delitem__(self, index):
        for key in list(self._modules)[index] if isinstance(index, slice) else [self._key(index)]:
            del self._modules[key]
        self._renumber(self._modules.values())

    def _renumber(self, modules):
        modules = list(modules)
        self._modules.clear()
        for i, module in enumerate(modules):
            self.add_module(str(i), module)

    def append(self, module):
        """Add a module at the end; returns self."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules):
        """Add modules at the end; returns self."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index, module):
        """Add a module before the one at `index`. Raises IndexError, TypeError."""
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}.insert: expected an nn.Module, got {type(module).__name__}")
        if not -len(self) <= index <= len(self):
            raise IndexError(f"{type(self).__name__}.insert: expected an index in [{-len(self)}, {len(self)}], "
                             f"got {index}")
        modules = list(self)
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def pop(self, index):
        """Take out the module at `index`, or a slice of them, and return it."""
        taken = self[index]
        del self[index]
        return taken

    def __iadd__(self, modules):
        return self.extend(list(modules))

    def __add__(self, modules):
        return (Sequential() if isinstance(self, Sequential) else ModuleList()).extend(chain(self, modules))


class Sequential(_Row):
    """Modules that are called one after the other; given one by one, or named, in an OrderedDict.

    A slice is a Sequential of the same modules. Where no hook watches, a linear layer computes the ReLU after it, and a
    ReLU before max pooling is taken of the maxima, with the same result and the same gradients.
    """

    def __init__(self, *args):
        super().__init__()
        named = len(args) == 1 and isinstance(args[0], OrderedDict)
        for name, module in args[0].items() if named else enumerate(args):
            self.add_module(str(name), module)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(OrderedDict(list(self._modules.items())[index]))
        return self._modules[self._key(index)]

    def forward(self, input):
        modules, at = list(self._modules.values()), 0
        while at < len(modules):
            pair = modules[at:at + 2]
            together = _PAIRS.get(tuple([type(module) for module in pair]))
            if together is None or is_watched(pair[0]) or is_watched(pair[1]):
                input, at = pair[0](input), at + 1
            else:
                input, at = together(*pair, input), at + 2
        return input


# --- two modules at once ---
def _linear_relu(linear, _, input):
    """The ReLU by the kernel of the linear layer."""
    return linear(input, relu=True)


def _relu_pool(relu, pool, input):
    """The ReLU of the maxima instead of the maxima of the ReLU: fewer elements. In place, it would be seen."""
    return pool(relu(input)) if relu.inplace or pool.return_indices else relu(pool(input))


_PAIRS = {(Linear, ReLU): _linear_relu, **{(ReLU, pool): _relu_pool for pool in (MaxPool1d, MaxPool2d, MaxPool3d)}}


class ModuleList(_Row):
    """Modules in a list: registered, to be called by the module that holds them."""

    def __init__(self, modules=None):
        super().__init__()
        self.extend(() if modules is None else modules)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._modules[self._key(index)]

    def __repr__(self):
        blocks = []  # [first, last, repr] of neighbours that look the same
        for i, text in enumerate(map(repr, self)):
            if blocks and blocks[-1][2] == text:
                blocks[-1][1] = i
            else:
                blocks.append([i, i, text])
        lines = [f"({a}): {indent(text)}" if a == b else f"({a}-{b}): {b - a + 1} x {indent(text)}"
                 for a, b, text in blocks]
        return f"{type(self).__name__}(" + ("\n  " + "\n  ".join(lines) + "\n)" if lines else ")")


class _Named:
    """The methods of a dict, over `self[name]`, `self._names()` and item assignment."""

    def __len__(self):
        return len(self._names())

    def __iter__(self):
        return iter(self._names())

    def __contains__(self, name):
        return name in self._names()

    def keys(self):
        """The names."""
        return list(self._names())

    def values(self):
        """What stands under the names."""
        return [self[name] for name in self._names()]

    def items(self):
        """Pairs of the two."""
        return [(name, self[name]) for name in self._names()]

    def pop(self, name):
        """Take out what stands under the name and return it."""
        value = self[name]
        del self[name]
        return value

    def clear(self):
        """Take out everything."""
        for name in self.keys():
            del self[name]

    def update(self, other):
        """Add or replace from a dict or from pairs."""
        for name, value in other.items() if hasattr(other, "items") else other:
            self[name] = value


class ModuleDict(_Named, Module):
    """Modules by name: registered, to be called by the module that holds them."""

    def __init__(self, modules=None):
        super().__init__()
        self.update({} if modules is None else modules)

    def _names(self):
        return self._modules

    def __getitem__(self, name):
        return self._modules[name]

    def __setitem__(self, name, module):
        self.add_module(name, module)

    def __delitem__(self, name):
        del self._modules[name]


def _as_parameter(value):
    return Parameter(value) if isinstance(value, Tensor) and not isinstance(value, Parameter) else value


def _parameter_line(name, value):
    if not isinstance(value, Tensor):
        return f"  ({name}): Object of type: {type(value).__name__}"
    shape = "x".join(map(str, value.shape))
    return f"  ({name}): {type(value).__name__} containing: [{value.dtype} of size {shape}]"


class ParameterList(Module):
    """Parameters in a list; tensors become parameters, other values are kept as they are."""

    def __init__(self, values=None):
        super().__init__()
        self._size = 0
        self.extend(() if values is None else values)

    def _key(self, index):
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"ParameterList: expected an index in [{-len(self)}, {len(self) - 1}], got {index}")
        return str(index % len(self))

    def __len__(self):
        return self._size

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)([self[i] for i in range(len(self))[index]])
        return getattr(self, self._key(index))

    def __setitem__(self, index, value):
        setattr(self, self._key(index), _as_parameter(value))

    def append(self, value):
        """Add a value at the end; returns self."""
        self._size += 1
        self[self._size - 1] = value
        return self

    def extend(self, values):
        """Add values at the end; returns self."""
        for value in values:
            self.append(value)
        return self

    def __iadd__(self, values):
        return self.extend(values)

    def extra_repr(self):
        return "\n".join(_parameter_line(i, value) for i, value in enumerate(self))


class ParameterDict(_Named, Module):
    """Parameters by name; tensors become parameters, other values are kept as they are."""

    def __init__(self, parameters=None):
        super().__init__()
        self._keys = {}
        self.update({} if parameters is None else parameters)

    def _names(self):
        return self._keys

    def __getitem__(self, name):
        if name not in self._keys:
            raise KeyError(name)
        return getattr(self, name)

    def __setitem__(self, name, value):
        setattr(self, name, _as_parameter(value))
        self._keys[name] = None

    def __delitem__(self, name):
        del self._keys[name]
        delattr(self, name)

    def extra_repr(self):
        return "\n".join(_parameter_line(name, value) for name, value in self.items())
