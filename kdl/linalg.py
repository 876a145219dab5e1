"""Linear algebra under the names of torch.linalg: norms, products, systems of equations."""
from kdl.errors import expect
from kdl.ops.contract import in_best_order
from kdl.ops.distance import cross as _cross
from kdl.ops.gemm import matmul as matmul
from kdl.ops.linalg import det as det
from kdl.ops.linalg import inverse, matrix_exp, matrix_power, solve
from kdl.ops.reduce import norm as _norm

__all__ = ["cross", "det", "inv", "matmul", "matrix_exp", "matrix_norm", "matrix_power", "multi_dot", "norm", "solve",
           "vector_norm"]

inv = inverse


def vector_norm(x, ord=2, dim=None, keepdim=False, *, dtype=None):
    """(sum |x|^ord)^(1 / ord) over the dimensions, all of them by default; ord may be inf, -inf or 0. See kdl.norm."""
    return _norm(x, float(ord), dim, keepdim, dtype)


def matrix_norm(A, ord="fro", dim=(-2, -1), keepdim=False, *, dtype=None):
    """The norm of matrices: "fro", or the largest (1) or smallest (-1) sum of a column's |a|, of a row's (inf, -inf).

    Raises ValueError for other norms, which need singular values.
    """
    expect(ord in ("fro", 1, -1, float("inf"), -float("inf")), "matrix_norm", "ord 'fro', 1, -1, inf or -inf", ord=ord)
    if ord == "fro":
        return _norm(A, 2.0, dim, keepdim, dtype)
    row, column = (d % A.ndim for d in dim)
    summed, kept = (row, column) if abs(ord) == 1 else (column, row)
    sums = _norm(A, 1.0, summed, True, dtype)
    result = sums.amax(kept, True) if ord > 0 else sums.amin(kept, True)
    return result if keepdim else result.squeeze((row, column))


def norm(A, ord=None, dim=None, keepdim=False, *, dtype=None):
    """`vector_norm`, of all elements where ord is None; `matrix_norm` of a matrix, or over two dimensions, with ord."""
    both = isinstance(dim, (tuple, list)) and len(dim) == 2
    if ord is not None and (both or (dim is None and A.ndim == 2)):
        return matrix_norm(A, ord, dim if both else (0, 1), keepdim, dtype=dtype)
    expect(ord != "fro", "norm", "two dimensions for 'fro'", dim=dim)
    return vector_norm(A, 2 if ord is None else ord, dim, keepdim, dtype=dtype)


def cross(input, other, *, dim=-1):
    """The cross product of vectors along a dimension of length 3; both broadcast. Raises ValueError, IndexError."""
    return _cross(input, other, dim)


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
