"""Convolution on the CPU, in two or three dimensions. The maths stands in kdl/ops/conv.py.

In float32 a filter of 3 x 3 goes Winograd's way where it pays, and the others over rows of outputs or, with more
channels and strides, over tiles of pixels; those of one tap are products of matrices. Volumes go over tiles of lines,
and float64 over columns. Winograd's F(2 x 2) is as exact as sums of products, and F(4 x 4) as PyTorch's gradient of the
filters; forward, and for the gradient of the input, F(4 x 4) waits until `tf32` says that speed goes before exactness.
"""
from functools import lru_cache
from math import prod

import numpy as np

from kdl.kernels.cpu import columns, lines, pixel_filters, pixels, pointwise, rows, winograd
from kdl.kernels.cpu.cells import backward_pieces, forward_piece
from kdl.kernels.cpu.explain import tell
from kdl.kernels.cpu.gemm import linear_backward_b
from kdl.kernels.cpu.launch import jit, prange, widened
from kdl.kernels.cpu.layouts import is_pixels

_FEW = 16  # filters times channels of a group up to which rows of outputs pay in any case
_SERIAL = 1 << 15  # elements below which waking threads takes longer than the loop


# --- kernels ---
@widened("y")
def conv2d_forward(x, w, b, y, stride, padding, dilation, groups, tf32):
    if _is_sparse(w, stride, padding):
        x, stride = _met(x, stride).copy("K"), (1,) * len(stride)
    geometry = stride, padding, dilation, groups
    if pointwise.fits(w, y, stride, padding):
        tell("conv2d_forward", x, w, "one tap, tiles of filters by outputs")
        pointwise.multiply(x, w, b, y, groups, backward=False)
    elif side := winograd.outputs_side(y.shape[2:], w, len(x), geometry, exact=not tf32):
        tell("conv2d_forward", x, w, f"Winograd, {side} x {side} outputs at a time")
        winograd.correlate(x, w, b, y, padding, False, side)
    elif _by_rows(x, w, y, geometry, backward=False):
        tell("conv2d_forward", x, w, "rows of outputs")
        rows.correlate(x, w, b, y, *geometry)
    elif _by_columns(x, w, y, geometry, backward=False):
        tell("conv2d_forward", x, w, "lines of outputs, or columns and BLAS")
        columns.forward(x, w, b, y, *geometry)
    else:
        tell("conv2d_forward", x, w, "direct, tiles of outputs by filters")
        pixels.correlate(x, w, b, y, _axes(x, w, y, stride, padding, dilation), groups, backward=False)


@widened("gx")
def conv2d_backward_x(gy, w, gx, stride, padding, dilation, groups, tf32):
    if _is_sparse(w, stride, padding):
        met = np.empty_like(_met(gx, stride))
        conv2d_backward_x(gy, w, met, (1,) * len(stride), padding, dilation, groups, tf32)
        gx[...] = 0
        _met(gx, stride)[...] = met
        return
    geometry = stride, padding, dilation, groups
    if pointwise.fits(w, gx, stride, padding):
        tell("conv2d_backward_x", gy, w, "one tap, tiles of channels by inputs")
        pointwise.multiply(gy, w, None, gx, groups, backward=True)
    elif side := winograd.outputs_side(gx.shape[2:], w, len(gx), geometry, exact=not tf32):
        tell("conv2d_backward_x", gy, w, f"Winograd, {side} x {side} outputs at a time")
        winograd.correlate(gy, w, None, gx, padding, True, side)
    elif _by_rows(gx, w, gy, geometry, backward=True):
        tell("conv2d_backward_x", gy, w, "rows of outputs")
        rows.backward_x(gy, w, gx, *geometry)
    elif _by_columns(gx, w, gy, geometry, backward=True):
        tell("conv2d_backward_x", gy, w, "lines of outputs, or columns and BLAS")
        columns.backward_x(gy, w, gx, *geometry)
    else:
        tell("conv2d_backward_x", gy, w, "direct, tiles of outputs by channels")
        pixels.correlate(gy, w, None, gx, _axes(gx, w, gy, stride, padding, dilation), groups, backward=True)


@widened("gw")
def conv2d_backward_w(x, gy, gw, stride, padding, dilation, groups, tf32):
    if _is_sparse(gw, stride, padding):
        x, stride = _met(x, stride).copy("K"), (1,) * len(stride)
    geometry = stride, padding, dilation, groups
    if rows.fits(gw, stride, dilation) and _few(gw, groups):
        tell("conv2d_backward_w", x, gy, "rows of outputs")
        rows.backward_w(x, gy, gw, *geometry)
    elif pointwise.fits(gw, gy, stride, padding):
        tell("conv2d_backward_w", x, gy, "one tap, tiles of filters by channels")
        pointwise.backward_w(x, gy, gw, groups)
    elif side := winograd.outputs_side(gy.shape[2:], gw, len(x), geometry, exact=False, of_filters=True):
        tell("conv2d_backward_w", x, gy, f"Winograd, {side} x {side} outputs at a time")
        winograd.backward_w(x, gy, gw, padding, side)
    elif _by_columns_w(x, gy, gw, groups):
        tell("conv2d_backward_w", x, gy, "lines of outputs, or columns and BLAS")
        columns.backward_w(x, gy, gw, *geometry)
    else:
        tell("conv2d_backward_w", x, gy, "direct, tiles of channels and taps by filters")
        pixel_filters.backward_w(x, gy, gw, _axes(x, gw, gy, stride, padding, dilation), groups)


conv3d_forward, conv3d_backward_x, conv3d_backward_w = conv2d_forward, conv2d_backward_x, conv2d_backward_w


@widened("gb")
def conv_backward_b(gy, gb):
    if not gy.flags.c_contiguous and gy.ndim == 4 and gy.transpose(0, 2, 3, 1).flags.c_contiguous:
        linear_backward_b(gy.transpose(0, 2, 3, 1).reshape(-1, gy.shape[1]), gb)
        return
    _sum_planes(np.ascontiguousarray(gy).reshape(*gy.shape[:2], prod(gy.shape[2:])), gb)


def _is_sparse(w, stride, padding):
    """Whether single taps leave out most of the image: what they meet is an image of its own, for steps of 1."""
    return max(stride) > 1 and max(w.shape[2:]) == 1 and not any(padding)


def _met(x, stride):
    return x[(..., *[slice(None, None, step) for step in stride])]


def _few(w, groups):
    return len(w) // groups * w.shape[1] <= _FEW


def _by_rows(x, w, y, geometry, backward):
    """Whether rows.py has it: all with few channels and filters, and of planes what costs less than tiles of pixels."""
    *steps, groups = geometry
    if not rows.fits(w, *steps[::2], backward):
        return False
    return _few(w, groups) or (not is_pixels(x if backward else y) and not (backward and max(steps[0]) > 1)
                               and _rows_pay(*_sizes(w, groups, backward), _axes(x, w, y, *steps), backward))


@lru_cache(maxsize=256)
def _rows_pay(lanes, depth, axes, backward):
    pieces = backward_pieces(*axes) if backward else [forward_piece(*axes)]
    return rows.cost(lanes, depth, axes[1][1], pieces) < pixels.cost(lanes, depth, pieces)


def _by_columns(x, w, y, geometry, backward):
    """Whether columns.py has it: by tiles of lines where these multiply less in vain than tiles of pixels."""
    *steps, groups = geometry
    lanes, depth = _sizes(w, groups, backward)
    if x.ndim > 4 or x.dtype != np.float32 or not columns.by_lines(w, lanes):
        return x.ndim > 4 or x.dtype != np.float32 or _few(w, groups)
    return _lines_pay(lanes, depth, _axes(x, w, y, *steps), backward)


@lru_cache(maxsize=256)
def _lines_pay(lanes, depth, axes, backward):
    pieces = backward_pieces(*axes) if backward else [forward_piece(*axes)]
    return 4 * lines.cost(lanes, depth, pieces) < 3 * pixels.cost(lanes, depth, pieces)


def _sizes(w, groups, backward):
    """A group's channels of the result, and those that are summed over."""
    filters, channels = len(w) // groups, w.shape[1]
    return (channels, filters) if backward else (filters, channels)


def _by_columns_w(x, gy, gw, groups):
    if gw.ndim > 4 or gw.dtype != np.float32 or not columns.by_lines(gw, len(gw) // groups):
        return gw.ndim > 4 or gw.dtype != np.float32 or _few(gw, groups)
    return 2 * lines.cost_w(gw, gy.shape[2:], groups) < pixel_filters.cost(x, gy, gw, groups)


def _axes(x, w, y, stride, padding, dilation):
    """Three axes of (size, taps, outputs, stride, padding, dilation), the first of one place."""
    return (1, 1, 1, 1, 0, 1), *zip(x.shape[2:], w.shape[2:], y.shape[2:], stride, padding, dilation, strict=True)


# --- bias ---
@jit(serial_below=_SERIAL, reassociate=True)
def _sum_planes(gy, gb):
    images, channels, pixels = gy.shape
    blocks = max(1, min(images, 16))  # whatever the number of threads: the sum is always the same
    partial = np.zeros((blocks, channels), gy.dtype)
    for block in prange(blocks):
        for n in range(images * block // blocks, images * (block + 1) // blocks):
            for k in range(channels):
                plane, total = gy[n, k], gy.dtype.type(0)
                for i in range(pixels):
                    total += plane[i]
                partial[block, k] += total
    for k in range(channels):
        total = partial[0, k]
        for block in range(1, blocks):
            total += partial[block, k]
        gb[k] = total
