"""The arithmetic of half types: computed in float32, rounded once when stored."""
import numpy as np

from kdl.types import HALVES


def wide(array):
    """The array itself, or a float32 copy of a float16 or bfloat16 one."""
    return array.astype(np.float32) if array.dtype in HALVES else array
