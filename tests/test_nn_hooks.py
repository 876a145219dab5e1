"""Hooks around a module's calls: what they see, replace and in which order, as torch's."""
import numpy as np
import pytest

import kdl
from kdl import nn
from kdl.nn import hooks
from tests.test_nn_module import scale_layer, torch


class Recorder:
    """Hooks that write down what they see."""

    def __init__(self):
        self.calls = []

    def __call__(self, *args):
        self.calls.append(args)


def test_forward_hooks_see_and_replace():
    m, x = nn.Identity(), kdl.Tensor(np.ones(2))
    seen = Recorder()
    handles = [m.register_forward_pre_hook(seen), m.register_forward_hook(seen)]
    assert m(x) is x
    assert seen.calls == [(m, (x,)), (m, (x,), x)]
    for handle in handles:
        handle.remove()
    m(x)
    assert len(seen.calls) == 2

    m.register_forward_pre_hook(lambda module, args: args[0] * 3)
    m.register_forward_hook(lambda module, args, y: y + 1)
    with m.register_forward_hook(lambda module, args, y: y * 10, prepend=True):
        np.testing.assert_array_equal(m(x).array, [31, 31])
    np.testing.assert_array_equal(m(x).array, [4, 4])


def test_forward_hooks_with_keyword_arguments():
    layer = scale_layer(nn)(2)
    layer.register_forward_pre_hook(lambda m, args, kwargs: (args, {"gain": 2 * kwargs["gain"]}), with_kwargs=True)
    seen = Recorder()
    layer.register_forward_hook(seen, with_kwargs=True)
    y = layer(kdl.Tensor(np.ones(2)), gain=3.0)
    np.testing.assert_array_equal(y.detach().array, [0, 6])
    assert seen.calls[0][2] == {"gain": 6.0}


def backward_case(cls, replace):
    tensor = kdl.Tensor if cls is nn else torch.from_numpy

    class Two(cls.Module):
        def forward(self, x, y, n):
            return x * y * n, x + y

    m, calls = Two(), []
    x = tensor(np.array([1.0, 2.0])).requires_grad_()
    y = tensor(np.array([3.0, -1.0])).requires_grad_()

    def hook(module, grad_input, grad_output):
        calls.append([[None if g is None else np.asarray(g).tolist() for g in gs] for gs in (grad_input, grad_output)])
        return (grad_input[0] * 10, grad_input[1], None) if replace else None

    handle = m.register_full_backward_hook(hook)
    a, b = m(x, y, 2)
    (a.sum() + 3 * b.sum()).backward()
    handle.remove()
    m(x, y, 2)[0].sum().backward()
    return calls, np.asarray(x.grad)


@pytest.mark.parametrize("replace", [False, True])
def test_full_backward_hooks_see_and_replace_what_torchs_do(replace):
    calls, grad = backward_case(nn, replace)
    their_calls, their_grad = backward_case(torch.nn, replace)
    assert calls == their_calls
    np.testing.assert_array_equal(grad, their_grad)


def test_backward_hooks_without_differentiable_inputs_and_without_recording():
    layer = scale_layer(nn)(2)
    seen = Recorder()
    layer.register_full_backward_hook(seen)
    layer(kdl.Tensor(np.ones(2))).sum().backward()
    (module, grad_input, grad_output), = seen.calls
    assert module is layer and grad_input == (None,) and grad_output[0].array.tolist() == [1, 1]
    np.testing.assert_array_equal(layer.weight.grad.array, [1, 1])
    with kdl.no_grad():
        layer(kdl.Tensor(np.ones(2)))
    layer.register_full_backward_hook(lambda m, gi, go: (None, None))
    with pytest.raises(RuntimeError, match="expected 1 gradients, one per argument, got 2"):
        layer(kdl.Tensor(np.ones(2))).sum().backward()


def test_backward_hooks_let_other_outputs_pass():
    class Named(nn.Module):
        def forward(self, x):
            return {"y": x * 2}

    m = Named()
    m.register_full_backward_hook(lambda module, grad_input, grad_output: None)
    assert m(nn.Parameter(np.ones(1)))["y"].requires_grad


# --- as torch's ---
def as_tensor(cls, values):
    return kdl.tensor(values) if cls is nn else torch.tensor(values)


def lists(values):
    return [None if v is None else v.detach().tolist() for v in values]


def backward_pre_case(cls, inputs_want_gradients):
    m, calls = cls.Linear(2, 1, bias=False), []
    m.weight.data[...] = as_tensor(cls, [[2.0, -1.0]])
    m.register_full_backward_hook(lambda m, gi, go: calls.append(("after", lists(gi), lists(go))))
    for name, factor in (("first", 2), ("second", 5)):
        def hook(m, go, name=name, factor=factor):
            calls.append((name, lists(go)))
            return (go[0] * factor,)
        m.register_full_backward_pre_hook(hook, prepend=name == "second")
    x = as_tensor(cls, [[1.0, 3.0]])
    m(x.requires_grad_() if inputs_want_gradients else x).sum().backward()
    return calls, m.weight.grad.tolist(), x.grad.tolist() if inputs_want_gradients else None


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # torch's, where no input wants a gradient
@pytest.mark.parametrize("inputs_want_gradients", [False, True])
def test_full_backward_pre_hooks_see_and_replace_what_torchs_do(inputs_want_gradients):
    assert backward_pre_case(nn, inputs_want_gradients) == backward_pre_case(torch.nn, inputs_want_gradients)


def test_backward_pre_hooks_return_a_gradient_for_each_output():
    m = nn.Identity()
    m.register_full_backward_pre_hook(lambda module, grad_output: (None, None))
    with pytest.raises(RuntimeError, match="pre hook of Identity: expected 1 gradients, one per output, got 2"):
        m(kdl.ones(2, requires_grad=True)).sum().backward()


def always_called_case(cls):
    class Odd(cls.Module):
        def forward(self, x, fail=False):
            if fail:
                raise ValueError("no")
            return x

    m, calls = Odd(), []

    def broken(module, args, output):
        calls.append("broken")
        raise KeyError("broken")

    m.register_forward_hook(lambda m, args, kwargs, y: calls.append(("first", kwargs, y is None)), always_call=True,
                            with_kwargs=True)
    m.register_forward_hook(lambda m, args, y: calls.append("usual"))
    m.register_forward_hook(broken, always_call=True)
    m.register_forward_hook(lambda m, args, y: calls.append("last"), always_call=True)
    with pytest.raises(ValueError), pytest.warns(UserWarning, match="always_call=True"):
        m(as_tensor(cls, [1.0]), fail=True)
    with pytest.raises(KeyError):
        m(as_tensor(cls, [1.0]))
    return calls


def test_hooks_that_are_always_called_are_called_as_torchs():
    assert always_called_case(nn) == always_called_case(torch.nn)


def global_case(cls, module):
    calls, m = [], cls.Sequential(cls.Identity(), cls.Linear(2, 2))
    m[1].register_forward_hook(lambda m, args, y: calls.append("own"))
    m[1].register_forward_pre_hook(lambda m, args: calls.append("own pre"))

    def note(name):
        return lambda m, *args: calls.append((name, type(m).__name__, len(args)))
    handles = [module.register_module_forward_pre_hook(note("before")),
               module.register_module_forward_hook(note("after")),
               module.register_module_forward_hook(note("with"), with_kwargs=True),
               module.register_module_full_backward_pre_hook(note("backward before")),
               module.register_module_full_backward_hook(note("backward"))]
    try:
        m(as_tensor(cls, [1.0, 2.0]).requires_grad_()).sum().backward()
    finally:
        for handle in handles:
            handle.remove()
    seen = len(calls)
    m(as_tensor(cls, [1.0, 2.0]))
    assert calls[seen:] == ["own pre", "own"]
    return calls


def test_hooks_of_all_modules_are_torchs():
    assert global_case(nn, hooks) == global_case(torch.nn, torch.nn.modules.module)


def test_hooks_of_all_modules_see_the_linear_layer_before_a_relu_as_well():
    m, seen = nn.Sequential(nn.Linear(2, 2), nn.ReLU()), []
    with hooks.register_module_forward_hook(lambda m, args, y: seen.append(type(m).__name__)):
        m(kdl.ones(1, 2))
    assert seen == ["Linear", "ReLU", "Sequential"]


def test_pre_hooks_with_keyword_arguments_return_a_pair():
    m = nn.Identity()
    m.register_forward_pre_hook(lambda m, args, kwargs: args, with_kwargs=True)
    with pytest.raises(RuntimeError, match=r"forward pre hook of Identity: expected None or a pair \(args, kwargs\)"):
        m(kdl.ones(2))
