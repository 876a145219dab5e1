"""Convolution on the CPU, in two or three dimensions. The maths stands in kdl/ops/conv.py.

In float32 a filter of 3 x 3 goes Winograd's way where it pays, and the others over rows of outputs or, with more
channels and strides, over tiles of pixels; those of one tap are products of matrices. Where images are small, vectors
hold channels instead (of depthwise filters) or images (where there are many). Volumes go over tiles of lines, and
float64 over columns. Winograd's F(2 x 2) is as exact as sums of products, and F(4 x 4) as PyTorch's gradient of the
filters; forward, and for the gradient of the input, F(4 x 4) waits until `tf32` says that speed goes before exactness.
"""
from math import prod

import numpy as np

from kdl.kernels.cpu import columns, depthwise, images, pixel_filters, pixels, pointwise, rows, sliding, ways, winograd
from kdl.kernels.cpu.explain import tell
from kdl.kernels.cpu.gemm import linear_backward_b
from kdl.kernels.cpu.launch import jit, prange, widened
from kdl.kernels.cpu.layouts import is_pixels

_SERIAL = 1 << 15  # elements below which waking threads takes longer than the loop


# --- kernels ---
@widened("y")
def conv2d_forward(x, w, b, y, stride, padding, dilation, groups, tf32):
    if _is_sparse(w, stride, padding):
        x, stride = _met(x, stride).copy("K"), (1,) * len(stride)
    geometry = stride, padding, dilation, groups
    way = ways.of_sums(x.shape, w.shape, y.shape, w.dtype.char, is_pixels(y), *geometry, not tf32, False)
    tell("conv2d_forward", x, w, way)
    if way == ways.POINTWISE:
        pointwise.multiply(x, w, b, y, groups, backward=False)
    elif way == ways.DEPTHWISE:
        depthwise.correlate(x, w, b, y, ways.axes(x.shape, w.shape, y.shape, stride, padding, dilation), backward=False)
    elif way == ways.SLIDING:
        sliding.correlate(x, w, b, y, stride, padding, dilation, backward=False)
    elif way == ways.IMAGES:
        images.correlate(x, w, b, y, padding, dilation, backward=False)
    elif way == ways.ROWS:
        rows.correlate(x, w, b, y, *geometry, backward=False)
    elif way == ways.COLUMNS:
        columns.forward(x, w, b, y, *geometry)
    elif way == ways.DIRECT:
        axes = ways.axes(x.shape, w.shape, y.shape, stride, padding, dilation)
        pixels.correlate(x, w, b, y, axes, groups, backward=False)
    else:
        winograd.correlate(x, w, b, y, padding, False, ways.SIDES[way])


@widened("gx")
def conv2d_backward_x(gy, w, gx, stride, padding, dilation, groups, tf32):
    if _is_sparse(w, stride, padding):
        met = np.empty_like(_met(gx, stride))
        conv2d_backward_x(gy, w, met, (1,) * len(stride), padding, dilation, groups, tf32)
        gx[...] = 0
        _met(gx, stride)[...] = met
        return
    geometry = stride, padding, dilation, groups
    way = ways.of_sums(gy.shape, w.shape, gx.shape, w.dtype.char, is_pixels(gx), *geometry, not tf32, True)
    tell("conv2d_backward_x", gy, w, way)
    if way == ways.POINTWISE:
        pointwise.multiply(gy, w, None, gx, groups, backward=True)
    elif way == ways.DEPTHWISE:
        axes = ways.axes(gx.shape, w.shape, gy.shape, stride, padding, dilation)
        depthwise.correlate(gy, w, None, gx, axes, backward=True)
    elif way == ways.SLIDING:
        sliding.correlate(gy, w, None, gx, stride, padding, dilation, backward=True)
    elif way == ways.IMAGES:
        images.correlate(gy, w, None, gx, padding, dilation, backward=True)
    elif way == ways.ROWS:
        rows.correlate(gy, w, None, gx, *geometry, backward=True)
    elif way == ways.COLUMNS:
        columns.backward_x(gy, w, gx, *geometry)
    elif way == ways.DIRECT:
        axes = ways.axes(gx.shape, w.shape, gy.shape, stride, padding, dilation)
        pixels.correlate(gy, w, None, gx, axes, groups, backward=True)
    else:
        winograd.correlate(gy, w, None, gx, padding, True, ways.SIDES[way])


@widened("gw")
def conv2d_backward_w(x, gy, gw, stride, padding, dilation, groups, tf32):
    if _is_sparse(gw, stride, padding):
        x, stride = _met(x, stride).copy("K"), (1,) * len(stride)
    geometry = stride, padding, dilation, groups
    way = ways.of_products(x.shape, gy.shape, gw.shape, gw.dtype.char, is_pixels(gy), *geometry)
    tell("conv2d_backward_w", x, gy, way)
    if way == ways.DEPTHWISE:
        depthwise.backward_w(x, gy, gw, ways.axes(x.shape, gw.shape, gy.shape, stride, padding, dilation))
    elif way == ways.IMAGES:
        images.backward_w(x, gy, gw, padding, dilation)
    elif way == ways.ROWS:
        rows.backward_w(x, gy, gw, *geometry)
    elif way == ways.POINTWISE:
        pointwise.backward_w(x, gy, gw, groups)
    elif way == ways.COLUMNS:
        columns.backward_w(x, gy, gw, *geometry)
    elif way == ways.DIRECT:
        axes = ways.axes(x.shape, gw.shape, gy.shape, stride, padding, dilation)
        pixel_filters.backward_w(x, gy, gw, axes, groups)
    else:
        winograd.backward_w(x, gy, gw, padding, ways.SIDES[way])


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
