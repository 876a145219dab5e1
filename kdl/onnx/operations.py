"""How operations are written as ONNX nodes: arithmetic, shapes and reductions here, the rest in two files beside.

FUNCTIONS has a row for each Function by its class name, called with the trace, the Function and the Values of its
inputs; CALLS for functions that are none, by module and name, with all their arguments; WRITES for those that write
into their first argument. A row returns the Values of the results, None to leave what was traced inside as it is.
"""
import math

import numpy as np

from kdl import types
from kdl.onnx import layers, selections
from kdl.onnx.selections import is_float, reduced, slices
from kdl.onnx.trace import Value

_END = np.iinfo(np.int64).max


# --- formulas ---
def _numbers(f):
    """The parameters that a Function's formula encloses, by name."""
    return {name: cell.cell_contents for name, cell in
            zip(f.value.__code__.co_freevars, f.value.__closure__ or (), strict=True)}


def _both(t, x, y):
    """Two operands as Values of the dtype that they promote to."""
    dtype = types.result_type(x, y)
    return t.cast(x, dtype), t.cast(y, dtype)


def _simple(op, **attributes):
    return lambda t, f, *xs: t.op(op, *xs, **attributes)


def _binary(op, logical=None):
    def row(t, f, x, y):
        x, y = _both(t, x, y)
        return t.op(logical if logical and x.dtype == types.boolean else op, x, y)
    return row


def _trunc(t, x):
    return t.op("Mul", t.op("Sign", x), t.op("Floor", t.op("Abs", x))) if is_float(x) else x


def _stepped(op):
    return lambda t, f, x: t.op(op, x) if is_float(x) else x


def _div_floor(t, f, x, y):
    x, y = _both(t, x, y)
    if is_float(x):
        return t.op("Floor", t.op("Div", x, y))
    return t.op("Div", t.op("Sub", x, t.op("Mod", x, y)), y)


def _div_trunc(t, f, x, y):
    x, y = _both(t, x, y)
    return _trunc(t, t.op("Div", x, y))


def _remainder(t, f, x, y):
    x, y = _both(t, x, y)
    if not is_float(x):
        return t.op("Mod", x, y)
    r = t.op("Mod", x, y, fmod=1)
    differs = t.op("Xor", t.op("Less", r, 0), t.op("Less", y, 0))
    return t.op("Where", t.op("And", differs, t.op("Not", t.op("Equal", r, 0))), t.op("Add", r, y), r, dtype=x.dtype)


def _choose(t, condition, x, y):
    return t.op("Where", condition, x, y, dtype=x.dtype if isinstance(x, Value) else y.dtype)


def _where(t, f, c, x, y):
    return t.op("Where", c, t.cast(x, f.dtype), t.cast(y, f.dtype), dtype=f.dtype)


def _clamp(t, f, x, low, high):
    if not isinstance(low, Value) and not isinstance(high, Value):
        return t.op("Clip", x, low, high)
    x = x if low is None else t.op("Max", x, low)
    return x if high is None else t.op("Min", x, high)


def _round(t, f, x):
    scale = 10.0 ** _numbers(f)["decimals"]
    if not is_float(x) or scale == 1:
        return t.op("Round", x) if is_float(x) else x
    return t.op("Div", t.op("Round", t.op("Mul", x, scale)), scale)


def _nan_to_num(t, f, x):
    n = _numbers(f)
    y = _choose(t, t.op("IsNaN", x), t.constant(np.asarray(n["nan"], x.dtype)), x)
    for name, signs in (("posinf", {"detect_negative": 0}), ("neginf", {"detect_positive": 0})):
        y = _choose(t, t.op("IsInf", x, **signs), t.constant(np.asarray(n[name], x.dtype)), y)
    return y


def _logit(t, f, x):
    n = _numbers(f)
    x = x if n["low"] == -math.inf else t.op("Clip", x, n["low"], n["high"])
    return t.op("Log", t.op("Div", x, t.op("Sub", t.constant(1, x.dtype), x)))


def _atan2(t, f, y, x):
    y, x = _both(t, y, x)
    pi = t.constant(np.asarray(math.pi, x.dtype))
    turn = _choose(t, t.op("Less", y, 0), t.op("Neg", pi), pi)
    angle = t.op("Add", t.op("Atan", t.op("Div", y, x)), t.op("Mul", turn, t.cast(t.op("Less", x, 0), x.dtype)))
    origin = t.op("And", t.op("Equal", x, 0), t.op("Equal", y, 0))
    return _choose(t, origin, t.constant(0, x.dtype), angle)


def _logaddexp(t, f, x, y):
    x, y = _both(t, x, y)
    near = t.op("Exp", t.op("Neg", t.op("Abs", t.op("Sub", x, y))))
    return t.op("Add", t.op("Max", x, y), t.op("Log", t.op("Add", near, 1)))


def _lerp(t, f, x, end, weight):
    return t.op("Add", x, t.op("Mul", t.op("Sub", end, x), weight))


def _sinc(t, f, x):
    z = t.op("Mul", x, math.pi)
    return _choose(t, t.op("Equal", x, 0), t.constant(1, x.dtype), t.op("Div", t.op("Sin", z), z))


# --- shapes ---
def _basic(t, x, key):
    """x[key] for ints, slices, None and one Ellipsis."""
    ranges, squeezed, kept, dim = [], [], [], 0
    place = key.index(...) if ... in key else len(key)
    behind = sum(k is not None for k in key[place + 1:])
    for k in key:
        if k is None:
            kept.append(None)
        elif k is ...:
            kept += [1] * (x.ndim - behind - dim)
            dim = x.ndim - behind
        else:
            if isinstance(k, slice):
                if k != slice(None):
                    start, end = k.start or 0, _END if k.stop is None else k.stop
                    ranges.append((dim, start, end, k.step or 1))
                kept.append(1)
            else:
                ranges.append((dim, k, _END if k == -1 else k + 1, 1))
                squeezed.append(dim)
            dim += 1
    y = slices(t, x, ranges) if ranges else x
    y = t.op("Squeeze", y, squeezed) if squeezed else y
    added = [i for i, k in enumerate(kept) if k is None]
    return t.op("Unsqueeze", y, added) if added else y


def _diagonal(t, f, x):
    offset, dim1, dim2 = f.at
    shape = f.shape
    others = [d for d in range(len(shape)) if d not in (dim1, dim2)]
    places = np.arange(shape[dim1] * shape[dim2]).reshape(shape[dim1], shape[dim2]).diagonal(offset)
    rows = t.op("Reshape", t.op("Transpose", x, perm=[*others, dim1, dim2]), [*[shape[d] for d in others], -1])
    return t.op("Gather", rows, places, axis=len(others))


def _diag_embed(t, f, x):
    offset, dim1, dim2 = f.at
    n = x.shape[-1] + abs(offset)
    rows, columns = [0] * (2 * x.ndim), np.eye(n, k=offset).astype(x.dtype)
    rows[x.ndim - 1 if offset < 0 else -1] = abs(offset)
    y = t.op("Mul", t.op("Unsqueeze", t.op("Pad", x, rows), [x.ndim]), columns)
    order = list(range(x.ndim - 1))
    for d, source in sorted(((dim1, x.ndim - 1), (dim2, x.ndim))):
        order.insert(d, source)
    return t.op("Transpose", y, perm=order)


def _expand(t, f, x):
    """1 keeps a length: only what is repeated has to be known."""
    lengths = [1] * (len(f.shape) - x.ndim) + list(x.shape)
    return t.op("Expand", x, [1 if n == m else n for n, m in zip(f.shape, lengths, strict=True)])


def _roll(t, f, x):
    if f.dims is None:
        flat = _rolled(t, t.op("Reshape", x, [-1]), math.prod(x.shape), 0, f.shifts)
        return t.op("Reshape", flat, list(x.shape))
    for shift, dim in zip(f.shifts, f.dims, strict=True):
        x = _rolled(t, x, x.shape[dim], dim, shift) if isinstance(x, Value) and x.shape else x
    return x


def _rolled(t, x, n, dim, shift):
    cut = -shift % n if n else 0
    if not cut:
        return x
    y = t.op("Concat", slices(t, x, [(dim, cut, _END, 1)]), slices(t, x, [(dim, 0, cut, 1)]), axis=dim)
    return Value(y.name, x.shape, y.dtype)


def _repeat(t, f, x):
    new = len(f.repeats) - x.ndim
    x = t.op("Unsqueeze", x, list(range(new))) if new else x
    return t.op("Tile", x, list(f.repeats))


def _split(t, f, x):
    bounds = [(key[-1].start, key[-1].stop) for key in f.keys]
    axis, n = len(f.keys[0]) - 1, x.shape[len(f.keys[0]) - 1]
    whole = [b for b, _ in bounds] == [0, *[e for _, e in bounds][:-1]] and bounds[-1][1] == n
    if whole and len(bounds) > 1:
        return t.op("Split", x, [e - b for b, e in bounds], outputs=len(bounds), axis=axis)
    return tuple([slices(t, x, [(axis, b, e, 1)]) for b, e in bounds])


def _unbind(t, f, x):
    return tuple([t.op("Gather", x, np.int64(i), axis=f.dim) for i in range(x.shape[f.dim])])


def _cat(t, f, *xs):
    joined = [x for x, shape in zip(xs, f.shapes, strict=True) if shape != (0,)] or list(xs)
    return t.op("Concat", *joined, axis=f.dim)


def _stack(t, f, *xs):
    return t.op("Concat", *[t.op("Unsqueeze", x, [f.dim]) for x in xs], axis=f.dim)


def _pad(t, f, x):
    pads = [left for left, _ in f.pairs] + [right for _, right in f.pairs]
    if not any(pads):
        return x
    if hasattr(f, "value"):
        return t.op("Pad", x, pads, np.asarray(f.value, x.dtype), mode="constant")
    mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[f.mode]
    if mode == "wrap" and t.opset < 19:
        return t.refuse("needs opset_version 19 for circular padding")
    return t.op("Pad", x, pads, mode=mode)


# --- reductions ---
def _reduce(op):
    return lambda t, f, x: reduced(t, op, x, f.axes, f.keepdim)


def _nan_sum(t, f, x):
    return reduced(t, "ReduceSum", _choose(t, t.op("IsNaN", x), t.constant(0, x.dtype), x), f.axes, f.keepdim)


def _var(t, f, x):
    deviation = t.op("Sub", x, reduced(t, "ReduceMean", x, f.axes))
    squares = reduced(t, "ReduceSum", t.op("Mul", deviation, deviation), f.axes, f.keepdim)
    return t.op("Div", squares, max(f.degrees, 0))


def _norm(t, f, x):
    p, over = f.p, (f.axes, f.keepdim)
    if p in (1, 2):
        return reduced(t, f"ReduceL{int(p)}", x, *over)
    if p == 0:
        return reduced(t, "ReduceSum", t.cast(t.op("Not", t.op("Equal", x, 0)), x.dtype), *over)
    if abs(p) == math.inf:
        return reduced(t, "ReduceMax" if p > 0 else "ReduceMin", t.op("Abs", x), *over)
    return t.op("Pow", reduced(t, "ReduceSum", t.op("Pow", t.op("Abs", x), p), *over), 1 / p)


def _along(largest):
    def row(t, f, x):
        if not x.shape:
            return x, t.constant(np.int64(0))
        values = reduced(t, "ReduceMax" if largest else "ReduceMin", x, (f.axis,), f.keepdim)
        return values, t.op("ArgMax" if largest else "ArgMin", x, axis=f.axis, keepdims=int(f.keepdim))
    return row


FUNCTIONS = {
    **{name: _simple(op or name) for name, op in {
        "Exp": "", "Log": "", "Sqrt": "", "Sin": "", "Cos": "", "Tan": "", "Asin": "", "Acos": "", "Atan": "",
        "Sinh": "", "Cosh": "", "Asinh": "", "Acosh": "", "Atanh": "", "Sign": "", "Neg": "", "Abs": "",
        "Reciprocal": "", "Erf": "", "Softsign": "", "Sigmoid": "", "Tanh": "", "ReLU": "Relu"}.items()},
    **{name: _binary(op, logical) for name, op, logical in (
        ("Add", "Add", "Or"), ("Sub", "Sub", None), ("Mul", "Mul", "And"), ("Div", "Div", None), ("Pow", "Pow", None),
        ("Maximum", "Max", "Or"), ("Minimum", "Min", "And"))},
    "Floor": _stepped("Floor"), "Ceil": _stepped("Ceil"), "Trunc": lambda t, f, x: _trunc(t, x), "Round": _round,
    "Frac": lambda t, f, x: t.op("Sub", x, _trunc(t, x)), "NanToNum": _nan_to_num, "Logit": _logit, "Sinc": _sinc,
    "Exp2": lambda t, f, x: t.op("Pow", t.constant(2, x.dtype), x),
    "Expm1": lambda t, f, x: t.op("Sub", t.op("Exp", x), 1), "Log1p": lambda t, f, x: t.op("Log", t.op("Add", x, 1)),
    "Log2": lambda t, f, x: t.op("Div", t.op("Log", x), math.log(2)),
    "Log10": lambda t, f, x: t.op("Div", t.op("Log", x), math.log(10)),
    "Rsqrt": lambda t, f, x: t.op("Reciprocal", t.op("Sqrt", x)),
    "Erfc": lambda t, f, x: t.op("Sub", t.constant(1, x.dtype), t.op("Erf", x)),
    "Deg2rad": lambda t, f, x: t.op("Mul", x, math.pi / 180), "Rad2deg": lambda t, f, x: t.op("Mul", x, 180 / math.pi),
    "DivFloor": _div_floor, "FloorDivide": _div_floor, "DivTrunc": _div_trunc, "Remainder": _remainder,
    "Fmod": lambda t, f, x, y: t.op("Mod", *_both(t, x, y), fmod=1), "Atan2": _atan2, "Logaddexp": _logaddexp,
    "Hypot": lambda t, f, x, y: t.op("Sqrt", t.op("Add", t.op("Mul", x, x), t.op("Mul", y, y))),
    "Lerp": _lerp, "Clamp": _clamp, "Where": _where, "Cast": lambda t, f, x: t.cast(x, f.dtype),
    "Copy": lambda t, f, x: x,
    "Reshape": lambda t, f, x: t.op("Reshape", x, list(f.shape)), "Slice": lambda t, f, x: _basic(
        t, x, f.key if isinstance(f.key, tuple) else (f.key,)),
    "Permute": lambda t, f, x: t.op("Transpose", x, perm=list(f.order)) if x.ndim > 1 else x,
    "Expand": _expand, "Diagonal": _diagonal,
    "DiagEmbed": _diag_embed, "Roll": _roll, "Repeat": _repeat, "Split": _split, "Unbind": _unbind, "Cat": _cat,
    "Stack": _stack, "PadConstant": _pad, "PadInside": _pad,
    "Flip": lambda t, f, x: slices(t, x, [(d, -1, -_END, -1) for d in f.dims]) if f.dims else x,
    "RepeatInterleave": lambda t, f, x: t.op("Gather", x, np.repeat(np.arange(x.shape[f.dim]), f.times), axis=f.dim),
    "Triangle": lambda t, f, x: t.op("Trilu", x, np.int64(f.diagonal), upper=int(f.name == "triu")),
    **{name: _reduce(op) for name, op in {
        "Sum": "ReduceSum", "Mean": "ReduceMean", "Prod": "ReduceProd", "AMax": "ReduceMax", "AMin": "ReduceMin",
        "Max": "ReduceMax", "Min": "ReduceMin", "LogSumExp": "ReduceLogSumExp"}.items()},
    "NanSum": _nan_sum, "Var": _var, "Std": lambda t, f, x: t.op("Sqrt", _var(t, f, x)), "Norm": _norm,
    "MaxAlong": _along(True), "MinAlong": _along(False),
    "CumSum": lambda t, f, x: t.op("CumSum", x, np.int64(f.axis)) if x.shape else x,
    **selections.FUNCTIONS, **layers.FUNCTIONS,
}

CALLS, WRITES = {**selections.CALLS, **layers.CALLS}, selections.WRITES
