"""Matrix products.

y[..., m, n] = sum over k of a[..., m, k] b[..., k, n];
ga = gy b', gb = a' gy, each summed over the dimensions along which its operand was broadcast.

linear, with a bias: y = x w' + b, so gx = gy w, gw = gy' x, gb = the sum of the rows of gy.

Shapes: a matrix is the last two dimensions, those before are a batch and broadcast. A vector on the left is one row, on
the right one column, and the result lacks that dimension. An operand may be a transposed view: it is not copied.
Operands have one dtype, which may be an integer dtype; then there is no gradient. All functions raise TypeError for
other dtypes and ValueError for shapes that do not fit.

On a GPU float32 is multiplied as float32, unless set_float32_matmul_precision allows TF32, which keeps 10 bits of each
factor's fraction and is several times faster; convolutions follow the same switch.
"""
from math import prod

import numpy as np

from kdl import types
from kdl.autograd import Function
from kdl.autograd.autocast import active, mixes
from kdl.errors import describe, expect, expect_type
from kdl.ops.common import assign_, like, unbroadcast
from kdl.tensor import Tensor, method

__all__ = ["addmm", "baddbmm", "bilinear", "bmm", "dot", "get_float32_matmul_precision", "linear", "matmul", "mm", "mv",
           "outer", "set_float32_matmul_precision"]

_PRECISIONS = ("highest", "high", "medium")
_precision = "highest"


def set_float32_matmul_precision(precision):
    """How a GPU multiplies float32 from now on: `highest` in float32, `high` and `medium` in TF32 where it has it."""
    global _precision
    expect(precision in _PRECISIONS, "set_float32_matmul_precision", f"one of {', '.join(map(repr, _PRECISIONS))}",
           precision=repr(precision))
    _precision = precision


def get_float32_matmul_precision():
    """What set_float32_matmul_precision was last given; `highest` at first."""
    return _precision


def tf32():
    """Whether float32 products and convolutions may round their operands to TF32."""
    return _precision != "highest"


@method
def matmul(input, other):
    """input other, for (..., M, K) or (K) and (..., K, N) or (K): the product of matrices or vectors."""
    a, b = _shapes("matmul", input=input, other=other)
    if not (a and b):
        expect(False, "matmul", "operands with at least one dimension", input=input, other=other)
    if a[-1] != b[-2 if len(b) > 1 else 0]:
        expect(False, "matmul", "input.shape[-1] == other.shape[-2] (or its length)", input=input, other=other)
    if len(a) > 2 and len(b) > 2:
        expect(all(m == n or m == 1 or n == 1 for m, n in zip(a[-3::-1], b[-3::-1])), "matmul",
               "batch dimensions that broadcast", input=input, other=other)
    return MatMul()(input, other)


@method(names=("__matmul__",))
def _operator(input, other):
    """input @ other, which may be an array."""
    return matmul(input, Tensor(other) if isinstance(other, np.ndarray) else other)


@method(names=("__rmatmul__",))
def _reflected(input, other):
    """other @ input, for an array on the left."""
    return matmul(Tensor(other) if isinstance(other, np.ndarray) else other, input)


@method
def mm(input, mat2):
    """input mat2, for (M, K) and (K, N)."""
    a, b = _shapes("mm", input=input, mat2=mat2)
    expect(len(a) == len(b) == 2 and a[1] == b[0], "mm", "input (M, K) and mat2 (K, N)", input=input, mat2=mat2)
    return MatMul()(input, mat2)


@method
def bmm(input, mat2):
    """input[i] mat2[i], for (B, M, K) and (B, K, N); the batch does not broadcast."""
    a, b = _shapes("bmm", input=input, mat2=mat2)
    expect(len(a) == len(b) == 3 and a[0] == b[0] and a[2] == b[1], "bmm", "input (B, M, K) and mat2 (B, K, N)",
           input=input, mat2=mat2)
    return MatMul()(input, mat2)


@method
def mv(input, vec):
    """input vec, for (M, K) and (K)."""
    a, b = _shapes("mv", input=input, vec=vec)
    expect(len(a) == 2 and len(b) == 1 and a[1] == b[0], "mv", "input (M, K) and vec (K)", input=input, vec=vec)
    return MatVec()(input, vec)


@method
def dot(input, tensor):
    """The sum of input[i] tensor[i], for two vectors of one length."""
    a, b = _shapes("dot", input=input, tensor=tensor)
    expect(len(a) == 1 and a == b, "dot", "two vectors of one length", input=input, tensor=tensor)
    return Exact()(input, tensor)


@method
def outer(input, vec2):
    """input[i] vec2[j], for two vectors; as with `*`, any dtypes."""
    for name, x in (("input", input), ("vec2", vec2)):
        expect_type(isinstance(x, Tensor), "outer", f"{name} to be a Tensor", **{name: type(x).__name__})
    expect(input.ndim == vec2.ndim == 1, "outer", "two vectors", input=input, vec2=vec2)
    return input.unsqueeze(1) * vec2


@method
def addmm(input, mat1, mat2, *, beta=1, alpha=1):
    """beta input + alpha mat1 mat2, for (M, K) and (K, N); input broadcasts to (M, N), and is ignored if beta is 0."""
    a, b = _shapes("addmm", mat1=mat1, mat2=mat2, input=input)[:2]
    expect(len(a) == len(b) == 2 and a[1] == b[0], "addmm", "mat1 (M, K) and mat2 (K, N)", mat1=mat1, mat2=mat2)
    return weighted_sum("addmm", input, MatMul()(mat1, mat2), beta, alpha)


@method
def addmm_(input, mat1, mat2, *, beta=1, alpha=1):
    """In-place `addmm`."""
    return assign_(input, addmm(input, mat1, mat2, beta=beta, alpha=alpha))


@method
def baddbmm(input, batch1, batch2, *, beta=1, alpha=1):
    """beta input + alpha batch1 batch2, for (B, M, K) and (B, K, N); as `addmm` otherwise."""
    a, b = _shapes("baddbmm", batch1=batch1, batch2=batch2, input=input)[:2]
    expect(len(a) == len(b) == 3 and a[0] == b[0] and a[2] == b[1], "baddbmm",
           "batch1 (B, M, K) and batch2 (B, K, N)", batch1=batch1, batch2=batch2)
    return weighted_sum("baddbmm", input, MatMul()(batch1, batch2), beta, alpha)


@method
def baddbmm_(input, batch1, batch2, *, beta=1, alpha=1):
    """In-place `baddbmm`."""
    return assign_(input, baddbmm(input, batch1, batch2, beta=beta, alpha=alpha))


def linear_relu(input, weight, bias=None):
    """relu(linear(input, weight, bias)), in one kernel."""
    return _linear(Linear(relu=True), input, weight, bias)


def linear(input, weight, bias=None):
    """input weight' + bias, for (..., K), (N, K) and (N), giving (..., N); or for weight (K), bias (), giving (...)."""
    return _linear(Linear(), input, weight, bias)


def bilinear(input1, input2, weight, bias=None):
    """y[..., k] = sum over i, j of input1[..., i] weight[k, i, j] input2[..., j], + bias[k].

    Shapes: (..., I), (..., J), (K, I, J) and (K) give (..., K); here the leading dimensions do not broadcast.
    """
    x1, x2, w, *_ = _shapes("bilinear", input1=input1, input2=input2, weight=weight, bias=bias)
    expect(x1 and x2 and len(w) == 3 and x1[:-1] == x2[:-1] and (x1[-1], x2[-1]) == w[1:], "bilinear",
           "input1 (..., I), input2 (..., J) and weight (K, I, J)", input1=input1, input2=input2, weight=weight)
    expect(bias is None or bias.array.shape == w[:1], "bilinear", "bias.shape == weight.shape[:1]", bias=bias,
           weight=weight)
    outputs, n1, n2 = w
    rows = prod(x1[:-1])
    mixed = linear(input1.reshape(rows, n1), weight.permute(0, 2, 1).reshape(outputs * n2, n1))
    y = matmul(mixed.reshape(rows, outputs, n2), input2.reshape(rows, n2, 1)).reshape(*x1[:-1], outputs)
    return y if bias is None else y + bias


# --- arguments ---
def _linear(function, input, weight, bias):
    x, w, *_ = _shapes("linear", input=input, weight=weight, bias=bias)
    if not (x and len(w) in (1, 2) and x[-1] == w[-1]):
        expect(False, "linear", "input (..., K) and weight (N, K) or (K)", input=input, weight=weight)
    if bias is not None and bias.array.shape != w[:-1]:
        expect(False, "linear", "bias.shape == weight.shape[:-1]", bias=bias, weight=weight)
    return function(input, weight, bias)


def _shapes(op, **tensors):
    """The shapes of tensors of one dtype, of which the last may be None. Raises TypeError for others, and for bool."""
    shapes, dtype = [], None
    for name, x in tensors.items():
        if not isinstance(x, Tensor):
            if x is None and name == "bias":
                continue
            raise TypeError(f"{op}: expected {name} to be a Tensor, got {type(x).__name__}; use kdl.tensor(...)")
        array = x.array
        if array.dtype is not dtype:
            if dtype is None:
                dtype = array.dtype
            if (array.dtype != dtype or dtype == types.boolean) and not (active and mixes(op)):
                dtypes = {name: x.dtype for name, x in tensors.items() if isinstance(x, Tensor)}
                raise TypeError(f"{op}: expected tensors of one dtype other than bool, got {describe(dtypes)}")
        shapes.append(array.shape)
    return shapes


def weighted_sum(op, input, product, beta, alpha):
    """beta input + alpha product, in the dtype and the shape of the product."""
    expect(input.ndim <= product.ndim and all(m in (1, n) for m, n in zip(input.shape[::-1], product.shape[::-1])), op,
           "an input that broadcasts to the product", input=input, product=product)
    for name, factor in (("beta", beta), ("alpha", alpha)):
        if type(factor) is not int:
            kind = types.scalar_dtype(factor)
            expect_type(kind is not None and types.category(kind) <= types.category(product.dtype), op,
                        f"{name} to be a number for {product.dtype} tensors", **{name: repr(factor)})
    if alpha != 1:
        product = product * alpha
    if active:
        input = input.to(product.dtype)
    return product if beta == 0 else product + (input if beta == 1 else input * beta)


# --- Functions ---
class MatMul(Function):
    def forward(self, a, b):
        self.shapes = a.shape, b.shape
        self.a = a if self.needs_input_grad[1] else None
        self.b = b if self.needs_input_grad[0] else None
        y = product(self.k, _as_row(a), _as_column(b))
        if a.ndim > 1 and b.ndim > 1:
            return y
        return y.reshape(y.shape[:-2] + a.shape[-2:-1] + (b.shape[-1:] if b.ndim > 1 else ()))

    def backward(self, gy, wanted):
        a_shape, b_shape = self.shapes
        if len(b_shape) == 1:
            gy = gy.reshape(*gy.shape, 1)
        if len(a_shape) == 1:
            gy = gy.reshape(*gy.shape[:-1], 1, gy.shape[-1])
        ga = gb = None
        if wanted[0]:
            ga = unbroadcast(product(self.k, gy, _as_column(self.b).swapaxes(-1, -2)), a_shape)
        if wanted[1]:
            a = _as_row(self.a)
            if len(b_shape) <= 2:
                a, gy = _folded(a), _folded(gy)  # the sum over the batch is part of the product
            gb = product(self.k, a.swapaxes(-1, -2), gy)
            gb = gb.reshape(b_shape) if len(b_shape) == 1 else unbroadcast(gb, b_shape)
        return ga, gb


class MatVec(MatMul):
    """A product that `autocast` casts on GPUs only."""


class Exact(MatMul):
    """A product that `autocast` leaves alone."""


class Linear(Function):
    """x w' + b, clipped at 0 with relu; the gradient passes where the result is not 0."""

    def __init__(self, relu=False):
        self.relu = relu

    def forward(self, x, w, b):
        self.shapes = x.shape, w.shape
        self.x = x if self.needs_input_grad[1] else None
        self.w = w if self.needs_input_grad[0] else None
        k = self.k
        x, w = _regular(_folded(x), k), _regular(_as_row(w), k)
        y = k.empty(self.shapes[0][:-1] + self.shapes[1][:-1], x.dtype)
        k.linear_forward(x, w, b if b is None else b.reshape(-1), y if y.ndim == 2 else y.reshape(len(x), len(w)),
                         self.relu, tf32())
        self.y = y if self.relu else None
        return y

    def backward(self, gy, wanted):
        x_shape, w_shape = self.shapes
        if self.relu:
            clipped, gy = gy, self.k.xp.empty_like(self.y)
            self.k.relu_backward(self.y, like(clipped, self.y), gy)
        if not gy.ndim == len(x_shape) == len(w_shape) == 2:
            gy = gy.reshape(prod(x_shape[:-1]), prod(w_shape[:-1]))
        gx = gw = gb = None
        if wanted[0]:
            gx = _shaped(product(self.k, gy, _as_row(self.w)), x_shape)
        if wanted[1]:
            gw = _shaped(product(self.k, gy.T, _folded(self.x)), w_shape)
        if wanted[2]:
            gb = self.k.empty(gy.shape[1:], gy.dtype)
            self.k.linear_backward_b(_regular(gy, self.k), gb)
            gb = _shaped(gb, w_shape[:-1])
        return gx, gw, gb


# --- arrays ---
def _shaped(array, shape):
    """The array in that shape; itself where it has it already, so that the tape may keep it as a leaf's gradient."""
    return array if array.shape == shape else array.reshape(shape)


def product(k, a, b):
    """a b for arrays (..., M, K) and (..., K, N), in a new array."""
    if a.ndim > 2 and b.ndim == 2 and a.flags.c_contiguous:
        return product(k, _folded(a), b).reshape(*a.shape[:-1], b.shape[-1])
    a, b = _regular(a, k), _regular(b, k)
    if a.ndim == b.ndim == 2:
        y = k.empty((a.shape[0], b.shape[1]), a.dtype)
        k.matmul_forward(a, b, y, tf32())
        return y
    batch = a.shape[:-2] if a.shape[:-2] == b.shape[:-2] else np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    y = k.empty((*batch, a.shape[-2], b.shape[-1]), a.dtype)
    if len(batch) <= 2:
        k.matmul_forward(a, b, y, tf32())
    else:  # the kernels take two batch dimensions: the first ones become one
        lead = prod(batch[:-1]), batch[-1]
        flat = [k.xp.broadcast_to(m, batch + m.shape[-2:]).reshape(*lead, *m.shape[-2:]) for m in (a, b)]
        k.matmul_forward(*flat, y.reshape(*lead, *y.shape[-2:]), tf32())
    return y


def _regular(array, k):
    """The array, copied unless one of its last two strides is an element and the other spans at least that many."""
    if array.flags.c_contiguous:
        return array
    (M, N), (down, right), item = array.shape[-2:], array.strides[-2:], array.dtype.itemsize
    regular = (right == item and down >= N * item) or (down == item and right >= M * item)
    return array if regular and down % item == right % item == 0 else k.xp.ascontiguousarray(array)


def _folded(array):
    """(..., K) as (rows, K)."""
    return array if array.ndim == 2 else array.reshape(prod(array.shape[:-1]), array.shape[-1])


def _as_row(array):
    """A vector as a matrix of one row."""
    return array.reshape(1, -1) if array.ndim == 1 else array


def _as_column(array):
    """A vector as a matrix of one column."""
    return array.reshape(-1, 1) if array.ndim == 1 else array
