"""The convolutions' real source agrees with the reference in float64: every tile, strides, groups, layouts, splits."""
import re

import ml_dtypes
import numpy as np
import pytest

from kdl import kernels
from kdl.kernels import simt
from tests.simt import forced_tile, tiles
from tests.simt.test_gemm import TOLERANCE, takes

if not simt.available():
    pytest.skip(simt.problem(), allow_module_level=True)

ROWS = [(row, dtype) for row, kind, columns in tiles("conv") for dtype in TOLERANCE
        if takes(kind, columns, dtype) and (kind == "MMA" or dtype != "tf32") and (kind, dtype) != ("MMA", "float32")]
KERNELS = ["forward", "backward_x", "backward_w"]

# x, w, stride, padding, dilation, groups
GEOMETRIES = {
    "3 x 3": ((2, 8, 9, 7), (12, 8, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    "odd channels, strided": ((1, 5, 11, 8), (7, 5, 3, 2), (2, 3), (1, 0), (1, 1), 1),
    "dilated groups": ((2, 16, 10, 9), (32, 8, 3, 3), (1, 2), (2, 1), (2, 1), 2),
    "1 x 1": ((2, 16, 4, 8), (8, 16, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    "stride past the filter": ((1, 8, 7, 7), (8, 8, 1, 2), (3, 3), (0, 1), (1, 1), 1),
    "one pixel": ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), (0, 0), (1, 1), 1),
}


def arrays(rng, geometry, dtype, last):
    """x, w, gy in that layout, and the outputs filled with NaN."""
    x_shape, w_shape, stride, padding, dilation, _ = geometry
    name = {"tf32": "float32"}.get(dtype, dtype)
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    outputs = [(n + 2 * p - d * (k - 1) - 1) // s + 1
               for n, k, s, p, d in zip(x_shape[2:], w_shape[2:], stride, padding, dilation, strict=True)]

    def lay_out(array):
        array = array.astype(dtype)
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if last else array

    x, w, gy = (lay_out(rng.standard_normal(s)) for s in (x_shape, w_shape, (x_shape[0], w_shape[0], *outputs)))
    return x, w, gy, lambda like: lay_out(np.full(like.shape, np.nan))


def run(kernel, geometry, x, w, gy, b, empty, dtype):
    """The result, and that of the reference in float64 with the sum of its terms' sizes."""
    inputs, like = {"forward": ((x, w, b), gy), "backward_x": ((gy, w), x), "backward_w": ((x, gy), w)}[kernel]
    ours = empty(like)
    getattr(simt, f"conv2d_{kernel}")(*inputs, ours, *geometry[2:], dtype == "tf32")
    exact = []
    for change in (np.asarray, np.abs):
        exact.append(np.empty(like.shape))
        wide = [None if a is None else change(a.astype(np.float64)) for a in inputs]
        getattr(kernels.get("reference"), f"conv2d_{kernel}")(*wide, exact[-1], *geometry[2:], False)
    return ours, *exact


def agree(ours, exact, scale, dtype):
    np.testing.assert_array_less(np.abs(ours.astype(np.float64) - exact), TOLERANCE[dtype] * scale + 1e-30)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels-last"])
@pytest.mark.parametrize("row, dtype", ROWS)
def test_geometries(row, dtype, last, rng):
    with forced_tile(row):
        for geometry in GEOMETRIES.values():
            x, w, gy, empty = arrays(rng, geometry, dtype, last)
            b = rng.standard_normal(len(w)).astype(w.dtype)
            for kernel in KERNELS:
                agree(*run(kernel, geometry, x, w, gy, b, empty, dtype), dtype)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels-last"])
@pytest.mark.parametrize("row, dtype", ROWS)
def test_sizes_past_a_tile(row, dtype, last, rng):
    geometry = (2, 72, 7, 10), (136, 72, 1, 1), (1, 1), (0, 0), (1, 1), 1
    x, w, gy, empty = arrays(rng, geometry, dtype, last)
    with forced_tile(row):
        agree(*run("forward", geometry, x, w, gy, None, empty, dtype), dtype)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels-last"])
@pytest.mark.parametrize("row, dtype", ROWS)
def test_splits_in_every_schedule_give_the_same_bits(row, dtype, last, rng):
    geometry = GEOMETRIES["3 x 3"]
    x, w, gy, empty = arrays(rng, geometry, dtype, last)
    seen = set()
    try:
        for order, seed in [("forward", 0), ("reverse", 0), ("random", 1), ("random", 2)]:
            simt.configure(order, seed)
            with forced_tile(row, splits=3):
                ours, *exact = run("backward_w", geometry, x, w, gy, None, empty, dtype)
            agree(ours, *exact, dtype)
            seen.add(ours.tobytes())
    finally:
        simt.configure()
    assert len(seen) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels-last"])
def test_depthwise(last, dtype, rng):
    geometry = (2, 6, 9, 8), (12, 1, 3, 2), (2, 1), (1, 1), (1, 2), 6
    x, w, gy, empty = arrays(rng, geometry, dtype, last)
    for kernel in KERNELS:
        agree(*run(kernel, geometry, x, w, gy, None, empty, dtype), dtype)


def test_unaligned_images(rng):
    geometry = GEOMETRIES["3 x 3"]
    x, w, gy, empty = arrays(rng, geometry, "float16", True)
    buffer = np.zeros(x.size + 1, x.dtype)[1:].reshape(x.transpose(0, 2, 3, 1).shape)
    buffer[...] = x.transpose(0, 2, 3, 1)
    with forced_tile("conv2d_mma 64x64x32"):
        agree(*run("forward", geometry, buffer.transpose(0, 3, 1, 2), w, gy, None, empty, "float16"), "float16")


def test_a_call_explains_its_tiles(rng):
    geometry = (2, 64, 28, 28), (64, 64, 3, 3), (2, 2), (1, 1), (1, 1), 1
    x, w, gy, empty = arrays(rng, geometry, "bfloat16", True)
    extension = simt._extension()
    text = extension.explain(extension.conv2d_backward_x, gy, w, empty(x), *geometry[2:], False)
    assert len(re.findall("chosen: conv2d_mma", text)) == 4  # a product for each phase of the stride
    geometry = (8, 16, 56, 56), (16, 16, 3, 3), (1, 1), (1, 1), (1, 1), 1
    x, w, gy, empty = arrays(rng, geometry, "bfloat16", True)
    text = extension.explain(extension.conv2d_backward_w, x, gy, empty(w), *geometry[2:], False)
    assert re.search(r"chosen: conv2d_mma.*\n.*\n.*add_splits_kernel", text)


@pytest.mark.parametrize("row, dtype", [pair for pair in ROWS if pair[1] in ("float32", "float16")])
def test_memory_traffic_is_what_the_header_says(row, dtype, rng):
    """Of a forward without padding: nothing lies outside the image."""
    race = pytest.importorskip("kdl.kernels._simt_race", reason="only the race build counts")
    race.allocate = lambda n_bytes: np.empty(n_bytes, np.uint8)
    BM, BN, _ = (int(n) for n in row.split()[1].split("x"))
    geometry = (1, 8, BM // 8 + 2, 10), (BN, 8, 3, 3), (1, 1), (0, 0), (1, 1), 1  # BM outputs, BN filters
    x, w, gy, empty = arrays(rng, geometry, dtype, True)
    y = empty(gy)
    before = race.counter("bytes_read"), race.counter("bytes_written")
    race.force_tile(row, 1)
    try:
        race.conv2d_forward(x, w, None, y, *geometry[2:], False)
    finally:
        race.force_tile("", 0)
    M, N, K = BM, BN, 8 * 3 * 3
    assert race.counter("bytes_read") - before[0] == (M * K + K * N) * x.itemsize
    assert race.counter("bytes_written") - before[1] == M * N * y.itemsize
