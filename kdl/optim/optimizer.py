"""Optimizer: parameter groups with their options, a state per parameter, and the loop that updates them."""
from collections import defaultdict
from numbers import Real

from kdl import kernels
from kdl.autograd import enable_grad
from kdl.autograd.quiet import quiet
from kdl.errors import expect, expect_type
from kdl.ops.common import dense, like
from kdl.tensor import Tensor, array_module

_IGNORED = ("foreach", "fused", "capturable")  # torch's choices between its own implementations


class Optimizer:
    """The base class. `params` is an iterable of tensors, of (name, tensor) pairs, or of groups: dicts with "params"
    and options that replace the defaults.

    A subclass gives the defaults and either `_prepare` and `_update`, or a `step` of its own.
    `param_groups` (a list of dicts) and `state` (a dict per parameter) may be read and changed at any time.
    """

    def __init__(self, params, defaults, torch_only=()):
        self.defaults = {name: _number(value) for name, value in defaults.items()}
        self._check(torch_only)
        if isinstance(params, Tensor):
            raise TypeError(f"{self._name}: expected an iterable of tensors or dicts, got a Tensor; use [tensor]")
        self.state = defaultdict(dict)
        self.param_groups = []
        params = list(params)
        expect(params, self._name, "at least one parameter", params=params)
        for group in params if isinstance(params[0], dict) else [{"params": params}]:
            self.add_param_group(group)

    @property
    def _name(self):
        return type(self).__name__

    def _check(self, torch_only):
        """The options must be numbers >= 0, dampening excepted, betas in [0, 1)."""
        for name, value in self.defaults.items():
            numbers = value if name == "betas" else (value,)
            expect_type(all(isinstance(v, Real) for v in numbers), self._name, f"{name} to be a number",
                        **{name: value})
            if name == "betas":
                expect(len(value) == 2 and all(0 <= v < 1 for v in value), self._name, "two betas in [0, 1)",
                       betas=value)
            elif name != "dampening":
                expect(value >= 0, self._name, f"{name} >= 0", **{name: value})
        for name in torch_only:
            if name not in (*_IGNORED, "differentiable"):
                raise TypeError(f"{self._name}: got an unexpected argument {name!r}")
            if name == "differentiable" and torch_only[name]:
                raise NotImplementedError(f"{self._name}: differentiable=True is not supported")

    def add_param_group(self, param_group):
        """Add a dict with "params" and options; options not given get the defaults. Raises TypeError, ValueError."""
        expect_type(isinstance(param_group, dict), self._name, "a parameter group to be a dict", group=param_group)
        params = param_group["params"]
        expect_type(not isinstance(params, set), self._name, "parameters in a fixed order", params="a set")
        params = [params] if isinstance(params, Tensor) else list(params)
        named = [p for p in params if isinstance(p, tuple)]
        expect(len(named) in (0, len(params)), self._name, "names for all parameters or for none",
               names=len(named), parameters=len(params))
        if named:
            param_group = {**param_group, "param_names": [name for name, _ in params]}
            params = [p for _, p in params]
        for p in params:
            expect_type(isinstance(p, Tensor), self._name, "parameters to be tensors", parameter=type(p).__name__)
            expect(p.is_leaf, self._name, "parameters to be leaves and not results of recorded operations", parameter=p)
        known = [id(p) for group in self.param_groups for p in group["params"]] + [id(p) for p in params]
        expect(len(known) == len(set(known)), self._name, "every parameter once",
               parameters=len(known), different=len(set(known)))
        options = {name: _number(value) for name, value in param_group.items() if name != "params"}
        self.param_groups.append({"params": params, **self.defaults, **options})

    def zero_grad(self, set_to_none=True):
        """Drop the gradients of all parameters, or fill them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none or p.grad is None:
                    p.grad = None
                else:
                    array_module(p.grad.array).copyto(p.grad.array, 0)

    def step(self, closure=None):
        """Update every parameter that has a gradient; returns what `closure`, called first, returns.

        Raises ValueError when a gradient has not its parameter's shape and dtype.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        self._update_all()
        return loss

    @quiet
    def _update_all(self):
        for group in self.param_groups:
            batches, copies = {}, []  # a kernel takes parameters of one dtype and with the same numbers together
            for p in group["params"]:
                if p.grad is None:
                    continue
                target, g = p.array, p.grad.array
                if g.shape != target.shape or g.dtype != target.dtype:
                    expect(False, f"{self._name}.step", "a gradient of the parameter's shape and dtype", gradient=g,
                           gradient_dtype=g.dtype, parameter=target, parameter_dtype=target.dtype)
                array = dense(target)
                if array is not target:
                    copies.append((target, array))
                averages, numbers = self._prepare(array, self.state[p], group)
                batch = batches.setdefault((kernels.of(array, g), array.dtype, numbers), [])
                batch.append((like(g, array), array, *averages))
                p.version[0] += 1
            for (k, _, numbers), batch in batches.items():
                lists = [None if column[0] is None else column for column in zip(*batch, strict=True)]
                self._update(k, lists, numbers, group)
            for target, array in copies:
                array_module(target).copyto(target, array)

    def _prepare(self, p, state, group):
        """The running averages of the dense array `p` (None for those not used), and the numbers of its own step."""
        return (), ()

    def _update(self, k, lists, numbers, group):
        """Change parameters in place, through the kernels `k`.

        `lists` holds the gradients, the parameters, and a list per average (None where they are); `numbers` are what
        `_prepare` gave for each of them.
        """
        raise NotImplementedError(f"{self._name}: step is not defined")

    def _average(self, state, name, p, value=0):
        """The array that `state` keeps under this name in the shape and layout of `p`; first filled with `value`."""
        tensor = state.get(name)
        if tensor is None:
            tensor = state[name] = Tensor(array_module(p).full_like(p, value))
        array = tensor.array
        if array.shape != p.shape or array.dtype != p.dtype:
            expect(array.shape == p.shape, f"{self._name}.step", f"{name} of the parameter's shape",
                   **{name: array}, parameter=p)
            tensor.array = array = array.astype(p.dtype)
        if array.strides != p.strides:
            tensor.array = array = like(array, p)
        return array

    def state_dict(self):
        """{"state": {index: state}, "param_groups": [options and the indices of the parameters]}.

        Parameters are numbered through the groups; the tensors in it are the optimiser's own.
        """
        params = [p for group in self.param_groups for p in group["params"]]
        index = {id(p): i for i, p in enumerate(params)}
        groups = [{**group, "params": [index[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": {index[id(p)]: dict(state) for p, state in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, state_dict):
        """Take over a copy of what `state_dict` gave, in the dtype and on the device of the parameters.

        Raises ValueError, before anything is changed, unless groups and numbers of parameters are the same.
        """
        op, saved = f"{self._name}.load_state_dict", state_dict["param_groups"]
        expect([len(g["params"]) for g in saved] == [len(g["params"]) for g in self.param_groups], op,
               "groups with as many parameters as the optimiser has",
               saved=[len(g["params"]) for g in saved], optimizer=[len(g["params"]) for g in self.param_groups])
        params = {index: p for mine, theirs in zip(self.param_groups, saved, strict=True)
                  for index, p in zip(theirs["params"], mine["params"], strict=True)}
        state = defaultdict(dict)
        for index, values in state_dict["state"].items():
            expect(index in params, op, "states of parameters in the groups", index=index)
            p = params[index]
            state[p] = {name: _restored(name, value, p) for name, value in values.items()}
        groups = [{**mine, **theirs, "params": mine["params"]}
                  for mine, theirs in zip(self.param_groups, saved, strict=True)]
        self.state, self.param_groups = state, groups

    def __repr__(self):
        lines = [f"{self._name} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return "\n".join(lines) + "\n)"


def _number(value):
    """A one-element tensor as a Python number, anything else as it is."""
    return value.item() if isinstance(value, Tensor) else value


def _restored(name, value, p):
    """A value of a saved state: counters as numbers, tensors copied to the parameter's dtype and device."""
    if not isinstance(value, Tensor):
        return value
    if name in ("step", "mu_product"):
        return value.item()
    return value.to(p.device, p.dtype if value.is_floating_point() else value.dtype).clone()
