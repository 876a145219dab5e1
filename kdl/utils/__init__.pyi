# Written by `python -m tests.stubs`: change the tables there.
import builtins
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Self, TypeVar, overload

from kdl.typing import DType, Tensor
from kdl.nn import Module
from kdl.utils import plots as plots
from kdl.utils.summary import Summary



def checkpoint(function: Callable[..., Any], *args: Any, use_reentrant: builtins.bool | None = None, preserve_rng_state: builtins.bool = True, **kwargs: Any) -> Any: ...
def checkpoint_sequential(functions: Any, segments: builtins.int, input: Tensor, use_reentrant: builtins.bool | None = None, preserve_rng_state: builtins.bool = True) -> Any: ...
def summary(model: Module, *inputs: Any, dtype: DType | None = None) -> Summary: ...
