"""Between kdl and torch: tensors that share memory, and kdl's functions inside torch's autograd.

torch is imported when the first of these functions is called, never by `import kdl`.
"""
import ml_dtypes
import numpy as np

from kdl import autograd, types
from kdl.errors import expect_type
from kdl.tensor import Tensor

__all__ = ["from_torch", "to_torch", "wrap"]


def from_torch(tensor):
    """A kdl tensor over a torch tensor's memory, on the CPU or a GPU, without its gradient. Raises TypeError."""
    import torch
    expect_type(isinstance(tensor, torch.Tensor), "from_torch", "a torch.Tensor", tensor=type(tensor).__name__)
    tensor = tensor.detach()
    if tensor.is_cuda:
        import cupy
        return Tensor(cupy.from_dlpack(tensor))
    if tensor.dtype == torch.bfloat16:
        return Tensor(tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    types.as_dtype(str(tensor.dtype).removeprefix("torch."))
    return Tensor(tensor.numpy())


def to_torch(tensor):
    """A torch tensor over a kdl tensor's memory, without its gradient; read-only memory is copied. Raises TypeError."""
    import torch
    expect_type(isinstance(tensor, Tensor), "to_torch", "a kdl.Tensor", tensor=type(tensor).__name__)
    array = tensor.array
    if tensor.is_cuda:
        return torch.from_dlpack(array)
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()
    if array.dtype == types.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def wrap(function):
    """The function of kdl tensors as one of torch tensors that torch's autograd differentiates.

        conv = kdl.torch.wrap(kdl.nn.functional.conv2d)
        conv(x, weight, padding=1).sum().backward()     # x and weight are torch tensors

    Tensors among the positional arguments are differentiated; keyword arguments are passed on as they are. The function
    returns a tensor or a tuple of tensors. Gradients of gradients are not supported.
    """
    import torch

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(ctx, kwargs, *args):
            inputs = [from_torch(x).requires_grad_(wanted) if isinstance(x, torch.Tensor) else x
                      for x, wanted in zip(args, ctx.needs_input_grad[1:], strict=True)]
            with autograd.set_grad_enabled(any(ctx.needs_input_grad)):
                results = function(*inputs, **kwargs)
            single = isinstance(results, Tensor)
            ctx.results = (results,) if single else tuple(results)
            ctx.inputs = inputs
            outputs = tuple([to_torch(y.detach()) for y in ctx.results])
            ctx.mark_non_differentiable(*[t for t, y in zip(outputs, ctx.results, strict=True) if not y.requires_grad])
            return outputs[0] if single else outputs

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, *grads):
            wanted = [i for i, needs in enumerate(ctx.needs_input_grad[1:]) if needs]
            pairs = [(y, from_torch(g.contiguous())) for y, g in zip(ctx.results, grads, strict=True)
                     if y.requires_grad]
            found = autograd.grad([y for y, _ in pairs], [ctx.inputs[i] for i in wanted], [g for _, g in pairs],
                                  retain_graph=True, allow_unused=True)
            gradients = [None] * (1 + len(ctx.inputs))
            for i, g in zip(wanted, found, strict=True):
                gradients[1 + i] = None if g is None else to_torch(g)
            return tuple(gradients)

    def wrapped(*args, **kwargs):
        return Wrapped.apply(kwargs, *args)
    wrapped.__name__ = wrapped.__qualname__ = getattr(function, "__name__", "wrapped")
    wrapped.__doc__ = function.__doc__
    return wrapped
