"""The reference kernels: NumPy, written to be obviously right; tests and benchmarks compare everything with them.

Its modules are the families of kernels, and every public function in them is a kernel.
"""
import numpy as np

from kdl.types import HALVES


def wide(array):
    """The array itself, or a float32 copy of a float16 or bfloat16 one, to be rounded once when it is stored."""
    return array.astype(np.float32) if array.dtype in HALVES else array
