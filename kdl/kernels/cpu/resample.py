"""Resampling along an axis on the CPU, an outer slice per thread; the maths stands in kdl/ops/resample.py."""
from kdl.kernels.cpu.launch import jit, prange

_SMALL = 1 << 15  # elements below which waking threads takes longer than the loop


def resample_forward(x, at, w, y):
    _forward(x, at, w, y)


def resample_backward(gy, at, w, gx):
    gx[...] = 0
    _backward(gy, at, w, gx)


@jit(serial_below=_SMALL)
def _forward(x, at, w, y):
    T = x.dtype.type
    outer, length, inner = y.shape
    taps = at.shape[1]
    for o in prange(outer):
        for i in range(length):
            if inner == 1:
                total = T(0)
                for k in range(taps):
                    total += w[i, k] * x[o, at[i, k], 0]
                y[o, i, 0] = total
            else:
                row, out = x[o, at[i, 0]], y[o, i]
                for j in range(inner):
                    out[j] = w[i, 0] * row[j]
                for k in range(1, taps):
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
