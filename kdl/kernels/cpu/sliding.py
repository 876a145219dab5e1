"""Depthwise convolution in float32: a vector is neighbouring outputs of a row, and rows of the image slide past sums.

Each row is loaded once per place that taps lead to, and added to the sums of all rows of outputs that meet it: those
of the row that is complete are stored, and the others move up. So 3 x 3 filters take three loads for nine
multiply-adds. The gradient of the input is the same with the taps turned over (taps.py).

The columns that a vector walks down are not what a machine foresees, so a step also asks for lines of the next block of
rows, one after another as they lie, of the image and of what is made. Measured on one thread of a Zen 5 against rows of
outputs (rows.py), 8 images: 96 channels of 56 x 56 with 3 x 3 filters 1.6 times as fast (1.05 without asking), of
112 x 112 1.2, 384 of 14 x 14 1.4, and with stride 2 144 of 56 x 56 1.4.
"""
from math import prod

import numpy as np
from numba import types
from numba.extending import intrinsic

from kdl.kernels.cpu import rows, simd
from kdl.kernels.cpu.launch import jit, prange
from kdl.kernels.cpu.layouts import as_planes, from_planes, is_pixels
from kdl.kernels.cpu.simd import LANES, index
from kdl.kernels.cpu.taps import Taps, arguments, axes_of, inside_of, lengths, zipped

_BESIDE = 8  # registers for anything but weights and sums
_BLOCK = 1 << 12  # floats of a block of rows: with the next one they stay in the L1 cache


# --- a block of rows ---
@intrinsic
def _slide(typing, V, R, S, u, u_at, height, width, top, left, down, across, u_ahead, w, w_at, b, b_at, v, v_at, pitch,
           rows, outputs, v_ahead, zeros, zeros_at):
    """v[p pitch + q] = b + the sum over r, s of w[r, s] u[what tap (r, s) meets of output (p, q)].

    V vectors of neighbouring outputs slide together; V is the length of a tuple, and so are what R and S hold: see
    Axis. Step (i, j) begins at u[top + i step down, left + j step]. The next block lies so far ahead.
    """
    names = ("V", "R", "S", "u", "u_at", "height", "width", "top", "left", "down", "across", "u_ahead", "w", "w_at",
             "b", "b_at", "v", "v_at", "pitch", "rows", "outputs", "v_ahead", "zeros", "zeros_at")

    def generate(context, builder, signature, args):
        given = arguments(context, builder, signature, args, names)
        taps = Taps(builder, given)
        down, along, width = taps.down, taps.along, len(S[0])
        waiting = _waiting(down)
        # sums[i, d, a, b]: of vector i, for output (a, b) of the step that began d steps ago
        keys = [(i, d, a, b) for i in range(len(V)) for d in range(waiting) for a in range(down.outputs)
                for b in range(along.outputs)]
        bias = simd.emit_broadcast(builder, builder.load(given["b"]))
        steps = builder.add(taps.steps[0], index(waiting - 1))
        row = builder.mul(given["top"], given["width"])
        ahead = [builder.gep(given["u"], [builder.add(row, given["u_ahead"])]),
                 builder.gep(given["v"], [given["v_ahead"]])]
        lines = [len(V) * down.step * along.step, len(V) * down.outputs * along.outputs]  # that a step takes of them

        weights = [simd.emit_broadcast(builder, builder.load(builder.gep(given["w"], [index(tap)])))
                   for tap in range(len(R[0]) * width)]

        def over_columns(q, _):
            begins = [builder.add(q, index(i * LANES)) for i in range(len(V))]
            columns = [taps.columns(begin) for begin in begins]
            done = builder.mul(builder.sdiv(q, index(LANES * len(V))), steps)

            def over_rows(t, sums):
                sums = dict(zip(keys, sums, strict=True))
                for j in range(down.step):
                    line = taps.line(given["u"], t, j)
                    served = [(d, a, r) for d in range(waiting) for a, r in down.leading(d * down.step + j)]
                    for place in range(along.places):
                        for i in range(len(V)):
                            vector = taps.vector(line, columns[i][place])
                            for d, a, r in served:
                                for b, s in along.leading(place):
                                    key = i, d, a, b
                                    sums[key] = simd.emit_fma(builder, vector, weights[r * width + s], sums[key])
                        taps.pause()
                for address, count, write in zip(ahead, lines, (False, True), strict=True):
                    for n in range(count):
                        at = builder.add(builder.mul(builder.add(done, t), index(count)), index(n))
                        place = builder.gep(address, [builder.mul(at, index(LANES))])
                        simd.emit_prefetch(builder, place, write=write)
                p = builder.sub(t, index(waiting - 1))
                for a in range(down.outputs):
                    row = builder.add(builder.mul(p, index(down.outputs)), index(a))
                    line = builder.gep(given["v"], [builder.mul(row, given["pitch"])])
                    there = builder.icmp_unsigned("<", row, given["rows"])  # no branch: all sums would be made in it
                    end = builder.select(there, given["outputs"], index(0))
                    for i, begin in enumerate(begins):
                        made = zipped(builder, [sums[i, waiting - 1, a, b] for b in range(along.outputs)])
                        for part, vector in enumerate(made):
                            at = builder.add(builder.mul(begin, index(along.outputs)), index(part * LANES))
                            inside = inside_of(builder, at, end)
                            simd.emit_store_masked(builder, vector, builder.gep(line, [at]), inside)
                return [sums[i, d - 1, a, b] if d else bias for i, d, a, b in keys]

            simd.emit_loop(builder, steps, 1, [bias] * len(keys), over_rows)
            return []
        simd.emit_loop(builder, taps.steps[1], LANES * len(V), [], over_columns)
        return context.get_dummy_value()

    n = types.intp
    return types.void(V, R, S, u, n, n, n, n, n, n, n, n, w, n, b, n, v, n, n, n, n, n, zeros, n), generate


def _waiting(axis):
    """How many steps down have sums at a time."""
    return -(-axis.places // axis.step)


# --- kernels, for contiguous images ---
@jit
def _correlate(u, u_size, V, R, S, down, left, across, w, b, v, v_shape, block, zeros):
    """`down` is (places from one row of outputs to the next, where the first meets u, from tap to tap), and `block`
    (rows of outputs, rows of u from one to the next)."""
    H, W = u_size
    N, K, P, Q = v_shape
    step, top, dilation = down
    height, met = block
    u_ahead, v_ahead, taps = min(met, H) * W, min(height, P) * Q, len(R[0]) * len(S[0])
    for plane in prange(N * K):
        k = plane % K
        for p in range(min(P, dilation)):  # rows so far apart are a convolution of their own
            count = (P - p - 1) // dilation + 1
            for row in range(0, count, height):
                _slide(V, R, S, u, plane * H * W, H, W, p * step + top + row // height * met * dilation, left,
                       dilation, across, u_ahead, w, k * taps, b, k, v, (plane * P + p + row * dilation) * Q,
                       dilation * Q, min(height, count - row), Q, v_ahead, zeros, 0)


# --- what conv.py calls ---
def fits(w, stride, padding, dilation, groups, backward):
    """Whether each filter of a shape meets a channel of its own, and the registers hold its weights and its sums."""
    return (w[0] == groups and w[1] == 1 and rows.fits(w, stride, dilation, backward)
            and _vectors(w[2:], stride, padding, dilation, backward) > 0)


def _vectors(size, stride, padding, dilation, backward):
    """How many vectors the registers have sums for, beside the weights: 2 at most, which take as long as more."""
    _, (down, along), _ = axes_of(size, stride, padding, dilation, backward)
    left = simd.REGISTERS - _BESIDE - prod(size)
    return max(0, min(2, left // (_waiting(down) * down.outputs * along.outputs)))


def correlate(u, w, b, v, stride, padding, dilation, backward):
    """v = b + the convolution of u, or with `backward` v = gx of u = gy, for dense arrays in any layout."""
    numbers, (down, along), begin = axes_of(w.shape[2:], stride, padding, dilation, backward)
    vectors = _vectors(w.shape[2:], stride, padding, dilation, backward) if v.shape[3] > LANES * along.outputs else 1
    steps = max(1, _BLOCK // (u.shape[3] * down.step))
    target = np.empty(v.shape, v.dtype) if is_pixels(v) else v
    b = np.zeros(len(w), w.dtype) if b is None else b
    _correlate(as_planes(u).reshape(-1), u.shape[2:], *lengths(vectors), *[lengths(*axis) for axis in numbers],
               (1 if backward else stride[0], begin[0], dilation[0]), begin[1], dilation[1], as_planes(w).reshape(-1),
               b, target.reshape(-1), v.shape, (steps * down.outputs, steps * down.step),
               np.zeros(u.shape[3], u.dtype))
    if target is not v:
        from_planes(target, v)
