"""How what is compared, chosen or written by position becomes ONNX nodes; the rows are as in `operations.py`.

Positions are int64 and may be negative, as in ONNX. `gather` and `scatter` are written as the operators of that name;
kdl's own Functions work with positions in the flattened tensor.
"""
import math

import numpy as np

from kdl import types
from kdl.onnx.trace import Value
from kdl.ops.indexing import _two_steps


def is_float(x):
    """Whether a Value is of a floating-point dtype."""
    return x.dtype in types.FLOATS


def reduced(t, op, x, axes, keepdim=True):
    """A reduction over axes, None for all."""
    return t.op(op, x, None if axes is None else list(axes), keepdims=int(keepdim))


# --- comparisons ---
_RELATIONS = {"equal": ("Equal", False), "not_equal": ("Equal", True), "less": ("Less", False),
              "less_equal": ("LessOrEqual", False), "greater": ("Greater", False),
              "greater_equal": ("GreaterOrEqual", False)}
_LOGIC = {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor"}
_BITS = {"bitwise_and": "And", "bitwise_or": "Or", "bitwise_xor": "Xor", "invert": "Not"}


def _compare(t, op, ufunc, *operands):
    dtype = types.result_type(*operands)
    xs = [t.cast(x, types.float32 if dtype in types.HALVES else dtype) for x in operands]
    if ufunc in _RELATIONS:
        name, negated = _RELATIONS[ufunc]
        if dtype == types.boolean and name != "Equal":
            xs = [t.cast(x, types.int32) for x in xs]
        y = t.op(name, *xs)
        return t.op("Not", y) if negated else y
    if ufunc in _LOGIC:
        return t.op(_LOGIC[ufunc], *[t.cast(x, types.boolean) for x in xs])
    if ufunc in _BITS:
        return t.op(_BITS[ufunc] if dtype == types.boolean else f"Bitwise{_BITS[ufunc]}", *xs)
    if ufunc == "logical_not":
        return t.op("Not", t.cast(xs[0], types.boolean))
    if not is_float(xs[0]) or ufunc not in ("isnan", "isinf", "isposinf", "isneginf", "isfinite"):
        return t.refuse(f"has no ONNX form for {dtype} that kdl knows")
    if ufunc == "isfinite":
        return t.op("Not", t.op("Or", t.op("IsNaN", xs[0]), t.op("IsInf", xs[0])))
    signs = {"isposinf": {"detect_negative": 0}, "isneginf": {"detect_positive": 0}}.get(ufunc, {})
    return t.op("IsNaN" if ufunc == "isnan" else "IsInf", xs[0], **signs)


# --- order and truth ---
def _position(t, op, x, dim, keepdim):
    op = {"argmax": "ArgMax", "argmin": "ArgMin"}[op]
    if dim is not None and x.shape:
        return t.op(op, x, axis=dim % x.ndim, keepdims=int(keepdim))
    return t.op("Reshape", t.op(op, t.op("Reshape", x, [-1]), axis=0, keepdims=0), [1] * (x.ndim if keepdim else 0))


def _truth(t, op, x, dim, keepdim):
    if dim == () or dim == []:
        return None
    axes = None if dim is None else [d % max(x.ndim, 1) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))]
    y = t.op("Cast", t.cast(x, types.boolean), to=types.int32, dtype=types.int32)
    return t.cast(reduced(t, "ReduceMax" if op == "any" else "ReduceMin", y, axes, keepdim),
                  x.dtype if x.dtype == types.uint8 else types.boolean)


def _topk(t, x, k, dim, largest, sorted):
    if not x.shape:
        return None
    return t.op("TopK", x, [k], outputs=2, axis=dim % x.ndim, largest=int(largest), sorted=1)


def _argsort(t, x, dim, descending, stable):
    return None if not x.shape else _topk(t, x, x.shape[dim], dim, descending, True)[1]


def _one_hot(t, x, classes):
    if classes == -1:
        return t.refuse("has as many classes as its input says; give num_classes")
    return t.op("OneHot", x, np.int64(classes), np.asarray([0, 1], np.int64), axis=-1)


# --- elements chosen by position ---
def slices(t, x, ranges):
    """Parts of dimensions: (dim, start, end, step) each."""
    dims, starts, ends, steps = (list(part) for part in zip(*ranges, strict=True))
    return t.op("Slice", x, starts, ends, dims, steps) if ranges else x


def _advanced(t, f, x):
    """x[key] for integer arrays and masks, which the key holds, among full slices."""
    columns, dims, dim = [], [], 0
    for k in f.key:
        if isinstance(k, slice):
            dim += 1
            continue
        value = t.value(k)
        if k.dtype == types.boolean:
            found = t.op("NonZero", value)
            parts = [t.op("Gather", found, np.int64(i)) for i in range(k.ndim)] if k.ndim > 1 else [
                t.op("Squeeze", found, [0])]
            shapes = [(int(k.sum()),)] * k.ndim
        else:
            parts, shapes = [value], [k.shape]
        columns += zip(parts, shapes, strict=True)
        dims += range(dim, dim + len(parts))
        dim += len(parts)
    if len(columns) == 1:
        return t.op("Gather", x, columns[0][0], axis=dims[0])
    shape = np.broadcast_shapes(*[s for _, s in columns])
    if any(s != shape for _, s in columns):
        columns = [(t.op("Expand", part, list(shape)), shape) for part, _ in columns]
    index = t.op("Concat", *[t.op("Unsqueeze", part, [len(shape)]) for part, _ in columns], axis=len(shape))
    others = [d for d in range(x.ndim) if d not in dims]
    if dims != list(range(len(dims))):
        x = t.op("Transpose", x, perm=[*dims, *others])
    y = t.op("GatherND", x, index)
    before = dims[0] if dims == list(range(dims[0], dims[0] + len(dims))) else 0
    if before:
        n, rest = len(shape), len(others)
        y = t.op("Transpose", y, perm=[*range(n, n + before), *range(n), *range(n + before, n + rest)])
    return y


def _gather(t, x, dim, index, sparse_grad):
    if not x.shape or not index.shape:
        return None
    dim %= x.ndim
    cut = [(d, 0, n, 1) for d, n in enumerate(index.shape) if d != dim and n != x.shape[d]]
    return t.op("GatherElements", slices(t, x, cut) if cut else x, index, axis=dim)


def _scatter(reduction):
    def row(t, x, dim, index, src, value=None, reduce=None):
        if not isinstance(src, Value):
            src = t.op("Expand", t.constant(np.asarray(value if src is None else src, x.dtype)), list(index.shape))
        return scatter(t, x, dim, index, src, "add" if reduce == "add" else reduction)
    return row


def scatter(t, x, dim, index, src, reduction):
    """ScatterElements of the part of src that the index covers."""
    cut = [(d, 0, n, 1) for d, n in enumerate(index.shape) if src.shape and n != src.shape[d]]
    return t.op("ScatterElements", x, index, slices(t, src, cut) if cut else src, axis=dim % x.ndim,
                reduction=reduction)


def _scatter_reduce(t, x, dim, index, src, reduce, include_self):
    if reduce == "mean" or not include_self:
        return t.refuse("is written only with include_self, and not for the mean")
    return scatter(t, x, dim, index, src, {"sum": "add", "prod": "mul", "amax": "max", "amin": "min"}[reduce])


def _along_dim(t, x, dim, index, source, reduction):
    """Source slices put at the positions of a 1-D index of a dimension."""
    shape = [1] * x.ndim
    shape[dim] = -1
    everywhere = t.op("Expand", t.op("Reshape", index, shape), list(source.shape))
    return t.op("ScatterElements", x, everywhere, source, axis=dim, reduction=reduction)


def _index_add(t, f, x, index, source):
    scaled = source if f.alpha == 1 else t.op("Mul", source, f.alpha)
    return _along_dim(t, x, f.dim, index, Value(scaled.name, source.shape, source.dtype), "add")


def _index_fill(t, f, x, index, value):
    shape = [*x.shape[:f.dim], *index.shape, *x.shape[f.dim + 1:]]
    filled = t.op("Expand", t.cast(value, x.dtype), shape)
    return _along_dim(t, x, f.dim, index, Value(filled.name, tuple(shape), x.dtype), "none")


# --- written in place ---
def _assign(t, x, result):
    return t.cast(result, x.dtype)


def _overwrite(t, x, value):
    return t.op("Expand", t.cast(value, x.dtype), list(x.shape))


def _setitem(t, x, key, value):
    """The places are constants, unless the key is one mask or one index of a dimension that the trace knows."""
    value = t.cast(value, x.dtype)
    keys = [k for k in (key if isinstance(key, tuple) else (key,)) if isinstance(k, Value)]
    moving = [k for k in keys if k.constant is None]
    if len(keys) == len(moving) == 1 and key is moving[0] and key.dtype == types.boolean and not value.shape:
        mask = t.op("Reshape", key, [*key.shape, *[1] * (x.ndim - key.ndim)])
        return t.op("Where", mask, value, x, dtype=x.dtype)
    if len(keys) == len(moving) == 1 and keys[0].dtype != types.boolean and keys[0].ndim == 1:
        spread = list(key) if isinstance(key, tuple) else [key]
        dim = spread.index(keys[0])
        if spread[:dim] == [slice(None)] * dim and all(k in (slice(None), ...) for k in spread[dim + 1:]):
            shape = (*x.shape[:dim], *keys[0].shape, *x.shape[dim + 1:])
            source = t.op("Expand", value, list(shape))
            return _along_dim(t, x, dim, keys[0], Value(source.name, shape, x.dtype), "none")
    if moving:
        return t.refuse("writes to positions that depend on the input; use torch.where, scatter or index_add")
    places = np.arange(math.prod(x.shape)).reshape(x.shape)
    plain = tuple([k.constant if isinstance(k, Value) else k for k in (key if isinstance(key, tuple) else (key,))])
    basic, advanced = _two_steps(places, plain)
    if advanced is None and not value.shape and all(isinstance(k, (slice, int)) or k is ... for k in basic):
        return _masked(t, x, basic, value)
    chosen = places if basic is None else places[basic]
    chosen = chosen if advanced is None else chosen[advanced]
    source = t.op("Reshape", t.op("Expand", value, list(chosen.shape)), [-1])
    flat = t.op("ScatterElements", t.op("Reshape", x, [-1]), chosen.reshape(-1), source)
    return t.op("Reshape", flat, list(x.shape))


def _masked(t, x, basic, value):
    """One number in x[basic]: a mask that is 1 long where a dimension is written throughout, as the batch often is."""
    place = basic.index(...)
    spread = (*basic[:place], *[slice(None)] * (x.ndim - len(basic) + 1), *basic[place + 1:])
    mask = np.zeros([1 if k == slice(None) else n for k, n in zip(spread, x.shape, strict=True)], bool)
    mask[spread] = True
    return t.op("Where", mask, value, x, dtype=x.dtype)


def _random(op):
    def like(t, x, *options):
        return t.op(op, x)
    return like


def _random_sized(op):
    def row(t, size, generator, dtype, device, requires_grad):
        shape = size[0] if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
        dtype = types.get_default_dtype() if dtype is None else types.as_dtype(dtype)
        return t.op(op, np.zeros(tuple(shape), dtype), dtype=dtype)
    return row


FUNCTIONS = {
    "Select": _advanced, "Gather": lambda t, f, x, at: t.op("Gather", t.op("Reshape", x, [-1]), at),
    "IndexSelect": lambda t, f, x, index: t.op("Gather", x, index, axis=f.dim), "IndexAdd": _index_add,
    "IndexFill": _index_fill,
}

CALLS = {
    "compare._constant": lambda t, op, ufunc, operands, integers: _compare(t, op, ufunc, *operands),
    "compare._compare": _compare, "reduce._truth": _truth,
    "extremum._position": _position, "sorting.topk": _topk, "sorting.argsort": _argsort, "sorting.one_hot": _one_hot,
    "select.gather": _gather, "select.scatter": _scatter("none"), "select.scatter_add": _scatter("add"),
    "place.scatter_reduce": _scatter_reduce,
    "select.slices": lambda t, op, x, dim, index, negative: t.op("Reshape", index, [-1]),
    "select.positions_in": lambda t, op, index, n, negative: t.cast(index, types.int64),
    "embedding._numbers": lambda t, op, index, weight, sparse: t.cast(index, types.int64),
    "random.randn_like": _random("RandomNormalLike"), "random.rand_like": _random("RandomUniformLike"),
    "random.randn": _random_sized("RandomNormalLike"), "random.rand": _random_sized("RandomUniformLike"),
}

WRITES = {"common.assign_": _assign, "convert._overwrite": _overwrite, "indexing.setitem": _setitem}
