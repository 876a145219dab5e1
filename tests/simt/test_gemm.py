"""The matrix products' real source agrees with NumPy in float64: every tile, edges, alignments, layouts, splits."""
import re

import ml_dtypes
import numpy as np
import pytest

from kdl.kernels import simt
from tests.simt import forced_tile, tiles

if not simt.available():
    pytest.skip(simt.problem(), allow_module_level=True)

# Half types: two roundings of the result. TF32: its 10 fraction bits. float32: a rounding per term.
TOLERANCE = {"float64": 1e-13, "float32": 2e-6, "float16": 1e-3, "bfloat16": 8e-3, "tf32": 1e-3}
LAYOUTS = ["nn", "nt", "tn", "tt"]


def takes(kind, columns, dtype):
    """Whether a row has an instance of that type."""
    if kind == "MMA":
        return dtype != "float64"
    return {"float32": "f32", "tf32": None, "float64": "f64"}.get(dtype, "f16") in columns[0].split(" | ")


ROWS = [(row, dtype) for row, kind, columns in tiles("gemm") for dtype in TOLERANCE
        if takes(kind, columns, dtype) and (kind == "MMA" or dtype != "tf32") and (kind, dtype) != ("MMA", "float32")]


def make(rng, shape, dtype, transposed=False, offset=0, pitch=0):
    """Random values of a matrix that may be transposed, start off an aligned address, and have rows `pitch` longer."""
    rows, cols = shape[::-1] if transposed else shape
    dtype = np.dtype(getattr(ml_dtypes, {"tf32": "float32"}.get(dtype, dtype), {"tf32": "float32"}.get(dtype, dtype)))
    buffer = np.zeros(rows * (cols + pitch) + offset + 64, dtype)
    start = (-buffer.ctypes.data % 64) // dtype.itemsize + offset
    view = buffer[start:start + rows * (cols + pitch)].reshape(rows, cols + pitch)[:, :cols]
    view[...] = rng.standard_normal((rows, cols)).astype(dtype)
    return view.T if transposed else view


def check(y, a, b, dtype, bias=None, relu=False):
    wide = a.astype(np.float64) @ b.astype(np.float64)
    scale = np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64)) + 1e-30
    if bias is not None:
        wide, scale = wide + bias.astype(np.float64), scale + np.abs(bias.astype(np.float64))
    if relu:
        wide = np.maximum(wide, 0)
    np.testing.assert_array_less(np.abs(y.astype(np.float64) - wide) / scale, TOLERANCE[dtype])


def product(rng, M, N, K, dtype, layout="nn", **how):
    a = make(rng, (M, K), dtype, layout[0] == "t", **how)
    b = make(rng, (K, N), dtype, layout[1] == "t", **how)
    y = np.full((M, N), np.nan, a.dtype)
    simt.matmul_forward(a, b, y, dtype == "tf32")
    check(y, a, b, dtype)
    return y


@pytest.mark.parametrize("row, dtype", ROWS)
def test_sizes_around_a_tile(row, dtype, rng):
    BM, BN, BK = (int(n) for n in row.split()[1].split("x"))
    with forced_tile(row):
        for M, N, K in [(1, 1, 1), (BM - 1, BN + 1, BK - 1), (BM + 1, BN - 1, BK + 1), (37, 29, 3)]:
            product(rng, M, N, K, dtype)
        product(rng, BM, BN, 2 * BK, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("row, dtype", ROWS)
def test_transposes_and_alignments(row, dtype, layout, rng):
    with forced_tile(row):
        for how in ({}, {"offset": 1}, {"pitch": 3}, {"offset": 2, "pitch": 2}, {"offset": 4, "pitch": 4}):
            product(rng, 40, 24, 48, dtype, layout, **how)


@pytest.mark.parametrize("row, dtype", ROWS)
def test_splits_in_every_schedule_give_the_same_bits(row, dtype, rng):
    seen = set()
    state = rng.bit_generator.state
    try:
        for order, seed in [("forward", 0), ("reverse", 0), ("random", 1), ("random", 2)]:
            simt.configure(order, seed)
            rng.bit_generator.state = state
            with forced_tile(row, splits=3):
                seen.add(product(rng, 20, 18, 130, dtype, "nt").tobytes())
    finally:
        simt.configure()
    assert len(seen) == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_batches_broadcast(dtype, rng):
    a = np.stack([make(rng, (17, 24), dtype) for _ in range(3)])[None]
    b = np.stack([make(rng, (24, 16), dtype) for _ in range(2)])[:, None]
    y = np.full((2, 3, 17, 16), np.nan, a.dtype)
    simt.matmul_forward(a, b, y, False)
    for i, j in np.ndindex(2, 3):
        check(y[i, j], a[0, j], b[i, 0], dtype)


@pytest.mark.parametrize("splits", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float16", "tf32", "float64"])
def test_linear_adds_its_bias_and_clips(dtype, splits, rng):
    x, w, b = make(rng, (9, 70), dtype), make(rng, (12, 70), dtype), make(rng, (1, 12), dtype)[0]
    row = next(r for r, d in ROWS if d == dtype)
    for bias, relu in [(None, False), (b, False), (b, True), (None, True)]:
        y = np.full((9, 12), np.nan, x.dtype)
        with forced_tile(row, splits):
            simt.linear_forward(x, w, bias, y, relu, dtype == "tf32")
        check(y, x, w.T, dtype, bias, relu)


def test_clipping_keeps_nan():
    x, w, y = np.full((2, 8), np.nan, np.float16), np.ones((4, 8), np.float16), np.zeros((2, 4), np.float16)
    simt.linear_forward(x, w, None, y, True, False)
    assert np.isnan(y).all()


def test_no_terms_give_zeros():
    for dtype in (np.float32, np.float16):
        y = np.full((3, 4), np.nan, dtype)
        simt.matmul_forward(np.empty((3, 0), dtype), np.empty((0, 4), dtype), y, False)
        np.testing.assert_array_equal(y, 0)


def test_float32_is_not_rounded_unless_it_may_be():
    a, b, y = np.full((16, 16), 1 + 2**-12, np.float32), np.eye(16, dtype=np.float32), np.zeros((16, 16), np.float32)
    simt.matmul_forward(a, b, y, False)
    np.testing.assert_array_equal(y, a)
    with forced_tile("gemm_mma 64x64x32"):
        simt.matmul_forward(a, b, y, True)
    np.testing.assert_array_equal(y, 1)


def explanation(*arguments, capability=80):
    extension = simt._extension()
    extension.set_option("capability", capability)
    try:
        return extension.explain(extension.matmul_forward, *arguments)
    finally:
        extension.set_option("capability", 80)


def test_a_call_explains_its_tile():
    a, y = np.zeros((128, 2048), np.float16), np.zeros((128, 128), np.float16)
    text = explanation(a, a.T, y, False)
    assert "M 128, N 128, K 2048, batches 1 on 4 multiprocessors of compute capability 8.0" in text
    assert re.search(r"gemm_simt 128x128x8: not legal, it has no instance", text)
    assert re.search(r"chosen: gemm_mma [\dx]+\n  launch .*gemm_mma_kernel<.*MmaShape<.*: \d+ x \d+ blocks", text)
    assert not y.any()  # nothing ran


def test_older_devices_take_the_ordinary_units():
    a, y = np.zeros((64, 64), np.float16), np.zeros((64, 64), np.float16)
    text = explanation(a, a.T, y, False, capability=75)
    assert "compute capability is below 8.0" in text and "chosen: gemm_simt" in text


def test_long_thin_products_are_split():
    a, y = np.zeros((16, 16384), np.float32), np.zeros((16, 16), np.float32)
    assert re.search(r"chosen: .*\n.*: 1 x [2-9]\d* blocks.*\n.*add_splits_kernel", explanation(a, a.T, y, False))


def test_a_tile_that_is_not_legal_is_refused():
    a, y = np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32)
    with forced_tile("gemm_mma 64x64x32"), pytest.raises(ValueError, match="but float32 is not to be rounded"):
        simt.matmul_forward(a, a, y, False)


@pytest.mark.parametrize("splits", [1, 2])
@pytest.mark.parametrize("row, dtype", [pair for pair in ROWS if pair[1] in ("float32", "float16")])
def test_memory_traffic_is_what_the_header_says(row, dtype, splits, rng):
    race = pytest.importorskip("kdl.kernels._simt_race", reason="only the race build counts")
    race.allocate = lambda n_bytes: np.empty(n_bytes, np.uint8)
    BM, BN, _ = (int(n) for n in row.split()[1].split("x"))
    M, N, K = 2 * BM, BN, 64
    a, b = make(rng, (M, K), dtype), make(rng, (K, N), dtype)
    y = np.empty((M, N), a.dtype)
    before = race.counter("bytes_read"), race.counter("bytes_written")
    race.force_tile(row, splits)
    try:
        race.matmul_forward(a, b, y, False)
    finally:
        race.force_tile("", 0)
    sums = 4 * splits * M * N if splits > 1 else 0  # of every split, written and read
    tiles = -(-N // BN) * M * K + -(-M // BM) * K * N
    assert race.counter("bytes_read") - before[0] == tiles * a.itemsize + sums
    assert race.counter("bytes_written") - before[1] == M * N * a.itemsize + sums
