"""Convolution in float32 with few channels per group, depthwise above all: a vector is neighbouring outputs of a row.

v[k, p, q] = b[k] + the sum over c, r, s of w[k, c, r, s] u[c, p stride - padding + r dilation, likewise from q and s].
A tile is some filters by some rows of outputs by one vector. Each row that it meets is loaded once per s, straight from
the image and with 0 in lanes outside, and serves all outputs that need it. The gradient of the filters has tiles of the
same kind, with a vector of sums per tap; these stay in registers from the first image to the last.

Filters of one size and stride have a kernel of their own, in which the taps are unrolled.
"""
from functools import cache
from math import prod

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


class _Axis:
    """One axis of the filters, of so many taps: what an output meets, by steps of the loops over outputs.

    A step gives `outputs` outputs and goes `step` places further in the input. A row (output, tap, place) of `met` says
    which of them a tap leads to from a place: in the convolution, tap t from place t to the only one. With `turned`,
    which is the padding's remainder by the stride plus 1, it is the gradient of the input: output a of step j meets gy
    at j + (a + padding - tap) / stride where that is whole, and place 0 is the lowest of these, `low` from j +
    padding // stride.
    """

    def __init__(self, taps, stride, turned):
        if turned:
            self.step, self.outputs = 1, stride
            met = [(a, t, *divmod(a + turned - 1 - t, stride)) for a in range(stride) for t in range(taps)]
            met = [(a, t, place) for a, t, place, rest in met if rest == 0]
        else:
            self.step, self.outputs, met = stride, 1, [(0, t, t) for t in range(taps)]
        self.low = min(place for _, _, place in met)
        self.met = [(a, t, place - self.low) for a, t, place in met]
        self.places = max(place for _, _, place in self.met) + 1

    def leading(self, place):
        return [(a, t) for a, t, from_place in self.met if from_place == place]


@cache
def _lowest(taps, stride, turned):
    return _Axis(taps, stride, turned).low


class _Taps:
    """What the taps of two axes meet: of a plane of height and width, of which the first step's first place is
    (top, left)."""

    def __init__(self, builder, given):
        self.builder, self.given = builder, given
        self.axes = self.down, self.along = [_Axis(*map(len, given[name])) for name in ("R", "S")]
        self.across = [builder.mul(given["across"], index(s)) for s in range(self.along.places)]
        self.steps = [self._steps(given["rows"], self.down), self._steps(given["outputs"], self.along)]
        last = builder.mul(builder.sub(self.steps[1], index(1)), index(self.along.step))
        last = builder.add(given["left"], last)
        self.ends = [self._least(given["width"], builder.add(builder.add(last, offset), index(1)))
                     for offset in self.across]

    def _steps(self, outputs, axis):
        rounded = self.builder.add(outputs, index(axis.outputs - 1))
        return self.builder.sdiv(rounded, index(axis.outputs))

    def _least(self, a, b):
        builder = self.builder
        least = builder.select(builder.icmp_signed("<", a, b), a, b)
        return builder.select(builder.icmp_signed("<", least, index(0)), index(0), least)

    def columns(self, q):
        """For each place along a row, where the vectors for steps q, q + 1, ... begin, and masks of what they need."""
        builder, columns, step = self.builder, [], self.along.step
        begin = builder.add(self.given["left"], builder.mul(q, index(step)))
        for offset, end in zip(self.across, self.ends, strict=True):
            places = [builder.add(builder.add(begin, offset), index(part * LANES)) for part in range(step)]
            columns.append([(at, _inside(builder, at, end)) for at in places])
        return columns

    def meet(self, plane, p, rows, columns):
        """Yield (vector, [(i, a, b, r, s), ...]): what steps p + i, i < rows, need for output (a, b) at tap (r, s)."""
        builder, given, begins, step = self.builder, self.given, [], self.down.step
        for j in range((rows - 1) * step + self.down.places):
            served = [(i, a, r) for i in range(rows) for a, r in self.down.leading(j - i * step)]
            row = builder.add(builder.mul(p, index(step)), index(j))
            row = builder.add(given["top"], builder.mul(row, given["down"]))
            inside = builder.icmp_unsigned("<", row, given["height"])
            begins.append((builder.select(inside, self._row(plane, row), given["zeros"]), served))
        for place, parts in enumerate(columns):
            for begin, served in begins:
                if served:
                    vectors = [simd.emit_load_masked(builder, builder.gep(begin, [at]), mask) for at, mask in parts]
                    if len(vectors) == 2:
                        vectors = [simd.emit_shuffle(builder, *vectors, list(range(0, 2 * LANES, 2)))]
                    yield vectors[0], [(i, a, b, r, s) for i, a, r in served for b, s in self.along.leading(place)]
            # no load goes beyond this: the compiler would begin with all of them, and have them wait on the stack
            builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)

    def outputs(self, plane, p, q, rows):
        """Yield (i, a, row, [(address, mask of what lies inside), ...]) of the rows of a tile of outputs."""
        builder, along = self.builder, self.along.outputs
        begin, masks = builder.mul(q, index(along)), []
        for part in range(along):
            masks.append(_inside(builder, builder.add(begin, index(part * LANES)), self.given["outputs"]))
        for i in range(rows):
            for a in range(self.down.outputs):
                row = builder.add(builder.mul(builder.add(p, index(i)), index(self.down.outputs)), index(a))
                line = builder.gep(plane, [builder.add(builder.mul(row, self.given["pitch"]), begin)])
                yield i, a, row, [(builder.gep(line, [index(part * LANES)]), mask) for part, mask in enumerate(masks)]

    def foresee(self, plane, row, q):
        """Ask for what a row of steps will need soon."""
        builder, (down, right) = self.builder, [index(axis.step) for axis in self.axes]
        address = builder.gep(self._row(plane, builder.mul(row, down)), [builder.mul(q, right)])
        for part in range(self.along.step):
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
def _sums(typing, F, T, R, S, u, u_at, channels, height, width, top, left, down, across, w, w_at, w_far, w_next, b,
          b_at, v, v_at, v_far, pitch, rows, outputs, zeros, zeros_at):
    """v[f, p pitch + q] = b[f] + the sum over c, r, s of w[f, c, r, s] u[c, what tap (r, s) meets of output (p, q)].

    F filters and T steps of a tile are the lengths of tuples, and so are what R and S hold: see _Axis. Step (i, j)
    begins at u[c, top + i step down, left + j step]; filters lie w_far apart in w, their channels w_next.
    """
    names = ("F", "T", "R", "S", "u", "u_at", "channels", "height", "width", "top", "left", "down", "across", "w",
             "w_at", "w_far", "w_next", "b", "b_at", "v", "v_at", "v_far", "pitch", "rows", "outputs", "zeros",
             "zeros_at")

    def generate(context, builder, signature, args):
        given = _given(context, builder, signature, args, names)
        taps = _Taps(builder, given)
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
                            for vector, (target, mask) in zip(_zipped(builder, sums[at:at + B]), targets, strict=True):
                                simd.emit_store_masked(builder, vector, target, mask)
                        for target, _ in targets:
                            simd.emit_prefetch(builder, builder.gep(target, [index(_AHEAD)]), write=True)
                        if f == a == 0:
                            taps.foresee(given["u"], builder.add(p, index(i)), q)
                return []
            return simd.emit_loop(builder, taps.steps[1], LANES, [], over_columns)
        simd.emit_loop(builder, taps.steps[0], steps, [], over_rows)
        return context.get_dummy_value()

    n = types.intp
    return types.void(F, T, R, S, u, n, n, n, n, n, n, n, n, w, n, n, n, b, n, v, n, n, n, n, n, zeros, n), generate


def _zipped(builder, vectors):
    """One or two vectors as what lies in memory where their lanes take turns."""
    if len(vectors) == 1:
        return vectors
    lanes = [lane // 2 + lane % 2 * LANES for lane in range(2 * LANES)]
    return [simd.emit_shuffle(builder, *vectors, half) for half in (lanes[:LANES], lanes[LANES:])]


@intrinsic
def _products(typing, R, S, u, u_at, u_far, height, width, top, left, down, across, g, g_at, g_far, pitch, rows,
              outputs, images, sums, sums_at, zeros, zeros_at):
    """sums[r, s] += the sum over images and outputs of g[p pitch + q] u[what tap (r, s) meets of (p, q)], by lanes.

    R and S are as in _sums, not turned; the images lie u_far and g_far apart.
    """
    names = ("R", "S", "u", "u_at", "u_far", "height", "width", "top", "left", "down", "across", "g", "g_at", "g_far",
             "pitch", "rows", "outputs", "images", "sums", "sums_at", "zeros", "zeros_at")

    def generate(context, builder, signature, args):
        given = _given(context, builder, signature, args, names)
        taps = _Taps(builder, given)
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
                        simd.emit_prefetch(builder, builder.gep(source, [index(_AHEAD)]))
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


def correlate(u, w, b, v, stride, padding, dilation, groups):
    """v = b + the convolution of u, for dense arrays in any layout."""
    taps = prod(w.shape[2:])
    axes = [(n, step, 0) for n, step in zip(w.shape[2:], stride, strict=True)]
    _run(u, w, b, v, axes, stride[0], [-p for p in padding], dilation, (w.shape[1] * taps, taps), groups)


def backward_x(gy, w, gx, stride, padding, dilation, groups):
    taps = prod(w.shape[2:])
    axes = [(n, step, p % step + 1) for n, step, p in zip(w.shape[2:], stride, padding, strict=True)]
    begin = [p // step + _lowest(*axis) * apart
             for p, step, apart, axis in zip(padding, stride, dilation, axes, strict=True)]
    _run(gy, w, None, gx, axes, 1, begin, dilation, (taps, w.shape[1] * taps), groups)


def _run(u, w, b, v, axes, step, begin, dilation, apart, groups):
    """v = b + the sums; `apart` is how far filters lie from each other in w, seen from v, and their channels."""
    target = np.empty(v.shape, v.dtype) if is_pixels(v) else v
    b = np.zeros(v.shape[1], w.dtype) if b is None else b
    tile = _tile(v.shape[1] // groups, w.shape[2], prod([stride for _, stride, turned in axes if turned]))
    _correlate(as_planes(u).reshape(-1), u.shape, _lengths(*tile), _lengths(*axes[0]), _lengths(*axes[1]),
               (step, begin[0], dilation[0]), begin[1], dilation[1], as_planes(w).reshape(-1), *apart, b,
               target.reshape(-1), v.shape, groups, np.zeros(u.shape[3], u.dtype))
    if target is not v:
        from_planes(target, v)


def backward_w(x, gy, gw, stride, padding, dilation, groups):
    R, S = gw.shape[2:]
    target = np.empty(gw.shape, gw.dtype) if is_pixels(gw) else gw
    axes = (R if R * S <= _SUMS else 1, stride[0], 0), (S, stride[1], 0)
    _gradient(as_planes(x).reshape(-1), x.shape, _lengths(*axes[0]), _lengths(*axes[1]),
              as_planes(gy).reshape(-1), gy.shape, target.reshape(-1), R, groups, padding, dilation,
              np.zeros(x.shape[3], x.dtype))
    if target is not gw:
        from_planes(target, gw)


def _lengths(*lengths):
    """Tuples of these lengths: so the compiler knows them."""
    return tuple([(0,) * length for length in lengths])
