# Written by `python -m tests.stubs`: change the tables there.
import builtins
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Self, TypeVar, overload

from kdl.typing import Tensor



def from_torch(tensor: Any) -> Tensor: ...
def to_torch(tensor: Tensor) -> Any: ...
def wrap(function: Callable[..., Any]) -> Callable[..., Any]: ...
