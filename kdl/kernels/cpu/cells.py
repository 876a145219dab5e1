"""How the loops of conv.py and direct.py see the input: as cells, padded with zeros, a volume per phase of the stride.

There every tap (one place of the filter) meets all outputs at neighbouring cells. The gradient of the input can be had
as the same sum of shifted cells with the roles exchanged, the cells holding gy, once for each phase of the stride: the
filter's taps with (tap dilation) % stride == phase lead from gy to the inputs of that phase, and no others do.
"""
from functools import lru_cache
from itertools import product

import numpy as np

from kdl.kernels.cpu.launch import device_function


class Piece:
    """Outputs that one sum gives: those of a convolution, or of a phase of its gradient.

    Three axes each: `outputs` is their number, output o stands at `first` + o `step`. Input i lies in cell
    (i + margin) // deal of phase (i + margin) % deal. A row (phase, z, y, x) of `taps` is the cell that a tap meets of
    the first output, of `met` (z, y, x) the input there; `order` says which taps of the flat filter they are. `reach`
    is the largest z, y, x.
    """

    def __init__(self, filter_size, axes):
        self.outputs, self.first, self.step, self.deal, self.margin, taps = zip(*axes, strict=True)
        self.reach = tuple([max([at for _, _, at in axis], default=0) for axis in taps])
        order, cells = [], []
        for tap in product(*taps):
            order.append(np.ravel_multi_index([t for t, _, _ in tap], filter_size))
            cells.append((np.ravel_multi_index([phase for _, phase, _ in tap], self.deal), *[at for _, _, at in tap]))
        self.order, self.taps = np.array(order, np.int64), np.array(cells, np.int64).reshape(-1, 4)
        phases = np.stack(np.unravel_index(self.taps[:, 0], self.deal), 1)
        self.met = self.taps[:, 1:] * self.deal + phases - self.margin


def _forward_axis(size, taps, outputs, stride, padding, dilation):
    reached = [(t, t * dilation % stride, t * dilation // stride) for t in range(taps)]
    return outputs, 0, 1, stride, padding, reached


def _backward_axis(phase, size, taps, outputs, stride, padding, dilation):
    """The inputs i with (i + padding) % stride == phase; the first meets output m = (i + padding) // stride - at."""
    first = (phase - padding) % stride
    taps = [(t, t * dilation // stride) for t in range(taps) if t * dilation % stride == phase]
    reach = max([at for _, at in taps], default=0)
    return (len(range(first, size, stride)), first, stride, 1, reach - (first + padding) // stride,
            [(t, 0, reach - at) for t, at in taps])


@lru_cache(maxsize=256)
def forward_piece(*axes):
    """The piece of a convolution, for three axes of (size, taps, outputs, stride, padding, dilation)."""
    return Piece([taps for _, taps, *_ in axes], [_forward_axis(*axis) for axis in axes])


@lru_cache(maxsize=256)
def backward_pieces(*axes):
    """The pieces of its gradient by the input, those without outputs left out."""
    pieces = []
    for phase in product(*[range(stride) for _, _, _, stride, _, _ in axes]):
        inputs = [_backward_axis(a, *axis) for a, axis in zip(phase, axes, strict=True)]
        pieces.append(Piece([taps for _, taps, *_ in axes], inputs))
    return [piece for piece in pieces if 0 not in piece.outputs]


# --- in the loops ---
@device_function
def _starts(taps, cells, starts):
    """Where the line of each tap begins in cells (phases, z, y, x), flat."""
    for t in range(starts.size):
        starts[t] = ((taps[t, 0] * cells[0] + taps[t, 1]) * cells[1] + taps[t, 2]) * cells[2] + taps[t, 3]


@device_function
def _deal(volume, room, deal, margin, cells):
    """Put the elements of a volume into their cells, in room that is otherwise 0."""
    for d in range(max(0, -margin[0]), min(volume.shape[0], cells[0] * deal[0] - margin[0])):
        z, a = (d + margin[0]) // deal[0], (d + margin[0]) % deal[0]
        for h in range(max(0, -margin[1]), min(volume.shape[1], cells[1] * deal[1] - margin[1])):
            y, b = (h + margin[1]) // deal[1], (h + margin[1]) % deal[1]
            line = volume[d, h]
            for c in range(deal[2]):
                first = max((c - margin[2]) % deal[2], c - margin[2])
                x = (first + margin[2]) // deal[2]
                count = min((line.size - 1 - first) // deal[2] + 1, cells[2] - x)
                at = ((((a * deal[1] + b) * deal[2] + c) * cells[0] + z) * cells[1] + y) * cells[2] + x
                source, target = line[first:], room[at:]
                if deal[2] == 1:
                    for i in range(count):
                        target[i] = source[i]
                elif deal[2] == 2:
                    for i in range(count):
                        target[i] = source[2 * i]
                else:
                    for i in range(count):
                        target[i] = source[i * deal[2]]


@device_function
def _collect(room, volume, deal, margin, cells):
    """The adjoint of `_deal`: add the cells to the elements of a volume."""
    for d in range(max(0, -margin[0]), min(volume.shape[0], cells[0] * deal[0] - margin[0])):
        z, a = (d + margin[0]) // deal[0], (d + margin[0]) % deal[0]
        for h in range(max(0, -margin[1]), min(volume.shape[1], cells[1] * deal[1] - margin[1])):
            y, b = (h + margin[1]) // deal[1], (h + margin[1]) % deal[1]
            line = volume[d, h]
            for c in range(deal[2]):
                first = max((c - margin[2]) % deal[2], c - margin[2])
                x = (first + margin[2]) // deal[2]
                count = min((line.size - 1 - first) // deal[2] + 1, cells[2] - x)
                at = ((((a * deal[1] + b) * deal[2] + c) * cells[0] + z) * cells[1] + y) * cells[2] + x
                source, target = room[at:], line[first:]
                if deal[2] == 1:
                    for i in range(count):
                        target[i] += source[i]
                elif deal[2] == 2:
                    for i in range(count):
                        target[2 * i] += source[i]
                else:
                    for i in range(count):
                        target[i * deal[2]] += source[i]
