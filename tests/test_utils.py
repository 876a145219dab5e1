"""Gradient checkpointing, summaries, and the way to torch and back."""
import numpy as np
import pytest

import kdl
from kdl import nn
from kdl.models import GPT, LeNet5, UNet, resnet18
from kdl.nn import functional as F
from kdl.utils import checkpoint, checkpoint_sequential

torch = pytest.importorskip("torch", reason="compared with torch: pip install 'kdl-kernels[test]'")


# --- checkpointing ---
def gradients(model, x, forward):
    kdl.manual_seed(5)
    model.zero_grad()
    x.grad = None
    forward(x).square().sum().backward()
    return [x.grad.numpy(), *[p.grad.numpy() for p in model.parameters()]]


def network():
    kdl.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize("segments", [1, 2, 3, 6])
def test_checkpointed_gradients_are_the_same_bits(segments):
    model, x = network(), kdl.randn(4, 5).requires_grad_()
    plain = gradients(model, x, model)
    for forward in (lambda x: checkpoint(model, x), lambda x: checkpoint_sequential(model, segments, x)):
        for a, b in zip(gradients(model, x, forward), plain, strict=True):
            np.testing.assert_array_equal(a, b)


def test_parameters_get_gradients_where_no_input_requires_one():
    model, x = network(), kdl.randn(4, 5)
    kdl.manual_seed(1)
    checkpoint(model, x).sum().backward()
    got = model[0].weight.grad.numpy()
    model.zero_grad()
    kdl.manual_seed(1)
    model(x).sum().backward()
    np.testing.assert_array_equal(got, model[0].weight.grad.numpy())


def test_several_outputs_other_arguments_and_the_second_run():
    calls = []

    def function(x, scale, *, shift):
        calls.append(kdl.is_grad_enabled())
        return x * scale + shift, x.exp()
    x = kdl.tensor([1.0, 2.0], requires_grad=True)
    y, z = checkpoint(function, x, 3.0, shift=1.0)
    assert calls == [False]
    (y.sum() + 2 * z.sum()).backward()
    assert calls == [False, True]
    np.testing.assert_allclose(x.grad.numpy(), 3 + 2 * np.exp([1, 2]), rtol=1e-6)
    with kdl.no_grad():
        assert not checkpoint(function, x, 3.0, shift=0.0)[0].requires_grad


def test_checkpoint_refuses_what_is_not_tensors():
    with pytest.raises(TypeError, match="function of tensors"):
        checkpoint(lambda x: 1.0, kdl.ones(2, requires_grad=True))
    with pytest.raises(ValueError, match="segments"):
        checkpoint_sequential(network(), 7, kdl.ones(1, 5))


# --- summaries ---
def test_a_summary_counts_as_by_hand():
    s = kdl.summary(LeNet5(), (2, 1, 32, 32))
    assert (s.parameters, s.trainable, s.parameter_bytes) == (61706, 61706, 4 * 61706)
    convolutions = 2 * 2 * (6 * 28 * 28 * 25 + 16 * 10 * 10 * 6 * 25)
    assert s.flops == convolutions + 2 * 2 * (400 * 120 + 120 * 84 + 84 * 10)
    text = str(s)
    assert "0: Conv2d" in text and "(2, 6, 28, 28)" in text and "61,706 parameters" in text


def test_flops_of_known_networks():
    assert round(kdl.summary(resnet18(), (1, 3, 224, 224)).flops / 2e9, 2) == 1.81  # as published, in multiply-adds
    up = kdl.summary(UNet(width=4, depth=1), (1, 1, 8, 8))
    assert [row.flops for row in up.rows if row.kind == "ConvTranspose2d"] == [2 * 16 * 8 * 4 * 4]
    rows = {row.name: row for row in kdl.summary(GPT(11, 8, 1, 2, 6), kdl.zeros(1, 6, dtype=kdl.int64)).rows}
    assert rows["body.layers.0.self_attn"].flops >= 2 * 2 * 6 * 6 * 8


def test_a_summary_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    model[2].eval()
    kdl.summary(model, (2, 3))
    assert model.training and model[1].training and not model[2].training
    assert not any(module._hooks[kind] for module in model.modules() for kind in module._hooks)
    with pytest.raises(TypeError, match="tensors or shapes"):
        kdl.summary(model, "2x3")


# --- torch ---
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int32", "int64", "uint8", "bool"])
def test_memory_is_shared_both_ways(dtype):
    theirs = torch.ones(2, 3, dtype=getattr(torch, dtype))
    ours = kdl.from_torch(theirs)
    assert str(ours.dtype) == dtype and ours.shape == (2, 3)
    theirs[0, 1] = 0
    assert ours.tolist()[0][1] == 0
    back = kdl.to_torch(ours)
    assert back.dtype == theirs.dtype and back.data_ptr() == theirs.data_ptr()


def test_layouts_gradients_and_read_only_memory():
    x = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
    assert kdl.from_torch(x).array.strides == tuple(4 * s for s in x.stride())
    assert not kdl.from_torch(x).requires_grad
    assert kdl.to_torch(kdl.ones(3).expand(2, 3)).tolist() == [[1, 1, 1]] * 2
    with pytest.raises(TypeError, match=r"torch\.Tensor"):
        kdl.from_torch(np.ones(3))
    with pytest.raises(TypeError, match=r"kdl\.Tensor"):
        kdl.to_torch(np.ones(3))


def test_a_wrapped_function_is_differentiated_by_torch():
    x, w = torch.randn(2, 3, 6, 6, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)
    gradients = []
    for conv in (kdl.torch.wrap(F.conv2d), torch.nn.functional.conv2d):
        x.grad = w.grad = None
        conv(torch.tanh(x), w, padding=1).square().sum().backward()
        gradients.append((x.grad.clone(), w.grad.clone()))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    values, indices = kdl.torch.wrap(kdl.max)(x, 1)
    expected = x.max(1)
    assert torch.equal(values, expected.values) and torch.equal(indices, expected.indices)
    assert values.requires_grad and not indices.requires_grad
    x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(kdl.torch.wrap(kdl.sigmoid), x)
