# Written by `python -m tests.stubs`: change the tables there.
import builtins
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Self, TypeVar, overload

from kdl.typing import Tensor



def jacobian(func: Callable[..., Any], inputs: Tensor | Sequence[Tensor], create_graph: builtins.bool = False, strict: builtins.bool = False, vectorize: builtins.bool = False, strategy: builtins.str = 'reverse-mode') -> Any: ...
def vjp(func: Callable[..., Any], inputs: Tensor | Sequence[Tensor], v: Tensor | Sequence[Tensor] | None = None, create_graph: builtins.bool = False, strict: builtins.bool = False) -> Any: ...
