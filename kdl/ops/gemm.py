"""Matrix products.

matmul, y = a b: ga = gy b', gb = a' gy, each summed over the leading dimensions that were broadcast.
linear, y = x w' + b: gx = gy w, gw = gy' x, gb = the sum of gy over its rows.
bilinear, y_k = x1' W_k x2 + b_k, the sum over i, j of x1_i W_kij x2_j.

matmul takes (..., M, K) and (..., K, N); leading dimensions broadcast, a vector on the left is a row and on the right a
column whose dimension the result does not have. linear takes input (..., K) and weight (N, K). Transposed views are
multiplied as they lie. All raise TypeError for mixed dtypes, ValueError for shapes that do not fit.
"""
from math import prod

import numpy as np

from kdl import types
from kdl.autograd import Function
from kdl.errors import expect
from kdl.ops.common import array_of, floating, unbroadcast
from kdl.tensor import Tensor, method

__all__ = ["addmm", "baddbmm", "bilinear", "bmm", "dot", "linear", "matmul", "mm", "mv", "outer"]


def linear(input, weight, bias=None):
    """input weight' + bias for input (..., K), weight (N, K) or (K), bias (N) or a number's tensor: (..., N)."""
    floating("linear", input=input, weight=weight, bias=bias)
    expect(input.ndim >= 1 and weight.ndim in (1, 2) and input.array.shape[-1] == weight.array.shape[-1], "linear",
           "input.shape[-1] == weight.shape[-1]", input=input, weight=weight)
    expect(bias is None or (weight.ndim == 2 and bias.array.shape == weight.array.shape[:1]) or bias.ndim == 0,
           "linear", "bias.shape == weight.shape[:1]", bias=bias, weight=weight)
    if weight.ndim == 1 or (bias is not None and bias.ndim == 0):
        y = matmul(input, weight.t())
        return y if bias is None else y + bias
    return Linear()(input, weight, bias)


def bilinear(input1, input2, weight, bias=None):
    """y_k = input1' weight_k input2 + bias_k for input1 (..., I), input2 (..., J), weight (K, I, J): (..., K)."""
    floating("bilinear", input1=input1, input2=input2, weight=weight, bias=bias)
    expect(weight.ndim == 3 and input1.ndim >= 1 and input1.shape[:-1] == input2.shape[:-1]
           and (input1.shape[-1], input2.shape[-1]) == weight.shape[1:], "bilinear",
           "inputs (..., weight.shape[1]) and (..., weight.shape[2])", input1=input1, input2=input2, weight=weight)
    expect(bias is None or bias.shape == weight.shape[:1], "bilinear", "bias.shape == weight.shape[:1]", bias=bias,
           weight=weight)
    K, I, J = weight.shape
    rows = prod(input1.shape[:-1])
    products = (input1.reshape(rows, I, 1) * input2.reshape(rows, 1, J)).reshape(rows, I * J)
    return linear(products, weight.reshape(K, I * J), bias).reshape(*input1.shape[:-1], K)


@method(names=("matmul", "__matmul__"))
def matmul(input, other):
    """The matrix product of (..., M, K) and (..., K, N); of vectors the dot product. (numpy.matmul's rules.)"""
    _same_dtype("matmul", input, other)
    a, b = input.array.shape, other.array.shape
    expect(a and b and a[-1] == b[-min(2, len(b))], "matmul", "input.shape[-1] == other.shape[-2]", input=input,
           other=other)
    if len(a) > 2 or len(b) > 2:
        expect(_broadcast(a[:-2], b[:-2]), "matmul", "leading dimensions that broadcast", input=input, other=other)
    if len(a) == 1 or len(b) == 1:
        left = input.unsqueeze(0) if len(a) == 1 else input
        right = other.unsqueeze(1) if len(b) == 1 else other
        y = MatMul()(left, right)
        y = y.squeeze(-1) if len(b) == 1 else y
        return y.squeeze(-2 if len(b) > 1 else -1) if len(a) == 1 else y
    return MatMul()(input, other)


@method(names=("__rmatmul__",))
def _rmatmul(input, other):
    return matmul(Tensor(np.asarray(other)), input)


@method
def mm(input, mat2):
    """The product of two matrices, (M, K) and (K, N); nothing is broadcast."""
    return _product("mm", (2, 2), input=input, mat2=mat2)


@method
def bmm(input, mat2):
    """The products of two batches of matrices, (B, M, K) and (B, K, N); nothing is broadcast."""
    array_of("bmm", input), array_of("bmm", mat2, "mat2")
    expect(input.ndim == mat2.ndim == 3 and input.shape[0] == mat2.shape[0], "bmm", "two batches of one length",
           input=input, mat2=mat2)
    return _product("bmm", (3, 3), input=input, mat2=mat2)


@method
def mv(input, vec):
    """The product of a matrix (M, K) and a vector (K)."""
    return _product("mv", (2, 1), input=input, vec=vec)


@method
def dot(input, tensor):
    """The sum of the products of two vectors' elements."""
    return _product("dot", (1, 1), input=input, tensor=tensor)


@method
def outer(input, vec2):
    """Every product of an element of one vector with an element of the other: (M) and (N) give (M, N)."""
    for name, x in (("input", input), ("vec2", vec2)):
        expect(array_of("outer", x, name).ndim == 1, "outer", f"{name} to be a vector", **{name: x})
    return input.unsqueeze(1) * vec2.unsqueeze(0)


@method
def addmm(input, mat1, mat2, *, beta=1, alpha=1):
    """beta input + alpha (mat1 mat2) for matrices (M, K) and (K, N); input broadcasts to (M, N)."""
    return _add("addmm", input, mm(mat1, mat2), beta, alpha)


@method
def baddbmm(input, batch1, batch2, *, beta=1, alpha=1):
    """beta input + alpha (batch1 batch2) for batches (B, M, K) and (B, K, N); input broadcasts to (B, M, N)."""
    return _add("baddbmm", input, bmm(batch1, batch2), beta, alpha)


# --- arguments ---
def _same_dtype(op, a, b):
    array_of(op, a), array_of(op, b, "other")
    if a.array.dtype != b.array.dtype:
        raise TypeError(f"{op}: expected tensors of one dtype, got {a.dtype} and {b.dtype}")


def _product(op, ndims, **operands):
    (a_name, a), (b_name, b) = operands.items()
    array_of(op, a, a_name), array_of(op, b, b_name)
    _same_dtype(op, a, b)
    expect((a.ndim, b.ndim) == ndims and a.shape[-1] == b.shape[-min(2, b.ndim)], op,
           f"{ndims[0]}-D and {ndims[1]}-D operands that share their inner dimension", **operands)
    return matmul(a, b)


def _add(op, input, product, beta, alpha):
    _same_dtype(op, input, product)
    expect(_broadcast(input.shape, product.shape) == product.shape, op, "input to broadcast to the product",
           input=input, product=product)
    product = product if alpha == 1 else product * alpha
    return product if beta == 0 else product + (input if beta == 1 else input * beta)


def _broadcast(a, b):
    """The shape that two shapes broadcast to, or None; an empty shape is (1,) here, so that it counts as true."""
    try:
        return np.broadcast_shapes(a, b) or (1,)
    except ValueError:
        return None


# --- Functions ---
def _matrices(array, xp):
    """The array, copied if its matrices are neither row- nor column-major, with at most two leading dimensions."""
    item, (rows, columns) = array.dtype.itemsize, array.strides[-2:]
    if array.size and not ((columns == item and rows >= array.shape[-1] * item)
                           or (rows == item and columns >= array.shape[-2] * item)):
        array = xp.ascontiguousarray(array)
    return array


def product(k, a, b):
    """a b in a new array, by the namespace's kernel; leading dimensions broadcast."""
    a, b = _matrices(a, k.xp), _matrices(b, k.xp)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    y = k.empty((*batch, a.shape[-2], b.shape[-1]), a.dtype)
    if len(batch) <= 2:
        k.matmul_forward(a, b, y)
    else:
        whole = (prod(batch),)
        k.matmul_forward(*[k.xp.broadcast_to(m, (*batch, *m.shape[-2:])).reshape(*whole, *m.shape[-2:])
                           for m in (a, b)], y.reshape(*whole, *y.shape[-2:]))
    return y


class MatMul(Function):
    def forward(self, a, b):
        self.a, self.b = a, b
        return product(self.k, a, b)

    def backward(self, gy, wanted):
        ga = gb = None
        if wanted[0]:
            ga = unbroadcast(product(self.k, gy, self.b.swapaxes(-1, -2)), self.a.shape)
        if wanted[1]:
            gb = unbroadcast(product(self.k, self.a.swapaxes(-1, -2), gy), self.b.shape)
        return ga, gb


class Linear(Function):
    def forward(self, x, w, b):
        rows = x.reshape(-1, w.shape[1]) if w.shape[1] else x.reshape(prod(x.shape[:-1]), 0)
        self.x, self.w, self.shape = _matrices(rows, self.k.xp), _matrices(w, self.k.xp), x.shape
        y = self.k.empty((len(rows), len(w)), x.dtype)
        self.k.linear_forward(self.x, self.w, b, y)
        return y.reshape(*x.shape[:-1], len(w))

    def backward(self, gy, wanted):
        gy, gx, gw, gb = gy.reshape(len(self.x), len(self.w)), None, None, None
        if wanted[0]:
            gx = product(self.k, gy, self.w).reshape(self.shape)
        if wanted[1]:
            gw = product(self.k, gy.T, self.x)
        if wanted[2]:
            gb = self.k.empty((len(self.w),), gy.dtype)
            self.k.linear_backward_b(_matrices(gy, self.k.xp), gb)
        return gx, gw, gb
