"""Whether and what is recorded: the modes, changes in place, detached tensors."""
import threading

import numpy as np
import pytest

import kdl
from kdl.autograd import Function


def leaf(*shape, seed=0):
    return kdl.Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


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
