"""Convolution on the CPU: windows are gathered into columns that fit the cache, and NumPy's BLAS multiplies them.

Two dimensions are three with a depth of 1. For every block of images: columns (C T R S, D P Q) per image, then
y = w columns; gx = the columns w' gy scattered back, each channel by one thread; gw = the sum over images of
gy columns'.
Depthwise convolutions have no product to speak of: they are loops over taps.
"""
import numpy as np

from kdl.kernels.cpu.depthwise import _depthwise_backward_w, _depthwise_backward_x, _depthwise_forward
from kdl.kernels.cpu.launch import jit, prange, widened

_BLOCK_BYTES = 1 << 20  # of columns at a time: what a core's L2 holds


@widened("y")
def conv3d_forward(x, w, b, y, stride, padding, dilation, groups):
    x, out = np.ascontiguousarray(x), y if y.flags.c_contiguous else np.empty(y.shape, y.dtype)
    w = np.ascontiguousarray(w)
    if w.shape[1] == 1 and groups > 1:
        _depthwise_forward(x, w, out, *_geometry(stride, padding, dilation))
    else:
        for images, columns, group in _blocks(x, w, out, groups):
            _gather(x[images], columns, group * w.shape[1], *_window(w, out), *_geometry(stride, padding, dilation))
            np.matmul(_matrix(w, groups, group), columns, out=_planes(out[images], groups, group))
    if b is not None:
        out += b.reshape(-1, 1, 1, 1)
    if out is not y:
        y[...] = out


@widened("gx")
def conv3d_backward_x(gy, w, gx, stride, padding, dilation, groups):
    gy, w = np.ascontiguousarray(gy), np.ascontiguousarray(w)
    out = gx if gx.flags.c_contiguous else np.empty(gx.shape, gx.dtype)
    if w.shape[1] == 1 and groups > 1:
        _depthwise_backward_x(gy, w, out, *_geometry(stride, padding, dilation))
    else:
        for images, columns, group in _blocks(out, w, gy, groups):
            np.matmul(_matrix(w, groups, group).T, _planes(gy[images], groups, group), out=columns)
            _scatter(columns, out[images], group * w.shape[1], *_window(w, gy), *_geometry(stride, padding, dilation))
    if out is not gx:
        gx[...] = out


@widened("gw")
def conv3d_backward_w(x, gy, gw, stride, padding, dilation, groups):
    x, gy = np.ascontiguousarray(x), np.ascontiguousarray(gy)
    out = gw if gw.flags.c_contiguous else np.empty(gw.shape, gw.dtype)
    out[...] = 0
    if gw.shape[1] == 1 and groups > 1:
        _depthwise_backward_w(x, gy, out, *_geometry(stride, padding, dilation))
    else:
        for images, columns, group in _blocks(x, out, gy, groups):
            _gather(x[images], columns, group * gw.shape[1], *_window(gw, gy), *_geometry(stride, padding, dilation))
            products = np.matmul(_planes(gy[images], groups, group), columns.transpose(0, 2, 1))
            _matrix(out, groups, group)[...] += products.sum(0)
    if out is not gw:
        gw[...] = out


@widened("gb")
def conv_backward_b(gy, gb):
    np.sum(gy, axis=(0, *range(2, gy.ndim)), out=gb)


def conv2d_forward(x, w, b, y, stride, padding, dilation, groups):
    conv3d_forward(x[:, :, None], w[:, :, None], b, y[:, :, None], (1, *stride), (0, *padding), (1, *dilation), groups)


def conv2d_backward_x(gy, w, gx, stride, padding, dilation, groups):
    conv3d_backward_x(gy[:, :, None], w[:, :, None], gx[:, :, None], (1, *stride), (0, *padding), (1, *dilation),
                      groups)


def conv2d_backward_w(x, gy, gw, stride, padding, dilation, groups):
    conv3d_backward_w(x[:, :, None], gy[:, :, None], gw[:, :, None], (1, *stride), (0, *padding), (1, *dilation),
                      groups)


def _geometry(stride, padding, dilation):
    """Tuples of one type, whatever they came as, so that one compiled loop serves all."""
    return tuple(map(int, stride)), tuple(map(int, padding)), tuple(map(int, dilation))


def _window(w, y):
    return w.shape[2:], y.shape[2:]


def _matrix(w, groups, group):
    """One group's filters as a matrix (K, C T R S)."""
    return w.reshape(groups, w.shape[0] // groups, -1)[group]


def _planes(y, groups, group):
    """One group's channels of y as (images, K, D P Q)."""
    return y.reshape(y.shape[0], groups, y.shape[1] // groups, -1)[:, group]


def _blocks(x, w, y, groups):
    """Pieces of the batch small enough for the cache: a slice of images, room for their columns, and the group."""
    rows, pixels = int(np.prod(w.shape[1:])), int(np.prod(y.shape[2:]))
    if not (rows and pixels):
        return
    size = max(1, _BLOCK_BYTES // (rows * pixels * x.itemsize))
    room = np.empty((min(size, len(x)), rows, pixels), x.dtype)
    for first in range(0, len(x), size):
        images = slice(first, min(first + size, len(x)))
        for group in range(groups):
            yield images, room[:images.stop - first], group


@jit
def _gather(x, columns, first_channel, kernel, out, stride, padding, dilation):
    """columns[n, (c, t, r, s), (d, p, q)] = x[n, first_channel + c] at tap (t, r, s) of window (d, p, q); 0 outside."""
    T, R, S = kernel
    D, P, Q = out
    depth, H, W = x.shape[2:]
    zero = x.dtype.type(0)
    rows = columns.shape[1]
    for job in prange(columns.shape[0] * rows):
        n, row = job // rows, job % rows
        tap = row % (T * R * S)
        source = x[n, first_channel + row // (T * R * S)]
        t, r, s = tap // (R * S), tap // S % R, tap % S
        target = columns[n, row]
        at = 0
        w0 = s * dilation[2] - padding[2]
        # the outputs q whose column w0 + q stride lies in the image
        q_first = min(Q, max(0, -(w0 // stride[2]))) if w0 < 0 else 0
        q_last = min(Q, max(q_first, -((w0 - W) // stride[2])))
        for d in range(D):
            z = d * stride[0] - padding[0] + t * dilation[0]
            for p in range(P):
                h = p * stride[1] - padding[1] + r * dilation[1]
                if z < 0 or z >= depth or h < 0 or h >= H:
                    for q in range(Q):
                        target[at + q] = zero
                else:
                    line = source[z, h]
                    for q in range(q_first):
                        target[at + q] = zero
                    if stride[2] == 1:
                        for q in range(q_first, q_last):
                            target[at + q] = line[w0 + q]
                    else:
                        for q in range(q_first, q_last):
                            target[at + q] = line[w0 + q * stride[2]]
                    for q in range(q_last, Q):
                        target[at + q] = zero
                at += Q


@jit
def _scatter(columns, gx, first_channel, kernel, out, stride, padding, dilation):
    """The adjoint of _gather: every channel of every image is summed by one thread, tap after tap."""
    T, R, S = kernel
    D, P, Q = out
    depth, H, W = gx.shape[2:]
    channels = columns.shape[1] // (T * R * S)
    for job in prange(columns.shape[0] * channels):
        n, c = job // channels, job % channels
        target = gx[n, first_channel + c]
        target[:] = gx.dtype.type(0)
        for t in range(T):
            for r in range(R):
                for s in range(S):
                    source = columns[n, ((c * T + t) * R + r) * S + s]
                    w0 = s * dilation[2] - padding[2]
                    q_first = min(Q, max(0, -(w0 // stride[2]))) if w0 < 0 else 0
                    q_last = min(Q, max(q_first, -((w0 - W) // stride[2])))
                    for d in range(D):
                        z = d * stride[0] - padding[0] + t * dilation[0]
                        for p in range(P):
                            h = p * stride[1] - padding[1] + r * dilation[1]
                            if z < 0 or z >= depth or h < 0 or h >= H:
                                continue
                            line = target[z, h]
                            at = (d * P + p) * Q
                            if stride[2] == 1:
                                for q in range(q_first, q_last):
                                    line[w0 + q] += source[at + q]
                            else:
                                for q in range(q_first, q_last):
                                    line[w0 + q * stride[2]] += source[at + q]
