"""Layers that only rearrange: Flatten, Unflatten, Identity."""
import math

from kdl.errors import expect, expect_type
from kdl.nn.module import Module

__all__ = ["Flatten", "Identity", "Unflatten"]


class Identity(Module):
    """The input itself; any arguments are accepted."""

    def __init__(self, *args, **kwargs):
        super().__init__()

    def forward(self, input):
        return input


class Flatten(Module):
    """The dimensions start_dim to end_dim as one; the batch dimension is kept by default."""

    def __init__(self, start_dim=1, end_dim=-1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input):
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self):
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """One dimension as several; one of the sizes may be -1."""

    def __init__(self, dim, unflattened_size):
        super().__init__()
        expect_type(isinstance(dim, int), "Unflatten", "dim to be an int", dim=dim)
        expect_type(isinstance(unflattened_size, (tuple, list)) and all(isinstance(n, int) for n in unflattened_size),
                    "Unflatten", "unflattened_size to be ints", unflattened_size=unflattened_size)
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input):
        expect(-input.ndim <= self.dim < input.ndim, "Unflatten", "dim within the input's dimensions", dim=self.dim,
               input=input)
        sizes, length = list(self.unflattened_size), input.shape[self.dim]
        if sizes.count(-1) == 1:
            others = math.prod(n for n in sizes if n != -1)
            sizes[sizes.index(-1)] = length // others if others else 0
        expect(math.prod(sizes) == length and min(sizes, default=0) >= 0, "Unflatten", "sizes that multiply to the "
               "dimension's length", unflattened_size=self.unflattened_size, input=input, dim=self.dim)
        dim = self.dim % input.ndim
        return input.reshape((*input.shape[:dim], *sizes, *input.shape[dim + 1:]))

    def extra_repr(self):
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
