# Written by `python -m tests.stubs`: change the tables there.
import builtins
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Self, TypeVar, overload

from kdl.typing import Scalar
from kdl.nn import Module

_M = TypeVar("_M", bound=Module)


def orthogonal(module: _M, name: builtins.str = 'weight', orthogonal_map: builtins.str | None = None, *, use_trivialization: builtins.bool = True) -> _M: ...
def spectral_norm(module: _M, name: builtins.str = 'weight', n_power_iterations: builtins.int = 1, eps: Scalar = 1e-12, dim: builtins.int | None = None) -> _M: ...
def weight_norm(module: _M, name: builtins.str = 'weight', dim: builtins.int = 0) -> _M: ...
