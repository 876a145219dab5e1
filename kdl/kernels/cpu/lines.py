"""Convolution in float32 with few filters, and of volumes: tiles of filters by neighbouring outputs.

An image is dealt into cells (cells.py), in which every tap meets neighbouring outputs at neighbouring cells. All lines
of a plane are one: the cells between them give sums too, which are left out when the outputs are written. So a tile has
some filters as rows and vectors of neighbouring outputs as columns; the gradient of the filters has tiles of taps by
filters, with outputs in the lanes.
"""
from math import prod

import numpy as np

from kdl.kernels.cpu.cells import _deal, _starts
from kdl.kernels.cpu.launch import jit, prange
from kdl.kernels.cpu.layouts import copy_line
from kdl.kernels.cpu.scratch import aligned
from kdl.kernels.cpu.simd import LANES
from kdl.kernels.cpu.tiles import DOTS, WIDEST, WIDEST_ROWS, dots, strip_of_planes

_CHUNKS, _PARTS = 32, 8  # that the images are cut into, forward and for the gradient of the filters
_COPY = 24  # multiply-adds that take as long as writing an output
_TILE = 2400  # multiply-adds that take as long as beginning and ending a tile of the gradient of the filters
_BLOCK = 1 << 16  # floats of outputs at a time


def fits(filters, rows):
    """Whether there are tiles for filters of a size: of several taps, with rows to fill half of one."""
    return max(filters) > 1 and rows >= WIDEST_ROWS // 2


# --- what a way costs: multiply-adds of whole tiles ---
def cost(rows, depth, pieces):
    """Of the sums for one image, per channel summed over, and of writing the outputs."""
    sums = sum(len(p.taps) * _up(prod(p.outputs[:2]) * (p.outputs[2] + p.reach[2]), WIDEST) for p in pieces)
    return _up(rows, WIDEST_ROWS) * sums + _COPY * rows * sum(prod(p.outputs) for p in pieces) // depth


def cost_w(w, outputs, groups):
    """Of the gradient of filters of a shape for one image with so many outputs."""
    tiles = -(-prod(w[1:]) // DOTS[1]) * -(-(w[0] // groups) // DOTS[0])
    return groups * tiles * (prod(outputs[:-1]) * _up(outputs[-1], LANES) * prod(DOTS) + _TILE)


def _up(number, multiple):
    return -(-number // multiple) * multiple


# --- kernels, for contiguous volumes ---
def correlate(u, w, b, v, groups, piece):
    """v = b + the sum of shifted u, for the outputs of one piece."""
    weights = np.ascontiguousarray(w.reshape(*w.shape[:2], -1)[..., piece.order])
    b = np.zeros(len(w), w.dtype) if b is None else b
    rows = np.arange(_up(len(w) // groups, WIDEST_ROWS))
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
    pitch = height * cells[2] + WIDEST
    jobs = len(u) * groups
    chunks = min(jobs, _CHUNKS)
    for chunk in prange(chunks):
        room, line = aligned(channels * per_channel + WIDEST, u), aligned(filters * pitch, u)
        room[:] = 0
        for job in range(jobs * chunk // chunks, jobs * (chunk + 1) // chunks):
            n, group = job // groups, job % groups
            for c in range(channels):
                _deal(u[n, group * channels + c], room[c * per_channel:], deal, margin, cells)
            for z in range(D):
                for top in range(0, P, height):
                    here = min(height, P - top)
                    length, at = (here - 1) * cells[2] + Q, (z * cells[1] + top) * cells[2]
                    for q in range(0, length, WIDEST):
                        strip_of_planes(w, group * filters * per_filter, rows * per_filter, numbers, w_step, room,
                                        at + q, starts, cell_step, len(numbers), depth, line, q, rows * pitch, 0,
                                        filters, length - q, b, group * filters, False)
                    for k in range(filters):
                        plane = (n * K + group * filters + k) * V + first[0] + z * step[0]
                        for p in range(here):
                            to = (plane * H + first[1] + (top + p) * step[1]) * W + first[2]
                            if step[2] == 1:
                                copy_line(line, k * pitch + p * cells[2], v, to, Q)
                            else:
                                for q in range(Q):
                                    v[to + q * step[2]] = line[k * pitch + p * cells[2] + q]


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
