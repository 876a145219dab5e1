"""Distances, and what is measured between vectors: cdist, pdist, dist, cross, covariance, correlation, renorm.

The p-norm distance of x and y is (sum |x_i - y_i|^p)^(1/p), for p = inf the largest |x_i - y_i|, for p = 0 how many
differ. For p = 2 it comes from one matrix product where there are many, |x|^2 + |y|^2 - 2 x y, and its gradient from
two; where a distance is 0, its gradient is 0.
"""
import math

from kdl import types
from kdl.autograd import Function
from kdl.autograd.autocast import active, widened
from kdl.errors import expect, expect_type
from kdl.ops.common import array_of, dimension, floating
from kdl.ops.gemm import product
from kdl.ops.join import stack
from kdl.ops.reduce import norm
from kdl.ops.select import where
from kdl.ops.shape import broadcast_shapes
from kdl.tensor import Tensor, array_module, method

__all__ = ["cdist", "corrcoef", "cov", "cross", "dist", "pdist", "renorm"]

_MANY = 25  # rows from which on products are used, as in torch: they lose digits where points are close


# --- distances ---
def cdist(x1, x2, p=2.0, compute_mode="use_mm_for_euclid_dist_if_necessary"):
    """The distance of every row of x1 to every row of x2: (..., P, M) and (..., R, M) give (..., P, R).

    With compute_mode "donot_use_mm_for_euclid_dist" nothing is subtracted from squares. Raises ValueError, TypeError.
    """
    floating("cdist", x1=x1, x2=x2)
    if active:
        x1, x2 = widened("cdist", x1, x2)
    expect(x1.ndim > 1 and x2.ndim > 1 and x1.shape[-1] == x2.shape[-1], "cdist", "x1 (..., P, M) and x2 (..., R, M)",
           x1=x1, x2=x2)
    expect(compute_mode in _MODES, "cdist", f"compute_mode one of {', '.join(_MODES)}", compute_mode=compute_mode)
    expect(p >= 0, "cdist", "p >= 0", p=p)
    least = _MODES[compute_mode]
    if p == 2 and max(x1.shape[-2], x2.shape[-2]) > least:
        batch = broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
        return Euclidean()(x1.expand(*batch, *x1.shape[-2:]), x2.expand(*batch, *x2.shape[-2:]))
    return norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p, -1)


_MODES = {"use_mm_for_euclid_dist_if_necessary": _MANY, "use_mm_for_euclid_dist": 0,
          "donot_use_mm_for_euclid_dist": math.inf}


class Euclidean(Function):
    """d_ij = |x_i - y_j|; with h = gd / d, gx_i = x_i sum_j h_ij - sum_j h_ij y_j, and gy the same transposed."""

    def forward(self, x, y):
        xp = self.k.xp
        self.dtype = x.dtype
        x, y = (a.astype(types.float32) if a.dtype in types.HALVES else a for a in (x, y))
        squares = (x * x).sum(-1)[..., None] + (y * y).sum(-1)[..., None, :]
        self.x, self.y = x, y
        self.d = xp.sqrt(xp.maximum(squares - 2 * self._product(x, y.swapaxes(-1, -2)), 0))
        return self.d.astype(self.dtype, copy=False)

    def backward(self, gd, wanted):
        x, y, d = self.x, self.y, self.d
        h = self.k.xp.where(d == 0, 0, gd / d).astype(d.dtype)
        gx = x * h.sum(-1)[..., None] - self._product(h, y) if wanted[0] else None
        gy = y * h.sum(-2)[..., None] - self._product(h.swapaxes(-1, -2), x) if wanted[1] else None
        return tuple([g if g is None else g.astype(self.dtype, copy=False) for g in (gx, gy)])

    def _product(self, a, b):
        return product(self.k, a, b)


def pdist(input, p=2.0):
    """The distances of all pairs of rows i < j of a matrix, in the order (0, 1), (0, 2), ...

    Raises ValueError, TypeError.
    """
    floating("pdist", input=input)
    expect(input.ndim == 2 and p >= 0, "pdist", "a matrix and p >= 0", input=input, p=p)
    first, second = array_module(input.array).triu_indices(input.shape[0], 1)
    return norm(input[Tensor(first)] - input[Tensor(second)], p, -1)


@method
def dist(input, other, p=2):
    """The norm of input - other as a number; both broadcast."""
    if active:
        input, other = widened("dist", input, other)
    return norm(input - other, p)


@method
def renorm(input, p, dim, maxnorm):
    """The slices of a dimension, those of a p-norm above maxnorm scaled down to it. Raises ValueError, TypeError."""
    floating("renorm", input=input)
    if active:
        input, = widened("renorm", input)
    expect(input.ndim > 1 and p > 0 and maxnorm >= 0, "renorm", "at least 2 dimensions, p > 0 and maxnorm >= 0",
           input=input, p=p, maxnorm=maxnorm)
    dim = dimension("renorm", dim, input.ndim)
    others = [d for d in range(input.ndim) if d != dim]
    lengths = norm(input, p, others, True)
    return input * where(lengths > maxnorm, maxnorm / (lengths + 1e-7), lengths.new_ones(()))


# --- vectors in space, samples of variables ---
@method
def cross(input, other, dim=None):
    """The cross product of vectors along a dimension of length 3, by default the first of that length; they broadcast.

    Raises ValueError, IndexError.
    """
    shape = broadcast_shapes(array_of("cross", input).shape, array_of("cross", other, "other").shape)
    if dim is None:
        expect(3 in shape, "cross", "a dimension of length 3", input=input, other=other)
        dim = shape.index(3)
    dim = dimension("cross", dim, len(shape))
    a, b = input.expand(shape), other.expand(shape)
    expect(shape[dim] == 3, "cross", "a dimension of length 3", input=input, other=other, dim=dim)
    (a0, a1, a2), (b0, b1, b2) = a.unbind(dim), b.unbind(dim)
    return stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], dim)


@method
def cov(input, *, correction=1, fweights=None, aweights=None):
    """The covariances of variables (rows) over observations (columns), weighted by how often and how much each counts.

    C = sum_k w_k (x_k - mean) (x_k - mean)' / (sum w - correction), with w = fweights aweights, and with aweights
    sum w - correction (sum w aweights) / sum w instead. Raises ValueError, TypeError.
    """
    array = array_of("cov", input)
    expect(array.ndim <= 2, "cov", "at most 2 dimensions", input=input)
    expect_type(array.dtype != types.boolean, "cov", "numbers", input=array.dtype)
    x = input.reshape(1, -1) if array.ndim < 2 else input
    x = x if array.dtype in types.FLOATS else x.to(types.get_default_dtype())
    n = x.shape[1]
    weights = {name: w for name, w in (("fweights", fweights), ("aweights", aweights)) if w is not None}
    for name, w in weights.items():
        whole = name == "fweights"
        expect(array_of("cov", w, name).shape == (n,), "cov", f"{name} of shape ({n},)", **{name: w})
        expect_type((w.dtype in types.FLOATS) != whole, "cov", f"{name} that are {'integers' if whole else 'floats'}",
                    **{name: w.dtype})
        expect(bool((w.array >= 0).all()), "cov", f"{name} that are not negative", **{name: w})
    w = math.prod(weights.values()).to(x.dtype) if weights else None
    total = n if w is None else w.sum()
    mean = x.mean(1, True) if w is None else (x * w).sum(1, True) / total
    deviation = x - mean
    degrees = total - correction if aweights is None else total - correction * (w * aweights).sum() / total
    weighted = deviation if w is None else deviation * w
    degrees = degrees.clamp(min=0) if isinstance(degrees, Tensor) else max(degrees, 0)
    c = weighted @ deviation.t() / (degrees if isinstance(degrees, Tensor) else float(degrees) or x.new_zeros(()))
    return c if array.ndim == 2 else c.reshape(())


@method
def corrcoef(input):
    """The correlations of variables (rows) over observations (columns): C_ij / sqrt(C_ii C_jj), clamped to [-1, 1]."""
    c = cov(input)
    if c.ndim == 0:
        return c / c
    spread = c.diagonal().sqrt()
    return (c / spread.unsqueeze(1) / spread).clamp(-1, 1)
