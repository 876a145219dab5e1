"""States: what a module's parameters and buffers are, by path, and the hooks around saving and loading them."""
from collections import OrderedDict, namedtuple

from kdl.errors import expect_type
from kdl.nn.hooks import Hook
from kdl.nn.parameter import Parameter
from kdl.tensor import Handle, Tensor

IncompatibleKeys = namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])
_EXTRA = "_extra_state"


class Stateful:
    """What Module has of states; their hooks stand in `_state_hooks`, None before there is one."""
    _version = 1  # of a class's state, for its hooks: `local_metadata["version"]` is that of the class that saved it

    def get_extra_state(self):
        """What a subclass keeps in its state beside tensors, under the key "_extra_state"."""
        raise RuntimeError(f"{type(self).__name__}: get_extra_state is not defined")

    def set_extra_state(self, state):
        """Take over what `get_extra_state` gave, which a subclass defines too."""
        raise RuntimeError(f"{type(self).__name__}: set_extra_state is not defined")

    def state_dict(self, *, destination=None, prefix="", keep_vars=False):
        """Parameters and persistent buffers by path, with all paths of a shared one; they share the module's memory.

        With `keep_vars` the tensors themselves, otherwise detached ones. They are added to `destination`, if given.
        """
        state = OrderedDict() if destination is None else destination
        if not hasattr(state, "_metadata"):
            state._metadata = OrderedDict()
        metadata = state._metadata[prefix.removesuffix(".")] = {"version": self._version}
        for hook in self._state_hooks_of("saving"):
            hook(self, prefix, keep_vars)
        for name, table in self._own_state().items():
            state[prefix + name] = table[name] if keep_vars else table[name].detach()
        if type(self).get_extra_state is not Stateful.get_extra_state:
            state[prefix + _EXTRA] = self.get_extra_state()
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=state, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in self._state_hooks_of("saved"):
            if hook(self, state, prefix, metadata) is not None:
                raise RuntimeError("state_dict: expected the post hooks to change the state in place and return None")
        return state

    def load_state_dict(self, state_dict, strict=True, assign=False):
        """Copy tensors or arrays into the parameters and buffers of the same paths; returns the keys that differ.

        With `assign` the module takes the tensors over instead of their values. Raises RuntimeError, before anything is
        loaded, listing line by line what is missing or unexpected (unless not `strict`) and what has another shape;
        where there are post hooks, which may excuse missing and unexpected keys, these are refused after them.
        """
        expect_type(hasattr(state_dict, "keys"), "load_state_dict", "a dict", state_dict=type(state_dict).__name__)
        loading = _Loading(strict, assign, getattr(state_dict, "_metadata", {}))
        loading.find(self, OrderedDict(state_dict), "")
        result = IncompatibleKeys(loading.missing, loading.unexpected)
        hooks = [(module, hook) for module in loading.modules for hook in module._state_hooks_of("loaded")]
        loading.refuse(self, strict and not hooks, "nothing was loaded")
        loading.fill()
        for module, hook in hooks:
            if hook(module, result) is not None:
                raise AssertionError("load_state_dict: expected the post hooks to change the keys in place and return "
                                     "None")
        loading.refuse(self, strict, "what fits was loaded")
        return result

    def register_state_dict_pre_hook(self, hook):
        """Call `hook(module, prefix, keep_vars)` before `state_dict` takes this module's tensors. Returns a handle."""
        return self._add_state_hook("saving", hook)

    def register_state_dict_post_hook(self, hook):
        """Call `hook(module, state_dict, prefix, local_metadata)` after `state_dict` took this module and all below it.

        It changes the state in place. Returns a handle.
        """
        return self._add_state_hook("saved", hook)

    def register_load_state_dict_pre_hook(self, hook):
        """Call a hook before a state is looked through for this module: it may rename, add and remove keys. A handle.

        `hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)`.
        """
        return self._add_state_hook("loading", hook)

    def register_load_state_dict_post_hook(self, hook):
        """Call `hook(module, incompatible_keys)` after a state was loaded here and below; it may remove keys there.

        Returns a handle.
        """
        return self._add_state_hook("loaded", hook)

    def _add_state_hook(self, kind, hook):
        if self._state_hooks is None:
            self._state_hooks = OrderedDict()
        return Handle(self._state_hooks, Hook(kind, hook))

    def _state_hooks_of(self, kind):
        return [hook.call for hook in (self._state_hooks or {}).values() if hook.kind == kind]

    def _own_state(self):
        """The table of every tensor of this module that its state has, by name."""
        return {name: table for table in (self._parameters, self._buffers) for name, tensor in table.items()
                if tensor is not None and name not in self._transient}


class _Loading:
    """One call of `load_state_dict`: which part of the state goes where, and what does not fit."""

    def __init__(self, strict, assign, metadata):
        self.strict, self.assign, self.metadata = strict, assign, metadata
        self.missing, self.unexpected, self.errors = [], [], []
        self.tensors, self.extras = [], []  # (table, name, value), (module, value)
        self.modules = []  # in the order of their post hooks: the ones below first
        self.known = {}  # what a message says of a key

    def find(self, module, state, prefix):
        """Look through the state for the module and those below it."""
        for hook in module._state_hooks_of("loading"):
            hook(module, state, prefix, self.metadata.get(prefix[:-1], {}), self.strict, self.missing, self.unexpected,
                 self.errors)
        own = module._own_state()
        for name, table in own.items():
            self._find_tensor(state, prefix + name, table, name)
        extra = type(module).set_extra_state is not Stateful.set_extra_state
        if extra and prefix + _EXTRA in state:
            self.extras.append((module, state[prefix + _EXTRA]))
        elif extra:
            self.missing.append(prefix + _EXTRA)
        below = {name: child for name, child in module._modules.items() if child is not None}
        parts = {name: OrderedDict() for name in below}
        for key, value in state.items():
            name, dot, _ = key[len(prefix):].partition(".")
            if dot and name in below:
                parts[name][key] = value
            elif dot or not (name in own or (extra and name == _EXTRA)):
                self.unexpected.append(key)
                self.known[key] = _shape_or_type(value)
        for name, child in below.items():
            self.find(child, parts[name], f"{prefix}{name}.")
        self.modules.append(module)

    def _find_tensor(self, state, key, table, name):
        shape = tuple(table[name].shape)
        if key not in state:
            self.missing.append(key)
            self.known[key] = shape
            return
        given = _shape_or_type(state[key])
        if given != shape:
            self.errors.append(f"shape of {key}: the module has {shape}, the state {given}")
        self.tensors.append((table, name, state[key]))

    def refuse(self, module, strict, done):
        """Raise RuntimeError for what does not fit; missing and unexpected keys count where it is strict."""
        lines = list(self.errors)
        if strict:
            lines = [f"{kind} key: {key} {self.known.get(key, '')}".rstrip()
                     for kind, keys in (("missing", self.missing), ("unexpected", self.unexpected)) for key in keys
                     ] + lines
        if lines:
            raise RuntimeError(f"load_state_dict: the state does not fit {type(module).__name__}, {done}:\n  "
                               + "\n  ".join(lines))

    def fill(self):
        """Copy or take over what was found."""
        for table, name, value in self.tensors:
            old, value = table[name], value if isinstance(value, Tensor) else Tensor(value)
            if self.assign:
                table[name] = Parameter(value, old.requires_grad) if isinstance(old, Parameter) else value
            else:
                old.array[...] = value.to(old.device).array
                old.version[0] += 1
        for module, value in self.extras:
            module.set_extra_state(value)


def _shape_or_type(value):
    return tuple(value.shape) if hasattr(value, "shape") else f"a {type(value).__name__}, which is not a tensor"
