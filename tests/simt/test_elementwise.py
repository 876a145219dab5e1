"""The strided kernels' real source agrees with NumPy: broadcasting, layouts, dtypes, edges, traffic."""
import numpy as np
import pytest

from kdl import kernels
from kdl.kernels import simt
from tests.simt.test_activation import TOLERANCE, dtype_of, unaligned

if not simt.available():
    pytest.skip(simt.problem(), allow_module_level=True)

ARITHMETIC = ["add", "subtract", "multiply", "divide"]
ALL = ["float32", "float64", "float16", "bfloat16", "int32", "int64", "uint8", "bool"]
SHAPES = [((3, 4), (3, 4)), ((5, 1, 7), (4, 7)), ((), (3,)), ((0, 3), (3,)), ((1,), (1,)), ((2, 3, 1, 5), (3, 4, 1)),
          ((4099,), (4099,)), ((2, 1, 2, 1, 2, 1, 2, 1), (1, 3, 1, 3, 1, 3, 1, 3))]


def random(rng, shape, dtype):
    values = rng.integers(0, 2, shape) if dtype == "bool" else rng.integers(-3, 4, shape) * (
        1.25 if "float" in dtype else 1)
    return np.asarray(np.abs(values) if dtype == "uint8" else values).astype(dtype_of(dtype))


def agree(name, inputs, shape, dtype, tolerance=0):
    """Run a kernel whose last array is its output in both namespaces."""
    results = []
    for namespace in ("simt", "reference"):
        z = np.full(shape, 1, dtype)
        getattr(kernels.get(namespace), name)(*inputs, z)
        results.append(z)
    wide = [r.astype(np.float64) for r in results]
    np.testing.assert_allclose(*wide, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [*TOLERANCE, "int64"])
@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic(name, dtype, rng):
    if (name, dtype) == ("divide", "int64"):
        pytest.skip("integers are divided as floats")
    for a, b in SHAPES:
        x, y = random(rng, a, dtype), random(rng, b, dtype)
        y = np.where(y == 0, np.ones_like(y), y)
        agree(name, (x, y), np.broadcast_shapes(a, b), x.dtype, TOLERANCE.get(dtype, 0))
        agree(name, (x, 3), a, x.dtype, TOLERANCE.get(dtype, 0))
        agree(name, (3, np.where(x == 0, np.ones_like(x), x)), a, x.dtype, TOLERANCE.get(dtype, 0))


@pytest.mark.parametrize("size", [1, 3, 2047, 2048, 2049, 4100])
@pytest.mark.parametrize("offset", [0, 1])
def test_flat_arrays_of_every_alignment(size, offset, rng):
    x, y = (unaligned(rng.standard_normal(size).astype(np.float32), o) for o in (offset, 0))
    agree("add", (x, y), size, np.float32)
    agree("multiply", (x, 0.5), size, np.float32)


def test_strided_operands_and_results(rng):
    x = rng.standard_normal((6, 5, 8))
    for view in (x[::2, :, ::-1], x.transpose(2, 0, 1), x[:, 1:2, 3:], x.swapaxes(0, 1)):
        agree("subtract", (view, view[..., :1]), view.shape, np.float64)
        z, expected = np.zeros((*view.shape[:-1], 2 * view.shape[-1])), np.zeros(view.shape)
        simt.add(view, 1.5, z[..., ::2])
        np.add(view, 1.5, out=expected)
        np.testing.assert_array_equal(z[..., ::2], expected)
        assert not z[..., 1::2].any()


def test_in_place(rng):
    x, y = rng.standard_normal((2, 3, 700))
    expected = x + y
    simt.add(x, y, x)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("name", ["equal", "not_equal"])
def test_comparison(name, dtype, rng):
    for a, b in SHAPES:
        agree(name, (random(rng, a, dtype), random(rng, b, dtype)), np.broadcast_shapes(a, b), bool)
        agree(name, (random(rng, a, dtype), 1), a, bool)


@pytest.mark.parametrize("target", ALL)
@pytest.mark.parametrize("source", ALL)
def test_casts(source, target, rng):
    target = dtype_of(target)
    for shape in [(0,), (1,), (1025,), (3, 5, 7)]:
        x = random(rng, shape, source)
        x = np.abs(x) if target == np.uint8 else x
        agree("copy", (x,), shape, target)
        agree("copy", (x.T,), shape[::-1], target)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "uint8"])
def test_copies(dtype, rng):
    """Every width of word: lengths and offsets from one byte to sixteen."""
    x = rng.integers(0, 100, (6, 3, 48)).astype(dtype)
    for n in (48, 44, 40, 36, 34, 33, 1):
        for first in (0, 1, 2, 4, 8):
            agree("copy", (x[..., first:n],), x[..., first:n].shape, dtype)
    agree("copy", (x.transpose(2, 0, 1),), (48, 6, 3), dtype)
    agree("copy", (x[:1],), x.shape, dtype)
    agree("copy", (np.asarray(x[0, 0, 0]),), x.shape, dtype)


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("value", [0, 1, 3, 1.5, -2.25])
def test_fill(dtype, value):
    if not (isinstance(value, int) or "float" in dtype):
        pytest.skip("an integer array takes integers")
    for shape, keep in [((0,), slice(None)), ((1,), slice(None)), ((4099,), slice(1, None)),
                        ((3, 5, 7), (..., slice(1, 6)))]:
        results = []
        for namespace in ("simt", "reference"):
            y = np.zeros(shape, dtype_of(dtype))
            kernels.get(namespace).fill(y[keep], value)
            results.append(y)
        assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.parametrize("call, message", [
    (lambda: simt.add(np.zeros(3), np.zeros(4), np.zeros(4)), "shapes must broadcast"),
    (lambda: simt.add(np.zeros(3), np.zeros(3, np.float32), np.zeros(3)), "x and y must share one dtype"),
    (lambda: simt.add(np.zeros(3), 1.0, np.zeros(3, np.float32)), "z must have the operands' dtype"),
    (lambda: simt.add(1.0, 2.0, np.zeros(3)), "must be an array"),
    (lambda: simt.equal(np.zeros(3), 1.0, np.zeros(3)), "z must be bool"),
    (lambda: simt.fill(np.zeros(3), np.zeros(3)), "value must be a number"),
    (lambda: simt.divide(np.zeros(3, np.int64), 1, np.zeros(3, np.int64)), "must be float16"),
])
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_memory_traffic_is_what_the_header_says():
    race = pytest.importorskip("kdl.kernels._simt_race", reason="only the race build counts")
    x, y = np.ones((30, 41), np.float32), np.ones((30, 82), np.float32)[:, ::2]

    def elements(name, *arguments):
        before = race.counter("bytes_read"), race.counter("bytes_written")
        getattr(race, name)(*arguments)
        return (race.counter("bytes_read") - before[0]) / 4, (race.counter("bytes_written") - before[1]) / 4

    assert elements("add", x, y, x.copy()) == (2 * x.size, x.size)
    assert elements("add", x, x.copy(), x.copy()) == (2 * x.size, x.size)
    assert elements("multiply", x, 0.5, x.copy()) == (x.size, x.size)
    assert elements("copy", y, x.copy()) == (x.size, x.size)
    assert elements("copy", x, x.astype(np.float64)) == (x.size, 2 * x.size)
    assert elements("fill", x.copy(), 2.0) == (0, x.size)
