"""Attention and transformer layers against torch: masks, shapes, weights, dropout, refusals."""
import math
import re

import numpy as np
import pytest

import kdl
import kdl.nn.functional as F
from kdl import nn

torch = pytest.importorskip("torch", reason="layers are compared with torch: pip install 'kdl-kernels[test]'")

RNG = np.random.default_rng(0)
HIDDEN = RNG.random((3, 5)) < 0.3
ADDED = RNG.standard_normal((3, 5))
PADDED = np.array([[False] * 5, [False, False, True, False, True]])


def pair(name, *args, **options):
    """The layer here and in torch, in float64, with the same weights."""
    ours, theirs = getattr(nn, name)(*args, **options).double(), getattr(torch.nn, name)(*args, **options).double()
    assert repr(ours) == re.sub("NonDynamicallyQuantizable", "", repr(theirs))
    rng = np.random.default_rng(1)
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.from_numpy(rng.standard_normal(tuple(p.shape)) / 2))
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    return ours, theirs


def agree(ours, theirs, inputs, **masks):
    """Outputs and all gradients, in training mode; inputs are arrays, one tensor where an array recurs."""
    results = []
    for layer, tensor in ((ours, kdl.tensor), (theirs, torch.tensor)):
        leaves = {id(a): tensor(a, requires_grad=True) for a in inputs}
        given = {name: tensor(m) if isinstance(m, np.ndarray) else m for name, m in masks.items()}
        outputs = layer(*[leaves[id(a)] for a in inputs], **given)
        outputs = [y for y in (outputs if isinstance(outputs, tuple) else (outputs,)) if y is not None]
        rng = np.random.default_rng(5)
        layer.zero_grad()
        sum((y * tensor(rng.standard_normal(tuple(y.shape)))).sum() for y in outputs).backward()
        results.append([np.asarray(y.detach()) for y in outputs] + [np.asarray(x.grad) for x in leaves.values()]
                       + [None if p.grad is None else np.asarray(p.grad) for p in layer.parameters()])
    for i, (a, b) in enumerate(zip(*results, strict=True)):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9, err_msg=f"result {i}")


LAYERS = [{}, {"bias": False}, {"batch_first": True}, {"add_bias_kv": True, "add_zero_attn": True},
          {"kdim": 3, "vdim": 2}, {"kdim": 3, "vdim": 2, "bias": False, "batch_first": True, "add_zero_attn": True}]
MASKS = [{}, {"attn_mask": HIDDEN}, {"attn_mask": ADDED}, {"key_padding_mask": PADDED},
         {"attn_mask": ADDED, "key_padding_mask": PADDED}, {"attn_mask": HIDDEN, "key_padding_mask": PADDED},
         {"attn_mask": np.stack([ADDED] * 4)}, {"need_weights": False, "attn_mask": HIDDEN},
         {"need_weights": False, "key_padding_mask": PADDED}, {"average_attn_weights": False}]


@pytest.mark.parametrize("options", LAYERS, ids=str)
@pytest.mark.parametrize("masks", MASKS, ids=lambda m: "+".join(m) or "none")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_multihead_attention(options, masks):
    rng = np.random.default_rng(2)
    shapes = (3, 2, 6), (5, 2, options.get("kdim", 6)), (5, 2, options.get("vdim", 6))
    inputs = [rng.standard_normal(s) for s in shapes]
    if options.get("batch_first"):
        inputs = [x.swapaxes(0, 1).copy() for x in inputs]
    agree(*pair("MultiheadAttention", 6, 2, **options), inputs, **masks)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("same", ["all", "key and value"])
@pytest.mark.parametrize("alone", [False, True])
def test_inputs_that_are_the_same_tensor(batch_first, same, alone):
    rng = np.random.default_rng(2)
    q, k = rng.standard_normal((2, 4, 6)), rng.standard_normal((2, 4, 6))
    if alone:
        q, k = q[0], k[0, :3]
    agree(*pair("MultiheadAttention", 6, 3, batch_first=batch_first), [q, q, q] if same == "all" else [q, k, k])


def test_a_hint_of_causality_needs_its_mask():
    x = np.random.default_rng(0).standard_normal((4, 2, 6))
    ours, theirs = pair("MultiheadAttention", 6, 2)
    agree(ours, theirs, [x, x, x], attn_mask=np.triu(np.ones((4, 4), bool), 1), is_causal=True, need_weights=False)
    with pytest.raises(ValueError, match="expected attn_mask besides the hint is_causal"):
        ours(*[kdl.tensor(x)] * 3, is_causal=True)


def test_a_query_that_may_look_nowhere():
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    mask = np.array([[True, False, True], [False] * 3, [True] * 3])
    leaves = [kdl.tensor(x, requires_grad=True) for _ in range(3)]
    y = F.scaled_dot_product_attention(*leaves, kdl.tensor(mask))
    assert (y.detach().array[:, 1] == 0).all()
    y.sum().backward()
    assert (leaves[0].grad.array[:, 1] == 0).all() and np.isfinite(leaves[1].grad.array).all()


def test_dropout_keeps_the_mean_and_its_own_mask():
    kdl.manual_seed(0)
    q = kdl.tensor(np.zeros((1, 400, 2)), requires_grad=True)
    v = kdl.tensor(np.eye(50)[None], requires_grad=True)
    y = F.scaled_dot_product_attention(q, kdl.zeros(1, 50, 2, dtype=kdl.float64), v, dropout_p=0.25)
    weights = y.detach().array * 50  # each weight is 1 / 50, dropped or scaled
    np.testing.assert_allclose(np.unique(weights.round(9)), [0, 1 / 0.75], atol=1e-8)
    assert abs((weights == 0).mean() - 0.25) < 0.02
    y.sum().backward()
    np.testing.assert_allclose(v.grad.array, np.repeat(y.detach().array.sum(1)[..., None], 50, 2), atol=1e-10)


ENCODER = [{}, {"norm_first": True, "activation": "gelu"}, {"batch_first": True, "bias": False},
           {"activation": lambda x: x * x, "layer_norm_eps": 0.1}]


@pytest.mark.parametrize("options", ENCODER, ids=range(len(ENCODER)))
def test_transformer_layers(options):
    rng = np.random.default_rng(3)
    x, memory = rng.standard_normal((4, 2, 6)), rng.standard_normal((5, 2, 6))
    causal, padding = np.triu(np.full((4, 4), -np.inf), 1), np.array([[False] * 5, [False] * 3 + [True] * 2])
    if options.get("batch_first"):
        x, memory = x.swapaxes(0, 1).copy(), memory.swapaxes(0, 1).copy()
    args = 6, 2, 8, 0.0
    agree(*pair("TransformerEncoderLayer", *args, **options), [x], src_mask=causal)
    agree(*pair("TransformerEncoderLayer", *args, **options), [memory], src_key_padding_mask=padding)
    agree(*pair("TransformerDecoderLayer", *args, **options), [x, memory], tgt_mask=causal,
          memory_key_padding_mask=padding)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_stacks_are_torchs():
    rng = np.random.default_rng(3)
    src, tgt = rng.standard_normal((5, 2, 6)), rng.standard_normal((4, 2, 6))
    agree(*pair("Transformer", 6, 2, 2, 1, 8, 0.0), [src, tgt],
          tgt_mask=np.asarray(nn.Transformer.generate_square_subsequent_mask(4, dtype=kdl.float64)),
          src_key_padding_mask=PADDED, memory_key_padding_mask=PADDED, tgt_is_causal=True)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, dtype=kdl.float64), 2).eval()
    theirs = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(6, 2, 8, dtype=torch.float64), 2,
                                         enable_nested_tensor=False).eval()
    theirs.load_state_dict({k: torch.from_numpy(v.array) for k, v in encoder.state_dict().items()})
    np.testing.assert_allclose(encoder(kdl.tensor(src)).detach().array,
                               theirs(torch.from_numpy(src)).detach().numpy(), atol=1e-12)
    mask = nn.Transformer.generate_square_subsequent_mask(3)
    assert mask.dtype == kdl.float32 and mask.tolist()[1] == [0.0, 0.0, -math.inf]


x = kdl.zeros(2, 3, 4)


@pytest.mark.parametrize("call, error, message", [
    (lambda: F.scaled_dot_product_attention(x, x, kdl.zeros(2, 5, 4)), ValueError, r"key \(..., S, E\)"),
    (lambda: F.scaled_dot_product_attention(x, kdl.zeros(3, 3, 4), x), ValueError, "leading dimensions that broadcast"),
    (lambda: F.scaled_dot_product_attention(x, x, x.double()), TypeError, "tensors of one dtype"),
    (lambda: F.scaled_dot_product_attention(x, x, x, kdl.zeros(3, 4)), ValueError, "an attn_mask that broadcasts"),
    (lambda: F.scaled_dot_product_attention(x, x, x, kdl.zeros(3, 3).long()), TypeError, "attn_mask of dtype bool"),
    (lambda: F.scaled_dot_product_attention(x, x, x, kdl.zeros(3, 3), is_causal=True), ValueError, "either attn_mask"),
    (lambda: F.scaled_dot_product_attention(x, x, x, dropout_p=2.0), ValueError, r"dropout_p in \[0, 1\]"),
    (lambda: F.scaled_dot_product_attention(kdl.zeros(3, 2, 4), x, x, enable_gqa=True), ValueError,
     "numbers of heads that divide"),
    (lambda: nn.MultiheadAttention(6, 4), ValueError, "num_heads > 0 that divides it"),
    (lambda: nn.MultiheadAttention(4, 2)(x, x, kdl.zeros(2, 3, 5)), ValueError, "last dimensions of embed_dim"),
    (lambda: nn.MultiheadAttention(4, 2)(x, x, kdl.zeros(1, 3, 4)), ValueError, "keys and values of one length"),
    (lambda: nn.MultiheadAttention(4, 2)(x, x, x, attn_mask=kdl.zeros(3, 3)), ValueError,
     r"attn_mask of shape \(2, 2\)"),
    (lambda: nn.MultiheadAttention(4, 2)(x, x, x, kdl.zeros(2, 3)), ValueError, r"key_padding_mask of shape \(3, 2\)"),
    (lambda: nn.TransformerEncoderLayer(4, 2, activation="tan"), ValueError, "activation 'relu', 'gelu'"),
    (lambda: nn.Transformer(4, 2, 1, 1)(x, kdl.zeros(2, 4, 4)), ValueError, "src and tgt of one batch"),
])
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- in blocks of queries ---
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-11), ("float32", 3e-5)])
@pytest.mark.parametrize("L, S, causal, mask", [
    (70, 70, True, None), (130, 200, True, None), (200, 33, True, None), (130, 75, False, None),
    (70, 40, False, "rows"), (70, 40, False, "keys"), (70, 40, False, "queries")])
def test_blocks_of_scores(L, S, causal, mask, dtype, tolerance):
    """The kernel, of views of one projection, against the reference's formula over all scores at once."""
    rng = np.random.default_rng(3)
    q, kv = rng.standard_normal((2, L, 3, 8)).astype(dtype), rng.standard_normal((2, S, 2, 3, 8)).astype(dtype)
    added = {None: None, "rows": rng.random((L, S)) < 0.7, "keys": rng.standard_normal((2, 1, 1, S)).astype(dtype),
             "queries": rng.standard_normal((3, L, 1)).astype(dtype)}[mask]
    upstream = rng.standard_normal((2, 3, L, 8)).astype(dtype)
    results = []
    for library, tensor, kind in ((kdl, kdl.tensor, dtype), (torch, torch.tensor, "float64")):
        x, y = [tensor(a.astype(kind)).requires_grad_() for a in (q, kv)]
        given = added if added is None else tensor(added if added.dtype == bool else added.astype(kind))
        heads = x.transpose(1, 2), y[:, :, 0].transpose(1, 2), y[:, :, 1].transpose(1, 2)
        z = library.nn.functional.scaled_dot_product_attention(*heads, given, 0.0, causal)
        if library is kdl:
            assert z.grad_fn.fused
        z.backward(tensor(upstream.astype(kind)))
        results.append([np.asarray(a) for a in (z.detach(), x.grad, y.grad)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_a_query_that_may_look_nowhere_gets_0_and_gives_no_gradient():
    x = kdl.randn(1, 2, 3, 4).requires_grad_()
    mask = kdl.ones(3, 3, dtype=kdl.bool)
    mask[1] = False
    y = F.scaled_dot_product_attention(x, x.detach(), x.detach(), mask)
    y.sum().backward()
    assert (y[:, :, 1] == 0).all() and (x.grad[:, :, 1] == 0).all() and (y[:, :, 0] != 0).all()


def test_attention_of_what_is_not_a_number_is_not_a_number():
    x = kdl.randn(1, 1, 3, 4)
    x[0, 0, 1, 2] = math.nan
    y = F.scaled_dot_product_attention(kdl.randn(1, 1, 3, 4), x, kdl.randn(1, 1, 3, 4), is_causal=True)
    assert y.isnan().any(-1).tolist() == [[[False, True, True]]]
