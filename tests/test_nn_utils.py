"""Clipping gradients, and parameters as one vector, against torch's."""
import numpy as np
import pytest

import kdl
from kdl import nn
from kdl.nn import utils

torch = pytest.importorskip("torch", reason="compared with torch: pip install 'kdl-kernels[test]'")


def pair(scale=1.0, dtype=np.float64):
    """The same parameters with gradients, one of them without, for kdl and torch."""
    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for shape in ((3, 4), (5,), (), (2, 2)):
        array, grad = (np.asarray(factor * rng.standard_normal(shape), dtype) for factor in (1, scale))
        ours.append(nn.Parameter(array))
        theirs.append(torch.from_numpy(array.copy()).requires_grad_())
        if shape != (2, 2):
            ours[-1].grad = kdl.Tensor(grad)
            theirs[-1].grad = torch.from_numpy(grad.copy())
    return ours, theirs


def assert_same_gradients(ours, theirs, rtol=1e-12):
    for p, q in zip(ours, theirs, strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            np.testing.assert_allclose(p.grad.array, q.grad.numpy(), rtol=rtol)


@pytest.mark.parametrize("norm_type", [2, 1, 3.5, float("inf")])
@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_clip_grad_norm(norm_type, scale):
    ours, theirs = pair(scale)
    a = utils.clip_grad_norm_(ours, 1.0, norm_type)
    b = torch.nn.utils.clip_grad_norm_(theirs, 1.0, norm_type)
    np.testing.assert_allclose(a.array, b.numpy(), rtol=1e-12)
    assert a.array.dtype == np.float64 and a.shape == ()
    assert_same_gradients(ours, theirs)


def test_clip_grad_norm_in_float32_and_halves():
    ours, theirs = pair(10, np.float32)
    norm = torch.nn.utils.clip_grad_norm_(theirs, 2.0)
    np.testing.assert_allclose(utils.clip_grad_norm_(ours, 2.0).array, norm.numpy(), 1e-6)
    assert_same_gradients(ours, theirs, 1e-6)
    p = nn.Parameter(np.zeros(70000, np.float16))
    p.grad = kdl.Tensor(np.full(70000, 10, np.float16))  # the sum of squares does not fit into float16
    assert abs(float(utils.clip_grad_norm_(p, 1.0)) - 10 * 70000**0.5) < 1
    np.testing.assert_allclose(p.grad.array.astype(float), 70000**-0.5, rtol=1e-2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_gradients_that_are_not_finite(bad):
    for refuse in (False, True):
        ours, theirs = pair()
        ours[0].grad.array[0, 0] = bad
        theirs[0].grad[0, 0] = bad
        if refuse:
            with pytest.raises(RuntimeError, match="norm of the gradients is"):
                utils.clip_grad_norm_(ours, 1.0, error_if_nonfinite=True)
        else:
            utils.clip_grad_norm_(ours, 1.0)
            torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        assert_same_gradients(ours, theirs)


def test_one_parameter_none_and_no_gradients():
    p = nn.Parameter(np.ones(4))
    assert float(utils.clip_grad_norm_(p, 1.0)) == 0
    assert float(utils.clip_grad_norm_([], 1.0)) == 0
    p.grad = kdl.Tensor(np.ones(4))
    before = p.grad.version[0]
    assert float(utils.clip_grad_norm_(p, 1.0)) == 2
    assert p.grad.version[0] > before
    ours, theirs = pair()
    assert float(utils.clip_grad_norm_((p for p in ours), 1.0)) == pytest.approx(
        float(torch.nn.utils.clip_grad_norm_((p for p in theirs), 1.0)))


def test_clip_grad_value():
    ours, theirs = pair()
    utils.clip_grad_value_(ours, 0.5)
    torch.nn.utils.clip_grad_value_(theirs, 0.5)
    assert_same_gradients(ours, theirs)


def test_vectors():
    ours, theirs = pair()
    vector = utils.parameters_to_vector(ours)
    np.testing.assert_array_equal(vector.detach().array, torch.nn.utils.parameters_to_vector(theirs).detach().numpy())
    vector.sum().backward()
    np.testing.assert_array_equal(ours[3].grad.array, np.ones((2, 2)))
    utils.vector_to_parameters(kdl.Tensor(np.arange(22.0)), ours)
    np.testing.assert_array_equal(ours[3].array, [[18, 19], [20, 21]])
    assert ours[2].array == 17 and ours[0].is_leaf
    with pytest.raises(ValueError, match="as many elements as the parameters have, got vec 5, parameters 22"):
        utils.vector_to_parameters(kdl.Tensor(np.arange(5.0)), ours)
