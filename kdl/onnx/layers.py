"""How layers are written as ONNX nodes: products, activations, convolutions, poolings, norms, recurrence, attention.

Rows are as in `operations.py`. Where ONNX has no operator that means the same for all arguments, formulas stand for it:
a pooling whose windows hang over the edge is a pooling of what was padded first, and a resampling with antialiasing one
matrix product along each axis.
"""
import math

import numpy as np

from kdl import types
from kdl.onnx.trace import Value


# --- products ---
def _linear(t, f, x, w, b):
    wide, flat = len(f.shapes[1]) == 2, x.ndim == 2 and len(f.shapes[1]) == 2
    if flat:
        y = t.op("Gemm", x, w, b, transB=1)
    else:
        y = t.op("MatMul", x, t.op("Transpose", w, perm=[1, 0]) if wide else w)
        y = y if b is None else t.op("Add", y, b)
    t.linear[y.name] = x, w, b
    return t.op("Relu", y) if f.relu else y


def _euclidean(t, f, x, y):
    squares = [t.op("ReduceSum", t.op("Mul", a, a), [-1], keepdims=1) for a in (x, y)]
    n = y.ndim
    squares[1] = t.op("Transpose", squares[1], perm=[*range(n - 2), n - 1, n - 2])
    product = t.op("MatMul", x, t.op("Transpose", y, perm=[*range(n - 2), n - 1, n - 2]))
    d = t.op("Sub", t.op("Add", *squares), t.op("Mul", product, 2))
    return t.op("Sqrt", t.op("Max", d, 0))


def along_axis(t, x, ndim, axis, matrix):
    """The matrix (outputs, length) applied along an axis."""
    order = [d for d in range(ndim) if d != axis] + [axis]
    back = np.argsort(order).tolist()
    last = axis == ndim - 1
    y = t.op("MatMul", x if last else t.op("Transpose", x, perm=order), np.ascontiguousarray(matrix.T, x.dtype))
    return y if last else t.op("Transpose", y, perm=back)


# --- activations ---
def _elu(t, f, x):
    alpha, scale, inner = f.parameters
    if scale != 1:
        return t.op("Selu", x, alpha=alpha, gamma=scale)
    return t.op("Elu", x, alpha=float(alpha)) if inner == 1 else t.op("Celu", x, alpha=float(alpha))


def _softplus(t, f, x):
    beta, threshold = f.parameters
    if (beta, threshold) == (1, 20):
        return t.op("Softplus", x)
    z = t.op("Mul", x, beta)
    small = t.op("Div", t.op("Softplus", z), beta)
    return t.op("Where", t.op("Greater", z, threshold), x, small, dtype=x.dtype)


def _threshold(t, f, x):
    threshold, value = f.parameters
    return t.op("Where", t.op("LessOrEqual", x, threshold), t.constant(np.asarray(value, x.dtype)), x, dtype=x.dtype)


def _gelu(approximate):
    def row(t, f, x):
        if t.opset >= 20:
            return t.op("Gelu", x, approximate=approximate)
        if approximate == "tanh":
            cube = t.op("Mul", t.op("Mul", t.op("Mul", x, x), x), 0.044715)
            inner = t.op("Tanh", t.op("Mul", t.op("Add", x, cube), math.sqrt(2 / math.pi)))
        else:
            inner = t.op("Erf", t.op("Mul", x, math.sqrt(0.5)))
        return t.op("Mul", t.op("Mul", x, 0.5), t.op("Add", inner, 1))
    return row


def _prelu(t, f, x, w):
    size = math.prod(w.shape)
    return t.op("PRelu", x, t.op("Reshape", w, [size] + [1] * (x.ndim - 2) if size > 1 else [1] * min(x.ndim, 1)))


def _glu(t, f, x):
    half = x.shape[f.dim] // 2
    a, b = t.op("Split", x, [half, half], outputs=2, axis=f.dim)
    return t.op("Mul", a, t.op("Sigmoid", b))


# --- windows ---
def _batched(row):
    """A row for (N, C, ...) that also takes (C, ...)."""
    def call(t, f, x, *rest):
        if x.ndim == f.n + 2:
            return row(t, f, x, *rest)
        y = t.op("Unsqueeze", x, [0])
        y = row(t, f, Value(y.name, (1, *x.shape), x.dtype), *rest)
        return tuple([t.op("Squeeze", v, [0]) for v in y]) if isinstance(y, tuple) else t.op("Squeeze", y, [0])
    return call


def _ends(f, x, outputs, kernel, stride, padding, dilation):
    """The padding behind each axis that gives so many outputs."""
    ends = []
    for n, o, k, s, p, d in zip(x.shape[2:], outputs, kernel, stride, padding, dilation, strict=True):
        span = d * (k - 1) + 1
        ends.append(p if (n + 2 * p - span) // s + 1 == o else (o - 1) * s + span - n - p)
    return ends


@_batched
def _conv(t, f, x, w, b):
    stride, padding, dilation = [values[-f.n:] for values in f.geometry[:3]]
    kernel = w.shape[2:]
    ends = _ends(f, x, f.outputs, kernel, stride, padding, dilation)
    return t.op("Conv", x, w, b, kernel_shape=list(kernel), strides=list(stride), pads=[*padding, *ends],
                dilations=list(dilation), group=f.groups)


@_batched
def _conv_transpose(t, f, x, w, b):
    stride, padding, dilation = [values[-f.n:] for values in f.geometry[:3]]
    kernel = w.shape[2:]
    more = [o - ((n - 1) * s - 2 * p + d * (k - 1) + 1) for o, n, s, p, d, k in
            zip(f.outputs, x.shape[2:], stride, padding, dilation, kernel, strict=True)]
    return t.op("ConvTranspose", x, w, b, kernel_shape=list(kernel), strides=list(stride), pads=[*padding, *padding],
                dilations=list(dilation), output_padding=more, group=f.groups)


@_batched
def _max_pool(t, f, x):
    kernel, stride, padding, dilation = [values[-f.n:] for values in f.window]
    ends = _ends(f, x, f.size[-f.n:], kernel, stride, padding, dilation)
    options = {"kernel_shape": list(kernel), "strides": list(stride), "pads": [*padding, *ends],
               "dilations": list(dilation)}
    if not f.return_indices:
        return t.op("MaxPool", x, **options)
    y, places = t.op("MaxPool", x, outputs=2, **options)  # numbered throughout the tensor; kdl's start in each plane
    places = Value(places.name, None, types.int64)
    return y, t.op("Mod", places, math.prod(x.shape[2:]))


@_batched
def _avg_pool(t, f, x):
    kernel, stride, padding, count_include_pad, divisor = (
        v[-f.n:] if isinstance(v, tuple) else v for v in f.parameters)
    outputs, ones = f.size[-f.n:], (1,) * f.n
    ends = _ends(f, x, outputs, kernel, stride, padding, ones)
    options = {"kernel_shape": list(kernel), "strides": list(stride)}
    if list(padding) == ends and not divisor:
        return t.op("AveragePool", x, pads=[*padding, *ends], count_include_pad=int(count_include_pad), **options)
    y = t.op("Pad", x, [0, 0, *padding, 0, 0, *ends]) if any(padding) or any(ends) else x
    mean = t.op("AveragePool", y, **options)
    count = np.full(outputs, divisor or 1)
    if not divisor:
        for axis, (n, o, k, s, p) in enumerate(zip(x.shape[2:], outputs, kernel, stride, padding, strict=True)):
            start = np.arange(o) * s - p
            low, high = (-p, n + p) if count_include_pad else (0, n)
            inside = np.minimum(start + k, high) - np.maximum(start, low)
            count = count * inside.reshape([-1 if d == axis else 1 for d in range(f.n)])
    return t.op("Mul", mean, np.asarray(math.prod(kernel) / count, x.dtype))


@_batched
def _adaptive_avg(t, f, x):
    outputs = f.size[-f.n:]
    if set(outputs) == {1}:
        return t.op("GlobalAveragePool", x)
    if all(n % o == 0 for n, o in zip(x.shape[2:], outputs, strict=True) if o):
        window = [n // max(o, 1) for n, o in zip(x.shape[2:], outputs, strict=True)]
        return t.op("AveragePool", x, kernel_shape=window, strides=window)
    for axis, (n, o) in enumerate(zip(x.shape[2:], outputs, strict=True), 2):
        matrix = np.zeros((o, n))
        for i in range(o):
            low, high = i * n // o, -(-(i + 1) * n // o)
            matrix[i, low:high] = 1 / (high - low)
        x = Value(along_axis(t, x, x.ndim, axis, matrix).name, x.shape, x.dtype)
    return x


@_batched
def _adaptive_max(t, f, x):
    outputs = f.size[-f.n:]
    if any(o == 0 or n % o for n, o in zip(x.shape[2:], outputs, strict=True)):
        return t.refuse(f"is written only for sizes that divide the input's, not {outputs} of {x.shape[2:]}")
    window = [n // o for n, o in zip(x.shape[2:], outputs, strict=True)]
    if not f.return_indices:
        return t.op("MaxPool", x, kernel_shape=window, strides=window)
    y, places = t.op("MaxPool", x, outputs=2, kernel_shape=window, strides=window)
    return y, t.op("Mod", Value(places.name, None, types.int64), math.prod(x.shape[2:]))


def _max_unpool(t, f, x, at):
    planes, lead, size = math.prod(x.shape[:-f.n]), list(x.shape[:-f.n]), f.size[-f.n:]
    zeros = np.zeros((planes, math.prod(size)), x.dtype)
    rows = [t.op("Reshape", v, [planes, math.prod(x.shape[-f.n:])]) for v in (x, at)]
    return t.op("Reshape", t.op("ScatterElements", zeros, rows[1], rows[0], axis=1, dtype=x.dtype), [*lead, *size])


def _unfold(t, f, x):
    (R, S), (down, right), (pad_h, pad_w), (step_h, step_w) = f.window
    N, C, H, W = x.shape
    P = (H + 2 * pad_h - down * (R - 1) - 1) // step_h + 1
    Q = (W + 2 * pad_w - right * (S - 1) - 1) // step_w + 1
    y = t.op("Pad", x, [0, 0, pad_h, pad_w] * 2) if pad_h or pad_w else x
    taps = [t.op("Unsqueeze", t.op("Slice", y, [r * down, s * right],
                                   [r * down + (P - 1) * step_h + 1, s * right + (Q - 1) * step_w + 1], [2, 3],
                                   [step_h, step_w]), [2]) for r in range(R) for s in range(S)]
    return t.op("Reshape", t.op("Concat", *taps, axis=2), [N, C * R * S, P * Q])


def _fold(t, f, x):
    kernel, dilation, padding, stride = (list(v) for v in f.window)
    return t.op("Col2Im", x, list(f.size), kernel, dilations=dilation, pads=[*padding, *padding], strides=stride)


# --- sampling ---
def _resample(t, f, x):
    ndim, y = x.ndim, x
    for dim, (at, w) in enumerate(f.tables, 2):
        if at.shape[1] == 1:  # nearest
            y = t.op("Gather", y, at[:, 0], axis=dim)
            continue
        matrix = np.zeros((len(at), x.shape[dim]), np.float64)
        np.add.at(matrix, (np.arange(len(at))[:, None], at), w)
        y = along_axis(t, y, ndim, dim, matrix)
    return y


def _interpolate(t, x, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias):
    """Resize, where it says the same: rounding may choose another neighbour than kdl's unless ratios are whole."""
    if antialias or mode == "area":
        return None
    n = x.ndim - 2
    sizes = scales = None
    if scale_factor is None or recompute_scale_factor:
        if size is None:
            factors = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * n
            size = [math.floor(length * factor) for length, factor in zip(x.shape[2:], factors, strict=True)]
        sizes = [*(size if isinstance(size, (tuple, list)) else [size] * n)]
    else:
        scales = np.asarray(scale_factor if isinstance(scale_factor, (tuple, list)) else [scale_factor] * n, np.float32)
    places = "align_corners" if align_corners else "half_pixel"
    options = {"mode": "cubic" if mode == "bicubic" else "linear", "coordinate_transformation_mode": places}
    if mode.startswith("nearest"):
        ratios = scales if scales is not None else [o / length for o, length in zip(sizes, x.shape[2:], strict=True)]
        if any(r != int(r) for r in ratios):
            return None
        exact = mode == "nearest-exact"
        options = {"mode": "nearest", "nearest_mode": "round_prefer_ceil" if exact else "floor",
                   "coordinate_transformation_mode": "half_pixel" if exact else "asymmetric"}
    return t.op("Resize", x, None, scales, sizes, axes=list(range(2, n + 2)), cubic_coeff_a=-0.75, **options)


def _grid_sample(t, x, grid, mode, padding_mode, align_corners):
    if t.opset >= 20:
        mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    elif x.ndim == 5:
        return t.refuse("needs opset_version 20 for volumes")
    return t.op("GridSample", x, grid, mode=mode, padding_mode=padding_mode, align_corners=int(bool(align_corners)))


# --- normalisation ---
def _ones(t, w, shape, dtype):
    return t.constant(np.ones(shape, dtype)) if w is None else w


def _zeros(t, b, shape, dtype):
    return t.constant(np.zeros(shape, dtype)) if b is None else b


def _per_channel(t, y, w, b, ndim):
    """y w + b, for one value per channel."""
    for op, v in (("Mul", w), ("Add", b)):
        if v is not None:
            y = t.op(op, y, t.op("Reshape", v, [-1, *[1] * (ndim - 2)]))
    return y


def _batch_norm(t, f, x, w, b, mean, var):
    C = x.shape[1]
    if not f.training:
        return t.op("BatchNormalization", x, _ones(t, w, C, mean.dtype), _zeros(t, b, C, mean.dtype), mean, var,
                    epsilon=f.eps)
    axes = [0, *range(2, x.ndim)]  # statistics of the batch, of a layer that keeps none
    centred = t.op("Sub", x, t.op("ReduceMean", x, axes, keepdims=1))
    v = t.op("ReduceMean", t.op("Mul", centred, centred), axes, keepdims=1)
    return _per_channel(t, t.op("Div", centred, t.op("Sqrt", t.op("Add", v, f.eps))), w, b, x.ndim)


def _instance_norm(t, x, mean, var, w, b, use_input_stats, momentum, eps):
    if not use_input_stats:
        return None
    C = x.shape[1]
    return t.op("InstanceNormalization", x, _ones(t, w, C, x.dtype), _zeros(t, b, C, x.dtype), epsilon=float(eps))


def _layer_norm(t, f, x, w, b):
    return t.op("LayerNormalization", x, _ones(t, w, f.shape, x.dtype), b, axis=-len(f.shape),
                epsilon=f.eps)


def _rms_norm(t, f, x, w, b):
    mean = t.op("ReduceMean", t.op("Mul", x, x), list(range(x.ndim - len(f.shape), x.ndim)), keepdims=1)
    y = t.op("Div", x, t.op("Sqrt", t.op("Add", mean, f.eps)))
    return y if w is None else t.op("Mul", y, w)


def _group_norm(t, f, x, w, b):
    G = f.groups
    y = t.op("Reshape", x, [0, G, -1])
    y = t.op("InstanceNormalization", y, np.ones(G, x.dtype), np.zeros(G, x.dtype), epsilon=f.eps)
    return _per_channel(t, t.op("Reshape", y, list(x.shape)), w, b, x.ndim)


# --- recurrence ---
_ORDER = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}  # torch's gates in the order of ONNX: i o f c and z r h


def _recurrent(t, f, x, w, b, *states):
    kind = {"RNN": "RNN", "GRU": "GRU", "LSTM": "LSTM"}[type(f).__name__]
    gates, states = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind], [h for h in states if h is not None]
    if len(states) > 1 + (kind == "LSTM"):
        return t.refuse("has a projection, which the LSTM of ONNX lacks")
    T, N, H = len(f.sizes), f.sizes[0], w.shape[1]
    if f.sizes[-1] != N:
        return t.refuse("has sequences of several lengths, which are written only padded")
    source = t.linear.get(x.name)
    inner, w_ih, b_ih = source or (x, t.constant(np.eye(x.shape[-1], dtype=x.dtype)), None)
    if x.ndim == 2:
        inner = t.op("Reshape", inner, [T, N, inner.shape[-1]])

    def parameter(v):
        if f.op in _ORDER:
            parts = t.op("Split", v, [H] * gates, outputs=gates, axis=0)
            v = t.op("Concat", *[parts[i] for i in _ORDER[f.op]], axis=0)
        return v

    biases = None
    if b_ih is not None or b is not None:
        both = [parameter(_zeros(t, v, gates * H, x.dtype)) for v in (b_ih, b)]
        biases = t.op("Unsqueeze", t.op("Concat", *both, axis=0), [0])
    first = [None if h.constant is not None and not h.constant.any() else t.op("Unsqueeze", h, [0]) for h in states]
    options = {"hidden_size": H, "direction": "reverse" if f.reverse else "forward"}
    if kind == "GRU":
        options["linear_before_reset"] = 1
    if kind == "RNN":
        options["activations"] = ["Relu" if f.op == "rnn_relu" else "Tanh"]
    w_ih, w = [t.op("Unsqueeze", parameter(v), [0]) for v in (w_ih, w)]
    y, *last = t.op(kind, inner, w_ih, w, biases, None, *first, outputs=1 + len(states), **options)
    y = t.op("Squeeze", y, [1])
    return t.op("Reshape", y, [-1, H]) if x.ndim == 2 else y, *[t.op("Squeeze", h, [0]) for h in last]


# --- attention ---
def _attention(t, f, q, k, v, mask):
    s = t.op("MatMul", q, t.op("Transpose", k, perm=[*range(k.ndim - 2), k.ndim - 1, k.ndim - 2]))
    s = t.op("Mul", s, float(f.scale))
    lowest, hides = t.constant(np.asarray(-math.inf, q.dtype)), False
    if f.causal:
        s = t.op("Where", np.tri(q.shape[-2], k.shape[-2], dtype=bool), s, lowest, dtype=q.dtype)
    if mask is not None and mask.dtype == types.boolean:
        hides = mask.constant is None or not mask.constant.any(-1).all()
        s = t.op("Where", mask, s, lowest, dtype=q.dtype)
    elif mask is not None:
        hides = mask.constant is None or bool(np.isneginf(mask.constant.max(-1)).any())
        s = t.op("Add", s, mask)
    p = t.op("Softmax", s, axis=-1)
    if hides and not f.weights:  # a query that may look nowhere gets 0
        nowhere = t.op("Equal", t.op("ReduceMax", s, [-1], keepdims=1), lowest)
        p = t.op("Where", nowhere, t.constant(np.asarray(0, q.dtype)), p, dtype=q.dtype)
    y = t.op("MatMul", p, v)
    return (y, p) if f.weights else y


def _bag(t, f, weight, scale, index, bag, n):
    """The bags have to be the same for every input: their numbers are constants."""
    if not isinstance(bag, Value) or bag.constant is None:
        return t.refuse("has bags that depend on the input")
    rows = t.op("Gather", weight, index)
    if scale is not None:
        rows = t.op("Mul", rows, t.op("Unsqueeze", scale, [1]))
    D = weight.shape[1]
    places = np.broadcast_to(bag.constant[:, None], (bag.constant.size, D))
    y = t.op("ScatterElements", np.zeros((n, D), weight.dtype), places, rows, axis=0, reduction="add",
             dtype=weight.dtype)
    return t.op("Div", y, f.lengths) if f.mean else y


def _activation(op, *names, **fixed):
    def row(t, f, x):
        return t.op(op, x, **fixed, **dict(zip(names, map(float, f.parameters), strict=False)))
    return row


FUNCTIONS = {
    "MatMul": lambda t, f, a, b: t.op("MatMul", a, b), "Linear": _linear, "Euclidean": _euclidean,
    "LeakyReLU": _activation("LeakyRelu", "alpha"), "Hardswish": _activation("HardSwish"),
    "Hardsigmoid": _activation("HardSigmoid", alpha=1 / 6, beta=0.5), "Hardshrink": _activation("Shrink", "lambd"),
    "Softshrink": lambda t, f, x: t.op("Shrink", x, lambd=float(f.parameters[0]), bias=float(f.parameters[0])),
    "Hardtanh": lambda t, f, x: t.op("Clip", x, *f.parameters), "Threshold": _threshold, "ELU": _elu,
    "LogSigmoid": lambda t, f, x: t.op("Neg", t.op("Softplus", t.op("Neg", x))), "Softplus": _softplus,
    "Tanhshrink": lambda t, f, x: t.op("Sub", x, t.op("Tanh", x)), "GELU": _gelu("none"), "GELUTanh": _gelu("tanh"),
    "SiLU": lambda t, f, x: t.op("Mul", x, t.op("Sigmoid", x)),
    "Mish": lambda t, f, x: t.op("Mul", x, t.op("Tanh", t.op("Softplus", x))), "PReLU": _prelu, "GLU": _glu,
    "Softmax": lambda t, f, x: t.op("Softmax", x, axis=f.dim),
    "LogSoftmax": lambda t, f, x: t.op("LogSoftmax", x, axis=f.dim),
    "Convolution": _conv, "ConvolutionTranspose": _conv_transpose, "MaxPool": _max_pool, "AvgPool": _avg_pool,
    "AdaptiveAvgPool": _adaptive_avg, "AdaptiveMaxPool": _adaptive_max, "MaxUnpool": _max_unpool, "Unfold": _unfold,
    "Fold": _fold, "Resample": _resample, "BatchNorm": _batch_norm, "LayerNorm": _layer_norm, "RMSNorm": _rms_norm,
    "GroupNorm": _group_norm, "RNN": _recurrent, "GRU": _recurrent, "LSTM": _recurrent, "Attention": _attention,
    "Embedding": lambda t, f, weight, index: t.op("Gather", weight, index), "Bag": _bag,
}

CALLS = {"resample.interpolate": _interpolate, "grid.grid_sample": _grid_sample, "norm.instance_norm": _instance_norm}
