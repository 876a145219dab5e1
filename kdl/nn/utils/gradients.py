"""What is done to the gradients or parameters of a network as a whole."""
import numpy as np

from kdl.autograd.quiet import quiet
from kdl.errors import expect
from kdl.tensor import Tensor, array_module

__all__ = ["clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm", "parameters_to_vector",
           "vector_to_parameters"]


def clip_grad_norm_(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """Scale all gradients by one factor so that the norm of them all is at most max_norm; returns the norm before.

    The factor is max_norm / (norm + 1e-6), at most 1. Raises RuntimeError for an infinite or NaN norm when asked to.
    """
    grads = _grads(parameters)
    return Tensor(_clip_norm(grads, float(max_norm), float(norm_type), error_if_nonfinite) if grads
                  else np.zeros((), np.float32))


@quiet
def _clip_norm(grads, max_norm, norm_type, error_if_nonfinite):
    total = _total(grads, norm_type, error_if_nonfinite, "clip_grad_norm_")
    _scale(grads, max_norm, float(total))
    return total


@quiet
def _total(arrays, norm_type, error_if_nonfinite, op):
    xp = array_module(arrays[0])
    norms = xp.stack([_norm(xp, g, norm_type) for g in arrays])
    total = xp.asarray(norms.max() if norm_type == np.inf else _norm(xp, norms, norm_type))
    if error_if_nonfinite and not xp.isfinite(total):
        raise RuntimeError(f"{op}: the norm of the gradients is {float(total)}; "
                           "pass error_if_nonfinite=False to go on all the same")
    return total


@quiet
def _scale(grads, max_norm, total):
    factor = max_norm / (total + 1e-6)
    if not factor >= 1:
        for g in grads:
            g *= g.dtype.type(factor)


def get_total_norm(tensors, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """The norm of all tensors together. Raises RuntimeError for an infinite or NaN norm when asked to."""
    arrays = [t.array for t in ([tensors] if isinstance(tensors, Tensor) else tensors)]
    if not arrays:
        return Tensor(np.zeros((), np.float32))
    return Tensor(_total(arrays, float(norm_type), error_if_nonfinite, "get_total_norm"))


def clip_grads_with_norm_(parameters, max_norm, total_norm, foreach=None):
    """Scale all gradients by max_norm / (total_norm + 1e-6), at most 1: `clip_grad_norm_` for a norm that is known."""
    _scale(_grads(parameters), float(max_norm), float(total_norm))


def _norm(xp, array, p):
    """The p-norm of all elements, in float32 for halves."""
    size = xp.abs(array.astype(xp.promote_types(array.dtype, np.float32), copy=False).ravel())
    if p == 2:
        return xp.sqrt(xp.dot(size, size))
    return size.max(initial=0) if p == np.inf else xp.sum(size**p) ** (1 / p)


def clip_grad_value_(parameters, clip_value, foreach=None):
    """Bring every element of every gradient into [-clip_value, clip_value]."""
    for g in _grads(parameters):
        g.clip(-float(clip_value), float(clip_value), out=g)


def _grads(parameters):
    """The gradients' arrays; they are about to change."""
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    grads = [p.grad for p in parameters if p.grad is not None]
    for g in grads:
        g.version[0] += 1
    return [g.array for g in grads]


def parameters_to_vector(parameters):
    """All parameters, flattened and one after the other, as one recorded tensor."""
    from kdl import cat
    return cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec, parameters):
    """Write a vector's parts into the parameters, the opposite of `parameters_to_vector`. Raises ValueError."""
    parameters = list(parameters)
    needed = sum(p.numel() for p in parameters)
    expect(vec.numel() == needed, "vector_to_parameters", "as many elements as the parameters have",
           vec=vec.numel(), parameters=needed)
    start = 0
    for p in parameters:
        p.array[...] = vec.array[start:start + p.numel()].reshape(p.shape)
        p.version[0] += 1
        start += p.numel()
