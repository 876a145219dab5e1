"""Convolution in float32 with few channels per group: a vector is neighbouring outputs of a row.

v[k, p, q] = b[k] + the sum over c, r, s of w[k, c, r, s] u[c, p stride - padding + r dilation, likewise from q and s].
A tile is some filters by some rows of outputs by one vector. Each row that it meets is loaded once per s, straight from
the image and with 0 in lanes outside, and serves all outputs that need it. The gradient of the filters has tiles of the
same kind, with a vector of sums per tap; these stay in registers from the first image to the last.

Filters of one size and stride have a kernel of their own, in which the taps are unrolled (taps.py).
"""
from functools import cache
from math import prod

import numpy as np
from numba import types
from numba.extending import intrinsic

from kdl.kernels.cpu import simd
from kdl.kernels.cpu.launch import jit, prange
from kdl.kernels.cpu.layouts import as_planes, from_planes, is_pixels
from kdl.kernels.cpu.simd import LANES, index
from kdl.kernels.cpu.taps import AHEAD, Taps, arguments, axes_of, lengths, zipped

# By filters of a tile, its rows of outputs: as many sums at least as multiply-adds are under way
_TILES = {4: 3, 3: 4, 2: 5, 1: 7} if simd.REGISTERS == 32 else {1: 7}
_WEIGHTS = 14  # that a tile has of each s: beside the sums they stay in registers
_PRODUCT_ROWS = 4  # beside the sums of 25 taps
_MOST = 49  # taps, unrolled
_SUMS = 25  # taps that the gradient of the filters has sums for at a time
_BEGIN = 18  # multiply-adds that take as long as the rest of an output


# --- tiles ---
@intrinsic
def _sums(typing, F, T, R, S, u, u_at, channels, height, width, top, left, down, across, w, w_at, w_far, w_next, b,
          b_at, v, v_at, v_far, pitch, rows, outputs, zeros, zeros_at):
    """v[f, p pitch + q] = b[f] + the sum over c, r, s of w[f, c, r, s] u[c, what tap (r, s) meets of output (p, q)].

    F filters and T steps of a tile are the lengths of tuples, and so are what R and S hold: see Axis. Step (i, j)
    begins at u[c, top + i step down, left + j step]; filters lie w_far apart in w, their channels w_next.
    """
    names = ("F", "T", "R", "S", "u", "u_at", "channels", "height", "width", "top", "left", "down", "across", "w",
             "w_at", "w_far", "w_next", "b", "b_at", "v", "v_at", "v_far", "pitch", "rows", "outputs", "zeros",
             "zeros_at")

    def generate(context, builder, signature, args):
        given = arguments(context, builder, signature, args, names)
        taps = Taps(builder, given)
        filters, steps = range(len(F)), len(T)
        A, B = [axis.outputs for axis in taps.axes]
        biases = [simd.emit_broadcast(builder, builder.load(builder.gep(given["b"], [index(f)]))) for f in filters]
        far = builder.mul(given["height"], given["width"])

        def over_rows(p, _):
            def over_columns(q, _):
                columns = taps.columns(q)

                def over_channels(c, sums):
                    sums = list(sums)
                    plane = builder.gep(given["u"], [builder.mul(c, far)])
                    filters_at = [builder.add(builder.mul(given["w_far"], index(f)), builder.mul(c, given["w_next"]))
                                  for f in filters]

                    @cache
                    def weight(f, r, s):  # loaded when first met, since the registers do not hold all
                        at = builder.add(filters_at[f], index(r * len(S[0]) + s))
                        return simd.emit_broadcast(builder, builder.load(builder.gep(given["w"], [at])))

                    for vector, served in taps.meet(plane, p, steps, columns):
                        for i, a, b, r, s in served:
                            for f in filters:
                                at = ((f * steps + i) * A + a) * B + b
                                sums[at] = simd.emit_fma(builder, vector, weight(f, r, s), sums[at])
                    return sums

                sums = [bias for bias in biases for _ in range(steps * A * B)]
                sums = simd.emit_loop(builder, given["channels"], 1, sums, over_channels)
                for f in filters:
                    out = builder.gep(given["v"], [builder.mul(given["v_far"], index(f))])
                    for i, a, row, targets in taps.outputs(out, p, q, steps):
                        at = ((f * steps + i) * A + a) * B
                        with builder.if_then(builder.icmp_signed("<", row, given["rows"]), likely=True):
                            for vector, (target, mask) in zip(zipped(builder, sums[at:at + B]), targets, strict=True):
                                simd.emit_store_masked(builder, vector, target, mask)
                        for target, _ in targets:
                            simd.emit_prefetch(builder, builder.gep(target, [index(AHEAD)]), write=True)
                        if f == a == 0:
                            taps.foresee(given["u"], builder.add(p, index(i)), q)
                return []
            return simd.emit_loop(builder, taps.steps[1], LANES, [], over_columns)
        simd.emit_loop(builder, taps.steps[0], steps, [], over_rows)
        return context.get_dummy_value()

    n = types.intp
    return types.void(F, T, R, S, u, n, n, n, n, n, n, n, n, w, n, n, n, b, n, v, n, n, n, n, n, zeros, n), generate


@intrinsic
def _products(typing, R, S, u, u_at, u_far, height, width, top, left, down, across, g, g_at, g_far, pitch, rows,
              outputs, images, sums, sums_at, zeros, zeros_at):
    """sums[r, s] += the sum over images and outputs of g[p pitch + q] u[what tap (r, s) meets of (p, q)], by lanes.

    R and S are as in _sums, not turned; the images lie u_far and g_far apart.
    """
    names = ("R", "S", "u", "u_at", "u_far", "height", "width", "top", "left", "down", "across", "g", "g_at", "g_far",
             "pitch", "rows", "outputs", "images", "sums", "sums_at", "zeros", "zeros_at")

    def generate(context, builder, signature, args):
        given = arguments(context, builder, signature, args, names)
        taps = Taps(builder, given)
        width = len(S[0])
        places = [builder.gep(given["sums"], [index(t * LANES)]) for t in range(len(R[0]) * width)]

        def over_images(n, sums):
            plane = builder.gep(given["u"], [builder.mul(n, given["u_far"])])
            gradient = builder.gep(given["g"], [builder.mul(n, given["g_far"])])

            def tile(p, rows, sums):
                def over_columns(q, sums):
                    sums, vectors = list(sums), []
                    for _, _, row, [(source, mask)] in taps.outputs(gradient, p, q, rows):
                        vectors.append(simd.emit_load_masked(builder, source, mask))
                        simd.emit_prefetch(builder, builder.gep(source, [index(AHEAD)]))
                        taps.foresee(plane, row, q)
                    for vector, served in taps.meet(plane, p, rows, taps.columns(q)):
                        for i, _, _, r, s in served:
                            sums[r * width + s] = simd.emit_fma(builder, vector, vectors[i], sums[r * width + s])
                    return sums
                return simd.emit_loop(builder, given["outputs"], LANES, sums, over_columns)

            whole = builder.sdiv(given["rows"], index(_PRODUCT_ROWS))
            begun = builder.mul(whole, index(_PRODUCT_ROWS))
            sums = simd.emit_loop(builder, whole, 1, sums,
                                  lambda i, sums: tile(builder.mul(i, index(_PRODUCT_ROWS)), _PRODUCT_ROWS, sums))
            return simd.emit_loop(builder, builder.sub(given["rows"], begun), 1, sums,
                                  lambda i, sums: tile(builder.add(begun, i), 1, sums))

        sums = [simd.emit_load(builder, place) for place in places]
        for place, vector in zip(places, simd.emit_loop(builder, given["images"], 1, sums, over_images), strict=True):
            simd.emit_store(builder, vector, place)
        return context.get_dummy_value()

    n = types.intp
    return types.void(R, S, u, n, n, n, n, n, n, n, n, g, n, n, n, n, n, n, sums, n, zeros, n), generate


# --- kernels, for contiguous images ---
@jit
def _correlate(u, u_shape, tile, R, S, down, left, across, w, w_far, w_next, b, v, v_shape, groups, zeros):
    """A tile has len(F) filters of a group, which has a multiple of them, and len(T) steps.

    `down` is (places from one row of outputs to the next, where the first meets u, from tap to tap).
    """
    F, T = tile
    N, C, H, W = u_shape
    _, K, P, Q = v_shape
    step, top, dilation = down
    channels, filters, tiles = C // groups, K // groups, K // len(F)
    for job in prange(N * tiles):
        n, k = job // tiles, job % tiles * len(F)
        group, k_at = k // filters, (n * K + k) * P
        w_at = group * (w.size // groups) + k % filters * w_far
        for p in range(min(P, dilation)):  # rows so far apart are a convolution of their own
            _sums(F, T, R, S, u, (n * C + group * channels) * H * W, channels,
                  H, W, p * step + top, left, dilation, across, w, w_at, w_far, w_next, b, k, v, (k_at + p) * Q, P * Q,
                  dilation * Q, (P - p - 1) // dilation + 1, Q, zeros, 0)


@jit
def _gradient(u, u_shape, R, S, gy, gy_shape, gw, filter_rows, groups, padding, dilation, zeros):
    """`filter_rows` is a multiple of R's length: that many taps have sums at a time."""
    N, C, H, W = u_shape
    _, K, P, Q = gy_shape
    channels, filters, height, width, step = C // groups, K // groups, len(R[0]), len(S[0]), len(R[1])
    for job in prange(K * channels):
        k, c = job // channels, job % channels
        at = (k // filters * channels + c) * H * W
        for r in range(0, filter_rows, height):
            sums = np.zeros(height * width * LANES, np.float32)
            for p in range(min(P, dilation[0])):
                _products(R, S, u, at, C * H * W, H, W,
                          p * step - padding[0] + r * dilation[0], -padding[1], dilation[0], dilation[1], gy,
                          (k * P + p) * Q, K * P * Q, dilation[0] * Q, (P - p - 1) // dilation[0] + 1, Q, N, sums, 0,
                          zeros, 0)
            for t in range(height * width):
                total = np.float32(0)
                for lane in range(LANES):
                    total += sums[t * LANES + lane]
                gw[(job * filter_rows + r) * width + t] = total


# --- what conv.py calls ---
def fits(w, stride, dilation, backward=False):
    """Whether filters of a shape have such tiles: not too many taps, strides of 1 and 2."""
    R, S = w[2:]
    free = stride[:1] if not backward else stride
    return (R * S <= _MOST and max(stride) <= 2
            and all(step == 1 or apart == 1 for step, apart in zip(free, dilation, strict=False)))


def _tile(filters, height, steps=1):
    """Filters and steps of a tile, for so many filters of a group, of this height, and outputs of a step."""
    count = max(count for count in _TILES if filters % count == 0 and (count * height <= _WEIGHTS or count == 1))
    return count, -(-_TILES[count] // steps)


def cost(filters, channels, height, pieces):
    """What one image takes per channel summed over: multiply-adds of whole tiles, beginning and ending them.

    Stride 2 takes twice the loads, and shuffles; in a tile of one filter few multiply-adds share a load.
    """
    (count, rows), total = _tile(filters, height), 0
    for p in pieces:
        _, P, Q = p.outputs
        total += len(p.taps) * p.deal[2] * -(-P // rows) * rows * -(-Q // LANES) * LANES + _BEGIN * P * Q // channels
    return filters * total * (3 if count == 1 else 2) // 2


def correlate(u, w, b, v, stride, padding, dilation, groups, backward):
    """v = b + the convolution of u, or with `backward` v = gx of u = gy, for dense arrays in any layout."""
    numbers, axes, begin = axes_of(w.shape[2:], stride, padding, dilation, backward)
    channels, taps = w.shape[1], prod(w.shape[2:])
    apart = (taps, channels * taps) if backward else (channels * taps, taps)  # filters seen from v, their channels
    target = np.empty(v.shape, v.dtype) if is_pixels(v) else v
    b = np.zeros(v.shape[1], w.dtype) if b is None else b
    tile = _tile(v.shape[1] // groups, w.shape[2], prod(axis.outputs for axis in axes))
    _correlate(as_planes(u).reshape(-1), u.shape, lengths(*tile), *[lengths(*axis) for axis in numbers],
               (1 if backward else stride[0], begin[0], dilation[0]), begin[1], dilation[1], as_planes(w).reshape(-1),
               *apart, b, target.reshape(-1), v.shape, groups, np.zeros(u.shape[3], u.dtype))
    if target is not v:
        from_planes(target, v)


def backward_w(x, gy, gw, stride, padding, dilation, groups):
    R, S = gw.shape[2:]
    target = np.empty(gw.shape, gw.dtype) if is_pixels(gw) else gw
    axes = (R if R * S <= _SUMS else 1, stride[0], 0), (S, stride[1], 0)
    _gradient(as_planes(x).reshape(-1), x.shape, lengths(*axes[0]), lengths(*axes[1]),
              as_planes(gy).reshape(-1), gy.shape, target.reshape(-1), R, groups, padding, dilation,
              np.zeros(x.shape[3], x.dtype))
    if target is not gw:
        from_planes(target, gw)
