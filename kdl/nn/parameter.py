"""Parameter, a tensor that a module learns, and Buffer, one that it keeps."""
import numpy as np

from kdl import types
from kdl.errors import expect_type
from kdl.tensor import Tensor


class Parameter(Tensor):
    """A tensor that becomes a parameter of the module it is assigned to; it shares `data`'s memory.

    Raises RuntimeError for a dtype that cannot require gradients (pass `requires_grad=False` for those), TypeError.
    """

    def __init__(self, data=None, requires_grad=True):
        array = data.array if isinstance(data, Tensor) else data
        if array is None:
            array = np.empty(0, types.get_default_dtype())
        if not hasattr(array, "strides"):
            raise TypeError(f"Parameter: expected a tensor or an array, got {type(data).__name__}")
        if requires_grad and array.dtype not in types.FLOATS:
            raise RuntimeError(f"Parameter: only floating-point tensors can require gradients, got {array.dtype}; "
                               "pass requires_grad=False")
        super().__init__(array, requires_grad)
        if isinstance(data, Tensor):
            self.version, self.is_view = data.version, data.is_view

    def __repr__(self):
        return f"Parameter containing:\n{super().__repr__()}"


class Buffer(Tensor):
    """A tensor that becomes a buffer of the module it is assigned to, in its state if persistent; it shares `data`'s
    memory. Raises TypeError.
    """

    def __init__(self, data=None, *, persistent=True):
        if data is None:
            data = np.empty(0, types.get_default_dtype())
        expect_type(hasattr(data, "shape"), "Buffer", "a tensor or an array", data=type(data).__name__)
        super().__init__(data.array if isinstance(data, Tensor) else data)
        self.persistent = persistent
        if isinstance(data, Tensor):
            self.version, self.is_view = data.version, data.is_view


def new_parameter(*shape, device=None, dtype=None):
    """A parameter with uninitialised memory, of the default dtype and on the CPU unless told otherwise."""
    data = Tensor(np.empty(shape, types.get_default_dtype() if dtype is None else types.as_dtype(dtype)))
    return Parameter(data if device is None else data.to(device))
