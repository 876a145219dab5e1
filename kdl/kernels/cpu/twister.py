"""Draws from a Mersenne Twister that NumPy makes slowly: many words, masks, orders, Poisson-distributed numbers.

The state is NumPy's own, 624 words and how many of them have been handed out, and is moved on in place, so that NumPy
goes on behind. Where two words make one number the first is the high one.
(Matsumoto and Nishimura, 1998; Fisher and Yates, 1938; Hoermann, 1993.)
"""
import math

import numpy as np

from kdl.kernels.cpu.launch import device_function, jit

_N, _M = 624, 397
_u4, _u8 = np.uint32, np.uint64


@device_function
def _twisted(high, low, other):
    y = (high & _u4(0x80000000)) | (low & _u4(0x7fffffff))
    return other ^ (y >> _u4(1)) ^ ((y & _u4(1)) * _u4(0x9908b0df))


@device_function
def _tempered(y):
    y ^= y >> _u4(11)
    y ^= (y << _u4(7)) & _u4(0x9d2c5680)
    y ^= (y << _u4(15)) & _u4(0xefc60000)
    return y ^ (y >> _u4(18))


@jit(parallel=False)
def _renew(words):
    """The next 624 words, untempered."""
    for i in range(_N - _M):
        words[i] = _twisted(words[i], words[i + 1], words[i + _M])
    for i in range(_N - _M, _N - 1):
        words[i] = _twisted(words[i], words[i + 1], words[i + _M - _N])
    words[_N - 1] = _twisted(words[_N - 1], words[0], words[_M - 1])


@device_function
def _word(state):
    if state[_N] >= _u4(_N):
        _renew(state)
        state[_N] = _u4(0)
    at = state[_N]
    state[_N] = at + _u4(1)
    return _tempered(state[at])


@device_function
def _uniform(state):
    """53 of 64 bits, in [0, 1)."""
    high = _u8(_word(state)) << _u8(32)
    return np.float64((high | _u8(_word(state))) & _u8(2**53 - 1)) * 2.0**-53


@jit(parallel=False)
def fill(state, words):
    n, i = words.size, 0
    while i < n:
        if state[_N] >= _u4(_N):
            _renew(state)
            state[_N] = _u4(0)
        at = np.int64(state[_N])
        count = min(_N - at, n - i)
        given, part = state[at:at + count], words[i:i + count]
        for j in range(count):
            part[j] = _tempered(given[j])
        state[_N] = at + count
        i += count


@jit(parallel=False)
def below(state, high, low, mask):
    """Whether 53 random bits are less than those of `high` (21) and `low` (32), for every element of the flat mask."""
    n, i = mask.size, 0
    while i < n:
        at = np.int64(state[_N])
        pairs = min((_N - at) // 2, n - i)
        words, part = state[at:at + 2 * pairs], mask[i:i + pairs]  # seen to be indexed from 0 on: 0.3 ns faster
        for j in range(pairs):
            first, second = _tempered(words[2 * j]) & _u4(0x1fffff), _tempered(words[2 * j + 1])
            part[j] = (first < high) | ((first == high) & (second < low))
        state[_N] = at + 2 * pairs
        i += pairs
        if i < n:  # the words are used up, or the last of them belongs with the first of the next
            first, second = _word(state) & _u4(0x1fffff), _word(state)
            mask[i] = (first < high) | ((first == high) & (second < low))
            i += 1


@jit(parallel=False)
def shuffle(draws, order):
    """Exchange each element with itself or a later one, as far on as the random number says."""
    n = order.size
    for i in range(n - 1):
        j = i + np.int64(draws[i] % _u8(n - i))
        order[i], order[j] = order[j], order[i]


@jit(parallel=False)
def poisson(state, rates, numbers):
    """Below a rate of 10 factors of a product that stays above e^-rate are counted; from 10 on, candidates rejected."""
    for i in range(rates.size):
        numbers[i] = _few(state, rates[i]) if rates[i] < 10 else _many(state, rates[i])


@jit(parallel=False)
def _few(state, rate):
    least, product, count = math.exp(-rate), 1.0, 0
    while rate > 0:
        product *= _uniform(state)
        if product <= least:
            break
        count += 1
    return count


@jit(parallel=False)
def _many(state, rate):
    b = 0.931 + 2.53 * math.sqrt(rate)
    a = -0.059 + 0.02483 * b
    inverse_alpha, accepted = 1.1239 + 1.1328 / (b - 3.4), 0.9277 - 3.6224 / (b - 2)
    while True:
        u = _uniform(state) - 0.5
        v = _uniform(state)
        edge = 0.5 - abs(u)
        k = math.floor((2 * a / edge + b) * u + rate + 0.43)
        if edge >= 0.07 and v <= accepted:
            return k
        if k < 0 or (edge < 0.013 and v > edge):
            continue
        if math.log(v * inverse_alpha / (a / (edge * edge) + b)) <= k * math.log(rate) - rate - math.lgamma(k + 1):
            return k
