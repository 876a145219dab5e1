"""Convolution against torch over generated arguments, and what the op table does not ask: blocks, layouts, refusals."""
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import kdl
import kdl.nn.functional as F
from kdl import kernels
from kdl.kernels.cpu import columns

torch = pytest.importorskip("torch", reason="convolution is compared with torch: pip install 'kdl-kernels[test]'")
TF = torch.nn.functional

INF, NAN = float("inf"), float("nan")


def both(name, arrays, dtype="float64", **options):
    """Output and gradients in kdl and in torch."""
    results = []
    for functional, tensor in ((F, kdl.tensor), (TF, torch.tensor)):
        leaves = [None if a is None else tensor(a.astype(dtype), requires_grad=True) for a in arrays]
        y = getattr(functional, name)(*leaves, **options)
        y.backward(tensor(np.random.default_rng(5).standard_normal(tuple(y.shape)).astype(dtype)))
        results.append([np.asarray(y.detach()), *[np.asarray(x.grad) for x in leaves if x is not None]])
    return results


def agree(ours, theirs, tolerance=1e-9):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max(initial=0)))


# --- generated arguments ---
def ints(draw, n, low, high):
    values = st.integers(low, high)
    return draw(values | st.tuples(*[values] * n) | st.lists(values, min_size=n, max_size=n))


def each(value, n):
    return (value,) * n if isinstance(value, int) else value


@st.composite
def convolutions(draw, transposed):
    n = draw(st.integers(1, 3))
    groups, per_group, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    size = [draw(st.integers(1, 9 if n < 3 else 5)) for _ in range(n)]
    taps = [draw(st.integers(1, 4 if n < 3 else 3)) for _ in range(n)]
    options = {"stride": ints(draw, n, 1, 3), "padding": ints(draw, n, 0, 3), "dilation": ints(draw, n, 1, 3),
               "groups": groups}
    x = (groups * per_group, *size)
    if draw(st.booleans()):
        x = (draw(st.integers(0, 3)), *x)
    w = (groups * per_group, outputs, *taps) if transposed else (groups * outputs, per_group, *taps)
    s, p, d = (each(options[name], n) for name in ("stride", "padding", "dilation"))
    if transposed:
        options["output_padding"] = tuple(draw(st.integers(0, max(s[i], d[i]) - 1)) for i in range(n))
        assume(all((size[i] - 1) * s[i] - 2 * p[i] + d[i] * (taps[i] - 1) + 1 > 0 for i in range(n)))
        name = f"conv_transpose{n}d"
    else:
        kind = draw(st.sampled_from(["numbers", "numbers", "same", "valid"]))
        if kind != "numbers":
            options["padding"], p = kind, (0,) * n
        if kind == "same":
            options["stride"] = 1
        else:
            assume(all(d[i] * (taps[i] - 1) < size[i] + 2 * p[i] for i in range(n)))
        name = f"conv{n}d"
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    bias = rng.standard_normal(groups * outputs) if draw(st.booleans()) else None
    return name, [rng.standard_normal(x), rng.standard_normal(w), bias], options


def check(call, namespace):
    name, arrays, options = call
    with kernels.use(namespace):
        agree(*both(name, arrays, **options))


@settings(max_examples=60, deadline=None)
@given(convolutions(False), st.sampled_from(["cpu", "cpu", "reference"]))
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_convolution_agrees_with_torch(call, namespace):
    check(call, namespace)


@settings(max_examples=50, deadline=None)
@given(convolutions(True), st.sampled_from(["cpu", "cpu", "reference"]))
def test_transposed_convolution_agrees_with_torch(call, namespace):
    check(call, namespace)


# --- the ways of the CPU kernels ---
WAYS = {
    "columns": ((3, 5, 13, 11), (7, 5, 3, 3), {"padding": 1}),
    "columns of strided windows": ((3, 5, 14, 13), (7, 5, 4, 3),
                                   {"stride": (3, 2), "padding": (1, 3), "dilation": (1, 2)}),
    "columns of groups": ((2, 10, 9, 8), (8, 5, 3, 2), {"groups": 2}),
    "columns of volumes": ((2, 5, 5, 6, 4), (6, 5, 3, 2, 3), {"padding": 1, "stride": (1, 2, 1)}),
    "lines": ((3, 2, 13, 11), (4, 2, 3, 3), {"padding": 1}),
    "lines of strided windows": ((3, 2, 14, 13), (2, 2, 4, 5),
                                 {"stride": (3, 2), "padding": (1, 3), "dilation": (1, 2)}),
    "lines of depthwise groups": ((2, 6, 9, 10), (12, 1, 3, 3), {"stride": 2, "padding": 1, "groups": 6}),
    "lines of volumes": ((2, 3, 5, 6, 4), (3, 1, 3, 2, 3), {"padding": (1, 0, 2), "stride": (2, 1, 2), "groups": 3}),
    "pixels": ((3, 5, 6, 7), (8, 5, 1, 1), {}),
    "pixels of groups": ((3, 10, 6, 7), (8, 5, 1, 1), {"groups": 2}),
    "one tap, padded": ((3, 5, 6, 7), (8, 5, 1, 1), {"padding": 1}),
}


@pytest.mark.parametrize("count", [1, 7, 40, 1024], ids=lambda n: f"{n} columns")
@pytest.mark.parametrize("way", WAYS)
def test_blocks_of_any_size_give_the_same(way, count, monkeypatch):
    """Parts of a line's image, images apart and images together."""
    monkeypatch.setattr(columns, "_BLOCK_COLUMNS", count)
    monkeypatch.setattr(columns, "_BLOCK_BYTES", 1)
    x, w, options = WAYS[way]
    rng = np.random.default_rng(3)
    name = f"conv{len(x) - 2}d"
    agree(*both(name, [rng.standard_normal(x), rng.standard_normal(w), rng.standard_normal(w[0])], **options))


@pytest.mark.parametrize("way", WAYS)
def test_the_number_of_threads_does_not_matter(way):
    """Sums of lines are cut into parts that are the same for any number of threads."""
    import numba
    x, w, options = WAYS[way]
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(x), rng.standard_normal(w), rng.standard_normal(w[0])]
    before = numba.get_num_threads()
    many = both(f"conv{len(x) - 2}d", arrays, "float32", **options)[0]
    numba.set_num_threads(1)
    try:
        one = both(f"conv{len(x) - 2}d", arrays, "float32", **options)[0]
    finally:
        numba.set_num_threads(before)
    for a, b in zip(many, one, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_bias_gradient_of_many_pixels_is_accurate():
    gy = np.random.default_rng(0).uniform(0.5, 1.5, (40, 3, 64, 64)).astype(np.float32)
    gb = np.empty(3, np.float32)
    kernels.get("cpu").conv_backward_b(gy, gb)
    np.testing.assert_allclose(gb, gy.astype(np.float64).sum((0, 2, 3)), rtol=1e-5)


# --- meaning ---
def test_a_delta_moves_the_image():
    """A filter with a single one at tap (r, s) shifts the image by it."""
    x = kdl.tensor(np.arange(20.0).reshape(1, 1, 4, 5))
    w = np.zeros((1, 1, 3, 3))
    w[0, 0, 0, 2] = 1
    y = F.conv2d(x, kdl.tensor(w), padding=1).array[0, 0]
    np.testing.assert_array_equal(y[1:, :-1], x.array[0, 0, :-1, 1:])
    np.testing.assert_array_equal(y[0], 0)
    np.testing.assert_array_equal(y[:, -1], 0)


def test_same_padding_puts_the_odd_column_at_the_end():
    y = F.conv1d(kdl.ones(1, 1, 4), kdl.ones(1, 1, 2), padding="same")
    np.testing.assert_array_equal(y.array, [[[2, 2, 2, 1]]])


@pytest.mark.parametrize("namespace", ["cpu", "reference"])
@pytest.mark.parametrize("groups", [1, 4])
def test_the_transpose_is_the_adjoint(namespace, groups, rng):
    """<conv(x), g> = <x, conv_transpose(g)>."""
    x, w = rng.standard_normal((2, 4, 7, 8)), rng.standard_normal((8, 4 // groups, 3, 2))
    with kernels.use(namespace):
        y = F.conv2d(kdl.tensor(x), kdl.tensor(w), stride=2, padding=1, groups=groups)
        g = rng.standard_normal(y.shape)
        back = F.conv_transpose2d(kdl.tensor(g), kdl.tensor(w), stride=2, padding=1, output_padding=(0, 0),
                                  groups=groups)
    assert back.shape == x.shape
    np.testing.assert_allclose((y.array * g).sum(), (x * back.array).sum(), rtol=1e-12)


@pytest.mark.parametrize("way", ["columns", "lines", "pixels"])
def test_nan_and_inf_reach_the_outputs_that_see_them(way):
    shape, w, options = WAYS[way]
    x, w = np.ones(shape), np.ones(w)
    x[1, 1, 3, 2], x[2, 0, 0, 0] = NAN, INF
    for namespace in ("cpu", "reference"):
        with kernels.use(namespace):
            ours = F.conv2d(kdl.tensor(x), kdl.tensor(w), **options)
        np.testing.assert_array_equal(ours.array, TF.conv2d(torch.tensor(x), torch.tensor(w), **options).numpy())


def test_halves_are_summed_in_float32():
    """4096 ones: a float16 sum would stop at 2048."""
    x, w = kdl.ones(1, 4096, 2, 2, dtype=kdl.float16), kdl.ones(1, 4096, 1, 1, dtype=kdl.float16)
    np.testing.assert_array_equal(F.conv2d(x, w).array, 4096)


# --- layouts ---
@pytest.mark.parametrize("which", ["input", "weight"])
@pytest.mark.parametrize("name, w", [("conv2d", (4, 3, 2, 2)), ("conv_transpose2d", (3, 4, 2, 2))])
def test_channels_last_stays(which, name, w, rng):
    x, w = kdl.tensor(rng.standard_normal((2, 3, 5, 6))), kdl.tensor(rng.standard_normal(w))
    plain = getattr(F, name)(x, w)
    if which == "input":
        x = x.contiguous(memory_format=kdl.channels_last)
    else:
        w = w.contiguous(memory_format=kdl.channels_last)
    x.requires_grad_()
    y = getattr(F, name)(x, w)
    assert y.is_contiguous(memory_format=kdl.channels_last) and not y.is_contiguous()
    np.testing.assert_allclose(y.array, plain.array, rtol=1e-12)
    seen = []
    x.register_hook(lambda g: seen.append(g.is_contiguous(memory_format=kdl.channels_last)))
    y.sum().backward()
    assert seen == [True]


def test_an_unbatched_volume_is_not_taken_for_channels_last(rng):
    x = np.moveaxis(np.ascontiguousarray(np.moveaxis(rng.standard_normal((3, 4, 5, 6)), 1, -1)), -1, 1)
    agree(*both("conv3d", [x, rng.standard_normal((2, 3, 2, 2, 2)), None]))


# --- refusals ---
X, W = (8, 4, 9, 9), (6, 4, 3, 3)
REFUSED = [
    ("conv2d", (8, 4, 224, 224), (64, 3, 7, 7), None, {},
     "conv2d: expected weight.shape[1] == input.shape[1] // groups, got weight (64, 3, 7, 7), "
     "input (8, 4, 224, 224), groups 1"),
    ("conv2d", (4, 9, 9), (6, 3, 3, 3), None, {},
     "conv2d: expected weight.shape[1] == input.shape[0] // groups, got weight (6, 3, 3, 3), input (4, 9, 9), "
     "groups 1"),
    ("conv2d", X, (6, 4, 3, 3), None, {"groups": 3},
     "conv2d: expected weight.shape[1] == input.shape[1] // groups, got weight (6, 4, 3, 3), input (8, 4, 9, 9), "
     "groups 3"),
    ("conv2d", X, (5, 2, 3, 3), None, {"groups": 2},
     "conv2d: expected weight.shape[0] to be a multiple of groups, got weight (5, 2, 3, 3), groups 2"),
    ("conv2d", X, W, (5,), {}, "conv2d: expected bias.shape == weight.shape[:1], got bias (5,), weight (6, 4, 3, 3)"),
    ("conv2d", X, W, (6, 1), {},
     "conv2d: expected bias.shape == weight.shape[:1], got bias (6, 1), weight (6, 4, 3, 3)"),
    ("conv2d", (9, 9), W, None, {}, "conv2d: expected input (N, C, ...) or (C, ...), got input (9, 9), "
                                    "spatial_dimensions 2"),
    ("conv1d", X, (6, 4, 3), None, {}, "conv1d: expected input (N, C, ...) or (C, ...), got input (8, 4, 9, 9), "
                                       "spatial_dimensions 1"),
    ("conv2d", X, (6, 4, 3), None, {}, "conv2d: expected weight with two dimensions before the spatial ones, "
                                       "got weight (6, 4, 3), spatial_dimensions 2"),
    ("conv2d", (8, 4, 2, 9), W, None, {},
     "conv2d: expected dilation * (filter size - 1) < padded input size in every dimension, got weight (6, 4, 3, 3), "
     "input (8, 4, 2, 9), padding (0, 0), dilation (1, 1)"),
    ("conv2d", X, W, None, {"dilation": 5},
     "conv2d: expected dilation * (filter size - 1) < padded input size in every dimension, got weight (6, 4, 3, 3), "
     "input (8, 4, 9, 9), padding (0, 0), dilation (5, 5)"),
    ("conv2d", (8, 4, 0, 9), W, None, {"padding": 2},
     "conv2d: expected no empty dimension but the batch, got weight (6, 4, 3, 3), input (8, 4, 0, 9)"),
    ("conv2d", X, (0, 4, 3, 3), None, {},
     "conv2d: expected no empty dimension but the batch, got weight (0, 4, 3, 3), input (8, 4, 9, 9)"),
    ("conv2d", X, W, None, {"stride": 0}, "conv2d: expected stride > 0 and dilation > 0, got stride (0, 0), "
                                          "dilation (1, 1)"),
    ("conv2d", X, W, None, {"dilation": (1, -1)}, "conv2d: expected stride > 0 and dilation > 0, got stride (1, 1), "
                                                  "dilation (1, -1)"),
    ("conv2d", X, W, None, {"groups": 0}, "conv2d: expected groups > 0, got groups 0"),
    ("conv2d", X, W, None, {"groups": 1.0}, "conv2d: expected groups to be an int, got groups 1.0"),
    ("conv2d", X, W, None, {"padding": -1}, "conv2d: expected padding >= 0, got padding (-1, -1)"),
    ("conv2d", X, W, None, {"padding": "full"}, "conv2d: expected padding to be numbers, 'same' or 'valid', "
                                                "got padding 'full'"),
    ("conv2d", X, W, None, {"padding": "same", "stride": (1, 2)}, "conv2d: expected stride 1 with padding 'same', "
                                                                  "got stride (1, 2)"),
    ("conv2d", X, W, None, {"stride": (1, 1, 1)}, "conv2d: expected stride to be an int or 2 ints, got (1, 1, 1)"),
    ("conv_transpose2d", X, (3, 4, 3, 3), None, {},
     "conv_transpose2d: expected weight.shape[0] == input.shape[1], got weight (3, 4, 3, 3), input (8, 4, 9, 9)"),
    ("conv_transpose2d", X, (4, 2, 3, 3), None, {"groups": 3},
     "conv_transpose2d: expected weight.shape[0] to be a multiple of groups, got weight (4, 2, 3, 3), groups 3"),
    ("conv_transpose2d", X, (4, 3, 3, 3), (3,), {"groups": 2},
     "conv_transpose2d: expected bias.shape == (weight.shape[1] * groups,), got bias (3,), weight (4, 3, 3, 3), "
     "groups 2"),
    ("conv_transpose2d", X, (4, 3, 3, 3), None, {"output_padding": 1},
     "conv_transpose2d: expected 0 <= output_padding < max(stride, dilation), got output_padding (1, 1), "
     "stride (1, 1), dilation (1, 1)"),
    ("conv_transpose2d", X, (4, 3, 3, 3), None, {"stride": 2, "output_padding": -1},
     "conv_transpose2d: expected 0 <= output_padding < max(stride, dilation), got output_padding (-1, -1), "
     "stride (2, 2), dilation (1, 1)"),
    ("conv_transpose2d", (1, 4, 2, 2), (4, 3, 3, 3), None, {"padding": 2},
     "conv_transpose2d: expected padding that leaves an output, got outputs (0, 0), input (1, 4, 2, 2), "
     "weight (4, 3, 3, 3), padding (2, 2)"),
    ("conv_transpose2d", X, (4, 3, 3, 3), None, {"padding": "same"},
     "conv_transpose2d: expected padding to be an int or 2 ints, got 'same'"),
]


@pytest.mark.parametrize("name, x, w, b, options, message", REFUSED, ids=[f"{r[0]}-{i}" for i, r in enumerate(REFUSED)])
def test_what_torch_refuses_is_refused_in_one_sentence(name, x, w, b, options, message):
    shapes = [shape for shape in (x, w, b) if shape is not None]
    with pytest.raises((TypeError, ValueError)) as caught:
        getattr(F, name)(*[kdl.ones(*shape) for shape in shapes], **options)
    assert str(caught.value) == message
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        getattr(TF, name)(*[torch.ones(*shape) for shape in shapes], **options)


@pytest.mark.parametrize("name, w", [("conv2d", (4, 3, 2, 2)), ("conv_transpose2d", (3, 4, 2, 2))])
def test_dtypes_that_do_not_fit_are_refused(name, w):
    x, w, function = kdl.ones(1, 3, 4, 4), kdl.ones(*w), getattr(F, name)
    with pytest.raises(TypeError, match=f"{name}: expected tensors of one dtype, got input float32, weight float64"):
        function(x, w.double())
    with pytest.raises(TypeError, match=f"{name}: expected a floating-point input, got int64"):
        function(x.long(), w.long())
    with pytest.raises(TypeError, match=f"{name}: expected weight to be a Tensor, got ndarray"):
        function(x, w.array)
