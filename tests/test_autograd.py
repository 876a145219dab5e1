"""A backward pass: what it computes, keeps and frees, and how it fails."""
import gc
import threading
import weakref

import numpy as np
import pytest

import kdl
from kdl import autograd
from kdl.autograd import Function

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
