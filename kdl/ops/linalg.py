"""Linear algebra of square matrices: systems of equations, powers, the exponential.

solve: x = A^-1 b; gb = A'^-1 gx, gA = -gb x'. inverse: solve(A, I). det: gA = g det(A) A'^-1.
matrix_exp: e^A = sum A^k / k!, of A / 2^s by its first terms, then squared s times (Higham, 2005, with Taylor's sum).

Shapes: (..., n, n), with batches that broadcast.
"""
import math

from kdl import types
from kdl.autograd import Function
from kdl.errors import expect, expect_type
from kdl.ops.common import floating, unbroadcast
from kdl.ops.creation import arange
from kdl.ops.gemm import Exact
from kdl.tensor import Tensor, array_module, method

__all__ = ["det", "inverse", "matrix_exp", "matrix_power", "vander"]

_TERMS, _SMALL = 18, 0.5  # 0.5^19 / 19! = 2e-23, far below the rounding of float64


def solve(A, B):
    """The x with A x = B; B is (..., n, k), or (..., n) with the batch of A.

    Raises ValueError, TypeError.
    """
    floating("solve", A=A, B=B)
    expect_type(A.dtype not in types.HALVES, "solve", "float32 or float64", A=A.dtype)
    vector = B.ndim == 1 or (B.ndim == A.ndim - 1 and B.shape == A.shape[:-1])
    expect(A.ndim > 1 and A.shape[-1] == A.shape[-2] == B.shape[-1 if vector else -2], "solve",
           "A (..., n, n) and B (..., n, k)", A=A, B=B)
    return Solve()(A, B.unsqueeze(-1)).squeeze(-1) if vector else Solve()(A, B)


class Solve(Function):

    def forward(self, a, b):
        self.a, self.b_shape = a, b.shape
        self.x = self.k.xp.linalg.solve(a, b)
        return self.x

    def backward(self, gx, wanted):
        xp = self.k.xp
        gb = xp.linalg.solve(self.a.swapaxes(-1, -2), gx)
        ga = unbroadcast(-xp.matmul(gb, self.x.swapaxes(-1, -2)), self.a.shape) if wanted[0] else None
        return ga, unbroadcast(gb, self.b_shape) if wanted[1] else None


@method
def matrix_exp(input):
    """e^A = I + A + A^2 / 2 + A^3 / 6 + ... of every matrix. Raises ValueError, TypeError."""
    floating("matrix_exp", input=input)
    square("matrix_exp", input)
    if input.dtype in types.HALVES:
        return matrix_exp(input.float()).to(input.dtype)
    xp, array = array_module(input.array), input.array
    largest = float(xp.abs(array).sum(-2).max()) if array.size else 0.0
    squarings = max(0, math.ceil(math.log2(largest / _SMALL))) if 0 < largest < math.inf else 0
    scaled, identity = input / 2.0**squarings, identity_like(input)
    result = identity + scaled / _TERMS
    for k in range(_TERMS - 1, 0, -1):  # Horner: I + A/1 (I + A/2 (I + ...))
        result = identity + Exact()(scaled, result) / k
    for _ in range(squarings):
        result = Exact()(result, result)
    return result


@method
def inverse(input):
    """A^-1 of every matrix. Raises ValueError, TypeError."""
    floating("inverse", input=input)
    square("inverse", input)
    return solve(input, identity_like(input).expand(input.shape))


@method
def det(input):
    """The determinant of every matrix. Raises ValueError, TypeError."""
    floating("det", input=input)
    square("det", input)
    return Det()(input)


class Det(Function):

    def forward(self, a):
        self.a = a
        self.y = self.k.xp.asarray(self.k.xp.linalg.det(a), a.dtype)
        return self.y

    def backward(self, gy, wanted):
        """The cofactors by the singular values, so that a singular matrix has its gradient: with A = U S V' they are
        det(U) det(V) U C V', C_ii being the product of all the other singular values."""
        xp, n = self.k.xp, self.a.shape[-1]
        u, s, v = xp.linalg.svd(self.a)
        others = xp.where(xp.eye(n, dtype=bool), 1, s[..., None, :]).prod(-1)
        sign = xp.sign(xp.linalg.det(u) * xp.linalg.det(v))
        return (gy * sign)[..., None, None] * xp.matmul(u * others[..., None, :], v)


@method
def matrix_power(input, n):
    """A A ... A, n times, of every matrix; of its inverse for a negative n. Raises ValueError, TypeError."""
    floating("matrix_power", input=input)
    square("matrix_power", input)
    expect_type(isinstance(n, int), "matrix_power", "an int", n=n)
    base, result = inverse(input) if n < 0 else input, None
    n = abs(n)
    while n:
        if n % 2:
            result = base if result is None else result @ base
        n //= 2
        base = base @ base if n else base
    return identity_like(input).expand(input.shape).clone() if result is None else result.clone()


def vander(x, N=None, increasing=False):
    """The powers N - 1 to 0, or 0 to N - 1, of x (..., n) as (..., n, N); N is n where not given. Raises ValueError."""
    N = x.shape[-1] if N is None else N
    expect(N >= 0, "vander", "N >= 0", N=N)
    powers = arange(N, device=x.device)
    return x.unsqueeze(-1) ** (powers if increasing else powers.flip(0))


def square(op, input):
    """Raise ValueError unless the matrices are square."""
    expect(input.ndim > 1 and input.shape[-1] == input.shape[-2], op, "square matrices", input=input)


def identity_like(input):
    """The identity matrix of the size, dtype and device of square matrices."""
    return Tensor(array_module(input.array).eye(input.shape[-1], dtype=input.dtype))
