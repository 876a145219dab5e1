"""The batchnorm kernels' real source agrees with float64 NumPy: planes, columns, odd sizes, splits, far means."""
import ml_dtypes
import numpy as np
import pytest

from kdl import kernels
from kdl.kernels import simt

if not simt.available():
    pytest.skip(simt.problem(), allow_module_level=True)

TOLERANCE = {"float64": 1e-11, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}
# Planes smaller than a pack, odd, of several packs, split over blocks, cut into pieces; channels fewer than a pack,
# odd, more than the lanes of a warp have, with rows split over blocks.
PLANES = [(2, 3, 2), (3, 5, 49), (4, 2, 700), (9, 2, 1003), (1, 2, 40001), (5, 1, 9999)]
COLUMNS = [(2, 1, 1), (33, 3, 1), (100, 16, 1), (70, 300, 1), (20001, 2, 1)]


def dtype_of(name):
    return np.dtype(getattr(ml_dtypes, name, name))


def shifted(array, offset):
    """The same values `offset` elements past an aligned address."""
    buffer = np.empty(array.size + offset + 64, array.dtype)
    start = (-buffer.ctypes.data % 64) // array.itemsize + offset
    view = buffer[start:start + array.size].reshape(array.shape)
    view[...] = array
    return view


def forward(namespace, x, w, b, momentum=0.1, offset=0):
    C = x.shape[1]
    wide = np.float64 if x.dtype == np.float64 else np.float32
    y = shifted(np.full(x.shape, np.nan, x.dtype), offset)
    mean, rstd = np.full(C, np.nan, wide), np.full(C, np.nan, wide)
    running = [np.full(C, 2, wide), np.full(C, 3, wide)]
    kernels.get(namespace).batch_norm_forward_training(shifted(x, offset), w, b, y, mean, rstd, *running, momentum,
                                                       1e-5)
    return y, mean, rstd, *running


def backward(namespace, x, gy, w, mean, rstd, offset=0):
    gx = shifted(np.full(x.shape, np.nan, x.dtype), offset)
    gw, gb = np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    kernels.get(namespace).batch_norm_backward(shifted(x, offset), shifted(gy, offset + 1), w, mean, rstd, gx, gw, gb)
    return gx, gw, gb


def agree(ours, theirs, dtype):
    for a, b in zip(ours, theirs):
        scale = max(1, np.abs(b.astype(np.float64)).max(initial=0))
        np.testing.assert_allclose(a.astype(np.float64) / scale, b.astype(np.float64) / scale, rtol=0,
                                   atol=TOLERANCE[dtype])


def inputs(rng, shape, dtype):
    x, gy = [rng.standard_normal(shape).astype(dtype_of(dtype)) for _ in range(2)]
    wide = np.float64 if dtype == "float64" else np.float32
    return x, gy, rng.uniform(0.5, 2, shape[1]).astype(wide), rng.standard_normal(shape[1]).astype(wide)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", PLANES + COLUMNS, ids=str)
def test_training(shape, dtype, rng):
    x, gy, w, b = inputs(rng, shape, dtype)
    offset = 1 if shape[0] % 2 else 0
    ours, theirs = forward("simt", x, w, b, offset=offset), forward("reference", x, w, b)
    agree(ours, theirs, dtype)
    mean, rstd = theirs[1:3]
    agree(backward("simt", x, gy, w, mean, rstd, offset), backward("reference", x, gy, w, mean, rstd), dtype)


@pytest.mark.parametrize("shape", [(3, 5, 49), (33, 3, 1)], ids=str)
def test_inference(shape, rng):
    x, gy, w, b = inputs(rng, shape, "float32")
    mean, var = rng.standard_normal(shape[1]).astype(np.float32), rng.uniform(0.5, 2, shape[1]).astype(np.float32)
    results = []
    for namespace in ("simt", "reference"):
        k = kernels.get(namespace)
        y, gx, gw, gb = np.empty_like(x), np.empty_like(x), np.empty_like(w), np.empty_like(w)
        k.batch_norm_forward_inference(x, w, b, mean, var, y, 1e-5)
        k.batch_norm_backward_inference(x, gy, w, mean, var, gx, gw, gb, 1e-5)
        results.append((y, gx, gw, gb))
    agree(*results, "float32")


@pytest.mark.parametrize("shape", [(4, 2, 700), (300, 16, 1)], ids=str)
def test_a_mean_far_from_zero_costs_no_digits(shape, rng):
    x = (rng.integers(-8, 9, shape) / 8 + 1e4).astype(np.float32)  # exact, so that only the moments can lose something
    _, mean, rstd, _, _ = forward("simt", x, None, None)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean((0, 2)), rtol=2e-7)
    np.testing.assert_allclose(rstd, 1 / np.sqrt(wide.var((0, 2)) + 1e-5), rtol=1e-6)


@pytest.mark.parametrize("shape", [(9, 2, 1003), (20001, 2, 1)], ids=str)
def test_every_schedule_gives_the_same_bits(shape, rng):
    x, gy, w, b = inputs(rng, shape, "float32")
    results = set()
    try:
        for order, seed in [("forward", 0), ("reverse", 0), ("random", 1), ("random", 2), ("random", 3)]:
            simt.configure(order, seed)
            y, mean, rstd, *running = forward("simt", x, w, b)
            results.add(tuple(a.tobytes() for a in (y, mean, rstd, *running, *backward("simt", x, gy, w, mean, rstd))))
    finally:
        simt.configure()
    assert len(results) == 1


@pytest.mark.parametrize("shape, blocks", [((4, 2, 700), 2), ((300, 16, 1), 1)], ids=str)
def test_memory_traffic_is_what_the_header_says(shape, blocks, rng):
    """Elements of x and y, and what threads read per channel, which does not grow with the channel's length."""
    race = pytest.importorskip("kdl.kernels._simt_race", reason="only the race build counts")
    race.allocate = lambda n_bytes: np.empty(n_bytes, np.uint8)
    x, gy, w, b = inputs(rng, shape, "float32")
    one = np.ones(shape[1], np.float32)

    def elements(function, *arguments):
        before = race.counter("bytes_read"), race.counter("bytes_written")
        function(*arguments)
        return (race.counter("bytes_read") - before[0]) / 4, (race.counter("bytes_written") - before[1]) / 4

    per_thread = 256 * blocks * 16  # four numbers of four channels
    read, written = elements(race.batch_norm_forward_training, x, w, b, x.copy(), one.copy(), one.copy(), None, None,
                             0.1, 1e-5)
    assert 2 * x.size < read < 2 * x.size + per_thread and x.size < written < x.size + 16 * shape[1]
    read, written = elements(race.batch_norm_backward, x, gy, w, one, one, x.copy(), one.copy(), one.copy())
    assert 4 * x.size < read < 4 * x.size + 2 * per_thread and x.size < written < x.size + 16 * shape[1]
    read, written = elements(race.batch_norm_forward_inference, x, w, b, one, one, x.copy(), 1e-5)
    assert x.size < read < x.size + per_thread and written == x.size
