"""Recurrent layers against torch over generated arguments: layers, directions, packed batches, refusals."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kdl
from kdl import kernels, nn
from kdl.nn.utils import rnn as packing

torch = pytest.importorskip("torch", reason="layers are compared with torch: pip install 'kdl-kernels[test]'")
theirs_packing = torch.nn.utils.rnn


def pair(name, *args, seed=0, **options):
    """The layer here and in torch, in float64, with the same weights."""
    ours, theirs = getattr(nn, name)(*args, **options).double(), getattr(torch.nn, name)(*args, **options).double()
    assert repr(ours) == repr(theirs)
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.from_numpy(rng.standard_normal(tuple(p.shape)) / 2))
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    return ours, theirs


def flat(result):
    """The tensors of nested tuples."""
    return [t for part in result for t in flat(part)] if isinstance(result, (tuple, list)) else [result]


def agree(ours, theirs, inputs, call):
    """Values and all gradients of call(layer, tensors, module of packing functions)."""
    results = []
    for layer, tensor, library in ((ours, kdl.tensor, packing), (theirs, torch.tensor, theirs_packing)):
        leaves = [tensor(a, requires_grad=True) for a in inputs]
        outputs = [y for y in flat(call(layer, leaves, library)) if y.requires_grad]
        rng = np.random.default_rng(5)
        total = sum((y * tensor(rng.standard_normal(tuple(y.shape)))).sum() for y in outputs)
        layer.zero_grad()
        total.backward()
        results.append([np.asarray(y.detach()) for y in outputs] + [np.asarray(x.grad) for x in leaves]
                       + [np.asarray(p.grad) for p in layer.parameters()])
    for i, (a, b) in enumerate(zip(*results, strict=True)):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9, err_msg=f"result {i}")


@st.composite
def layers(draw):
    name = draw(st.sampled_from(["RNN", "LSTM", "GRU"]))
    hidden = draw(st.integers(1, 5))
    options = {"num_layers": draw(st.integers(1, 3)), "bias": draw(st.booleans()), "batch_first": draw(st.booleans()),
               "bidirectional": draw(st.booleans())}
    if name == "RNN":
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    if name == "LSTM":
        options["proj_size"] = draw(st.integers(0, hidden - 1))
    return name, (draw(st.integers(1, 4)), hidden), options


def states(name, options, hidden, batch, rng):
    """First states as arrays: h, and c for an LSTM."""
    places = options["num_layers"] * (1 + options["bidirectional"])
    sizes = [options.get("proj_size") or hidden, hidden][:1 + (name == "LSTM")]
    return [rng.standard_normal((places, *batch, size)) for size in sizes]


@settings(max_examples=40, deadline=None)
@given(layers(), st.integers(1, 4), st.integers(0, 3), st.booleans(), st.booleans())
def test_layers(layer, steps, batch, alone, given_state):
    name, (inputs, hidden), options = layer
    rng = np.random.default_rng(1)
    shape = (batch, steps, inputs) if options["batch_first"] else (steps, batch, inputs)
    x = rng.standard_normal((steps, inputs) if alone else shape)
    first = states(name, options, hidden, () if alone else (batch,), rng) if given_state else []
    agree(*pair(name, inputs, hidden, **options), [x, *first],
          lambda layer, t, _: layer(t[0], *([tuple(t[1:]) if name == "LSTM" else t[1]] if first else [])))


@settings(max_examples=40, deadline=None)
@given(layers(), st.lists(st.integers(1, 5), min_size=1, max_size=4), st.booleans(), st.booleans())
def test_packed_batches(layer, lengths, in_order, given_state):
    name, (inputs, hidden), options = layer
    lengths = sorted(lengths, reverse=True) if in_order else lengths
    rng = np.random.default_rng(2)
    first = options["batch_first"]
    x = rng.standard_normal((len(lengths), 6, inputs) if first else (6, len(lengths), inputs))
    state = states(name, options, hidden, (len(lengths),), rng) if given_state else []

    def call(layer, t, library):
        packed = library.pack_padded_sequence(t[0], lengths, batch_first=first, enforce_sorted=in_order)
        y, last = layer(packed, *([tuple(t[1:]) if name == "LSTM" else t[1]] if state else []))
        padded, back = library.pad_packed_sequence(y, batch_first=first, padding_value=0.5, total_length=7)
        assert back.tolist() == list(lengths)
        return padded, last
    agree(*pair(name, inputs, hidden, **options), [x, *state], call)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("hidden, dtype, tolerance", [(8, kdl.float64, 1e-10), (8, kdl.float32, 1e-4),
                                                      (37, kdl.float32, 1e-4)])
def test_parts_of_a_large_batch_agree_with_the_reference(name, reverse, hidden, dtype, tolerance):
    rng = np.random.default_rng(3)
    lengths = np.sort(rng.integers(1, 10, 70))[::-1].copy()  # 9 steps: enough for the tiles
    layer = getattr(nn, name)(3, hidden, bidirectional=reverse, dtype=dtype)
    x = rng.standard_normal((9, 70, 3))
    results = []
    for namespace in ("cpu", "reference"):
        with kernels.use(namespace):
            packed = packing.pack_padded_sequence(kdl.tensor(x, dtype=dtype, requires_grad=True), lengths.tolist())
            y = layer(packed)[0].data
            layer.zero_grad()
            (y * y).sum().backward()
        results.append([y.detach().array] + [p.grad.array for p in layer.parameters()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("name, options", [
    ("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu"}), ("LSTMCell", {}), ("GRUCell", {}),
    ("LSTMCell", {"bias": False}), ("GRUCell", {"bias": False})])
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("given_state", [False, True])
def test_cells(name, options, alone, given_state):
    rng = np.random.default_rng(4)
    batch = () if alone else (2,)
    first = [rng.standard_normal((*batch, 4)) for _ in range(1 + (name == "LSTMCell"))] if given_state else []
    agree(*pair(name, 3, 4, **options), [rng.standard_normal((*batch, 3)), *first],
          lambda layer, t, _: layer(t[0], *([tuple(t[1:]) if name == "LSTMCell" else t[1]] if first else [])))


def test_dropout_stands_between_the_layers_in_training_only():
    kdl.manual_seed(0)
    layer = nn.GRU(3, 4, num_layers=2, dropout=1.0)
    x = kdl.randn(5, 2, 3)
    alone = nn.GRU(4, 4)  # the second layer, over what dropout leaves: zeros
    alone.load_state_dict({k.replace("l1", "l0"): v for k, v in layer.state_dict().items() if "l1" in k})
    np.testing.assert_allclose(layer(x)[0].detach().array, alone(kdl.zeros(5, 2, 4))[0].detach().array, atol=1e-6)
    layer.eval()
    np.testing.assert_array_equal(layer(x)[0].detach().array, layer(x)[0].detach().array)
    assert not np.allclose(layer(x)[0].detach().array, alone(kdl.zeros(5, 2, 4))[0].detach().array, atol=1e-3)
    with pytest.warns(UserWarning, match="between layers"):
        nn.LSTM(3, 4, dropout=0.5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.booleans(), st.sampled_from(["left", "right"]))
def test_sequences_of_different_lengths(lengths, batch_first, side):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((n, 2)) for n in lengths]
    ours, theirs = [kdl.tensor(a) for a in arrays], [torch.tensor(a) for a in arrays]
    padded = packing.pad_sequence(ours, batch_first, 0.5, side)
    np.testing.assert_array_equal(padded.array, theirs_packing.pad_sequence(theirs, batch_first, 0.5, side).numpy())
    a, b = packing.pack_sequence(ours, False), theirs_packing.pack_sequence(theirs, False)
    np.testing.assert_array_equal(a.data.array, b.data.numpy())
    np.testing.assert_array_equal(a.batch_sizes.array, b.batch_sizes.numpy())
    for mine, array in zip(packing.unpack_sequence(a), arrays, strict=True):
        np.testing.assert_array_equal(mine.array, array)
    if side == "right":
        for mine, array in zip(packing.unpad_sequence(padded, lengths, batch_first), arrays, strict=True):
            np.testing.assert_array_equal(mine.array, array)


x = kdl.zeros(5, 2, 3)


@pytest.mark.parametrize("call, error, message", [
    (lambda: nn.LSTM(3, 4)(kdl.zeros(5, 2, 7)), ValueError, "LSTM: expected an input .* the last of input_size"),
    (lambda: nn.LSTM(3, 4)(kdl.zeros(5)), ValueError, "LSTM: expected an input of 2 or 3 dimensions"),
    (lambda: nn.LSTM(3, 4)(x, kdl.zeros(1, 2, 4)), TypeError, "LSTM: expected hx to be a pair"),
    (lambda: nn.GRU(3, 4)(x, kdl.zeros(1, 3, 4)), ValueError, r"gru: expected h of shape \(1, 2, H\)"),
    (lambda: nn.GRU(3, 4)(x, kdl.zeros(1, 2, 5)), ValueError, r"gru: expected h.shape\[-1\] == 4"),
    (lambda: nn.GRU(3, 4)(x.double()), TypeError, "gru: expected tensors of one dtype"),
    (lambda: nn.GRU(3, 4)(kdl.zeros(0, 2, 3)), ValueError, "gru: expected a sequence of at least one step"),
    (lambda: nn.RNN(3, 4, nonlinearity="sin"), ValueError, "RNN: expected nonlinearity 'tanh' or 'relu'"),
    (lambda: nn.LSTM(3, 4, proj_size=4), ValueError, "LSTM: expected proj_size smaller than hidden_size"),
    (lambda: nn.LSTM(3, 0), ValueError, "LSTM: expected hidden_size > 0"),
    (lambda: nn.LSTM(3, 4, dropout=1.5), ValueError, r"LSTM: expected dropout in \[0, 1\]"),
    (lambda: nn.LSTMCell(3, 4)(kdl.zeros(2, 5)), ValueError, "LSTMCell: expected an input"),
    (lambda: nn.GRUCell(3, 4)(kdl.zeros(2, 3), kdl.zeros(3, 4)), ValueError, "GRUCell: expected states"),
    (lambda: packing.pack_padded_sequence(x, [2, 3]), ValueError, "lengths that never grow; or pass enforce_sorted"),
    (lambda: packing.pack_padded_sequence(x, [6, 3]), ValueError, "lengths from 1 to 5"),
    (lambda: packing.pack_padded_sequence(x, [3]), ValueError, "a length for each sequence"),
    (lambda: packing.pad_sequence([]), ValueError, "sequences that differ in the first dimension only"),
])
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
