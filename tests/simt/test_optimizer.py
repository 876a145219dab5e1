"""The optimiser kernels' real source agrees with the reference: many tensors, edges, alignment, dtypes, traffic."""
import numpy as np
import pytest

from kdl import kernels
from kdl.kernels import simt
from tests.simt.test_activation import TOLERANCE, dtype_of, unaligned

if not simt.available():
    pytest.skip(simt.problem(), allow_module_level=True)

# kernel -> (which of its lists of averages are given, the numbers after them)
STEPS = {
    "sgd_step": [((0,), (0.1, 0.0, 0.0, 0.1, False, False)), ((1,), (0.1, 0.9, 0.3, 0.0, False, True)),
                 ((1,), (0.1, 0.9, 0.0, 0.1, True, False))],
    "adam_step": [((1, 1, 0), (3, 0.1, 0.9, 0.99, 1e-8, 0.1, False, False)),
                  ((1, 1, 1), (1, 0.1, 0.9, 0.99, 1e-8, 0.1, True, True))],
    "nadam_step": [((1, 1), (2, 0.7, 0.1, 0.9, 0.99, 1e-8, 0.1, 4e-3, False, False)),
                   ((1, 1), (5, 0.3, 0.1, 0.9, 0.99, 1e-8, 0.1, 4e-3, True, True))],
    "radam_step": [((1, 1), (2, 0.1, 0.9, 0.999, 1e-8, 0.1, False, False)),
                   ((1, 1), (20, 0.1, 0.9, 0.999, 1e-8, 0.1, True, True))],
    "adamax_step": [((1, 1), (3, 0.1, 0.9, 0.99, 1e-8, 0.1, True))],
    "rmsprop_step": [((1, 0, 0), (0.1, 0.9, 1e-8, 0.1, 0.0, False)), ((1, 1, 1), (0.1, 0.9, 1e-8, 0.0, 0.8, True)),
                     ((1, 0, 1), (0.1, 0.9, 1e-8, 0.0, 0.8, False)), ((1, 1, 0), (0.1, 0.9, 1e-8, 0.0, 0.0, False))],
    "adagrad_step": [((1,), (3, 0.1, 0.01, 1e-10, 0.1, False))],
    "adadelta_step": [((1, 1), (0.5, 0.9, 1e-6, 0.1, True))],
}
CALLS = [pytest.param(name, given, numbers, id=f"{name}-{given}-{i}") for name, calls in STEPS.items()
         for i, (given, numbers) in enumerate(calls)]
SIZES = [0, 1, 3, 4095, 4096, 4097, 8200]  # around a block: 1024 packs, of 4 float32 or 2 float64
HALF_SIZES = [0, 7, 8191, 8192, 8193]


def lists(given, dtype, sizes, offset=0):
    """Gradients, parameters and averages (positive), one array per size; averages that are not given are None."""
    rng = np.random.default_rng(0)
    signed = lambda size: rng.standard_normal(size)
    positive = lambda size: rng.uniform(0.6, 0.7, size)  # a mean of squares must be larger than the mean's square
    return [[unaligned(values(size).astype(dtype), offset) for size in sizes] if wanted else None
            for wanted, values in ((1, signed), (1, signed), *((g, positive) for g in given))]


def agree(name, given, numbers, dtype, sizes, offset=0):
    results = []
    for namespace in ("simt", "reference"):
        arrays = lists(given, dtype_of(dtype), sizes, offset)
        before = [a.copy() for a in arrays[0]]
        getattr(kernels.get(namespace), name)(*arrays, *numbers)
        assert all(np.array_equal(a, b) for a, b in zip(arrays[0], before, strict=True)), "a gradient was changed"
        results.append([a for part in arrays if part is not None for a in part])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours.astype(np.float64), theirs.astype(np.float64), rtol=TOLERANCE[dtype],
                                   atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name, given, numbers", CALLS)
def test_steps(name, given, numbers, dtype):
    sizes = SIZES if dtype in ("float32", "float64") else HALF_SIZES
    agree(name, given, numbers, dtype, sizes)
    agree(name, given, numbers, dtype, sizes[1:], offset=1)


@pytest.mark.parametrize("n", [72, 73, 74, 150])
def test_more_tensors_than_one_launch_takes(n):
    name, given, numbers = CALLS[4].values
    assert (name, given) == ("adam_step", (1, 1, 1))
    agree(name, given, numbers, "float32", [i % 5 for i in range(n)])


def test_channels_last(rng):
    results = []
    x = rng.standard_normal((3, 2, 3, 4, 5)).astype(np.float32)
    for namespace in ("simt", "reference"):
        arrays = [[np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1)] for a in x]
        kernels.get(namespace).sgd_step(*arrays, 0.1, 0.9, 0.0, 0.0, False, False)
        results.append(arrays)
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6, atol=1e-6)


def test_no_tensors():
    simt.adagrad_step([], [], [], 1, 0.1, 0.0, 1e-10, 0.0, False)


@pytest.mark.parametrize("grads, params, message", [
    ([np.zeros(3)], [np.zeros(3), np.zeros(3)], "one array per gradient"),
    ([np.zeros(3)], [np.zeros(4)], "one dense layout"),
    ([np.zeros(3)], [np.zeros(3, np.float32)], "one dtype"),
    ([np.zeros(3)], None, "one array per gradient"),
])
def test_refusals(grads, params, message):
    with pytest.raises(ValueError, match=message):
        simt.sgd_step(grads, params, None, 0.1, 0.0, 0.0, 0.0, False, False)


def test_a_list_is_wanted():
    with pytest.raises(TypeError, match="grads must be a list of arrays or None"):
        simt.sgd_step(np.zeros(3), [np.zeros(3)], None, 0.1, 0.0, 0.0, 0.0, False, False)


def test_memory_traffic_is_what_the_header_says():
    race = pytest.importorskip("kdl.kernels._simt_race", reason="only the race build counts")
    for name, given, reads, writes in [("sgd_step", (0,), 2, 1), ("sgd_step", (1,), 3, 2),
                                       ("adam_step", (1, 1, 0), 4, 3), ("adam_step", (1, 1, 1), 5, 4)]:
        arrays = lists(given, np.dtype(np.float32), [5000, 10])
        before = race.counter("bytes_read"), race.counter("bytes_written")
        numbers = next(numbers for g, numbers in STEPS[name] if g == given)
        getattr(race, name)(*arrays, *numbers)
        moved = race.counter("bytes_read") - before[0], race.counter("bytes_written") - before[1]
        assert moved == (reads * 5010 * 4, writes * 5010 * 4)


def test_every_optimizer_is_tested_here():
    reference = kernels.get("reference").functions
    assert set(STEPS) == {n for n, f in reference.items() if f.__module__.endswith(".optimizer")}
