"""Linear algebra under the names of torch.linalg: norms, products, systems of equations, decompositions."""
from numpy.linalg import LinAlgError as LinAlgError

from kdl.errors import expect
from kdl.ops.contract import in_best_order
from kdl.ops.decomposition import (QR, SVD, Eigh, Lstsq, SlogDet, cholesky, eigh, eigvalsh, lstsq, matrix_rank, pinv,
                                   qr, slogdet, solve_triangular, svd, svdvals)
from kdl.ops.distance import cross as _cross
from kdl.ops.gemm import matmul as matmul
from kdl.ops.linalg import det as det
from kdl.ops.linalg import inverse, matrix_exp, matrix_power, solve
from kdl.ops.linalg import vander as _vander
from kdl.ops.reduce import norm as _norm
from kdl.ops.shape import diagonal as _diagonal

__all__ = ["QR", "SVD", "Eigh", "LinAlgError", "Lstsq", "SlogDet", "cholesky", "cond", "cross", "det", "diagonal",
           "eigh", "eigvalsh", "inv", "lstsq", "matmul", "matrix_exp", "matrix_norm", "matrix_power", "matrix_rank",
           "multi_dot", "norm", "pinv", "qr", "slogdet", "solve", "solve_triangular", "svd", "svdvals", "vander",
           "vecdot", "vector_norm"]

inv = inverse


def vector_norm(x, ord=2, dim=None, keepdim=False, *, dtype=None):
    """(sum |x|^ord)^(1 / ord) over the dimensions, all of them by default; ord may be inf, -inf or 0. See kdl.norm."""
    return _norm(x, float(ord), dim, keepdim, dtype)


def matrix_norm(A, ord="fro", dim=(-2, -1), keepdim=False, *, dtype=None):
    """The norm of matrices: "fro"; the largest (1) or smallest (-1) sum of a column's |a|, of a row's (inf, -inf); the
    largest (2) or smallest (-2) singular value; "nuc", the sum of these. Raises ValueError.
    """
    expect(ord in ("fro", "nuc", 1, -1, 2, -2, float("inf"), -float("inf")), "matrix_norm",
           "ord 'fro', 'nuc', 1, -1, 2, -2, inf or -inf", ord=ord)
    if ord == "fro":
        return _norm(A, 2.0, dim, keepdim, dtype)
    row, column = (d % A.ndim for d in dim)
    if ord in ("nuc", 2, -2):
        values = svdvals(A.to(dtype=A.dtype if dtype is None else dtype).movedim((row, column), (-2, -1)))
        result = values.sum(-1) if ord == "nuc" else values[..., 0 if ord == 2 else -1]
        return result.unsqueeze(min(row, column)).unsqueeze(max(row, column)) if keepdim else result
    summed, kept = (row, column) if abs(ord) == 1 else (column, row)
    sums = _norm(A, 1.0, summed, True, dtype)
    result = sums.amax(kept, True) if ord > 0 else sums.amin(kept, True)
    return result if keepdim else result.squeeze((row, column))


def norm(A, ord=None, dim=None, keepdim=False, *, dtype=None):
    """`vector_norm`, of all elements where ord is None; `matrix_norm` of a matrix, or over two dimensions, with ord."""
    both = isinstance(dim, (tuple, list)) and len(dim) == 2
    if ord is not None and (both or (dim is None and A.ndim == 2)):
        return matrix_norm(A, ord, dim if both else (0, 1), keepdim, dtype=dtype)
    expect(not isinstance(ord, str), "norm", f"two dimensions for {ord!r}", dim=dim)
    return vector_norm(A, 2 if ord is None else ord, dim, keepdim, dtype=dtype)


def cross(input, other, *, dim=-1):
    """The cross product of vectors along a dimension of length 3; both broadcast. Raises ValueError, IndexError."""
    return _cross(input, other, dim)


def cond(A, p=None):
    """The condition |A| |A^-1| of every matrix in a norm of `matrix_norm`; of singular values (2) where p is None."""
    if p in (None, 2, -2):
        values = svdvals(A)
        return values[..., 0] / values[..., -1] if p != -2 else values[..., -1] / values[..., 0]
    return matrix_norm(A, p) * matrix_norm(inverse(A), p)


def diagonal(A, *, offset=0, dim1=-2, dim2=-1):
    """A view of the diagonals of matrices."""
    return _diagonal(A, offset, dim1, dim2)


def vander(x, N=None):
    """The powers 0 to N - 1 (as many as x has elements) of x (..., n), as (..., n, N)."""
    return _vander(x, N, increasing=True)


def vecdot(x, y, *, dim=-1):
    """The sums of products along a dimension; both broadcast."""
    return (x * y).sum(dim)


def multi_dot(tensors):
    """The product of two or more matrices (the first and last may be vectors), in the order that costs least.

    Raises ValueError.
    """
    tensors = list(tensors)
    expect(len(tensors) > 1, "multi_dot", "two or more tensors", tensors=len(tensors))
    first, last = tensors[0], tensors[-1]
    sizes = [first.shape[0] if first.ndim > 1 else 1, *[t.shape[0] for t in tensors[1:]],
             last.shape[1] if last.ndim > 1 else 1]
    return in_best_order(tensors, sizes)
