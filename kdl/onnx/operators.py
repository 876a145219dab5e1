"""ONNX operators as kdl functions: OPERATORS has one for each that `load` knows.

Each is called with the node, for its attributes, and its inputs, None for those that are left out, and gives the
outputs. Attributes that became inputs in later opsets are read from either.
"""
import math

import numpy as np

import kdl
from kdl import types
from kdl.errors import expect
from kdl.nn import functional as F
from kdl.onnx.operators_layers import LAYERS, ints_of
from kdl.tensor import Tensor


def _unary(function):
    return lambda n, x: function(x)


def _many(function):
    def call(n, first, *rest):
        for x in rest:
            first = function(first, x)
        return first
    return call


def _int(x):
    return int(x.array.reshape(-1)[0])


def _int64(values):
    return Tensor(np.asarray(values, np.int64))


def _as(dtype):
    return types.as_dtype(np.dtype(_np_dtype(dtype)))


def _np_dtype(number):
    from onnx import helper
    return helper.tensor_dtype_to_np_dtype(number)


# --- arithmetic ---
def _div(n, x, y):
    return kdl.div(x, y) if x.is_floating_point() else kdl.div(x, y, rounding_mode="trunc")


def _mod(n, x, y):
    return kdl.fmod(x, y) if n.get("fmod", 0) else kdl.remainder(x, y)


def _pow(n, x, y):
    if y.array.size == 1 and not y.requires_grad:
        y = y.array.item()
        return x ** (int(y) if float(y).is_integer() else y)
    return x ** y.to(x.dtype)


def _clip(n, x, low=None, high=None):
    low = n.get("min") if low is None else low.array.item()
    high = n.get("max") if high is None else high.array.item()
    return x if low is None and high is None else x.clamp(low, high)


def _isinf(n, x):
    up, down = n.get("detect_positive", 1), n.get("detect_negative", 1)
    return kdl.isinf(x) if up and down else kdl.isposinf(x) if up else kdl.isneginf(x)


def _cast(n, x, *rest):
    return x.to(_as(n.get("to")))


def _hard_sigmoid(n, x):
    return (x * n.get("alpha", 0.2) + n.get("beta", 0.5)).clamp(0, 1)


def _shrink(n, x):
    lambd, bias = n.get("lambd", 0.5), n.get("bias", 0.0)
    return kdl.where(x > lambd, x - bias, kdl.where(x < -lambd, x + bias, kdl.zeros_like(x)))


def _selu(n, x):
    alpha, gamma = n.get("alpha", 1.67326319217681884765625), n.get("gamma", 1.05070102214813232421875)
    return F.elu(x, alpha) * gamma


def _prelu(n, x, slope):
    if slope.array.size == 1:
        return F.prelu(x, slope.reshape(1))
    return kdl.where(x < 0, x * slope, x)


def _softmax(function):
    def call(n, x):
        return function(x, n.get("axis", -1))
    return call


def _random(draw):
    def call(n, x=None):
        shape = x.shape if x is not None else n.get("shape")
        dtype = _as(n.get("dtype")) if n.get("dtype") else x.dtype if x is not None else types.float32
        return draw(n, kdl.empty(*shape, dtype=dtype))
    return call


# --- products ---
def _gemm(n, a, b, c=None):
    alpha, beta = n.get("alpha", 1.0), n.get("beta", 1.0)
    a = a.t() if n.get("transA", 0) else a
    if n.get("transB", 0) and alpha == beta == 1 and (c is None or c.shape == b.shape[:1]):
        return F.linear(a, b, c)
    y = a @ (b.t() if n.get("transB", 0) else b)
    y = y if alpha == 1 else y * alpha
    return y if c is None else y + (c if beta == 1 else c * beta)


# --- shapes ---
def _reshape(n, x, shape=None):
    shape = n.ints("shape", shape)
    if not n.get("allowzero", 0):
        shape = [x.shape[i] if length == 0 else length for i, length in enumerate(shape)]
    return x.reshape(shape)


def _flatten(n, x):
    axis = n.get("axis", 1)
    axis += x.ndim if axis < 0 else 0
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _squeeze(n, x, axes=None):
    axes = n.ints("axes", axes)
    return x.squeeze() if axes is None else x.squeeze(tuple(axes)) if axes else x


def _unsqueeze(n, x, axes=None):
    axes = n.ints("axes", axes)
    for axis in sorted(a % (x.ndim + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


def _shape(n, x):
    return _int64(x.shape[n.get("start", 0):n.get("end")])


def _expand(n, x, shape):
    return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(ints_of(shape))))


def _slice(n, x, starts=None, ends=None, axes=None, steps=None):
    starts, ends = n.ints("starts", starts), n.ints("ends", ends)
    axes = n.ints("axes", axes) or list(range(len(starts)))
    key, flipped = [slice(None)] * x.ndim, []
    for start, end, axis, step in zip(starts, ends, axes, n.ints("steps", steps) or [1] * len(starts), strict=True):
        length = x.shape[axis]
        if step < 0:  # the same elements forwards, then turned round
            chosen = range(length)[slice(start, None if end < -length else end, step)]
            start, end, step = (chosen[-1], chosen[0] + 1, -step) if len(chosen) else (0, 0, 1)
            flipped.append(axis)
        key[axis] = slice(start, min(end, length), step)
    y = x[tuple(key)]
    return y.flip(flipped) if flipped else y


def _split(n, x, sizes=None):
    axis, sizes = n.get("axis", 0), n.ints("split", sizes)
    if sizes is None:
        parts = n.get("num_outputs") or len(n.outputs)
        return x.split(-(-x.shape[axis] // parts), axis)
    return x.split(sizes, axis)


def _concat(n, *xs):
    return kdl.cat(list(xs), n.get("axis"))


def _gather(n, x, index):
    axis = n.get("axis", 0) % x.ndim
    if axis == 0 and x.ndim == 2 and x.is_floating_point() and index.array.size and index.array.min() >= 0:
        return F.embedding(index, x)
    if index.ndim == 0:
        return x.select(axis, int(index))
    return x[(*[slice(None)] * axis, index)]


def _gather_elements(n, x, index):
    axis = n.get("axis", 0) % x.ndim
    return x.gather(axis, index if not index.array.size or index.array.min() >= 0 else kdl.where(
        index < 0, index + x.shape[axis], index))


def _gather_nd(n, x, index):
    batch = n.get("batch_dims", 0)
    expect(batch == 0, "GatherND", "batch_dims 0", batch_dims=batch)
    return x[tuple(index.unbind(-1))]


def _scatter_elements(n, x, index, source):
    axis, reduction = n.get("axis", 0) % x.ndim, n.get("reduction", "none")
    index = index if not index.array.size or index.array.min() >= 0 else kdl.where(index < 0, index + x.shape[axis],
                                                                                  index)
    if reduction == "none":
        return x.scatter(axis, index, source)
    if reduction == "add":
        return x.scatter_add(axis, index, source)
    return x.scatter_reduce(axis, index, source, {"mul": "prod", "max": "amax", "min": "amin"}[reduction])


def _scatter_nd(n, x, index, source):
    reduction = n.get("reduction", "none")
    expect(reduction in ("none", "add"), "ScatterND", "reduction 'none' or 'add'", reduction=reduction)
    keys = tuple(index.unbind(-1))
    if len(keys) == x.ndim:
        return x.index_put(keys, source, reduction == "add")
    rows = math.prod(x.shape[:len(keys)])
    flat = sum([k * math.prod(x.shape[i + 1:len(keys)]) for i, k in enumerate(keys)]).reshape(-1)
    y, values = x.reshape(rows, -1), source.reshape(flat.shape[0], -1)
    return (y.index_add(0, flat, values) if reduction == "add" else y.index_copy(0, flat, values)).reshape(x.shape)


def _tile(n, x, repeats):
    return x.repeat(ints_of(repeats))


def _pad(n, x, pads=None, value=None, axes=None):
    pads, axes = n.ints("pads", pads), n.ints("axes", axes) or list(range(x.ndim))
    value = n.get("value", 0.0) if value is None else value.array.item()
    left, right = pads[:len(axes)], pads[len(axes):]
    pairs = {a % x.ndim: pair for a, pair in zip(axes, zip(left, right, strict=True), strict=True)}
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}[
        n.get("mode", "constant")]
    first = min([a for a, pair in pairs.items() if any(pair)], default=x.ndim)
    flat = [p for a in range(x.ndim - 1, first - 1, -1) for p in pairs.get(a, (0, 0))]
    return F.pad(x, flat, mode, value) if mode == "constant" else F.pad(x, flat, mode) if flat else x


def _trilu(n, x, k=None):
    return (kdl.triu if n.get("upper", 1) else kdl.tril)(x, 0 if k is None else _int(k))


def _range(n, start, limit, step):
    return Tensor(np.arange(start.array.item(), limit.array.item(), step.array.item(), start.dtype))


def _constant_of_shape(n, shape):
    from onnx import numpy_helper
    value = n.get("value")
    value = np.zeros(1, np.float32) if value is None else numpy_helper.to_array(value)
    return Tensor(np.full(tuple(ints_of(shape)), value.item(), value.dtype))


def _one_hot(n, index, depth, values):
    depth, (off, on) = _int(depth), values.array.reshape(-1).tolist()
    index = kdl.where(index < 0, index + depth, index).long()
    hot, axis = F.one_hot(index, depth), n.get("axis", -1)
    hot = hot.movedim(-1, axis)
    return hot.to(values.dtype) * (on - off) + off


# --- reductions ---
def _reduce(function):
    def call(n, x, axes=None):
        axes = n.ints("axes", axes)
        keep = bool(n.get("keepdims", 1))
        if not axes and n.get("noop_with_empty_axes", 0):
            return x
        axes = tuple(range(x.ndim)) if not axes else tuple(axes)
        return function(x, axes, keep)
    return call


def _prod(x, axes, keep):
    for axis in sorted([a % max(x.ndim, 1) for a in axes], reverse=True):
        x = x.prod(axis, keep)
    return x


def _position(function):
    def call(n, x):
        axis, keep = n.get("axis", 0), bool(n.get("keepdims", 1))
        if n.get("select_last_index", 0):
            return x.shape[axis] - 1 - function(x.flip(axis), axis, keep)
        return function(x, axis, keep)
    return call


def _topk(n, x, k):
    return tuple(x.topk(_int(k), n.get("axis", -1), bool(n.get("largest", 1))))


def _cumsum(n, x, axis):
    axis = _int(axis)
    y = x.flip(axis) if n.get("reverse", 0) else x
    sums = y.cumsum(axis)
    sums = sums - y if n.get("exclusive", 0) else sums
    return sums.flip(axis) if n.get("reverse", 0) else sums


OPERATORS = {
    "Identity": _unary(lambda x: x), "Dropout": lambda n, x, *rest: x, "Cast": _cast, "Mod": _mod, "Pow": _pow,
    "CastLike": lambda n, x, like: x.to(like.dtype),
    **{name: _unary(getattr(kdl, name.lower())) for name in (
        "Abs", "Exp", "Log", "Sqrt", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh",
        "Atanh", "Floor", "Ceil", "Round", "Sign", "Neg", "Reciprocal", "Erf", "Sigmoid", "Tanh", "Relu", "IsNaN")},
    "Softsign": _unary(F.softsign), "Softplus": _unary(F.softplus), "HardSwish": _unary(F.hardswish),
    "Mish": _unary(F.mish), "Selu": _selu, "PRelu": _prelu, "Clip": _clip, "Shrink": _shrink, "IsInf": _isinf,
    "HardSigmoid": _hard_sigmoid, "Elu": lambda n, x: F.elu(x, n.get("alpha", 1.0)),
    "Celu": lambda n, x: F.celu(x, n.get("alpha", 1.0)), "Swish": lambda n, x: x * (x * n.get("alpha", 1.0)).sigmoid(),
    "LeakyRelu": lambda n, x: F.leaky_relu(x, n.get("alpha", 0.01)),
    "ThresholdedRelu": lambda n, x: F.threshold(x, n.get("alpha", 1.0), 0.0),
    "Gelu": lambda n, x: F.gelu(x, n.get("approximate", "none")), "Softmax": _softmax(F.softmax),
    "LogSoftmax": _softmax(F.log_softmax), "Add": _many(kdl.add), "Sub": _many(kdl.sub), "Mul": _many(kdl.mul),
    "Div": _div, "Max": _many(kdl.maximum), "Min": _many(kdl.minimum), "Sum": _many(kdl.add),
    "Mean": lambda n, *xs: sum(xs[1:], xs[0]) / len(xs), "Equal": _many(kdl.eq), "Less": _many(kdl.lt),
    "LessOrEqual": _many(kdl.le), "Greater": _many(kdl.gt), "GreaterOrEqual": _many(kdl.ge),
    "Not": _unary(kdl.logical_not), "And": _many(kdl.logical_and), "Or": _many(kdl.logical_or),
    "Xor": _many(kdl.logical_xor), "BitwiseAnd": _many(kdl.bitwise_and), "BitwiseOr": _many(kdl.bitwise_or),
    "BitwiseXor": _many(kdl.bitwise_xor), "BitwiseNot": _unary(kdl.bitwise_not),
    "Where": lambda n, c, x, y: kdl.where(c, x, y),
    "RandomNormal": _random(lambda n, x: x.normal_(n.get("mean", 0.0), n.get("scale", 1.0))),
    "RandomUniform": _random(lambda n, x: x.uniform_(n.get("low", 0.0), n.get("high", 1.0))),
    "MatMul": _many(kdl.matmul), "Gemm": _gemm,
    "Einsum": lambda n, *xs: kdl.einsum(n.get("equation"), *xs),
    "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Shape": _shape,
    "Size": lambda n, x: _int64(x.numel()), "Expand": _expand, "Slice": _slice, "Split": _split, "Concat": _concat,
    "Transpose": lambda n, x: x.permute(n.get("perm", list(range(x.ndim))[::-1])), "Gather": _gather,
    "GatherElements": _gather_elements, "GatherND": _gather_nd, "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd, "Tile": _tile, "Pad": _pad, "Trilu": _trilu, "Range": _range, "OneHot": _one_hot,
    "ConstantOfShape": _constant_of_shape, "NonZero": lambda n, x: x.nonzero().t(),
    "ReduceSum": _reduce(lambda x, axes, keep: x.sum(axes, keep).to(x.dtype)), "ReduceProd": _reduce(_prod),
    "ReduceMean": _reduce(kdl.mean), "ReduceMax": _reduce(kdl.amax), "ReduceMin": _reduce(kdl.amin),
    "ReduceLogSumExp": _reduce(kdl.logsumexp), "ReduceL1": _reduce(lambda x, axes, keep: x.abs().sum(axes, keep)),
    "ReduceL2": _reduce(lambda x, axes, keep: (x * x).sum(axes, keep).sqrt()),
    "ReduceSumSquare": _reduce(lambda x, axes, keep: (x * x).sum(axes, keep)),
    "ReduceLogSum": _reduce(lambda x, axes, keep: x.sum(axes, keep).log()),
    "ArgMax": _position(kdl.argmax), "ArgMin": _position(kdl.argmin), "TopK": _topk, "CumSum": _cumsum,
    **LAYERS,
}
OPERATORS["RandomNormalLike"], OPERATORS["RandomUniformLike"] = OPERATORS["RandomNormal"], OPERATORS["RandomUniform"]
