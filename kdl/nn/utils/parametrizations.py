"""Parametrizations of weights: split into length and direction, divided by their largest singular value, orthogonal.

weight norm: w = g v / |v|, a length g for each slice of a dimension (Salimans and Kingma, 2016).
spectral norm: w / s, with s = u' w v the largest singular value by power iteration (Miyato et al., 2018).
orthogonal: Q = exp(A) or (I + A/2)(I - A/2)^-1 of a skew A, or a product of Householder reflections (Lezcano-Casado
and Martinez-Rubio, 2019).
"""
import numpy as np

from kdl import random
from kdl.autograd import no_grad
from kdl.errors import expect
from kdl.nn.conv import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from kdl.nn.module import Module
from kdl.nn.utils.parametrize import register_parametrization
from kdl.ops.gemm import dot, matmul, mv
from kdl.ops.linalg import matrix_exp, solve
from kdl.ops.norm import normalize
from kdl.ops.pad import pad
from kdl.ops.reduce import norm
from kdl.tensor import Tensor, array_module
from kdl.types import epsilon

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]

# The tensors of a state, with the endings that the older forms give the weight's name; {} is the place in the list
WEIGHT_NORM_NAMES = {"original0": "_g", "original1": "_v"}
SPECTRAL_NORM_NAMES = {"original": "_orig", "{}._u": "_u", "{}._v": "_v"}


def weight_norm(module, name="weight", dim=0):
    """Learn the lengths g and directions v of a weight, w = g v / |v|, one length per slice of `dim`, or one (None).

    The originals are g (original0) and v (original1). Returns the module. Raises ValueError.
    """
    return register_parametrization(module, name, _WeightNorm(dim), unsafe=True)


class _WeightNorm(Module):
    older_names = WEIGHT_NORM_NAMES

    def __init__(self, dim=0):
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, g, v):
        return v * (g / lengths(v, self.dim))

    def right_inverse(self, weight):
        return lengths(weight, self.dim), weight


def lengths(v, dim):
    """The norms of the slices of a dimension, which is kept among 1s; of the whole tensor for -1."""
    if dim == -1:
        return norm(v, 2)
    return v.abs() if v.ndim == 1 else norm(v, 2, [d for d in range(v.ndim) if d != dim % v.ndim], keepdim=True)


def spectral_norm(module, name="weight", n_power_iterations=1, eps=1e-12, dim=None):
    """Divide a weight by its largest singular value, as a matrix of `dim` against all other dimensions.

    `dim` is 1 for transposed convolutions, 0 for others. Every use in training mode improves the estimate by
    n_power_iterations; u and v are buffers. A vector is divided by its norm. Returns the module. Raises ValueError.
    """
    weight = getattr(module, name, None)
    expect(isinstance(weight, Tensor), "spectral_norm", f"a parameter or buffer {name!r}", module=type(module).__name__)
    if dim is None:
        dim = int(isinstance(module, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)))
    return register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, dim, eps))


class _SpectralNorm(Module):
    older_names = SPECTRAL_NORM_NAMES

    def __init__(self, weight, n_power_iterations=1, dim=0, eps=1e-12):
        super().__init__()
        if not -weight.ndim <= dim < weight.ndim:
            raise IndexError(f"spectral_norm: expected dim in [{-weight.ndim}, {weight.ndim - 1}], got {dim}")
        expect(n_power_iterations > 0, "spectral_norm", "n_power_iterations > 0", n_power_iterations=n_power_iterations)
        self.dim, self.eps = dim % weight.ndim, eps
        if weight.ndim > 1:
            self.n_power_iterations = n_power_iterations
            matrix = as_matrix(weight, self.dim).detach()
            for buffer, size in zip(("_u", "_v"), matrix.shape, strict=True):
                self.register_buffer(buffer, normalize(matrix.new_empty(size).normal_(0, 1), dim=0, eps=eps))
            self._iterate(matrix, 15)

    def _iterate(self, matrix, times):
        self._u, self._v = power_iteration(matrix.detach(), self._u, self._v, times, self.eps)

    def forward(self, weight):
        if weight.ndim == 1:
            return normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            self._iterate(matrix, self.n_power_iterations)
        return weight / dot(self._u, mv(matrix, self._v))

    def right_inverse(self, value):
        return value


def as_matrix(weight, dim):
    """The weight with `dim` in front and all other dimensions made one."""
    return (weight if dim == 0 else weight.movedim(dim, 0)).flatten(1)


def power_iteration(matrix, u, v, times, eps):
    """Better estimates of the first singular vectors: u <- W v / |W v|, v <- W' u / |W' u|."""
    for _ in range(times):
        u = normalize(mv(matrix, v), dim=0, eps=eps)
        v = normalize(mv(matrix.t(), u), dim=0, eps=eps)
    return u, v


def orthogonal(module, name="weight", orthogonal_map=None, *, use_trivialization=True):
    """Keep a weight orthogonal: orthonormal columns, or rows where it is wider than high.

    The map is "matrix_exp" (the usual one for square weights), "cayley" or "householder" (for others). With
    use_trivialization the map is multiplied by the buffer `base`, at which learning starts. Returns the module.
    Raises ValueError.
    """
    weight = getattr(module, name, None)
    expect(isinstance(weight, Tensor), "orthogonal", f"a parameter or buffer {name!r}", module=type(module).__name__)
    expect(weight.ndim > 1, "orthogonal", "a matrix or a batch of matrices", weight=weight)
    if orthogonal_map is None:
        orthogonal_map = "matrix_exp" if weight.shape[-2] == weight.shape[-1] else "householder"
    expect(orthogonal_map in _MAPS, "orthogonal", f"orthogonal_map one of {', '.join(_MAPS)}",
           orthogonal_map=orthogonal_map)
    parametrization = _Orthogonal(weight, orthogonal_map, use_trivialization)
    return register_parametrization(module, name, parametrization, unsafe=True)


class _Orthogonal(Module):

    def __init__(self, weight, orthogonal_map, use_trivialization):
        super().__init__()
        self.shape, self.orthogonal_map = weight.shape, orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, x):
        wide = x.shape[-2] < x.shape[-1]
        q = _MAPS[self.orthogonal_map](x.mT if wide else x)
        if "base" in self._buffers:
            q = matmul(self.base, q)
        return q.mT if wide else q

    def right_inverse(self, q):
        expect(q.shape == self.shape, "orthogonal", f"a tensor of shape {tuple(self.shape)}", given=q)
        wide = q.shape[-2] < q.shape[-1]
        tall = q.mT if wide else q
        n, k = tall.shape[-2:]
        if "base" not in self._buffers:
            if self.orthogonal_map != "householder":
                raise NotImplementedError(f"orthogonal: a weight cannot be assigned with {self.orthogonal_map} and "
                                          "use_trivialization=False")
            x = _reflectors(tall)
            return x.mT if wide else x
        xp, array = array_module(tall.array), tall.array
        if n > k:  # completed by random columns
            array = xp.concatenate([array, random.randn(*tall.shape[:-1], n - k, dtype=q.dtype, device=q.device).array],
                                   axis=-1)
        square = xp.eye(n, dtype=q.dtype)
        if n > k or not xp.allclose(array.swapaxes(-1, -2) @ array, square, atol=10 * n * epsilon(q.dtype)):
            array, r = xp.linalg.qr(array)
            array = array * xp.sign(r.diagonal(axis1=-2, axis2=-1))[..., None, :]
        self.base = Tensor(array.copy())
        x = xp.zeros(q.shape, q.dtype)
        places = xp.arange(k)
        x[..., places, places] = -1  # what makes the reflections the identity at x
        return Tensor(x)


def _exponential(x):
    """exp(A) of the skew A = X - X' made of the lower triangle of X; the first columns."""
    return matrix_exp(_skew(x))[..., :x.shape[-1]]


def _cayley(x):
    """(I - A/2)^-1 (I + A/2); the first columns."""
    a = _skew(x)
    identity = Tensor(array_module(a.array).eye(a.shape[-1], dtype=a.dtype))
    return solve(identity - a / 2, identity + a / 2)[..., :x.shape[-1]]


def _skew(x):
    n, k = x.shape[-2:]
    x = x.tril()
    if n > k:
        x = pad(x, (0, n - k))
    return x - x.mT


def _householder(x):
    """H_1 ... H_k times the signs on the diagonal of X, with H_i = I - t_i v_i v_i', t_i = 2 / |v_i|^2 and v_i the
    i-th column of X below a 1: all at once it is I - V T V', with T^-1 = diag(1 / t) + the upper part of V'V."""
    n, k = x.shape[-2:]
    xp = array_module(x.array)
    identity = Tensor(xp.eye(n, k, dtype=x.dtype))
    v = x.tril(-1) + identity
    gram = matmul(v.mT, v)
    inverse = gram.triu(1) + (gram * identity[:k]) / 2
    signs = Tensor(xp.trunc(x.detach().array.diagonal(axis1=-2, axis2=-1)))
    return (identity - matmul(v, solve(inverse, v[..., :k, :].mT))) * signs.unsqueeze(-2)


_MAPS = {"matrix_exp": _exponential, "cayley": _cayley, "householder": _householder}


@no_grad()
def _reflectors(q):
    """X with _householder(X) = Q for an orthogonal Q, by its QR decomposition, whose R is diagonal with entries +-1."""
    raw, tau = np.linalg.qr(q.cpu().array, "raw")
    x = np.array(raw.swapaxes(-1, -2))
    places = np.arange(x.shape[-1])
    x[..., places, places] = np.where(tau == 0, -1, 1) * np.sign(x[..., places, places])
    return Tensor(np.ascontiguousarray(x)).to(q.device)
