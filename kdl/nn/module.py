"""Module: what every layer and network is.

A module keeps three tables, `_parameters`, `_buffers` and `_modules`, filled by assigning attributes, and all that
walks a network (state_dict, to, train, repr ...) walks these tables in the order of assignment.
"""
from collections import OrderedDict, namedtuple

from kdl import types
from kdl.autograd import is_grad_enabled
from kdl.nn.hooks import BackwardWatch
from kdl.nn.parameter import Parameter
from kdl.tensor import Handle, Tensor

IncompatibleKeys = namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])


class Module:
    """The base class: subclasses call `super().__init__()`, assign parts to attributes, and define `forward`.

    Assigning a Parameter or a Module registers it under that name; `register_buffer` adds a tensor that is saved and
    moved with the module but not learned. Calling the module runs `forward` and the hooks.
    """

    def __init__(self):
        self.__dict__.update(training=True, _parameters={}, _buffers={}, _modules={}, _transient=set(), _hooks=None)

    def forward(self, *args, **kwargs):
        raise NotImplementedError(f"{type(self).__name__}: forward is not defined")

    def __call__(self, *args, **kwargs):
        try:
            if self._hooks is None:
                return self.forward(*args, **kwargs)
            return self._call_with_hooks(args, kwargs)
        except Exception as error:
            _say_where(self, error)
            raise

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

    # --- state ---
    def _persistent(self, prefix=""):
        """(key, table, name) of every tensor in state_dict; a shared one under each of its paths."""
        for path, module in self.named_modules(None, prefix.removesuffix("."), remove_duplicate=False):
            for table in (module._parameters, module._buffers):
                for name, tensor in table.items():
                    if tensor is not None and name not in module._transient:
                        yield f"{path}.{name}" if path else name, table, name

    def state_dict(self, *, prefix="", keep_vars=False):
        """Parameters and persistent buffers by path; they share memory with the module.

        With `keep_vars` the tensors themselves, otherwise detached ones.
        """
        return {key: table[name] if keep_vars else table[name].detach()
                for key, table, name in self._persistent(prefix)}

    def load_state_dict(self, state_dict, strict=True, assign=False):
        """Copy tensors or arrays into the parameters and buffers of the same paths; returns the keys that differ.

        With `assign` the module takes the tensors over instead of their values. Raises RuntimeError, before anything is
        loaded, listing line by line what is missing or unexpected (unless not `strict`) and what has another shape.
        """
        if not hasattr(state_dict, "keys"):
            raise TypeError(f"load_state_dict: expected a dict, got {type(state_dict).__name__}")
        entries = {key: (table, name) for key, table, name in self._persistent()}
        missing = [key for key in entries if key not in state_dict]
        unexpected = [key for key in state_dict if key not in entries]
        wrong = []
        if strict:
            wrong += [f"missing key: {key} {tuple(entries[key][0][entries[key][1]].shape)}" for key in missing]
            wrong += [f"unexpected key: {key} {_shape_or_type(state_dict[key])}" for key in unexpected]
        for key, (table, name) in entries.items():
            if key in state_dict:
                shape, given = tuple(table[name].shape), _shape_or_type(state_dict[key])
                if given != shape:
                    wrong.append(f"shape of {key}: the module has {shape}, the state {given}")
        if wrong:
            raise RuntimeError(f"load_state_dict: the state does not fit {type(self).__name__}, nothing was loaded:\n  "
                               + "\n  ".join(wrong))
        for key, (table, name) in entries.items():
            if key in state_dict:
                old, value = table[name], state_dict[key]
                value = value if isinstance(value, Tensor) else Tensor(value)
                if assign:
                    table[name] = Parameter(value, old.requires_grad) if isinstance(old, Parameter) else value
                else:
                    old.array[...] = value.to(old.device).array
                    old.version[0] += 1
        return IncompatibleKeys(missing, unexpected)

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

    # --- hooks ---
    def register_forward_pre_hook(self, hook, *, prepend=False, with_kwargs=False):
        """Call `hook(module, args)` before forward; what it returns replaces the arguments. Returns a handle.

        With `with_kwargs`: `hook(module, args, kwargs)`, which returns a pair.
        """
        return self._add_hook("before", hook, prepend, with_kwargs)

    def register_forward_hook(self, hook, *, prepend=False, with_kwargs=False):
        """Call `hook(module, args, output)` after forward; what it returns replaces the output. Returns a handle.

        With `with_kwargs`: `hook(module, args, kwargs, output)`.
        """
        return self._add_hook("after", hook, prepend, with_kwargs)

    def register_full_backward_hook(self, hook, prepend=False):
        """Call `hook(module, grad_input, grad_output)` when the gradients of the inputs are known.

        Both are tuples, with None for inputs that want no gradient; what it returns replaces `grad_input`. Inputs and
        outputs that are tensors count, positional ones only. Returns a handle.
        """
        return self._add_hook("backward", hook, prepend, False)

    def _add_hook(self, kind, hook, prepend, with_kwargs):
        if self._hooks is None:
            self._hooks = {"before": OrderedDict(), "after": OrderedDict(), "backward": OrderedDict()}
        hooks = self._hooks[kind]
        handle = Handle(hooks, (hook, with_kwargs))
        if prepend:
            hooks.move_to_end(handle.key, last=False)
        return handle

    def _call_with_hooks(self, args, kwargs):
        for hook, with_kwargs in list(self._hooks["before"].values()):
            changed = hook(self, args, kwargs) if with_kwargs else hook(self, args)
            if changed is None:
                continue
            if with_kwargs:
                args, kwargs = changed
            else:
                args = changed if isinstance(changed, tuple) else (changed,)
        watch = None
        if self._hooks["backward"] and is_grad_enabled():
            watch = BackwardWatch(self)
            args = watch.enter(args)
        result = self.forward(*args, **kwargs)
        for hook, with_kwargs in list(self._hooks["after"].values()):
            changed = hook(self, args, kwargs, result) if with_kwargs else hook(self, args, result)
            result = result if changed is None else changed
        return result if watch is None else watch.leave(result)

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


def _say_where(module, error):
    """Keep a note on the error that names the innermost module that raised it, by its path from `module`."""
    if not hasattr(error, "_raised_in"):
        error.add_note(f"in {type(module).__name__}")
        error._raised_in = module, len(error.__notes__) - 1
    raised_in, note = error._raised_in
    path = next((path for path, candidate in module.named_modules() if candidate is raised_in), "")
    if path:
        error.__notes__[note] = f"in layer {path!r} of {type(module).__name__} ({type(raised_in).__name__})"


def _shape_or_type(value):
    return tuple(value.shape) if hasattr(value, "shape") else f"a {type(value).__name__}, which is not a tensor"


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
