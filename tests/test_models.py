"""kdl.models: weights written by torch load by name and give torch's outputs, and the other way round.

A model's source needs names that kdl and torch share, so torch's twin of each is the same file, run with torch.
"""
import importlib
import inspect
import sys
import types

import numpy as np
import pytest

import kdl
from kdl import models

torch = pytest.importorskip("torch", reason="models are compared with torch: pip install 'kdl-kernels[test]'")
from safetensors.torch import load_file, save_file  # noqa: E402


def torch_twin(module):
    """A module of kdl.models with torch in kdl's place."""
    source = inspect.getsource(importlib.import_module(module))
    for ours, theirs in (("from kdl.models.", "from torch_models."), ("from kdl.nn import", "from torch.nn import"),
                         ("import kdl\n", "import torch as kdl\n"), ("from kdl import nn", "from torch import nn")):
        source = source.replace(ours, theirs)
    twin = types.ModuleType(module.replace("kdl.models", "torch_models"))
    sys.modules[twin.__name__] = twin
    exec(compile(source, twin.__name__, "exec"), twin.__dict__)
    return twin


@pytest.fixture(scope="module")
def twins():
    sys.modules["torch_models"] = types.ModuleType("torch_models")
    names = ("mlp", "lenet5", "resnet", "unet", "generative", "graph", "sequence", "vit")
    yield {name: torch_twin(f"kdl.models.{name}") for name in names}
    for name in [name for name in sys.modules if name.startswith("torch_models")]:
        del sys.modules[name]


def floats(*shape):
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def numbers(high, *shape):
    return np.random.default_rng(3).integers(0, high, shape)


RING = np.stack([np.arange(12), (np.arange(12) + 1) % 12])
EDGES = np.concatenate([RING, RING[::-1], np.stack([np.arange(12)] * 2)], 1)
CASES = {
    "MLP": ("mlp", lambda m: m.MLP([12, 20, 5], dropout=0.1), [floats(3, 12)]),
    "LeNet5": ("lenet5", lambda m: m.LeNet5(), [floats(2, 1, 32, 32)]),
    "LeNet5 relu": ("lenet5", lambda m: m.LeNet5(variant="relu"), [floats(2, 1, 32, 32)]),
    "resnet18": ("resnet", lambda m: m.resnet18(num_classes=7), [floats(1, 3, 64, 64)]),
    "resnet18 small": ("resnet", lambda m: m.resnet18(num_classes=10, small_images=True), [floats(2, 3, 16, 16)]),
    "resnet34": ("resnet", lambda m: m.resnet34(widths=(8, 16, 32, 64)), [floats(1, 3, 64, 64)]),
    "resnet50": ("resnet", lambda m: m.resnet50(num_classes=7, widths=(8, 16, 32, 64)), [floats(2, 3, 64, 64)]),
    "resnet20": ("resnet", lambda m: m.resnet20(in_channels=1, widths=(8, 16, 32)), [floats(3, 1, 8, 8)]),
    "resnet20 plain": ("resnet", lambda m: m.resnet20(in_channels=1, widths=(4, 8, 8), shortcut=False),
                       [floats(3, 1, 8, 8)]),
    "UNet": ("unet", lambda m: m.UNet(1, 2, width=4, depth=3), [floats(2, 1, 32, 16)]),
    "UNet without skips": ("unet", lambda m: m.UNet(1, 1, width=4, depth=2, skips=False), [floats(2, 1, 16, 16)]),
    "Autoencoder": ("generative", lambda m: m.Autoencoder(), [floats(3, 64)]),
    "Generator": ("generative", lambda m: m.Generator(), [floats(3, 32)]),
    "Discriminator": ("generative", lambda m: m.Discriminator(), [floats(3, 64)]),
    "GCN": ("graph", lambda m: m.GCN(6, 8, 3), [floats(5, 6), np.eye(5, dtype=np.float32)]),
    "GAT": ("graph", lambda m: m.GAT(6, 8, 3, heads=2), [floats(12, 6), EDGES]),
    "CharLSTM": ("sequence", lambda m: m.CharLSTM(20, 8, 16, 2), [numbers(20, 3, 7)]),
    "GPT": ("sequence", lambda m: m.GPT(20, 16, 2, 2, 9), [numbers(20, 3, 7)]),
    "ViT": ("vit", lambda m: m.ViT(), [floats(3, 1, 8, 8)]),
}


@pytest.mark.parametrize("name", CASES)
def test_weights_go_both_ways(name, twins, tmp_path):
    module, make, inputs = CASES[name]
    torch.manual_seed(0)
    theirs, ours = make(twins[module]).eval(), make(importlib.import_module(f"kdl.models.{module}")).eval()
    for buffer in theirs.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    save_file(theirs.state_dict(), tmp_path / "torch.safetensors")
    ours.load_state_dict(kdl.load(tmp_path / "torch.safetensors"))
    with torch.no_grad(), kdl.no_grad():
        wanted = theirs(*[torch.from_numpy(np.array(x)) for x in inputs]).numpy()
        got = ours(*[kdl.from_numpy(np.array(x)) for x in inputs]).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * max(1, np.abs(wanted).max()))
    kdl.save(ours.state_dict(), tmp_path / "kdl.safetensors")
    fresh = make(twins[module]).eval()
    fresh.load_state_dict(load_file(tmp_path / "kdl.safetensors"))
    for key, value in fresh.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[key]), key


def test_resnets_have_the_papers_sizes():
    weights = lambda model: sum(p.numel() for p in model.parameters())
    assert (weights(models.resnet18()), weights(models.resnet34()), weights(models.resnet50())) == (
        11_689_512, 21_797_672, 25_557_032)
    assert weights(models.resnet20(in_channels=3)) == 272_474


def test_the_variational_autoencoder_samples_its_code():
    model = models.VAE()
    x = kdl.rand(5, 64)
    first, second = model(x), model(x)
    assert first[0].shape == (5, 64) and first[1].shape == first[2].shape == (5, 8)
    np.testing.assert_array_equal(first[1].detach().numpy(), second[1].detach().numpy())
    assert not np.array_equal(first[0].detach().numpy(), second[0].detach().numpy())


def test_attention_on_a_graph_sums_to_one():
    edges = kdl.from_numpy(EDGES)
    _, attention = models.GATLayer(6, 4, 3).attend(kdl.randn(12, 6), edges)
    sums = kdl.zeros(12, 3).index_add(0, edges[1], attention.detach())
    np.testing.assert_allclose(sums.numpy(), 1, rtol=1e-5)


def test_a_gpt_does_not_see_the_future():
    model = models.GPT(20, 16, 2, 2, 12).eval()
    x = kdl.from_numpy(numbers(20, 1, 12))
    changed = x.clone()
    changed[0, 7:] = 0
    with kdl.no_grad():
        difference = (model(x) - model(changed)).abs()[0].max(1).values.numpy()
    assert (difference[:7] < 1e-5).all() and (difference[7:] > 0).any()


def test_normalized_adjacency_is_symmetric_with_known_values():
    a = models.normalized_adjacency(kdl.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])).numpy()
    side = 6 ** -0.5
    np.testing.assert_allclose(a, [[1 / 2, side, 0], [side, 1 / 3, side], [0, side, 1 / 2]], rtol=1e-6)
