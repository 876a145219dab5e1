"""The tape: what is recorded, what a backward pass computes, keeps and frees, and how it fails."""
import gc
import threading
import weakref

import numpy as np
import pytest

import kdl
from kdl import autograd
from kdl.autograd import Function, gradcheck

torch = pytest.importorskip("torch", reason="the tape is compared with torch: pip install 'kdl-kernels[test]'")


def leaf(*shape, seed=0):
    return kdl.Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


class Negate(Function):
    def forward(self, x):
        return -x

    def backward(self, gy, wanted):
        return -gy


class Product(Function):
    """x y, which refuses to compute a gradient that nobody wants."""
    computed = ()

    def forward(self, x, y):
        self.x, self.y = x, y
        return x * y

    def backward(self, gy, wanted):
        Product.computed = wanted
        return gy * self.y if wanted[0] else None, gy * self.x if wanted[1] else None


# --- size and shape of the graph ---
def test_a_chain_of_ten_thousand_operations_and_its_end():
    x = leaf(3)
    y = x
    for _ in range(10_000):
        y = Negate()(y)
    y.backward(kdl.ones(3, dtype=kdl.float64))
    np.testing.assert_array_equal(x.grad.numpy(), np.ones(3))


def test_a_deep_graph_is_freed_without_recursion():
    def build_and_drop():
        y = leaf(1)
        for _ in range(200_000):
            y = Negate()(y)
    thread = threading.Thread(target=build_and_drop)  # a thread's stack is small: deep recursion would end the process
    thread.start()
    thread.join()


def test_diamonds_add_the_gradients_of_all_paths():
    x = leaf(4)
    y = x
    for _ in range(30):  # 2^30 paths, each node visited once
        y = y + y
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full(4, 2.0**30))


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs_agree_with_torch(seed):
    rng = np.random.default_rng(seed)
    arrays = [rng.uniform(0.5, 1.5, (3, 4)) for _ in range(3)]
    ours, theirs = [kdl.Tensor(a.copy(), requires_grad=True) for a in arrays], [
        torch.tensor(a, requires_grad=True) for a in arrays]
    values, reference = list(ours), list(theirs)
    operations = [lambda x, y: x + y, lambda x, y: (x * y).sin(), lambda x, y: x - y,
                  lambda x, y: (x / (1 + y * y)).tanh()]
    for _ in range(25):
        a, b, op = rng.integers(len(values)), rng.integers(len(values)), rng.integers(4)
        for pool in (values, reference):
            pool.append(operations[op](pool[a], pool[b]))
    sum(v.sum() for v in values[-5:]).backward()
    sum(v.sum() for v in reference[-5:]).backward()
    for x, t in zip(ours, theirs, strict=True):
        assert (x.grad is None) == (t.grad is None)
        if x.grad is not None:
            np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-9, atol=1e-9)


# --- what arrives in grad ---
def test_gradients_accumulate_over_backwards():
    x = leaf(3)
    (x * 2).sum().backward()
    first = x.grad
    (x * 3).sum().backward()
    assert x.grad is first
    np.testing.assert_array_equal(x.grad.numpy(), np.full(3, 5.0))


def test_a_leaf_used_twice_by_one_operation():
    x = leaf(3)
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2 * x.detach().numpy())


def arrays_of(*tensors):
    return [t.detach().numpy() if isinstance(t, kdl.Tensor) else t for t in tensors]


def assert_disjoint(*tensors):
    arrays = arrays_of(*tensors)
    for i, a in enumerate(arrays):
        for b in arrays[:i]:
            assert not np.shares_memory(a, b)


def test_no_gradient_shares_memory_with_anything_else():
    a, b, c = leaf(3, 4), leaf(3, 4, seed=1), leaf(4, 3, seed=2)
    upstream = kdl.ones(3, 4, dtype=kdl.float64)
    y = a + b + c.T + a.reshape(4, 3).T.reshape(3, 4)
    y.retain_grad()
    seen = []
    y.register_hook(seen.append)
    a.register_hook(seen.append)
    y.backward(upstream)
    assert_disjoint(a.grad, b.grad, c.grad, y.grad, upstream, a, b, c, y)
    assert not any(np.shares_memory(g.numpy(), kept.grad.numpy()) for g in seen for kept in (a, b, c, y))
    before = [t.grad.numpy().copy() for t in (b, c, y)]
    a.grad.numpy()[...] = 99
    for t, g in zip((b, c, y), before, strict=True):
        np.testing.assert_array_equal(t.grad.numpy(), g)


def test_backward_of_a_leaf_copies_the_gradient_given():
    x, upstream = leaf(3), kdl.ones(3, dtype=kdl.float64)
    x.backward(upstream)
    upstream.numpy()[...] = 7
    np.testing.assert_array_equal(x.grad.numpy(), np.ones(3))


def test_grad_returns_gradients_of_their_own():
    a, b = leaf(3), leaf(3, seed=1)
    y = a + b
    ga, gb, gy = kdl.grad(y, [a, b, y], kdl.ones(3, dtype=kdl.float64))
    assert_disjoint(ga, gb, gy)
    assert a.grad is None and b.grad is None


def test_a_part_of_a_gradient_beside_the_whole_is_no_alias():
    class Both(Function):
        def forward(self, x, y):
            return x + y.sum()

        def backward(self, gy, wanted):
            g = gy * 2
            return g, g[:2]
    x, y = leaf(3), leaf(2)
    Both()(x, y).sum().backward()
    (x * 1).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full(3, 3.0))
    np.testing.assert_array_equal(y.grad.numpy(), np.full(2, 2.0))


def test_gradients_keep_dtype_and_layout_of_the_leaf():
    x = kdl.randn(2, 3, 4, 5).to(memory_format=kdl.channels_last).requires_grad_()
    (x * x).sum().backward()
    assert x.grad.dtype == kdl.float32
    assert x.grad.is_contiguous(memory_format=kdl.channels_last)
    y = leaf(3, 4)
    y.T.sum(0).sum().backward()
    assert y.grad.is_contiguous()


def test_zero_dimensional_gradients_stay_arrays():
    x = kdl.tensor(2.0, requires_grad=True)
    (x * x + x).backward()
    (x * x).backward()
    assert isinstance(x.grad.array, np.ndarray) and x.grad.item() == 9.0


# --- only what is wanted ---
def test_only_wanted_gradients_are_computed():
    x, y = leaf(3), kdl.ones(3, dtype=kdl.float64)
    Product()(x, y).sum().backward()
    assert Product.computed == (True, False)
    x, y = leaf(3), leaf(3, seed=1)
    kdl.grad(Product()(x, y).sum(), y)
    assert Product.computed == (False, True)


def test_nodes_off_the_way_to_the_inputs_are_not_run():
    class Untouchable(Function):
        def forward(self, x):
            return x + 1

        def backward(self, gy, wanted):
            raise AssertionError("this gradient was not asked for")
    x, y = leaf(3), leaf(3, seed=1)
    z = Untouchable()(x) * y
    g, = kdl.grad(z.sum(), y)
    np.testing.assert_array_equal(g.numpy(), (x + 1).detach().numpy())
    z = Untouchable()(x) * y
    z.sum().backward(inputs=[y])
    assert x.grad is None
    np.testing.assert_array_equal(y.grad.numpy(), (x + 1).detach().numpy())


def test_grad_of_intermediate_unused_and_repeated_inputs():
    x, unused = leaf(3), leaf(3, seed=1)
    y = x * 2
    z = (y * y).sum()
    gy, gx = kdl.grad(z, [y, x], retain_graph=True)
    np.testing.assert_allclose(gy.numpy(), 2 * y.detach().numpy())
    np.testing.assert_allclose(gx.numpy(), 8 * x.detach().numpy())
    with pytest.raises(RuntimeError, match=r"do not depend on inputs\[1\]; pass allow_unused=True"):
        kdl.grad(z, [x, unused], retain_graph=True)
    gx, none = kdl.grad(z, [x, unused], retain_graph=True, allow_unused=True)
    assert none is None
    z.backward(inputs=[x, x])
    np.testing.assert_allclose(x.grad.numpy(), gx.numpy())


def test_grad_of_an_output_with_respect_to_itself():
    x = leaf(2)
    g, = kdl.grad(x, x, kdl.tensor([3.0, 4.0]))
    np.testing.assert_array_equal(g.numpy(), [3.0, 4.0])
    y = x * 2
    gy, = kdl.grad(y, y, kdl.tensor([3.0, 4.0]))
    np.testing.assert_array_equal(gy.numpy(), [3.0, 4.0])


def test_several_outputs_and_gradients():
    x = leaf(3)
    y, z = x * 2, x * 3
    g, = kdl.grad([y, z], x, [kdl.ones(3), kdl.full((3,), 2.0)], retain_graph=True)
    np.testing.assert_array_equal(g.numpy(), np.full(3, 8.0))
    autograd.backward([y.sum(), z.sum()])
    np.testing.assert_array_equal(x.grad.numpy(), np.full(3, 5.0))


# --- what it refuses ---
def test_wrong_calls_of_backward():
    x = leaf(3)
    y = x * 2
    with pytest.raises(RuntimeError, match=r"gradient is needed for a tensor of shape \(3,\)"):
        y.backward()
    with pytest.raises(RuntimeError, match=r"expected a gradient of the tensor's shape \(3,\), got \(2,\)"):
        y.backward(kdl.ones(2))
    with pytest.raises(RuntimeError, match="does not require grad: nothing was recorded"):
        kdl.ones(1).backward()
    with pytest.raises(RuntimeError, match=r"inputs\[0\] does not require grad"):
        kdl.grad(y, kdl.ones(3), kdl.ones(3))
    with pytest.raises(RuntimeError, match="at least one input"):
        y.backward(kdl.ones(3), inputs=[])
    with pytest.raises(RuntimeError, match="one gradient per tensor, got 1 for 2"):
        kdl.grad([y, y], x, [kdl.ones(3)])
    with pytest.raises(NotImplementedError, match="create_graph"):
        y.sum().backward(create_graph=True)


def test_a_gradient_is_cast_to_the_dtype_of_its_tensor():
    x = kdl.randn(3, requires_grad=True)
    (x * 2).backward(kdl.ones(3, dtype=kdl.float64))
    assert x.grad.dtype == kdl.float32


def test_a_second_backward_needs_retain_graph():
    x = leaf(3)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 4 * x.detach().numpy())
    with pytest.raises(RuntimeError, match="already freed; pass retain_graph=True"):
        y.backward()
    with pytest.raises(RuntimeError, match="already freed"):
        kdl.grad(y, x)


def test_a_graph_whose_lower_part_was_freed_is_refused_where_it_is_needed():
    x, w = leaf(3), leaf(3, seed=1)
    y = x * x
    y.sum().backward()
    z = (y * w).sum()
    kdl.grad(z, w, retain_graph=True)
    with pytest.raises(RuntimeError, match="already freed"):
        kdl.grad(z, x)


# --- memory ---
def test_saved_arrays_are_freed_as_backward_goes():
    alive = []

    class Watched(Function):
        def forward(self, x):
            self.saved = np.array(x)
            alive.append(weakref.ref(self.saved))
            return x * 1

        def backward(self, gy, wanted):
            counts.append(sum(ref() is not None for ref in alive))
            return gy
    counts, y = [], leaf(3)
    for _ in range(5):
        y = Watched()(y)
    y.sum().backward()
    assert counts == [5, 4, 3, 2, 1] and not any(ref() is not None for ref in alive)


def test_a_dropped_graph_holds_no_cycle():
    gc.collect()
    gc.disable()
    try:
        x = leaf(3)
        y = Product()(x, Negate()(x))
        y.retain_grad()
        y.register_hook(lambda g: None)
        node = weakref.ref(y.grad_fn.edges[1][0].edges[0])
        saved = weakref.ref(y.grad_fn.y)
        del x, y
        assert node() is None and saved() is None
    finally:
        gc.enable()


# --- hooks and retained gradients ---
def test_a_hook_on_a_leaf_sees_the_whole_gradient_once():
    x = leaf(3)
    seen = []
    x.register_hook(lambda g: seen.append(g.numpy().copy()))
    (x * 2 + x * 3).sum().backward()
    np.testing.assert_array_equal(seen, [np.full(3, 5.0)])


def test_hooks_replace_gradients_in_order_and_can_be_removed():
    x = leaf(3)
    y = x * 2
    first = y.register_hook(lambda g: g * 10)
    y.register_hook(lambda g: g + 1)
    y.sum().backward(retain_graph=True)
    np.testing.assert_array_equal(x.grad.numpy(), np.full(3, 22.0))
    first.remove()
    x.grad = None
    with x.register_hook(lambda g: g * 5):
        y.sum().backward(retain_graph=True)
    np.testing.assert_array_equal(x.grad.numpy(), np.full(3, 20.0))
    x.grad = None
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full(3, 4.0))


def test_hooks_refuse_what_is_no_gradient():
    x = leaf(3)
    x.register_hook(lambda g: g[:2])
    with pytest.raises(RuntimeError, match=r"hook: expected None or a tensor of shape \(3,\), got replacement \(2,\)"):
        x.sum().backward()
    with pytest.raises(RuntimeError, match="requires grad"):
        kdl.ones(3).register_hook(print)
    with pytest.raises(RuntimeError, match="requires grad"):
        kdl.ones(3).retain_grad()


def test_retained_gradients_come_after_hooks_and_accumulate():
    x = leaf(3)
    y = x * 2
    y.retain_grad()
    y.retain_grad()
    y.register_hook(lambda g: g * 10)
    y.sum().backward(retain_graph=True)
    y.sum().backward()
    np.testing.assert_array_equal(y.grad.numpy(), np.full(3, 20.0))
    np.testing.assert_array_equal(x.grad.numpy(), np.full(3, 40.0))
    x.retain_grad()
    assert (x * 2).grad is None


def test_nothing_is_recorded_inside_backward():
    x = leaf(3)
    recorded = []
    x.register_hook(lambda g: recorded.append((x * 2).requires_grad))
    (x * 2).sum().backward()
    assert recorded == [False] and kdl.is_grad_enabled()


# --- the recording mode ---
def test_no_grad_as_block_decorator_and_nested():
    x = leaf(3)
    with kdl.no_grad():
        assert not (x * 2).requires_grad
        with kdl.enable_grad():
            assert (x * 2).requires_grad
        assert not kdl.is_grad_enabled()
    assert (x * 2).requires_grad

    @kdl.no_grad
    def bare(y):
        """Doc."""
        return y * 2

    @kdl.no_grad()
    def called(y):
        return y * 2

    @kdl.set_grad_enabled(False)
    def switched(y):
        return y * 2
    assert kdl.is_grad_enabled() and bare.__doc__ == "Doc."
    assert not any(f(x).requires_grad for f in (bare, called, switched))


def test_one_switch_can_be_entered_inside_itself():
    off = kdl.no_grad()
    with off:
        with off:
            pass
        assert not kdl.is_grad_enabled()
    assert kdl.is_grad_enabled()


def test_set_grad_enabled_acts_at_once_and_until_the_end_of_a_block():
    kdl.set_grad_enabled(False)
    assert not kdl.is_grad_enabled()
    with kdl.set_grad_enabled(True):
        assert kdl.is_grad_enabled()
    assert not kdl.is_grad_enabled()
    kdl.set_grad_enabled(True)
    with pytest.raises(KeyError), kdl.no_grad():
        raise KeyError
    assert kdl.is_grad_enabled()


def test_the_mode_belongs_to_the_thread():
    seen = []
    with kdl.no_grad():
        thread = threading.Thread(target=lambda: seen.append(kdl.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_a_generator_is_in_its_mode_only_while_it_runs():
    log = []

    @kdl.no_grad
    def numbers():
        try:
            got = yield kdl.is_grad_enabled()
            log.append((got, kdl.is_grad_enabled()))
            try:
                yield 2
            except KeyError:
                log.append(kdl.is_grad_enabled())
            yield 3
        finally:
            log.append(kdl.is_grad_enabled())
        return 4
    generator = numbers()
    assert next(generator) is False and kdl.is_grad_enabled()
    assert generator.send("sent") == 2 and generator.throw(KeyError()) == 3
    generator.close()
    assert log == [("sent", False), False, False] and kdl.is_grad_enabled()

    def outer():
        return (yield from numbers())
    assert list(outer()) == [False, 2, 3]


# --- changes in place ---
def test_a_saved_tensor_changed_in_place_is_noticed():
    x = leaf(3)
    w = kdl.ones(3, dtype=kdl.float64)
    y = (x * w).sum()
    w += 1
    with pytest.raises(RuntimeError, match="a tensor saved by Mul was changed in place"):
        y.backward()
    y = x.exp()
    z = y.sum()
    with kdl.no_grad():
        y.mul_(2)
    with pytest.raises(RuntimeError, match="saved by Exp was changed in place"):
        z.backward()


def test_a_change_through_a_view_or_a_detached_alias_is_noticed():
    for change in (lambda w: w[1:].fill_(0), lambda w: w.detach().mul_(2), lambda w: w.view(3, 1).zero_(),
                   lambda w: w.__setitem__(0, 5.0)):
        x, w = leaf(3), kdl.ones(3, dtype=kdl.float64)
        y = (x * w).sum()
        change(w)
        with pytest.raises(RuntimeError, match="changed in place"):
            y.backward()


def test_a_change_of_what_was_not_saved_is_fine():
    x, w = leaf(3), kdl.ones(3, dtype=kdl.float64)
    y = (x + w).sum()
    w.fill_(5)
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.ones(3))


def test_arrays_saved_in_tuples_and_as_views_are_watched():
    class Saves(Function):
        def __init__(self, keep):
            self.keep = keep

        def forward(self, x, w):
            self.kept = self.keep(w)
            return x * w

        def backward(self, gy, wanted):
            return gy, None
    for keep in (lambda w: (1, [w]), lambda w: w[1:], lambda w: w):
        x, w = leaf(3), kdl.ones(3, dtype=kdl.float64)
        y = Saves(keep)(x, w).sum()
        w.zero_()
        with pytest.raises(RuntimeError, match="saved by Saves was changed in place"):
            y.backward()


def test_in_place_on_leaves_views_and_computed_tensors():
    x = leaf(3)
    with pytest.raises(RuntimeError, match=r"a leaf that requires grad cannot be changed.*no_grad"):
        x += 1
    with pytest.raises(RuntimeError, match="a leaf that requires grad"):
        x[0] = 1
    y = x * 2
    with pytest.raises(RuntimeError, match="view"):
        y[1:].mul_(3)
    y *= 3
    y[0] = 7
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0, 6, 6])
    with kdl.no_grad():
        x += 1
    assert x.requires_grad and x.is_leaf


def test_in_place_with_a_recorded_operand_makes_a_buffer_part_of_the_graph():
    x, buffer = leaf(3), kdl.zeros(4, dtype=kdl.float64)
    buffer[1:] = x
    (buffer * kdl.arange(4)).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [1, 2, 3])


def test_a_constant_written_over_a_recorded_tensor_ends_the_recording():
    x = leaf(3)
    y = x * 2
    y.logical_not_()
    assert not y.requires_grad and y.grad_fn is None and y.dtype == kdl.float64


def test_detach_and_data():
    x = leaf(3)
    y = x.detach()
    assert not y.requires_grad and np.shares_memory(x.detach().numpy(), y.numpy())
    z = (x * x).sum()
    x.data.mul_(2)  # unlike detach, .data does not tell the tape
    z.backward()
    x.data = kdl.ones(3, dtype=kdl.float64)
    assert x.requires_grad and x.tolist() == [1, 1, 1]


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
