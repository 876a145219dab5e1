"""Random numbers: Generator, and the tensors and in-place fills drawn from one.

A Generator is a PCG64 (O'Neill, 2014) stream in one thread: the same seed gives the same numbers whatever the number
of threads. float32 numbers are drawn as float32. Functions draw from `default_generator` unless given another; tensors
on a GPU are drawn on the CPU and moved, so that a seed means the same there.
"""
import os
from contextlib import contextmanager

import numpy as np

from kdl import types
from kdl.autograd import is_grad_enabled
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, is_channels_last, laid_out, together
from kdl.ops.creation import leaf
from kdl.ops.sorting import count_not_above
from kdl.tensor import Tensor, method

__all__ = ["Generator", "bernoulli", "default_generator", "get_rng_state", "initial_seed", "manual_seed",
           "multinomial", "normal", "poisson", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like",
           "randperm", "seed", "set_rng_state"]


# --- generators ---
class Generator:
    """A stream of random numbers with a seed."""
    _PARTS = (("seed", 8), ("state", 16), ("inc", 16), ("has_uint32", 1), ("uinteger", 4))  # and their bytes

    def __init__(self, device="cpu"):
        self.device = types.device(device) if isinstance(device, str) else device
        expect(self.device.type == "cpu", "Generator", "device 'cpu': numbers are drawn there", device=device)
        self.manual_seed(0)

    def manual_seed(self, seed):
        """Start the stream of this seed of at most 64 bits; returns the generator. Raises TypeError, ValueError."""
        expect_type(isinstance(seed, (int, np.integer)), "manual_seed", "an int", seed=seed)
        expect(-2**63 <= seed < 2**64, "manual_seed", "a seed of at most 64 bits", seed=seed)
        self._seed, self._rng = int(seed) % 2**64, None
        return self

    @property
    def rng(self):
        """The numpy.random.Generator that draws the numbers; made when first used, for numpy.random imports slowly."""
        if self._rng is None:
            self._rng = np.random.Generator(np.random.PCG64(self._seed))
        return self._rng

    def seed(self):
        """Start a stream that nobody can foresee; returns its seed."""
        return self.manual_seed(int.from_bytes(os.urandom(7), "little")).initial_seed()

    def initial_seed(self):
        """The seed that the stream started from."""
        return self._seed

    def get_state(self):
        """Where the stream is, as a uint8 tensor that `set_state` takes."""
        state = self.rng.bit_generator.state
        values = {"seed": self._seed, **state, **state["state"]}
        return Tensor(np.frombuffer(b"".join([values[name].to_bytes(size, "little") for name, size in self._PARTS]),
                                    np.uint8).copy())

    def set_state(self, new_state):
        """Go on from what `get_state` returned; returns the generator. Raises TypeError, ValueError."""
        array = array_of("set_state", new_state, "new_state")
        length = sum(size for _, size in self._PARTS)
        expect(array.dtype == np.uint8 and array.shape == (length,), "set_state",
               f"a uint8 tensor of shape ({length},)", new_state=new_state, dtype=array.dtype)
        content, values = array.tobytes(), {}
        for name, size in self._PARTS:
            values[name], content = int.from_bytes(content[:size], "little"), content[size:]
        self.manual_seed(values.pop("seed"))
        self.rng.bit_generator.state = {
            "bit_generator": "PCG64", "state": {"state": values.pop("state"), "inc": values.pop("inc")}, **values}
        return self

    def clone_state(self):
        """Another generator at the same place of the same stream."""
        return Generator().set_state(self.get_state())

    def __reduce__(self):
        return _restored, (self.get_state(),)


def _restored(state):
    return Generator().set_state(state)


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


def _rng(op, generator):
    if generator is None:
        return default_generator.rng
    expect_type(isinstance(generator, Generator), op, "a kdl.Generator", generator=type(generator).__name__)
    return generator.rng


# --- arrays of numbers ---
def _uniform(rng, shape, dtype):
    """In [0, 1): multiples of 2^-53, 2^-24, 2^-11 or 2^-8, which the dtype holds exactly."""
    if dtype in types.HALVES:
        steps = 2 ** (11 if dtype == types.float16 else 8)
        return (np.floor(rng.random(shape, np.float32) * steps) / steps).astype(dtype)
    return rng.random(shape, dtype)


def _standard_normal(rng, shape, dtype):
    if dtype in types.HALVES:
        return rng.standard_normal(shape, np.float32).astype(dtype)
    return rng.standard_normal(shape, dtype)


def _integers(rng, op, low, high, shape, dtype):
    for name, value in (("low", low), ("high", high)):
        expect_type(isinstance(value, (int, np.integer)), op, f"{name} to be an int", **{name: value})
    expect(low < high, op, "low < high", low=low, high=high)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        expect(limits.min <= low and high - 1 <= limits.max, op, f"numbers that {dtype} holds", low=low, high=high)
    return rng.integers(low, high, shape, np.int64).astype(dtype)


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
    return leaf(_uniform(_rng("rand", generator), shape, dtype), device, requires_grad)


def randn(*size, generator=None, dtype=None, device=None, requires_grad=False):
    """Normal with mean 0 and variance 1. Raises TypeError, ValueError for a wrong size or dtype."""
    shape, dtype = _shape("randn", size), _floating("randn", dtype)
    return leaf(_standard_normal(_rng("randn", generator), shape, dtype), device, requires_grad)


def randint(*bounds_and_size, generator=None, dtype=types.int64, device=None, requires_grad=False, **named):
    """Integers from low (0 by default) up to but without high: randint(high, size) or randint(low, high, size)."""
    values = dict(zip(("high", "size") if len(bounds_and_size) + len(named) == 2 else ("low", "high", "size"),
                      bounds_and_size, strict=False)) | named
    expect_type(set(values) in ({"high", "size"}, {"low", "high", "size"}), "randint", "(low=0, high, size)",
                arguments=list(values))
    numbers = _integers(_rng("randint", generator), "randint", values.get("low", 0), values["high"],
                        _shape("randint", (values["size"],)), types.as_dtype(dtype))
    return leaf(numbers, device, requires_grad)


def randperm(n, *, generator=None, dtype=types.int64, device=None, requires_grad=False):
    """The integers 0 to n - 1 in random order. Raises TypeError, ValueError."""
    n, = _shape("randperm", (n,))
    return leaf(_rng("randperm", generator).permutation(n).astype(types.as_dtype(dtype)), device, requires_grad)


def rand_like(input, *, generator=None, dtype=None, device=None, requires_grad=False):
    """`rand` of the shape, dtype, device and memory order of the input."""
    array = array_of("rand_like", input)
    values = _uniform(_rng("rand_like", generator), array.shape, _floating("rand_like", dtype, array.dtype))
    return _like(input, values, device, requires_grad)


def randn_like(input, *, generator=None, dtype=None, device=None, requires_grad=False):
    """`randn` of the shape, dtype, device and memory order of the input."""
    array = array_of("randn_like", input)
    values = _standard_normal(_rng("randn_like", generator), array.shape, _floating("randn_like", dtype, array.dtype))
    return _like(input, values, device, requires_grad)


def randint_like(input, *bounds, generator=None, dtype=None, device=None, requires_grad=False):
    """`randint` of the shape, dtype, device and memory order of the input: (input, high) or (input, low, high)."""
    array = array_of("randint_like", input)
    expect_type(len(bounds) in (1, 2), "randint_like", "high, or low and high", bounds=bounds)
    low, high = (0, *bounds)[-2:]
    values = _integers(_rng("randint_like", generator), "randint_like", low, high, array.shape,
                       array.dtype if dtype is None else types.as_dtype(dtype))
    return _like(input, values, device, requires_grad)


def _like(input, values, device, requires_grad):
    return leaf(laid_out(values, is_channels_last(input.array)), device or input.device, requires_grad)


def normal(mean, std=1.0, size=None, *, generator=None, dtype=None, device=None):
    """Normal with mean and standard deviation from tensors that broadcast, or from two numbers and a size.

    Raises ValueError for a negative std and for numbers without a size.
    """
    parameters = [x.array if isinstance(x, Tensor) else x for x in (mean, std)]
    arrays = [a for a in parameters if hasattr(a, "shape")]
    expect(bool(arrays) != (size is not None), "normal", "tensors, or two numbers and a size", mean=mean, std=std,
           size=size)
    expect(np.all(parameters[1] >= 0), "normal", "std >= 0", std=std)
    shape = np.broadcast_shapes(*[a.shape for a in arrays]) if arrays else _shape("normal", (size,))
    dtype = _floating("normal", dtype, arrays[0].dtype if arrays else None)
    numbers = _standard_normal(_rng("normal", generator), shape, dtype)
    return leaf((numbers * parameters[1] + parameters[0]).astype(dtype, copy=False), device)


@method
def bernoulli(input, p=None, *, generator=None):
    """1 with the probability in each element of the input (or p everywhere), else 0, in the input's dtype.

    Raises ValueError for a probability outside [0, 1], TypeError for integers without p.
    """
    array = array_of("bernoulli", input)
    if p is None:
        _floating("bernoulli", array.dtype)
    host = input.detach().cpu().array if p is None else p
    return _like(input, _bernoulli(_rng("bernoulli", generator), array.shape, host).astype(array.dtype), None, False)


def poisson(input, generator=None):
    """Numbers of the Poisson distribution with the rate in each element, in the input's dtype; not differentiated.

    Raises ValueError for a negative rate, TypeError for integers.
    """
    array = array_of("poisson", input)
    _floating("poisson", array.dtype)
    rates = input.detach().cpu().array.astype(np.float64)
    expect(np.all(rates >= 0), "poisson", "rates of at least 0", input=input)
    return _like(input, _rng("poisson", generator).poisson(rates).astype(array.dtype), None, False)


def _bernoulli(rng, shape, p):
    p = p.array if isinstance(p, Tensor) else p
    expect(np.all((p >= 0) & (p <= 1)), "bernoulli", "probabilities in [0, 1]", p=p)
    return rng.random(shape) < p


@method
def multinomial(input, num_samples, replacement=False, *, generator=None):
    """Positions drawn in proportion to the weights in each row, (rows, num_samples) or (num_samples,), as int64.

    Without replacement a position is drawn once: those with the largest w / e, e exponentially distributed. Raises
    ValueError for weights that are negative, not finite or all 0, and for more samples than positive weights.
    """
    array = array_of("multinomial", input)
    _floating("multinomial", array.dtype)
    expect(array.ndim in (1, 2), "multinomial", "a tensor of 1 or 2 dimensions", input=input)
    weights = np.atleast_2d(input.detach().cpu().array).astype(np.float64)
    expect(num_samples > 0, "multinomial", "at least 1 sample", num_samples=num_samples)
    expect(np.isfinite(weights).all() and (weights >= 0).all() and (weights > 0).any(1).all(), "multinomial",
           "finite weights of at least 0, some above 0 in every row", input=array)
    rng = _rng("multinomial", generator)
    if replacement:
        edges = weights.cumsum(1)
        total = edges[:, -1:]
        points = np.minimum(rng.random((len(weights), num_samples)) * total, np.nextafter(total, 0))
        chosen = count_not_above(edges, points)
    else:
        least = int((weights > 0).sum(1).min(initial=weights.shape[1]))
        expect(num_samples <= least, "multinomial", "at most as many samples as positive weights (or replacement=True)",
               num_samples=num_samples, positive=least)
        chosen = np.argsort(-weights / rng.standard_exponential(weights.shape), axis=1)[:, :num_samples]
    return leaf(chosen.reshape(*array.shape[:-1], num_samples), input.device)


# --- in place ---
@method
def uniform_(input, from_=0.0, to=1.0, *, generator=None):
    """Fill with numbers uniform in [from_, to). Raises ValueError, TypeError."""
    expect(from_ <= to, "uniform_", "from_ <= to", from_=from_, to=to)

    def numbers(rng, shape, dtype):
        return _uniform(rng, shape, dtype) * dtype.type(to - from_) + dtype.type(from_)
    return _fill("uniform_", input, generator, numbers)


@method
def normal_(input, mean=0.0, std=1.0, *, generator=None):
    """Fill with normal numbers. Raises ValueError for a negative std, TypeError for integers."""
    expect(std >= 0, "normal_", "std >= 0", std=std)

    def numbers(rng, shape, dtype):
        return _standard_normal(rng, shape, dtype) * dtype.type(std) + dtype.type(mean)
    return _fill("normal_", input, generator, numbers)


@method
def exponential_(input, lambd=1.0, *, generator=None):
    """Fill with numbers of density lambd exp(-lambd x). Raises ValueError unless lambd > 0, TypeError for integers."""
    expect(lambd > 0, "exponential_", "lambd > 0", lambd=lambd)

    def numbers(rng, shape, dtype):
        return rng.standard_exponential(shape, np.float64 if dtype == types.float64 else np.float32) / lambd
    return _fill("exponential_", input, generator, numbers)


@method
def log_normal_(input, mean=1.0, std=2.0, *, generator=None):
    """Fill with e^z, z normal. Raises ValueError unless std > 0, TypeError for integers."""
    expect(std > 0, "log_normal_", "std > 0", std=std)
    return _fill("log_normal_", input, generator,
                 lambda rng, shape, dtype: np.exp(_standard_normal(rng, shape, dtype) * dtype.type(std)
                                                  + dtype.type(mean)))


@method
def cauchy_(input, median=0.0, sigma=1.0, *, generator=None):
    """Fill with numbers of density sigma / (pi (sigma^2 + (x - median)^2)). Raises ValueError, TypeError."""
    expect(sigma > 0, "cauchy_", "sigma > 0", sigma=sigma)
    return _fill("cauchy_", input, generator, lambda rng, shape, dtype: rng.standard_cauchy(shape) * sigma + median)


@method
def geometric_(input, p, *, generator=None):
    """Fill with how many trials a success of probability p takes. Raises ValueError unless 0 < p < 1."""
    expect(0 < p < 1, "geometric_", "0 < p < 1", p=p)
    return _fill("geometric_", input, generator, lambda rng, shape, dtype: rng.geometric(p, shape), any_dtype=True)


@method
def bernoulli_(input, p=0.5, *, generator=None):
    """Fill with 1 with probability p (a number, or a tensor that broadcasts), else 0. Raises ValueError."""
    return _fill("bernoulli_", input, generator, lambda rng, shape, dtype: _bernoulli(rng, shape, p), any_dtype=True)


@method
def random_(input, from_=0, to=None, *, generator=None):
    """Fill with integers from from_ up to but without to: random_(), random_(to) or random_(from_, to).

    Without bounds: all that the dtype holds from 0 on, for floats up to 2^mantissa. Raises ValueError.
    """
    dtype = array_of("random_", input).dtype
    if to is None and from_ == 0:
        whole = {types.float16: 2**11, types.bfloat16: 2**8, types.float32: 2**24, types.float64: 2**53,
                 types.boolean: 1, types.int64: 2**63 - 2}
        to = whole[dtype] + 1 if dtype in whole else np.iinfo(dtype).max + 1
    low, high = (0, from_) if to is None else (from_, to)

    def numbers(rng, shape, dtype):
        return _integers(rng, "random_", low, high, shape, dtype)
    return _fill("random_", input, generator, numbers, any_dtype=True)


def _fill(op, input, generator, numbers, any_dtype=False):
    """Write numbers(rng, shape, dtype) into the tensor. Raises RuntimeError while it is part of a recording."""
    array = array_of(op, input)
    if not any_dtype:
        _floating(op, array.dtype)
    if input.requires_grad and is_grad_enabled():
        raise RuntimeError(f"{op}: a tensor that requires grad cannot be filled while recording; use kdl.no_grad()")
    values = numbers(_rng(op, generator), array.shape, array.dtype)
    array[...] = values if isinstance(array, np.ndarray) else leaf(values, input.device).array
    input.version[0] += 1
    return input
