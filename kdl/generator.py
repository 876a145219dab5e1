"""Generator: the random numbers that torch draws on the CPU from the same seed, in the same order.

A Mersenne Twister gives words of 32 bits; two of them, the first one high, make one of 64. Numbers are made of words as
torch makes them, normal ones to rounding, all others bit for bit:

| numbers             | from                                                                                        |
|---------------------|---------------------------------------------------------------------------------------------|
| uniform             | 24 bits of a word, 53 of two for float64; halves are rounded from float32                   |
| normal, 16 and more | sqrt(-2 log(1 - u)) cos 2 pi v, with sin for the second: eight u, eight v at a time         |
| normal, otherwise   | the same in float64, one at a time, with sin for the first                                  |
| bernoulli           | True where a float64 uniform number is less than the probability                            |
| integer             | a word modulo the range, two words from a range of 2^28 on                                  |

(Matsumoto and Nishimura, 1998; Box and Muller, 1958.)
"""
import ctypes
import math
import os

import numpy as np

from kdl import types
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of
from kdl.tensor import Tensor

__all__ = ["Generator"]

_WORDS = 624
_BLOCK = 1 << 16  # numbers at a time: their words stay in the cache; for fewer, no compiled kernel is loaded
# As torch lays it out. `left` words are left in the state, counting the one that makes the next 624.
_STATE = np.dtype([("seed", "u8"), ("left", "i4"), ("seeded", "i4"), ("next", "u8"), ("words", "u8", _WORDS),
                   ("x", "f8"), ("normal", "f8"), ("rho", "f8"), ("has_normal", "i4"), ("float_normal", "f4"),
                   ("has_float_normal", "?")], align=True)


class Generator:
    """A stream of random numbers with a seed; torch's, on the CPU, for the same seed."""

    def __init__(self, device="cpu"):
        self.device = types.device(device) if isinstance(device, str) else device
        expect(self.device.type == "cpu", "Generator", "device 'cpu': numbers are drawn there", device=device)
        self.manual_seed(67280421310721)

    # --- state ---
    def manual_seed(self, seed):
        """Start the stream of this seed of at most 64 bits; returns the generator. Raises TypeError, ValueError."""
        expect_type(isinstance(seed, (int, np.integer)), "manual_seed", "an int", seed=seed)
        expect(-2**63 <= seed < 2**64, "manual_seed", "a seed of at most 64 bits", seed=seed)
        self._seed, self._twister, self._normal = int(seed) % 2**64, None, None
        return self

    def seed(self):
        """Start a stream that nobody can foresee; returns its seed."""
        return self.manual_seed(int.from_bytes(os.urandom(7), "little")).initial_seed()

    def initial_seed(self):
        """The seed that the stream started from."""
        return self._seed

    def get_state(self):
        """Where the stream is, as a uint8 tensor that `set_state` takes, and torch's too."""
        words, state = self._bits.state["state"].values(), np.zeros((), _STATE)
        state["words"], state["next"] = words
        state["seed"], state["left"], state["seeded"] = self._seed, _WORDS + 1 - state["next"], 1
        if self._normal is not None:
            state["normal"], state["has_normal"] = self._normal, 1
        return Tensor(np.frombuffer(state.tobytes(), np.uint8).copy())

    def set_state(self, new_state):
        """Go on from what `get_state` returned, or torch's; returns the generator. Raises TypeError, ValueError."""
        array = array_of("set_state", new_state, "new_state")
        expect(array.dtype == np.uint8 and array.shape == (_STATE.itemsize,), "set_state",
               f"a uint8 tensor of shape ({_STATE.itemsize},)", new_state=new_state, dtype=array.dtype)
        state = np.frombuffer(array.tobytes(), _STATE)[0]
        place = _WORDS if state["left"] == 1 else int(state["next"])
        expect(0 < place <= _WORDS, "set_state", "the state of a generator", left=state["left"], next=state["next"])
        self.manual_seed(state["seed"])
        self._bits.state = {"bit_generator": "MT19937",
                            "state": {"key": state["words"].astype(np.uint32), "pos": place}}
        self._normal = float(state["normal"]) if state["has_normal"] else None
        return self

    def clone_state(self):
        """Another generator at the same place of the same stream."""
        return Generator().set_state(self.get_state())

    def __reduce__(self):
        return _restored, (self.get_state(),)

    @property
    def _bits(self):
        """NumPy's generator of words; made when first used, for numpy.random imports slowly."""
        if self._twister is None:
            twister = np.random.MT19937(0)
            np.random.RandomState(twister).seed(self._seed % 2**32)  # Knuth's way, as in torch; MT19937(seed) hashes
            self._twister = twister
        return self._twister

    def _drawn(self, kernel, *args):
        """kernel(state, *args), where the kernel moves on the state of NumPy's generator."""
        memory = (ctypes.c_uint32 * (_WORDS + 1)).from_address(self._bits.ctypes.state_address)
        with self._bits.lock:
            kernel(np.frombuffer(memory, np.uint32), *args)

    # --- flat arrays of numbers ---
    def words(self, n, bits=32):
        """Unsigned integers of 32 or 64 random bits."""
        if bits == 64:
            words = self.words(2 * n)
            both = words[0::2].astype(np.uint64)
            both <<= 32
            both |= words[1::2]
            return both
        if n < _BLOCK:
            return self._bits.random_raw(n).astype(np.uint32)
        from kdl.kernels.cpu.twister import fill
        words = np.empty(n, np.uint32)
        self._drawn(fill, words)
        return words

    def uniform(self, n, dtype, low=0.0, high=1.0):
        """Numbers in [low, high)."""
        wide = np.dtype(np.float64) if dtype == types.float64 else types.float32
        low, high = wide.type(low), wide.type(high)
        bits = 53 if wide == types.float64 else 24
        scale = np.float64(high - low) * 2.0**-bits
        values = np.empty(n, wide)
        for i in range(0, n, _BLOCK):
            part = values[i:i + _BLOCK]
            words = self.words(part.size, wide.itemsize * 8)
            words &= 2**bits - 1
            words = words.view(f"i{wide.itemsize}")  # converted faster
            if low == 0 or bits == 53:
                part[...] = words
                part *= wide.type(scale)
                if low != 0:
                    part += low
            else:  # product and sum are rounded once, as by fused arithmetic
                exact = words * scale
                exact += low
                part[...] = exact
        values = values.astype(dtype, copy=False)
        if low != 0 or dtype in types.HALVES:
            values[values == dtype.type(high)] = low  # rounded up to what is excluded
        return values

    def normal(self, n, dtype, mean=0.0, std=1.0, contiguous=True):
        """Normal numbers; a tensor that is not contiguous gets others, as in torch."""
        if n < 16 or not contiguous:
            return (self._normals(n) * std + mean).astype(dtype)
        wide = dtype if dtype == types.float64 else types.float32
        whole = n // 16 * 16
        values = self.uniform(whole if dtype in types.HALVES else n, wide)
        values[:whole] = _box_muller(values[:whole])
        if n % 16:  # the last 16 are drawn again
            values = np.concatenate([values[:n - 16], _box_muller(self.uniform(16, wide))])
        if std != 1:
            values *= wide.type(std)
        if mean != 0:
            values += wide.type(mean)
        return values.astype(dtype, copy=False)

    def _normals(self, n):
        """In float64, one after the other: of each two, the second may be kept for the next call."""
        kept = [] if self._normal is None or n == 0 else [self._normal]
        wanted = n - len(kept)
        if wanted == 0:
            self._normal = None if kept else self._normal
            return np.array(kept)
        angle, u = self.uniform(2 * ((wanted + 1) // 2), np.dtype(np.float64)).reshape(-1, 2).T
        radius, angle = np.sqrt(-2 * np.log1p(-u)), 2 * math.pi * angle
        pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)
        self._normal = float(pairs[-1]) if wanted % 2 else None
        return np.concatenate([kept, pairs[:wanted]])

    def bernoulli(self, n, p):
        """True with probability p."""
        from kdl.kernels.cpu.twister import below
        limit, mask = math.ceil(p * 2**53), np.empty(n, bool)
        self._drawn(below, np.uint32(limit >> 32), np.uint32(limit % 2**32), mask)
        return mask

    def exponential(self, n):
        """With density e^-x, in float64."""
        return -np.log1p(-self.uniform(n, np.dtype(np.float64)))

    def integers(self, n, low, high, bits=None):
        """From low up to but without high, as int64."""
        words = self.words(n, bits or (32 if high - low < 2**28 else 64))
        words -= words // (high - low) * words.dtype.type(high - low)  # 2 ns a number faster than the remainder
        return words.astype(np.int64) + np.int64(low)

    def permutation(self, n):
        """0 ... n - 1 in random order."""
        from kdl.kernels.cpu.twister import shuffle
        order = np.arange(n)
        shuffle(self.words(max(n - 1, 0), 32 if n < (2**32 - 1) // 20 else 64), order)
        return order

    def poisson(self, rates):
        """One for each of the rates, as int64."""
        from kdl.kernels.cpu.twister import poisson
        numbers = np.empty(rates.size, np.int64)
        self._drawn(poisson, rates, numbers)
        return numbers


def _restored(state):
    return Generator().set_state(state)


def _box_muller(uniform):
    """Normal numbers from uniform ones, in blocks of eight and eight."""
    T = uniform.dtype.type
    blocks = uniform.view(f"V{8 * uniform.itemsize}").reshape(-1, 2)  # copied eight numbers at a time
    u, angle = [np.ascontiguousarray(blocks[:, i]).view(uniform.dtype) for i in (0, 1)]
    radius = np.sqrt(T(-2) * np.log(T(1) - u))
    angle *= T(2 * math.pi)
    out = np.empty_like(blocks)
    out[:, 0] = (radius * np.cos(angle)).view(blocks.dtype)
    out[:, 1] = (radius * np.sin(angle)).view(blocks.dtype)
    return out.view(uniform.dtype).reshape(-1)
