"""Convolution in float32 with few channels per group, depthwise above all: a vector is neighbouring outputs of a row.

v[k, p, q] = b[k] + the sum over c, r, s of w[k, c, r, s] u[c, p stride - padding + r dilation, likewise from q and s].
A tile is some filters by some rows of outputs by one vector. Each row that it meets is loaded once per s, straight from
the image and with 0 in lanes outside, and serves all outputs that need it. The gradient of the filters has tiles of the
same kind, with a vector of sums per tap; these stay in registers from the first image to the last.

Filters of one size and stride have a kernel of their own, in which the taps are unrolled.
"""
from functools import cache

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kdl.kernels.cpu import simd
from kdl.kernels.cpu.launch import jit, prange
from kdl.kernels.cpu.layouts import as_planes, from_planes, is_pixels
from kdl.kernels.cpu.simd import LANES, index

# By filters of a tile, its rows of outputs: as many sums at least as multiply-adds are under way
_TILES = {4: 3, 3: 4, 2: 5, 1: 7} if simd.REGISTERS == 32 else {1: 7}
_WEIGHTS = 14  # that a tile has of each s: beside the sums they stay in registers
_PRODUCT_ROWS = 4  # beside the sums of 25 taps
_MOST = 49  # taps, unrolled
_SUMS = 25  # taps that the gradient of the filters has sums for at a time
_BEGIN = 18  # multiply-adds that take as long as the rest of an output
_AHEAD = 1024  # floats: a tile walks along several rows at once, which is more than the machine foresees


# --- tiles, inside an intrinsic ---
def _inside(builder, at, end):
    """The mask of lanes with 0 <= at + lane < end."""
    at, end = [simd.emit_broadcast(builder, builder.trunc(number, simd.NUMBER)) for number in (at, end)]
    return builder.icmp_unsigned("<", builder.add(at, ir.Constant(at.type, list(range(LANES)))), end)


class _Taps:
    """What R x S taps meet, for outputs one stride apart: of a plane of height and width, of which the first output's
    first tap meets (top, left)."""

    def __init__(self, builder, given):
        self.builder, self.given = builder, given
        self.R, self.S, *self.stride = [len(given[name]) for name in "RSPQ"]
        self.across = [builder.mul(given["across"], index(s)) for s in range(self.S)]
        last = builder.mul(builder.sub(given["outputs"], index(1)), index(self.stride[1]))
        last = builder.add(given["left"], last)
        self.ends = [self._least(given["width"], builder.add(builder.add(last, offset), index(1)))
                     for offset in self.across]

    def _least(self, a, b):
        builder = self.builder
        least = builder.select(builder.icmp_signed("<", a, b), a, b)
        return builder.select(builder.icmp_signed("<", least, index(0)), index(0), least)

    def columns(self, q):
        """For each s, where the vectors for outputs q, q + 1, ... begin, and masks of what they need of each."""
        builder, columns = self.builder, []
        begin = builder.add(self.given["left"], builder.mul(q, index(self.stride[1])))
        for offset, end in zip(self.across, self.ends, strict=True):
            places = [builder.add(builder.add(begin, offset), index(part * LANES)) for part in range(self.stride[1])]
            columns.append([(at, _inside(builder, at, end)) for at in places])
        return columns

    def meet(self, plane, p, rows, columns):
        """Yield (vector, s, [(i, r), ...]): what the rows p + i of outputs, i < rows, need at the taps (r, s)."""
        builder, given, begins = self.builder, self.given, []
        for j in range((rows - 1) * self.stride[0] + self.R):
            served = [(i, j - i * self.stride[0]) for i in range(rows) if 0 <= j - i * self.stride[0] < self.R]
            row = builder.add(builder.mul(p, index(self.stride[0])), index(j))
            row = builder.add(given["top"], builder.mul(row, given["down"]))
            inside = builder.icmp_unsigned("<", row, given["height"])
            begins.append((builder.select(inside, self._row(plane, row), given["zeros"]), served))
        for s, parts in enumerate(columns):
            for begin, served in begins:
                if served:
                    vectors = [simd.emit_load_masked(builder, builder.gep(begin, [at]), mask) for at, mask in parts]
                    if len(vectors) == 2:
                        vectors = [simd.emit_shuffle(builder, *vectors, list(range(0, 2 * LANES, 2)))]
                    yield vectors[0], s, served
            # no load goes beyond this: the compiler would begin with all of them, and have them wait on the stack
            builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)

    def outputs(self, plane, p, q, rows):
        """Yield (row, address, mask of what lies inside) of the rows of a tile of outputs."""
        builder = self.builder
        lanes = _inside(builder, index(0), builder.sub(self.given["outputs"], q))
        for i in range(rows):
            row = builder.add(p, index(i))
            yield row, builder.gep(plane, [builder.add(builder.mul(row, self.given["pitch"]), q)]), lanes

    def foresee(self, plane, row, q):
        """Ask for what a row of outputs will need soon."""
        builder, (down, right) = self.builder, [index(stride) for stride in self.stride]
        address = builder.gep(self._row(plane, builder.mul(row, down)), [builder.mul(q, right)])
        for part in range(self.stride[1]):
            simd.emit_prefetch(builder, builder.gep(address, [index(_AHEAD + part * LANES)]))

    def _row(self, plane, row):
        return self.builder.gep(plane, [self.builder.mul(row, self.given["width"])])


def _given(context, builder, signature, args, names):
    """The arguments by name: types of tuples, addresses of what there is a <name>_at for, and numbers."""
    given, kinds = [dict(zip(names, values, strict=True)) for values in (args, signature.args)]
    for name in names:
        if isinstance(kinds[name], types.BaseTuple):
            given[name] = kinds[name]
        elif f"{name}_at" in given:
            given[name] = simd.emit_address(context, builder, kinds[name], given[name], given[f"{name}_at"])
    return given


@intrinsic
def _sums(typing, F, T, R, S, P, Q, u, u_at, channels, height, width, top, left, down, across, w, w_at, b, b_at, v,
          v_at, v_far, pitch, rows, outputs, zeros, zeros_at):
    """v[f, p pitch + q] = b[f] + the sum over c, r, s of w[f, c, r, s] u[c, top + p stride + r down, likewise].

    F filters and T rows of a tile, R, S and the two strides P and Q are the lengths of tuples.
    """
    names = ("F", "T", "R", "S", "P", "Q", "u", "u_at", "channels", "height", "width", "top", "left", "down", "across",
             "w", "w_at", "b", "b_at", "v", "v_at", "v_far", "pitch", "rows", "outputs", "zeros", "zeros_at")

    def generate(context, builder, signature, args):
        given = _given(context, builder, signature, args, names)
        taps = _Taps(builder, given)
        filters, rows, size = range(len(F)), len(T), taps.R * taps.S
        biases = [simd.emit_broadcast(builder, builder.load(builder.gep(given["b"], [index(f)]))) for f in filters]
        far, filter_far = builder.mul(given["height"], given["width"]), builder.mul(given["channels"], index(size))

        def over_rows(p, _):
            def over_columns(q, _):
                columns = taps.columns(q)

                def over_channels(c, sums):
                    sums = list(sums)
                    plane = builder.gep(given["u"], [builder.mul(c, far)])
                    filters_at = [builder.add(builder.mul(filter_far, index(f)), builder.mul(c, index(size)))
                                  for f in filters]

                    @cache
                    def weight(f, r, s):  # loaded when first met, since the registers do not hold all
                        at = builder.add(filters_at[f], index(r * taps.S + s))
                        return simd.emit_broadcast(builder, builder.load(builder.gep(given["w"], [at])))

                    for vector, s, served in taps.meet(plane, p, rows, columns):
                        for i, r in served:
                            for f in filters:
                                at = f * rows + i
                                sums[at] = simd.emit_fma(builder, vector, weight(f, r, s), sums[at])
                    return sums

                sums = [bias for bias in biases for _ in range(rows)]
                sums = simd.emit_loop(builder, given["channels"], 1, sums, over_channels)
                for f in filters:
                    out = builder.gep(given["v"], [builder.mul(given["v_far"], index(f))])
                    for i, (row, target, lanes) in enumerate(taps.outputs(out, p, q, rows)):
                        with builder.if_then(builder.icmp_signed("<", row, given["rows"]), likely=True):
                            simd.emit_store_masked(builder, sums[f * rows + i], target, lanes)
                        simd.emit_prefetch(builder, builder.gep(target, [index(_AHEAD)]), write=True)
                        if f == 0:
                            taps.foresee(given["u"], row, q)
                return []
            return simd.emit_loop(builder, given["outputs"], LANES, [], over_columns)
        simd.emit_loop(builder, given["rows"], len(T), [], over_rows)
        return context.get_dummy_value()

    n = types.intp
    return types.void(F, T, R, S, P, Q, u, n, n, n, n, n, n, n, n, w, n, b, n, v, n, n, n, n, n, zeros, n), generate


@intrinsic
def _products(typing, R, S, P, Q, u, u_at, u_far, height, width, top, left, down, across, g, g_at, g_far, pitch, rows,
              outputs, images, sums, sums_at, zeros, zeros_at):
    """sums[r, s] += the sum over images and outputs of g[p pitch + q] u[top + p stride + r down, likewise], by lanes.

    R, S and the two strides P and Q are the lengths of tuples; the images lie u_far and g_far apart.
    """
    names = ("R", "S", "P", "Q", "u", "u_at", "u_far", "height", "width", "top", "left", "down", "across", "g", "g_at",
             "g_far", "pitch", "rows", "outputs", "images", "sums", "sums_at", "zeros", "zeros_at")

    def generate(context, builder, signature, args):
        given = _given(context, builder, signature, args, names)
        taps = _Taps(builder, given)
        places = [builder.gep(given["sums"], [index(t * LANES)]) for t in range(taps.R * taps.S)]

        def over_images(n, sums):
            plane = builder.gep(given["u"], [builder.mul(n, given["u_far"])])
            gradient = builder.gep(given["g"], [builder.mul(n, given["g_far"])])

            def tile(p, rows, sums):
                def over_columns(q, sums):
                    sums, vectors = list(sums), []
                    for row, source, lanes in taps.outputs(gradient, p, q, rows):
                        vectors.append(simd.emit_load_masked(builder, source, lanes))
                        simd.emit_prefetch(builder, builder.gep(source, [index(_AHEAD)]))
                        taps.foresee(plane, row, q)
                    for vector, s, served in taps.meet(plane, p, rows, taps.columns(q)):
                        for i, r in served:
                            sums[r * taps.S + s] = simd.emit_fma(builder, vector, vectors[i], sums[r * taps.S + s])
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
    return types.void(R, S, P, Q, u, n, n, n, n, n, n, n, n, g, n, n, n, n, n, n, sums, n, zeros, n), generate


# --- kernels, for contiguous images ---
@jit
def _correlate(u, u_shape, F, T, R, S, down, across, w, b, v, v_shape, groups, padding, dilation, zeros):
    """A tile has len(F) filters of a group, which has a multiple of them, and len(T) rows."""
    N, C, H, W = u_shape
    _, K, P, Q = v_shape
    channels, filters, tiles = C // groups, K // groups, K // len(F)
    for job in prange(N * tiles):
        n, k = job // tiles, job % tiles * len(F)
        at = (n * C + k // filters * channels) * H * W
        for p in range(min(P, dilation[0])):  # rows so far apart are a convolution of their own
            _sums(F, T, R, S, down, across, u, at, channels, H, W, p * len(down) - padding[0], -padding[1], dilation[0],
                  dilation[1], w, k * channels * len(R) * len(S), b, k, v, ((n * K + k) * P + p) * Q, P * Q,
                  dilation[0] * Q, (P - p - 1) // dilation[0] + 1, Q, zeros, 0)


@jit
def _gradient(u, u_shape, R, S, down, across, gy, gy_shape, gw, filter_rows, groups, padding, dilation, zeros):
    """`filter_rows` is a multiple of R: that many taps have sums at a time."""
    N, C, H, W = u_shape
    _, K, P, Q = gy_shape
    channels, filters = C // groups, K // groups
    for job in prange(K * channels):
        k, c = job // channels, job % channels
        at = (k // filters * channels + c) * H * W
        for r in range(0, filter_rows, len(R)):
            sums = np.zeros(len(R) * len(S) * LANES, np.float32)
            for p in range(min(P, dilation[0])):
                _products(R, S, down, across, u, at, C * H * W, H, W, p * len(down) - padding[0] + r * dilation[0],
                          -padding[1], dilation[0], dilation[1], gy, (k * P + p) * Q, K * P * Q, dilation[0] * Q,
                          (P - p - 1) // dilation[0] + 1, Q, N, sums, 0, zeros, 0)
            for t in range(len(R) * len(S)):
                total = np.float32(0)
                for lane in range(LANES):
                    total += sums[t * LANES + lane]
                gw[(job * filter_rows + r) * len(S) + t] = total


# --- what conv.py calls ---
def fits(w, stride, dilation):
    """Whether filters w have such tiles: in float32 and two dimensions, not too many taps, strides of 1 and 2."""
    if w.ndim != 4 or w.dtype != np.float32:
        return False
    R, S = w.shape[2:]
    return R * S <= _MOST and max(stride) <= 2 and (stride[0] == 1 or dilation[0] == 1)


def _tile(filters, height):
    """Filters and rows of outputs of a tile, for so many filters of a group, of this height."""
    count = max(count for count in _TILES if filters % count == 0 and (count * height <= _WEIGHTS or count == 1))
    return count, _TILES[count]


def cost(filters, channels, height, pieces):
    """What one image takes per channel summed over: multiply-adds of whole tiles, beginning and ending them.

    Stride 2 takes twice the loads, and shuffles.
    """
    rows, total = _tile(filters, height)[1], 0
    for p in pieces:
        _, P, Q = p.outputs
        total += len(p.taps) * p.deal[2] * -(-P // rows) * rows * -(-Q // LANES) * LANES + _BEGIN * P * Q // channels
    return filters * total


def correlate(u, w, b, v, stride, padding, dilation, groups):
    """v = b + the convolution of u, for dense arrays in any layout."""
    target = np.empty(v.shape, v.dtype) if is_pixels(v) else v
    b = np.zeros(len(w), w.dtype) if b is None else b
    tile = _tile(len(w) // groups, w.shape[2])
    _correlate(as_planes(u).reshape(-1), u.shape, *_lengths(*tile, *w.shape[2:], *stride), as_planes(w).reshape(-1), b,
               target.reshape(-1), v.shape, groups, padding, dilation, np.zeros(u.shape[3], u.dtype))
    if target is not v:
        from_planes(target, v)


def backward_x(gy, w, gx, padding, dilation, groups):
    """gx for stride 1: the convolution of gy with filters turned round."""
    turned = as_planes(w).reshape(groups, -1, *w.shape[1:]).swapaxes(1, 2)[..., ::-1, ::-1]
    padding = tuple([d * (n - 1) - p for d, n, p in zip(dilation, w.shape[2:], padding, strict=True)])
    correlate(gy, np.ascontiguousarray(turned).reshape(gx.shape[1], -1, *w.shape[2:]), None, gx, (1, 1), padding,
              dilation, groups)


def backward_w(x, gy, gw, stride, padding, dilation, groups):
    R, S = gw.shape[2:]
    target = np.empty(gw.shape, gw.dtype) if is_pixels(gw) else gw
    _gradient(as_planes(x).reshape(-1), x.shape, *_lengths(R if R * S <= _SUMS else 1, S, *stride),
              as_planes(gy).reshape(-1), gy.shape, target.reshape(-1), R, groups, padding, dilation,
              np.zeros(x.shape[3], x.dtype))
    if target is not gw:
        from_planes(target, gw)


def _lengths(*lengths):
    """Tuples of these lengths: so the compiler knows them."""
    return [(0,) * length for length in lengths]
