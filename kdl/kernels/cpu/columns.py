"""Convolution in float64 and of volumes, and what conv.py has no faster way for: columns and BLAS.

With few channels per group: sums of shifted lines (direct.py). Otherwise columns and BLAS: `_gather` writes what the
taps meet for each output into a column of a matrix (C taps, outputs), so that one product with the filters (K, C taps)
gives all outputs: a block of them at a time that fits the cache, part of an image or several images. For the gradient
of the input a product gives the columns, and `_scatter` adds them up. A 1 x 1 filter needs no columns: the image is its
own.

The work is shared out in tasks that depend on the sizes alone, no two of which write the same place: whatever the
number of threads, every sum has one order.
"""
from functools import wraps
from inspect import signature
from itertools import product
from math import prod

import numpy as np

from kdl.kernels.cpu import lines
from kdl.kernels.cpu.blas import _share
from kdl.kernels.cpu.cells import _collect, _deal, _starts, backward_pieces, forward_piece
from kdl.kernels.cpu.direct import _products_with_lines, _sum_of_lines
from kdl.kernels.cpu.launch import jit

_BLOCK_BYTES = 1 << 20  # of columns: what the L2 cache of a core holds
_BLOCK_COLUMNS = 512  # at least, where that leaves 8 blocks: with fewer the product is slow
_TASKS = 16  # that the gradients of a group are shared out to, at most; each has
_TASK_ROWS, _TASK_COLUMNS = 512, 1024  # as many rows and columns at least, where there are so many


def _volumetric(output):
    """Let a kernel for contiguous volumes take images and channels-last arrays too."""
    def bind(kernel):
        position = list(signature(kernel).parameters).index(output)

        @wraps(kernel)
        def launch(*args):
            *arrays, stride, padding, dilation, groups = args
            target = arrays[position]
            if not target.flags.c_contiguous:
                arrays[position] = np.empty(target.shape, target.dtype)
            if len(stride) == 2:
                stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
            kernel(*[a if a is None or a.ndim == 1 else _volume(np.ascontiguousarray(a)) for a in arrays], stride,
                   padding, dilation, groups)
            if arrays[position] is not target:
                target[...] = arrays[position]
        return launch
    return bind


def _volume(array):
    """(N, C, H, W) as (N, C, 1, H, W)."""
    return array if array.ndim == 5 else array.reshape(*array.shape[:2], 1, *array.shape[2:])


# --- kernels ---
@_volumetric("y")
def forward(x, w, b, y, stride, padding, dilation, groups):
    axes = _axes(x, w, y, stride, padding, dilation)
    if by_lines(w, len(w) // groups):
        lines.correlate(x, w, b, y, groups, forward_piece(*axes))
        return
    if _is_direct(w, groups, 16):
        _sum(x, w, b, y, groups, forward_piece(*axes))
        return
    filters = w.reshape(len(w), prod(w.shape[1:]))

    def run(task):
        (ins, outs), block = task
        block.put(y, outs, filters[outs], block.gather(x, ins), b)

    parts = zip(_cut(x.shape[1], groups), _cut(len(w), groups))
    _share(run, list(product(parts, _blocks(x, slice(len(x)), axes, filters.shape[1]))), y.size * filters.shape[1])


@_volumetric("gx")
def backward_x(gy, w, gx, stride, padding, dilation, groups):
    axes = _axes(gx, w, gy, stride, padding, dilation)
    if by_lines(w, w.shape[1]) or _is_direct(w, groups, 16):
        turned = w.reshape(groups, -1, *w.shape[1:]).swapaxes(1, 2).reshape(gx.shape[1], -1, *w.shape[2:])
        add = lines.correlate if by_lines(w, w.shape[1]) else _sum
        for piece in backward_pieces(*axes):
            add(gy, turned, None, gx, groups, piece)
        return
    filters = w.reshape(len(w), prod(w.shape[1:]))

    def run(task):
        images, ins, outs, rows = task
        turned = filters[outs, rows].T
        gx[images, ins] = 0
        for block in _blocks(gx, images, axes, len(turned)):
            if block.pointwise:
                block.put(gx, ins, turned, block.take(gy, outs), None)
            else:
                block.scatter(turned @ block.take(gy, outs), gx, ins)

    image_parts, parts = _tasks(gy, w, groups)
    _share(run, [(images, *part) for images in image_parts for part in parts], gy.size * filters.shape[1])


@_volumetric("gw")
def backward_w(x, gy, gw, stride, padding, dilation, groups):
    axes = _axes(x, gw, gy, stride, padding, dilation)
    if by_lines(gw, len(gw) // groups):
        lines.backward_w(x, gy, gw, groups, forward_piece(*axes))
        return
    if _is_direct(gw, groups, 8):
        piece = forward_piece(*axes)
        _products_with_lines(x, gy, gw.reshape(*gw.shape[:2], -1), groups, piece.taps, piece.deal, piece.margin,
                             piece.reach)
        return
    filters = gw.reshape(len(gw), prod(gw.shape[1:]))

    image_parts, parts = _tasks(gy, gw, groups)
    totals = np.zeros((len(image_parts), *filters.shape), gw.dtype)

    def run(task):
        (total, images), (ins, outs, rows) = task
        for block in _blocks(x, images, axes, rows.stop - rows.start):
            total[outs, rows] += block.take(gy, outs) @ block.gather(x, ins).T

    _share(run, list(product(zip(totals, image_parts), parts)), gy.size * filters.shape[1])
    np.sum(totals, axis=0, out=filters)


def _axes(x, w, y, stride, padding, dilation):
    return tuple(zip(x.shape[2:], w.shape[2:], y.shape[2:], stride, padding, dilation, strict=True))


# --- sums of lines ---
def by_lines(w, rows):
    """Whether there are tiles for this (lines.py): in float32, of several taps, with rows to fill half of one."""
    return w.dtype == np.float32 and rows >= lines.ROWS // 2 and max(w.shape[2:]) > 1


def _is_direct(w, groups, most):
    """Whether a group's filters have so few elements that BLAS does not pay: measured with 3 x 3 and 5 x 5 taps."""
    return len(w) // groups * w.shape[1] <= most


def _sum(u, w, b, v, groups, piece):
    """v = b + the sum of shifted u, for the outputs of one piece."""
    weights = w.reshape(*w.shape[:2], -1)[..., piece.order]
    b = np.zeros(len(w), w.dtype) if b is None else b
    _sum_of_lines(u, weights, b, v, groups, piece.taps, piece.deal, piece.margin, piece.reach, piece.outputs,
                  piece.first, piece.step)


# --- columns ---
def _cut(length, count):
    """A length in so many slices of nearly the same length."""
    return [slice(length * i // count, length * (i + 1) // count) for i in range(count)]


def _tasks(gy, w, groups):
    """How gradients are shared out: slices of the images, and triples of slices: input channels, outputs, rows."""
    channels, taps = w.shape[1], prod(w.shape[2:])
    cuts = max(1, min(_TASKS, channels, channels * taps // _TASK_ROWS))
    image_cuts = max(1, min(_TASKS // cuts, len(gy), gy.size // gy.shape[1] // _TASK_COLUMNS))
    return _cut(len(gy), image_cuts), [
        (slice(g * channels + part.start, g * channels + part.stop), outs, slice(part.start * taps, part.stop * taps))
        for g, outs in enumerate(_cut(len(w), groups)) for part in _cut(channels, cuts)]


def _blocks(x, images, axes, rows):
    """All outputs of some images in blocks, of which columns with so many rows fit the cache."""
    piece, pointwise = forward_piece(*axes), all(size == outputs and taps == stride == 1 and padding == 0
                                                 for size, taps, outputs, stride, padding, _ in axes)
    D, P, Q = piece.outputs
    first, last, _ = images.indices(len(x))
    columns = max(_BLOCK_COLUMNS, _BLOCK_BYTES // (rows * x.itemsize))
    columns = min(columns, max(_BLOCK_COLUMNS // 4, (last - first) * D * P * Q // 8))
    step = max(1, columns // (D * P * Q))
    depth = min(D, max(1, columns // (P * Q)))
    height = P if depth > 1 else min(P, max(1, columns // Q))
    return [_Block(slice(n, min(n + step, last)), slice(z, min(z + depth, D)), slice(y, min(y + height, P)), piece,
                   pointwise)
            for n in range(first, last, step) for z in range(0, D, depth) for y in range(0, P, height)]


class _Block:
    """Some outputs: of one image the slices z and y of its lines, or all lines of several images."""

    def __init__(self, images, z, y, piece, pointwise):
        self.images, self.piece, self.pointwise = images, piece, pointwise
        P, Q = piece.outputs[1:]
        self.outputs = z.stop - z.start, y.stop - y.start, Q
        self.pixels = slice((z.start * P + y.start) * Q, ((z.stop - 1) * P + y.stop) * Q)
        (mz, my, mx), (dz, dy, _) = piece.margin, piece.deal
        self.margin = mz - z.start * dz, my - y.start * dy, mx

    def _part(self, array, channels):
        """These outputs of some channels as a view (images, channels, pixels)."""
        part = array[self.images, channels]
        return part.reshape(*part.shape[:2], prod(part.shape[2:]))[..., self.pixels]

    def take(self, array, channels):
        """These outputs as a matrix (channels, columns)."""
        part = self._part(array, channels)
        return part[0] if len(part) == 1 else part.swapaxes(0, 1).reshape(part.shape[1], -1)

    def put(self, array, channels, filters, columns, b):
        """Make filters times columns, plus b, these outputs."""
        part = self._part(array, channels)
        result = np.matmul(filters, columns, out=part[0] if len(part) == 1 else None)
        if b is not None:
            result += b[channels, None]
        if len(part) > 1:
            part[...] = result.reshape(part.shape[1], len(part), -1).swapaxes(0, 1)

    def gather(self, x, channels):
        """What the taps meet in some channels of x, as a matrix (channels taps, columns)."""
        if self.pointwise:
            return self.take(x, channels)
        columns = np.empty(((channels.stop - channels.start) * len(self.piece.taps),
                            (self.images.stop - self.images.start) * prod(self.outputs)), x.dtype)
        self._run(_gather, x, channels, columns)
        return columns

    def scatter(self, columns, gx, channels):
        """Add the columns to what the taps meet in some channels of gx."""
        self._run(_scatter, gx, channels, columns)

    def _run(self, loop, x, channels, columns):
        piece = self.piece
        loop(x, columns, self.images.start, channels.start, self.outputs, piece.taps, piece.deal, self.margin,
             piece.reach)


@jit(parallel=False)
def _gather(x, columns, image, channel, outputs, taps, deal, margin, reach):
    """columns[(c, t), (n, z, y, x)] = what tap t meets of x[image + n, channel + c] for output (z, y, x)."""
    D, P, Q = outputs
    cells = D + reach[0], P + reach[1], Q + reach[2]
    starts = np.empty(len(taps), np.int64)
    _starts(taps, cells, starts)
    pixels = D * P * Q
    room = np.zeros(deal[0] * deal[1] * deal[2] * cells[0] * cells[1] * cells[2], x.dtype)
    for c in range(len(columns) // starts.size):
        for n in range(columns.shape[1] // pixels):
            _deal(x[image + n, channel + c], room, deal, margin, cells)
            for t in range(starts.size):
                row = columns[c * starts.size + t, n * pixels:]
                for z in range(D):
                    for p in range(P):
                        source = room[starts[t] + (z * cells[1] + p) * cells[2]:]
                        target = row[(z * P + p) * Q:(z * P + p + 1) * Q]
                        for q in range(Q):
                            target[q] = source[q]


@jit(parallel=False)
def _scatter(gx, columns, image, channel, outputs, taps, deal, margin, reach):
    """The adjoint of `_gather`: what each tap of each output meets gets its element of the columns added."""
    D, P, Q = outputs
    cells = D + reach[0], P + reach[1], Q + reach[2]
    starts = np.empty(len(taps), np.int64)
    _starts(taps, cells, starts)
    pixels = D * P * Q
    room = np.empty(deal[0] * deal[1] * deal[2] * cells[0] * cells[1] * cells[2], gx.dtype)
    for c in range(len(columns) // starts.size):
        for n in range(columns.shape[1] // pixels):
            room[:] = 0
            for t in range(starts.size):
                row = columns[c * starts.size + t, n * pixels:]
                for z in range(D):
                    for p in range(P):
                        target = room[starts[t] + (z * cells[1] + p) * cells[2]:]
                        source = row[(z * P + p) * Q:(z * P + p + 1) * Q]
                        for q in range(Q):
                            target[q] += source[q]
            _collect(room, gx[image + n, channel + c], deal, margin, cells)
