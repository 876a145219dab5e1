"""Convolution in float32 with few filters, and of volumes: tiles of filters by neighbouring outputs.

An image is dealt into cells (cells.py), in which every tap meets neighbouring outputs at neighbouring cells. All lines
of a plane are one: the cells between them give sums too, which are left out when the outputs are written. So a tile has
some filters as rows and vectors of neighbouring outputs as columns; the gradient of the filters has tiles of taps by
filters, with outputs in the lanes.

Where filters have one tap, an image is a matrix (channels, outputs) and only needs to be copied block by block.
"""
from math import prod

import numpy as np

from kdl.kernels.cpu import simd
from kdl.kernels.cpu.cells import _deal, _starts
from kdl.kernels.cpu.launch import jit, prange
from kdl.kernels.cpu.layouts import copy_line
from kdl.kernels.cpu.scratch import aligned
from kdl.kernels.cpu.simd import LANES, begin, load_part, store
from kdl.kernels.cpu.tiles import DOTS, dots, strip_kernel

ROWS, VECTORS = 6, 4 if simd.REGISTERS == 32 else 2
_COLUMNS = VECTORS * LANES
_CHUNKS, _PARTS = 32, 8  # that the images are cut into, forward and for the gradient of the filters
_COPY = 24  # multiply-adds that take as long as writing an output
_TILE = 2400  # multiply-adds that take as long as beginning and ending a tile of the gradient of the filters
_BLOCK = 1 << 16  # floats of outputs at a time, or of inputs that meet one tap
_DEPTH = 128  # channels at a time that meet one tap: 32 KB of a tile's columns
_strip = strip_kernel(ROWS, VECTORS, bias_of_rows=True)


# --- what a way costs: multiply-adds of whole tiles ---
def cost(rows, depth, pieces):
    """Of the sums for one image, per channel summed over, and of writing the outputs."""
    sums = sum(len(p.taps) * _up(prod(p.outputs[:2]) * (p.outputs[2] + p.reach[2]), _COLUMNS) for p in pieces)
    return _up(rows, ROWS) * sums + _COPY * rows * sum(prod(p.outputs) for p in pieces) // depth


def cost_w(gw, outputs, groups):
    """Of the gradient of the filters for one image with so many outputs."""
    tiles = -(-gw[0].size // DOTS[1]) * -(-(len(gw) // groups) // DOTS[0])
    return groups * tiles * (prod(outputs[:-1]) * _up(outputs[-1], LANES) * prod(DOTS) + _TILE)


def _up(number, multiple):
    return -(-number // multiple) * multiple


# --- kernels, for contiguous volumes ---
def correlate(u, w, b, v, groups, piece):
    """v = b + the sum of shifted u, for the outputs of one piece."""
    weights = np.ascontiguousarray(w.reshape(*w.shape[:2], -1)[..., piece.order])
    b = np.zeros(len(w), w.dtype) if b is None else b
    rows = np.arange(_up(len(w) // groups, ROWS))
    rows[len(w) // groups:] = 0
    _sum_of_lines(u, weights.reshape(-1), weights.shape[1], b, v.reshape(-1), v.shape, groups, rows, piece.taps,
                  piece.deal, piece.margin, piece.reach, piece.outputs, piece.first, piece.step)


def backward_w(x, gy, gw, groups, piece):
    _products_of_lines(x, gy, gy.reshape(-1), gw.reshape(*gw.shape[:2], -1), groups, piece.taps, piece.deal,
                       piece.margin, piece.reach)


@jit
def _sum_of_lines(u, w, channels, b, v, v_shape, groups, rows, taps, deal, margin, reach, outputs, first, step):
    """v[n, k] = b[k] + the sum over the group's channels c and taps t of w[k, c, t] times u[n, c] shifted by t.

    Output o of an axis is stored at first + o step. A tile's sum runs over taps and, within, channels; where there is
    one channel, over the lines of a filter and, within, neighbouring taps.
    """
    filters, per_filter = len(b) // groups, channels * len(taps)
    D, P, Q = outputs
    _, K, V, H, W = v_shape
    cells = D + reach[0], P + reach[1], Q + reach[2]
    per_channel = deal[0] * deal[1] * deal[2] * cells[0] * cells[1] * cells[2]
    starts = np.empty(len(taps), np.int64)
    _starts(taps, cells, starts)
    run = _neighbours(starts) if channels == 1 else 1
    numbers = np.arange(0, len(taps), run)
    starts, depth = starts[::run].copy(), channels * run
    w_step, cell_step = (1, 1) if run > 1 else (len(taps), per_channel)
    height = max(1, min(P, _BLOCK // (filters * cells[2])))
    pitch = height * cells[2] + _COLUMNS
    jobs = len(u) * groups
    chunks = min(jobs, _CHUNKS)
    for chunk in prange(chunks):
        room, line = aligned(channels * per_channel + _COLUMNS, u), aligned(filters * pitch, u)
        room[:] = 0
        for job in range(jobs * chunk // chunks, jobs * (chunk + 1) // chunks):
            n, group = job // groups, job % groups
            for c in range(channels):
                _deal(u[n, group * channels + c], room[c * per_channel:], deal, margin, cells)
            for z in range(D):
                for top in range(0, P, height):
                    here = min(height, P - top)
                    length, at = (here - 1) * cells[2] + Q, (z * cells[1] + top) * cells[2]
                    for q in range(0, length, _COLUMNS):
                        _strip(w, group * filters * per_filter, rows * per_filter, numbers, w_step, room, at + q,
                               starts, cell_step, len(numbers), depth, line, q, rows * pitch, 0, filters, length - q,
                               b, group * filters, False)
                    for k in range(filters):
                        plane = (n * K + group * filters + k) * V + first[0] + z * step[0]
                        for p in range(here):
                            to = (plane * H + first[1] + (top + p) * step[1]) * W + first[2]
                            if step[2] == 1:
                                copy_line(line, k * pitch + p * cells[2], v, to, Q)
                            else:
                                for q in range(Q):
                                    v[to + q * step[2]] = line[k * pitch + p * cells[2] + q]


def fits(w, outputs, stride, padding):
    """Whether filters in float32 meet every place of an image once, and most columns of tiles are for outputs."""
    pixels = prod(outputs)
    return (w.dtype == np.float32 and max(w.shape[2:]) == max(stride) == 1 and not any(padding)
            and 5 * _up(pixels, _COLUMNS) <= 6 * pixels)


def multiply(u, w, b, v, groups, backward):
    """v = b + the convolution of u with filters of one tap, or v = gx of u = gy."""
    rows = np.arange(_up(v.shape[1] // groups, ROWS))
    rows[v.shape[1] // groups:] = 0
    b = np.zeros(v.shape[1], w.dtype) if b is None else b
    far, step = (1, w.shape[1]) if backward else (w.shape[1], 1)
    pixels = prod(v.shape[2:])
    _multiply(u.reshape(-1), (*u.shape[:2], pixels), w.reshape(-1), rows * far, step, b, v.reshape(-1), v.shape[1],
              groups, rows * pixels)


@jit
def _multiply(u, u_shape, w, starts, step, b, v, K, groups, places):
    """A block is [part of _COLUMNS pixels, channel, pixel]."""
    N, C, pixels = u_shape
    channels, filters, nothing = C // groups, K // groups, np.zeros(1, np.int64)
    columns = min(max(1, _BLOCK // (channels * _COLUMNS)), -(-pixels // _COLUMNS)) * _COLUMNS
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
                for q in range(0, here, _COLUMNS):
                    to = q * channels + c * _COLUMNS
                    for i in range(0, min(_COLUMNS, here - q), LANES):
                        store(block, to + i, load_part(source, at + q + i, here - q - i))
            for q in range(0, here, _COLUMNS):
                for d in range(0, channels, _DEPTH):
                    _strip(w, group * filters * channels + d * step, starts, nothing, step, room,
                           q * channels + d * _COLUMNS, nothing, _COLUMNS, 1, min(_DEPTH, channels - d), v, v_at + q,
                           places, 0, filters, here - q, b, group * filters, d > 0)


@jit(parallel=False)
def _neighbours(starts):
    """The length of the runs of neighbours that the starts consist of; 1 where they are not of one length."""
    run = 1
    while run < starts.size and starts[run] == starts[run - 1] + 1:
        run += 1
    if starts.size % max(run, 1):
        return 1
    for t in range(starts.size):
        if t % run and starts[t] != starts[t - 1] + 1:
            return 1
    return run


@jit
def _products_of_lines(u, gy, flat, gw, groups, taps, deal, margin, reach):
    """gw[k, c, t] = the sum over n and outputs of gy[n, k] times u[n, c] shifted by t."""
    filters, channels, K = len(gw) // groups, gw.shape[1], len(gw)
    D, P, Q = gy.shape[2:]
    cells = D + reach[0], P + reach[1], Q + reach[2]
    per_channel = deal[0] * deal[1] * deal[2] * cells[0] * cells[1] * cells[2]
    shifts = np.empty(len(taps), np.int64)
    _starts(taps, cells, shifts)
    entries = channels * len(taps)
    starts = np.empty(entries, np.int64)
    for entry in range(entries):
        starts[entry] = entry // len(taps) * per_channel + shifts[entry % len(taps)]
    parts = min(len(u), _PARTS)  # whatever the number of threads: the sum is always the same
    sums = np.zeros(parts * K * entries * LANES, u.dtype)
    for part in prange(parts):
        room = aligned(channels * per_channel, u)
        room[:] = 0
        for n in range(len(u) * part // parts, len(u) * (part + 1) // parts):
            for group in range(groups):
                for c in range(channels):
                    _deal(u[n, group * channels + c], room[c * per_channel:], deal, margin, cells)
                for z in range(D):
                    for k in range(0, filters, DOTS[0]):
                        at = ((n * K + group * filters + k) * D + z) * P * Q
                        for entry in range(0, entries, DOTS[1]):
                            place = ((part * groups + group) * entries + entry) * filters + k
                            dots(room, z * cells[1] * cells[2], starts, entry, min(DOTS[1], entries - entry), cells[2],
                                 flat, at, D * P * Q, min(DOTS[0], filters - k), P, Q, sums, place * LANES, filters)
    for k in range(K):
        group, filter_ = k // filters, k % filters
        for entry in range(entries):
            total = gw.dtype.type(0)
            for part in range(parts):
                at = (((part * groups + group) * entries + entry) * filters + filter_) * LANES
                for lane in range(LANES):
                    total += sums[at + lane]
            gw[k, entry // len(taps), entry % len(taps)] = total
