"""The matrix product inside the convolutions: tiles of accumulators that stay in registers.

A tile is ROWS x WIDTH sums, c[i, j] = sum over k of a[i, k] b[k, j]. For each k the WIDTH numbers of b are loaded as
VECTORS vectors, one number of a per row is broadcast, and ROWS x VECTORS multiply-adds follow: as many accumulators as
the registers hold beside them. Nothing is copied to get there: tables of offsets say where a row, a step of k and a
place of the result lie, so a row may be a pixel of an image, and k may run over the taps of a filter.
"""
from numba import types
from numba.extending import intrinsic

from kdl.kernels.cpu import simd
from kdl.kernels.cpu.launch import jit
from kdl.kernels.cpu.simd import LANES, VECTOR, ZERO, index

ROWS, VECTORS = (12 if simd.REGISTERS == 32 else 6), 2  # 12: as many row addresses as scalar registers hold as well
WIDTH = VECTORS * LANES


def strip_kernel(rows, bias_of_rows):
    """Compile `strip` for tiles of so many rows; the bias is one number per row, or one per column."""
    tile = _tile(rows, bias_of_rows)

    @jit(parallel=False)
    def strip(a, a_at, starts, a_taps, a_step, b, b_at, b_taps, b_step, b_spread, taps, depth, c, c_at, places,
              c_spread, begin, end, columns, overlap, bias, bias_at, add):
        """For rows begin to end: c[c_at + places[i] + j] = (bias, or what stands there if `add`) + the sum over taps
        t < taps and d < depth of a[a_at + starts[i] + a_taps[t] + d a_step] b[b_at + b_taps[t] + d b_step + j].

        Vector v of the columns lies v b_spread further in b and v c_spread further in c. The first `columns` columns
        are stored, where vectors lie side by side; with `overlap` that many of each vector. The tables go on to a
        multiple of the tile's rows, with any offsets inside the arrays.
        """
        for first in range(begin, end, rows):
            tile(a, a_at, starts, a_taps, a_step, b, b_at, b_taps, b_step, b_spread, taps, depth, c, c_at, places,
                 c_spread, first, end - first, columns, overlap, bias, bias_at, add)
    return strip


def _tile(ROWS, bias_of_rows):
    @intrinsic
    def tile(typing, a, a_at, starts, a_taps, a_step, b, b_at, b_taps, b_step, b_spread, taps, depth, c, c_at, places,
             c_spread, first, height, columns, overlap, bias, bias_at, add):
        number = types.intp

        def generate(context, builder, signature, args):
            names = ("a", "a_at", "starts", "a_taps", "a_step", "b", "b_at", "b_taps", "b_step", "b_spread", "taps",
                     "depth", "c", "c_at", "places", "c_spread", "first", "height", "columns", "overlap", "bias",
                     "bias_at", "add")
            given = dict(zip(names, args, strict=True))
            kinds = dict(zip(names, signature.args, strict=True))

            def address(name, at):
                return simd.emit_address(context, builder, kinds[name], given[name], at)

            def entry(name, at):
                return builder.load(address(name, at))

            in_rows = [builder.add(given["first"], index(i)) for i in range(ROWS)]
            rows = [address("a", builder.add(given["a_at"], entry("starts", i))) for i in in_rows]
            targets = [address("c", builder.add(given["c_at"], entry("places", i))) for i in in_rows]
            for target in targets:
                simd.emit_prefetch(builder, target, write=True)
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
                vectors = [simd.emit_load(builder, builder.gep(b_address, [builder.mul(given["b_spread"], index(v))]))
                           for v in range(VECTORS)]
                for i in range(ROWS):
                    scalar = builder.load(builder.gep(rows[i], [a_offset]), align=4)
                    wide = simd.emit_broadcast(builder, scalar)
                    for v in range(VECTORS):
                        at = i * VECTORS + v
                        sums[at] = simd.emit_fma(builder, wide, vectors[v], sums[at])
                a_offset = simd.emit_opaque(builder, builder.add(a_offset, given["a_step"]))
                return a_offset, builder.gep(b_address, [given["b_step"]])

            def steps(count, unrolled, carried):
                def body(_, carried):
                    sums, a_offset, b_address = list(carried[:-2]), *carried[-2:]
                    for _ in range(unrolled):
                        a_offset, b_address = multiply(a_offset, b_address, sums)
                    return [*sums, a_offset, b_address]
                return simd.emit_loop(builder, count, 1, carried, body)

            def over_taps(t, sums):
                carried = [*sums, entry("a_taps", t), builder.gep(columns_of_b, [entry("b_taps", t)])]
                carried = steps(builder.sdiv(given["depth"], index(4)), 4, carried)
                carried = steps(builder.srem(given["depth"], index(4)), 1, carried)
                return carried[:-2]

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
                return builder.gep(targets[i], [builder.mul(given["c_spread"], index(v))])

            lanes = [builder.sub(given["columns"], builder.select(given["overlap"], index(0), index(v * LANES)))
                     for v in range(VECTORS)]
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

        return types.void(a, number, starts, a_taps, number, b, number, b_taps, number, number, number, number, c,
                          number, places, number, number, number, number, types.boolean, bias, number,
                          types.boolean), generate
    return tile
