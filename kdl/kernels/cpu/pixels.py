"""Convolution of images held as pixels, in float32: a tile is some outputs times some filters.

A row of a tile is one output: where its first tap meets the image. The taps are a table of offsets from there, each
with a pixel's channels side by side, so stride and dilation cost nothing and columns are never gathered. Taps on
neighbouring pixels are one, with all their channels. Filters lie packed as [panel of 16, 32 or 64 filters, tap,
channel, filter]. The gradient of the input is the same sum over gy, one for each phase of the stride (cells.py).

Tasks are some images, or some lines of one, whose input fits the L2 cache. Each copies its input as pixels, with the
padding, and its outputs back as planes, unless the arrays are channels-last and need no padding. Planes of few channels
are copied as planes: images of one channel, with a tap of its own for each.
"""
from functools import lru_cache
from math import prod

import numba
import numpy as np

from kdl.kernels.cpu.cells import backward_pieces, forward_piece
from kdl.kernels.cpu.launch import jit, prange
from kdl.kernels.cpu.layouts import (
    PLANES,
    as_planes,
    flat,
    image_to_pixels,
    is_pixels,
    pack_filters,
    pixels_to_planes,
    tap_places,
)
from kdl.kernels.cpu.scratch import room, whole_lines
from kdl.kernels.cpu.simd import LANES
from kdl.kernels.cpu.tiles import ROWS, WIDEST, panel_strip, width_for

_TASK = 1 << 17  # floats of a task's input, and of its outputs where they are not written as they lie
_COPY = 40  # multiply-adds that take as long as bringing a number from pixels to planes
_FILTERS = 1 << 13  # floats of a panel's filters that are met at a time: they stay in the L1 cache


class _Geometry:
    """The tables of one convolution: what depends on sizes alone. See `_correlate` for their meaning."""

    def __init__(self, u_shape, v_shape, pieces, filter_taps, groups, planes, u_is_pixels, v_is_pixels, threads):
        N, (C, H, W) = u_shape[0], (u_shape[1] // planes, *u_shape[2:])  # an image are so many, of C channels
        K, (height, width) = v_shape[1], v_shape[2:]
        deal, step = pieces[0].deal[1:], pieces[0].step[1:]
        # rows and columns of u that the taps of the first outputs meet, padding below 0
        met = [[piece.met[:, axis] for piece in pieces] for axis in (1, 2)]
        low = [min([int(m.min()) for m in axis if m.size], default=0) for axis in met]
        high = [max([int(m.max()) for m in axis if m.size], default=0) for axis in met]
        P, Q = [max(p.outputs[axis] for p in pieces) for axis in (1, 2)]
        reach = [b - a + 1 for a, b in zip(low, high, strict=True)]
        per_row, per_line = ((Q - 1) * deal[1] + reach[1]) * C, 0 if v_is_pixels else step[0] * width * K

        def rows(lines):
            return (lines - 1) * deal[0] + reach[0]

        def size(lines):
            return rows(lines) * per_row * planes + lines * per_line

        lines = P
        while lines > 1 and (size(lines) > _TASK or N * -(-P // lines) < threads) and lines * Q > 64:
            lines = -(-lines // 2)
        lines = -(-P // -(-P // lines))
        images = 1 if lines < P else max(1, min(-(-N // threads), _TASK // size(P)))
        self.tasks = np.array([(n, min(n + images, N), p, min(p + lines, P))
                               for n in range(0, N, images) for p in range(0, P, lines)], np.int64)
        self.direct = (u_is_pixels and min(low) >= 0 and low[0] + rows(P) <= H
                       and low[1] + (Q - 1) * deal[1] + reach[1] <= W)
        self.window = (low[0], low[1], rows(lines), (Q - 1) * deal[1] + reach[1])
        block, pitch = (H, W) if self.direct else self.window[2:]
        out_rows = min(lines * step[0], height) if lines < P else height
        self.out_rows = out_rows
        count = images * lines * Q
        padded = -(-count // ROWS) * ROWS
        self.starts, self.places = np.zeros((2, len(pieces), padded), np.int64)
        self.pieces = np.zeros((len(pieces), 4), np.int64)
        taps, orders = [], []
        for at, (piece, down, right) in enumerate(zip(pieces, *met, strict=True)):
            lines_here, across = min(lines, piece.outputs[1]), piece.outputs[2]
            n, p, q = [a.ravel() for a in np.meshgrid(range(images), range(lines_here), range(across), indexing="ij")]
            self.starts[at, :n.size] = ((n * planes * block + p * deal[0]) * pitch + q * deal[1]) * C
            self.places[at, :n.size] = ((n * out_rows + piece.first[1] + p * step[0]) * width + piece.first[2]
                                        + q * step[1]) * K
            self.pieces[at, :2] = piece.outputs[1], across
            plane = np.arange(planes)[:, None]
            offsets = ((plane * block + down - low[0]) * pitch + right - low[1]).ravel() * C
            order = np.argsort(offsets)
            taps.append(offsets[order])
            orders.append((plane * len(piece.order) + piece.order).ravel()[order])
        run = _run(taps, C) if groups == 1 else 1
        ends = np.cumsum([0, *[len(offsets) // run for offsets in taps]])
        self.pieces[:, 2], self.pieces[:, 3] = ends[:-1], ends[1:]
        self.taps, self.depth = np.concatenate(taps)[::run].copy(), C // groups * run
        self.input_room, self.output_room, self.image_room = whole_lines(
            images * planes * self.window[2] * self.window[3] * C, images * out_rows * width * K, H * W * C)
        self.deal, self.step = deal, step
        self.chunks = min(threads, len(self.tasks))
        self.per_chunk = self.input_room + self.output_room + self.image_room
        self.lanes = K // groups
        self.width = width_for(self.lanes, WIDEST)
        self.lanes_of_panels = -(-self.lanes // self.width) * self.width
        self.counts = [len(order) for order in orders]
        self.tap_places = [tap_places(order, planes * filter_taps) for order in orders]
        self.packed_at = np.cumsum([0, *[groups * self.lanes_of_panels * n * (C // groups) for n in self.counts]])


def _run(taps, step):
    """The largest number such that so many taps at a time lie side by side, `step` apart, in all pieces."""
    ends = [np.concatenate([[0], np.flatnonzero(np.diff(offsets) != step) + 1, [len(offsets)]]) for offsets in taps]
    return max(1, int(np.gcd.reduce(np.concatenate([np.diff(e) for e in ends]))))


@lru_cache(maxsize=256)
def _geometry(u_shape, v_shape, axes, backward, groups, *given):
    pieces = backward_pieces(*axes) if backward else [forward_piece(*axes)]
    return _Geometry(u_shape, v_shape, pieces, prod(axis[1] for axis in axes), groups, *given)


def cost(lanes, depth, pieces):
    """What one image takes per channel summed over: multiply-adds of whole tiles, and bringing outputs to planes.

    A tile of one vector takes more loads than multiply-adds.
    """
    width = width_for(lanes, WIDEST)
    outputs = sum(prod(p.outputs) for p in pieces)
    sums = -(-lanes // width) * width * sum(len(p.taps) * prod(p.outputs) for p in pieces)
    return sums * (6 if width == LANES else 5) // 5 + _COPY * lanes * outputs // depth


def correlate(u, w, b, v, axes, groups, backward):
    """v = the convolution of u, or with `backward` v = gx of u = gy, for dense arrays in any layout."""
    u_is_pixels, v_is_pixels, planes, numbers = is_pixels(u), is_pixels(v), 1, flat(u, is_pixels(u))
    if not (u_is_pixels or backward) and groups == 1 and u.shape[1] <= PLANES:
        u_is_pixels, planes, w = True, u.shape[1], as_planes(w).reshape(len(w), 1, w[0].size, 1)
    g = _geometry(u.shape, v.shape, axes, backward, groups, planes, u_is_pixels, v_is_pixels, numba.get_num_threads())
    work = room(g.packed_at[-1] + g.chunks * g.per_chunk)
    for places, count, at in zip(g.tap_places, g.counts, g.packed_at, strict=False):
        pack_filters(w, places, count, groups, backward, g.width, work[at:])
    bias = np.zeros((groups, g.lanes_of_panels), np.float32)
    if b is not None:
        bias[:, :g.lanes] = b.reshape(groups, g.lanes)
    _correlate(numbers, u_is_pixels, planes, (u.shape[1] // planes, *u.shape[2:]), flat(v, v_is_pixels), v_is_pixels,
               v.shape[1:], work, g.packed_at, bias.reshape(-1), g.tasks, g.pieces, g.starts, g.places, g.taps,
               g.window, g.deal, g.step, g.direct, groups, g.depth, g.width, g.out_rows, g.input_room, g.output_room,
               g.per_chunk, g.chunks)


@jit
def _correlate(u, u_is_pixels, planes, u_size, v, v_is_pixels, v_size, work, packed_at, bias, tasks, pieces, starts,
               places, taps, window, deal, step, direct, groups, depth, panel_width, out_rows, input_room, output_room,
               per_chunk, chunks):
    C, H, W = u_size
    K, height, width = v_size
    lanes = K // groups
    panels = -(-lanes // panel_width)
    for chunk in prange(chunks):
        input_at = packed_at[-1] + chunk * per_chunk
        output_at = input_at + input_room
        room_at = output_at + output_room
        filters = np.arange(taps.size) * depth * panel_width
        for task in range(len(tasks) * chunk // chunks, len(tasks) * (chunk + 1) // chunks):
            first, last, begin, end = tasks[task]
            top = begin * deal[0] + window[0]
            if direct:
                a, a_at = u, ((first * planes * H + top) * W + window[1]) * C
            else:
                a, a_at = work, input_at
                for n in range(first * planes, last * planes):
                    at = input_at + (n - first * planes) * window[2] * window[3] * C
                    image_to_pixels(u, n * C * H * W, u_is_pixels, C, np.int64(0), C, (H, W), top, window[1], work, at,
                                    C, window[2:], work, room_at)
            out_top = begin * step[0]
            if v_is_pixels:
                c, c_at = v, (first * height + out_top) * width * K
            else:
                c, c_at = work, output_at
            for piece in range(len(pieces)):
                P, Q, tap, beyond = pieces[piece]
                count = (last - first) * (min(end, P) - begin) * Q
                block_depth = min(depth, _FILTERS // panel_width)
                block_taps = max(1, _FILTERS // (block_depth * panel_width))
                for job in range(groups * panels):
                    group, panel = job // panels, job % panels
                    filters_at = packed_at[piece] + job * (beyond - tap) * depth * panel_width
                    for t in range(0, max(1, beyond - tap), block_taps):
                        for d in range(0, depth, block_depth):
                            panel_strip(
                                panel_width, a, a_at + group * depth + d, starts[piece], taps[tap + t:], 1,
                                work, filters_at + (t * depth + d) * panel_width, filters,
                                min(block_taps, beyond - tap - t), min(block_depth, depth - d), c,
                                c_at + group * lanes + panel * panel_width, places[piece], 0, count,
                                lanes - panel * panel_width, bias, job * panel_width, t + d > 0)
            if not v_is_pixels:
                rows = min(out_rows, height - out_top) if last - first == 1 else height
                for n in range(first, last):
                    pixels_to_planes(work, output_at + (n - first) * out_rows * width * K, K, v,
                                     n * K * height * width + out_top * width, height * width, rows * width)
