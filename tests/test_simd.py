"""The vector vocabulary of the CPU kernels against NumPy, on this machine's registers and on the smallest."""
import os
import subprocess
import sys

import numpy as np
import pytest

from kdl.kernels.cpu import simd
from kdl.kernels.cpu.launch import jit
from kdl.kernels.cpu.simd import LANES

NAN, INF = np.float32("nan"), np.float32("inf")


def normal(*shape):
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


@jit(parallel=False)
def _copy(x, y, at, to):
    simd.store(y, to, simd.load(x, at))


def test_load_and_store_count_elements_from_the_first():
    x, y = normal(4, LANES), np.zeros(3 * LANES, np.float32)
    _copy(x, y, LANES + 1, LANES - 1)
    np.testing.assert_array_equal(y[LANES - 1:2 * LANES - 1], x.ravel()[LANES + 1:2 * LANES + 1])
    assert not y[:LANES - 1].any() and not y[2 * LANES - 1:].any()


@jit(parallel=False)
def _copy_masked(x, y, count):
    simd.store_masked(y, 0, simd.load_masked(x, 0, simd.first(count)), simd.first(count))


@jit(parallel=False)
def _load_masked(x, y, count):
    simd.store(y, 0, simd.load_masked(x, 0, simd.first(count)))


@pytest.mark.parametrize("count", [-1, 0, 1, LANES - 1, LANES, LANES + 1, 1 << 40])
def test_masked_lanes_are_neither_read_nor_written(count):
    x, y, loaded = normal(LANES), np.full(LANES, NAN), np.full(LANES, NAN)
    inside = np.arange(LANES) < count
    _copy_masked(x, y, count)
    np.testing.assert_array_equal(y, np.where(inside, x, NAN))
    _load_masked(x, loaded, count)
    np.testing.assert_array_equal(loaded, np.where(inside, x, 0))


@jit(parallel=False)
def _arithmetic(a, x, y, sums, results):
    u, v = simd.load(x, 0), simd.load(y, 0)
    simd.store(results, 0, u + v)
    simd.store(results, LANES, u - v)
    simd.store(results, 2 * LANES, u * v)
    simd.store(results, 3 * LANES, simd.fma(simd.broadcast(a), u, v))
    simd.store(results, 4 * LANES, simd.select(simd.less(u, v), u, v))
    sums[0] = simd.total(u)
    simd.prefetch(x, 1 << 40)


def test_arithmetic():
    x, y = normal(2, LANES)
    results, sums = np.empty((5, LANES), np.float32), np.empty(1, np.float32)
    _arithmetic(np.float32(1.5), x, y, sums, results)
    np.testing.assert_array_equal(results[:3], [x + y, x - y, x * y])
    np.testing.assert_allclose(results[3], np.float64(1.5) * x + y, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(results[4], np.minimum(x, y))
    np.testing.assert_allclose(sums, [x.sum(dtype=np.float64)], rtol=1e-5)


def test_a_comparison_with_nan_is_false_and_inf_is_a_number():
    x, y = np.full(LANES, NAN), np.full(LANES, INF)
    results = np.empty((5, LANES), np.float32)
    _arithmetic(np.float32(1), x, y, np.empty(1, np.float32), results)
    np.testing.assert_array_equal(results[4], y)
    np.testing.assert_array_equal(results[0], x)


@jit(parallel=False)
def _transpose(x, y):
    simd.transpose(x, 0, x.shape[1], y, 0, y.shape[1])


def test_transpose_of_a_square_in_longer_rows():
    x, y = normal(LANES, LANES + 3), np.zeros((LANES, LANES + 5), np.float32)
    _transpose(x, y)
    np.testing.assert_array_equal(y[:, :LANES], x[:, :LANES].T)
    assert not y[:, LANES:].any()


def test_the_width_is_that_of_the_machine_numba_compiles_for():
    features = simd._features
    assert LANES == (16 if "+avx512f" in features else 8 if "+avx2" in features else 4)


@pytest.mark.skipif(LANES == 4, reason="this run is on the smallest registers already")
def test_on_the_smallest_registers():
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic"}
    run = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", __file__],
                         env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


@jit(parallel=False)
def _rearrange(x, y, count, results):
    u, v = simd.load(x, 0), simd.load(y, 0)
    simd.store(results, 0, simd.evens(u, v))
    simd.store(results, LANES, simd.odds(u, v))
    simd.store(results, 2 * LANES, simd.zip_low(u, v))
    simd.store(results, 3 * LANES, simd.zip_high(u, v))
    simd.store(results, 4 * LANES, simd.select(simd.larger(u, v), u, v))
    simd.store(results, 5 * LANES, simd.select(simd.equal(u, v), u, simd.broadcast(np.float32(7))))
    simd.store_part(results, 6 * LANES, simd.load_part(x, 0, count), count)


@pytest.mark.parametrize("count", [1, LANES - 1, LANES, LANES + 1])
def test_rearrangements_comparisons_and_parts(count):
    x, y, results = normal(LANES), normal(LANES)[::-1].copy(), np.full((7, LANES), NAN)
    x[0], y[1], y[2], x[2] = NAN, NAN, INF, INF
    _rearrange(x, y, count, results.ravel())
    both, pairs = np.concatenate([x, y]), np.stack([x, y], 1).ravel()
    expected = [both[::2], both[1::2], pairs[:LANES], pairs[LANES:], np.where((x > y) | (x != x), x, y),
                np.where(x == y, x, 7), np.where(np.arange(LANES) < count, x, NAN)]
    np.testing.assert_array_equal(results, expected)


@jit(parallel=False)
def _subtracted(x, y, bits):
    here = simd.lanes_of(bits)
    simd.store_masked(y, 0, simd.broadcast(np.float32(100)) - simd.load_masked(x, 0, here), here)
    simd.store(y, LANES, simd.load(x, 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64])
@pytest.mark.parametrize("bits", [0, 1, 10, (1 << LANES) - 1])
def test_integers_are_float32_in_a_vector(bits, dtype):
    x, y = np.arange(LANES + 1).astype(dtype), np.full(2 * LANES, 99, dtype)
    _subtracted(x, y, np.uint32(bits))
    here = bits >> np.arange(LANES) & 1 == 1
    np.testing.assert_array_equal(y, [*np.where(here, 100 - x[:-1], 99), *x[1:]])


@jit(parallel=False)
def _widened(x, y, count, results):
    here = simd.first(count)
    u, v = simd.widen(simd.load_masked(x, 0, here)), simd.load(y, 0)
    simd.store(results, 0, u - v)
    simd.store(results, LANES, simd.fma(u, v, simd.broadcast(0.1)))
    simd.store_masked(results, 2 * LANES, simd.widen(simd.select(here, v, u)), here)
    results[3 * LANES] = simd.total(u * v)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, LANES])
def test_vectors_of_float64(dtype, count):
    x, y, results = normal(LANES).astype(dtype), normal(2, LANES)[1] / 3.0, np.full((4, LANES), np.nan)
    _widened(x, y.astype(np.float64), count, results.ravel())
    y = y.astype(np.float64)
    u = np.where(np.arange(LANES) < count, x, 0).astype(np.float64)
    np.testing.assert_array_equal(results[0], u - y)
    np.testing.assert_allclose(results[1], u * y + 0.1, rtol=1e-14)
    np.testing.assert_array_equal(results[2], np.where(np.arange(LANES) < count, y, np.nan))
    np.testing.assert_allclose(results[3, 0], (u * y).sum(), rtol=1e-13, atol=1e-15)


@jit(parallel=False)
def _sum_from(x, at, sums):
    source = simd.begin(x)
    sums[0] = simd.total(simd.load(source, at))
    simd.store(simd.begin(sums), 1, simd.load_masked(source, at, simd.first(1)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_beginning_of_an_array_stands_for_it(dtype):
    x, sums = normal(3, LANES).astype(dtype), np.zeros(1 + LANES, dtype)
    _sum_from(x, LANES + 1, sums)
    np.testing.assert_allclose(sums[0], x.ravel()[LANES + 1:2 * LANES + 1].sum(dtype=np.float64), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(sums[1:], [x[1, 1], *[0] * (LANES - 1)])
