"""Convolution without matrix products, for few channels per group: outputs are sums of shifted lines of cells."""
import numpy as np

from kdl.kernels.cpu.cells import _deal, _starts
from kdl.kernels.cpu.launch import device_function, jit, prange

_CHUNKS = 32  # jobs are shared out in so many parts at most, each with its own cells
_BLOCK = 2048  # elements of a line at a time: with the cells it meets they stay in the L1 cache


@jit
def _sum_of_lines(u, w, b, v, groups, taps, deal, margin, reach, outputs, first, step):
    """v[n, k] = b[k] + the sum over the group's channels c and taps t of w[k, c, t] times u[n, c] shifted by t.

    Output o of an axis is stored at first + o step. All lines of a plane are one: the cells between them give sums too,
    which are left out when v is written.
    """
    filters, channels = len(w) // groups, w.shape[1]
    D, P, Q = outputs
    cells = D + reach[0], P + reach[1], Q + reach[2]
    length = ((D - 1) * cells[1] + P - 1) * cells[2] + Q
    starts = np.empty(len(taps), np.int64)
    _starts(taps, cells, starts)
    jobs = len(u) * groups
    chunks = min(jobs, _CHUNKS)
    for chunk in prange(chunks):
        room = np.zeros((channels, deal[0] * deal[1] * deal[2] * cells[0] * cells[1] * cells[2]), u.dtype)
        line = np.empty(length, u.dtype)
        for job in range(jobs * chunk // chunks, jobs * (chunk + 1) // chunks):
            n, group = job // groups, job % groups
            for c in range(channels):
                _deal(u[n, group * channels + c], room[c], deal, margin, cells)
            for k in range(group * filters, (group + 1) * filters):
                for low in range(0, length, _BLOCK):
                    part = line[low:min(low + _BLOCK, length)]
                    for i in range(part.size):
                        part[i] = b[k]
                    for c in range(channels):
                        row, weights, threes = room[c, low:], w[k, c], starts.size // 3 * 3
                        for t in range(0, threes, 3):
                            _add_three(row[starts[t]:], row[starts[t + 1]:], row[starts[t + 2]:], weights[t],
                                       weights[t + 1], weights[t + 2], part)
                        for t in range(threes, starts.size):
                            _add_one(row[starts[t]:], weights[t], part)
                for z in range(D):
                    for p in range(P):
                        source = line[(z * cells[1] + p) * cells[2]:]
                        target = v[n, k, first[0] + z * step[0], first[1] + p * step[1], first[2]:]
                        if step[2] == 1:
                            for q in range(Q):
                                target[q] = source[q]
                        elif step[2] == 2:
                            for q in range(Q):
                                target[2 * q] = source[q]
                        else:
                            for q in range(Q):
                                target[q * step[2]] = source[q]


@device_function
def _add_three(one, two, three, w1, w2, w3, total):
    for i in range(total.size):
        total[i] += w1 * one[i] + w2 * two[i] + w3 * three[i]


@device_function
def _add_one(line, weight, total):
    for i in range(total.size):
        total[i] += weight * line[i]


@jit(reassociate=True)
def _products_with_lines(u, gy, gw, groups, taps, deal, margin, reach):
    """gw[k, c, t] = the sum over n and outputs of gy[n, k] times u[n, c] shifted by t."""
    filters, channels = len(gw) // groups, gw.shape[1]
    D, P, Q = gy.shape[2:]
    cells = D + reach[0], P + reach[1], Q + reach[2]
    starts = np.empty(len(taps), np.int64)
    _starts(taps, cells, starts)
    threes, zero = starts.size // 3 * 3, gw.dtype.type(0)
    jobs = len(u) * groups
    chunks = max(1, min(jobs, _CHUNKS))  # whatever the number of threads: the sum is always the same
    partial = np.zeros((chunks, len(gw), channels, starts.size), gw.dtype)
    for chunk in prange(chunks):
        room = np.zeros(deal[0] * deal[1] * deal[2] * cells[0] * cells[1] * cells[2], u.dtype)
        for job in range(jobs * chunk // chunks, jobs * (chunk + 1) // chunks):
            n, group = job % len(u), job // len(u)
            for c in range(channels):
                _deal(u[n, group * channels + c], room, deal, margin, cells)
                for k in range(group * filters, (group + 1) * filters):
                    sums = partial[chunk, k, c]
                    for z in range(D):
                        for p in range(P):
                            line, row = gy[n, k, z, p], room[(z * cells[1] + p) * cells[2]:]
                            for t in range(0, threes, 3):
                                one, two, three = row[starts[t]:], row[starts[t + 1]:], row[starts[t + 2]:]
                                s1, s2, s3 = zero, zero, zero
                                for q in range(line.size):
                                    s1 += one[q] * line[q]
                                    s2 += two[q] * line[q]
                                    s3 += three[q] * line[q]
                                sums[t] += s1
                                sums[t + 1] += s2
                                sums[t + 2] += s3
                            for t in range(threes, starts.size):
                                one, s1 = row[starts[t]:], zero
                                for q in range(line.size):
                                    s1 += one[q] * line[q]
                                sums[t] += s1
    for k in range(len(gw)):
        for c in range(channels):
            for t in range(starts.size):
                total = partial[0, k, c, t]
                for chunk in range(1, chunks):
                    total += partial[chunk, k, c, t]
                gw[k, c, t] = total
