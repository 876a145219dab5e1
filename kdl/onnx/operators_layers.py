"""ONNX's layers as kdl functions: windows, sampling, normalisation, recurrence. The rest stands in `operators.py`."""
import math

import kdl
from kdl.errors import expect
from kdl.nn import functional as F


def ints_of(x):
    """The elements of a tensor of ints."""
    return [int(v) for v in x.array.reshape(-1)]


# --- windows ---
def _window(n, x, kernel):
    """Strides, dilations and the padding at the start and the end of each axis."""
    d = len(kernel)
    strides, dilations = n.get("strides", [1] * d), n.get("dilations", [1] * d)
    auto, pads = n.get("auto_pad", "NOTSET"), n.get("pads", [0] * 2 * d)
    if auto.startswith("SAME"):
        total = [max((-(-length // s) - 1) * s + t * (k - 1) + 1 - length, 0)
                 for length, k, s, t in zip(x.shape[2:], kernel, strides, dilations, strict=True)]
        small, large = [p // 2 for p in total], [p - p // 2 for p in total]
        pads = small + large if auto == "SAME_UPPER" else large + small
    return strides, dilations, pads[:d], pads[d:]


def _padded(x, before, behind, value=0.0):
    """The input with the padding that the two ends do not share, and what they share."""
    if before == behind:
        return x, tuple(before)
    flat = [p for pair in reversed(list(zip(before, behind, strict=True))) for p in pair]
    return F.pad(x, flat, "constant", value), (0,) * len(before)


def _conv(n, x, w, b=None):
    d = w.ndim - 2
    strides, dilations, before, behind = _window(n, x, w.shape[2:])
    x, padding = _padded(x, before, behind)
    return (F.conv1d, F.conv2d, F.conv3d)[d - 1](x, w, b, tuple(strides), padding, tuple(dilations),
                                                 n.get("group", 1))


def _conv_transpose(n, x, w, b=None):
    d = w.ndim - 2
    strides, dilations, before, behind = _window(n, x, w.shape[2:])
    more = n.get("output_padding", [0] * d)
    if n.get("output_shape"):
        total = [(length - 1) * s + m + t * (k - 1) + 1 - o for length, s, m, t, k, o in zip(
            x.shape[2:], strides, more, dilations, w.shape[2:], n.get("output_shape")[-d:], strict=True)]
        small = [p // 2 for p in total]
        large = [p - p // 2 for p in total]
        before, behind = (small, large) if n.get("auto_pad", "") == "SAME_UPPER" else (large, small)
    y = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[d - 1](
        x, w, b, tuple(strides), 0, tuple(more) if before == behind else (0,) * d, n.get("group", 1), tuple(dilations)
    ) if before != behind else (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[d - 1](
        x, w, b, tuple(strides), tuple(before), tuple(more), n.get("group", 1), tuple(dilations))
    if before == behind:
        return y
    flat = [p for b, e, m in reversed(list(zip(before, behind, more, strict=True))) for p in (-b, m - e)]
    return F.pad(y, flat)


def _max_pool(n, x):
    kernel = n.get("kernel_shape")
    strides, dilations, before, behind = _window(n, x, kernel)
    strides, ceil = n.get("strides", [1] * len(kernel)), bool(n.get("ceil_mode", 0))
    halves = all(2 * p <= k for p, k in zip(before, kernel, strict=True))
    y, padding = _padded(x, before, behind, -math.inf) if halves or before != behind else (
        _padded(x, before, [*behind[:-1], behind[-1] + 0.5], -math.inf))
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    options = (tuple(kernel), tuple(strides), padding, tuple(dilations), ceil)
    if len(n.outputs) < 2:
        return pool(y, *options)
    values, places = pool(y, *options, True)
    place, rest, plane = 0, places, math.prod(x.shape[2:])
    if y is not x:  # places in the padded planes
        for axis in range(len(kernel)):
            inner = math.prod(y.shape[3 + axis:])
            at, rest = rest // inner - before[axis], rest % inner
            place = place * x.shape[2 + axis] + at
    else:
        place = places
    planes = kdl.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * len(kernel))
    return values, place + planes * plane


def _avg_pool(n, x):
    kernel = n.get("kernel_shape")
    strides, dilations, before, behind = _window(n, x, kernel)
    expect(max(dilations) == 1, "AveragePool", "dilations of 1", dilations=dilations)
    include, ceil = bool(n.get("count_include_pad", 0)), bool(n.get("ceil_mode", 0))
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    options = tuple(kernel), tuple(strides)
    if before == behind:
        return pool(x, *options, tuple(before), ceil, include)
    y, _ = _padded(x, before, behind)
    y = pool(y, *options, 0, ceil, True)
    if include:
        return y
    inside, _ = _padded(kdl.ones(1, 1, *x.shape[2:], dtype=x.dtype), before, behind)
    return y / pool(inside, *options, 0, ceil, True)


def _global(function):
    return lambda n, x: function(x, tuple(range(2, x.ndim)), True)


def _max_unpool(n, x, at, shape=None):
    kernel = n.get("kernel_shape")
    strides, _, before, behind = _window(n, x, kernel)
    size = ints_of(shape)[2:] if shape is not None else [(length - 1) * s - b - e + k for length, s, b, e, k in zip(
        x.shape[2:], strides, before, behind, kernel, strict=True)]
    y = kdl.zeros(math.prod(x.shape[:2]) * math.prod(size), dtype=x.dtype)
    return y.scatter(0, at.reshape(-1), x.reshape(-1)).reshape(*x.shape[:2], *size)


def _col2im(n, x, size, block):
    pads = n.get("pads", [0, 0, 0, 0])
    expect(pads[:2] == pads[2:] and len(pads) == 4, "Col2Im", "two axes, padded alike at both ends", pads=pads)
    return F.fold(x, ints_of(size), ints_of(block), n.get("dilations", [1, 1]), pads[:2], n.get("strides", [1, 1]))


def _resize(n, x, roi=None, scales=None, sizes=None):
    mode, places = n.get("mode", "nearest"), n.get("coordinate_transformation_mode", "half_pixel")
    axes = n.get("axes") or list(range(x.ndim))
    scales = [float(s) for s in scales.array] if scales is not None and scales.array.size else None
    values = ints_of(sizes) if scales is None else scales
    kept = [v for a, v in zip(axes, values, strict=True) if a % x.ndim >= 2]
    outer = all(v == (1 if sizes is None else x.shape[a]) for a, v in zip(axes, values, strict=True) if a % x.ndim < 2)
    expect(outer and len(kept) == x.ndim - 2 and n.get("keep_aspect_ratio_policy", "stretch") == "stretch", "Resize",
           "the spatial axes alone", axes=axes)
    corners = places == "align_corners" or None
    rounding = n.get("nearest_mode", "round_prefer_floor")
    if mode == "nearest":
        known = {("asymmetric", "floor"): "nearest", ("half_pixel", "round_prefer_ceil"): "nearest-exact",
                 ("half_pixel", "round_prefer_floor"): "nearest-exact"}
        expect((places, rounding) in known, "Resize", "asymmetric with floor, or half_pixel with round_prefer_ceil",
               coordinate_transformation_mode=places, nearest_mode=rounding)
        mode = known[places, rounding]
    else:
        expect(places in ("half_pixel", "align_corners", "pytorch_half_pixel"), "Resize",
               "half_pixel or align_corners", coordinate_transformation_mode=places)
        expect(mode == "linear" or n.get("cubic_coeff_a", -0.75) == -0.75 or n.get("antialias", 0), "Resize",
               "cubic_coeff_a -0.75", cubic_coeff_a=n.get("cubic_coeff_a", -0.75))
        mode = {3: "linear", 4: "bilinear", 5: "trilinear"}[x.ndim] if mode == "linear" else "bicubic"
    return F.interpolate(x, kept if scales is None else None, None if scales is None else kept, mode, corners,
                         antialias=bool(n.get("antialias", 0)))


def _grid_sample(n, x, grid):
    mode = n.get("mode", "linear")
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return F.grid_sample(x, grid, mode, n.get("padding_mode", "zeros"), bool(n.get("align_corners", 0)))


def _depth_to_space(n, x):
    if n.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, n.get("blocksize"))
    N, C, H, W = x.shape
    r = n.get("blocksize")
    parts = x.reshape(N, r, r, C // r ** 2, H, W).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(N, C // r ** 2, H * r, W * r)


# --- normalisation ---
def _batch_norm(n, x, w, b, mean, var):
    expect(not n.get("training_mode", 0), "BatchNormalization", "training_mode 0", training_mode=1)
    return F.batch_norm(x, mean.detach(), var.detach(), w, b, False, 0.1, n.get("epsilon", 1e-5))


def _layer_norm(n, x, w, b=None):
    axis = n.get("axis", -1) % x.ndim
    shape = x.shape[axis:]
    w, b = (v if v is None or v.shape == shape else v.expand(shape) for v in (w, b))
    return F.layer_norm(x, tuple(shape), w, b, n.get("epsilon", 1e-5))


def _rms_norm(n, x, w):
    return F.rms_norm(x, tuple(x.shape[n.get("axis", -1) % x.ndim:]), w, n.get("epsilon", 1e-5))


def _group_norm(n, x, w, b):
    return F.group_norm(x, n.get("num_groups"), w, b, n.get("epsilon", 1e-5))


def _lrn(n, x):
    expect(n.get("size") % 2, "LRN", "an odd size", size=n.get("size"))
    return F.local_response_norm(x, n.get("size"), n.get("alpha", 1e-4), n.get("beta", 0.75), n.get("bias", 1.0))


# --- recurrence ---
_ORDER = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2], "RNN": [0]}  # ONNX's gates in the order of torch


def _recurrent(n, x, w, r, b=None, lengths=None, *states):
    kind, H = n.name, r.shape[-1]
    gates, order = len(_ORDER[kind]), _ORDER[kind]
    states, peephole = list(states[:1 + (kind == "LSTM")]), states[2:]
    direction, directions = n.get("direction", "forward"), w.shape[0]
    activations = n.get("activations", ["Tanh"])
    expect(lengths is None or set(ints_of(lengths)) == {x.shape[1 if n.get("layout", 0) else 0]}, kind,
           "sequences of one length", sequence_lens=lengths)
    expect(not any(p is not None for p in peephole) and not n.get("clip") and not n.get("input_forget", 0)
           and not n.get("layout", 0) and (kind != "GRU" or n.get("linear_before_reset", 0)), kind,
           "no peepholes, clip, input_forget or layout, and linear_before_reset 1", attributes=n.attributes)
    usual = {"RNN": [["Tanh"], ["Relu"]], "GRU": [["Sigmoid", "Tanh"]], "LSTM": [["Sigmoid", "Tanh", "Tanh"]]}[kind]
    expect(n.get("activations") is None or n.get("activations") in [a * directions for a in usual], kind,
           "the usual activations", activations=n.get("activations"))

    def parameters(d):
        both = [kdl.cat([v[d].reshape(gates, H, -1)[i] for i in order]) for v in (w, r)]
        if b is not None:
            both += [kdl.cat([part.reshape(gates, H)[i] for i in order]) for part in b[d].chunk(2)]
        return both

    mode = {"LSTM": "lstm", "GRU": "gru", "RNN": f"rnn_{activations[0].lower()}"}[kind]
    function, outputs, last = getattr(kdl, mode), [], []
    for d in range(directions):
        backwards = direction == "reverse" or d == 1
        first = [x.new_zeros(1, x.shape[1], H) if k >= len(states) or states[k] is None else states[k][d:d + 1]
                 for k in range(1 + (kind == "LSTM"))]
        y, *h = function(x.flip(0) if backwards else x, first if kind == "LSTM" else first[0], parameters(d),
                         b is not None, 1, 0.0, False, False)
        outputs.append((y.flip(0) if backwards else y).unsqueeze(1))
        last.append(h)
    joined = [kdl.cat(parts) if directions > 1 else parts[0] for parts in zip(*last, strict=True)]
    return kdl.cat(outputs, 1) if directions > 1 else outputs[0], *joined


LAYERS = {
    "Conv": _conv, "ConvTranspose": _conv_transpose, "MaxPool": _max_pool, "AveragePool": _avg_pool,
    "GlobalAveragePool": _global(kdl.mean), "GlobalMaxPool": _global(kdl.amax), "MaxUnpool": _max_unpool,
    "Col2Im": _col2im, "Resize": _resize, "GridSample": _grid_sample,
    "DepthToSpace": _depth_to_space, "BatchNormalization": _batch_norm,
    "InstanceNormalization": lambda n, x, w, b: F.instance_norm(x, None, None, w, b, True, 0.1, n.get("epsilon", 1e-5)),
    "LayerNormalization": _layer_norm, "RMSNormalization": _rms_norm, "GroupNormalization": _group_norm, "LRN": _lrn,
    "RNN": _recurrent, "GRU": _recurrent, "LSTM": _recurrent,
}
