"""Resampling along an axis on the CPU, an outer slice per thread; the maths stands in kdl/ops/resample.py."""
import numpy as np

from kdl.kernels.cpu.launch import jit, prange

_SMALL = 1 << 15  # elements below which waking threads takes longer than the loop


def resample_forward(x, at, w, y):
    if x.shape[2] == 1:
        _forward_rows(x[..., 0], *_by_tap(at, w), y[..., 0])
    else:
        _forward(x, at, w, y)


def resample_backward(gy, at, w, gx):
    gx[...] = 0
    if gy.shape[2] == 1:
        _backward_rows(gy[..., 0], *_by_tap(at, w), gx[..., 0])
    else:
        _backward(gy, at, w, gx)


def _by_tap(at, w):
    """As (taps, length), so that neighbours in memory are neighbours in the output; unsigned indices save a test."""
    return np.ascontiguousarray(at.T).view(np.uint64), np.ascontiguousarray(w.T)


@jit(serial_below=_SMALL)
def _forward_rows(x, at, w, y):
    for o in prange(y.shape[0]):
        row, out = x[o], y[o]
        for i in range(out.size):
            out[i] = w[0, i] * row[at[0, i]]
        for k in range(1, at.shape[0]):
            for i in range(out.size):
                out[i] += w[k, i] * row[at[k, i]]


@jit(serial_below=_SMALL)
def _backward_rows(gy, at, w, gx):
    for o in prange(gy.shape[0]):
        row, out = gy[o], gx[o]
        for i in range(row.size):
            for k in range(at.shape[0]):
                out[at[k, i]] += w[k, i] * row[i]


@jit(serial_below=_SMALL)
def _forward(x, at, w, y):
    inner = y.shape[2]
    for o in prange(y.shape[0]):
        for i in range(y.shape[1]):
            row, out = x[o, at[i, 0]], y[o, i]
            for j in range(inner):
                out[j] = w[i, 0] * row[j]
            for k in range(1, at.shape[1]):
                row = x[o, at[i, k]]
                for j in range(inner):
                    out[j] += w[i, k] * row[j]


@jit(serial_below=_SMALL)
def _backward(gy, at, w, gx):
    outer, length, inner = gy.shape
    for o in prange(outer):
        for i in range(length):
            for k in range(at.shape[1]):
                row, out = gy[o, i], gx[o, at[i, k]]
                for j in range(inner):
                    out[j] += w[i, k] * row[j]
