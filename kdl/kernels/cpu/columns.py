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
from math import prod

import numpy as np

from kdl.kernels.cpu import lines
from kdl.kernels.cpu.blas import gemm, run
from kdl.kernels.cpu.cells import _collect, _deal, _starts, backward_pieces, forward_piece
from kdl.kernels.cpu.direct import _products_with_lines, _sum_of_lines
from kdl.kernels.cpu.launch import NOTHING, jit, prange

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
    if _by_lines(w, len(w) // groups):
        lines.correlate(x, w, b, y, groups, forward_piece(*axes))
        return
    if _is_direct(w, groups, 16):
        _sum(x, w, b, y, groups, forward_piece(*axes))
        return
    blocks, pointwise, geometry = _blocks(x, slice(len(x)), axes, prod(w.shape[1:]))
    b = NOTHING[x.dtype] if b is None else b
    run(_forward, y.size * prod(w.shape[1:]), x.dtype, x, w.reshape(len(w), -1), b, y, _splits(w, groups, 1), blocks,
        pointwise, *geometry)


@_volumetric("gx")
def backward_x(gy, w, gx, stride, padding, dilation, groups):
    axes = _axes(gx, w, gy, stride, padding, dilation)
    if _by_lines(w, w.shape[1]) or _is_direct(w, groups, 16):
        turned = w.reshape(groups, -1, *w.shape[1:]).swapaxes(1, 2).reshape(gx.shape[1], -1, *w.shape[2:])
        add = lines.correlate if _by_lines(w, w.shape[1]) else _sum
        for piece in backward_pieces(*axes):
            add(gy, turned, None, gx, groups, piece)
        return
    image_parts, splits = _tasks(gy, w, groups)
    blocks, begins, pointwise, geometry = _blocks_of_parts(gx, image_parts, axes, prod(w.shape[1:]))
    gx[...] = 0
    run(_backward_x, gy.size * prod(w.shape[1:]), gy.dtype, gy, w.reshape(len(w), -1), gx, splits, blocks, begins,
        pointwise, *geometry)


@_volumetric("gw")
def backward_w(x, gy, gw, stride, padding, dilation, groups):
    axes = _axes(x, gw, gy, stride, padding, dilation)
    if _by_lines(gw, len(gw) // groups):
        lines.backward_w(x, gy, gw, groups, forward_piece(*axes))
        return
    if _is_direct(gw, groups, 8):
        piece = forward_piece(*axes)
        _products_with_lines(x, gy, gw.reshape(*gw.shape[:2], -1), groups, piece.taps, piece.deal, piece.margin,
                             piece.reach)
        return
    image_parts, splits = _tasks(gy, gw, groups)
    depth = splits[0, 5] - splits[0, 4]
    blocks, begins, pointwise, geometry = _blocks_of_parts(x, image_parts, axes, depth)
    filters = gw.reshape(len(gw), -1)
    totals = np.zeros((len(image_parts), *filters.shape), gw.dtype)
    run(_backward_w, gy.size * filters.shape[1], x.dtype, x, gy, totals, splits, blocks, begins, pointwise, *geometry)
    np.sum(totals, axis=0, out=filters)


def _axes(x, w, y, stride, padding, dilation):
    return tuple(zip(x.shape[2:], w.shape[2:], y.shape[2:], stride, padding, dilation, strict=True))


# --- sums of lines ---
def _by_lines(w, rows):
    """Whether there are tiles of lines for this."""
    return w.dtype == np.float32 and lines.fits(w.shape[2:], rows)


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


def _splits(w, groups, cuts):
    """The work of the groups, their channels cut: rows of first and last channel, filter, and row of columns."""
    filters, channels, taps = len(w) // groups, w.shape[1], prod(w.shape[2:])
    return np.array([(g * channels + part.start, g * channels + part.stop, g * filters, (g + 1) * filters,
                      part.start * taps, part.stop * taps) for g in range(groups) for part in _cut(channels, cuts)])


def _tasks(gy, w, groups):
    """How gradients are shared out: slices of the images, and `_splits`."""
    channels, taps = w.shape[1], prod(w.shape[2:])
    cuts = max(1, min(_TASKS, channels, channels * taps // _TASK_ROWS))
    image_cuts = max(1, min(_TASKS // cuts, len(gy), gy.size // gy.shape[1] // _TASK_COLUMNS))
    return _cut(len(gy), image_cuts), _splits(w, groups, cuts)


def _blocks(x, images, axes, rows):
    """All outputs of some images in blocks, of which columns with so many rows fit the cache.

    Rows of first and last image, z and y, where the last is not in the block; whether the image is its own columns; and
    how taps meet cells.
    """
    piece, pointwise = forward_piece(*axes), all(size == outputs and taps == stride == 1 and padding == 0
                                                 for size, taps, outputs, stride, padding, _ in axes)
    D, P, Q = piece.outputs
    first, last, _ = images.indices(len(x))
    columns = max(_BLOCK_COLUMNS, _BLOCK_BYTES // (rows * x.itemsize))
    columns = min(columns, max(_BLOCK_COLUMNS // 4, (last - first) * D * P * Q // 8))
    step = max(1, columns // (D * P * Q))
    depth = min(D, max(1, columns // (P * Q)))
    height = P if depth > 1 else min(P, max(1, columns // Q))
    blocks = [(n, min(n + step, last), z, min(z + depth, D), y, min(y + height, P))
              for n in range(first, last, step) for z in range(0, D, depth) for y in range(0, P, height)]
    return np.array(blocks, np.int64).reshape(-1, 6), pointwise, (piece.taps, piece.deal, piece.margin, piece.reach)


def _blocks_of_parts(x, image_parts, axes, rows):
    """`_blocks` of slices of the images one after the other, and where those of each begin."""
    found = [_blocks(x, images, axes, rows) for images in image_parts]
    begins = np.cumsum([0] + [len(blocks) for blocks, *_ in found])
    return np.concatenate([blocks for blocks, *_ in found]), begins, *found[0][1:]


# In the loops, `at` is where a block begins in a plane of the outputs, and the columns of a block of one image lie in
# the planes, or can be written there, as rows that are as far apart as planes are.
@jit
def _forward(address, x, filters, b, y, splits, blocks, pointwise, taps, deal, margin, reach):
    depth, plane = filters.shape[1], y.shape[2] * y.shape[3] * y.shape[4]
    for task in prange(len(splits) * len(blocks)):
        split, block = splits[task // len(blocks)], blocks[task % len(blocks)]
        images, at, pixels = _extent(block, y)
        K, count = split[3] - split[2], images * pixels
        source, source_at, pitch = _columns_of(x, block, split[0], depth, pointwise, y, taps, deal, margin, reach)
        if images == 1:
            gemm(address, K, count, depth, filters, split[2] * depth, False, depth, source, source_at, False, pitch,
                 False, y, (block[0] * y.shape[1] + split[2]) * plane + at, plane)
        else:
            result = np.empty(K * count, y.dtype)
            gemm(address, K, count, depth, filters, split[2] * depth, False, depth, source, source_at, False, pitch,
                 False, result, 0, count)
            _put(result, y, block, split[2], K)
        if b.size:
            _add_to_planes(b, y, block, split[2], K)


@jit
def _backward_x(address, gy, filters, gx, splits, blocks, begins, pointwise, taps, deal, margin, reach):
    depth, plane = filters.shape[1], gy.shape[2] * gy.shape[3] * gy.shape[4]
    for task in prange((begins.size - 1) * len(splits)):
        part, split = task // len(splits), splits[task % len(splits)]
        K, rows, first = split[3] - split[2], split[5] - split[4], split[2] * depth + split[4]
        for number in range(begins[part], begins[part + 1]):
            block = blocks[number]
            images, at, pixels = _extent(block, gy)
            count = images * pixels
            source, source_at, pitch = _taken(gy, block, split[2], K)
            if pointwise and images == 1:
                gemm(address, rows, count, K, filters, first, True, depth, source, source_at, False, pitch, False, gx,
                     (block[0] * gx.shape[1] + split[0]) * plane + at, plane)
                continue
            columns = np.empty(rows * count, gx.dtype)
            gemm(address, rows, count, K, filters, first, True, depth, source, source_at, False, pitch, False, columns,
                 0, count)
            if pointwise:
                _put(columns, gx, block, split[0], rows)
            else:
                _scatter(gx, columns.reshape(rows, count), block, split[0], gy, taps, deal, margin, reach)


@jit
def _backward_w(address, x, gy, totals, splits, blocks, begins, pointwise, taps, deal, margin, reach):
    filters, depth = totals.shape[1:]
    for task in prange((begins.size - 1) * len(splits)):
        part, split = task // len(splits), splits[task % len(splits)]
        K, rows = split[3] - split[2], split[5] - split[4]
        for number in range(begins[part], begins[part + 1]):
            block = blocks[number]
            images, _, pixels = _extent(block, gy)
            made, made_at, made_pitch = _taken(gy, block, split[2], K)
            met, met_at, met_pitch = _columns_of(x, block, split[0], rows, pointwise, gy, taps, deal, margin, reach)
            gemm(address, K, rows, images * pixels, made, made_at, False, made_pitch, met, met_at, True, met_pitch,
                 True, totals, (part * filters + split[2]) * depth + split[4], depth)


@jit(parallel=False)
def _extent(block, y):
    """How many images a block has, where it begins in a plane of y, and how many pixels of each plane it has."""
    P, Q = y.shape[3:]
    at = (block[2] * P + block[4]) * Q
    return block[1] - block[0], at, ((block[3] - 1) * P + block[5]) * Q - at


@jit(parallel=False)
def _taken(array, block, channel, channels):
    """A block of some channels as a matrix (channels, columns): the flat array it lies in, where, and its pitch."""
    images, at, pixels = _extent(block, array)
    plane = array.shape[2] * array.shape[3] * array.shape[4]
    planes = array.reshape(-1)
    if images == 1:
        return planes, (block[0] * array.shape[1] + channel) * plane + at, plane
    columns = np.empty(channels * images * pixels, array.dtype)
    for c in range(channels):
        for n in range(images):
            source = planes[((block[0] + n) * array.shape[1] + channel + c) * plane + at:]
            target = columns[(c * images + n) * pixels:]
            for i in range(pixels):
                target[i] = source[i]
    return columns, 0, images * pixels


@jit(parallel=False)
def _put(result, array, block, channel, channels):
    """The reverse: a matrix (channels, columns) into the planes of several images."""
    images, at, pixels = _extent(block, array)
    plane = array.shape[2] * array.shape[3] * array.shape[4]
    planes = array.reshape(-1)
    for c in range(channels):
        for n in range(images):
            target = planes[((block[0] + n) * array.shape[1] + channel + c) * plane + at:]
            source = result[(c * images + n) * pixels:]
            for i in range(pixels):
                target[i] = source[i]


@jit(parallel=False)
def _add_to_planes(b, y, block, channel, channels):
    _, at, pixels = _extent(block, y)
    plane = y.shape[2] * y.shape[3] * y.shape[4]
    planes = y.reshape(-1)
    for n in range(block[0], block[1]):
        for c in range(channel, channel + channels):
            target, added = planes[(n * y.shape[1] + c) * plane + at:], b[c]
            for i in range(pixels):
                target[i] += added


@jit(parallel=False)
def _columns_of(x, block, channel, rows, pointwise, y, taps, deal, margin, reach):
    """What the taps meet for a block of the outputs y, as a matrix (channels taps, columns), as `_taken` gives one."""
    if pointwise:
        return _taken(x, block, channel, rows)
    images, _, pixels = _extent(block, y)
    columns = np.empty(rows * images * pixels, x.dtype)
    _gather(x, columns.reshape(rows, images * pixels), block, channel, y, taps, deal, margin, reach)
    return columns, 0, images * pixels


@jit(parallel=False)
def _window(block, y, deal, margin, reach):
    """The outputs of a block as (z, y, x), its cells, and the margin before them."""
    D, P, Q = block[3] - block[2], block[5] - block[4], y.shape[4]
    cells = D + reach[0], P + reach[1], Q + reach[2]
    return (D, P, Q), cells, (margin[0] - block[2] * deal[0], margin[1] - block[4] * deal[1], margin[2])


@jit(parallel=False)
def _gather(x, columns, block, channel, y, taps, deal, margin, reach):
    """columns[(c, t), (n, z, y, x)] = what tap t meets of x[image n of the block, channel + c] for output (z, y, x)."""
    (D, P, Q), cells, margin = _window(block, y, deal, margin, reach)
    starts = np.empty(len(taps), np.int64)
    _starts(taps, cells, starts)
    pixels = D * P * Q
    room = np.zeros(deal[0] * deal[1] * deal[2] * cells[0] * cells[1] * cells[2], x.dtype)
    for c in range(len(columns) // starts.size):
        for n in range(columns.shape[1] // pixels):
            _deal(x[block[0] + n, channel + c], room, deal, margin, cells)
            for t in range(starts.size):
                row = columns[c * starts.size + t, n * pixels:]
                for z in range(D):
                    for p in range(P):
                        source = room[starts[t] + (z * cells[1] + p) * cells[2]:]
                        target = row[(z * P + p) * Q:(z * P + p + 1) * Q]
                        for q in range(Q):
                            target[q] = source[q]


@jit(parallel=False)
def _scatter(gx, columns, block, channel, y, taps, deal, margin, reach):
    """The adjoint of `_gather`: what each tap of each output meets gets its element of the columns added."""
    (D, P, Q), cells, margin = _window(block, y, deal, margin, reach)
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
            _collect(room, gx[block[0] + n, channel + c], deal, margin, cells)
