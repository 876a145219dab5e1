"""Fractional max pooling: maxima of windows at random steps, so that the output is any fraction of the input.

For a random u in [0, 1) of a plane and axis, window i of O starts at int((i + u) a) - int(u a), a = (L - k) / (O - 1),
the last one at L - k. The gradient goes to the places of the maxima, as in `max_pool2d`. (Graham, 2014.)
"""
import numpy as np

from kdl import random
from kdl.errors import expect, expect_type
from kdl.ops.common import floating, ints
from kdl.ops.select import gather
from kdl.tensor import Tensor, array_module

__all__ = ["fractional_max_pool2d", "fractional_max_pool2d_with_indices", "fractional_max_pool3d",
           "fractional_max_pool3d_with_indices"]


def fractional_max_pool2d(input, kernel_size, output_size=None, output_ratio=None, return_indices=False,
                          _random_samples=None):
    """The maxima of output_size random windows of (N, C, H, W) or (C, H, W), or of output_ratio times its size.

    `_random_samples`, (N, C, 2) in [0, 1), replaces the random numbers: the first is for W, the second for H. With
    `return_indices` also the flat positions of the maxima in their planes. Raises TypeError and ValueError.
    """
    return _pool("fractional_max_pool2d", 2, input, kernel_size, output_size, output_ratio, return_indices,
                 _random_samples)


def fractional_max_pool3d(input, kernel_size, output_size=None, output_ratio=None, return_indices=False,
                          _random_samples=None):
    """The same of (N, C, D, H, W) or (C, D, H, W); `_random_samples`, (N, C, 3), are for D, H and W in turn."""
    return _pool("fractional_max_pool3d", 3, input, kernel_size, output_size, output_ratio, return_indices,
                 _random_samples)


def fractional_max_pool2d_with_indices(input, kernel_size, output_size=None, output_ratio=None, return_indices=False,
                                       _random_samples=None):
    """`fractional_max_pool2d` that always returns the indices too."""
    return fractional_max_pool2d(input, kernel_size, output_size, output_ratio, True, _random_samples)


def fractional_max_pool3d_with_indices(input, kernel_size, output_size=None, output_ratio=None, return_indices=False,
                                       _random_samples=None):
    """`fractional_max_pool3d` that always returns the indices too."""
    return fractional_max_pool3d(input, kernel_size, output_size, output_ratio, True, _random_samples)


def _pool(op, n, input, kernel_size, output_size, output_ratio, return_indices, samples):
    floating(op, input=input)
    expect(input.ndim in (n + 1, n + 2), op, f"input of {n + 1} or {n + 2} dimensions", input=input)
    expect((output_size is None) != (output_ratio is None), op, "one of output_size and output_ratio",
           output_size=output_size, output_ratio=output_ratio)
    lengths, kernel = input.shape[-n:], ints(op, "kernel_size", kernel_size, n)
    if output_size is None:
        ratios = output_ratio if isinstance(output_ratio, (tuple, list)) else (output_ratio,) * n
        expect(len(ratios) == n and all(0 < r < 1 for r in ratios), op, f"output_ratio of {n} numbers between 0 and 1",
               output_ratio=output_ratio)
        output_size = [int(length * r) for length, r in zip(lengths, ratios)]
    size = ints(op, "output_size", output_size, n)
    fits = all(o + k - 1 <= length for o, k, length in zip(size, kernel, lengths))
    expect(min(kernel) > 0 and min(size) > 0 and fits, op, "windows that fit into the input", input=input,
           kernel_size=kernel, output_size=size)
    batch = 1 if input.ndim == n + 1 else input.shape[0]
    wanted = (batch, input.shape[-n - 1], n)
    if samples is None:
        samples = random.rand(*wanted, dtype=input.dtype, device=input.device)
    expect_type(isinstance(samples, Tensor) and samples.dtype == input.dtype, op,
                f"_random_samples to be a {input.dtype} Tensor", given=getattr(samples, "dtype", type(samples)))
    expect(tuple(samples.shape) == wanted, op, f"_random_samples of shape {wanted}", _random_samples=samples)
    positions = _winners(input.array.reshape(batch, *input.shape[-n - 1:]), samples.array, size, kernel)
    positions = Tensor(positions.reshape(*input.shape[:-n], -1))
    y = gather(input.flatten(-n), -1, positions).unflatten(-1, size)
    return (y, positions.unflatten(-1, size)) if return_indices else y


def _winners(x, samples, size, kernel):
    """The flat positions of the maxima, (N, C, outputs): the first of equals, the last NaN."""
    xp, n = array_module(x), len(size)
    axes = range(n)[::-1] if n == 2 else range(n)  # torch's order of the samples
    flat = xp.zeros((*x.shape[:2], *(1,) * 2 * n), np.int64)  # (N, C, outputs of each axis, places of the window)
    for axis in range(n):
        starts = _starts(xp, samples[:, :, axes[axis]], x.shape[2 + axis], size[axis], kernel[axis])
        places = starts[..., None] + xp.arange(kernel[axis])
        shape = [*x.shape[:2], *(1,) * 2 * n]
        shape[2 + axis], shape[2 + n + axis] = size[axis], kernel[axis]
        flat = flat * x.shape[2 + axis] + places.reshape(shape)
    flat = flat.reshape(*x.shape[:2], int(np.prod(size)), int(np.prod(kernel)))
    planes = x.reshape(*x.shape[:2], 1, -1)
    windows = xp.take_along_axis(planes, flat.reshape(*x.shape[:2], 1, -1), -1).reshape(flat.shape)
    nan = xp.isnan(windows)
    best = xp.where(nan.any(-1), flat.shape[-1] - 1 - nan[..., ::-1].argmax(-1), windows.argmax(-1))
    return xp.take_along_axis(flat, best[..., None], -1)[..., 0]


def _starts(xp, u, length, outputs, k):
    """Where the windows of an axis start, (N, C, outputs)."""
    last = xp.full((*u.shape, 1), length - k, np.int64)
    if outputs == 1:
        return last
    step = u.dtype.type(length - k) / u.dtype.type(outputs - 1)
    i = xp.arange(outputs - 1).astype(u.dtype)
    inner = ((i + u[..., None]) * step).astype(np.int64) - (u * step).astype(np.int64)[..., None]
    return xp.concatenate([inner, last], -1)
