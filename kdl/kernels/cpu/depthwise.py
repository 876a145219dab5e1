"""Depthwise convolution on the CPU: one plane at a time, tap after tap along whole lines. Called by conv.py.

x (N, C, D, H, W), w (K, 1, T, R, S), y (N, K, D', P, Q); filter k reads channel k // (K / C).
"""
from kdl.kernels.cpu.launch import jit, prange


@jit(parallel=False)
def _span(out, size, start, stride):
    """The outputs [first, last) of one axis whose input start + output * stride lies in [0, size)."""
    first = min(out, max(0, -(start // stride)))
    return first, min(out, max(first, -((start - size) // stride)))


@jit
def _depthwise_forward(x, w, y, stride, padding, dilation):
    images, K = y.shape[:2]
    multiplier = K // x.shape[1]
    for job in prange(images * K):
        n, k = job // K, job % K
        source, target = x[n, k // multiplier], y[n, k]
        target[:] = y.dtype.type(0)
        for t in range(w.shape[2]):
            for r in range(w.shape[3]):
                for s in range(w.shape[4]):
                    weight = w[k, 0, t, r, s]
                    z0, h0, w0 = (t * dilation[0] - padding[0], r * dilation[1] - padding[1],
                                  s * dilation[2] - padding[2])
                    d_first, d_last = _span(y.shape[2], x.shape[2], z0, stride[0])
                    p_first, p_last = _span(y.shape[3], x.shape[3], h0, stride[1])
                    q_first, q_last = _span(y.shape[4], x.shape[4], w0, stride[2])
                    for d in range(d_first, d_last):
                        for p in range(p_first, p_last):
                            into, line = target[d, p], source[z0 + d * stride[0], h0 + p * stride[1]]
                            if stride[2] == 1:
                                for q in range(q_first, q_last):
                                    into[q] += weight * line[w0 + q]
                            else:
                                for q in range(q_first, q_last):
                                    into[q] += weight * line[w0 + q * stride[2]]


@jit
def _depthwise_backward_x(gy, w, gx, stride, padding, dilation):
    images, C = gx.shape[:2]
    multiplier = gy.shape[1] // C
    for job in prange(images * C):
        n, c = job // C, job % C
        target = gx[n, c]
        target[:] = gx.dtype.type(0)
        for k in range(c * multiplier, (c + 1) * multiplier):
            for t in range(w.shape[2]):
                for r in range(w.shape[3]):
                    for s in range(w.shape[4]):
                        weight = w[k, 0, t, r, s]
                        z0, h0, w0 = (t * dilation[0] - padding[0], r * dilation[1] - padding[1],
                                      s * dilation[2] - padding[2])
                        d_first, d_last = _span(gy.shape[2], gx.shape[2], z0, stride[0])
                        p_first, p_last = _span(gy.shape[3], gx.shape[3], h0, stride[1])
                        q_first, q_last = _span(gy.shape[4], gx.shape[4], w0, stride[2])
                        for d in range(d_first, d_last):
                            for p in range(p_first, p_last):
                                into, line = target[z0 + d * stride[0], h0 + p * stride[1]], gy[n, k, d, p]
                                if stride[2] == 1:
                                    for q in range(q_first, q_last):
                                        into[w0 + q] += weight * line[q]
                                else:
                                    for q in range(q_first, q_last):
                                        into[w0 + q * stride[2]] += weight * line[q]


@jit(reassociate=True)
def _depthwise_backward_w(x, gy, gw, stride, padding, dilation):
    K, taps = gw.shape[0], gw.shape[2] * gw.shape[3] * gw.shape[4]
    multiplier = K // x.shape[1]
    for job in prange(K * taps):
        k, tap = job // taps, job % taps
        t, r, s = tap // (gw.shape[3] * gw.shape[4]), tap // gw.shape[4] % gw.shape[3], tap % gw.shape[4]
        z0, h0, w0 = t * dilation[0] - padding[0], r * dilation[1] - padding[1], s * dilation[2] - padding[2]
        d_first, d_last = _span(gy.shape[2], x.shape[2], z0, stride[0])
        p_first, p_last = _span(gy.shape[3], x.shape[3], h0, stride[1])
        q_first, q_last = _span(gy.shape[4], x.shape[4], w0, stride[2])
        total = gw.dtype.type(0)
        for n in range(x.shape[0]):
            for d in range(d_first, d_last):
                for p in range(p_first, p_last):
                    line, grad = x[n, k // multiplier, z0 + d * stride[0], h0 + p * stride[1]], gy[n, k, d, p]
                    part = gw.dtype.type(0)
                    if stride[2] == 1:
                        for q in range(q_first, q_last):
                            part += grad[q] * line[w0 + q]
                    else:
                        for q in range(q_first, q_last):
                            part += grad[q] * line[w0 + q * stride[2]]
                    total += part
        gw[k, 0, t, r, s] = total
