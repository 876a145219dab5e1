"""The pooling kernels' real source agrees with NumPy: layouts, odd channels, dilation, huge windows, NaN, ties."""
import ml_dtypes
import numpy as np
import pytest

from kdl import kernels
from kdl.kernels import simt

if not simt.available():
    pytest.skip(simt.problem(), allow_module_level=True)

TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}
# input shape, kernel, stride, padding, dilation
WINDOWS = [((2, 3, 8, 8), (2, 2), (2, 2), (0, 0), (1, 1)), ((1, 16, 9, 7), (3, 3), (2, 2), (1, 1), (1, 1)),
           ((3, 5, 11, 13), (3, 2), (1, 3), (1, 0), (2, 3)), ((1, 2, 20, 20), (17, 18), (2, 1), (8, 9), (1, 1)),
           ((40, 8, 3, 3), (2, 2), (1, 1), (1, 1), (1, 1)), ((1, 9, 1, 300), (1, 5), (1, 7), (0, 2), (1, 1))]
ADAPTIVE = [((2, 3, 13, 7), (6, 3)), ((1, 8, 5, 5), (7, 2)), ((3, 5, 7, 7), (1, 1))]


def laid_out(array, channels_last):
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if channels_last else array


def values(rng, shape, dtype):
    """Few different numbers, so that maxima tie."""
    return (rng.integers(-4, 5, shape) / 2).astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))


def out_shape(shape, kernel, stride, padding, dilation):
    spans = [n + 2 * p - d * (k - 1) - 1 for n, k, p, d in zip(shape[2:], kernel, padding, dilation)]
    return (*shape[:2], *(span // s + 1 for span, s in zip(spans, stride)))


def both(name, inputs, outputs, *parameters, channels_last):
    """The outputs of simt, which start as NaN or 99, and of the reference."""
    results = []
    for namespace in ("simt", "reference"):
        made = [laid_out(np.full(shape, np.nan if np.dtype(d).kind not in "iu" else 99, d), channels_last)
                for shape, d in outputs]
        getattr(kernels.get(namespace), name)(*[laid_out(a, channels_last) for a in inputs], *made, *parameters)
        results.append(made)
    return results


def agree(ours, theirs, dtype):
    np.testing.assert_allclose(ours.astype(np.float64), theirs.astype(np.float64), rtol=TOLERANCE[dtype],
                               atol=TOLERANCE[dtype])


@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_windows(window, dtype, channels_last, rng):
    shape, kernel, stride, padding, dilation = window
    out = out_shape(*window)
    x, gy = values(rng, shape, dtype), values(rng, out, dtype)
    winner_dtype = np.uint8 if kernel[0] * kernel[1] <= 255 else np.int32
    (y, winner), (y_expected, winner_expected) = both("max_pool2d_forward", [x], [(out, x.dtype), (out, winner_dtype)],
                                                      kernel, stride, padding, dilation, channels_last=channels_last)
    np.testing.assert_array_equal(y, y_expected)
    np.testing.assert_array_equal(winner, winner_expected)
    (gx,), (gx_expected,) = both("max_pool2d_backward", [gy, winner], [(shape, x.dtype)], kernel, stride, padding,
                                 dilation, channels_last=channels_last)
    agree(gx, gx_expected, dtype)
    (at,), (at_expected,) = both("max_pool2d_indices", [winner], [(out, np.int64)], kernel, stride, padding, dilation,
                                 shape[2:], channels_last=channels_last)
    np.testing.assert_array_equal(at, at_expected)

    out = out_shape(shape, kernel, stride, padding, (1, 1))
    gy = values(rng, out, dtype)
    for count_padding, divisor in [(True, 0), (False, 0), (True, 5)]:
        rest = kernel, stride, padding, count_padding, divisor
        (y,), (y_expected,) = both("avg_pool2d_forward", [x], [(out, x.dtype)], *rest, channels_last=channels_last)
        agree(y, y_expected, dtype)
        (gx,), (gx_expected,) = both("avg_pool2d_backward", [gy], [(shape, x.dtype)], *rest,
                                     channels_last=channels_last)
        agree(gx, gx_expected, dtype)


@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape, size", ADAPTIVE, ids=str)
def test_adaptive(shape, size, dtype, channels_last, rng):
    out = (*shape[:2], *size)
    x, gy = values(rng, shape, dtype), values(rng, out, dtype)
    pairs = [both("adaptive_avg_pool2d_forward", [x], [(out, x.dtype)], channels_last=channels_last),
             both("adaptive_avg_pool2d_backward", [gy], [(shape, x.dtype)], channels_last=channels_last)]
    ours, theirs = both("adaptive_max_pool2d_forward", [x], [(out, x.dtype), (out, np.int64)],
                        channels_last=channels_last)
    np.testing.assert_array_equal(ours[1], theirs[1])
    pairs += [(ours, theirs), both("adaptive_max_pool2d_backward", [gy, ours[1]], [(shape, x.dtype)],
                                   channels_last=channels_last)]
    for ours, theirs in pairs:
        agree(ours[0], theirs[0], dtype)


@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels_last"])
def test_nan_wins_and_the_first_of_equals(channels_last):
    x = np.zeros((1, 4, 4, 4), np.float32)
    x[0, 0, 0, 1] = x[0, 1, 3, 3] = np.nan
    x[0, 2] = -np.inf
    (y, winner), (y_expected, winner_expected) = both(
        "max_pool2d_forward", [x], [((1, 4, 2, 2), x.dtype), ((1, 4, 2, 2), np.uint8)], (2, 2), (2, 2), (0, 0), (1, 1),
        channels_last=channels_last)
    np.testing.assert_array_equal(y, y_expected)
    np.testing.assert_array_equal(winner, winner_expected)
    assert np.isnan(y[0, 0, 0, 0]) and winner[0, 0, 0, 0] == 1 and winner[0, 3].max() == 0


@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels_last"])
def test_memory_traffic_is_what_the_header_says(channels_last):
    """Every tap of every window is read once: windows without overlap read x once. A winner is a byte."""
    race = pytest.importorskip("kdl.kernels._simt_race", reason="only the race build counts")
    x = laid_out(np.zeros((2, 8, 12, 10), np.float32), channels_last)
    y = laid_out(np.zeros((2, 8, 6, 5), np.float32), channels_last)
    winner = laid_out(np.zeros((2, 8, 6, 5), np.uint8), channels_last)

    def moved(function, *arguments):
        before = race.counter("bytes_read"), race.counter("bytes_written")
        function(*arguments)
        return race.counter("bytes_read") - before[0], race.counter("bytes_written") - before[1]

    window = (2, 2), (2, 2), (0, 0)
    assert moved(race.max_pool2d_forward, x, y, winner, *window, (1, 1)) == (4 * x.size, 5 * y.size)
    assert moved(race.avg_pool2d_forward, x, y, *window, True, 0) == (4 * x.size, 4 * y.size)
    assert moved(race.avg_pool2d_backward, y, x, *window, True, 0) == (4 * x.size, 4 * x.size)
    # gy is read where its winner is here, once, by a compiler that moves the load behind that question
    read, written = moved(race.max_pool2d_backward, y, winner, x, *window, (1, 1))
    assert x.size + 4 * y.size <= read <= 5 * x.size and written == 4 * x.size
