# Written by `python -m tests.stubs`: change the tables there.
import builtins
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Self, TypeVar, overload

from kdl.typing import DType
from kdl.nn import Module


class Row:
    name: builtins.str
    kind: builtins.str
    depth: builtins.int
    output: builtins.str
    parameters: builtins.int
    flops: builtins.int
    bytes: builtins.int
class Summary:
    rows: builtins.list[Row]
    parameters: builtins.int
    trainable: builtins.int
    flops: builtins.int
    parameter_bytes: builtins.int
    activation_bytes: builtins.int

def summary(model: Module, *inputs: Any, dtype: DType | None = None) -> Summary: ...
