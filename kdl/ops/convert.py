"""The same values in another dtype, on another device, in another memory order, or written over another tensor.

All are recorded: the gradient goes back in the input's dtype and to its device.
"""
import numpy as np

from kdl import types
from kdl.autograd import Function
from kdl.autograd.quiet import quiet
from kdl.errors import expect, expect_type
from kdl.kernels import cuda as cuda_kernels
from kdl.ops.common import array_of, assign_, laid_out, unbroadcast
from kdl.ops.pointwise import cast, check_broadcast, operand, untracked
from kdl.tensor import Tensor, array_module, method

__all__ = ["clone"]


# --- to ---
@method
def to(input, *args, device=None, dtype=None, non_blocking=False, copy=False, memory_format=types.preserve_format):
    """The tensor in another dtype, on another device or in another memory order; itself where nothing changes.

    Called as `to(dtype)`, `to(device)`, `to(device, dtype)`, or `to(other)` for the dtype and device of a tensor; each
    may be followed by non_blocking and copy. Raises TypeError for other arguments, ValueError for a device that is
    not one, RuntimeError for a GPU that CuPy cannot reach.
    """
    flags = [a for a in args if isinstance(a, bool)]
    copy = copy or flags[1:] == [True]
    for value in args[:len(args) - len(flags)]:
        if isinstance(value, Tensor):
            device, dtype = value.device, value.array.dtype
        elif isinstance(value, (str, types.device)):
            device = value
        elif value is not None:
            dtype = value
    y = input
    if dtype is not None:
        dtype = types.as_dtype(dtype)
        y = y if y.array.dtype == dtype else Cast(dtype)(y)
    if device is not None:
        y = _moved(y, device if isinstance(device, types.device) else types.device(device))
    y = _ordered("to", y, memory_format)
    return clone(y) if copy and y is input else y


class Cast(Function):
    """The values rounded to a dtype, in the same memory order."""

    def __init__(self, dtype):
        self.dtype = dtype

    def forward(self, x):
        self.before = x.dtype
        return self.k.xp.array(x, self.dtype)

    def backward(self, gy, wanted):
        return self.k.xp.array(gy, self.before)

    def run_backward(self, grads, wanted, retain_graph):
        return super().run_backward(grads, wanted, True)  # nothing to free, and autocast lets results share a cast


def _method_to(name, dtype):
    def convert(input, memory_format=types.preserve_format):
        return to(input, dtype, memory_format=memory_format)
    convert.__name__, convert.__doc__ = name, f"The tensor as {dtype}; itself where it is."
    method(convert)


for _name, _dtype in (("half", types.float16), ("bfloat16", types.bfloat16), ("float", types.float32),
                      ("double", types.float64), ("byte", types.uint8), ("char", types.int8), ("short", types.int16),
                      ("int", types.int32), ("long", types.int64), ("bool", types.boolean)):
    _method_to(_name, _dtype)


@method
def type_as(input, other):
    """The tensor in the dtype and on the device of `other`."""
    return to(input, other)


# --- devices ---
@method
def cpu(input, memory_format=types.preserve_format):
    """The tensor in host memory; itself where it is."""
    return to(input, "cpu", memory_format=memory_format)


@method
def cuda(input, device=None, non_blocking=False, memory_format=types.preserve_format):
    """The tensor on a GPU, the current one unless a number or device is given. Raises RuntimeError without one."""
    return to(input, types.device("cuda", device) if isinstance(device, int) else device or "cuda",
              memory_format=memory_format)


def _moved(x, device):
    here = x.device
    if here.type == device.type and device.index in (None, here.index):
        return x
    if device.type == "cuda":
        reach(device)
    return Move(device, here)(x)


def reach(device):
    """Raise RuntimeError unless that GPU is there, and CuPy and the kernels to use it."""
    if cuda_kernels.problem():
        raise RuntimeError(f"to: device '{device}' cannot be used: {cuda_kernels.problem()}")
    import cupy
    count = cupy.cuda.runtime.getDeviceCount()
    if (device.index or 0) >= count:
        raise RuntimeError(f"to: expected a device below cuda:{count}, got {device}")


class Move(Function):
    """A copy on another device; the gradient comes back to where the input was."""

    def __init__(self, device, here):
        self.device, self.here = device, here

    def forward(self, x):
        return _on(x, self.device)

    def backward(self, gy, wanted):
        return _on(gy, self.here)


def _on(array, device):
    if device.type == "cpu":
        return array.get()
    import cupy
    with cupy.cuda.Device(device.index):
        return cupy.asarray(array)


# --- memory order ---
@method
def clone(input, *, memory_format=types.preserve_format):
    """A copy with memory of its own, in the same order unless another is given. Raises ValueError for a wrong rank."""
    array_of("clone", input)
    return Copy(_channels_last("clone", input, memory_format))(input)


@method
def contiguous(input, memory_format=types.contiguous_format):
    """The tensor with its elements in the order of the format; itself where they are.

    Raises ValueError for a wrong rank.
    """
    return _ordered("contiguous", input, memory_format)


def _ordered(op, x, memory_format):
    """The tensor, copied if it is not in the memory format."""
    channels_last = _channels_last(op, x, memory_format)
    return x if channels_last is None or x.is_contiguous(memory_format) else Copy(channels_last)(x)


def _channels_last(op, x, memory_format):
    """Whether the format is a channels-last one; None for preserve_format. Raises TypeError, ValueError."""
    if memory_format is types.preserve_format:
        return None
    if memory_format is types.contiguous_format:
        return False
    ndim = {types.channels_last: 4, types.channels_last_3d: 5}.get(memory_format)
    expect_type(ndim is not None, op, "a memory format", memory_format=memory_format)
    expect(x.array.ndim == ndim, op, f"a tensor of rank {ndim} for {memory_format}", input=x)
    return True


class Copy(Function):
    """A copy in channels-last (True) or contiguous (False) order, or in that of the input (None)."""

    def __init__(self, channels_last):
        self.channels_last = channels_last

    def forward(self, x):
        y = x if self.channels_last is None else laid_out(x, self.channels_last)
        return self.k.xp.array(y) if y is x or self.k.xp.may_share_memory(x, y) else y

    def backward(self, gy, wanted):
        return gy


# --- written over a tensor ---
@method
def copy_(input, src, non_blocking=False):
    """Write `src`, broadcast and cast, over the tensor. Raises ValueError where the shapes do not fit."""
    src = operand("copy_", src)
    if not isinstance(src, Tensor):
        return fill_(input, src)
    check_broadcast("copy_", input, src)
    expect(np.broadcast_shapes(input.array.shape, src.array.shape) == input.array.shape, "copy_",
           "a src that broadcasts to input", src=src, input=input)
    return _overwrite(input, to(src, input.device))


@method
def fill_(input, value):
    """Write a number, or the value of a 0-d tensor, over every element. Raises ValueError for other tensors."""
    value = operand("fill_", value)
    if isinstance(value, Tensor):
        expect(value.array.ndim == 0, "fill_", "a number or a 0-d tensor", value=value)
        return _overwrite(input, to(value, input.device))
    return _overwrite(input, cast(value, input.array.dtype))


@method
def zero_(input):
    """Write 0 over every element."""
    return _overwrite(input, 0)


def _overwrite(input, value):
    if not untracked(input, value):
        return assign_(input, Overwrite()(input, value))
    _write(input.array, value.array if isinstance(value, Tensor) else value)
    input.version[0] += 1
    return input


@quiet
def _write(array, value):
    array_module(array).copyto(array, value, casting="unsafe")


class Overwrite(Function):
    """x, with every element replaced by that of y."""

    def forward(self, x, y):
        self.x, self.y = (x.shape, x.dtype), (getattr(y, "shape", ()), getattr(y, "dtype", None))
        z = self.k.xp.empty_like(x)
        self.k.xp.copyto(z, y, casting="unsafe")
        return z

    def backward(self, gz, wanted):
        shape, dtype = self.y
        return (self.k.zeros(*self.x) if wanted[0] else None,
                self.k.xp.asarray(unbroadcast(gz, shape), dtype) if wanted[1] else None)


@method
def detach_(input):
    """Cut the tensor off from what computed it, in place. Raises RuntimeError for a recorded view."""
    if input.is_view and input.grad_fn is not None:
        raise RuntimeError("detach_: a recorded view cannot be detached in place; use .detach()")
    input.grad_fn, input.output_index = None, 0
    input.requires_grad = False
    return input
