"""Convolution on the CPU, in two or three dimensions. The maths stands in kdl/ops/conv.py.

With few channels per group: sums of shifted lines (direct.py). Otherwise columns and BLAS: `_gather` writes what the
taps meet for each output into a column of a matrix (C taps, outputs), so that one product with the filters (K, C taps)
gives all outputs: a block of them at a time that fits the cache, part of an image or several images. For the gradient
of the input a product gives the columns, and `_scatter` adds them up. A 1 x 1 filter needs no columns: the image is its
own.
"""
from functools import wraps
from inspect import signature
from math import prod

import numpy as np

from kdl.kernels.cpu.cells import _collect, _deal, _starts, backward_pieces, forward_piece
from kdl.kernels.cpu.direct import _products_with_lines, _sum_of_lines
from kdl.kernels.cpu.launch import jit, prange, widened

_BLOCK_BYTES = 2 << 20  # of columns: a product of this size keeps several threads busy and stays in the cache
_BLOCK_COLUMNS = 1024  # at least: with fewer the product is slow
_CHUNKS = 32  # planes are shared out in so many parts at most, each with its own cells
_SERIAL = 1 << 15  # elements below which waking threads takes longer than the loop


def _volumetric(output):
    """Let a kernel for contiguous float32 or float64 volumes take images, channels-last arrays and halves too."""
    def bind(kernel):
        position = list(signature(kernel).parameters).index(output)

        @widened(output)
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
def conv2d_forward(x, w, b, y, stride, padding, dilation, groups):
    axes = _axes(x, w, y, stride, padding, dilation)
    if _is_direct(w, groups, 16):
        _sum(x, w, b, y, groups, forward_piece(*axes))
        return
    filters, outputs = _filters(w, groups), _pixels(y, groups)
    if _is_pointwise(*axes):
        np.matmul(filters, _pixels(x, groups), out=outputs)
    else:
        for block in _blocks(x, w, groups, forward_piece(*axes)):
            block.gather(x)
            block.put(outputs, filters[block.group])
    if b is not None:
        _add_bias(y.reshape(*y.shape[:2], prod(y.shape[2:])), b)


@_volumetric("gx")
def conv2d_backward_x(gy, w, gx, stride, padding, dilation, groups):
    axes = _axes(gx, w, gy, stride, padding, dilation)
    if _is_direct(w, groups, 16):
        turned = w.reshape(groups, -1, *w.shape[1:]).swapaxes(1, 2).reshape(gx.shape[1], -1, *w.shape[2:])
        for piece in backward_pieces(*axes):
            _sum(gy, turned, None, gx, groups, piece)
        return
    filters, gradients = _filters(w, groups).swapaxes(1, 2), _pixels(gy, groups)
    if _is_pointwise(*axes):
        np.matmul(filters, gradients, out=_pixels(gx, groups))
        return
    gx[...] = 0
    for block in _blocks(gx, w, groups, forward_piece(*axes)):
        np.matmul(filters[block.group], block.take(gradients), out=block.columns)
        block.scatter(gx)


@_volumetric("gw")
def conv2d_backward_w(x, gy, gw, stride, padding, dilation, groups):
    axes = _axes(x, gw, gy, stride, padding, dilation)
    piece = forward_piece(*axes)
    if _is_direct(gw, groups, 8):
        _products_with_lines(x, gy, gw.reshape(*gw.shape[:2], -1), groups, piece.taps, piece.deal, piece.margin,
                             piece.reach)
        return
    filters, gradients, inputs = _filters(gw, groups), _pixels(gy, groups), _pixels(x, groups)
    filters[...] = 0
    for block in _blocks(x, gw, groups, piece):
        if _is_pointwise(*axes):
            block.columns = block.take(inputs)
        else:
            block.gather(x)
        filters[block.group] += block.take(gradients) @ block.columns.T


@widened("gb")
def conv_backward_b(gy, gb):
    _sum_planes(np.ascontiguousarray(gy).reshape(*gy.shape[:2], prod(gy.shape[2:])), gb)


conv3d_forward, conv3d_backward_x, conv3d_backward_w = conv2d_forward, conv2d_backward_x, conv2d_backward_w


def _is_direct(w, groups, most):
    """Whether a group's filters have so few elements that BLAS does not pay: measured with 3 x 3 and 5 x 5 taps."""
    return len(w) // groups * w.shape[1] <= most


def _is_pointwise(*axes):
    """Whether every output sees the input of its own place alone."""
    return all(size == outputs and taps == stride == 1 and padding == 0
               for size, taps, outputs, stride, padding, _ in axes)


# --- views ---
def _axes(x, w, y, stride, padding, dilation):
    return tuple(zip(x.shape[2:], w.shape[2:], y.shape[2:], stride, padding, dilation, strict=True))


def _filters(w, groups):
    """(K, C, ...) as (groups, K, C taps)."""
    return w.reshape(groups, len(w) // groups, prod(w.shape[1:]))


def _pixels(y, groups):
    """(N, K, ...) as (N, groups, K, pixels)."""
    return y.reshape(len(y), groups, y.shape[1] // groups, prod(y.shape[2:]))


# --- sums of lines ---
def _sum(u, w, b, v, groups, piece):
    """v = b + the sum of shifted u, for the outputs of one piece."""
    weights = w.reshape(*w.shape[:2], -1)[..., piece.order]
    b = np.zeros(len(w), w.dtype) if b is None else b
    _sum_of_lines(u, weights, b, v, groups, piece.taps, piece.deal, piece.margin, piece.reach, piece.outputs,
                  piece.first, piece.step)


# --- columns ---
class _Block:
    """Some outputs of one group: of one image the slices z and y of its lines, or all lines of several images."""

    def __init__(self, group, images, z, y, piece, channels, room):
        self.group, self.images, self.channel, self.piece = group, images, group * channels, piece
        P, Q = piece.outputs[1:]
        self.pixels = slice((z.start * P + y.start) * Q, ((z.stop - 1) * P + y.stop) * Q)
        self.outputs = z.stop - z.start, y.stop - y.start, Q
        (mz, my, mx), (dz, dy, _) = piece.margin, piece.deal
        self.margin = mz - z.start * dz, my - y.start * dy, mx
        rows, columns = channels * len(piece.taps), (images.stop - images.start) * prod(self.outputs)
        self.columns = room[:rows * columns].reshape(rows, columns)

    def take(self, array):
        """These outputs of (N, groups, K, pixels) as a matrix (K, columns)."""
        part = array[self.images, self.group, :, self.pixels]
        return part[0] if len(part) == 1 else part.swapaxes(0, 1).reshape(part.shape[1], -1)

    def put(self, array, filters):
        """Store filters times columns as these outputs of (N, groups, K, pixels)."""
        part = array[self.images, self.group, :, self.pixels]
        if len(part) == 1:
            np.matmul(filters, self.columns, out=part[0])
        else:
            part[...] = (filters @ self.columns).reshape(part.shape[1], len(part), -1).swapaxes(0, 1)

    def gather(self, x):
        """Fill the columns with what the taps meet in the group's channels of x."""
        self._run(_gather, x)

    def scatter(self, gx):
        """Add the columns to what the taps meet in the group's channels of gx."""
        self._run(_scatter, gx)

    def _run(self, loop, x):
        loop(x, self.columns, self.images.start, self.channel, self.outputs, self.piece.taps, self.piece.deal,
             self.margin, self.piece.reach)


def _blocks(x, w, groups, piece):
    """The blocks of all groups, one after the other; they share the room for their columns."""
    (D, P, Q), rows = piece.outputs, prod(w.shape[1:])
    columns = max(_BLOCK_COLUMNS, _BLOCK_BYTES // (rows * x.itemsize))
    images = max(1, min(len(x), columns // (D * P * Q)))
    depth = min(D, max(1, columns // (P * Q)))
    height = P if depth > 1 else min(P, max(1, columns // Q))
    room = np.empty(rows * images * depth * height * Q, x.dtype)
    for n in range(0, len(x), images):
        for z in range(0, D, depth):
            for y in range(0, P, height):
                for group in range(groups):
                    yield _Block(group, slice(n, min(n + images, len(x))), slice(z, min(z + depth, D)),
                                 slice(y, min(y + height, P)), piece, w.shape[1], room)


@jit
def _gather(u, columns, image, channel, outputs, taps, deal, margin, reach):
    """columns[(c, t), (n, z, y, x)] = what tap t meets of u[image + n, channel + c] for output (z, y, x)."""
    D, P, Q = outputs
    cells = D + reach[0], P + reach[1], Q + reach[2]
    starts = np.empty(len(taps), np.int64)
    _starts(taps, cells, starts)
    pixels = D * P * Q
    images, channels = columns.shape[1] // pixels, len(columns) // starts.size
    jobs = images * channels
    chunks = min(jobs, _CHUNKS)
    for chunk in prange(chunks):
        room = np.zeros(deal[0] * deal[1] * deal[2] * cells[0] * cells[1] * cells[2], u.dtype)
        for job in range(jobs * chunk // chunks, jobs * (chunk + 1) // chunks):
            c, n = job // images, job % images
            _deal(u[image + n, channel + c], room, deal, margin, cells)
            for t in range(starts.size):
                row = columns[c * starts.size + t, n * pixels:]
                for z in range(D):
                    for p in range(P):
                        source = room[starts[t] + (z * cells[1] + p) * cells[2]:]
                        target = row[(z * P + p) * Q:(z * P + p + 1) * Q]
                        for q in range(Q):
                            target[q] = source[q]


@jit
def _scatter(gx, columns, image, channel, outputs, taps, deal, margin, reach):
    """The adjoint of `_gather`: what each tap of each output meets gets its element of the columns added."""
    D, P, Q = outputs
    cells = D + reach[0], P + reach[1], Q + reach[2]
    starts = np.empty(len(taps), np.int64)
    _starts(taps, cells, starts)
    pixels = D * P * Q
    images, channels = columns.shape[1] // pixels, len(columns) // starts.size
    jobs = images * channels
    chunks = min(jobs, _CHUNKS)
    for chunk in prange(chunks):
        room = np.empty(deal[0] * deal[1] * deal[2] * cells[0] * cells[1] * cells[2], gx.dtype)
        for job in range(jobs * chunk // chunks, jobs * (chunk + 1) // chunks):
            c, n = job // images, job % images
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


# --- bias ---
@jit(serial_below=_SERIAL)
def _add_bias(y, b):
    images, channels, pixels = y.shape
    for job in prange(images * channels):
        plane, value = y[job // channels, job % channels], b[job % channels]
        for i in range(pixels):
            plane[i] += value


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
