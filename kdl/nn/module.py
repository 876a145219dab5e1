"""Module: what every layer and network is.

A module keeps three tables, `_parameters`, `_buffers` and `_modules`, filled by assigning attributes, and all that
walks a network (state_dict, to, train, repr ...) walks these tables in the order of assignment. How it is called
stands in hooks.py, its states in state.py.
"""
from kdl import types
from kdl.errors import expect
from kdl.nn.hooks import Hooked
from kdl.nn.parameter import Buffer, Parameter
from kdl.nn.state import Stateful
from kdl.tensor import Tensor


class Module(Hooked, Stateful):
    """The base class: subclasses call `super().__init__()`, assign parts to attributes, and define `forward`.

    Assigning a Parameter, a Buffer or a Module registers it under that name; a buffer is saved and moved with the
    module but not learned. Calling the module runs `forward` and the hooks.
    """

    def __init__(self):
        self.__dict__.update(training=True, _parameters={}, _buffers={}, _modules={}, _transient=set(), _hooks=None,
                             _state_hooks=None)

    def forward(self, *args, **kwargs):
        raise NotImplementedError(f"{type(self).__name__}: forward is not defined")

    # --- the tables ---
    def __getattr__(self, name):
        tables = self.__dict__
        if "_modules" not in tables:
            raise AttributeError(f"{type(self).__name__}: super().__init__() has to be called before {name!r} is used")
        for table in ("_parameters", "_buffers", "_modules"):
            if name in tables[table]:
                return tables[table][name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name, value):
        tables = self.__dict__
        if "_modules" not in tables:
            if isinstance(value, (Parameter, Module)):
                raise AttributeError(f"{type(self).__name__}: super().__init__() has to be called before parameters or "
                                     f"modules are assigned, got {name!r}")
            object.__setattr__(self, name, value)
        elif isinstance(value, Parameter):
            self._forget(name, keep="_parameters")
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._forget(name, keep="_modules")
            self.add_module(name, value)
        elif name in tables["_parameters"]:
            self.register_parameter(name, value)
        elif name in tables["_modules"]:
            self.add_module(name, value)
        elif isinstance(value, Buffer):
            self._forget(name, keep="_buffers")
            self.register_buffer(name, value, value.persistent)
        elif name in tables["_buffers"]:
            self.register_buffer(name, value, name not in self._transient)
        else:
            object.__setattr__(self, name, value)

    def __delattr__(self, name):
        if any(name in table for table in (self._parameters, self._buffers, self._modules)):
            self._forget(name)
        else:
            object.__delattr__(self, name)

    def _forget(self, name, keep=None):
        for table in ("_parameters", "_buffers", "_modules"):
            if table != keep:
                self.__dict__[table].pop(name, None)
        self.__dict__.pop(name, None)
        self._transient.discard(name)

    def __dir__(self):
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    def register_parameter(self, name, param):
        """Add a parameter (or None, a name without one). Raises TypeError, KeyError, ValueError."""
        self._check_name("parameter", name, "_parameters")
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"{type(self).__name__}.{name}: expected an nn.Parameter or None, "
                            f"got {type(param).__name__}")
        if param is not None and param.grad_fn is not None:
            raise ValueError(f"{type(self).__name__}.{name}: expected a leaf, got the result of a recorded operation; "
                             "compute it in forward instead")
        self._parameters[name] = param

    def register_buffer(self, name, tensor, persistent=True):
        """Add a tensor (or None) that is not learned; one that is not persistent is left out of state_dict."""
        self._check_name("buffer", name, "_buffers")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"{type(self).__name__}.{name}: expected a Tensor or None, got {type(tensor).__name__}")
        self._buffers[name] = tensor
        (self._transient.discard if persistent else self._transient.add)(name)

    def add_module(self, name, module):
        """Add a submodule (or None)."""
        self._check_name("module", name, "_modules")
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}.{name}: expected an nn.Module or None, "
                            f"got {type(module).__name__}")
        self._modules[name] = module

    register_module = add_module

    def _check_name(self, kind, name, table):
        if table not in self.__dict__:
            raise AttributeError(f"{type(self).__name__}: super().__init__() has to be called before a {kind} is added")
        if not isinstance(name, str):
            raise TypeError(f"{type(self).__name__}: expected a {kind} name to be a string, got {name!r}")
        if name == "" or "." in name:
            raise KeyError(f"{type(self).__name__}: expected a {kind} name without '.' and not empty, got {name!r}")
        if name not in self.__dict__[table] and hasattr(self, name):
            raise KeyError(f"{type(self).__name__}: attribute {name!r} already exists")

    # --- walking ---
    def named_modules(self, memo=None, prefix="", remove_duplicate=True):
        """This module and all below it, with their paths ("" for this one); shared ones once."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self):
        """This module and all below it; shared ones once."""
        return (module for _, module in self.named_modules())

    def named_children(self):
        """The direct submodules, with their names; shared ones once."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self):
        """The direct submodules; shared ones once."""
        return (module for _, module in self.named_children())

    def _named_tensors(self, table, prefix, recurse, remove_duplicate):
        seen = set()
        modules = self.named_modules(None, prefix, remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, tensor in module.__dict__[table].items():
                if tensor is None or id(tensor) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(tensor))
                yield f"{path}.{name}" if path else name, tensor

    def named_parameters(self, prefix="", recurse=True, remove_duplicate=True):
        """The parameters with their paths; shared ones once."""
        return self._named_tensors("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse=True):
        """The parameters; shared ones once."""
        return (tensor for _, tensor in self.named_parameters("", recurse))

    def named_buffers(self, prefix="", recurse=True, remove_duplicate=True):
        """The buffers with their paths; shared ones once."""
        return self._named_tensors("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse=True):
        """The buffers; shared ones once."""
        return (tensor for _, tensor in self.named_buffers("", recurse))

    def get_submodule(self, target):
        """The module at a path such as "features.0"; "" is this one. Raises AttributeError."""
        module = self
        for name in target.split(".") if target else ():
            child = module._modules.get(name)
            if child is None:
                raise AttributeError(f"get_submodule: {type(module).__name__} has no submodule {name!r} "
                                     f"(on the path {target!r})")
            module = child
        return module

    def set_submodule(self, target, module, strict=False):
        """Put a module at a path, whose parent exists; with `strict` in the place of another one.

        Raises ValueError for an empty path or what is not a module, AttributeError.
        """
        expect(target != "", "set_submodule", "a path that is not empty", target=repr(target))
        expect(isinstance(module, Module), "set_submodule", "an nn.Module", module=type(module).__name__)
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if hasattr(parent, name) or strict:
            parent.get_submodule(name)
        parent.add_module(name, module)

    def get_parameter(self, target):
        """The parameter at a path such as "features.0.weight". Raises AttributeError."""
        return self._get_tensor("parameter", target)

    def get_buffer(self, target):
        """The buffer at a path such as "bn.running_mean". Raises AttributeError."""
        return self._get_tensor("buffer", target)

    def _get_tensor(self, kind, target):
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        tensor = module.__dict__[f"_{kind}s"].get(name)
        if tensor is None:
            raise AttributeError(f"get_{kind}: {type(module).__name__} has no {kind} {name!r} (on the path {target!r})")
        return tensor

    def apply(self, fn):
        """Call `fn` on every module below, then on this one; returns self."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # --- changing it as a whole ---
    def train(self, mode=True):
        """Switch to training (or evaluation) behaviour, here and below; returns self."""
        if not isinstance(mode, bool):
            raise ValueError(f"train: expected mode to be True or False, got {mode!r}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self):
        """Switch to evaluation behaviour, here and below; returns self."""
        return self.train(False)

    def requires_grad_(self, requires_grad=True):
        """Record (or stop recording) gradients for every parameter; returns self."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none=True):
        """Drop the gradients of every parameter, or fill them with zeros."""
        for p in self.parameters():
            if set_to_none or p.grad is None:
                p.grad = None
            else:
                p.grad.array[...] = 0

    def to(self, *args, **kwargs):
        """Move and convert the parameters and buffers in place: `to(device)`, `to(dtype)`, `to(device, dtype)`,
        `to(tensor)`, `to(memory_format=...)`; returns self.

        The dtype changes floating-point tensors only, the memory format those of its number of dimensions.
        Raises TypeError for a dtype that is not floating-point.
        """
        device, dtype, memory_format = _parse_to(*args, **kwargs)
        ndim = {types.channels_last: 4, types.channels_last_3d: 5}.get(memory_format)

        def convert(x):
            wanted = {"device": device, "dtype": dtype if x.is_floating_point() else None,
                      "memory_format": memory_format if x.ndim == ndim or ndim is None else None}
            wanted = {name: value for name, value in wanted.items() if value is not None}
            return x.to(**wanted) if wanted else x
        return self._apply(convert)

    def type(self, dst_type):
        """Convert every parameter and buffer, those of integers too, to a dtype or a type's name; returns self."""
        return self._apply(lambda x: x.type(dst_type))

    def _apply(self, fn):
        """Give every parameter and buffer the memory of `fn(tensor)`; parameters stay the same objects."""
        for module in self.modules():
            for p in module._parameters.values():
                if p is not None:
                    p.data = fn(p.detach())
                    p.grad = None if p.grad is None else fn(p.grad)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = fn(buffer)
        return self

    def float(self):
        """Convert floating-point parameters and buffers to float32; returns self."""
        return self.to(types.float32)

    def double(self):
        """Convert floating-point parameters and buffers to float64; returns self."""
        return self.to(types.float64)

    def half(self):
        """Convert floating-point parameters and buffers to float16; returns self."""
        return self.to(types.float16)

    def bfloat16(self):
        """Convert floating-point parameters and buffers to bfloat16; returns self."""
        return self.to(types.bfloat16)

    def cpu(self):
        """Move parameters and buffers to the CPU; returns self."""
        return self.to("cpu")

    def cuda(self, device=None):
        """Move parameters and buffers to a GPU; returns self."""
        return self.to(types.device("cuda", device) if isinstance(device, int) else device or "cuda")

    # --- showing it ---
    def extra_repr(self):
        """What stands between the brackets of the module's line in `repr`."""
        return ""

    def __repr__(self):
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): {indent(repr(module))}" for name, module in self._modules.items()]
        if len(lines) <= 1 and not children:
            return f"{type(self).__name__}({extra})"
        return f"{type(self).__name__}(\n  " + "\n  ".join(lines + children) + "\n)"


def indent(text):
    """The text with every line but the first moved two columns to the right."""
    return text.replace("\n", "\n  ")


def _parse_to(device=None, dtype=None, non_blocking=False, *, memory_format=None):
    """(device, dtype, memory_format) of the forms of `Module.to`; `non_blocking` has no effect."""
    if isinstance(device, Tensor):
        device, dtype = device.device, device.dtype
    elif device is not None and not isinstance(device, (str, types.device)):
        device, dtype = None, device
    if dtype is not None:
        dtype = types.as_dtype(dtype)
        if dtype not in types.FLOATS:
            raise TypeError(f"Module.to: expected a floating-point dtype, got {dtype}")
    return device, dtype, memory_format
