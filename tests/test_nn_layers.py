"""Every layer against torch's: repr, parameters, value and gradients from the same weights, in both modes."""
import numpy as np
import pytest

import kdl
from kdl import nn

torch = pytest.importorskip("torch", reason="layers are compared with torch: pip install 'kdl-kernels[test]'")


def layer(name, *args, x=((4, 6),), y=None, **kwargs):
    """One layer and the shapes of its inputs (`y` makes the targets of a loss)."""
    shown = [repr(a) for a in args] + [f"{k}={v!r}" for k, v in kwargs.items()]
    return pytest.param(name, args, kwargs, x, y, id=f"{name}({','.join(shown)})".replace(" ", ""))


def classes(rng):
    return np.array([1, 0, 5, 2])


def signs(*shape):
    return lambda rng: np.sign(rng.standard_normal(shape))


def zero_one(*shape):
    return lambda rng: rng.uniform(0, 1, shape)


def normal(*shape):
    return lambda rng: rng.standard_normal(shape)


IMAGE, SIGNAL, VOLUME = ((2, 4, 7, 6),), ((2, 4, 11),), ((2, 4, 5, 6, 4),)
LAYERS = [
    *(layer(name) for name in (
        "ReLU", "ReLU6", "SELU", "SiLU", "Mish", "Hardsigmoid", "Hardswish", "Sigmoid", "LogSigmoid", "Tanh",
        "Tanhshrink", "Softsign", "LeakyReLU", "PReLU", "ELU", "CELU", "GELU", "GLU", "Hardtanh", "Softplus",
        "Softshrink", "Hardshrink", "Identity", "Flatten")),
    *(layer(name, inplace=True) for name in ("ReLU", "SELU", "SiLU")),
    layer("Threshold", 0.1, -2.0), layer("Threshold", 0.1, -2.0, True), layer("LeakyReLU", 0.3, inplace=True),
    layer("PReLU", 6, 0.1), layer("ELU", 0.5), layer("CELU", 2.0), layer("GELU", "tanh"), layer("GLU", 0),
    layer("Hardtanh", -0.5, 2.0), layer("Softplus", 3.0, 1.0), layer("Softshrink", 0.2), layer("Hardshrink", 0.9),
    layer("Softmax", 1), layer("Softmax", dim=0), layer("Softmin", 1), layer("LogSoftmax", -1),
    layer("Softmax2d", x=IMAGE), layer("Softmax2d", x=((4, 3, 2),)),
    layer("Flatten", 2, x=IMAGE), layer("Flatten", 0, 1, x=VOLUME), layer("Unflatten", 1, (2, 3)),
    layer("Unflatten", 1, (-1, 2, 1)), layer("Unflatten", -2, (2, 2)), layer("Identity", 3, bias=True),
    layer("Linear", 6, 3), layer("Linear", 6, 3, bias=False), layer("Linear", 6, 1, x=((2, 3, 6),)),
    layer("Bilinear", 6, 2, 3, x=((4, 6), (4, 2))), layer("Bilinear", 6, 6, 2, bias=False, x=((4, 6), (4, 6))),
    layer("Conv1d", 4, 6, 3, x=SIGNAL), layer("Conv1d", 4, 6, 3, 2, 1, 2, 2, False, x=SIGNAL),
    layer("Conv2d", 4, 6, 3, x=IMAGE), layer("Conv2d", 4, 2, (3, 2), stride=(2, 1), padding=(1, 0), x=IMAGE),
    layer("Conv2d", 4, 8, 3, padding="same", dilation=2, groups=4, x=IMAGE), layer("Conv2d", 4, 2, 1, x=IMAGE),
    layer("Conv2d", 4, 2, 3, padding="valid", bias=False, x=IMAGE), layer("Conv3d", 4, 2, 2, stride=2, x=VOLUME),
    *(layer("Conv2d", 4, 2, 3, padding=(2, 1), padding_mode=mode, x=IMAGE) for mode in ("reflect", "replicate",
                                                                                       "circular")),
    layer("Conv2d", 4, 2, (4, 3), padding="same", padding_mode="replicate", x=IMAGE),
    layer("Conv1d", 4, 2, 5, padding=4, stride=2, padding_mode="circular", x=SIGNAL),
    layer("Conv3d", 4, 2, 3, padding=(1, 0, 2), padding_mode="replicate", x=VOLUME),
    layer("ConvTranspose1d", 4, 6, 3, x=SIGNAL), layer("ConvTranspose1d", 4, 6, 3, 2, 1, 1, 2, False, 2, x=SIGNAL),
    layer("ConvTranspose2d", 4, 6, 3, stride=2, padding=1, output_padding=(1, 0), x=IMAGE),
    layer("ConvTranspose3d", 4, 2, 2, stride=(2, 1, 2), x=VOLUME),
    layer("MaxPool1d", 2, x=SIGNAL), layer("MaxPool2d", 3, 2, 1, x=IMAGE), layer("MaxPool3d", 2, x=VOLUME),
    layer("MaxPool2d", (3, 2), stride=(2, 1), dilation=(1, 2), ceil_mode=True, x=IMAGE),
    layer("MaxPool2d", 2, return_indices=True, x=IMAGE),
    layer("AvgPool1d", 3, 2, 1, x=SIGNAL), layer("AvgPool2d", 2, x=IMAGE), layer("AvgPool3d", 2, x=VOLUME),
    layer("AvgPool2d", 3, 2, 1, True, False, x=IMAGE), layer("AvgPool2d", 3, divisor_override=5, x=IMAGE),
    layer("AdaptiveAvgPool1d", 4, x=SIGNAL), layer("AdaptiveAvgPool2d", (3, 2), x=IMAGE),
    layer("AdaptiveAvgPool2d", (None, 1), x=IMAGE), layer("AdaptiveAvgPool3d", 2, x=VOLUME),
    layer("AdaptiveMaxPool1d", 4, x=SIGNAL), layer("AdaptiveMaxPool2d", 2, True, x=IMAGE),
    layer("AdaptiveMaxPool3d", (2, 1, 3), x=VOLUME),
    layer("BatchNorm1d", 6), layer("BatchNorm1d", 4, x=SIGNAL), layer("BatchNorm2d", 4, x=IMAGE),
    layer("BatchNorm3d", 4, 1e-3, 0.3, x=VOLUME), layer("BatchNorm2d", 4, affine=False, x=IMAGE),
    layer("BatchNorm2d", 4, momentum=None, x=IMAGE), layer("BatchNorm2d", 4, track_running_stats=False, x=IMAGE),
    layer("BatchNorm1d", 6, bias=False),
    layer("LayerNorm", 6), layer("LayerNorm", (4, 6), 0.1, bias=False), layer("LayerNorm", 6, elementwise_affine=False),
    layer("RMSNorm", 6), layer("RMSNorm", [6], 1e-3), layer("RMSNorm", 6, elementwise_affine=False),
    layer("GroupNorm", 2, 4, x=IMAGE), layer("GroupNorm", 3, 6, 0.1, False), layer("InstanceNorm1d", 4, x=SIGNAL),
    layer("GroupNorm", 2, 4, bias=False, x=SIGNAL), layer("InstanceNorm2d", 4, 1e-3, 0.3, True, True, x=IMAGE),
    layer("InstanceNorm2d", 4, affine=True, x=((4, 5, 3),)), layer("InstanceNorm3d", 4, x=VOLUME),
    layer("LocalResponseNorm", 2, x=IMAGE), layer("LocalResponseNorm", 3, 0.1, 0.5, 2.0, x=SIGNAL),
    *(layer(f"{kind}Pad{n}d", margin, x=x) for kind in ("Zero", "Reflection", "Replication", "Circular")
      for n, x in ((1, SIGNAL), (2, IMAGE), (3, VOLUME)) for margin in (2, (1, 0) * n)),
    layer("ConstantPad1d", (2, -1), 0.5, x=SIGNAL), layer("ConstantPad2d", 1, -1.0, x=IMAGE),
    layer("ConstantPad3d", (1, 2, 0, 1, 1, 0), 2.0, x=VOLUME),
    layer("Upsample", scale_factor=2, x=IMAGE), layer("Upsample", (9, 4), mode="bilinear", x=IMAGE),
    layer("Upsample", scale_factor=(2, 1.5, 1), mode="trilinear", align_corners=True, x=VOLUME),
    layer("UpsamplingNearest2d", scale_factor=2, x=IMAGE), layer("UpsamplingBilinear2d", 9, x=IMAGE),
    layer("Unfold", (3, 2), stride=2, x=IMAGE), layer("Fold", (4, 5), 2, x=((2, 8, 12),)),
    layer("PixelShuffle", 2, x=IMAGE), layer("PixelUnshuffle", 2, x=((2, 3, 4, 6),)),
    layer("ChannelShuffle", 2, x=IMAGE), layer("CosineSimilarity", 0, x=((4, 6), (4, 6))),
    layer("Dropout", 0.0), layer("Dropout", 1.0), layer("Dropout2d", 0.0, x=IMAGE), layer("Dropout1d", 1.0, x=SIGNAL),
    layer("Dropout3d", 0.0, x=VOLUME), layer("AlphaDropout", 0.0), layer("FeatureAlphaDropout", 0.0, x=IMAGE),
    layer("LPPool1d", 2, 3, x=SIGNAL), layer("LPPool1d", 2, 3, 2, True, x=SIGNAL), layer("LPPool2d", 4, 2, x=IMAGE),
    layer("LPPool2d", 2, (3, 2), stride=1, x=IMAGE), layer("LPPool3d", 2, 2, x=VOLUME), layer("RReLU", 0.2, 0.2),
    layer("RReLU", 0.25, 0.25, True),
    *(layer(name, reduction=reduction, y=normal(4, 6)) for name in ("L1Loss", "MSELoss", "SmoothL1Loss", "HuberLoss")
      for reduction in ("mean", "sum", "none")),
    layer("SmoothL1Loss", beta=0.3, y=normal(4, 6)), layer("HuberLoss", delta=0.3, y=normal(4, 6)),
    layer("CrossEntropyLoss", y=classes), layer("CrossEntropyLoss", ignore_index=5, label_smoothing=0.1, y=classes),
    layer("CrossEntropyLoss", reduction="none", y=zero_one(4, 6)), layer("NLLLoss", y=classes),
    layer("NLLLoss", ignore_index=1, reduction="sum", y=classes),
    layer("PoissonNLLLoss", full=True, y=zero_one(4, 6)), layer("KLDivLoss", reduction="batchmean", y=zero_one(4, 6)),
    layer("KLDivLoss", reduction="sum", log_target=True, y=normal(4, 6)),
    layer("BCEWithLogitsLoss", y=zero_one(4, 6)), layer("HingeEmbeddingLoss", 0.7, y=signs(4, 6)),
    layer("SoftMarginLoss", y=signs(4, 6)), layer("MultiLabelSoftMarginLoss", y=zero_one(4, 6)),
    layer("MultiLabelMarginLoss", y=lambda rng: np.array([[3, 0, -1, 1, 2, 2]] * 4)),
    layer("MultiMarginLoss", y=classes), layer("MultiMarginLoss", 2, 0.5, reduction="none", y=classes),
    layer("MarginRankingLoss", 0.2, x=((5,), (5,)), y=signs(5)),
    layer("CosineEmbeddingLoss", 0.1, x=((4, 6), (4, 6)), y=signs(4)),
    layer("TripletMarginLoss", x=((4, 6),) * 3), layer("TripletMarginLoss", 0.5, 1.0, swap=True, x=((4, 6),) * 3),
    layer("TripletMarginWithDistanceLoss", x=((4, 6),) * 3),
    layer("PairwiseDistance", 1.0, keepdim=True, x=((4, 6), (4, 6))),
    layer("GaussianNLLLoss", full=True, x=((4, 6),), y=(normal(4, 6), lambda rng: rng.uniform(0.5, 2, (4, 6)))),
]


def run(module, from_array, inputs, targets, upstream):
    """Outputs and gradients, of inputs and parameters, in training mode (twice) and in evaluation mode."""
    results = []
    for training in (True, True, False):
        module.train(training)
        xs = [from_array(x.copy()).requires_grad_() for x in inputs]
        ys = module(*[x * 1 for x in xs], *[from_array(t) for t in targets])
        ys = ys if isinstance(ys, tuple) else (ys,)
        results += [np.asarray(y.detach()) for y in ys]
        module.zero_grad()
        ys[0].backward(from_array(upstream.standard_normal(tuple(ys[0].shape))))
        grads = [x.grad for x in xs] + [p.grad for p in module.parameters()]
        results += [None if g is None else np.asarray(g) for g in grads]
    return results


@pytest.mark.parametrize("name, args, kwargs, shapes, targets", LAYERS)
def test_is_torchs(name, args, kwargs, shapes, targets):
    rng = np.random.default_rng(3)
    ours = getattr(nn, name)(*args, **kwargs).double()
    theirs = getattr(torch.nn, name)(*args, **kwargs).double()
    assert repr(ours) == repr(theirs)
    assert [(n, tuple(p.shape)) for n, p in ours.named_parameters()] == [
        (n, tuple(p.shape)) for n, p in theirs.named_parameters()]
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.from_numpy(rng.standard_normal(tuple(p.shape))))
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    inputs = [rng.standard_normal(shape) for shape in shapes]
    targets = [make(rng) for make in (targets if isinstance(targets, tuple) else (targets,)) if make]
    mine = run(ours, kdl.Tensor, inputs, targets, np.random.default_rng(5))
    other = run(theirs, torch.from_numpy, inputs, targets, np.random.default_rng(5))
    tolerance = 1e-7 if name == "Hardsigmoid" else 1e-9  # torch's derivative is 1/6 rounded to float32
    for i, (a, b) in enumerate(zip(mine, other, strict=True)):
        assert (a is None) == (b is None), i
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=f"result {i}")
    for (key, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        np.testing.assert_allclose(a.array, b.numpy(), rtol=1e-9, atol=1e-12, err_msg=key)


def test_every_module_of_the_families_is_exported():
    missing = [param.values[0] for param in LAYERS if not hasattr(nn, param.values[0])]
    assert not missing


def test_bce_of_probabilities_with_weights():
    rng = np.random.default_rng(0)
    x, y, w = rng.uniform(0.1, 0.9, (3, 4, 6))
    ours = nn.BCELoss(weight=kdl.Tensor(w))(kdl.Tensor(x), kdl.Tensor(y))
    theirs = torch.nn.BCELoss(weight=torch.from_numpy(w))(torch.from_numpy(x), torch.from_numpy(y))
    np.testing.assert_allclose(ours.array, theirs.numpy(), rtol=1e-12)


@pytest.mark.parametrize("name, option, target", [
    ("CrossEntropyLoss", "weight", np.array([1, 0, 5, 2])), ("NLLLoss", "weight", np.array([1, 0, 5, 2])),
    ("MultiMarginLoss", "weight", np.array([1, 0, 5, 2])), ("BCEWithLogitsLoss", "pos_weight", np.full((4, 6), 0.3)),
    ("BCEWithLogitsLoss", "weight", np.full((4, 6), 0.3)), ("MultiLabelSoftMarginLoss", "weight", np.ones((4, 6)))])
def test_weights_of_losses_are_buffers(name, option, target):
    rng = np.random.default_rng(0)
    weight, x = rng.uniform(0.5, 2, 6), rng.standard_normal((4, 6))
    ours = getattr(nn, name)(**{option: kdl.Tensor(weight)})
    theirs = getattr(torch.nn, name)(**{option: torch.from_numpy(weight)})
    np.testing.assert_allclose(ours(kdl.Tensor(x), kdl.Tensor(target)).array,
                               theirs(torch.from_numpy(x), torch.from_numpy(target)).numpy(), rtol=1e-10)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.float().state_dict()[option].dtype == kdl.float32


@pytest.mark.parametrize("n", [1, 2, 3])
def test_max_unpool_undoes_max_pool(n):
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 6, 5)[:2 + n])
    ours = getattr(nn, f"MaxPool{n}d")(2, return_indices=True)(kdl.Tensor(x))
    theirs = getattr(torch.nn, f"MaxPool{n}d")(2, return_indices=True)(torch.from_numpy(x))
    mine, other = getattr(nn, f"MaxUnpool{n}d")(2), getattr(torch.nn, f"MaxUnpool{n}d")(2)
    assert repr(mine) == repr(other)
    size = x.shape[2:]
    np.testing.assert_array_equal(mine(*ours, output_size=size).array, other(*theirs, output_size=size).numpy())


@pytest.mark.parametrize("size", [(15, 14), (16, 14), (15, 15), (2, 4, 16, 15)])
def test_the_output_size_of_a_transposed_convolution_can_be_chosen(size):
    ours = nn.ConvTranspose2d(4, 3, 3, stride=2, dtype=kdl.float64)
    theirs = torch.nn.ConvTranspose2d(4, 3, 3, stride=2, dtype=torch.float64)
    theirs.load_state_dict({k: torch.from_numpy(v.array) for k, v in ours.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((2, 4, 7, 7))
    if min(size[-2:]) < 15:
        with pytest.raises(ValueError, match=r"expected output_size between \(15, 15\) and \(16, 16\)"):
            ours(kdl.Tensor(x), output_size=size)
        with pytest.raises(ValueError):
            theirs(torch.from_numpy(x), output_size=size)
        return
    np.testing.assert_allclose(ours(kdl.Tensor(x), output_size=size).detach().array,
                               theirs(torch.from_numpy(x), output_size=size).detach().numpy(), atol=1e-12)


@pytest.mark.parametrize("n, options", [(2, {"output_size": 3}), (2, {"output_ratio": (0.6, 0.5)}),
                                        (3, {"output_size": (2, 3, 1)}), (3, {"output_ratio": 0.5})])
def test_fractional_max_pool(n, options):
    rng = np.random.default_rng(0)
    x, draws = rng.standard_normal((2, 3, 7, 8, 6)[:2 + n]), rng.uniform(0, 1, (2, 3, n))
    arguments = {"kernel_size": 2, "return_indices": True, **options}
    ours = getattr(nn, f"FractionalMaxPool{n}d")(_random_samples=kdl.Tensor(draws), **arguments)
    theirs = getattr(torch.nn, f"FractionalMaxPool{n}d")(_random_samples=torch.from_numpy(draws), **arguments)
    assert repr(ours) == repr(theirs)
    for a, b in zip(ours(kdl.Tensor(x)), theirs(torch.from_numpy(x)), strict=True):
        np.testing.assert_array_equal(a.array, b.numpy())
    drawn = getattr(nn, f"FractionalMaxPool{n}d")(2, **options)(kdl.Tensor(x))
    assert drawn.shape == ours(kdl.Tensor(x))[0].shape
    x[0, 1] = np.nan
    for a, b in zip(ours(kdl.Tensor(x)), theirs(torch.from_numpy(x)), strict=True):
        np.testing.assert_array_equal(a.array, b.numpy())


def adaptive(bias=False):
    ours = nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4, 9, 15], 2.0, bias, dtype=kdl.float64)
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4, 9, 15], 2.0, bias, dtype=torch.float64)
    assert repr(ours) == repr(theirs)
    theirs.load_state_dict({key: torch.from_numpy(value.array) for key, value in ours.state_dict().items()})
    return ours, theirs


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("target", [[0, 19, 4, 9, 3, 15, 8], [1, 2, 3, 0, 0, 1, 2], [16, 17, 18, 15, 15, 4, 5], 11])
def test_adaptive_softmax_is_torchs(bias, target):
    ours, theirs = adaptive(bias)
    target = np.array(target)
    x = 3 * np.random.default_rng(0).standard_normal((*target.shape, 8))
    a, b = kdl.Tensor(x).requires_grad_(), torch.from_numpy(x.copy()).requires_grad_()
    mine, other = ours(a, kdl.Tensor(target)), theirs(b, torch.from_numpy(target))
    np.testing.assert_allclose(mine.output.detach().array, other.output.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(mine.loss.item(), other.loss.item(), rtol=1e-12)
    mine.loss.backward()
    other.loss.backward()
    np.testing.assert_allclose(a.grad.array, b.grad.numpy(), rtol=1e-9, atol=1e-12)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(0 if p.grad is None else p.grad.array, 0 if q.grad is None else q.grad.numpy(),
                                   rtol=1e-9, atol=1e-12)
    rows = kdl.Tensor(np.atleast_2d(x))
    np.testing.assert_allclose(ours.log_prob(rows).detach().array,
                               theirs.log_prob(torch.from_numpy(np.atleast_2d(x))).detach().numpy(), rtol=1e-10)
    np.testing.assert_array_equal(ours.predict(rows).array, theirs.predict(torch.from_numpy(np.atleast_2d(x))).numpy())


def test_adaptive_softmax_refuses_what_does_not_fit():
    ours, _ = adaptive()
    for cutoffs in ([], [5, 4], [0, 3], [4, 20], [4, 4], [2.5]):
        with pytest.raises(ValueError, match="growing integers"):
            nn.AdaptiveLogSoftmaxWithLoss(8, 20, cutoffs)
    for x, target in ((kdl.ones(3, 8), kdl.tensor([1, 2])), (kdl.ones(3, 8), kdl.tensor(1))):
        with pytest.raises(ValueError, match=r"input \(N, in_features\)"):
            ours(x.double(), target)
    with pytest.raises(ValueError, match=r"targets in \[0, 19\], got target \[1, 20\]"):
        ours(kdl.ones(2, 8).double(), kdl.tensor([1, 20]))


@pytest.mark.parametrize("name, args, shape", [
    ("Linear", (3,), (2, 5, 6)), ("Linear", (3, False), (2, 6)), ("Conv1d", (4, 3), (2, 3, 8)),
    ("Conv2d", (4, 3, 2, 1), (2, 6, 8, 8)), ("Conv3d", (4, 2), (3, 4, 4, 4)), ("ConvTranspose1d", (4, 3), (2, 3, 8)),
    ("ConvTranspose2d", (4, 3, 2), (2, 3, 5, 5)), ("ConvTranspose3d", (4, 2), (2, 3, 3, 3, 3)),
    ("BatchNorm1d", (), (4, 3)), ("BatchNorm2d", (1e-4, None), (4, 3, 2, 2)), ("BatchNorm3d", (), (4, 3, 2, 2, 2)),
    ("InstanceNorm1d", (1e-5, 0.1, True, True), (4, 3, 5)), ("InstanceNorm2d", (), (4, 3, 2, 2)),
    ("InstanceNorm3d", (), (4, 3, 2, 2, 2))])
def test_lazy_layers_take_the_size_of_their_first_input(name, args, shape):
    lazy, theirs = getattr(nn, f"Lazy{name}")(*args), getattr(torch.nn, f"Lazy{name}")(*args)
    assert repr(lazy) == repr(theirs)
    parameters = list(lazy.parameters())
    x = np.random.default_rng(0).standard_normal(shape)
    lazy.double()
    y, _ = lazy(kdl.Tensor(x)), theirs.double()(torch.from_numpy(x))
    assert type(lazy) is getattr(nn, name) and repr(lazy) == repr(theirs)
    assert all(p is q for p, q in zip(lazy.parameters(), parameters, strict=True))
    assert {k: v.shape for k, v in lazy.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    theirs.load_state_dict({k: torch.from_numpy(v.array) for k, v in lazy.state_dict().items()})
    np.testing.assert_allclose(lazy.eval()(kdl.Tensor(x)).detach().array,
                               theirs.eval()(torch.from_numpy(x)).detach().numpy(), atol=1e-12)
    if name in ("Linear", "Conv2d"):
        y.sum().backward()
        assert all(p.grad is not None and p.grad.dtype == kdl.float64 for p in parameters)


def test_dropout_draws_only_in_training():
    x = kdl.Tensor(np.ones((50, 40)))
    for name, shape in (("Dropout", (50, 40)), ("Dropout1d", (50, 40, 3)), ("Dropout2d", (50, 40, 3, 2)),
                        ("Dropout3d", (50, 40, 1, 2, 3))):
        module, x = getattr(nn, name)(0.25), kdl.Tensor(np.ones(shape))
        y = module(x).array
        assert {*np.unique(y)} == {0, 1 / 0.75}
        assert abs((y == 0).mean() - 0.25) < 0.04
        if name != "Dropout":
            flat = y.reshape(50, 40, -1)
            assert (flat == flat[:, :, :1]).all(), "whole channels are dropped"
        np.testing.assert_array_equal(module.eval()(x).array, x.array)
    x = kdl.Tensor(np.random.default_rng(0).standard_normal((200, 100)))
    y = nn.AlphaDropout(0.3)(x).array
    assert abs(y.mean()) < 0.03 and abs(y.std() - 1) < 0.03


@pytest.mark.parametrize("error, message, build", [
    (ValueError, "Conv2d: expected groups > 0 that divide both", lambda m: m.Conv2d(4, 6, 3, groups=4)),
    (ValueError, "groups > 0", lambda m: m.Conv2d(4, 6, 3, groups=0)),
    (ValueError, "a padding_mode out of zeros, reflect", lambda m: m.Conv1d(4, 6, 3, padding_mode="mirror")),
    (ValueError, "ConvTranspose2d: expected a padding_mode", lambda m: m.ConvTranspose2d(4, 6, 3,
                                                                                       padding_mode="reflect")),
    (ValueError, "padding 'same', 'valid' or numbers", lambda m: m.Conv2d(4, 6, 3, padding="full")),
    (ValueError, "stride 1 with padding 'same'", lambda m: m.Conv2d(4, 6, 3, stride=2, padding="same")),
    (ValueError, "Dropout: expected 0 <= p <= 1, got p 1.5", lambda m: m.Dropout(1.5)),
    (ValueError, "Dropout2d: expected 0 <= p <= 1", lambda m: m.Dropout2d(-0.1)),
    (ValueError, "Bilinear: expected in1_features > 0", lambda m: m.Bilinear(0, 2, 3)),
    (TypeError, "unflattened_size to be ints", lambda m: m.Unflatten(1, (2.0, 3))),
    (ValueError, "one of output_size and output_ratio", lambda m: m.FractionalMaxPool2d(2)),
    (ValueError, "one of output_size and output_ratio", lambda m: m.FractionalMaxPool3d(2, 3, 0.5)),
    (ValueError, "output_ratio between 0 and 1", lambda m: m.FractionalMaxPool2d(2, output_ratio=1.5)),
    (ValueError, "MultiMarginLoss: expected p 1 or 2", lambda m: m.MultiMarginLoss(p=3)),
    (ValueError, "TripletMarginLoss: expected margin > 0", lambda m: m.TripletMarginLoss(margin=-1)),
])
def test_bad_arguments_are_refused_as_in_torch(error, message, build):
    with pytest.raises(error, match=message):
        build(nn)
    with pytest.raises((error, AssertionError)):
        build(torch.nn)


@pytest.mark.parametrize("name, shape", [("BatchNorm1d", (2, 3, 4, 5)), ("BatchNorm2d", (2, 3)),
                                         ("BatchNorm3d", (2, 3, 4, 5)), ("Softmax2d", (2, 3))])
def test_inputs_of_the_wrong_rank_are_refused_as_in_torch(name, shape):
    args = () if name == "Softmax2d" else (3,)
    with pytest.raises(ValueError, match=rf"{name}: expected a .* input, got input \({shape[0]}, "):
        getattr(nn, name)(*args)(kdl.Tensor(np.zeros(shape, np.float32)))
    with pytest.raises(ValueError):
        getattr(torch.nn, name)(*args)(torch.zeros(shape))


def test_a_refused_batch_leaves_batchnorm_as_it_was():
    module = nn.BatchNorm1d(3)
    with pytest.raises(ValueError):
        module(kdl.Tensor(np.zeros((1, 3), np.float32)))
    assert int(module.num_batches_tracked) == 0 and not module.running_mean.array.any()


def test_dtype_and_device_arguments():
    for module in (nn.Linear(2, 3, dtype=kdl.float64), nn.Conv2d(2, 3, 1, device="cpu", dtype=kdl.float64),
                   nn.BatchNorm2d(3, device="cpu", dtype=kdl.float64), nn.PReLU(dtype=kdl.float64),
                   nn.Bilinear(1, 2, 3, dtype=kdl.float64)):
        assert {p.dtype for p in module.parameters()} == {kdl.float64}
    assert nn.Linear(2, 3).weight.dtype == kdl.float32


def test_unflatten_refuses_what_does_not_fit():
    x = kdl.Tensor(np.zeros((2, 6)))
    with pytest.raises(TypeError, match="Unflatten: expected dim to be an int"):
        nn.Unflatten(1.5, (2, 3))
    for sizes in ((2, 4), (-1, 4), (-2, -3)):
        with pytest.raises(ValueError, match="sizes that multiply to the dimension's length"):
            nn.Unflatten(1, sizes)(x)
    with pytest.raises(ValueError, match="dim within the input's dimensions"):
        nn.Unflatten(2, (2, 3))(x)
