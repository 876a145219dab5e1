"""The activation kernels' real source agrees with the reference: dtypes, edges, alignment, schedules."""
import inspect

import ml_dtypes
import numpy as np
import pytest

from kdl import kernels
from kdl.kernels import simt

if not simt.available():
    pytest.skip(simt.problem(), allow_module_level=True)

PARAMETERS = {"negative_slope": 0.1, "alpha": 1.3, "scale": 1.1, "input_scale": 0.7, "beta": 1.5, "threshold": 0.375,
              "value": 7.0, "min_val": -0.75, "max_val": 1.25, "lambd": 0.5}
# Half types: two roundings of the result. float32: a few ulp of the functions, and the cancellation in 1 - tanh^2.
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}
REFERENCE = {n for n, f in kernels.get("reference").functions.items() if f.__module__.endswith(".activation")}
MAPS = sorted(n for n in REFERENCE & set(simt.functions()) if not n.startswith(("prelu", "glu")))
EDGES = [0, 1, 3, 2047, 2048, 2049, 5001]  # around a block of packs: 256 threads, two packs of 4


def unaligned(values, offset):
    """The same values at an address `offset` elements past an aligned one."""
    buffer = np.empty(values.size + offset + 64, values.dtype)
    start = (-buffer.ctypes.data % 64) // values.itemsize + offset
    view = buffer[start:start + values.size].reshape(values.shape)
    view[...] = values
    return view


def dtype_of(name):
    return np.dtype(getattr(ml_dtypes, name, name))


def values(rng, shape, dtype):
    x = rng.standard_normal(shape) * 2
    flat = x.reshape(-1)
    flat[:min(7, flat.size)] = [0, -0.0, 0.5, -0.5, 3, -3, 30][:min(7, flat.size)]  # kinks and saturation
    return x.astype(dtype)


def call(namespace, name, arrays):
    """Run a kernel on copies of the inputs; its output is the last array argument, filled with NaN before."""
    function = kernels.get(namespace).functions[name]
    arguments = [PARAMETERS.get(a) if a not in arrays else arrays[a] for a in inspect.signature(function).parameters]
    function(*arguments)


def outputs(name, inputs, output, make=np.copy):
    """The output array of simt and of the reference for the same inputs."""
    results = []
    for namespace in ("simt", "reference"):
        arrays = {k: make(v) for k, v in inputs.items()}
        result = make(np.full(output[1], np.nan, next(iter(inputs.values())).dtype))
        call(namespace, name, arrays | {output[0]: result})
        for k, v in inputs.items():
            assert arrays[k].tobytes() == v.tobytes(), f"{name} changed its input {k}"
        results.append(result)
    return results


def agree(ours, theirs, dtype):
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(ours.astype(np.float64), theirs.astype(np.float64), rtol=tolerance, atol=tolerance)


def map_inputs(rng, name, shape, dtype):
    names = list(inspect.signature(kernels.get("reference").functions[name]).parameters)
    if name.endswith("_forward"):
        return {"x": values(rng, shape, dtype)}, ("y", shape)
    saved = values(rng, shape, dtype)
    return {names[0]: np.tanh(saved) if names[0] == "y" else saved, "gy": values(rng, shape, dtype)}, ("gx", shape)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", MAPS)
def test_maps(name, dtype, rng):
    for size in EDGES:
        for offset in (0, 1):
            inputs, output = map_inputs(rng, name, (size,), dtype_of(dtype))
            agree(*outputs(name, inputs, output, lambda a, offset=offset: unaligned(a, offset)), dtype)


def test_arrays_that_disagree_about_alignment(rng):
    x = values(rng, 5001, np.float32)
    y = unaligned(np.full_like(x, np.nan), 1)
    simt.silu_forward(unaligned(x, 0), y)
    np.testing.assert_allclose(y, x / (1 + np.exp(-x)), rtol=1e-5, atol=1e-6)


def test_in_place(rng):
    x = values(rng, 5001, np.float32)
    y = x.copy()
    simt.relu_forward(y, y)
    np.testing.assert_array_equal(y, np.maximum(x, 0))


def test_channels_last(rng):
    x = values(rng, (2, 5, 4, 3), np.float32).transpose(0, 3, 1, 2)
    y = np.full((2, 5, 4, 3), np.nan, np.float32).transpose(0, 3, 1, 2)
    simt.relu_forward(x, y)
    np.testing.assert_array_equal(y, np.maximum(x, 0))


@pytest.mark.parametrize("name", [n for n in MAPS if n.endswith("_forward")])
def test_nan_stays(name):
    x, y = np.full(9, np.nan, np.float32), np.zeros(9, np.float32)
    call("simt", name, {"x": x, "y": y})
    assert np.isnan(y).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 4, 0), (1, 1, 1), (5, 1, 37), (64, 10, 1), (3, 7, 5), (1, 2, 3001)])
def test_prelu(shape, dtype, rng):
    d = dtype_of(dtype)
    x, gy, weight = values(rng, shape, d), values(rng, shape, d), values(rng, shape[1], d)
    agree(*outputs("prelu_forward", {"x": x, "weight": weight}, ("y", shape)), dtype)
    agree(*outputs("prelu_backward_x", {"x": x, "weight": weight, "gy": gy}, ("gx", shape)), dtype)
    ours, theirs = outputs("prelu_backward_w", {"x": x, "gy": gy}, ("gw", shape[1]))
    scale = np.abs(x.astype(float) * gy.astype(float)).sum((0, 2)) + 1  # of the sum's rounding errors
    np.testing.assert_allclose(ours.astype(float) / scale, theirs.astype(float) / scale, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(0, 2, 4), (3, 2, 0), (1, 2, 1), (33, 2, 8), (5, 2, 37), (2, 2, 1000)])
def test_glu(shape, dtype, rng):
    d = dtype_of(dtype)
    x, gy = values(rng, shape, d), values(rng, (shape[0], shape[2]), d)
    agree(*outputs("glu_forward", {"x": x}, ("y", gy.shape)), dtype)
    agree(*outputs("glu_backward", {"x": x, "gy": gy}, ("gx", shape)), dtype)


def test_every_schedule_gives_the_same_bits(rng):
    x, gy = values(rng, (4, 3, 701), np.float32), values(rng, (4, 3, 701), np.float32)
    results = set()
    try:
        for order, seed in [("forward", 0), ("reverse", 0), ("random", 1), ("random", 2), ("random", 3)]:
            simt.configure(order, seed)
            gw, y = np.full(3, np.nan, np.float32), np.full_like(x, np.nan)
            simt.prelu_backward_w(x, gy, gw)
            simt.gelu_backward(x, gy, y)
            results.add((gw.tobytes(), y.tobytes()))
    finally:
        simt.configure()
    assert len(results) == 1


def test_memory_traffic_is_what_the_header_says(rng):
    race = pytest.importorskip("kdl.kernels._simt_race", reason="only the race build counts")
    x = np.zeros((4, 2, 1001), np.float32)
    half = np.zeros((4, 1001), np.float32)
    gw = np.zeros(2, np.float32)

    def elements(function, *arguments):
        before = race.counter("bytes_read"), race.counter("bytes_written")
        function(*arguments)
        return (race.counter("bytes_read") - before[0]) / 4, (race.counter("bytes_written") - before[1]) / 4

    assert elements(race.silu_forward, x, x.copy()) == (x.size, x.size)
    assert elements(race.silu_backward, x, x.copy(), x.copy()) == (2 * x.size, x.size)
    assert elements(race.glu_forward, x, half) == (2 * half.size, half.size)
    assert elements(race.glu_backward, x, half, x.copy()) == (3 * half.size, 2 * half.size)
    assert elements(race.prelu_backward_w, x - 1, x.copy(), gw) == (2 * x.size, gw.size)


def test_every_exported_activation_is_tested_here():
    assert {*MAPS, "prelu_forward", "prelu_backward_x", "prelu_backward_w", "glu_forward", "glu_backward"} >= REFERENCE
