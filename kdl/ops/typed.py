"""The older names of dtypes: FloatTensor, LongTensor, ... make tensors, and `x.type()` says which name is x's.

`tensor`, `empty`, `x.dtype` and `x.to` are the newer ways.
"""
from kdl import types
from kdl.ops.creation import empty, tensor
from kdl.tensor import method

__all__ = ["BFloat16Tensor", "BoolTensor", "ByteTensor", "CharTensor", "DoubleTensor", "FloatTensor", "HalfTensor",
           "IntTensor", "LongTensor", "ShortTensor"]


_NAMES = {}


def _typed(name, dtype):
    def make(*data):
        if all(isinstance(n, int) for n in data):
            return empty(data or (0,), dtype=dtype)
        value, = data
        return tensor(value, dtype=dtype)
    make.__name__ = make.__qualname__ = name
    make.typed = dtype
    _NAMES[dtype] = name
    make.__doc__ = f"A {dtype} tensor of a list or array, or uninitialised of the sizes given one by one."
    return make


BoolTensor, ByteTensor = _typed("BoolTensor", types.boolean), _typed("ByteTensor", types.uint8)
CharTensor, ShortTensor = _typed("CharTensor", types.int8), _typed("ShortTensor", types.int16)
IntTensor, LongTensor = _typed("IntTensor", types.int32), _typed("LongTensor", types.int64)
HalfTensor, BFloat16Tensor = _typed("HalfTensor", types.float16), _typed("BFloat16Tensor", types.bfloat16)
FloatTensor, DoubleTensor = _typed("FloatTensor", types.float32), _typed("DoubleTensor", types.float64)


@method
def type(input, dtype=None, non_blocking=False):
    """The tensor as a dtype or as one of the names of this page; without one, the name, as "kdl.FloatTensor"."""
    if dtype is None:
        return f"kdl.{'cuda.' if input.is_cuda else ''}{_NAMES[input.dtype]}"
    return input.to(dtype=getattr(dtype, "typed", dtype))
