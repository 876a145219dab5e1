"""The products inside the convolutions and recurrences: tiles of accumulators that stay in registers.

`strip`: a tile is rows x vectors of sums, c[i, j] = sum over k of a[i, k] b[k, j]. For each k the numbers of b are
loaded as vectors, one number of a per row is broadcast, and rows x vectors multiply-adds follow: as many accumulators
as the registers hold beside them. Nothing is copied to get there: tables of offsets say where a row, a step of k and a
place of the result lie, so a row may be a pixel of an image, and k may run over the taps of a filter.

`dots`: a tile is some lines times others, lane by lane: sums of products of numbers that lie side by side in both.
"""
import numpy as np
from numba import types
from numba.extending import intrinsic

from kdl.kernels.cpu import simd
from kdl.kernels.cpu.launch import device_function
from kdl.kernels.cpu.simd import LANES, VECTOR, ZERO, index

_MANY = simd.REGISTERS == 32
ROWS, VECTORS = (12 if _MANY else 6), 2  # the usual tile; 12: as many row addresses as scalar registers hold as well
WIDTH = VECTORS * LANES
WIDEST_ROWS, WIDEST = (ROWS // 2, 2 * WIDTH) if _MANY else (ROWS, WIDTH)
DOTS = (4, 6) if _MANY else (3, 3)  # lines of both kinds


def strip_kernel(rows, vectors=VECTORS, bias_of_rows=False):
    """Compile `strip` for tiles of so many rows; the bias is one number per row, or one per column."""
    tile = _tile(rows, vectors, bias_of_rows)

    @device_function  # so that steps which are constants become part of the instructions: 1.25 times as fast
    def strip(a, a_at, starts, a_taps, a_step, b, b_at, b_taps, b_step, taps, depth, c, c_at, places, begin, end,
              columns, bias, bias_at, add):
        """For rows begin to end: c[c_at + places[i] + j] = (bias, or what stands there if `add`) + the sum over taps
        t < taps and d < depth of a[a_at + starts[i] + a_taps[t] + d a_step] b[b_at + b_taps[t] + d b_step + j].

        The first `columns` columns are stored; b is read for all that a tile has. The tables go on to a multiple of
        the tile's rows, with any offsets inside the arrays.
        """
        for first in range(begin, end, rows):
            tile(a, a_at, starts, a_taps, a_step, b, b_at, b_taps, b_step, taps, depth, c, c_at, places, first,
                 end - first, columns, bias, bias_at, add)
    return strip


def width_for(columns, most=WIDTH):
    """How many columns a panel has: one vector where that is enough for all, else WIDTH, or `most` where that divides.

    WIDEST takes the fewest instructions for a multiply-add.
    """
    return LANES if columns <= LANES else most if columns % most == 0 else WIDTH


def _tile(ROWS, VECTORS, bias_of_rows):
    @intrinsic
    def tile(typing, a, a_at, starts, a_taps, a_step, b, b_at, b_taps, b_step, taps, depth, c, c_at, places, first,
             height, columns, bias, bias_at, add):
        number = types.intp

        def generate(context, builder, signature, args):
            names = ("a", "a_at", "starts", "a_taps", "a_step", "b", "b_at", "b_taps", "b_step", "taps", "depth", "c",
                     "c_at", "places", "first", "height", "columns", "bias", "bias_at", "add")
            given = dict(zip(names, args, strict=True))
            kinds = dict(zip(names, signature.args, strict=True))

            def address(name, at):
                return simd.emit_address(context, builder, kinds[name], given[name], at)

            def entry(name, at):
                return builder.load(address(name, at))

            in_rows = [builder.add(given["first"], index(i)) for i in range(ROWS)]
            rows = [address("a", builder.add(given["a_at"], entry("starts", i))) for i in in_rows]
            targets = [address("c", builder.add(given["c_at"], entry("places", i))) for i in in_rows]
            for target in targets:  # with a bias of rows, rows go on in the next tile
                for part in range(VECTORS if bias_of_rows else 1):
                    at = (VECTORS + part) * LANES if bias_of_rows else 0
                    simd.emit_prefetch(builder, builder.gep(target, [index(at)]), write=True)
            columns_of_b = address("b", given["b_at"])

            def start():
                base = address("bias", given["bias_at"])
                for i in range(ROWS):
                    if bias_of_rows:
                        at = builder.select(builder.icmp_signed("<", index(i), given["height"]), in_rows[i], index(0))
                        yield [simd.emit_broadcast(builder, builder.load(builder.gep(base, [at])))] * VECTORS
                    else:
                        yield [simd.emit_load(builder, builder.gep(base, [index(v * LANES)])) for v in range(VECTORS)]

            def multiply(a_offset, b_address, sums):
                vectors = [simd.emit_load(builder, builder.gep(b_address, [index(v * LANES)])) for v in range(VECTORS)]
                for i in range(ROWS):
                    scalar = builder.load(builder.gep(rows[i], [a_offset]), align=4)
                    wide = simd.emit_broadcast(builder, scalar)
                    for v in range(VECTORS):
                        at = i * VECTORS + v
                        sums[at] = simd.emit_fma(builder, wide, vectors[v], sums[at])
                a_offset = simd.emit_opaque(builder, builder.add(a_offset, given["a_step"]))
                return a_offset, builder.gep(b_address, [given["b_step"]])

            def step(_, carried):
                sums = list(carried[:-2])
                offsets = multiply(*carried[-2:], sums)
                return [*sums, *offsets]

            def over_taps(t, sums):  # not unrolled: the addresses of 12 rows just fit the registers
                begin = entry("a_taps", t), builder.gep(columns_of_b, [entry("b_taps", t)])
                return simd.emit_loop(builder, given["depth"], 1, [*sums, *begin], step)[:-2]

            # --- begin with the bias ---
            before, biased, ready = (builder.basic_block, builder.append_basic_block("bias"),
                                     builder.append_basic_block("ready"))
            builder.cbranch(given["add"], ready, biased)
            builder.position_at_end(biased)
            biases = [vector for row in start() for vector in row]
            builder.branch(ready)
            builder.position_at_end(ready)
            sums = []
            for value in biases:
                phi = builder.phi(VECTOR)
                phi.add_incoming(ZERO, before)
                phi.add_incoming(value, biased)
                sums.append(phi)

            sums = simd.emit_loop(builder, given["taps"], 1, sums, over_taps)

            # --- store what lies inside ---
            def place(i, v):
                return builder.gep(targets[i], [index(v * LANES)])

            lanes = [builder.sub(given["columns"], index(v * LANES)) for v in range(VECTORS)]
            whole = builder.and_(builder.icmp_signed(">=", given["height"], index(ROWS)),
                                 builder.icmp_signed(">=", lanes[-1], index(LANES)))
            with builder.if_else(whole) as (inside, edge):
                with inside, builder.if_else(given["add"]) as (added, stored):
                    with added:
                        for i in range(ROWS):
                            for v in range(VECTORS):
                                here = place(i, v)
                                value = builder.fadd(sums[i * VECTORS + v], simd.emit_load(builder, here))
                                simd.emit_store(builder, value, here)
                    with stored:
                        for i in range(ROWS):
                            for v in range(VECTORS):
                                simd.emit_store(builder, sums[i * VECTORS + v], place(i, v))
                with edge:
                    adding = simd.emit_broadcast(builder, given["add"])
                    masks = [simd.emit_first(builder, count) for count in lanes]
                    for i in range(ROWS):
                        with builder.if_then(builder.icmp_signed("<", index(i), given["height"])):
                            for v in range(VECTORS):
                                here, mask = place(i, v), masks[v]
                                old = simd.emit_load_masked(builder, here, builder.and_(mask, adding))
                                simd.emit_store_masked(builder, builder.fadd(sums[i * VECTORS + v], old), here, mask)
            return context.get_dummy_value()

        return types.void(a, number, starts, a_taps, number, b, number, b_taps, number, number, number, c, number,
                          places, number, number, number, bias, number, types.boolean), generate
    return tile


strip, _narrow_strip = strip_kernel(ROWS), strip_kernel(ROWS, 1)
wide_strip = strip_kernel(WIDEST_ROWS, WIDEST // LANES) if _MANY else strip
strip_of_planes, narrow_strip_of_planes = [  # rows are filters, columns pixels
    strip_kernel(WIDEST_ROWS, width // LANES, bias_of_rows=True) for width in (WIDEST, WIDEST // 2)]


@device_function
def panel_strip(width, a, a_at, starts, a_taps, a_step, b, b_at, b_taps, taps, depth, c, c_at, places, begin, end,
                columns, bias, bias_at, add):
    """`strip` with a panel [k, width] as b, `width` being WIDEST, WIDTH or LANES."""
    a_step, taps, begin, bias_at = np.int64(a_step), np.int64(taps), np.int64(begin), np.int64(bias_at)
    # a bare number would be a type of its own, and every strip would be compiled once more
    if width == LANES:
        _narrow_strip(a, a_at, starts, a_taps, a_step, b, b_at, b_taps, LANES, taps, depth, c, c_at, places, begin, end,
                      columns, bias, bias_at, add)
    elif width == WIDTH:
        strip(a, a_at, starts, a_taps, a_step, b, b_at, b_taps, WIDTH, taps, depth, c, c_at, places, begin, end,
              columns, bias, bias_at, add)
    else:
        wide_strip(a, a_at, starts, a_taps, a_step, b, b_at, b_taps, WIDEST, taps, depth, c, c_at, places, begin, end,
                    columns, bias, bias_at, add)


@intrinsic
def dots(typing, a, a_at, starts, first, height, pitch, b, b_at, far, count, lines, length, sums, sums_at, sums_pitch):
    """sums[i, j] += a line by b line, lane by lane, over `lines` lines of `length` numbers, for i < height, j < count.

    Line l of row i is a[a_at + starts[first + i] + l pitch:], and that of column j is b[b_at + j far + l length:].
    sums[i, j] are LANES floats at sums_at + (i sums_pitch + j) LANES. Rows from `height` on and columns from `count`
    on are the last ones again, and nothing is stored for them.
    """
    columns, rows = DOTS

    def generate(context, builder, signature, args):
        names = ("a", "a_at", "starts", "first", "height", "pitch", "b", "b_at", "far", "count", "lines", "length",
                 "sums", "sums_at", "sums_pitch")
        given, kinds = dict(zip(names, args, strict=True)), dict(zip(names, signature.args, strict=True))

        def address(name, at):
            return simd.emit_address(context, builder, kinds[name], given[name], at)

        def clamped(i, count):
            last = builder.sub(given[count], index(1))
            return builder.select(builder.icmp_signed("<", index(i), given[count]), index(i), last)

        below = [builder.load(address("starts", builder.add(given["first"], clamped(i, "height"))))
                 for i in range(rows)]
        along = [builder.mul(given["far"], clamped(j, "count")) for j in range(columns)]
        places = [address("sums", builder.add(given["sums_at"], builder.mul(index(LANES), builder.add(
            builder.mul(clamped(i, "height"), given["sums_pitch"]), clamped(j, "count")))))
            for i in range(rows) for j in range(columns)]

        def multiply(a_line, b_line, q, sums, load):
            a_line, b_line = builder.gep(a_line, [q]), builder.gep(b_line, [q])
            across = [load(builder.gep(b_line, [at])) for at in along]
            sums = list(sums)
            for i in range(rows):
                down = load(builder.gep(a_line, [below[i]]))
                for j in range(columns):
                    sums[i * columns + j] = simd.emit_fma(builder, down, across[j], sums[i * columns + j])
            return sums

        def over_lines(line, sums):
            a_line = address("a", builder.add(given["a_at"], builder.mul(line, given["pitch"])))
            b_line = address("b", builder.add(given["b_at"], builder.mul(line, given["length"])))
            whole, left = [op(given["length"], index(LANES)) for op in (builder.sdiv, builder.srem)]
            mask = simd.emit_first(builder, left)

            def vector(v, sums):
                return multiply(a_line, b_line, builder.mul(v, index(LANES)), sums,
                                lambda at: simd.emit_load(builder, at))

            def rest(_, sums):
                return multiply(a_line, b_line, builder.mul(whole, index(LANES)), sums,
                                lambda at: simd.emit_load_masked(builder, at, mask))
            sums = simd.emit_loop(builder, whole, 1, sums, vector)
            return simd.emit_loop(builder, left, LANES, sums, rest)

        sums = [simd.emit_load(builder, place) for place in places]
        sums = simd.emit_loop(builder, given["lines"], 1, sums, over_lines)
        for i in reversed(range(rows)):  # the first of equal places is the one that counts
            for j in reversed(range(columns)):
                simd.emit_store(builder, sums[i * columns + j], places[i * columns + j])
        return context.get_dummy_value()

    number = types.intp
    return types.void(a, number, starts, number, number, number, b, number, number, number, number, number, sums,
                      number, number), generate
