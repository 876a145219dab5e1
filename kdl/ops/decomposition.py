"""Matrices as products: Cholesky, eigenvalues, singular values, QR; and what follows from them.

cholesky: A = L L'; gA = L'^-1 C(L' gL) L^-1 / 2, C(M) the symmetric matrix with M's lower triangle.
eigh: A = V diag(w) V'; gA = V (diag(gw) + V' gV / E) V', E_ij = w_j - w_i.
svd: A = U diag(s) V'; gA = U (K(U' gU) diag(s) + diag(s) K(V' gV) + diag(gs)) V' + (1 - U U') gU diag(1/s) V'
     + U diag(1/s) gV' (1 - V V'), K(M) = (M - M') / E, E_ij = s_j^2 - s_i^2.
qr: A = Q R; gA = (gQ + Q C(R gR' - gQ' Q)) R'^-1.
pinv: P = A^+; gA = -P' gP P' + (1 - A P) gP' P P' + P' P gP' (1 - P A).
slogdet: log |det A|; gA = g A'^-1.

Shapes: (..., m, n), square where the matrix is symmetric or has a determinant. Gradients through vectors need distinct
values. (Giles, 2008; Walter, Lehmann and Lamour, 2012; Golub and Pereyra, 1973.)
"""
from typing import NamedTuple

from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.arrange import tril, triu
from kdl.ops.common import floating
from kdl.ops.gemm import matmul
from kdl.ops.linalg import identity_like, solve, square
from kdl.tensor import Tensor, method
from kdl.types import HALVES, epsilon

__all__ = ["QR", "SVD", "Eigh", "Lstsq", "SlogDet", "cholesky", "cholesky_inverse", "cholesky_solve", "eigh",
           "eigvalsh", "logdet", "lstsq", "matrix_rank", "pinv", "pinverse", "qr", "slogdet", "solve_triangular", "svd",
           "svdvals"]


class Eigh(NamedTuple):
    """Eigenvalues, ascending, and eigenvectors, as columns."""
    eigenvalues: Tensor
    eigenvectors: Tensor


class SVD(NamedTuple):
    """Left vectors, as columns; singular values, descending; right vectors, as rows."""
    U: Tensor
    S: Tensor
    Vh: Tensor


class QR(NamedTuple):
    """Orthonormal columns, and an upper triangle."""
    Q: Tensor
    R: Tensor


class SlogDet(NamedTuple):
    """The sign of a determinant, and the logarithm of its size."""
    sign: Tensor
    logabsdet: Tensor


class Lstsq(NamedTuple):
    """The solution, the sums of squares that are left (empty unless A is high and of full rank), the rank."""
    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


def cholesky(A, *, upper=False):
    """The lower triangle L with A = L L', or L' with `upper`; of A its lower (upper) triangle is read.

    Raises LinAlgError unless A is positive definite, ValueError, TypeError.
    """
    _matrices("cholesky", A=A)
    square("cholesky", A)
    return Cholesky()(A.mT).mT if upper else Cholesky()(A)


def eigh(A, UPLO="L"):
    """Eigenvalues and eigenvectors of symmetric matrices, of which the triangle UPLO is read."""
    _matrices("eigh", A=A)
    square("eigh", A)
    expect(UPLO in ("L", "U"), "eigh", "UPLO 'L' or 'U'", UPLO=UPLO)
    return Eigh(*Eigenvectors()(A if UPLO == "L" else A.mT))


def eigvalsh(A, UPLO="L"):
    """The eigenvalues of symmetric matrices, ascending."""
    return eigh(A, UPLO).eigenvalues


def svd(A, full_matrices=True):
    """U (..., m, m), S (..., min(m, n)) and Vh (..., n, n) with A = U diag(S) Vh; thin without full_matrices.

    Raises RuntimeError in backward for gradients of vectors beyond the thin ones, ValueError, TypeError.
    """
    _matrices("svd", A=A)
    return SVD(*SingularValues(full_matrices)(A))


def svdvals(A):
    """The singular values, descending."""
    return svd(A, full_matrices=False).S


def qr(A, mode="reduced"):
    """Q (..., m, k) and R (..., k, n) with A = Q R; k = min(m, n), or m where mode is "complete".

    Raises RuntimeError in backward for a "complete" Q of more columns than A has, ValueError, TypeError.
    """
    _matrices("qr", A=A)
    expect(mode in ("reduced", "complete"), "qr", "mode 'reduced' or 'complete'", mode=mode)
    return QR(*Triangle(mode)(A))


def pinv(A, *, atol=None, rtol=None):
    """A^+ (..., n, m): x = A^+ b is the shortest of the x with the smallest |A x - b|.

    Singular values up to max(atol, rtol * largest) count as 0; rtol is eps max(m, n), or 0 where atol is given.
    """
    _matrices("pinv", A=A)
    return Pseudoinverse(atol, rtol)(A)


@method
def pinverse(input, rcond=1e-15):
    """`linalg.pinv` with the tolerance rcond times the largest singular value."""
    return pinv(input, rtol=rcond)


def matrix_rank(A, *, atol=None, rtol=None):
    """How many singular values are above max(atol, rtol * largest); the defaults are those of `pinv`."""
    return _rank(svdvals(A.detach()), A.shape, atol, rtol)


def lstsq(A, B, rcond=None):
    """The x with the smallest |A x - B|, and the smallest itself where several are; B is (..., m, k) or (m).

    Singular values up to rcond times the largest count as 0: what torch calls gelsd. Raises ValueError, TypeError.
    """
    _matrices("lstsq", A=A)
    vector = B.ndim == 1
    expect(A.shape[-2] == B.shape[-1 if vector else -2], "lstsq", "A (..., m, n) and B (..., m, k)", A=A, B=B)
    columns = B.unsqueeze(-1) if vector else B
    solution, values = matmul(pinv(A, rtol=rcond), columns), svdvals(A.detach())
    rank = _rank(values, A.shape, None, rcond)
    full = A.shape[-2] > A.shape[-1] and bool((rank == A.shape[-1]).all())
    residuals = (matmul(A, solution) - columns).square().sum(-2) if full else A.new_empty(0)
    return Lstsq(solution.squeeze(-1) if vector else solution, residuals, rank, values)


@method
def slogdet(input):
    """(sign, log |det|) of every matrix, where the determinant itself might overflow. Raises ValueError, TypeError."""
    _matrices("slogdet", input=input)
    square("slogdet", input)
    return SlogDet(*LogDeterminant()(input))


@method
def logdet(input):
    """log det of every matrix; NaN where det < 0, -inf where it is 0."""
    sign, logarithm = slogdet(input)
    return logarithm + sign.detach().log()


def solve_triangular(A, B, *, upper, left=True, unitriangular=False):
    """The X with A X = B, or X A = B without `left`; of A one triangle is read, with a diagonal of 1s if unitriangular.

    Raises ValueError, TypeError.
    """
    _matrices("solve_triangular", A=A, B=B)
    square("solve_triangular", A)
    expect(A.shape[-1] == B.shape[-2 if left else -1], "solve_triangular", "A (..., n, n) and B (..., n, k), or "
           "(..., k, n) without left", A=A, B=B)
    triangle = (triu if upper else tril)(A, (1 if upper else -1) * unitriangular)
    triangle = triangle + identity_like(A) if unitriangular else triangle
    return solve(triangle, B) if left else solve(triangle.mT, B.mT).mT


@method
def cholesky_solve(input, input2, upper=False):
    """The X with A X = input (..., n, k), given A's Cholesky factor. Raises ValueError, TypeError."""
    _matrices("cholesky_solve", input=input, input2=input2)
    lower = input2.mT if upper else input2
    return solve_triangular(lower.mT, solve_triangular(lower, input, upper=False), upper=True)


@method
def cholesky_inverse(input, upper=False):
    """A^-1, given A's Cholesky factor. Raises ValueError, TypeError."""
    _matrices("cholesky_inverse", input=input)
    square("cholesky_inverse", input)
    return cholesky_solve(identity_like(input).expand(input.shape), input, upper)


# --- functions ---
class Cholesky(Function):

    def forward(self, a):
        self.y = self.k.xp.linalg.cholesky(a)
        return self.y

    def backward(self, gy, wanted):
        xp, lower = self.k.xp, self.y
        middle = _mirrored(xp, xp.matmul(_t(lower), gy)) / 2
        left = xp.linalg.solve(_t(lower), middle)  # L'^-1 C / 2
        return _t(xp.linalg.solve(_t(lower), _t(left)))


class Eigenvectors(Function):

    def forward(self, a):
        self.w, self.v = self.k.xp.linalg.eigh(a)
        return self.w, self.v

    def backward(self, gy, wanted):
        xp, (gw, gv) = self.k.xp, gy
        middle = 0 if gw is None else _diagonal(xp, gw)
        if gv is not None:
            middle = middle + _over_differences(xp, xp.matmul(_t(self.v), gv), self.w)
        return xp.matmul(xp.matmul(self.v, middle), _t(self.v))


class SingularValues(Function):

    def __init__(self, full_matrices):
        self.full_matrices = full_matrices

    def forward(self, a):
        u, s, vh = self.k.xp.linalg.svd(a, full_matrices=self.full_matrices)
        size = s.shape[-1]
        self.s, self.u, self.vh = s, u[..., :size], vh[..., :size, :]
        self.thin = u.shape[-1] == vh.shape[-2] == size
        return u, s, vh

    def backward(self, gy, wanted):
        xp, s, u, vh, (gu, gs, gvh) = self.k.xp, self.s, self.u, self.vh, gy
        if not self.thin and not (gu is None and gvh is None):
            raise RuntimeError("svd: the vectors of full_matrices=True have no gradient where A is not square; pass "
                               "full_matrices=False")
        column, v = s[..., :, None], _t(vh)
        middle, outside = 0 if gs is None else _diagonal(xp, gs), 0
        if gu is not None:
            inner = xp.matmul(_t(u), gu)
            middle = middle + _over_differences(xp, inner - _t(inner), s**2) * s[..., None, :]
            outside = outside + xp.matmul((gu - xp.matmul(u, inner)) / s[..., None, :], vh)
        if gvh is not None:
            inner = xp.matmul(gvh, v)  # (V' gV)'
            middle = middle + column * _over_differences(xp, _t(inner) - inner, s**2)
            outside = outside + xp.matmul(u, (gvh - xp.matmul(inner, vh)) / column)
        return xp.matmul(xp.matmul(u, middle), vh) + outside


class Triangle(Function):

    def __init__(self, mode):
        self.mode = mode

    def forward(self, a):
        self.a = a
        self.q, self.r = self.k.xp.linalg.qr(a, mode=self.mode)
        return self.q, self.r

    def backward(self, gy, wanted):
        xp, (gq, gr) = self.k.xp, gy
        a, q, r, n = self.a, self.q, self.r, self.q.shape[-1]
        if n > a.shape[-1]:
            raise RuntimeError("qr: a complete Q of more columns than A has no gradient; pass mode='reduced'")
        gq = xp.zeros_like(q) if gq is None else gq
        gr = xp.zeros_like(r) if gr is None else gr
        if a.shape[-1] == n:
            return self._of_square_r(gq, q, r, gr)
        rest = gr[..., n:]  # A = (X | Y), R = (S | Q' Y)
        first = self._of_square_r(gq + xp.matmul(a[..., n:], _t(rest)), q, r[..., :n], gr[..., :n])
        return xp.concatenate([first, xp.matmul(q, rest)], -1)

    def _of_square_r(self, gq, q, r, gr):
        xp = self.k.xp
        middle = _mirrored(xp, xp.matmul(r, _t(gr)) - xp.matmul(_t(gq), q))
        return _t(xp.linalg.solve(r, _t(gq + xp.matmul(q, middle))))


class Pseudoinverse(Function):

    def __init__(self, atol, rtol):
        self.atol, self.rtol = atol, rtol

    def forward(self, a):
        xp = self.k.xp
        u, s, vh = xp.linalg.svd(a, full_matrices=False)
        kept = s > _tolerance(s, a.shape, self.atol, self.rtol)
        inverse = xp.where(kept, 1 / xp.where(kept, s, 1), 0)
        self.a, self.p = a, xp.matmul(_t(vh) * inverse[..., None, :], _t(u))
        return self.p

    def backward(self, gy, wanted):
        xp, a, p, g = self.k.xp, self.a, self.p, _t(gy)
        g_p, p_g = xp.matmul(g, p), xp.matmul(p, g)
        beside = g_p - xp.matmul(a, xp.matmul(p, g_p))  # (1 - A P) g' P
        below = p_g - xp.matmul(xp.matmul(p_g, p), a)  # P g' (1 - P A)
        return xp.matmul(beside, _t(p)) + xp.matmul(_t(p), below) - xp.matmul(xp.matmul(_t(p), gy), _t(p))


class LogDeterminant(Function):

    def forward(self, a):
        self.a = a
        sign, logarithm = self.k.xp.linalg.slogdet(a)
        return self.k.xp.asarray(sign), self.k.xp.asarray(logarithm)

    def backward(self, gy, wanted):
        if gy[1] is None:
            return None
        return gy[1][..., None, None] * _t(self.k.xp.linalg.inv(self.a))


# --- helpers ---
def _matrices(op, **tensors):
    floating(op, **tensors)
    for x in tensors.values():
        expect(x.ndim > 1, op, "matrices (..., m, n)", **tensors)
        expect_type(x.dtype not in HALVES, op, "float32 or float64", dtype=x.dtype)


def _t(array):
    return array.swapaxes(-1, -2)


def _diagonal(xp, values):
    return values[..., None] * xp.eye(values.shape[-1], dtype=values.dtype)


def _mirrored(xp, matrix):
    """The symmetric matrix with the lower triangle of another."""
    return xp.tril(matrix) + _t(xp.tril(matrix, -1))


def _over_differences(xp, matrix, values):
    """The matrix with its elements over values_j - values_i, and 0 on the diagonal."""
    diagonal = xp.eye(values.shape[-1], dtype=bool)
    return xp.where(diagonal, 0, matrix / xp.where(diagonal, 1, values[..., None, :] - values[..., :, None]))


def _rank(values, shape, atol, rtol):
    return (values > Tensor(_tolerance(values.array, shape, atol, rtol))).sum(-1)


def _tolerance(values, shape, atol, rtol):
    """Up to which size singular values (..., k) count as 0, as (..., 1)."""
    if rtol is None:
        rtol = 0.0 if atol else epsilon(values.dtype) * max(shape[-2:])
    return (values[..., :1] * rtol).clip(0.0 if atol is None else atol).astype(values.dtype)
