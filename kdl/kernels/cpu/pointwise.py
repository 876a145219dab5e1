"""Convolution of planes with filters of one tap, in float32: products of matrices, with an image as (channels, pixels).

Forward, and for the gradient of the input, a tile has filters (or channels) as rows and neighbouring pixels as columns:
an image only needs to be copied, block by block, into the order in which tiles meet it. For the gradient of the filters
the sums run over pixels: the array with fewer channels is packed for them, and the other one read as it lies.
"""
from math import prod

import numpy as np

from kdl.kernels.cpu.launch import jit, prange
from kdl.kernels.cpu.layouts import pack_panel
from kdl.kernels.cpu.scratch import aligned
from kdl.kernels.cpu.simd import LANES, begin, load_part, store
from kdl.kernels.cpu.tiles import ROWS, WIDEST, WIDEST_ROWS, panel_strip, strip_of_planes, width_for

_CHUNKS = 32  # that the images are cut into
_BLOCK = 1 << 16  # floats of inputs at a time
_DEPTH = 128  # channels at a time: 32 KB of a tile's columns
_PIXELS = 784  # at a time for the gradient of the filters: rows are read in pieces long enough to be foreseen
_PARTS, _SUMS = 16, 1 << 21  # sums of the gradient of the filters at most, and floats that they take


def fits(filters, image, stride, padding):
    """Whether filters of a size meet every place of an image once, which has pixels for most columns of a tile."""
    pixels = prod(image)
    return (max(filters) == max(stride) == 1 and not any(padding)
            and 2 * -(-pixels // WIDEST) * WIDEST <= 3 * pixels)


# --- forward, and the gradient of the input ---
def multiply(u, w, b, v, groups, backward):
    """v = b + the convolution of u, or v = gx of u = gy."""
    filters, pixels = v.shape[1] // groups, prod(v.shape[2:])
    rows = np.arange(-(-filters // WIDEST_ROWS) * WIDEST_ROWS)
    rows[filters:] = 0
    b = np.zeros(v.shape[1], w.dtype) if b is None else b
    far, step = (1, w.shape[1]) if backward else (w.shape[1], 1)
    _multiply(u.reshape(-1), (*u.shape[:2], pixels), w.reshape(-1), rows * far, step, b, v.reshape(-1), v.shape[1],
              groups, rows * pixels)


@jit
def _multiply(u, u_shape, w, starts, step, b, v, K, groups, places):
    """A block is [part of WIDEST pixels, channel, pixel]."""
    N, C, pixels = u_shape
    channels, filters, nothing = C // groups, K // groups, np.zeros(1, np.int64)
    columns = min(max(1, _BLOCK // (channels * WIDEST)), -(-pixels // WIDEST)) * WIDEST
    blocks = -(-pixels // columns)
    jobs = N * groups * blocks
    chunks = min(jobs, _CHUNKS)
    for chunk in prange(chunks):
        room, source = aligned(channels * columns, u), begin(u)
        block = begin(room)
        for job in range(jobs * chunk // chunks, jobs * (chunk + 1) // chunks):
            n, first = job // blocks, job % blocks * columns  # a group of an image
            here, group, v_at = min(columns, pixels - first), n % groups, n * filters * pixels + first
            for c in range(channels):
                at = (n * channels + c) * pixels + first
                for q in range(0, here, WIDEST):
                    to = q * channels + c * WIDEST
                    for i in range(0, WIDEST, LANES):  # 0 beyond: what lies there might be slow to multiply
                        store(block, to + i, load_part(source, at + q + i, here - q - i))
            for q in range(0, here, WIDEST):
                for d in range(0, channels, _DEPTH):
                    strip_of_planes(w, group * filters * channels + d * step, starts, nothing, step, room,
                                    q * channels + d * WIDEST, nothing, WIDEST, 1, min(_DEPTH, channels - d), v,
                                    v_at + q, places, 0, filters, here - q, b, group * filters, d > 0)


# --- the gradient of the filters ---
def backward_w(x, gy, gw, groups):
    """gw = the sum over images and pixels of gy x'."""
    if gy.size == 0:
        gw[...] = 0
        return
    turned = len(gw) // groups < gw.shape[1]  # rows are channels of the larger array, columns of the packed one
    a, b = (x, gy) if turned else (gy, x)
    rows, columns = a.shape[1] // groups, b.shape[1] // groups
    pixels, width = prod(a.shape[2:]), width_for(columns, WIDEST)
    across = -(-columns // width) * width
    parts = max(1, min(len(a) * -(-pixels // _PIXELS), _PARTS, _SUMS // (groups * rows * across)))
    sums = np.empty((parts, groups, rows, across), np.float32)
    numbers = np.arange(-(-rows // ROWS) * ROWS)
    numbers[rows:] = 0
    _products(a.reshape(-1), b.reshape(-1), (len(a), groups, rows, columns), pixels, sums.reshape(-1), parts, width,
              numbers * pixels, numbers * across, np.zeros(width, np.float32))
    total = sums.sum(0)[..., :columns]
    gw.reshape(groups, -1, gw.shape[1])[...] = total.swapaxes(1, 2) if turned else total


@jit
def _products(a, b, shape, pixels, sums, parts, width, starts, places, zeros):
    """sums[part, group, i, j] = the sum over that part's blocks of pixels of a[n, group, i] b[n, group, j]."""
    N, groups, rows, columns = shape
    panels, blocks, nothing = -(-columns // width), -(-pixels // _PIXELS), np.zeros(1, np.int64)
    per_group, zero = rows * panels * width, np.int64(0)  # a bare number would be a type of its own: one more copy
    for part in prange(parts):
        packed, begun = aligned(_PIXELS * width, b), N * blocks * part // parts
        for block in range(begun, N * blocks * (part + 1) // parts):
            n, pixel = block // blocks, block % blocks * _PIXELS
            here = min(_PIXELS, pixels - pixel)
            for group in range(groups):
                image = n * groups + group
                for panel in range(panels):
                    first = panel * width
                    pack_panel(b, False, image * columns * pixels, pixel, columns, pixels, first,
                               min(width, columns - first), packed, zero, width, here)
                    panel_strip(width, a, image * rows * pixels + pixel, starts, nothing, 1, packed, zero,
                                nothing, 1, here, sums, (part * groups + group) * per_group + first, places, 0, rows,
                                width, zeros, 0, block > begun)
