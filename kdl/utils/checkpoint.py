"""Gradient checkpointing: memory for time. What lies between is computed again in backward instead of kept.

(Griewank and Walther, 2000; for networks: Chen et al., 2016.)
"""
import kdl
from kdl import autograd
from kdl.autograd import Function, enable_grad, no_grad
from kdl.errors import expect, expect_type
from kdl.nn import Sequential
from kdl.tensor import Tensor

__all__ = ["checkpoint", "checkpoint_sequential"]


def checkpoint(function, *args, use_reentrant=None, preserve_rng_state=True, **kwargs):
    """function(*args, **kwargs), of which only the arguments are kept for backward, where it runs a second time.

    Returns a tensor or a tuple of tensors. With preserve_rng_state the second run draws the same random numbers
    (dropout). Parameters that the function uses get their gradients by `backward`, not by `kdl.grad`. Raises TypeError
    for other results.
    """
    if not autograd.is_grad_enabled():
        return function(*args, **kwargs)
    return Checkpoint(function, kwargs, preserve_rng_state)(*args)


def checkpoint_sequential(functions, segments, input, use_reentrant=None, preserve_rng_state=True):
    """A Sequential (or list of modules) in so many parts, of which only the inputs are kept; the last is kept whole."""
    layers = list(functions)
    expect(1 <= segments <= len(layers), "checkpoint_sequential", "segments from 1 to the number of layers",
           segments=segments, layers=len(layers))
    size = len(layers) // segments
    for start in range(0, size * (segments - 1), size):
        input = checkpoint(Sequential(*layers[start:start + size]), input, preserve_rng_state=preserve_rng_state)
    return Sequential(*layers[size * (segments - 1):])(input)


class Checkpoint(Function):
    """y = f(x, ...); gx from f run again on x. An empty first input requires grad: f may have parameters of its own."""

    def __init__(self, function, kwargs, preserve_rng_state):
        self.function, self.kwargs, self.preserve = function, kwargs, preserve_rng_state

    def __call__(self, *inputs):
        self.inputs = [x.detach() if isinstance(x, Tensor) else x for x in inputs]
        device = next((x.device for x in inputs if isinstance(x, Tensor)), None)
        return super().__call__(kdl.zeros(0, device=device, requires_grad=True), *inputs)

    def forward(self, empty, *arrays):
        self.arrays = arrays  # so that a change in place is noticed
        self.random = kdl.get_rng_state() if self.preserve else None
        with no_grad():
            result = self.function(*self.inputs, **self.kwargs)
        for y in result if isinstance(result, tuple) else (result,):
            expect_type(isinstance(y, Tensor), "checkpoint", "a function of tensors", result=type(y).__name__)
        return tuple([y.array for y in result]) if isinstance(result, tuple) else result.array

    def backward(self, gy, wanted):
        leaves = [x.detach().requires_grad_(asked) if isinstance(x, Tensor) else x
                  for x, asked in zip(self.inputs, wanted[1:], strict=True)]
        now = kdl.get_rng_state()
        try:
            if self.random is not None:
                kdl.set_rng_state(self.random)
            with enable_grad():
                result = self.function(*leaves, **self.kwargs)
        finally:
            kdl.set_rng_state(now)
        results, grads = (result, gy) if isinstance(result, tuple) else ((result,), (gy,))
        pairs = [(y, Tensor(g)) for y, g in zip(results, grads, strict=True) if g is not None and y.requires_grad]
        if pairs:
            autograd.backward(*map(list, zip(*pairs, strict=True)))
        return (None, *[x.grad.array if asked and x.grad is not None else None
                        for x, asked in zip(leaves, wanted[1:], strict=True)])
