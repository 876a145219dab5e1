"""The gradient of convolution filters, in float32, from images held as pixels: a tile is channels and taps by filters.

gw[k, c, t] = the sum over outputs of gy[output, k] x[where tap t meets the image, c]. A row of a tile is one channel
and tap, and the sum runs along lines of outputs, in which the pixels that a tap meets lie one stride apart. A block of
lines at a time, x is packed as [slab of SLAB channels, pixel, channel] with its padding and gy as [panel of 16, 32 or
64 filters, output, filter]: a slab and a panel stay in the L1 cache. Planes of few channels stay planes: images of one
channel, with a tap of its own for each.

The blocks are cut into parts with a sum each, as many as the sizes alone say, and the sums are added in order: whatever
the number of threads, the result is the same.
"""
from functools import lru_cache
from math import prod

import numpy as np

from kdl.kernels.cpu.cells import forward_piece
from kdl.kernels.cpu.launch import jit, prange
from kdl.kernels.cpu.layouts import PLANES, flat, image_to_pixels, is_pixels, pack_panel, planes_to_pixels
from kdl.kernels.cpu.scratch import room, whole_lines
from kdl.kernels.cpu.tiles import ROWS, WIDEST, panel_strip, width_for

_SLAB = 16  # channels
_OUTPUTS = 192  # of a block, at least where the images have so many: 24 KB of a panel
_COPY = 16  # multiply-adds that take as long as packing a number
_JOBS = 16  # that the work is cut into, where it can be
_SUMS = 1 << 22  # floats that the sums of all parts may take


class _Geometry:
    """The tables of one gradient: what depends on sizes alone. See `_products` for their meaning."""

    def __init__(self, x_shape, gy_shape, axes, groups, planes):
        N, C, K, (P, Q) = x_shape[0], x_shape[1] // planes, gy_shape[1], gy_shape[2:]  # an image are so many planes
        piece = forward_piece(*axes)
        met, (down, right) = piece.met[:, 1:], piece.deal[1:]
        low, high = met.min(0), met.max(0)
        lines = max(1, min(P, _OUTPUTS // Q))
        images = max(1, min(N, _OUTPUTS // (P * Q))) if lines == P else 1
        height, width = (lines - 1) * down + high[0] - low[0] + 1, (Q - 1) * right + high[1] - low[1] + 1
        self.window = int(low[0]), int(low[1]), int(height), int(width)
        self.block, self.stride = (images, lines), (down, right)

        channels = C // groups
        self.slab = min(_SLAB, channels)
        plane = np.arange(planes)[:, None]
        taps = (((plane * height + met[:, 0] - low[0]) * width + met[:, 1] - low[1]) * self.slab).ravel()
        self.rows = channels * len(taps)
        starts = (np.arange(self.slab)[:, None] + taps).ravel()
        self.starts = np.concatenate([starts, np.zeros(-len(starts) % ROWS, np.int64)])
        self.width = width_for(K // groups, WIDEST)
        self.places = np.arange(len(self.starts)) * self.width
        image, line = np.divmod(np.arange(images * lines), lines)
        self.lines_of_x = (image * planes * height + line * down) * width * self.slab
        self.lines_of_gy = np.arange(images * lines) * Q * self.width

        panels = groups * -(-(K // groups) // self.width)
        self.sum_size = panels * self.rows * self.width
        self.parts = max(1, min(-(-N // images) * -(-P // lines), _JOBS, _SUMS // self.sum_size))
        self.cuts = min(panels, max(1, _JOBS // self.parts))
        self.slab_room, self.gy_room = whole_lines(images * planes * int(height * width) * self.slab,
                                                   images * lines * Q * self.width)


_geometry = lru_cache(maxsize=256)(_Geometry)


def cost(x, gy, w, groups):
    """What one image takes: multiply-adds of whole tiles, and packing x and gy."""
    filters = w[0] // groups
    width = width_for(filters, WIDEST)
    sums = groups * -(-prod(w[1:]) // ROWS) * ROWS * -(-filters // width) * width * prod(gy[2:])
    return sums + _COPY * (prod(x[1:]) + prod(gy[1:]))


def backward_w(x, gy, gw, axes, groups):
    """gw = the gradient of the filters, for dense arrays in any layout."""
    if gy.size == 0 or gw.size == 0:
        gw[...] = 0
        return
    x_is_pixels, planes, numbers = is_pixels(x), 1, flat(x, is_pixels(x))
    if not x_is_pixels and groups == 1 and x.shape[1] <= PLANES:
        x_is_pixels, planes = True, x.shape[1]
    channels = x.shape[1] // planes
    g = _geometry(x.shape, gy.shape, axes, groups, planes)
    slabs = groups * -(-(channels // groups) // g.slab)
    per_job = sum(whole_lines(slabs * g.slab_room, g.gy_room, g.slab * x[0, 0].size))
    work = room(g.parts * g.sum_size + g.parts * g.cuts * per_job)
    _products(numbers, x_is_pixels, planes, (channels, *x.shape[2:]), flat(gy, is_pixels(gy)), is_pixels(gy), gy.shape,
              groups, g.width, g.block, g.window, g.stride, g.slab, g.starts, g.places, g.rows, g.lines_of_x,
              g.lines_of_gy, g.parts, g.cuts, g.sum_size, per_job, g.slab_room, work, np.zeros(WIDEST, np.float32))
    target = np.empty(gw.shape, gw.dtype) if is_pixels(gw) else gw
    _add_up(work, g.parts, g.sum_size, g.rows, len(gw), groups, g.width, target.reshape(-1))
    if target is not gw:
        gw[...] = target


@jit
def _products(x, x_is_pixels, planes, x_size, gy, gy_is_pixels, gy_size, groups, width, block, window, stride, slab,
              starts, places, rows, lines_of_x, lines_of_gy, parts, cuts, sum_size, per_job, slab_room, work, zeros):
    """work[part, panel, (c, t), j] = the sums of that part's blocks.

    A job is a part and some panels. Its own room holds the slabs of a block, one panel of gy, and one image of a slab.
    """
    C, H, W = x_size
    N, K, P, Q = gy_size
    images, lines = block
    top, left, height, across = window
    channels, filters = C // groups, K // groups
    slabs, panels = -(-channels // slab), -(-filters // width)
    downward = -(-P // lines)
    blocks = -(-N // images) * downward
    for job in prange(parts * cuts):
        part, cut = job // cuts, job % cuts
        first, last = blocks * part // parts, blocks * (part + 1) // parts
        low, high = groups * panels * cut // cuts, groups * panels * (cut + 1) // cuts
        x_at = parts * sum_size + job * per_job
        gy_at = x_at + groups * slabs * slab_room
        room_at = gy_at + images * lines * Q * width
        for number in range(first, last):
            n, p = number // downward * images, number % downward * lines
            many, some = min(images, N - n), min(lines, P - p)
            for group in range(low // panels, (high - 1) // panels + 1):
                for s in range(slabs):
                    c, to = group * channels + s * slab, x_at + (group * slabs + s) * slab_room
                    for i in range(many * planes):
                        image, some_channels = (n * planes + i) * C * H * W, min(slab, channels - s * slab)
                        image_to_pixels(x, image, x_is_pixels, C, c, some_channels, (H, W), p * stride[0] + top, left,
                                        work, to + i * height * across * slab, slab, (height, across), work, room_at)
            for panel in range(low, high):
                group, k = panel // panels, panel % panels * width
                for i in range(many):
                    pack_panel(gy, gy_is_pixels, (n + i) * K * P * Q, p * Q, K, P * Q, group * filters + k,
                          min(width, filters - k), work, gy_at + i * lines * Q * width, width, some * Q)
                for s in range(slabs):
                    here = min(slab, channels - s * slab) * (rows // channels)
                    panel_strip(
                        width, work, x_at + (group * slabs + s) * slab_room, starts, lines_of_x, stride[1] * slab,
                        work, gy_at, lines_of_gy, many * some, Q, work,
                        part * sum_size + (panel * channels + s * slab) * (rows // channels) * width, places, 0, here,
                        width, zeros, 0, number > first)


@jit
def _add_up(sums, parts, size, rows, filters, groups, width, gw):
    """gw[k, (c, t)] = the sum over parts of sums[part, panel, (c, t), j], where filter k is lane j of its panel."""
    panels = size // (rows * width)
    per_group, of_group = panels // groups, filters // groups
    for panel in prange(panels):
        at = panel * rows * width
        for part in range(1, parts):
            other = part * size + at
            for i in range(rows * width):
                sums[at + i] += sums[other + i]
        first = panel % per_group * width
        k, count = panel // per_group * of_group + first, min(width, of_group - first)
        planes_to_pixels(sums, at, width, gw, k * rows, rows, rows, count)
