"""Pooling of contiguous volumes (planes, D, H, W) by lines, for windows of any one geometry.

A volume is dealt out into cells, padded, one plane for every phase of the stride; there a tap (one place of the window)
meets all output rows as one contiguous line, so that each tap is one vectorised pass.
"""
import numpy as np

from kdl.kernels.cpu.launch import device_function, jit, prange
from kdl.kernels.cpu.pool_taps import _add, _fill, _keep_larger, _window

_CHUNKS = 128  # planes are shared out in so many chunks at most, each with its own cells
_SERIAL = 1 << 15  # elements below which waking threads (30 to 90 us) costs more than they save


@device_function
def _deal(x, cells, padding):
    """cells[z, a, b, i, j] = x[z, i sh + a - ph, j sw + b - pw], where that exists."""
    D, H, W = x.shape
    _, sh, sw, rows, columns = cells.shape
    _, ph, pw = padding
    for z in range(D):
        a, i = ph % sh, ph // sh
        for h in range(min(H, rows * sh - ph)):
            row = x[z, h]
            if sw == 1:
                cell = cells[z, a, 0, i, pw:]
                for w in range(min(W, cell.size)):
                    cell[w] = row[w]
            elif sw == 2:
                even, odd = cells[z, a, pw % 2, i, pw // 2:], cells[z, a, (pw + 1) % 2, i, (pw + 1) // 2:]
                pairs = min(W // 2, even.size, odd.size)
                for j in range(pairs):
                    even[j] = row[2 * j]
                    odd[j] = row[2 * j + 1]
                for w in range(2 * pairs, min(W, 2 * columns - pw)):
                    cells[z, a, (w + pw) % 2, i, (w + pw) // 2] = row[w]
            else:
                for b in range(min(sw, W)):
                    cell = cells[z, a, (b + pw) % sw, i, (b + pw) // sw:]
                    for j in range(min(cell.size, (W - 1 - b) // sw + 1)):
                        cell[j] = row[b + j * sw]
            a, i = (a + 1, i) if a + 1 < sh else (0, i + 1)


@device_function
def _collect(cells, gx, padding):
    """The way back: gx[z, h, w] = cells[z, a, b, i, j], and 0 where no window reaches."""
    D, H, W = gx.shape
    _, sh, sw, rows, columns = cells.shape
    _, ph, pw = padding
    if H > rows * sh - ph or W > columns * sw - pw:
        gx[:] = 0
    for z in range(D):
        a, i = ph % sh, ph // sh
        for h in range(min(H, rows * sh - ph)):
            row = gx[z, h]
            if sw == 1:
                cell = cells[z, a, 0, i, pw:]
                for w in range(min(W, cell.size)):
                    row[w] = cell[w]
            elif sw == 2:
                even, odd = cells[z, a, pw % 2, i, pw // 2:], cells[z, a, (pw + 1) % 2, i, (pw + 1) // 2:]
                pairs = min(W // 2, even.size, odd.size)
                for j in range(pairs):
                    row[2 * j] = even[j]
                    row[2 * j + 1] = odd[j]
                for w in range(2 * pairs, min(W, 2 * columns - pw)):
                    row[w] = cells[z, a, (w + pw) % 2, i, (w + pw) // 2]
            else:
                for b in range(min(sw, W)):
                    cell = cells[z, a, (b + pw) % sw, i, (b + pw) // sw:]
                    for j in range(min(cell.size, (W - 1 - b) // sw + 1)):
                        row[b + j * sw] = cell[j]
            a, i = (a + 1, i) if a + 1 < sh else (0, i + 1)


@jit(serial_below=_SERIAL)
def _max_lines(x, y, winner, depths, heights, widths, taps, padding, dilation, starts, shape):
    T, U = x.dtype.type, winner.dtype.type
    planes, D = x.shape[:2]
    _, E, P, Q = y.shape
    K, R, S = taps
    columns, none = shape[4], K * R * S
    chunks = min(planes, _CHUNKS)
    for chunk in prange(chunks):
        cells = np.full(shape, T(-np.inf))
        flat = cells.reshape(D, -1)
        best, which = np.empty(P * columns, x.dtype), np.zeros(P * columns, winner.dtype)
        best_rows, which_rows = best.reshape(P, columns), which.reshape(P, columns)
        for plane in range(planes * chunk // chunks, planes * (chunk + 1) // chunks):
            _deal(x[plane], cells, padding)
            for e in range(E):
                z, front, back = _window(depths, e)
                _fill(best, T(-np.inf))
                for p in range(P):  # a window of -inf gets its first tap inside, if it has one
                    _, top, bottom = _window(heights, p)
                    row = (front * R + top) * S if front < back and top < bottom else none
                    _fill(which_rows[p], U(row))
                    for q in range(Q if row < none else 0):
                        _, left, right = _window(widths, q)
                        if left == 0 < right:  # so are the outputs to come
                            break
                        which_rows[p, q] = U(row + left if left < right else none)
                for k in range(front, back):
                    for r in range(R):
                        for s in range(S):
                            line = flat[z + k * dilation[0], starts[r, s]:]
                            _keep_larger(line, best, which, U((k * R + r) * S + s))
                for p in range(P):
                    for q in range(Q):
                        y[plane, e, p, q] = best_rows[p, q]
                        winner[plane, e, p, q] = which_rows[p, q]


@jit(serial_below=_SERIAL)
def _avg_lines(x, y, depths, heights, widths, shares_d, shares_h, shares_w, padding, starts, shape):
    T = x.dtype.type
    planes, D = x.shape[:2]
    _, E, P, Q = y.shape
    R, S = starts.shape
    chunks = min(planes, _CHUNKS)
    for chunk in prange(chunks):
        cells = np.zeros(shape, x.dtype)
        flat = cells.reshape(D, -1)
        total = np.empty(P * shape[4], x.dtype)
        total_rows = total.reshape(P, -1)
        for plane in range(planes * chunk // chunks, planes * (chunk + 1) // chunks):
            _deal(x[plane], cells, padding)
            for e in range(E):
                z, first, last = _window(depths, e)
                _fill(total, T(0))
                for k in range(first, last):
                    for r in range(R):
                        for s in range(S):
                            _add(flat[z + k, starts[r, s]:], total)
                for p in range(P):
                    area = shares_d[e] * shares_h[p]
                    for q in range(Q):
                        y[plane, e, p, q] = total_rows[p, q] * (area * shares_w[q])


@jit(serial_below=_SERIAL)
def _avg_lines_backward(gy, gx, depths, heights, widths, shares_d, shares_h, shares_w, padding, starts, shape):
    T = gy.dtype.type
    planes, D = gx.shape[:2]
    _, E, P, Q = gy.shape
    R, S = starts.shape
    chunks = min(planes, _CHUNKS)
    for chunk in prange(chunks):
        cells = np.empty(shape, gy.dtype)
        flat = cells.reshape(D, -1)
        share = np.zeros(P * shape[4], gy.dtype)  # the columns past Q stay 0
        share_rows = share.reshape(P, -1)
        for plane in range(planes * chunk // chunks, planes * (chunk + 1) // chunks):
            for z in range(D):
                _fill(flat[z], T(0))
            for e in range(E):
                for p in range(P):
                    area = shares_d[e] * shares_h[p]
                    for q in range(Q):
                        share_rows[p, q] = gy[plane, e, p, q] * (area * shares_w[q])
                z, first, last = _window(depths, e)
                for k in range(first, last):
                    for r in range(R):
                        for s in range(S):
                            _add(share, flat[z + k, starts[r, s]:starts[r, s] + share.size])
            _collect(cells, gx[plane], padding)
