"""kdl.onnx, operation by operation: the same numbers in ONNX's reference, and read back in kdl."""
import numpy as np
import pytest

import kdl
from kdl import nn
from kdl.nn import functional as F

pytest.importorskip("onnx", reason="pip install 'kdl-kernels[onnx]'")
from tests.test_onnx import IMAGE, Call, X, check, floats, numbers


def module(make, *arrays, **options):
    return (make, arrays, options)


def function(f, *arrays, **options):
    return (lambda: Call(f), arrays, options)


POSITIVE = np.abs(floats(3, 4)) + 0.1
UNIT = np.tanh(floats(3, 4)) * 0.9
INTEGERS = numbers(9, 3, 4) - 4
MASK = numbers(2, 3, 4).astype(bool)
INDEX = numbers(3, 2, 4)


def unary(name):
    domain = {"log": POSITIVE, "log2": POSITIVE, "log10": POSITIVE, "sqrt": POSITIVE, "rsqrt": POSITIVE, "asin": UNIT,
              "acos": UNIT, "atanh": UNIT, "acosh": POSITIVE + 1, "log1p": POSITIVE, "logit": (UNIT + 1) / 2}
    return function(lambda x: getattr(kdl, name)(x), domain.get(name, floats(3, 4) * 2))


OPERATIONS = {
    **{name: unary(name) for name in (
        "exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "sqrt", "rsqrt", "sin", "cos", "tan", "asin", "acos",
        "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "floor", "ceil", "trunc", "round", "sign", "frac", "abs",
        "neg", "reciprocal", "erf", "erfc", "deg2rad", "rad2deg", "sinc", "square", "logit", "isnan", "isfinite")},
    **{f"{name} {form}": function(f, a, b) for name, f in {
        "floor": lambda a, b: a // b, "trunc": lambda a, b: kdl.div(a, b, rounding_mode="trunc"),
        "remainder": lambda a, b: a % b, "fmod": kdl.fmod, "maximum": kdl.maximum}.items()
       for form, a, b in (("floats", floats(3, 4) * 5, floats(3, 4)), ("integers", INTEGERS, numbers(4, 3, 4) + 1))},
    "divisors below 0": function(lambda a, b: (a // b, a % b, kdl.fmod(a, b)), INTEGERS, -numbers(4, 3, 4) - 1),
    "arithmetic": function(lambda a, b: (a + b * 2 - 1) / (b.abs() + 1.5) - 3 / (1 + a * a), floats(2, 3), floats(3)),
    "promotion": function(lambda a, b: (a + b, a * 2.5, b - 1, a / 2), INTEGERS, floats(4)),
    "powers": function(lambda x: (x ** 2, x ** 3, x ** 0.5, x ** -1, 2 ** x, x ** x), POSITIVE),
    "atan2 hypot": function(lambda a, b: (kdl.atan2(a, b), kdl.hypot(a, b), kdl.logaddexp(a, b)), floats(9), floats(9)),
    "lerp": function(lambda a, b: (kdl.lerp(a, b, 0.3), a.addcmul(a, b, value=2)), floats(4), floats(4)),
    "clamp": function(lambda x, low: (x.clamp(-0.5), x.clamp(max=0.5), x.clamp(low), x.clamp(low, low + 1)),
                      floats(3, 4), floats(4)),
    "nan_to_num": function(lambda x: (x.nan_to_num(1, 2, 3), x.isinf(), x.isposinf()),
                           np.array([np.nan, np.inf, -np.inf, 1], np.float32)),
    "comparisons": function(lambda a, b: (a < b, a <= b, a > 0, 0 >= a, a == b, a != b, (a < b) & (a > 0), ~(a > b)),
                            INTEGERS, INTEGERS[::-1].copy()),
    "logic": function(lambda a, b: (kdl.logical_and(a, b), kdl.logical_or(a, b), kdl.logical_xor(a, b), ~b, a & 3),
                      INTEGERS, MASK),
    "where": function(lambda c, x: (kdl.where(c, x, 0.0), x.masked_fill(c, -1e9), kdl.where(x > 0, x, x * 2)), MASK,
                      floats(3, 4)),
    "casts": function(lambda x: (x.long(), x.double() * 2, x.bool(), x.half().float()), floats(3, 4) * 3),
    # activations
    **{name: function(lambda x, name=name: getattr(F, name)(x), floats(3, 6) * 3) for name in (
        "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "sigmoid", "tanh", "softplus", "softsign", "gelu", "silu",
        "mish", "glu", "hardtanh", "hardsigmoid", "hardswish", "hardshrink", "softshrink", "logsigmoid", "tanhshrink")},
    "activations with numbers": function(lambda x: (
        F.leaky_relu(x, 0.3), F.elu(x, 1.7), F.celu(x, 0.4), F.hardtanh(x, -2, 0.5), F.softplus(x, 2, 3),
        F.hardshrink(x, 0.1), F.softshrink(x, 1.1), F.threshold(x, 0.2, 7.0), F.glu(x, 0)), floats(4, 6) * 3),
    "gelu tanh": module(lambda: nn.GELU("tanh"), X),
    "gelu opset 18": (lambda: Call(lambda x: (F.gelu(x), F.gelu(x, "tanh"))), [X], {"opset_version": 18}),
    "PReLU": module(lambda: nn.Sequential(nn.PReLU(6), nn.PReLU()), X),
    "softmax": function(lambda x: (x.softmax(1), F.log_softmax(x, 0), F.softmin(x, -1)), X),
    # products
    "Linear of vectors": module(lambda: nn.Linear(5, 3), floats(5)),
    "Linear of sequences": module(lambda: nn.Linear(5, 3, bias=False), floats(2, 3, 4, 5)),
    "Bilinear": module(lambda: nn.Bilinear(3, 4, 5), floats(6, 3), floats(6, 4)),
    "matmul": function(lambda a, b: (a @ b, a[0] @ b[0], a[0, 0] @ b[0], kdl.einsum("bij,bjk->kbi", a, b)),
                       floats(2, 3, 4), floats(2, 4, 5)),
    "cdist": function(lambda a, b: (kdl.cdist(a, b), kdl.cdist(a, b, 1)), floats(30, 4), floats(27, 4)),
    # convolutions
    "Conv1d": module(lambda: nn.Conv1d(6, 4, 3, 2, 1, dilation=2, groups=2), floats(2, 6, 15)),
    "Conv1d unbatched": module(lambda: nn.Conv1d(6, 4, 3), X[0]),
    "Conv2d": module(lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), dilation=(1, 2), groups=2, bias=False), IMAGE),
    "Conv2d same": module(lambda: nn.Conv2d(4, 3, (4, 3), padding="same", dilation=(1, 2)), IMAGE),
    "Conv2d reflect": module(lambda: nn.Conv2d(4, 3, 3, padding=(2, 1), padding_mode="reflect"), IMAGE),
    "Conv2d circular": module(lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"), IMAGE),
    "Conv2d replicate": module(lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="replicate"), IMAGE),
    "Conv3d": module(lambda: nn.Conv3d(2, 3, 2, stride=2, padding=1), floats(1, 2, 5, 4, 6)),
    "channels last": function(lambda x, w: F.conv2d(x.contiguous(memory_format=kdl.channels_last), w).flatten(1), IMAGE,
                              floats(3, 4, 2, 2)),
    "ConvTranspose1d": module(lambda: nn.ConvTranspose1d(6, 4, 4, 3, 1, output_padding=2), X),
    "ConvTranspose2d": module(lambda: nn.ConvTranspose2d(4, 6, 3, 2, (1, 0), output_padding=(1, 0)), IMAGE),
    "ConvTranspose2d dilated": module(lambda: nn.ConvTranspose2d(4, 2, 3, 2, 1, dilation=2, bias=False), IMAGE),
    "ConvTranspose2d groups": module(lambda: nn.ConvTranspose2d(4, 6, 2, 2, groups=2), IMAGE, reference=False),
    "ConvTranspose3d": module(lambda: nn.ConvTranspose3d(2, 3, 2, 2), floats(1, 2, 3, 2, 3)),
    "fold": function(lambda x: (F.unfold(x, (3, 2), 2, 1, (2, 1)), F.fold(
        F.unfold(x, 3, padding=1, stride=2), (9, 7), 3, padding=1, stride=2)), IMAGE),
    "pixel_shuffle": function(lambda x: (F.pixel_shuffle(x, 2), F.pixel_unshuffle(x, 3), F.channel_shuffle(x, 2)),
                              floats(2, 4, 6, 9)),
    # poolings
    "MaxPool1d": module(lambda: nn.MaxPool1d(3, 2, 1, dilation=2), floats(2, 3, 11)),
    "MaxPool2d": module(lambda: nn.MaxPool2d((3, 2), (2, 1), (1, 0), dilation=(1, 2)), IMAGE),
    "MaxPool2d ceil": module(lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True), floats(2, 3, 8, 10)),
    "MaxPool2d ceil unbatched": module(lambda: nn.MaxPool2d(2, 3, ceil_mode=True), IMAGE[0]),
    "MaxPool2d indices": function(lambda x: (
        F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=(9, 7)),
        F.max_pool2d(x, 3, 2, 1, return_indices=True)[1]), IMAGE),
    "MaxPool3d": module(lambda: nn.MaxPool3d(2, ceil_mode=True), floats(1, 2, 5, 4, 3)),
    "AvgPool1d": module(lambda: nn.AvgPool1d(3, 2, 1), floats(2, 3, 11)),
    "AvgPool2d": module(lambda: nn.AvgPool2d(3, (2, 1), 1, count_include_pad=False), IMAGE),
    "AvgPool2d ceil": module(lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True), floats(2, 3, 8, 10)),
    "AvgPool2d ceil inside": module(lambda: nn.AvgPool2d(3, 2, 1, True, count_include_pad=False), floats(2, 3, 8, 10)),
    "AvgPool2d divisor": module(lambda: nn.AvgPool2d(2, 1, divisor_override=3), IMAGE[0]),
    "AvgPool3d": module(lambda: nn.AvgPool3d(2, 1, 1), floats(1, 2, 3, 4, 3)),
    "LPPool2d": module(lambda: nn.LPPool2d(2, 2), np.abs(IMAGE)),
    "adaptive": function(lambda x: (F.adaptive_avg_pool2d(x, 1), F.adaptive_avg_pool2d(x, (3, 7)),
                                    F.adaptive_avg_pool2d(x, (4, 3)), F.adaptive_max_pool2d(x, (3, 1)),
                                    F.adaptive_avg_pool2d(x[0], (2, None))), IMAGE),
    # sizes
    **{f"interpolate {mode}": function(lambda x, mode=mode: (
        F.interpolate(x, (12, 5), mode=mode), F.interpolate(x, scale_factor=2, mode=mode),
        F.interpolate(x, scale_factor=(1.7, 0.6), mode=mode)), IMAGE) for mode in ("nearest", "nearest-exact", "area",
                                                                                  "bilinear", "bicubic")},
    "interpolate corners": function(lambda x: (F.interpolate(x, (12, 5), mode="bilinear", align_corners=True),
                                               F.interpolate(x, 11, mode="bicubic", align_corners=True)), IMAGE),
    "interpolate antialias": function(lambda x: (F.interpolate(x, (4, 3), mode="bilinear", antialias=True),
                                                 F.interpolate(x, (4, 10), mode="bicubic", antialias=True)), IMAGE),
    "interpolate lines and volumes": function(lambda x: (
        F.interpolate(x, 9, mode="linear"), F.interpolate(x.unsqueeze(1).unsqueeze(1), (2, 3, 4), mode="trilinear"),
        F.interpolate(x, scale_factor=3)), X),
    "grid_sample": function(lambda x, g: (F.grid_sample(x, g), F.grid_sample(x, g, "nearest", "border"), F.grid_sample(
        x, g, padding_mode="reflection", align_corners=True)), IMAGE, np.tanh(floats(2, 3, 4, 2)) * 1.2),
    "affine_grid": function(lambda theta: F.affine_grid(theta, (2, 1, 3, 4)), floats(2, 2, 3)),
    **{f"pad {mode}": function(lambda x, mode=mode: F.pad(x, (2, 1, 0, 3), mode), IMAGE) for mode in (
        "constant", "reflect", "replicate", "circular")},
    "pad with a value, and less": function(lambda x: (F.pad(x, (1, 2), value=3.5), F.pad(x, (-1, 1, -2, 0))), X),
    # normalisation
    "BatchNorm1d": module(lambda: nn.BatchNorm1d(6, eps=1e-3), X),
    "BatchNorm2d plain": module(lambda: nn.BatchNorm2d(4, affine=False), IMAGE),
    "BatchNorm2d of the batch": module(lambda: nn.BatchNorm2d(4, track_running_stats=False), IMAGE),
    "LayerNorm": module(lambda: nn.LayerNorm((6, 5), eps=1e-3), X),
    "LayerNorm without bias": module(lambda: nn.Sequential(nn.LayerNorm(5, bias=False), nn.LayerNorm(
        5, elementwise_affine=False)), X),
    "RMSNorm": module(lambda: nn.RMSNorm(5), X),
    "GroupNorm": module(lambda: nn.GroupNorm(2, 4), IMAGE),
    "InstanceNorm": module(lambda: nn.Sequential(nn.InstanceNorm2d(4, affine=True), nn.InstanceNorm2d(4)), IMAGE),
    "InstanceNorm running": module(lambda: nn.InstanceNorm2d(4, track_running_stats=True), IMAGE),
    "LocalResponseNorm": module(lambda: nn.LocalResponseNorm(3), IMAGE),
    "normalize": function(lambda x: (F.normalize(x), F.normalize(x, 1, -1), F.cosine_similarity(x, x + 1, -1)), X),
    # recurrence
    **{f"{cls} {about}": module(lambda cls=cls, options=options: getattr(nn, cls)(5, 7, **options), X, **more)
       for cls in ("RNN", "LSTM", "GRU") for about, options, more in (
           ("plain", {}, {}), ("two layers, no bias", {"num_layers": 2, "bias": False}, {}),
           ("both directions", {"bidirectional": True, "num_layers": 2, "batch_first": True}, {}))},
    "RNN relu": module(lambda: nn.RNN(5, 7, nonlinearity="relu"), X, reference=False),
    "GRU with a state": module(lambda: nn.GRU(5, 7, bidirectional=True), X, floats(2, 6, 7)),
    "LSTM unbatched": module(lambda: nn.LSTM(5, 7), X[0]),
    "cells": (lambda: Cells(), [floats(3, 5)], {}),
    # attention
    "attention": function(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.3), floats(2, 3, 4, 5),
                          floats(2, 3, 6, 5), floats(2, 3, 6, 2)),
    "attention causal": function(lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True), floats(2, 4, 5)),
    "attention masks": function(lambda q, m, a: (
        F.scaled_dot_product_attention(q, q, q, m), F.scaled_dot_product_attention(q, q, q, a)), floats(2, 4, 5),
        np.array([[0] * 4, [1, 1, 0, 0], [1, 0, 1, 1], [1] * 4], bool), floats(4, 4)),
    "grouped attention": function(lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True),
                                  floats(2, 4, 3, 5), floats(2, 2, 6, 5)),
    "MultiheadAttention": (lambda: Padded(), [floats(2, 4, 6), MASK[:2, :4] & (np.arange(4) > 0)], {}),
    "TransformerDecoderLayer": module(lambda: nn.TransformerDecoderLayer(6, 2, 8, batch_first=True), floats(2, 4, 6),
                                      floats(2, 3, 6)),
    # lookup
    "Embedding": module(lambda: nn.Embedding(9, 4, padding_idx=0), numbers(9, 2, 3)),
    "EmbeddingBag": module(lambda: nn.EmbeddingBag(9, 4, mode="sum"), numbers(9, 2, 3)),
    "EmbeddingBag mean": module(lambda: nn.EmbeddingBag(9, 4), numbers(9, 2, 3).astype(np.int32)),
    "one_hot": function(lambda x: F.one_hot(x, 5), numbers(5, 2, 3)),
    # reductions
    "sums": function(lambda x: (x.sum(), x.mean((0, 2)), x.sum(1, keepdim=True), x.prod(1), x.nansum(0)), X),
    "spread": function(lambda x: (x.var(), x.std(1), x.var((0, 1), unbiased=False, keepdim=True), x.norm(dim=1),
                                  x.norm(1), x.norm(3, 2), x.norm(float("inf"), 0), x.logsumexp((0, 1))), X),
    "extrema": function(lambda x: (x.max(), *x.max(1), *x.min(-1, keepdim=True), x.amax((0, 2)), x.amin()), X),
    "truth": function(lambda x: (x.any(), (x > 1).all(1), (x > 1).any((0, 2), keepdim=True), x.count_nonzero(1)), X),
    "argmax": function(lambda x: (x.argmax(), x.argmax(1), x.argmin(-1, keepdim=True), x.argmax(keepdim=True)), X),
    "topk": function(lambda x: (*x.topk(2, 1), *x.topk(3, largest=False), *x.sort(1), x.argsort(-1, descending=True)),
                     X),
    "cumsum": function(lambda x: (x.cumsum(1), x.diff(dim=1)), X),
    # shapes
    "reshaped": function(lambda x: (x.reshape(3, -1), x.flatten(), x.T, x.permute(2, 0, 1), x.unsqueeze(1).squeeze(),
                                    x.unflatten(1, (2, 3)), x.mT, x[:1].expand(3, -1, -1), x.repeat(1, 2, 1, 1)), X),
    "joined": function(lambda a, b: (kdl.cat([a, b], 1), kdl.stack([a, b, a], -1), kdl.cat([a, a.long()]),
                                     kdl.block_diag(a[0], b[0])), X, X[::-1].copy()),
    "split": function(lambda x: (*x.split(4, 1), *x.chunk(3, 1), *x.unbind(2)[:2], *x.tensor_split([1, 4], 1)), X),
    "slices": function(lambda x: (x[0], x[:, -1], x[..., 1:4:2], x[:, None, 2:], x[1, 2, 3], x[:, -3:-1], x.narrow(
        1, 2, 3), x.select(2, -1), x[None, :, 3], x.flip(1, 2), x.roll((1, -2), (0, 1)), x.roll(3)), X),
    "repeated": function(lambda x: (x.repeat_interleave(2, 1), x.tile((2, 1)), x.rot90()), X),
    "triangles": function(lambda x: (x.tril(), x.triu(1), x[0].diagonal(1), x.diagonal(0, 1, 2), kdl.diag_embed(
        x[0, 0], 1), x[0].trace()), X),
    "index": function(lambda x, i: (x[i], x[:, i], x[:, i.reshape(-1), 1:], x[i, i], x[:, i, i], x[i, :, i], x[x[
        :, 0, 0].argmin() * 0 + i[0, 0] * 0 + i]), X[:, :3, :3].copy(), INDEX % 2),
    "constant index": function(lambda x: (x[[1, 0]], x[:, kdl.tensor([True, False] * 3)], x[..., [0, -1]]), X),
    "mask": function(lambda x, m: (x[m], x.masked_select(m)), floats(3, 4), MASK),
    "gather": function(lambda x, i: (x.gather(1, i), x.gather(0, i % 2), x.take(i), x.take_along_dim(i[:1], 1)),
                       floats(2, 4), INDEX),
    "index_select": function(lambda x, i: (x.index_select(1, i), x.index_fill(1, i, 3.0)), floats(2, 4), INDEX[0]),
    "scatter": function(lambda x, i, s: (x.scatter_add(1, i, s), x.scatter(1, i[:, :1], s), x.scatter(
        0, i[:1] % 2, 5.0), x.index_add(0, i[:, 0] % 2, s, alpha=2), x.scatter_reduce(1, i, s, "amax")), floats(2, 4),
        INDEX, floats(2, 4)),
}


class Cells(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.gru, self.rnn = nn.LSTMCell(5, 4), nn.GRUCell(5, 4), nn.RNNCell(5, 4)

    def forward(self, x):
        h, c = self.lstm(x)
        h, c = self.lstm(x * 2, (h, c))
        return h, c, self.gru(x, h), self.rnn(x)


class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True, add_bias_kv=True)

    def forward(self, x, padding):
        return self.attention(x, x, x, padding)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(name):
    make, arrays, options = OPERATIONS[name]
    kdl.manual_seed(1)
    model = make()
    with kdl.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.6, 0.6)
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5)
    check(model, list(arrays), **options)
