"""The older constructors that name a dtype: FloatTensor, LongTensor, ...; `tensor` and `empty` are the newer ones."""
from kdl import types
from kdl.ops.creation import empty, tensor

__all__ = ["BFloat16Tensor", "BoolTensor", "ByteTensor", "CharTensor", "DoubleTensor", "FloatTensor", "HalfTensor",
           "IntTensor", "LongTensor", "ShortTensor"]


def _typed(name, dtype):
    def make(*data):
        if all(isinstance(n, int) for n in data):
            return empty(data or (0,), dtype=dtype)
        value, = data
        return tensor(value, dtype=dtype)
    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"A {dtype} tensor of a list or array, or uninitialised of the sizes given one by one."
    return make


BoolTensor, ByteTensor = _typed("BoolTensor", types.boolean), _typed("ByteTensor", types.uint8)
CharTensor, ShortTensor = _typed("CharTensor", types.int8), _typed("ShortTensor", types.int16)
IntTensor, LongTensor = _typed("IntTensor", types.int32), _typed("LongTensor", types.int64)
HalfTensor, BFloat16Tensor = _typed("HalfTensor", types.float16), _typed("BFloat16Tensor", types.bfloat16)
FloatTensor, DoubleTensor = _typed("FloatTensor", types.float32), _typed("DoubleTensor", types.float64)
