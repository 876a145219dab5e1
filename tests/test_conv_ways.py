"""The ways of the CPU's float32 convolution against the float64 reference: sizes around tiles, layouts, and errors."""
from contextlib import contextmanager
from unittest.mock import Mock, patch

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import kdl
from kdl import kernels
from kdl.kernels.cpu import depthwise, images, rows, sliding, ways, winograd
from kdl.kernels.cpu.simd import LANES, REGISTERS
from kdl.kernels.cpu.tiles import WIDTH

cpu, reference = kernels.get("cpu"), kernels.get("reference")


@contextmanager
def taken(way, **answers):
    """Let a way be taken wherever it can be, by what its functions answer."""
    def forget():
        ways.of_sums.cache_clear()
        ways.of_products.cache_clear()
    forget()
    with patch.multiple(way, **{name: Mock(return_value=answer) for name, answer in answers.items()}):
        yield
    forget()


def laid_out(array, last):
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if last else array


def errors(x, w, stride, padding, dilation, groups, last=False, bias=True):
    """The largest error of y, gx and gw, each over the standard deviation of a sum of so many normal products."""
    outputs = [(n + 2 * p - d * (k - 1) - 1) // s + 1
               for n, k, s, p, d in zip(x[2:], w[2:], stride, padding, dilation, strict=True)]
    assume(min(outputs) > 0)
    rng = np.random.default_rng(7)
    y = (x[0], w[0], *outputs)
    x, w, gy = [rng.standard_normal(shape).astype(np.float32) for shape in (x, w, y)]
    b = rng.standard_normal(len(w)).astype(np.float32) if bias else None
    geometry, found, taps = (stride, padding, dilation, groups, False), [], w[0, 0].size
    for kernel, inputs, like, terms in (("conv2d_forward", (x, w, b), gy, w[0].size),
                                        ("conv2d_backward_x", (gy, w), x, len(w) // groups * taps),
                                        ("conv2d_backward_w", (x, gy), w, gy[:, 0].size)):
        exact = np.empty(like.shape)
        getattr(reference, kernel)(*[None if a is None else a.astype(np.float64) for a in inputs], exact, *geometry)
        ours = laid_out(np.full(like.shape, np.nan, np.float32), last)
        inputs = [laid_out(a, last) if a is not None and a.ndim == 4 else a for a in inputs]
        getattr(cpu, kernel)(*inputs, ours, *geometry)
        found.append(np.abs(ours - exact).max() / terms ** 0.5)
    return found


# --- generated ---
@st.composite
def geometries(draw):
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, filters = draw(st.integers(1, 2 * WIDTH)), draw(st.integers(1, 2 * WIDTH))
    x = (draw(st.integers(1, 3)), groups * channels, draw(st.integers(1, 18)), draw(st.integers(1, 18)))
    w = (groups * filters, channels, *draw(st.sampled_from([(1, 1), (3, 3), (2, 4), (4, 1)])))
    pair = st.tuples(*[st.integers(1, 3)] * 2)
    return x, w, draw(pair), draw(st.tuples(*[st.integers(0, 3)] * 2)), draw(pair), groups


@settings(max_examples=80, deadline=None)
@given(geometries(), st.booleans(), st.booleans())
def test_any_geometry_in_both_layouts(geometry, last, bias):
    assert max(errors(*geometry, last, bias)) < 1e-4


@settings(max_examples=30, deadline=None)
@given(*[st.integers(1, 2 * WIDTH)] * 2, *[st.integers(1, 25)] * 2, st.tuples(*[st.integers(1, 3)] * 2),
       st.sampled_from([1, 3]), st.booleans(), st.booleans())
def test_filters_of_one_tap(channels, filters, height, width, stride, groups, last, bias):
    x, w = (2, groups * channels, height, width), (groups * filters, channels, 1, 1)
    assert max(errors(x, w, stride, (0, 0), (1, 1), groups, last, bias)) < 1e-4


@st.composite
def few_channels(draw):
    sizes = (1, 1, 6), (1, 3, 5), (5, 1, 1), (4, 1, 3), (3, 2, 2), (33, 1, 1)
    groups, channels, filters = draw(st.sampled_from(sizes))
    x = (draw(st.integers(1, 3)), groups * channels, draw(st.integers(1, 19)), draw(st.integers(1, 3 * LANES)))
    # each size of filters and stride is compiled by itself
    w = (groups * filters, channels, *draw(st.sampled_from([(1, 4), (3, 3), (5, 5), (7, 2), (7, 7)])))
    stride = draw(st.sampled_from([(1, 1), (2, 2), (1, 2)]))
    padding, dilation = [draw(st.tuples(*[st.integers(*limits)] * 2)) for limits in ((0, 7), (1, 3))]
    return x, w, stride, padding, dilation, groups


# --- channels in lanes ---
@st.composite
def depthwise_filters(draw):
    channels = draw(st.integers(LANES // 2, 3 * LANES))
    x = (draw(st.integers(1, 3)), channels, draw(st.integers(1, 19)), draw(st.integers(1, 3 * LANES)))
    w = (channels, 1, draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    pair = st.tuples(*[st.integers(1, 3)] * 2)
    return x, w, draw(pair), draw(st.tuples(*[st.integers(0, 4)] * 2)), draw(pair), channels


@settings(max_examples=80, deadline=None)
@given(depthwise_filters(), st.booleans(), st.booleans())
def test_depthwise_filters(geometry, last, bias):
    with taken(depthwise, fits=True):  # for wide images too
        assert max(errors(*geometry, last, bias)) < 1e-4


# --- images in lanes ---
@st.composite
def many_small_images(draw):
    x = (draw(st.integers(1, 3 * LANES)), draw(st.integers(1, 8)), draw(st.integers(1, 12)), draw(st.integers(1, 12)))
    w = (draw(st.integers(1, 14)), x[1], draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    padding, dilation = [draw(st.tuples(*[st.integers(*limits)] * 2)) for limits in ((0, 6), (1, 3))]
    return x, w, (1, 1), padding, dilation, 1


@settings(max_examples=100, deadline=None)
@given(many_small_images(), st.booleans(), st.booleans())
def test_many_small_images(geometry, last, bias):
    with taken(images, fits=True, cost=0):
        assert max(errors(*geometry, last, bias)) < 1e-4


# --- rows of outputs, sliding where filters are depthwise ---
@settings(max_examples=60, deadline=None)
@given(few_channels(), st.booleans(), st.booleans())
def test_few_channels_in_both_layouts(geometry, last, bias):
    assert max(errors(*geometry, last, bias)) < 1e-4


@settings(max_examples=60, deadline=None)
@given(few_channels(), st.integers(1, 200))
def test_blocks_of_sliding_rows(geometry, floats):
    """However few rows of an image make up a block."""
    x, w, *rest, _ = geometry
    with patch.object(sliding, "_BLOCK", floats):
        assert max(errors((x[0], w[0], *x[2:]), (w[0], 1, *w[2:]), *rest, w[0])) < 1e-4


def test_rows_of_outputs_meet_their_taps_alone():
    x, gy, gw = [np.ones(shape, np.float32) for shape in ((2, 4, 6, 18), (2, 4, 2, 8), (4, 1, 3, 3))]
    x[:, :, -1] = x[:, :, :, -1] = np.nan  # which no window of stride 2 reaches
    y = np.empty_like(gy)
    rows.correlate(x, np.ones_like(gw), None, y, (2, 2), (0, 0), (1, 1), 4, backward=False)
    rows.backward_w(x, gy, gw, (2, 2), (0, 0), (1, 1), 4)
    assert (y == 9).all() and (gw == 32).all()


@pytest.mark.parametrize("slide", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 7, 7), (1, 2, 14, 14), (1, 2, 9, 2 * LANES + 1)], ids=str)
def test_rows_of_outputs_write_their_arrays_alone(shape, slide):
    size, gy = np.prod(shape), np.ones((*shape[:2], *[(n + 1) // 2 for n in shape[2:]]), np.float32)
    memory = np.full(size + 4 * LANES, np.nan, np.float32)
    gx = memory[2 * LANES:2 * LANES + size].reshape(shape)
    w, geometry = np.ones((shape[1], 1, 3, 3), np.float32), ((2, 2), (1, 1), (1, 1))
    if slide:
        if not sliding.fits(w.shape, *geometry, shape[1], backward=True):
            pytest.skip("the machine has too few registers for these sums")
        sliding.correlate(gy, w, None, gx, *geometry, backward=True)
    else:
        rows.correlate(gy, w, None, gx, *geometry, shape[1], backward=True)
    met = np.array([1 + (i % 2 and i + 1 < max(shape)) for i in range(max(shape))])  # an odd place lies in two windows
    down, right = [np.where(np.arange(n) == n - 1, 1, met[:n]) for n in shape[2:]]
    assert np.isnan(memory[:2 * LANES]).all() and np.isnan(memory[2 * LANES + size:]).all()
    np.testing.assert_array_equal(gx, np.broadcast_to(down[:, None] * right, shape))


# --- Winograd ---
@settings(max_examples=60, deadline=None)
@given(st.sampled_from([2, 4]), st.integers(1, 5), *[st.integers(LANES, 3 * WIDTH)] * 2, *[st.integers(1, 19)] * 2,
       st.tuples(*[st.integers(0, 2)] * 2), st.booleans())
def test_winograd_agrees_with_the_sum(side, images, channels, filters, height, width, padding, last):
    outputs = height + 2 * padding[0] - 2, width + 2 * padding[1] - 2
    assume(min(outputs) > 0)
    rng = np.random.default_rng(3)
    x, w, gy = [rng.standard_normal(shape) for shape in (
        (images, channels, height, width), (filters, channels, 3, 3), (images, filters, *outputs))]
    b, geometry = rng.standard_normal(filters), ((1, 1), padding, (1, 1), 1, False)
    exact = [np.empty_like(a) for a in (gy, x, w)]
    reference.conv2d_forward(x, w, b, exact[0], *geometry)
    reference.conv2d_backward_x(gy, w, exact[1], *geometry)
    reference.conv2d_backward_w(x, gy, exact[2], *geometry)

    x, w, gy = [laid_out(a.astype(np.float32), last) for a in (x, w, gy)]
    y, gx, gw = [laid_out(np.full(a.shape, np.nan, np.float32), last) for a in exact]
    winograd.correlate(x, w, b.astype(np.float32), y, padding, False, side)
    winograd.correlate(gy, w, None, gx, padding, True, side)
    winograd.backward_w(x, gy, gw, padding, side)
    terms = channels * 9, filters * 9, images * outputs[0] * outputs[1]
    for found, wanted, count in zip((y, gx, gw), exact, terms, strict=True):
        assert np.abs(found - wanted).max() < {2: 1e-5, 4: 4e-5}[side] * max(count, 9) ** 0.5


@pytest.mark.parametrize(("x", "w", "padding"), [((4, 32, 16, 16), (32, 32, 3, 3), (1, 1)),
                                                 ((2, 40, 8, 8), (24, 40, 1, 1), (0, 0)),
                                                 ((2, 3, 12, 12), (4, 3, 3, 3), (1, 1))])
def test_float64_keeps_its_digits(x, w, padding):
    """Winograd and the tiles are for float32."""
    rng = np.random.default_rng(5)
    gy = rng.standard_normal((x[0], w[0], *x[2:]))
    x, w = rng.standard_normal(x), rng.standard_normal(w)
    geometry = (1, 1), padding, (1, 1), 1, False
    for kernel, inputs, like in (("conv2d_forward", (x, w, None), gy), ("conv2d_backward_x", (gy, w), x),
                                 ("conv2d_backward_w", (x, gy), w)):
        found, exact = np.full((2, *like.shape), np.nan)
        getattr(cpu, kernel)(*inputs, found, *geometry)
        getattr(reference, kernel)(*inputs, exact, *geometry)
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-11)


def test_each_convolution_goes_its_way():
    def ways(x, w, padding=1, stride=1, **geometry):
        x, w = [kdl.randn(*shape, requires_grad=True) for shape in (x, w)]
        return kdl.explain(lambda: kdl.nn.functional.conv2d(x, w, None, stride, padding, **geometry).sum().backward())

    text = ways((8, 64, 16, 16), (64, 64, 3, 3))
    assert "forward (8, 64, 16, 16) (64, 64, 3, 3): Winograd, 2 x 2" in text and "backward_w" in text
    assert text.count("Winograd, 2 x 2") == 2 and text.count("Winograd, 4 x 4") == 1
    assert "Winograd" not in ways((1, 512, 4, 4), (512, 512, 3, 3))  # more filters than tiles to use them on
    assert ways((2, 64, 16, 16), (64, 32, 3, 3), groups=2).count("direct") == 3
    assert ways((2, 1, 16, 16), (6, 1, 5, 5)).count("rows of outputs") == 3
    for text in (ways((2, 24, 16, 16), (24, 1, 3, 3), groups=24),
                 ways((2, 24, 16, 32), (24, 1, 3, 3), stride=2, groups=24)):
        slides = 2 if REGISTERS == 32 else 0  # weights and sums take 20 registers, or more
        assert text.count("rows sliding past sums") == slides and text.count("rows of outputs") == 3 - slides
    assert ways((2, 24, 2, 2), (24, 1, 3, 3), groups=24).count("channels in lanes") == 3
    text = ways((2, 6, 14, 14), (16, 6, 5, 5), padding=0)
    assert text.count("rows of outputs") == 1 and text.count("direct") == 2
    text = ways((48, 6, 14, 14), (16, 6, 5, 5), padding=0)  # whose gradients fill vectors with images
    assert text.count("images in lanes") == 2 and text.count("direct") == 1
    assert ways((2, 64, 14, 14), (64, 64, 1, 1), padding=0).count("one tap") == 3
    assert ways((2, 64, 4, 4), (64, 64, 1, 1), padding=0).count("direct") == 3  # tiles would be mostly empty


def test_fast_convolution_is_a_choice():
    x, w = kdl.randn(8, 64, 16, 16), kdl.randn(64, 64, 3, 3)
    with pytest.raises(ValueError, match="set_conv_precision: expected one of 'default', 'fast'"):
        kdl.set_conv_precision("fastest")
    exact = kdl.nn.functional.conv2d(x, w)
    kdl.set_conv_precision("fast")
    try:
        assert kdl.get_conv_precision() == "fast"
        assert "4 x 4 outputs" in kdl.explain(kdl.nn.functional.conv2d, x, w)
        fast = kdl.nn.functional.conv2d(x, w)
    finally:
        kdl.set_conv_precision("default")
    assert 0 < abs(fast - exact).max() < 1e-3 and kdl.get_conv_precision() == "default"
