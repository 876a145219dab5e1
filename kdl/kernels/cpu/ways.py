"""Which of its ways a convolution goes: by shapes and layouts alone, and remembered.

The costs that the ways give are multiply-adds, or what takes as long; they were measured on one thread with AVX-512.
"""
from functools import lru_cache
from math import inf

from kdl.kernels.cpu import depthwise, images, lines, pixel_filters, pixels, pointwise, rows, sliding, winograd
from kdl.kernels.cpu.cells import backward_pieces, forward_piece

POINTWISE = "one tap, products of matrices"
WINOGRAD = {side: f"Winograd, {side} x {side} outputs at a time" for side in (2, 4)}
SIDES = {way: side for side, way in WINOGRAD.items()}
DEPTHWISE = "channels in lanes"
SLIDING = "rows sliding past sums"
IMAGES = "images in lanes"
ROWS = "rows of outputs"
COLUMNS = "lines of outputs, or columns and BLAS"
DIRECT = "direct, tiles of pixels"

_FEW = 16  # filters times channels of a group up to which rows of outputs pay in any case


@lru_cache(maxsize=1024)
def of_sums(u, w, v, dtype, v_is_pixels, stride, padding, dilation, groups, exact, backward):
    """For v = the convolution of u, or with `backward` v = gx of u = gy; u, w and v are shapes."""
    if dtype != "f":
        return COLUMNS
    if not v_is_pixels and pointwise.fits(w[2:], v[2:], stride, padding):
        return POINTWISE
    if len(w) > 4:
        return COLUMNS
    if depthwise.fits(w, v, groups, v_is_pixels):
        return DEPTHWISE
    if sliding.fits(w, stride, padding, dilation, groups, backward):
        return SLIDING
    if side := winograd.outputs_side(v[2:], w, u[0], stride, padding, dilation, groups, exact):
        return WINOGRAD[side]
    few = w[0] // groups * w[1] <= _FEW
    of_axes = axes(*((v, w, u) if backward else (u, w, v)), stride, padding, dilation)
    pieces = backward_pieces(*of_axes) if backward else [forward_piece(*of_axes)]
    lanes, depth = (w[1], w[0] // groups) if backward else (w[0] // groups, w[1])
    by_pixels, has_rows = pixels.cost(lanes, depth, pieces), rows.fits(w, stride, dilation, backward)
    by_rows = rows.cost(lanes, depth, w[2], pieces) if has_rows else inf
    if (not v_is_pixels and images.fits(u, v, stride, groups)
            and 8 * images.cost(u, w, v, padding, dilation, backward) < 7 * min(by_pixels, by_rows)):
        return IMAGES
    if has_rows and (few or (not v_is_pixels and (not backward or max(stride) == 1) and by_rows < by_pixels)):
        return ROWS
    if lines.fits(w[2:], lanes):
        return COLUMNS if 4 * lines.cost(lanes, depth, pieces) < 3 * by_pixels else DIRECT
    return COLUMNS if few else DIRECT


@lru_cache(maxsize=1024)
def of_products(x, gy, w, dtype, gy_is_pixels, stride, padding, dilation, groups):
    """For the gradient of filters with shape w."""
    if dtype != "f":
        return COLUMNS
    if len(w) == 4 and depthwise.fits(w, gy, groups, gy_is_pixels):
        return DEPTHWISE
    few = w[0] // groups * w[1] <= _FEW
    if len(w) == 4 and few and rows.fits(w, stride, dilation):
        return ROWS
    if not gy_is_pixels and pointwise.fits(w[2:], gy[2:], stride, padding):
        return POINTWISE
    if len(w) > 4:
        return COLUMNS
    if side := winograd.outputs_side(gy[2:], w, x[0], stride, padding, dilation, groups, False, of_filters=True):
        return WINOGRAD[side]
    if not gy_is_pixels and images.fits(x, gy, stride, groups):
        return IMAGES
    if lines.fits(w[2:], w[0] // groups):
        return COLUMNS if 2 * lines.cost_w(w, gy[2:], groups) < pixel_filters.cost(x, gy, w, groups) else DIRECT
    return COLUMNS if few else DIRECT


def axes(x, w, y, stride, padding, dilation):
    """Three axes of (size, taps, outputs, stride, padding, dilation), the first of one place; from shapes."""
    return (1, 1, 1, 1, 0, 1), *zip(x[2:], w[2:], y[2:], stride, padding, dilation, strict=True)
