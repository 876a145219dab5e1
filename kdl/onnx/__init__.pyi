# Written by `python -m tests.stubs`: change the tables there.
import builtins
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Self, TypeVar, overload

from kdl.nn import Module
from os import PathLike



def export(model: Module, args: Any, path: PathLike[builtins.str] | builtins.str | None = None, *, input_names: Any = None, output_names: Any = None, dynamic_axes: Any = None, opset_version: builtins.int = 20) -> Any: ...
def load(path: PathLike[builtins.str] | builtins.str) -> Module: ...
