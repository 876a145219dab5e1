"""Copies between the layouts that convolution works in: images as planes (C, H, W), or as pixels (H, W, C).

A channels-last array holds pixels already. The kernels take flat arrays and a flag that says which of the two they are.
"""
import numpy as np

from kdl.kernels.cpu.launch import jit, prange
from kdl.kernels.cpu.scratch import aligned
from kdl.kernels.cpu.simd import LANES, load, prefetch, store, transpose, transpose_part

PLANES = 8  # channels up to which planes stay planes
_AHEAD = 2 * LANES  # floats
_SQUARE = 4  # rows and columns from which a transposed square of vectors is faster than single numbers


def is_pixels(array):
    """Whether a dense array of images is channels-last, and not contiguous as well."""
    return not array.flags.c_contiguous


def flat(array, is_pixels):
    """An array of images as the flat array that lies in memory."""
    return (array.transpose(0, 2, 3, 1) if is_pixels else array).reshape(-1)


@jit(parallel=False)
def planes_to_pixels(source, at, pitch, target, to, channels, target_pitch, count):
    """target[to + i target_pitch + c] = source[at + c pitch + i], for i < count and c < channels."""
    if min(count, channels) < _SQUARE:
        for i in range(count):
            for c in range(channels):
                target[to + i * target_pitch + c] = source[at + c * pitch + i]
    elif min(count, channels) >= LANES:
        for low in range(0, count, LANES):
            i = min(low, count - LANES)  # the last squares overlap the ones before
            for left in range(0, channels, LANES):
                c = min(left, channels - LANES)
                transpose(source, at + c * pitch + i, pitch, target, to + i * target_pitch + c, target_pitch)
    else:
        for i in range(0, count, LANES):
            for c in range(0, channels, LANES):
                transpose_part(source, at + c * pitch + i, pitch, min(LANES, channels - c), min(LANES, count - i),
                               target, to + i * target_pitch + c, target_pitch)


@jit(parallel=False)
def copy_line(source, at, target, to, count):
    if count >= LANES:
        for low in range(0, count, LANES):
            i = min(low, count - LANES)
            store(target, to + i, load(source, at + i))
    else:
        for i in range(count):
            target[to + i] = source[at + i]


@jit(parallel=False)
def image_to_pixels(source, image, is_pixels, channels, first, count, size, top, left, target, to, pitch, target_size,
                    room, room_at):
    """Channels first to first + count of an image's window that begins at row `top`, column `left`, as pixels.

    The image has `channels` and `size`, the window `target_size` and `pitch` floats a pixel; what lies outside the
    image is 0. `room` takes the channels of a whole image, where rows are shorter than a vector.
    """
    (H, W), (height, width) = size, target_size
    first_row, last_row = max(0, -top), min(height, H - top)
    begin, end = max(0, -left), max(max(0, -left), min(width, W - left))
    whole = not is_pixels and W < LANES  # squares need longer lines: take all rows as one
    packed = pitch == count
    if whole:
        planes_to_pixels(source, image + first * H * W, H * W, room, room_at, count, count, H * W)
    for row in range(height):
        line = to + row * width * pitch
        inside = first_row <= row < last_row and begin < end
        for i in range((begin if inside else width) * pitch):
            target[line + i] = 0
        for i in range(end * pitch if inside else width * pitch, width * pitch):
            target[line + i] = 0
        if not inside:
            continue
        at, line = (row + top) * W + left + begin, line + begin * pitch
        if is_pixels and packed and count == channels:
            copy_line(source, image + at * channels, target, line, (end - begin) * channels)
        elif is_pixels:
            for i in range(end - begin):
                copy_line(source, image + (at + i) * channels + first, target, line + i * pitch, count)
        elif whole and packed:
            copy_line(room, room_at + at * count, target, line, (end - begin) * count)
        elif whole:
            for i in range(end - begin):
                copy_line(room, room_at + (at + i) * count, target, line + i * pitch, count)
        else:
            planes_to_pixels(source, image + first * H * W + at, H * W, target, line, count, pitch, end - begin)


@jit(parallel=False)
def pixels_to_planes(source, at, channels, target, to, pitch, count):
    """target[to + c pitch + i] = source[at + i channels + c], for i < count and c < channels."""
    if count >= LANES and channels >= LANES:
        for low in range(0, channels, LANES):
            c = min(low, channels - LANES)
            for left in range(0, count, LANES):
                i = min(left, count - LANES)
                transpose(source, at + i * channels + c, channels, target, to + c * pitch + i, pitch)
                for j in range(LANES):  # so many streams are more than the machine foresees
                    prefetch(target, to + (c + j) * pitch + i + _AHEAD)
    else:
        planes_to_pixels(source, at, channels, target, to, count, pitch, channels)


@jit(parallel=False)
def pack_panel(source, is_pixels, image, pixel, channels, pixels, first, some, packed, to, width, count):
    """packed[to + i width + j] = an image at pixel + i and channel first + j, for j < some; 0 in lanes beyond."""
    if is_pixels:
        for i in range(count):
            copy_line(source, image + (pixel + i) * channels + first, packed, to + i * width, some)
    else:
        planes_to_pixels(source, image + first * pixels + pixel, pixels, packed, to, some, width, count)
    for i in range(count if some < width else 0):
        for j in range(some, width):
            packed[to + i * width + j] = 0


def as_planes(array):
    """A dense array of images, contiguous."""
    if not is_pixels(array):
        return array
    planes = np.empty(array.shape, array.dtype)
    _turn(flat(array, True), array[0, 0].size, array.shape[1], planes.reshape(-1))
    return planes


def from_planes(planes, array):
    """Copy contiguous images into channels-last ones."""
    _turn(planes.reshape(-1), array.shape[1], array[0, 0].size, flat(array, True))


@jit
def _turn(w, channels, taps, turned):
    """Every matrix (channels, taps) of w the other way round."""
    size = channels * taps
    for k in prange(w.size // size):
        planes_to_pixels(w, k * size, taps, turned, k * size, channels, channels, taps)


def tap_places(order, taps):
    """For each tap of a filter where in the order it stands, -1 for nowhere."""
    places = np.full(taps, -1)
    places[order] = np.arange(len(order))
    return places


def pack_filters(w, places, count, groups, backward, width, packed):
    """packed[group, panel, places[t], d, j] = the filters w (K, C, R, S) at tap t, lane panel width + j, depth d.

    Lanes are the group's filters and the depth its channels; with `backward` the other way round. 0 in lanes beyond.
    There are `count` places.
    """
    _pack_filters(as_planes(w).reshape(-1), *w.shape[:2], places, count, groups, backward, width, packed)


@jit
def _pack_filters(w, K, C, places, count, groups, backward, width, packed):
    filters, taps = K // groups, places.size
    lanes, depth = (C, filters) if backward else (filters, C)
    panels = -(-lanes // width)
    zero, lane = np.int64(0), np.int64(LANES)  # bare numbers would be types of their own: one more copy of the squares
    for job in prange(groups * panels):
        group, low = job // panels, job % panels * width
        some, to, square = min(width, lanes - low), job * count * depth * width, aligned(LANES * LANES, w)
        first = group * filters * C * taps  # of the group
        if backward:
            rows, row, length, step = depth, C * taps, taps, taps  # a filter at a time: its channels by its taps
        else:
            rows, row, length, step = 1, 0, C * taps, C * taps  # filters by all that they have
        for d in range(rows):
            for j in range(0, some, LANES):
                c, t = d, 0
                for at in range(0, length, LANES):
                    here = min(LANES, length - at)
                    planes_to_pixels(w, first + d * row + (low + j) * step + at, step, square, zero,
                                     min(LANES, some - j), lane, here)
                    for i in range(here):
                        if places[t] >= 0:
                            store(packed, to + (places[t] * depth + c) * width + j, load(square, i * LANES))
                        t += 1
                        if t == taps:
                            c, t = c + 1, 0
        for i in range(count * depth if some < width else 0):
            for j in range(some, width):
                packed[to + i * width + j] = 0
