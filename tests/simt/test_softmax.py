"""The softmax kernels' real source agrees with float64 NumPy: lengths, alignment, splits, columns, extreme values."""
import ml_dtypes
import numpy as np
import pytest

from kdl import kernels
from kdl.kernels import simt

if not simt.available():
    pytest.skip(simt.problem(), allow_module_level=True)

# Relative to the largest value: half types are rounded once, float32 sums a few hundred thousand terms.
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}
# A warp per row, a block, a block whose rows are only partly kept, rows split over blocks; the same classes between
# neighbours, in loads of 8 bytes and one by one, with sliced and unsliced classes.
ROWS = [(1, 1, 1), (5, 1, 1), (9, 10, 1), (3, 1001, 1), (5, 2049, 1), (5, 5003, 1), (9, 9001, 1), (1, 9001, 1),
        (2, 7003, 1)]
COLUMNS = [(2, 3, 4), (1, 5, 7), (2, 70, 6), (3, 65, 5), (1, 2, 600)]


def dtype_of(name):
    return np.dtype(getattr(ml_dtypes, name, name))


def logits(rng, shape, dtype):
    return (rng.standard_normal(shape) * 4).astype(dtype_of(dtype))


def unaligned(array, offset):
    """The same values at an address `offset` elements past an aligned one."""
    buffer = np.empty(array.size + offset + 64, array.dtype)
    start = (-buffer.ctypes.data % 64) // array.itemsize + offset
    view = buffer[start:start + array.size].reshape(array.shape)
    view[...] = array
    return view


def run(namespace, name, inputs, shapes, *parameters, offset=0):
    """The outputs of a kernel, which are NaN before it."""
    outputs = [unaligned(np.full(shape, np.nan, dtype), offset) for shape, dtype in shapes]
    copies = [a if a is None else unaligned(a, offset) for a in inputs]
    getattr(kernels.get(namespace), name)(*copies, *outputs, *parameters)
    for copy, given in zip(copies, inputs):
        assert given is None or copy.tobytes() == given.tobytes(), f"{name} changed an input"
    return outputs


def agree(name, dtype, inputs, shapes, *parameters, offset=0):
    ours = run("simt", name, inputs, shapes, *parameters, offset=offset)
    with np.errstate(all="ignore"):
        wide = [a if a is None or a.dtype == np.int64 else a.astype(np.float64) for a in inputs]
        theirs = run("reference", name, wide, [(shape, np.float64) for shape, _ in shapes], *parameters)
    for a, b in zip(ours, theirs):
        scale = max(1, np.abs(b[np.isfinite(b)]).max(initial=0))
        np.testing.assert_allclose(a.astype(np.float64) / scale, b / scale, atol=TOLERANCE[dtype], rtol=0)
    return ours


def per_row(x, count):
    wide = np.float64 if x.dtype == np.float64 else np.float32
    return [((x.shape[0], x.shape[2]), wide)] * count


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", ROWS + COLUMNS, ids=str)
def test_softmax(shape, dtype, rng):
    x, gy = logits(rng, shape, dtype), logits(rng, shape, dtype)
    for form in ("softmax", "log_softmax"):
        y, = agree(f"{form}_forward", dtype, [x], [(shape, x.dtype)], offset=3)
        agree(f"{form}_backward", dtype, [y, gy], [(shape, x.dtype)], offset=1)


@pytest.mark.parametrize("smoothing, weighted", [(0.0, False), (0.0, True), (0.1, False), (0.1, True)])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(9, 10, 1), (5, 1001, 1), (5, 5003, 1), (2, 7003, 1), (2, 5, 4), (2, 70, 3)])
def test_cross_entropy(shape, dtype, smoothing, weighted, rng):
    x = logits(rng, shape, dtype)
    weight = rng.uniform(0.5, 2, shape[1]).astype(x.dtype) if weighted else None
    labels = rng.integers(0, shape[1], (shape[0], shape[2]))
    labels[0, 0] = -100
    _, peak, total = agree("cross_entropy_forward", dtype, [x, labels, weight], per_row(x, 3), -100, smoothing,
                           offset=1)
    g = rng.standard_normal(labels.shape).astype(peak.dtype)
    agree("cross_entropy_backward", dtype, [x, labels, weight, peak, total, g], [(shape, x.dtype)], -100, smoothing,
          offset=3)

    target = rng.dirichlet(np.ones(shape[1]), (shape[0], shape[2])).transpose(0, 2, 1).astype(x.dtype)
    _, peak, total, mass = agree("soft_cross_entropy_forward", dtype, [x, target, weight], per_row(x, 4), smoothing)
    agree("soft_cross_entropy_backward", dtype, [x, target, weight, peak, total, mass, g], [(shape, x.dtype)],
          smoothing)


@pytest.mark.parametrize("shape", [(2, 12, 1), (1, 9001, 1), (1, 12, 3)], ids=str)
def test_extreme_values(shape):
    """A whole row of -inf, an infinity or a NaN gives NaN; -inf beside finite logits is a probability of 0."""
    C = shape[1]
    labels = np.zeros((shape[0], shape[2]), np.int64)
    for one, rest in [(-np.inf, -np.inf), (np.inf, 0), (np.nan, -np.inf), (np.nan, 0)]:
        x = np.full(shape, rest, np.float32)
        x[:, C // 2] = one
        y, = run("simt", "softmax_forward", [x], [(shape, x.dtype)])
        assert np.isnan(y).all(), (one, rest)
        loss, *_ = run("simt", "cross_entropy_forward", [x, labels, None], per_row(x, 3), -100, 0.1)
        assert np.isnan(loss).all(), (one, rest)
    x = np.full(shape, -np.inf, np.float32)
    x[:, 1], x[:, C - 1] = 3e38, 3e38
    y, = run("simt", "softmax_forward", [x], [(shape, x.dtype)])
    np.testing.assert_array_equal(y, np.where(np.isfinite(x), 0.5, 0).astype(np.float32))


def test_262144_classes(rng):
    x = logits(rng, (2, 262144, 1), "bfloat16")
    labels = rng.integers(0, 262144, (2, 1))
    _, peak, total = agree("cross_entropy_forward", "float32", [x, labels, None], per_row(x, 3), -100, 0.0)
    g = np.ones((2, 1), np.float32)
    agree("cross_entropy_backward", "bfloat16", [x, labels, None, peak, total, g], [(x.shape, x.dtype)], -100, 0.0)
    agree("softmax_forward", "bfloat16", [x], [(x.shape, x.dtype)])


def test_the_loss_keeps_its_digits_far_from_zero():
    """float32 carries 0.5 beside 1e6 as exactly as beside 0: the loss must not be a difference of large numbers."""
    near = np.tile(np.float32([0, 0.5, 1, 1.5]), 3)[None, :, None]
    target = np.full_like(near, 1 / 12)
    losses = [run("simt", "soft_cross_entropy_forward", [x, target, None], per_row(x, 4), 0.1)[0]
              for x in (near, near + np.float32(1e6))]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 9001, 1), (3, 1001, 1), (1, 70, 5)], ids=str)
def test_every_schedule_gives_the_same_bits(shape, rng):
    x, labels = logits(rng, shape, "float32"), np.zeros((shape[0], shape[2]), np.int64)
    results = set()
    try:
        for order, seed in [("forward", 0), ("reverse", 0), ("random", 1), ("random", 2), ("random", 3)]:
            simt.configure(order, seed)
            y, = run("simt", "softmax_forward", [x], [(shape, x.dtype)])
            gx, = run("simt", "softmax_backward", [y, x], [(shape, x.dtype)])
            losses = run("simt", "cross_entropy_forward", [x, labels, None], per_row(x, 3), -100, 0.1)
            results.add(tuple(a.tobytes() for a in (y, gx, *losses)))
    finally:
        simt.configure()
    assert len(results) == 1


def test_memory_traffic_is_what_the_header_says(rng):
    """Rows that are kept are read once; of a row longer than simt's shared memory what is not kept is read twice."""
    race = pytest.importorskip("kdl.kernels._simt_race", reason="only the race build counts")

    def elements(function, *arguments):
        before = race.counter("bytes_read"), race.counter("bytes_written")
        function(*arguments)
        return (race.counter("bytes_read") - before[0]) / 4, (race.counter("bytes_written") - before[1]) / 4

    race.allocate = lambda n_bytes: np.empty(n_bytes, np.uint8)
    x = logits(rng, (9, 133, 1), "float32")
    labels, peak, one = np.zeros((9, 1), np.int64), np.zeros((9, 1), np.float32), np.ones((9, 1), np.float32)
    threads = 2 * 8 * 32  # of two blocks; a label is read as two words
    assert elements(race.softmax_forward, x, x.copy()) == (x.size, x.size)
    assert elements(race.softmax_backward, x, x.copy(), x.copy()) == (2 * x.size, x.size)
    out = [peak.copy() for _ in range(3)]
    read, written = elements(race.cross_entropy_forward, x, labels, None, *out, -100, 0.0)
    assert x.size <= read <= x.size + 4 * threads and written == 3 * 9
    read, written = elements(race.cross_entropy_backward, x, labels, None, peak, one, one, x.copy(), -100, 0.0)
    assert x.size <= read <= x.size + 8 * threads and written == x.size

    x, kept = logits(rng, (9, 9000, 1), "float32"), (16384 - 2048) // 4
    assert elements(race.softmax_forward, x, x.copy()) == (2 * x.size - 9 * kept, x.size)
    assert elements(race.softmax_backward, x, x.copy(), x.copy()) == (2 * (2 * x.size - 9 * (kept // 2)), x.size)
