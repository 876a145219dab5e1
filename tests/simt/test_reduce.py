"""The reductions' and row copies' real source agrees with NumPy: every choice of dimensions, splits, dtypes, NaN."""
import itertools

import numpy as np
import pytest

from kdl import kernels
from kdl.kernels import simt
from tests.simt.test_activation import TOLERANCE, dtype_of
from tests.simt.test_elementwise import ALL, random

if not simt.available():
    pytest.skip(simt.problem(), allow_module_level=True)


def agree(name, x, axes, dtype, tolerance=0):
    shape = [1 if d in axes else n for d, n in enumerate(x.shape)]
    results = []
    for namespace in ("simt", "reference"):
        y = np.full(shape, 1, dtype)
        getattr(kernels.get(namespace), name)(x, y)
        results.append(y.astype(np.float64))
    scale = np.abs(x.astype(np.float64)).sum() if tolerance else 1
    np.testing.assert_allclose(*results, rtol=tolerance, atol=tolerance * scale)


def sums_to(dtype):
    return np.dtype(np.int64) if dtype.kind in "iub" else dtype


@pytest.mark.parametrize("dtype", ALL)
def test_every_choice_of_dimensions(dtype, rng):
    x = random(rng, (3, 4, 1, 6), dtype)
    for n in range(5):
        for axes in itertools.combinations(range(4), n):
            agree("sum", x, axes, sums_to(x.dtype), TOLERANCE.get(dtype, 0))
            agree("max", x, axes, x.dtype)
            agree("argmax", x, axes, np.int64)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape, axes", [((70000,), (0,)), ((3, 20000), (1,)), ((20000, 3), (0,)), ((9000, 40), (0,)),
                                         ((5, 3000, 4), (0, 1)), ((2, 257), (1,)), ((300, 5), (1,)), ((1, 1), (0,))])
def test_lengths_that_are_split_over_threads_and_blocks(shape, axes, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    agree("sum", x, axes, np.float32, 2e-6)
    agree("argmax", x, axes, np.int64)
    agree("max", x, axes, x.dtype)


def test_strided_inputs(rng):
    x = rng.standard_normal((6, 50, 8))
    for view in (x[::2, :, ::-1], x.transpose(2, 0, 1), x.swapaxes(0, 1), x[:, 5:45]):
        for axes in ((0,), (1,), (2,), (0, 2), (0, 1, 2)):
            agree("sum", view, axes, np.float64, 1e-14)
            agree("argmax", view, axes, np.int64)


def test_empty():
    agree("sum", np.zeros((3, 0)), (1,), np.float64)
    agree("sum", np.zeros((0, 3)), (1,), np.float64)


def test_nan_is_the_largest_and_the_first_of_equals_is_found():
    x = np.float32([[1, np.nan, 3, np.nan], [2, 5, 5, 1], [np.inf, -np.inf, np.inf, 0], [-0.0, 0.0, -1, 0]])
    agree("max", x, (1,), np.float32)
    agree("argmax", x, (1,), np.int64)
    agree("argmax", x.repeat(300, 1), (1,), np.int64)
    agree("argmax", x, (0, 1), np.int64)


def test_every_schedule_gives_the_same_bits(rng):
    x, results = rng.standard_normal((50, 3000)).astype(np.float32), set()
    try:
        for order, seed in [("forward", 0), ("reverse", 0), ("random", 1), ("random", 2), ("random", 3)]:
            simt.configure(order, seed)
            rows, all_of_it = np.empty((1, 3000), np.float32), np.empty((1, 1), np.float32)
            simt.sum(x, rows)
            simt.sum(x, all_of_it)
            results.add((rows.tobytes(), all_of_it.tobytes()))
    finally:
        simt.configure()
    assert len(results) == 1


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "uint8"])
@pytest.mark.parametrize("columns", [1, 2, 3, 4, 8, 17, 64])
def test_take(columns, dtype, rng):
    x, index = rng.integers(0, 200, (9, columns)).astype(dtype_of(dtype)), rng.integers(-9, 9, 300)
    y = np.zeros((300, columns), x.dtype)
    simt.take(x, index, y)
    np.testing.assert_array_equal(y, x[index])
    simt.take(x, np.int64([9, -10]), y[:2])
    np.testing.assert_array_equal(y[:2], x[[0, 8]])


@pytest.mark.parametrize("call, message", [
    (lambda: simt.sum(np.zeros((2, 3)), np.zeros((2, 2))), "y must have x's rank"),
    (lambda: simt.sum(np.zeros((2, 3)), np.zeros((2, 1), np.float32)), "y must hold the sum"),
    (lambda: simt.max(np.zeros((2, 3)), np.zeros((2, 1), np.float32)), "y must have x's dtype"),
    (lambda: simt.argmax(np.zeros((2, 3)), np.zeros((2, 1))), "y must be int64"),
    (lambda: simt.take(np.zeros((2, 3)), np.zeros(2), np.zeros((2, 3))), "an int64 index"),
    (lambda: simt.take(np.zeros((0, 3)), np.zeros(2, int), np.zeros((2, 3))), "at least one row"),
])
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_memory_traffic_is_what_the_header_says():
    race = pytest.importorskip("kdl.kernels._simt_race", reason="only the race build counts")
    x, y = np.ones((64, 50), np.float32), np.ones((1, 50), np.float32)
    before = race.counter("bytes_read"), race.counter("bytes_written")
    race.sum(x, y)
    assert race.counter("bytes_read") - before[0] == x.nbytes
    assert race.counter("bytes_written") - before[1] == y.nbytes
    index = np.arange(9) * 3
    before = race.counter("bytes_read"), race.counter("bytes_written")
    race.take(x, index, z := np.empty((9, 50), np.float32))
    assert race.counter("bytes_read") - before[0] == z.nbytes + z.size // 2 * index.itemsize  # a word is 8 bytes here
    assert race.counter("bytes_written") - before[1] == z.nbytes
