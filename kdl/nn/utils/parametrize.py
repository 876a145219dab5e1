"""Parametrizations: a tensor of a module that is computed, each time it is asked for, from others that are learned.

weight = f_n(... f_1(original)), where every f is a module; its `right_inverse`, if any, finds an original for a given
weight. `module.parametrizations.weight` holds the originals (`original`, or `original0`, `original1`, ... where the
first f takes several) and the modules "0", "1", ...: the names that a state has in torch.
"""
from contextlib import contextmanager
from functools import cache

from kdl.autograd import no_grad
from kdl.errors import expect
from kdl.nn.containers import ModuleDict, ModuleList
from kdl.nn.parameter import Parameter
from kdl.tensor import Tensor

__all__ = ["ParametrizationList", "cached", "is_parametrized", "register_parametrization", "remove_parametrizations",
           "type_before_parametrizations"]

_depth = 0
_values = {}


@contextmanager
def cached():
    """Compute every parametrized tensor once inside: for networks that use one several times in a step."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            _values.clear()


class ParametrizationList(ModuleList):
    """The modules in front of one tensor and the originals that they start from; calling it gives the tensor."""

    def __init__(self, modules, original, unsafe=False):
        expect(len(modules) > 0, "ParametrizationList", "one or more modules", modules=len(modules))
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = original.shape, original.dtype
        value = original
        with no_grad():
            for module in reversed(self):
                if hasattr(module, "right_inverse"):
                    try:
                        value = module.right_inverse(value)
                    except NotImplementedError:
                        pass
        expect(isinstance(value, (Tensor, list, tuple)), "right_inverse", "a tensor or a sequence of tensors",
               result=type(value).__name__)
        self.is_tensor = isinstance(value, Tensor)
        self.ntensors = 1 if self.is_tensor else len(value)
        if self.is_tensor:
            expect(value.dtype == dtype, "right_inverse", f"a {dtype} tensor, as the original is", result=value.dtype)
            original.data = value.detach()
            _register(self, "original", original)
        else:
            for i, part in enumerate(value):
                expect(isinstance(part, Tensor), "right_inverse", "a sequence of tensors", element=i,
                       type=type(part).__name__)
                learned = isinstance(original, Parameter)
                _register(self, f"original{i}", Parameter(part, original.requires_grad) if learned else part.detach())
        if not unsafe:
            _check_kept("parametrization", self(), shape, dtype)

    def originals(self):
        """The tensors that the first module gets."""
        return [self.original] if self.is_tensor else [getattr(self, f"original{i}") for i in range(self.ntensors)]

    def forward(self):
        first, *others = self
        value = first(*self.originals())
        for module in others:
            value = module(value)
        return value

    @no_grad()
    def right_inverse(self, value):
        """Set the originals so that the tensor becomes `value`. Raises RuntimeError for a module without inverse."""
        for module in reversed(self):
            if not hasattr(module, "right_inverse"):
                raise RuntimeError(f"parametrization {type(module).__name__} does not implement right_inverse")
            value = module.right_inverse(value)
        if self.is_tensor:
            expect(isinstance(value, Tensor), "right_inverse", "a tensor", result=type(value).__name__)
        values = [value] if self.is_tensor else value
        expect(isinstance(values, (list, tuple)) and len(values) == self.ntensors, "right_inverse",
               f"a sequence of {self.ntensors} tensors", result=type(value).__name__)
        originals = self.originals()
        for original, value in zip(originals, values, strict=True):
            expect(isinstance(value, Tensor) and value.dtype == original.dtype, "right_inverse",
                   f"a {original.dtype} tensor, as the original is", result=getattr(value, "dtype", type(value)))
        for original, value in zip(originals, values, strict=True):
            original.data = value.detach()


class _Parametrized:
    """What the class of a module with parametrizations has before its own: their tensors as attributes."""

    def __getattr__(self, name):
        parametrization = _lists(self).get(name)
        if parametrization is None:
            return super().__getattr__(name)
        if not _depth:
            return parametrization()
        key = id(self), name
        if key not in _values:
            _values[key] = parametrization()
        return _values[key]

    def __setattr__(self, name, value):
        if name in _lists(self) and not isinstance(value, Parameter):
            _lists(self)[name].right_inverse(value)
        else:
            super().__setattr__(name, value)

    def _state_hooks_of(self, kind):
        return [_take_older_names] * (kind == "loading") + super()._state_hooks_of(kind)

    def __reduce__(self):
        return _new, (type_before_parametrizations(self),), self.__dict__


@cache
def _parametrized(cls):
    return type(f"Parametrized{cls.__name__}", (_Parametrized, cls), {"__module__": cls.__module__})


def _new(cls):
    cls = _parametrized(cls)
    return cls.__new__(cls)


def _lists(module):
    """The ParametrizationLists of a module by the names of their tensors."""
    parametrizations = module.__dict__.get("_modules", {}).get("parametrizations")
    return parametrizations._modules if isinstance(parametrizations, ModuleDict) else {}


def _take_older_names(module, state, prefix, *_):
    """A hook: a state that `nn.utils.weight_norm` or `nn.utils.spectral_norm` wrote fits the parametrizations."""
    for tensor_name, parametrizations in _lists(module).items():
        for position, parametrization in enumerate(parametrizations):
            older = getattr(parametrization, "older_names", {})
            rename(state, {f"{prefix}{tensor_name}{ending}":
                           f"{prefix}parametrizations.{tensor_name}.{name.format(position)}"
                           for name, ending in older.items()})


def rename(state, names):
    """Give entries of a state other names, {old: new}, where all the old ones are there."""
    if all(old in state for old in names):
        for old, new in names.items():
            state[new] = state.pop(old)


def _register(module, name, tensor):
    (module.register_parameter if isinstance(tensor, Parameter) else module.register_buffer)(name, tensor)


def _check_kept(what, value, shape, dtype):
    expect(isinstance(value, Tensor), what, "a tensor", result=type(value).__name__)
    expect(value.dtype == dtype, what, f"a {dtype} tensor, or unsafe=True", result=value.dtype)
    expect(value.shape == shape, what, f"a tensor of shape {tuple(shape)}, or unsafe=True", result=value)


def register_parametrization(module, tensor_name, parametrization, *, unsafe=False):
    """Compute a parameter or buffer of the module by `parametrization(original)` from now on; returns the module.

    Several are applied in the order of registration. Where they keep neither shape nor dtype, `unsafe` leaves that
    unchecked. Raises ValueError.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        parametrizations = module.parametrizations[tensor_name]
        if not unsafe:
            before = getattr(module, tensor_name)
            after = parametrization(before)
            _check_kept("parametrization", after, before.shape, before.dtype)
            if hasattr(parametrization, "right_inverse"):
                try:
                    back = parametrization.right_inverse(after)
                except NotImplementedError:
                    pass
                else:
                    _check_kept("right_inverse", back, before.shape, before.dtype)
        parametrizations.append(parametrization)
        parametrizations.unsafe |= unsafe
        return module
    tables = module._parameters, module._buffers
    expect(any(tensor_name in table for table in tables), "register_parametrization",
           f"a parameter or buffer {tensor_name!r}", module=type(module).__name__)
    parametrizations = ParametrizationList([parametrization], getattr(module, tensor_name), unsafe)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        module.__class__ = _parametrized(type(module))
        module.parametrizations = ModuleDict()
    module.parametrizations[tensor_name] = parametrizations
    return module


def is_parametrized(module, tensor_name=None):
    """Whether a tensor of the module, or any where no name is given, is parametrized."""
    return bool(_lists(module)) if tensor_name is None else tensor_name in _lists(module)


def remove_parametrizations(module, tensor_name, leave_parametrized=True):
    """Make a tensor a plain parameter or buffer again, with its present value or its original's; returns the module.

    Where there was one original, it stays the same object, so that an optimiser need not be told. Raises ValueError.
    """
    expect(is_parametrized(module, tensor_name), "remove_parametrizations", f"a parametrization on {tensor_name!r}",
           module=type(module).__name__)
    parametrizations = module.parametrizations[tensor_name]
    if parametrizations.is_tensor:
        tensor = parametrizations.original
        if leave_parametrized:
            with no_grad():
                tensor.data = getattr(module, tensor_name).detach()
    else:
        expect(leave_parametrized, "remove_parametrizations", "leave_parametrized=True where there are several "
               "originals", originals=parametrizations.ntensors)
        value = getattr(module, tensor_name)
        tensor = Parameter(value) if value.requires_grad else value
    del module.parametrizations[tensor_name]
    if not is_parametrized(module):
        del module.parametrizations
        module.__class__ = type_before_parametrizations(module)
    _register(module, tensor_name, tensor)
    return module


def type_before_parametrizations(module):
    """The class that the module had before, or has."""
    cls = type(module)
    return cls.__bases__[1] if issubclass(cls, _Parametrized) else cls
