"""Functions of users, with a ctx, and gradcheck."""
import warnings

import numpy as np
import pytest

import kdl
from kdl.autograd import Function, gradcheck


def leaf(*shape, seed=0):
    return kdl.Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


# --- Functions of users ---
class Scaled(Function):
    @staticmethod
    def forward(ctx, x, y, factor, label=None):
        ctx.save_for_backward(x, y)
        ctx.factor = factor
        return x * y * factor, (x > 0), x + 1

    @staticmethod
    def backward(ctx, g, g_mask, g_plus):
        x, y = ctx.saved_tensors
        assert g_mask is None or not g_mask.numpy().any()
        return (g * y * ctx.factor + g_plus if ctx.needs_input_grad[0] else None,
                g * x * ctx.factor if ctx.needs_input_grad[1] else None, None, None)


def test_a_user_function_with_several_outputs_and_plain_arguments():
    x, y = leaf(3), leaf(3, seed=1)
    product, mask, plus = Scaled.apply(x, y, 2.0, "label")
    assert product.requires_grad and plus.requires_grad and not mask.requires_grad and mask.dtype == kdl.bool
    (product * 3 + plus).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 6 * y.detach().numpy() + 1)
    np.testing.assert_allclose(y.grad.numpy(), 6 * x.detach().numpy())
    product, _, _ = Scaled.apply(x.detach(), y, 2.0)
    y.grad = None
    product.sum().backward()
    np.testing.assert_allclose(y.grad.numpy(), 2 * x.detach().numpy())
    with kdl.no_grad():
        assert not Scaled.apply(x, y, 2.0)[0].requires_grad


def test_mark_non_differentiable():
    class Sorted(Function):
        @staticmethod
        def forward(ctx, x):
            order = x.argsort()
            values, places = x[order], order.double()
            ctx.mark_non_differentiable(places)
            ctx.save_for_backward(order)
            return values, places

        @staticmethod
        def backward(ctx, g, g_places):
            order, = ctx.saved_tensors
            return kdl.zeros_like(g).index_add(0, order, g)
    x = leaf(4)
    values, places = Sorted.apply(x)
    assert values.requires_grad and not places.requires_grad
    (values * kdl.arange(4)).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.argsort(np.argsort(x.detach().numpy())))


def apply_backward(result, x=None, materialize=True):
    """The gradient of x through a user Function whose backward returns `result(g1, g2)`."""
    class User(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(materialize)
            return x * 1, x * 2

        @staticmethod
        def backward(ctx, *g):
            return result(*g)
    x = leaf(3) if x is None else x
    User.apply(x)[0].sum().backward()
    return x.grad


def test_what_a_user_backward_may_return():
    assert apply_backward(lambda g, h: None) is None
    np.testing.assert_array_equal(apply_backward(lambda g, h: g + h).numpy(), np.ones(3))
    np.testing.assert_array_equal(apply_backward(lambda g, h: g if h is None else None, materialize=False).numpy(),
                                  np.ones(3))
    for result, error, text in (
            (lambda g, h: (g, g), RuntimeError, "expected 1 gradients, one per input of forward, got 2"),
            (lambda g, h: g.numpy(), TypeError, "expected tensors or None, got ndarray for input 0"),
            (lambda g, h: g[:2], RuntimeError, r"expected a gradient of shape \(3,\) for input 0, got \(2,\)")):
        with pytest.raises(error, match=text):
            apply_backward(result)


def test_a_user_backward_that_returns_a_saved_tensor_does_not_give_it_away():
    class Linear(Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(w)
            return (x * w).sum()

        @staticmethod
        def backward(ctx, g):
            return ctx.saved_tensors[0], None
    x, w = leaf(3), kdl.ones(3, dtype=kdl.float64)
    Linear.apply(x, w).backward()
    x.grad.numpy()[...] = 5
    np.testing.assert_array_equal(w.numpy(), np.ones(3))


def test_user_functions_check_what_they_saved():
    class Square(Function):
        @staticmethod
        def forward(ctx, x):
            y = x * x
            ctx.save_for_backward(x, y)
            return y

        @staticmethod
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            return 2 * g * x + 0 * y
    for changed in (0, 1):
        x = leaf(3)
        y = Square.apply(x)
        with kdl.no_grad():
            (x, y)[changed].add_(1)
        with pytest.raises(RuntimeError, match="saved by Square was changed in place"):
            y.sum().backward()
    x = leaf(3)
    assert gradcheck(Square.apply, x)

    class Wrong(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(3)
    with pytest.raises(TypeError, match="save_for_backward: expected tensors or None, got int"):
        Wrong.apply(x)

    class Number(Function):
        @staticmethod
        def forward(ctx, x):
            return 3
    with pytest.raises(TypeError, match=r"Number.forward: expected tensors, got int"):
        Number.apply(x)


def test_a_user_function_may_run_its_own_backward_inside():
    class Checkpoint(Function):
        @staticmethod
        def forward(ctx, function, x):
            ctx.function = function
            ctx.save_for_backward(x)
            return function(x)

        @staticmethod
        def backward(ctx, g):
            x = ctx.saved_tensors[0].detach().requires_grad_()
            with kdl.enable_grad():
                y = ctx.function(x)
            y.backward(g)
            return None, x.grad
    x = leaf(3)
    Checkpoint.apply(lambda t: (t * t).sin(), x).sum().backward()
    expected, = kdl.grad((x * x).sin().sum(), x)
    np.testing.assert_allclose(x.grad.numpy(), expected.numpy())


def test_a_function_may_return_a_tuple_of_one():
    class One(Function):
        def forward(self, x):
            return (x * 2,)

        def backward(self, gy, wanted):
            return gy[0] * 2
    x = leaf(3)
    y, = One()(x)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full(3, 2.0))


def test_forward_and_backward_run_without_numpys_warnings():
    class Log(Function):
        def forward(self, x):
            self.x = x
            return np.log(x)

        def backward(self, gy, wanted):
            return gy / self.x
    before = np.geterr()
    x = kdl.zeros(2, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = Log()(x)
        y.sum().backward()
    np.testing.assert_array_equal(y.detach().numpy(), -np.inf)
    np.testing.assert_array_equal(x.grad.numpy(), np.inf)

    class Fails(Function):
        def forward(self, x):
            raise ArithmeticError
    with pytest.raises(ArithmeticError):
        Fails()(x)
    assert np.geterr() == before


# --- gradcheck ---
def test_gradcheck_finds_a_wrong_gradient():
    class Wrong(Function):
        def forward(self, x):
            self.x = x
            return x * x

        def backward(self, gy, wanted):
            g = 2 * gy * self.x
            g[1] *= 1.01
            return g
    x = leaf(3)
    with pytest.raises(RuntimeError, match=r"d output\[0\].flat\[1\] / d inputs\[0\].flat\[1\]: recorded .* \(1 of 9"):
        gradcheck(Wrong(), x)
    assert gradcheck(Wrong(), x, raise_exception=False) is False
    assert gradcheck(lambda t: t * t, x)


def test_gradcheck_of_views_missing_and_constant_gradients():
    x = leaf(2, 3)
    assert gradcheck(lambda t: t.T, x)
    assert gradcheck(lambda t: (t * 2, t.detach() * 0), x)
    with pytest.raises(RuntimeError, match="recorded 0"):
        gradcheck(lambda t: t.detach() * 2, x)
    with pytest.raises(ValueError, match="expected float64 inputs, got float32"):
        gradcheck(lambda t: t, kdl.randn(2, requires_grad=True))
    assert gradcheck(lambda t: t * 2, kdl.zeros(0, dtype=kdl.float64, requires_grad=True))
