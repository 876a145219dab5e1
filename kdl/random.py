"""Random numbers: the tensors and in-place fills drawn from a Generator, which are torch's for the same seed.

Functions draw from `default_generator` unless given another; tensors on a GPU are drawn on the CPU and moved, so that
a seed means the same there. A fill goes through a tensor's elements as they lie in memory.
"""
import math
from contextlib import contextmanager

import numpy as np

from kdl import types
from kdl.autograd import is_grad_enabled
from kdl.errors import expect, expect_type
from kdl.generator import Generator
from kdl.ops.common import array_of, is_channels_last, laid_out, together
from kdl.ops.creation import empty_like, leaf
from kdl.tensor import Tensor, method

__all__ = ["Generator", "bernoulli", "default_generator", "get_rng_state", "initial_seed", "manual_seed",
           "multinomial", "normal", "poisson", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like",
           "randperm", "seed", "set_rng_state"]


# --- the default generator ---
_FLOAT64 = np.dtype(np.float64)
default_generator = Generator()
default_generator.seed()


def manual_seed(seed):
    """Start the default generator from this seed; returns it."""
    return default_generator.manual_seed(seed)


def seed():
    """Start the default generator from a seed that nobody can foresee; returns the seed."""
    return default_generator.seed()


def initial_seed():
    """The seed that the default generator started from."""
    return default_generator.initial_seed()


def get_rng_state():
    """Where the default generator is, as a uint8 tensor."""
    return default_generator.get_state()


def set_rng_state(new_state):
    """Put the default generator where it was at `get_rng_state`."""
    default_generator.set_state(new_state)


@contextmanager
def fork_rng(devices=None, enabled=True):
    """Put the default generator back at the end of the block, as if nothing had been drawn inside."""
    state = get_rng_state()
    try:
        yield
    finally:
        if enabled:
            set_rng_state(state)


def _chosen(op, generator):
    if generator is None:
        return default_generator
    expect_type(isinstance(generator, Generator), op, "a kdl.Generator", generator=type(generator).__name__)
    return generator


def _integers(generator, op, n, low, high, dtype):
    for name, value in (("low", low), ("high", high)):
        expect_type(isinstance(value, (int, np.integer)), op, f"{name} to be an int", **{name: value})
    expect(low < high, op, "low < high", low=low, high=high)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        expect(limits.min <= low and high - 1 <= limits.max, op, f"numbers that {dtype} holds", low=low, high=high)
    return generator.integers(n, int(low), int(high)).astype(dtype, copy=False)


def _floating(op, dtype, default=None):
    dtype = (default or types.get_default_dtype()) if dtype is None else types.as_dtype(dtype)
    expect_type(dtype in types.FLOATS, op, "a floating-point dtype", dtype=dtype)
    return dtype


def _shape(op, values):
    shape = together(op, "size", values)
    expect(min(shape, default=0) >= 0, op, "lengths of at least 0", size=shape)
    return shape


# --- new tensors ---
def rand(*size, generator=None, dtype=None, device=None, requires_grad=False):
    """Uniform in [0, 1). Raises TypeError, ValueError for a wrong size or dtype."""
    shape, dtype = _shape("rand", size), _floating("rand", dtype)
    values = _chosen("rand", generator).uniform(math.prod(shape), dtype)
    return leaf(values.reshape(shape), device, requires_grad)


def randn(*size, generator=None, dtype=None, device=None, requires_grad=False):
    """Normal with mean 0 and variance 1. Raises TypeError, ValueError for a wrong size or dtype."""
    shape, dtype = _shape("randn", size), _floating("randn", dtype)
    values = _chosen("randn", generator).normal(math.prod(shape), dtype)
    return leaf(values.reshape(shape), device, requires_grad)


def randint(*bounds_and_size, generator=None, dtype=types.int64, device=None, requires_grad=False, **named):
    """Integers from low (0 by default) up to but without high: randint(high, size) or randint(low, high, size)."""
    values = dict(zip(("high", "size") if len(bounds_and_size) + len(named) == 2 else ("low", "high", "size"),
                      bounds_and_size, strict=False)) | named
    expect_type(set(values) in ({"high", "size"}, {"low", "high", "size"}), "randint", "(low=0, high, size)",
                arguments=list(values))
    shape = _shape("randint", (values["size"],))
    numbers = _integers(_chosen("randint", generator), "randint", math.prod(shape), values.get("low", 0),
                        values["high"], types.as_dtype(dtype))
    return leaf(numbers.reshape(shape), device, requires_grad)


def randperm(n, *, generator=None, dtype=types.int64, device=None, requires_grad=False):
    """The integers 0 to n - 1 in random order. Raises TypeError, ValueError."""
    n, = _shape("randperm", (n,))
    order = _chosen("randperm", generator).permutation(n)
    return leaf(order.astype(types.as_dtype(dtype), copy=False), device, requires_grad)


def rand_like(input, *, generator=None, dtype=None, device=None, requires_grad=False):
    """`rand` of the shape, dtype, device and memory order of the input."""
    return _like("rand_like", input, generator, _uniform, dtype, device, requires_grad)


def randn_like(input, *, generator=None, dtype=None, device=None, requires_grad=False):
    """`randn` of the shape, dtype, device and memory order of the input."""
    return _like("randn_like", input, generator, _normal, dtype, device, requires_grad)


def randint_like(input, *bounds, generator=None, dtype=None, device=None, requires_grad=False):
    """`randint` of the shape, dtype, device and memory order of the input: (input, high) or (input, low, high)."""
    expect_type(len(bounds) in (1, 2), "randint_like", "high, or low and high", bounds=bounds)
    low, high = (0, *bounds)[-2:]

    def numbers(rng, n, dtype, contiguous):
        return _integers(rng, "randint_like", n, low, high, dtype)
    return _like("randint_like", input, generator, numbers, dtype, device, requires_grad, any_dtype=True)


def _like(op, input, generator, numbers, dtype, device, requires_grad, any_dtype=False):
    array_of(op, input)
    x = _fill(op, empty_like(input, dtype=dtype, device=device), generator, numbers, any_dtype)
    return x.requires_grad_() if requires_grad else x


def normal(mean, std=1.0, size=None, *, generator=None, dtype=None, device=None):
    """Normal with mean and standard deviation from tensors that broadcast, or from two numbers and a size.

    Raises ValueError for a negative std and for numbers without a size.
    """
    mean, std = [x.array if isinstance(x, Tensor) else x for x in (mean, std)]
    arrays = [a for a in (mean, std) if hasattr(a, "shape")]
    expect(bool(arrays) != (size is not None), "normal", "tensors, or two numbers and a size", mean=mean, std=std,
           size=size)
    expect(np.all(std >= 0), "normal", "std >= 0", std=std)
    shape = np.broadcast_shapes(*[a.shape for a in arrays]) if arrays else _shape("normal", (size,))
    dtype = _floating("normal", dtype, arrays[0].dtype if arrays else None)
    rng, n = _chosen("normal", generator), math.prod(shape)
    if not arrays:
        return leaf(rng.normal(n, dtype, mean, std).reshape(shape), device)
    numbers = rng.normal(n, dtype).reshape(shape) * std + mean
    return leaf(numbers.astype(dtype, copy=False), device)


@method
def bernoulli(input, p=None, *, generator=None):
    """1 with the probability in each element of the input (or p everywhere), else 0, in the input's dtype.

    Raises ValueError for a probability outside [0, 1], TypeError for integers without p.
    """
    array = array_of("bernoulli", input)
    if p is None:
        _floating("bernoulli", array.dtype)
        p = input.detach().cpu().array
    drawn = _bernoulli(_chosen("bernoulli", generator), array.shape, p).reshape(array.shape)
    return _placed(drawn.astype(array.dtype), input)


def poisson(input, generator=None):
    """Numbers of the Poisson distribution with the rate in each element, in the input's dtype; not differentiated.

    Raises ValueError for a negative rate, TypeError for integers.
    """
    array = array_of("poisson", input)
    _floating("poisson", array.dtype)
    rates = input.detach().cpu().array.astype(np.float64, "C")
    expect(np.all(rates >= 0), "poisson", "rates of at least 0", input=input)
    drawn = _chosen("poisson", generator).poisson(rates.reshape(-1)).reshape(array.shape)
    return _placed(drawn.astype(array.dtype), input)


def _placed(values, input):
    """A tensor on the input's device and in its memory order, of values that torch draws row by row all the same."""
    return leaf(laid_out(values, is_channels_last(input.array)), input.device)


def _bernoulli(rng, shape, p):
    """Flat, row by row."""
    expect(np.all((p >= 0) & (p <= 1)), "bernoulli", "probabilities in [0, 1]", p=p)
    if not hasattr(p, "shape"):
        return rng.bernoulli(math.prod(shape), p)
    wide = np.dtype(np.float64 if p.dtype == np.float64 else np.float32)
    return rng.uniform(math.prod(shape), wide) < np.broadcast_to(p, shape).reshape(-1)


@method
def multinomial(input, num_samples, replacement=False, *, generator=None):
    """Positions drawn in proportion to the weights in each row, (rows, num_samples) or (num_samples,), as int64.

    Without replacement a position is drawn once: those with the largest w / e, e exponentially distributed. Raises
    ValueError for weights that are negative, not finite or all 0, and for more samples than positive weights.
    """
    array = array_of("multinomial", input)
    _floating("multinomial", array.dtype)
    expect(array.ndim in (1, 2), "multinomial", "a tensor of 1 or 2 dimensions", input=input)
    weights = np.atleast_2d(input.detach().cpu().array)
    expect(num_samples > 0, "multinomial", "at least 1 sample", num_samples=num_samples)
    expect(np.isfinite(weights).all() and (weights >= 0).all() and (weights > 0).any(1).all(), "multinomial",
           "finite weights of at least 0, some above 0 in every row", input=array)
    if weights.dtype in types.HALVES:
        weights = weights.astype(np.float32)
    least = int((weights > 0).sum(1).min(initial=weights.shape[1]))
    expect(replacement or num_samples <= least, "multinomial",
           "at most as many samples as positive weights (or replacement=True)", num_samples=num_samples, positive=least)
    rng = _chosen("multinomial", generator)
    if replacement and num_samples > 1:
        edges = weights.cumsum(1, dtype=weights.dtype)
        edges /= edges[:, -1:]
        edges[:, -1] = 1
        points = rng.uniform(len(weights) * num_samples, np.dtype(np.float64)).reshape(len(weights), num_samples)
        np.maximum(points, 2.0**-54, out=points)  # not 0, which would choose even a first weight of 0
        chosen = np.stack([row.searchsorted(at) for row, at in zip(edges, points, strict=True)])
    else:
        waits = rng.exponential(weights.size).reshape(weights.shape).astype(weights.dtype)
        with np.errstate(divide="ignore", over="ignore"):
            keys = weights / np.maximum(waits, np.finfo(waits.dtype).tiny)
        chosen = np.argsort(-keys, axis=1)[:, :num_samples]
    return leaf(chosen.reshape(*array.shape[:-1], num_samples), input.device)


# --- in place ---
@method
def uniform_(input, from_=0.0, to=1.0, *, generator=None):
    """Fill with numbers uniform in [from_, to). Raises ValueError, TypeError."""
    expect(from_ <= to, "uniform_", "from_ <= to", from_=from_, to=to)
    return _fill("uniform_", input, generator, lambda rng, n, dtype, contiguous: rng.uniform(n, dtype, from_, to))


@method
def normal_(input, mean=0.0, std=1.0, *, generator=None):
    """Fill with normal numbers. Raises ValueError for a negative std, TypeError for integers."""
    expect(std >= 0, "normal_", "std >= 0", std=std)
    return _fill("normal_", input, generator,
                 lambda rng, n, dtype, contiguous: rng.normal(n, dtype, mean, std, contiguous))


@method
def exponential_(input, lambd=1.0, *, generator=None):
    """Fill with numbers of density lambd exp(-lambd x). Raises ValueError unless lambd > 0, TypeError for integers."""
    expect(lambd > 0, "exponential_", "lambd > 0", lambd=lambd)
    return _fill("exponential_", input, generator,
                 lambda rng, n, dtype, contiguous: rng.exponential(n) * (1 / lambd))


@method
def log_normal_(input, mean=1.0, std=2.0, *, generator=None):
    """Fill with e^z, z normal. Raises ValueError unless std > 0, TypeError for integers."""
    expect(std > 0, "log_normal_", "std > 0", std=std)
    return _fill("log_normal_", input, generator,
                 lambda rng, n, dtype, contiguous: np.exp(rng.normal(n, _FLOAT64, mean, std, contiguous=False)))


@method
def cauchy_(input, median=0.0, sigma=1.0, *, generator=None):
    """Fill with numbers of density sigma / (pi (sigma^2 + (x - median)^2)). Raises ValueError, TypeError."""
    expect(sigma > 0, "cauchy_", "sigma > 0", sigma=sigma)
    return _fill("cauchy_", input, generator, lambda rng, n, dtype, contiguous: (
        median + sigma * np.tan(math.pi * (rng.uniform(n, _FLOAT64) - 0.5))))


@method
def geometric_(input, p, *, generator=None):
    """Fill with how many trials a success of probability p takes. Raises ValueError unless 0 < p < 1."""
    expect(0 < p < 1, "geometric_", "0 < p < 1", p=p)

    def numbers(rng, n, dtype, contiguous):
        u = np.maximum(rng.uniform(n, _FLOAT64), 2.0**-54)  # not 0, which has no logarithm
        return np.ceil(np.log(u) / math.log1p(-p))
    return _fill("geometric_", input, generator, numbers, any_dtype=True)


@method
def bernoulli_(input, p=0.5, *, generator=None):
    """Fill with 1 with probability p (a number, or a tensor that broadcasts), else 0. Raises ValueError."""
    array = array_of("bernoulli_", input)
    if isinstance(p, Tensor):
        p = np.broadcast_to(p.detach().cpu().array, array.shape).transpose(_order(array)).reshape(-1)
    return _fill("bernoulli_", input, generator,
                 lambda rng, n, dtype, contiguous: _bernoulli(rng, (n,), p), any_dtype=True)


@method
def random_(input, from_=0, to=None, *, generator=None):
    """Fill with integers from from_ up to but without to: random_(), random_(to) or random_(from_, to).

    Without bounds: all that the dtype holds from 0 on, for floats up to 2^mantissa. Raises ValueError.
    """
    dtype = array_of("random_", input).dtype
    if to is None and from_ == 0:
        whole = {types.float16: 2**11, types.bfloat16: 2**8, types.float32: 2**24, types.float64: 2**53,
                 types.boolean: 1}
        count = (whole[dtype] if dtype in whole else np.iinfo(dtype).max) + 1
        return _fill("random_", input, generator, lambda rng, n, dtype, contiguous: rng.integers(
            n, 0, count, 64 if dtype.itemsize == 8 else 32), any_dtype=True)
    low, high = (0, from_) if to is None else (from_, to)
    return _fill("random_", input, generator, lambda rng, n, dtype, contiguous: _integers(
        rng, "random_", n, low, high, dtype), any_dtype=True)


def _uniform(rng, n, dtype, contiguous):
    return rng.uniform(n, dtype)


def _normal(rng, n, dtype, contiguous):
    return rng.normal(n, dtype, contiguous=contiguous)


def _fill(op, input, generator, numbers, any_dtype=False):
    """Write the flat numbers(rng, n, dtype, contiguous) into the tensor, in the order of its memory.

    Raises RuntimeError while it is part of a recording.
    """
    array = array_of(op, input)
    if not any_dtype:
        _floating(op, array.dtype)
    if input.requires_grad and is_grad_enabled():
        raise RuntimeError(f"{op}: a tensor that requires grad cannot be filled while recording; use kdl.no_grad()")
    values = as_it_lies(numbers(_chosen(op, generator), array.size, array.dtype, array.flags.c_contiguous), array)
    array[...] = values if isinstance(array, np.ndarray) else leaf(values.astype(array.dtype), input.device).array
    input.version[0] += 1
    return input


def as_it_lies(values, array):
    """Flat values in the array's shape, in the order in which its elements lie in memory."""
    axes = _order(array)
    return values.reshape([array.shape[i] for i in axes]).transpose([axes.index(i) for i in range(array.ndim)])


def _order(array):
    """The axes, from the one with the longest step in memory to the one with the shortest."""
    return sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
