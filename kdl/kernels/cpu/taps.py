"""What the taps of a filter meet, for kernels whose vectors are neighbouring outputs of a row (rows.py, sliding.py).

These are written as LLVM instructions: filters of one size and stride have a kernel of their own, in which the taps are
unrolled. Rows are loaded straight from the image, with 0 in lanes outside.
"""
from functools import cache

from llvmlite import ir
from numba import types

from kdl.kernels.cpu import simd
from kdl.kernels.cpu.simd import LANES, index

AHEAD = 1024  # floats: a tile walks along several rows at once, which is more than the machine foresees


def inside_of(builder, at, end):
    """The mask of lanes with 0 <= at + lane < end."""
    at, end = [simd.emit_broadcast(builder, builder.trunc(number, simd.NUMBER)) for number in (at, end)]
    return builder.icmp_unsigned("<", builder.add(at, ir.Constant(at.type, list(range(LANES)))), end)


class Axis:
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
def axes_of(size, stride, padding, dilation, backward):
    """For filters of a size, of both axes (taps, stride, turned), the Axis, and where its first step meets the image.

    The image is the input, or with `backward` the gradient of the output.
    """
    numbers = tuple([(n, step, p % step + 1 if backward else 0)
                     for n, step, p in zip(size, stride, padding, strict=True)])
    axes = tuple([Axis(*axis) for axis in numbers])
    begin = tuple([p // step + axis.low * apart if backward else -p
                   for p, step, apart, axis in zip(padding, stride, dilation, axes, strict=True)])
    return numbers, axes, begin


class Taps:
    """What the taps of two axes meet: of a plane of height and width, of which the first step's first place is
    (top, left)."""

    def __init__(self, builder, given):
        self.builder, self.given = builder, given
        self.axes = self.down, self.along = [Axis(*map(len, given[name])) for name in ("R", "S")]
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
            columns.append([(at, inside_of(builder, at, end)) for at in places])
        return columns

    def line(self, plane, p, j):
        """Where row j of what step p meets begins, or a row of zeros."""
        builder, given = self.builder, self.given
        row = builder.add(builder.mul(p, index(self.down.step)), index(j))
        row = builder.add(given["top"], builder.mul(row, given["down"]))
        inside = builder.icmp_unsigned("<", row, given["height"])
        return builder.select(inside, self._row(plane, row), given["zeros"])

    def vector(self, line, parts):
        """What lies in a line at a place of `columns`."""
        vectors = [simd.emit_load_masked(self.builder, self.builder.gep(line, [at]), mask) for at, mask in parts]
        if len(vectors) == 1:
            return vectors[0]
        return simd.emit_shuffle(self.builder, *vectors, list(range(0, 2 * LANES, 2)))

    def meet(self, plane, p, rows, columns):
        """Yield (vector, [(i, a, b, r, s), ...]): what steps p + i, i < rows, need for output (a, b) at tap (r, s)."""
        lines, step = [], self.down.step
        for j in range((rows - 1) * step + self.down.places):
            served = [(i, a, r) for i in range(rows) for a, r in self.down.leading(j - i * step)]
            lines.append((self.line(plane, p, j), served))
        for place, parts in enumerate(columns):
            for line, served in lines:
                if served:
                    vector = self.vector(line, parts)
                    yield vector, [(i, a, b, r, s) for i, a, r in served for b, s in self.along.leading(place)]
            self.pause()

    def pause(self):
        """No load goes beyond this: the compiler would begin with all of them, and have them wait on the stack."""
        self.builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)

    def outputs(self, plane, p, q, rows):
        """Yield (i, a, row, [(address, mask of what lies inside), ...]) of the rows of a tile of outputs."""
        builder, along = self.builder, self.along.outputs
        begin, masks = builder.mul(q, index(along)), []
        for part in range(along):
            masks.append(inside_of(builder, builder.add(begin, index(part * LANES)), self.given["outputs"]))
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
            simd.emit_prefetch(builder, builder.gep(address, [index(AHEAD + part * LANES)]))

    def _row(self, plane, row):
        return self.builder.gep(plane, [self.builder.mul(row, self.given["width"])])


def arguments(context, builder, signature, args, names):
    """The arguments by name: types of tuples, addresses of what there is a <name>_at for, and numbers."""
    given, kinds = [dict(zip(names, values, strict=True)) for values in (args, signature.args)]
    for name in names:
        if isinstance(kinds[name], types.BaseTuple):
            given[name] = kinds[name]
        elif f"{name}_at" in given:
            given[name] = simd.emit_address(context, builder, kinds[name], given[name], given[f"{name}_at"])
    return given


def zipped(builder, vectors):
    """One or two vectors as what lies in memory where their lanes take turns."""
    if len(vectors) == 1:
        return vectors
    lanes = [lane // 2 + lane % 2 * LANES for lane in range(2 * LANES)]
    return [simd.emit_shuffle(builder, *vectors, half) for half in (lanes[:LANES], lanes[LANES:])]


def lengths(*numbers):
    """Tuples of these lengths: so the compiler knows them."""
    return tuple([(0,) * length for length in numbers])
