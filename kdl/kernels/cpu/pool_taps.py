"""What the loops of pooling do with the taps of a window: a row of them, or a vector."""
from kdl.kernels.cpu.launch import device_function
from kdl.kernels.cpu.simd import larger, select


@device_function
def _window(windows, output):
    """Where an output's window begins, its first tap and its last: one by one, for to unpack a row takes 20 ns."""
    return windows[output, 0], windows[output, 1], windows[output, 2]


@device_function
def _initial(depth, height, width, origin, taps):
    """The winner while nothing is larger: the first tap inside, or the number of taps where none is; adaptive windows,
    which have no taps, begin at their origin."""
    (K, R, S), (front, back), (top, bottom), (left, right) = taps, depth, height, width
    if K == 0:
        return origin
    return (front * R + top) * S + left if front < back and top < bottom and left < right else K * R * S


@device_function
def _fill(row, value):
    for i in range(row.size):  # a slice assignment takes 40 ns, however short
        row[i] = value


@device_function
def _add(values, total):
    for i in range(total.size):
        total[i] += values[i]


@device_function
def _keep_larger(values, best, which, tap):
    """Take over what is larger, or NaN: in the order of taps the first maximum stays, and the last NaN."""
    for i in range(best.size):
        v, b, w = values[i], best[i], which[i]
        larger = (v > b) | (v != v)
        best[i] = v if larger else b
        which[i] = tap if larger else w


@device_function
def _take(v, tap, best, taps):
    """The same for vectors: the best so far and its tap."""
    taken = larger(v, best)
    return select(taken, v, best), select(taken, tap, taps)
