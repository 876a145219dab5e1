"""Convolution on the CPU, in two or three dimensions. The maths stands in kdl/ops/conv.py."""
from math import prod

import numpy as np

from kdl.kernels.cpu import columns, pixel_filters, pixels
from kdl.kernels.cpu.gemm import linear_backward_b
from kdl.kernels.cpu.launch import jit, prange, widened

_SERIAL = 1 << 15  # elements below which waking threads takes longer than the loop


# --- kernels ---
@widened("y")
def conv2d_forward(x, w, b, y, stride, padding, dilation, groups, tf32):
    if _is_plain(x, w, groups):
        columns.forward(x, w, b, y, stride, padding, dilation, groups)
    else:
        pixels.correlate(x, w, b, y, _axes(x, w, y, stride, padding, dilation), groups, backward=False)


@widened("gx")
def conv2d_backward_x(gy, w, gx, stride, padding, dilation, groups, tf32):
    if _is_plain(gx, w, groups):
        columns.backward_x(gy, w, gx, stride, padding, dilation, groups)
    else:
        pixels.correlate(gy, w, None, gx, _axes(gx, w, gy, stride, padding, dilation), groups, backward=True)


@widened("gw")
def conv2d_backward_w(x, gy, gw, stride, padding, dilation, groups, tf32):
    if _is_plain(x, gw, groups):
        columns.backward_w(x, gy, gw, stride, padding, dilation, groups)
    else:
        pixel_filters.backward_w(x, gy, gw, _axes(x, gw, gy, stride, padding, dilation), groups)


conv3d_forward, conv3d_backward_x, conv3d_backward_w = conv2d_forward, conv2d_backward_x, conv2d_backward_w


@widened("gb")
def conv_backward_b(gy, gb):
    if not gy.flags.c_contiguous and gy.ndim == 4 and gy.transpose(0, 2, 3, 1).flags.c_contiguous:
        linear_backward_b(gy.transpose(0, 2, 3, 1).reshape(-1, gy.shape[1]), gb)
        return
    _sum_planes(np.ascontiguousarray(gy).reshape(*gy.shape[:2], prod(gy.shape[2:])), gb)


def _is_plain(x, w, groups):
    return x.ndim > 4 or x.dtype != np.float32 or len(w) // groups * w.shape[1] <= 16


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
