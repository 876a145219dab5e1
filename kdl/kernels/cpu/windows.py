"""The windows of pooling as tables for the loops of pool.py: worked out once for every geometry, and kept."""
from functools import cached_property, lru_cache
from math import gcd, prod

import numpy as np

from kdl.kernels.cpu.simd import LANES

_MOST_OUTPUTS = 1 << 10  # of a plane, for which there is a table of pieces


class Plan:
    """What the loops need to know about the windows of one geometry; they are adaptive where kernel_size is None.

    Sizes have three axes, windows one array each: for every output origin, first, last, meaning that its taps
    first <= t < last lie inside the input, at origin + t dilation.
    """

    def __init__(self, size, outputs, kernel_size=None, stride=(), padding=(), dilation=()):
        unit = (1,) * (3 - len(size))
        self.size, self.outputs = unit + tuple(size), unit + tuple(outputs)
        self.stride, self.dilation = _three(stride, 1), _three(dilation, 1)
        self.padding = _three(padding, 0)
        self.kernel = (0, 0, 0) if kernel_size is None else _three(kernel_size, 1)
        self.windows = [_windows(*axis) for axis in zip(
            self.outputs, self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)]

    @cached_property
    def fits(self):
        """Whether all windows lie inside the input as a whole."""
        axes = zip(self.windows, self.kernel, self.dilation, self.size, strict=True)
        return all(window[0, 0] >= 0 and window[-1, 0] + (taps - 1) * step < size for window, taps, step, size in axes)

    @cached_property
    def tiles(self):
        """Whether every place of the input lies in exactly one window."""
        return all(len(window) and window[0, 0] == 0 and window[-1, 0] + window[-1, 2] == size
                   and not window[:, 1].any() and (window[1:, 0] == window[:-1, 0] + window[:-1, 2]).all()
                   for window, size in zip(self.windows, self.size, strict=True))

    @cached_property
    def halves(self):
        """Whether windows two or three wide take two steps at a time, without dilation."""
        return (self.kernel[2] in (2, 3) and self.dilation == (1, 1, 1)
                and (self.stride[2] == 2 or self.outputs[2] == 1))

    @cached_property
    def parts(self):
        """Whether all windows lie inside the input as a whole, and none meets another."""
        return self.fits and all((window[1:, 0] >= window[:-1, 0] + taps).all()
                                 for window, taps in zip(self.windows, self.kernel, strict=True))

    @cached_property
    def whole(self):
        """Whether the input is the only window, so that a place is its tap."""
        return self.outputs == (1, 1, 1) and self.tiles and self.kernel in ((0, 0, 0), self.size)

    @cached_property
    def rows(self):
        """For every line of outputs: where in a volume the rows of its windows start, ended by -1, and their first taps
        (in float32)."""
        (E, P, _), (K, R, S), (_, H, W) = self.outputs, self.kernel, self.size
        starts, names = np.full((E, P, K * R + 1), -1), np.zeros((E, P, K * R + 1), np.float32)
        for e, (z, front, back) in enumerate(self.windows[0]):
            for p, (h, top, bottom) in enumerate(self.windows[1]):
                inside = [(k, r) for k in range(front, back) for r in range(top, bottom)]
                starts[e, p, :len(inside)] = [((z + k) * H + h + r) * W for k, r in inside]
                names[e, p, :len(inside)] = [(k * R + r) * S for k, r in inside]
        return starts.reshape(E * P, -1), names.reshape(E * P, -1)

    @cached_property
    def edges(self):
        """For every LANES outputs of a row that is halved, as bits: which lanes lie inside the row, of the vectors that
        start with the first window, LANES further on, and two further than these; and which outputs lack tap 0."""
        width, lanes = self.windows[2][::LANES], np.arange(LANES)
        places = width[:, :1, None] + np.array([[0], [LANES], [2], [2 + LANES]]) + lanes
        bits = (((places >= 0) & (places < self.size[2])) << lanes).sum(2)
        return np.concatenate([bits, width[:, 1:2]], 1).astype(np.uint32)  # only the very first output can lack it

    @cached_property
    def short(self):
        """Whether windows two wide halve rows of so few outputs that a vector takes several, inside as a whole."""
        return (self.halves and self.kernel[2] == 2 and self.fits and 2 * self.outputs[2] <= LANES
                and 0 < prod(self.outputs) <= _MOST_OUTPUTS)

    @cached_property
    def pieces(self):
        """For the vectors of outputs of some planes, which end with a plane: the pieces of the LANES elements under the
        first half of their windows and under the second. A piece is where its lane 0 would lie, relative to a row of
        the windows, and its lanes, as bits; the last has none. Then how many planes, and the rows of a window."""
        (K, R, _), (_, H, W), each = self.kernel, self.size, prod(self.outputs)
        together = LANES // gcd(LANES, each)
        z, h, w = [window[:, 0] for window in self.windows]
        outputs = ((z[:, None, None] * H + h[:, None]) * W + w).reshape(1, -1, 1)
        planes = (np.arange(together) * prod(self.size))[:, None, None]
        lanes = (planes + outputs + np.arange(2)).reshape(-1, 2, LANES) - np.arange(LANES)
        found = [[[(int(start), sum(1 << int(lane) for lane in np.flatnonzero(half == start)))
                   for start in np.unique(half)] for half in vector] for vector in lanes]
        pieces = np.zeros((len(found), 2, 1 + max(len(half) for vector in found for half in vector), 2), np.int64)
        for vector, halves in zip(pieces, found, strict=True):
            for half, places in zip(vector, halves, strict=True):
                half[:len(places)] = places
        k, r = np.arange(K)[:, None], np.arange(R)
        return pieces, together, ((k * H + r) * W).ravel()

    @cached_property
    def offsets(self):
        """How far every tap lies from the origin of its window, in a flat volume."""
        k, r, s = [np.arange(taps) * step for taps, step in zip(self.kernel, self.dilation, strict=True)]
        return ((k[:, None, None] * self.size[1] + r[:, None]) * self.size[2] + s).ravel()

    @cached_property
    def cells(self):
        """The shape of the cells; one row more than windows reach, for the lines that end in the last columns."""
        reach = [(taps - 1) * step for taps, step in zip(self.kernel, self.dilation, strict=True)]
        (_, P, Q), (_, sh, sw) = self.outputs, self.stride
        return self.size[0], sh, sw, P + reach[1] // sh + 1, Q + reach[2] // sw

    @cached_property
    def starts(self):
        """Where the line of tap (r, s) starts in the cells of one depth."""
        _, sh, sw, rows, columns = self.cells
        h, w = [np.arange(taps) * step for taps, step in zip(self.kernel[1:], self.dilation[1:], strict=True)]
        h = h[:, None]
        return ((h % sh * sw + w % sw) * rows + h // sh) * columns + w // sw


plan_of = lru_cache(maxsize=256)(Plan)


def _three(values, unit):
    return (unit,) * (3 - len(values)) + tuple(values)


def _windows(outputs, size, kernel, stride, padding, dilation):
    o = np.arange(outputs)
    if kernel == 0:
        origin, first = o * size // outputs, np.zeros_like(o)
        last = -(-(o + 1) * size // outputs) - origin
    else:
        origin = o * stride - padding
        first = np.maximum(0, -(origin // dilation))
        last = np.minimum(kernel, (size - 1 - origin) // dilation + 1)
    return np.stack([origin, first, last], 1)


@lru_cache(maxsize=256)
def shares_of(plan, count_include_pad, divisor_override, dtype):
    """For each axis, every output's factor of 1 / divisor; the last has a vector of zeros behind it."""
    if divisor_override:
        counts = [np.ones(outputs) for outputs in plan.outputs]
        counts[0] *= divisor_override
    elif count_include_pad:
        counts = [np.minimum(kernel, size + padding - window[:, 0]) for window, kernel, size, padding in zip(
            plan.windows, plan.kernel, plan.size, plan.padding, strict=True)]
    else:
        counts = [window[:, 2] - window[:, 1] for window in plan.windows]
    d, h, w = [(1 / count).astype(dtype) for count in counts]
    return d, h, np.pad(w, (0, LANES))
