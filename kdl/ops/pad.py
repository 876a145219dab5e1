"""pad: a tensor with more elements around it, constant or taken from inside.

Every padded position repeats one position inside, so the gradient of an inner element is that of its place plus those
of the places that repeat it. Dimensions are padded one after the other, in place in the result, and the gradient folds
them back in the opposite order: corners come out right without being treated.
"""
from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, empty, is_channels_last, summed
from kdl.ops.shape import Slice

__all__ = ["pad"]


def pad(input, pad, mode="constant", value=None):
    """The last len(pad) / 2 dimensions lengthened; pad = (left, right) of the last one, then of the one before, ...

    mode: "constant" (filled with `value`, 0 by default), "reflect" (inwards from the edge, without it), "replicate"
    (the edge itself), "circular" (from the other side). Negative numbers cut off elements instead. All but "constant"
    pad the last 1, 2 or 3 dimensions of inputs with one or two dimensions more. Raises TypeError, ValueError.
    """
    shape = array_of("pad", input).shape
    expect(mode in ("constant", *_SOURCES), "pad", "mode 'constant', 'reflect', 'replicate' or 'circular'", mode=mode)
    expect_type(isinstance(pad, (tuple, list)) and all(isinstance(p, int) for p in pad), "pad", "a tuple of ints",
                pad=pad)
    expect(len(pad) % 2 == 0 and len(pad) <= 2 * len(shape), "pad", "2 numbers for each of the last dimensions",
           pad=pad, input=input)
    pairs = [(0, 0)] * (len(shape) - len(pad) // 2) + list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    after = [n + left + right for n, (left, right) in zip(shape, pairs, strict=True)]
    expect(min(after, default=0) >= 0, "pad", "lengths of at least 0 after padding", pad=pad, input=input)
    if mode != "constant":
        _check(mode, value, shape, pairs, after, len(pad) // 2)
    cut = min(pad, default=0) < 0
    if cut and mode in ("constant", "circular"):
        input = _cut(input, pairs)
    grow = [(max(left, 0), max(right, 0)) for left, right in pairs]
    y = PadConstant(grow, value or 0)(input) if mode == "constant" else PadInside(grow, mode)(input)
    return _cut(y, pairs) if cut and mode in ("reflect", "replicate") else y


def _check(mode, value, shape, pairs, after, padded):
    """What the modes that repeat elements from inside need besides. Raises ValueError."""
    facts = {"input": shape, "pad": pairs[-padded:]}
    expect(value is None, "pad", f"no value in mode {mode!r}", value=value)
    expect(padded in (1, 2, 3) and len(shape) - padded in (1, 2), "pad",
           f"1, 2 or 3 padded dimensions behind 1 or 2 others in mode {mode!r}", **facts)
    expect(min(shape[-padded:]) > 0 and min(after[-padded:]) > 0 and 0 not in shape[1:], "pad",
           f"lengths above 0 before and after padding in mode {mode!r}", **facts)
    inside = [n + (min(left, 0) + min(right, 0) if mode == "circular" else 0)
              for n, (left, right) in zip(shape[-padded:], facts["pad"], strict=True)]
    spare = {"reflect": 1, "circular": 0}.get(mode)
    expect(spare is None or all(max(p) <= n - spare for n, p in zip(inside, facts["pad"], strict=True)), "pad",
           f"padding of at most the length{' - 1' if spare else ''} in mode {mode!r}", **facts)


def _cut(input, pairs):
    """Without the elements that negative paddings cut off."""
    lengths = input.array.shape
    return Slice(tuple([slice(max(-left, 0), n - max(-right, 0))
                        for n, (left, right) in zip(lengths, pairs, strict=True)]))(input)


class PadConstant(Function):
    """y = x inside, value outside; gx = gy inside, a view."""

    def __init__(self, pairs, value):
        self.pairs, self.value = pairs, value

    def forward(self, x):
        y = self.frame(x)
        y.fill(self.value)
        y[self.inside] = x
        return y

    def frame(self, x):
        """An uninitialised array of the result's shape in the layout of x; the place of x in it is `inside`."""
        self.shape = x.shape
        self.inside = tuple([slice(left, left + n) for n, (left, _) in zip(x.shape, self.pairs, strict=True)])
        shape = tuple([left + n + right for n, (left, right) in zip(x.shape, self.pairs, strict=True)])
        return empty(self.k, shape, x.dtype, is_channels_last(x))

    def backward(self, gy, wanted):
        return gy[self.inside]


class PadInside(PadConstant):
    """Margins that repeat elements from inside; in the gradient each margin is added to where it came from."""

    def __init__(self, pairs, mode):
        self.pairs, self.mode = pairs, mode

    def forward(self, x):
        y = self.frame(x)
        y[self.inside] = x
        for _, margin, source in self.margins():
            y[margin] = y[source]
        return y

    def margins(self):
        """(dimension, margin, where it comes from) in the order of filling: the dimensions before are whole by then."""
        for dim, (n, (left, right)) in enumerate(zip(self.shape, self.pairs, strict=True)):
            before, behind = (slice(None),) * dim, self.inside[dim + 1:]
            from_left, from_right = _SOURCES[self.mode](left, n, right)
            if left:
                yield dim, (*before, slice(0, left), *behind), (*before, from_left, *behind)
            if right:
                yield dim, (*before, slice(left + n, None), *behind), (*before, from_right, *behind)

    def backward(self, gy, wanted):
        g = gy.copy()
        for dim, margin, source in reversed(list(self.margins())):
            part = g[margin]
            g[source] += summed(part, dim, keepdims=True) if self.mode == "replicate" else part
        return g[self.inside]


def _reflect(left, n, right):
    last = left + n - 2
    return slice(2 * left, left, -1), slice(last, last - right if last >= right else None, -1)


_SOURCES = {  # where the left and the right margin come from, in the padded dimension of n elements inside
    "reflect": _reflect,
    "replicate": lambda left, n, right: (slice(left, left + 1), slice(left + n - 1, left + n)),
    "circular": lambda left, n, right: (slice(n, n + left), slice(left, left + right)),
}
