"""What type hints are made of, here and in code that uses kdl: `def loss(x: Tensor, dim: Ints, dtype: DType): ...`."""
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from kdl.ops.extremum import Selection
from kdl.tensor import Size, Tensor
from kdl.types import MemoryFormat, device

__all__ = ["DType", "Device", "DeviceLike", "Ints", "MemoryFormat", "NDArray", "Scalar", "Selection", "Size", "Tensor",
           "TensorLike"]

DType: TypeAlias = np.dtype[Any]
Device: TypeAlias = device
DeviceLike: TypeAlias = device | str | int
NDArray: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Scalar: TypeAlias = float  # an int or a bool is one too
Ints: TypeAlias = int | Sequence[int]
TensorLike: TypeAlias = Tensor | NDArray | float
