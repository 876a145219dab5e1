"""The ways of the CPU's float32 convolution against the float64 reference: sizes around tiles, layouts, and errors."""
import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kdl import kernels
from kdl.kernels.cpu.tiles import WIDTH

cpu, reference = kernels.get("cpu"), kernels.get("reference")


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
    w = (groups * filters, channels, draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    pair = st.tuples(*[st.integers(1, 3)] * 2)
    return x, w, draw(pair), draw(st.tuples(*[st.integers(0, 3)] * 2)), draw(pair), groups


@settings(max_examples=80, deadline=None)
@given(geometries(), st.booleans(), st.booleans())
def test_any_geometry_in_both_layouts(geometry, last, bias):
    assert max(errors(*geometry, last, bias)) < 1e-4
