"""The type stubs of the public modules: `python -m tests.stubs` writes them, `--check` says whether they are current.

Names, arguments and defaults are those that Python finds; types come from the tables in hints.py, by the name of the
argument, because arguments of one name mean one thing in torch and here. So a new function has its hints without
another line, unless it brings a new argument; what stands in no table has the type of its default, or is Any.
tests/test_typing.py holds the hints against the calls of the op table.
"""
import importlib
import inspect
import re
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from kdl import distributions
from kdl.optim import lr_scheduler
from kdl.tensor import Tensor
from tests.stubs import hints

# A module with a stub, and the package whose classes are declared in it.
MODULES = {
    "kdl.tensor": "kdl.tensor", "kdl.types": "kdl.types", "kdl.nn": "kdl.nn", "kdl.nn.functional": None,
    "kdl.nn.init": None, "kdl.nn.utils": None, "kdl.nn.utils.parametrizations": None,
    "kdl.nn.utils.parametrize": "kdl.nn.utils", "kdl.nn.utils.rnn": "kdl.nn.utils", "kdl.optim": "kdl.optim",
    "kdl.optim.lr_scheduler": "kdl.optim", "kdl.optim.swa_utils": "kdl.optim", "kdl.data": "kdl.data",
    "kdl.models": "kdl.models", "kdl.amp": "kdl.amp", "kdl.autograd": "kdl.autograd", "kdl.autograd.functional": None,
    "kdl.backends": None, "kdl.cuda": None, "kdl.distributions": "kdl.distributions", "kdl.kernels": None,
    "kdl.linalg": "kdl.ops.decomposition", "kdl.onnx": None, "kdl.torch": None, "kdl.utils": None,
    "kdl.utils.checkpoint": None, "kdl.utils.plots": None, "kdl.utils.summary": "kdl.utils", "kdl": "kdl"}
SUBMODULES = {
    "kdl": "amp autograd backends cuda data distributions kernels linalg models nn onnx optim torch utils".split(),
    "kdl.autograd": ["functional"], "kdl.nn": ["functional", "init", "utils"],
    "kdl.nn.utils": ["parametrizations", "parametrize", "rnn"], "kdl.optim": ["lr_scheduler", "swa_utils"],
    "kdl.utils": ["plots"]}
ALIASES = ("DType", "Device", "DeviceLike", "Ints", "NDArray", "Scalar", "Selection", "Size", "Tensor",
           "TensorLike")
HEADER = """# Written by `python -m tests.stubs`: change the tables there.
import builtins
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Self, TypeVar, overload

"""

# What a stub has where its text speaks of it
WHERE_USED = {"AbstractContextManager": "from contextlib import AbstractContextManager",
              "PathLike": "from os import PathLike", "NamedTuple": "from typing import NamedTuple",
              "_F": '_F = TypeVar("_F", bound=Callable[..., Any])', "_M": '_M = TypeVar("_M", bound=Module)',
              "_T": '_T = TypeVar("_T")'}

_EXTREME = [("", "Tensor"), ("dim: builtins.int, keepdim: builtins.bool = False", "Selection")]
_NAME = "DType | builtins.str | builtins.type[Any]"
# What has several forms: the arguments behind the first, and the result.
OVERLOADS = {
    "max": [*_EXTREME, ("other: Tensor", "Tensor")], "min": [*_EXTREME, ("other: Tensor", "Tensor")],
    "median": _EXTREME, "nanmedian": _EXTREME,
    "size": [("dim: None = None", "Size"), ("dim: builtins.int", "builtins.int")],
    "stride": [("dim: None = None", "builtins.tuple[builtins.int, ...]"), ("dim: builtins.int", "builtins.int")],
    "kdl.where": [("input: TensorLike, other: TensorLike", "Tensor"), ("", "builtins.tuple[Tensor, ...]")],
    "nonzero": [("*, as_tuple: Literal[False] = False", "Tensor"),
                ("*, as_tuple: Literal[True]", "builtins.tuple[Tensor, ...]")],
    "type": [("dtype: None = None, non_blocking: builtins.bool = False", "builtins.str"),
             (f"dtype: {_NAME}, non_blocking: builtins.bool = False", "Tensor")],
    **{f"{name}.forward": [(f"input: {kind}, hx: {states} | None = None", f"builtins.tuple[{kind}, {states}]")
                           for kind in ("Tensor", "PackedSequence")]
       for name, states in (("RNN", "Tensor"), ("GRU", "Tensor"), ("LSTM", "builtins.tuple[Tensor, Tensor]"))}}
ATTRIBUTES = {
    **{name: ["weight: Parameter", "bias: Parameter | None"] for name in ("Linear", "Conv1d", "Conv2d", "Conv3d")},
    "Embedding": ["weight: Parameter"], "Module": ["training: builtins.bool"],
    "Optimizer": ["param_groups: builtins.list[builtins.dict[builtins.str, Any]]", "state: builtins.dict[Any, Any]"],
    "LRScheduler": ["optimizer: Optimizer", "last_epoch: builtins.int", "base_lrs: builtins.list[builtins.float]"],
    "PackedSequence": ["data: Tensor", "batch_sizes: Tensor", "sorted_indices: Tensor | None = ...",
                       "unsorted_indices: Tensor | None = ..."],
    "Row": ["name: builtins.str", "kind: builtins.str", "depth: builtins.int", "output: builtins.str",
            "parameters: builtins.int", "flops: builtins.int", "bytes: builtins.int"],
    "Summary": ["rows: builtins.list[Row]", "parameters: builtins.int", "trainable: builtins.int",
                "flops: builtins.int", "parameter_bytes: builtins.int", "activation_bytes: builtins.int"],
    "device": ["type: builtins.str", "index: builtins.int | None"],
    "Function": ["forward: Callable[..., Any]", "backward: Callable[..., Any]", "k: Any",
                 "needs_input_grad: builtins.tuple[builtins.bool, ...]"],
    "Distribution": ["batch_shape: Size", "event_shape: Size", "has_rsample: builtins.bool",
                     "has_enumerate_support: builtins.bool", "parameters: builtins.tuple[builtins.str, ...]",
                     *(f"@property\n    def {name}(self) -> Tensor: ..." for name in ("mean", "mode", "variance")),
                     "def entropy(self) -> Tensor: ..."],
    "Independent": ["base_dist: Distribution", "reinterpreted_batch_ndims: builtins.int"],
    "AveragedModel": ["module: Module", "n_averaged: Tensor"]}
# Methods that take or give other types than those of the base, and comparisons that either side may answer
EXCUSED = {("Tensor", "__eq__"): "override", ("Tensor", "__ne__"): "override", ("LBFGS", "step"): "override",
           ("ReduceLROnPlateau", "step"): "override",
           **{("Tensor", f"__{name}__"): "misc" for name in ("le", "ge", "lt", "gt")}}
_UNSAID = {"__slots__", "__module__", "__dict__", "__weakref__", "__array_ufunc__", "__hash__", "__repr__", "__str__",
           "__doc__", "__match_args__", "__getstate__", "__setstate__", "__firstlineno__", "__static_attributes__",
           "__dataclass_fields__", "__dataclass_params__", "__annotations__", "__replace__"}


def _by_name(table):
    return {name: hint for hint, names in table.items() for name in names.split()}


_ARGUMENT, _OF, _RESULT, _RESULT_OF = map(_by_name, (hints.ARGUMENTS, hints.OF, hints.RESULTS, hints.RESULTS_OF))
_BY_DEFAULT = {bool: "builtins.bool", int: "Scalar", float: "Scalar", str: "builtins.str"}
_GIVE_TENSORS = ("Tensor", "kdl", "functional", "init", "models", "linalg")
_FAMILY = {**dict.fromkeys((*vars(lr_scheduler), "SWALR"), "LRScheduler"),
           **dict.fromkeys(distributions.__all__, "Distribution")}


# --- hints ---
def argument(owner, function, parameter):
    """The hint of one argument; `owner` is the class, or "" for a function."""
    name, default = parameter.name, parameter.default
    base = function if function.startswith("__") else function.rstrip("_")
    if parameter.kind is parameter.VAR_POSITIONAL:
        return hints.STARS.get(f"{owner or base}.{name}") or hints.STARS.get(name, "Any")
    if parameter.kind is parameter.VAR_KEYWORD:
        return "Any"
    usual = _BY_DEFAULT.get(type(default), "Any")
    hint = next((_OF[key] for key in (f"{owner}.{name}", f"{function}.{name}", f"{base}.{name}") if key in _OF), None)
    if hint is None and name == "dim" and base in hints.SEVERAL_DIMS:
        hint = "Ints"
    if hint is None and name == "bias" and not (owner and function == "__init__"):
        hint = "Tensor"
    hint = hint or _ARGUMENT.get(name) or usual
    if type(default) in (bool, str) and usual not in hint:
        hint = usual
    return f"{hint} | None" if default is None and hint != "Any" and "None" not in hint else hint


def result(owner, name):
    """The hint of what a function, or a method of the class `owner`, gives."""
    for key in (f"{owner}.{name}", f"{_FAMILY.get(owner)}.{name}"):
        if key in _RESULT_OF:
            return _RESULT_OF[key]
    base = name if name.startswith("__") else name.rstrip("_")
    usual = "Tensor" if owner in _GIVE_TENSORS or name == "forward" else "Any"
    return _RESULT.get(name) or _RESULT.get(base) or usual


# --- text ---
def arguments(owner, name, function, is_method):
    """What stands between the parentheses of a `def`."""
    parameters, parts = list(inspect.signature(function).parameters.values()), []
    if is_method:
        parameters, parts = parameters[1:], ["self"]
    for p in parameters:
        if p.kind is p.KEYWORD_ONLY and not any(part.startswith("*") for part in parts):
            parts.append("*")
        if p.kind is p.POSITIONAL_ONLY:
            position = len(parts) + 1
        stars = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        plain = p.default is None or type(p.default) in (bool, int, str) or (
            type(p.default) is float and np.isfinite(p.default))
        default = "" if p.default is p.empty else f" = {p.default!r}" if plain else " = ..."
        parts.append(f"{stars}{p.name}: {argument(owner if is_method else '', name, p)}{default}")
    if any(p.kind is p.POSITIONAL_ONLY for p in parameters):
        parts.insert(position, "/")
    return ", ".join(parts)


def definitions(owner, name, function, is_method=False):
    """The `def` of a function or method; several where the result goes by the arguments."""
    if name.endswith("_") and not name.startswith("__"):  # takes what the function of that name without _ takes
        base = getattr(Tensor, name[:-1], None)
        function = base if inspect.isfunction(base) else function
    forms = OVERLOADS.get(f"{owner}.{name}") or (OVERLOADS.get(name) if owner in ("Tensor", "kdl") else None)
    if forms:
        first = "self" if is_method else "condition: Tensor" if name == "where" else "input: Tensor"
        forms = [(f"{first}, {args}" if args else first, gives) for args, gives in forms]
    else:
        args = arguments(owner, name, function, is_method)
        forms = [(args, result(owner, name))]
        usual = "return_indices: builtins.bool = False"
        if usual in args and name != "__init__" and not name.endswith("_with_indices"):
            forms = [(args.replace(usual, "return_indices: Literal[False] = False"), "Tensor"),
                     (args.replace(usual, "*, return_indices: Literal[True]"), "builtins.tuple[Tensor, Tensor]")]
    lines = []
    for args, gives in forms:
        lines += ["@overload"] * (len(forms) > 1) + [f"def {name}({args}) -> {gives}: ..."]
    return lines


def class_stub(cls, classes):
    """A class with its own methods and those of its private bases."""
    own, bases = dict(cls.__dict__), "(builtins.tuple[builtins.int, ...])" if tuple in cls.__bases__ else ""
    if hasattr(cls, "_fields"):
        own, bases = {name: own[name] for name in own.keys() - vars(namedtuple("Plain", ()))}, "(NamedTuple)"
    for base in cls.__mro__[1:]:
        if base in classes:
            bases = f"({base.__name__})"
            break
        if base.__module__.startswith("kdl"):
            own = dict(base.__dict__) | own
    if "__dataclass_fields__" in own:
        own = {name: member for name, member in own.items() if name not in ("__init__", "__eq__")}
    lines = list(ATTRIBUTES.get(cls.__name__, [f"{name}: Tensor" for name in getattr(cls, "_fields", ())]))
    if issubclass(cls, distributions.Distribution):
        lines += [f"{name}: Tensor" for name in cls.parameters]
    said = {line.partition(":")[0] for line in lines} | _UNSAID
    for name, member in sorted(own.items()):
        if name not in said and (not name.startswith("_") or name.endswith("__")):
            lines += member_stub(cls, name, member)
    return "\n    ".join([f"class {cls.__name__}{bases}:", *(lines or ["..."])])


def member_stub(cls, name, member):
    owner = cls.__name__
    if isinstance(member, property) or inspect.ismemberdescriptor(member):
        hint = result(owner, name)
        writable = inspect.ismemberdescriptor(member) or member.fset
        return [f"{name}: {hint}"] if writable else ["@property", f"def {name}(self) -> {hint}: ..."]
    if isinstance(member, (staticmethod, classmethod)):
        kind = type(member).__name__
        return [f"@{kind}", f"def {name}({'cls, ' * (kind == 'classmethod')}*args: Any, **kwargs: Any) -> Any: ..."]
    if not inspect.isfunction(member):
        return [] if name.startswith("__") else [f"{name}: Any"]
    if name == "__call__" and "function" in inspect.signature(member).parameters:  # a decorator
        return [f"def {name}(self, function: _F) -> _F: ..."]
    lines = definitions(owner, name, member, is_method=True)
    if (owner, name) in EXCUSED:
        lines[-1] += f"  # type: ignore[{EXCUSED[owner, name]}]"
    if name == "forward" and owner != "Module" and "__call__" not in cls.__dict__:
        lines += [line.replace("def forward", "def __call__") for line in lines]
    return lines


def homes():
    """The classes that have a stub, each with the module that it stands in."""
    found = {}
    for name, package in MODULES.items():
        for value in vars(importlib.import_module(name)).values():
            if package and inspect.isclass(value) and f"{value.__module__}.".startswith(f"{package}.") and (
                    not value.__name__.startswith("_")):
                found.setdefault(value, name)
    return found


def stub(name, classes):
    """The stub of a module, as text; `classes` are those of `homes()`."""
    module, owner = importlib.import_module(name), name.rpartition(".")[2]
    public = getattr(module, "__all__", vars(module))
    imports, constants, bodies, functions = set(), [], [], []
    for n, value in sorted(vars(module).items()):
        home = getattr(value, "__module__", None) or ""
        if (n.startswith("_") and n != "__version__") or home == "kdl.errors":
            continue
        if inspect.ismodule(value):
            if n in SUBMODULES.get(name, ()):
                imports.add(f"from {name} import {n} as {n}")
        elif inspect.isclass(value):
            if classes.get(value) == name and n == value.__name__:
                bodies.append((len(value.__mro__), class_stub(value, classes)))
            elif value in classes and n in public:
                imports.add(f"from {classes[value]} import {value.__name__} as {n}")
        elif n not in public:
            continue
        elif home.startswith("kdl") and callable(value):
            functions += definitions(owner, n, value)
        elif value is None or isinstance(value, (float, str, np.dtype)) or type(value) in classes:
            kinds = {float: "builtins.float", str: "builtins.str", type(None): "None"}
            kind = "DType" if isinstance(value, np.dtype) else kinds.get(type(value), type(value).__name__)
            constants.append(f"{n}: {kind}")
        elif isinstance(value, SimpleNamespace):
            constants.append(f"{n}: Any")
    text = "\n".join([*constants, "", *(body for _, body in sorted(bodies)), "", *functions])
    used = [line for word, line in WHERE_USED.items() if re.search(rf"\b{word}\b", text)]
    imports |= {line for line in used if line.startswith("from")}
    text = "\n".join([*(line for line in used if not line.startswith("from")), text])

    def lacks(word):
        return re.search(rf"\b{word}\b", text) and not re.search(rf"class {word}\b", text) and not any(
            line.endswith((f" as {word}", f"import {word}")) for line in imports)
    for cls, home in classes.items():
        if home not in (name, "kdl.models") and cls.__name__ not in ALIASES and cls.__name__[0].isupper() and (
                lacks(cls.__name__)):
            imports.add(f"from {home} import {cls.__name__}")
    aliases = ", ".join(word for word in ALIASES if lacks(word))
    lines = [f"from kdl.typing import {aliases}"] if aliases else []
    return HEADER + "\n".join([*lines, *sorted(imports)]) + f"\n\n{text}\n"


def stubs():
    """The text of every stub, by its path."""
    classes = homes()
    return {Path(importlib.import_module(name).__file__).with_suffix(".pyi"): stub(name, classes) for name in MODULES}


def main(check=False):
    stale = {path: text for path, text in stubs().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        print(f"{'stale' if check else 'wrote'} {path}")
        if not check:
            path.write_text(text)
    return int(check and bool(stale))
