"""kdl.onnx: every model and operation as ONNX gives the same numbers in ONNX's reference, and read back in kdl."""
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kdl
from kdl import models, nn
from kdl.nn import functional as F

onnx = pytest.importorskip("onnx", reason="pip install 'kdl-kernels[onnx]'")
from onnx.reference import ReferenceEvaluator  # noqa: E402

rng = np.random.default_rng(5)


def floats(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def numbers(high, *shape):
    return rng.integers(0, high, shape)


X, IMAGE = floats(2, 6, 5), floats(2, 4, 9, 7)


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *xs):
        return self.function(*xs)


def flat(result):
    return [result] if isinstance(result, kdl.Tensor) else [y for part in result for y in flat(part)]


def run(model, arrays):
    with kdl.no_grad():
        return [y.numpy() for y in flat(model(*[kdl.from_numpy(np.array(x)) for x in arrays]))]


def assert_agree(got, wanted, what, tolerance=1e-5):
    assert len(got) == len(wanted)
    for g, w in zip(got, wanted, strict=True):
        assert g.shape == w.shape and g.dtype == w.dtype, f"{what}: {g.shape} {g.dtype}, expected {w.shape} {w.dtype}"
        scale = np.abs(w[np.isfinite(w)]).max(initial=1e-3) if w.dtype.kind == "f" else 0
        np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def check(model, arrays, tmp_path=None, more=(), reference=True, **options):
    """Export, and compare both runs with kdl's own; `more` are other inputs for the same graph.

    `reference` is False for what ONNX has and its reference evaluator lacks.
    """
    model = model.eval()
    inputs = tuple(kdl.from_numpy(np.array(x)) for x in arrays)
    path = None if tmp_path is None else tmp_path / "model.onnx"
    before = [x.copy() for x in arrays]
    proto = kdl.onnx.export(model, inputs, path, **options)
    names = [v.name for v in proto.graph.input]
    evaluator, loaded = reference and ReferenceEvaluator(proto), kdl.onnx.load(proto if path is None else path)
    for given in (arrays, *more):
        wanted = run(model, given)
        if reference:
            with np.errstate(all="ignore"):
                assert_agree(evaluator.run(None, dict(zip(names, given, strict=True))), wanted, "onnx.reference")
        assert_agree(run(loaded, given), wanted, "kdl.onnx.load")
    for x, y in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(x, y)
    return proto, loaded


# --- models ---
RING = np.stack([np.arange(12), (np.arange(12) + 1) % 12])
EDGES = np.concatenate([RING, RING[::-1], np.stack([np.arange(12)] * 2)], 1)
MODELS = {  # with an input whose batch may have any length, or None
    "MLP": (lambda: models.MLP([12, 20, 5], dropout=0.1), [floats(3, 12)], True),
    "LeNet5": (lambda: models.LeNet5(), [floats(2, 1, 32, 32)], True),
    "LeNet5 relu": (lambda: models.LeNet5(variant="relu"), [floats(1, 1, 32, 32)], True),
    "resnet18": (lambda: models.resnet18(num_classes=7, widths=(8, 16, 32, 64)), [floats(1, 3, 64, 64)], True),
    "resnet34": (lambda: models.resnet34(widths=(4, 8, 16, 32), small_images=True), [floats(1, 3, 16, 16)], True),
    "resnet50": (lambda: models.resnet50(num_classes=7, widths=(4, 8, 16, 32)), [floats(2, 3, 64, 64)], True),
    "resnet20": (lambda: models.resnet20(in_channels=1, widths=(8, 16, 32)), [floats(3, 1, 8, 8)], True),
    "resnet20 plain": (lambda: models.resnet20(in_channels=1, shortcut=False), [floats(3, 1, 8, 8)], True),
    "UNet": (lambda: models.UNet(1, 2, width=4, depth=3), [floats(2, 1, 32, 16)], True),
    "UNet without skips": (lambda: models.UNet(1, 1, 4, 2, skips=False), [floats(2, 1, 16, 16)], True),
    "Autoencoder": (lambda: models.Autoencoder(), [floats(3, 64)], True),
    "Generator": (lambda: models.Generator(), [floats(3, 32)], True),
    "Discriminator": (lambda: models.Discriminator(), [floats(3, 64)], True),
    "GCNLayer": (lambda: models.GCNLayer(6, 8), [floats(5, 6), np.eye(5, dtype=np.float32)], False),
    "GCN": (lambda: models.GCN(6, 8, 3), [floats(5, 6), np.eye(5, dtype=np.float32)], False),
    "GATLayer": (lambda: models.GATLayer(6, 8, 2), [floats(12, 6), EDGES], False),
    "GAT": (lambda: models.GAT(6, 8, 3, heads=2), [floats(12, 6), EDGES], False),
    "CharLSTM": (lambda: models.CharLSTM(20, 8, 16, 2), [numbers(20, 3, 7)], True),
    "GPT": (lambda: models.GPT(20, 16, 2, 2, 9), [numbers(20, 3, 7)], True),
    "ViT": (lambda: models.ViT(), [floats(3, 1, 8, 8)], True),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_goes_out_and_comes_back(name, tmp_path):
    make, arrays, batch = MODELS[name]
    kdl.manual_seed(0)
    model = make()
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    more = [[np.concatenate([x, x[::-1], x[:1]]) for x in arrays]] if batch else ()
    proto, loaded = check(model, arrays, tmp_path, more, dynamic_axes={"x": {0: "batch"}} if batch else None)
    state = model.state_dict()
    assert {name: value.shape for name, value in loaded.state_dict().items()} == {
        name: value.shape for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert [v.name for v in proto.graph.initializer] == list(loaded.state_dict())
    assert set(dict(loaded.named_parameters())) == set(dict(model.named_parameters()))


def test_no_model_is_left_out():
    tested = {name.split()[0] for name in MODELS} | {"VAE"}
    helpers = {"ResNet", "BasicBlock", "Bottleneck", "normalized_adjacency"}  # tested in what is made of them
    assert tested == {name for name in dir(models) if callable(getattr(models, name))} - helpers


def test_a_model_that_draws_noise_draws_it_anew(tmp_path):
    model = models.VAE().eval()
    x = kdl.randn(400, 64)
    before = kdl.get_rng_state()
    proto = kdl.onnx.export(model, x, tmp_path / "vae.onnx", output_names=["logits", "mean", "log_var"])
    np.testing.assert_array_equal(before, kdl.get_rng_state())
    loaded = kdl.onnx.load(tmp_path / "vae.onnx")
    wanted = run(model, [x.numpy()])
    for got in (ReferenceEvaluator(proto).run(None, {"x": x.numpy()}), run(loaded, [x.numpy()])):
        assert_agree(got[1:], wanted[1:], "mean and log variance")
        assert abs(got[0].mean() - wanted[0].mean()) < 0.02 and abs(got[0].std() / wanted[0].std() - 1) < 0.1
        assert not np.allclose(got[0], wanted[0])


# --- writing in place ---
def written_views(x):
    y = x * 1
    first, turned = y[0], y.mT
    y.mul_(2)
    first.add_(1)
    turned[:, 0] = 7.0
    return y, first, turned, y[:, 1]


def filled(x):
    out = kdl.zeros(3, 5)
    out[0] = x[0, 0]
    row = out[1]
    row.copy_(x[1, 1])
    out[2, ::2] = x[0, 2, 1:4]
    return out, row.sum(), out.view(-1)[3:7]


def replaced(x):
    y = x.clone()
    y[:, 0] = 0
    y[..., 1] += 1
    y[0, 2:4, [0, 2]] = 5.0
    y[1, 3] = x[0, 3]
    y.clamp_(-1).masked_fill_(y > 1, 0.5)
    y.detach().sub_(x)
    y.data[1, 4].zero_()
    return y.relu_()


def chosen(x, index):
    y = x.clone()
    y[x > 0] = -1.0
    y[:, index] = x[:, index] * 2
    y[index % 2] = 3.0
    return y.index_add_(1, index, x[:, :len(index)]).scatter_(2, y.argmax(2, keepdim=True), 9.0)


IN_PLACE = {
    "views": (written_views, [X]), "a buffer": (filled, [X]), "replaced": (replaced, [X]),
    "chosen": (chosen, [X, np.array([3, 0, 1])]), "the input": (lambda x: (x.add_(1), x[0].exp_(), x * 2)[::2], [X]),
    "as a module": (nn.Sequential(nn.ReLU(inplace=True), nn.Hardtanh(inplace=True), nn.Dropout(0.5, inplace=True)),
                    [X]),
    "broadcast": (lambda x: (x * 1).copy_(x[0, 0]).addcmul_(x, x).div_(2), [X]),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_what_is_written_in_place_is_seen_by_all_that_share_it(name):
    f, arrays = IN_PLACE[name]
    check(f if isinstance(f, nn.Module) else Call(f), arrays)


# --- lengths that are not fixed ---
class Batched(nn.Module):
    """What depends on the batch in every way that a graph can say."""

    def __init__(self):
        super().__init__()
        self.lstm, self.place = nn.LSTM(5, 4, 2, bidirectional=True, batch_first=True), nn.Parameter(kdl.randn(1, 1, 4))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        y, (h, _) = self.lstm(x)
        y, weights = self.attention(y, y, y)
        y = kdl.cat([self.place.expand(len(x), -1, -1), y.reshape(len(x) * 2, 3, 8)[:, :, :4].reshape(len(x), 6, 4)], 1)
        y[:, 0] = 0
        start = kdl.ones(len(x), 7, 1) * 3
        return (y + start).flatten(), h, weights, kdl.zeros(len(x)), y.repeat_interleave(2, 1), y.sum(0) / len(x)


def test_the_batch_may_have_any_length(tmp_path):
    more = [[floats(1, 6, 5)], [floats(7, 6, 5)]]
    proto, _ = check(Batched(), [floats(2, 6, 5)], tmp_path, more[1:], dynamic_axes={"x": [0]})
    check(Batched(), [floats(1, 6, 5)], tmp_path, more, dynamic_axes={"x": {0: "batch"}, "output_0": {0: "all"}})
    shapes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in proto.graph.output]
    assert shapes[1] == [4, "x_0", 4] and shapes[3] == ["x_0"]


def test_two_axes_may_have_any_length(tmp_path):
    graph = models.GAT(6, 8, 3, heads=2)
    more = [[floats(5, 6), EDGES[:, EDGES.max(0) < 5]]]
    check(graph, [floats(12, 6), EDGES], tmp_path, more, dynamic_axes={"x": {0: "nodes"}, "edges": {1: "edges"}})
    check(Call(lambda a, b: kdl.cat([a.reshape(-1), b.reshape(-1)]).unsqueeze(0).expand(len(b), -1) + len(a)),
          [floats(3, 2), floats(3, 4)], more=[[floats(2, 2), floats(5, 4)]], dynamic_axes={"a": [0], "b": [0]},
          input_names=["a", "b"])


# --- what is refused ---
class Outer(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.inner = nn.Sequential(nn.Identity(), Call(function))

    def forward(self, x):
        return self.inner(x)


REFUSED = {
    "a function that ONNX lacks": (kdl.lgamma, "Lgamma in module 'inner.1' has no ONNX form"),
    "a loss": (lambda x: F.mse_loss(x, x * 2), "SquaredError in module 'inner.1' has no ONNX form"),
    "control flow": (lambda x: x * 2 if x[0, 0, 0] == X[0, 0, 0] else x.exp(), "changed with the"),
    "an element": (lambda x: x * x.max().item(), "Mul in module 'inner.1'.*changed with the values"),
    "NumPy": (lambda x: x + kdl.from_numpy(np.sort(x.numpy())), "Add in module 'inner.1'.*takes as a constant"),
    "noise that is drawn in place": (lambda x: x + kdl.zeros(5).normal_(), "Add in module 'inner.1'.*as a constant"),
    "a write that is not followed": (lambda x: (x * 1).uniform_() + 1, "changed in place in a way"),
    "classes without a number": (lambda x: F.one_hot(x.argmax(1)), "give num_classes"),
    "positions from the input": (lambda x: x.clone().index_put_((x[0, 0].argsort()[:2] % 2, x[0, 0].argsort()[:2]), x[
        0, :2]), "positions that depend on the input"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_graph_cannot_say_is_refused_with_its_place(name):
    f, message = REFUSED[name]
    with pytest.raises(RuntimeError, match=message):
        kdl.onnx.export(Outer(f), kdl.from_numpy(X))


def test_a_function_of_the_user_is_refused_by_its_name():
    class Cube(kdl.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return kdl.from_numpy(x.numpy() ** 3)

    class Twice(kdl.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x + x

    with pytest.raises(RuntimeError, match=r"the Function Cube in module 'inner\.1'"):
        kdl.onnx.export(Outer(Cube.apply), kdl.from_numpy(X))
    check(Call(Twice.apply), [X])  # made of what is known
    kdl.onnx.export(Outer(lambda x: (kdl.lgamma(x), x * 2)[1]), kdl.from_numpy(X))  # what no output needs is no matter


def test_a_length_that_is_not_fixed_must_not_decide():
    with pytest.raises(RuntimeError, match="changed with the values or the lengths"):
        kdl.onnx.export(models.GPT(9, 8, 1, 2, 9), kdl.ones(2, 3, dtype=kdl.int64), dynamic_axes={"x": {1: "time"}})


@pytest.mark.parametrize(("changes", "message"), [
    ({"model": len}, "an nn.Module"), ({"args": [[1]]}, "tensors, numbers and None"),
    ({"args": 3}, "at least one tensor"),
    ({"opset_version": 11}, "opset_version from 18"), ({"input_names": ["a", "b"]}, "1 different input names"),
    ({"input_names": ["weight"]}, "names that no parameter has"),
    ({"output_names": ["input"]}, "no input or parameter"),
    ({"dynamic_axes": {"input": [5]}}, "axes of input")])
def test_arguments_are_checked(changes, message):
    call = {"model": nn.Linear(5, 2), "args": kdl.from_numpy(X), **changes}
    with pytest.raises((TypeError, ValueError), match=message):
        kdl.onnx.export(call.pop("model"), call.pop("args"), **call)


def test_nothing_of_kdl_stays_replaced():
    def everything():
        return {**{f"{cls.__name__}.{name}": value for cls in (kdl.Tensor, kdl.autograd.Function, nn.Module)
                   for name, value in vars(cls).items()}, **vars(kdl), **vars(F)}
    before, model = everything(), nn.Linear(5, 2)
    with pytest.raises(RuntimeError):
        kdl.onnx.export(Outer(kdl.lgamma), kdl.from_numpy(X))
    kdl.onnx.export(model, kdl.from_numpy(X))
    after = everything()
    assert model.training and all(after[name] is value for name, value in before.items())


# --- names, results, training ---
def test_names_are_those_of_the_arguments_and_of_the_parameters(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5))
            self.net[2].weight = self.net[0].weight
            self.register_buffer("scale", kdl.tensor([2.0]), persistent=False)

        def forward(self, image, factor, mask=None):
            return {"sum": self.net(image) * factor * self.scale, "parts": [image, (image, mask)]}

    model = Two()
    proto, loaded = check(Call(lambda x: x), [X], tmp_path)
    proto = kdl.onnx.export(model, (kdl.from_numpy(X), 3, kdl.from_numpy(X > 0)), tmp_path / "two.onnx")
    assert [v.name for v in proto.graph.input] == ["image", "mask"]
    assert [v.name for v in proto.graph.output] == ["output_sum", "output_parts_0", "output_parts_1_0",
                                                    "output_parts_1_1"]
    assert [v.name for v in proto.graph.initializer] == ["net.0.weight", "net.0.bias", "net.2.bias", "scale"]
    assert any(node.name.startswith("net.2/") for node in proto.graph.node)
    loaded = kdl.onnx.load(tmp_path / "two.onnx")
    got = loaded(kdl.from_numpy(X), mask=kdl.from_numpy(X > 0))
    np.testing.assert_allclose(got[0].detach().numpy(), model(kdl.from_numpy(X), 3)["sum"].detach().numpy(), 1e-5)
    assert "Graph(" in repr(loaded) and "image, mask -> output_sum" in repr(loaded)
    with pytest.raises(ValueError, match="the inputs image, mask"):
        loaded(kdl.from_numpy(X))


@pytest.mark.parametrize("name", ["LeNet5", "CharLSTM", "GPT", "UNet"])
def test_what_was_loaded_has_the_same_gradients(name, tmp_path):
    make, arrays, _ = MODELS[name]
    model = make().eval()
    x = kdl.from_numpy(arrays[0])
    kdl.onnx.export(model, x, tmp_path / "model.onnx")
    loaded = kdl.onnx.load(tmp_path / "model.onnx")
    for net in (model, loaded):
        (net(x) ** 2).mean().backward()
    theirs = dict(loaded.named_parameters())
    for name, parameter in model.named_parameters():
        wanted = parameter.grad.numpy()
        np.testing.assert_allclose(theirs[name].grad.numpy(), wanted, 1e-4, 1e-4 * np.abs(wanted).max(), err_msg=name)


def test_doubles_and_halves(tmp_path):
    net = nn.Sequential(nn.Linear(5, 4), nn.GELU(), nn.LayerNorm(4))
    check(net.double(), [X.astype(np.float64)], tmp_path)
    proto = kdl.onnx.export(net.half(), kdl.from_numpy(X.astype(np.float16)))
    assert {v.data_type for v in proto.graph.initializer} == {onnx.TensorProto.FLOAT16}


def test_a_model_with_a_weight_that_is_computed(tmp_path):
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)), nn.Tanh())
    proto, _ = check(net, [X], tmp_path)
    assert [v.name for v in proto.graph.initializer] == list(dict(net.named_parameters()))


# --- the package ---
def test_without_onnx_the_error_says_what_to_install():
    script = "import sys; sys.modules['onnx'] = None; import kdl; kdl.onnx"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "pip install 'kdl-kernels[onnx]'" in done.stderr.splitlines()[-1]


def test_the_example_of_the_readme(tmp_path):
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    example, printed = re.search(r"## ONNX.*?```python\n(.*?)```\n\n```\n(.*?)```", readme, re.DOTALL).groups()
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == (printed, "")
