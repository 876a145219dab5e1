"""Shape operations: generated arguments against torch, views and copies, what is refused."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kdl
import kdl.nn.functional as F

torch = pytest.importorskip("torch", reason="shape operations are compared with torch: pip install 'kdl-kernels[test]'")
pytestmark = pytest.mark.filterwarnings("ignore:grad and param do not obey")  # torch, of empty gradients
few = settings(max_examples=40, deadline=None)


def agree(function, *arrays):
    """The same values and gradients from function(kdl, tensors...) and function(torch, tensors...)."""
    results = []
    for lib, make in ((kdl, lambda a: kdl.Tensor(a.copy(), requires_grad=True)),
                      (torch, lambda a: torch.tensor(a, requires_grad=True))):
        leaves = [make(a) for a in arrays]
        outputs = function(lib, *leaves)
        outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        for i, y in enumerate(outputs):
            weights = np.cos(np.arange(y.numel()) + i).reshape(tuple(y.shape))
            (y * (kdl.Tensor(weights) if lib is kdl else torch.tensor(weights))).sum().backward(retain_graph=True)
        results.append(([y.detach().numpy() for y in outputs], [x.grad for x in leaves]))
    for a, b in zip(results[0][0], results[1][0], strict=True):
        assert a.shape == b.shape
        np.testing.assert_array_equal(a, b)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-12)


def array(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


shapes = st.lists(st.integers(0, 4), min_size=0, max_size=4).map(tuple)


# --- generated arguments ---
@few
@given(shape=shapes, data=st.data())
def test_reshape_and_view(shape, data):
    sizes = list(data.draw(st.permutations(shape)))
    if sizes and data.draw(st.booleans()) and all(sizes):
        sizes[data.draw(st.integers(0, len(sizes) - 1))] = -1
    split = data.draw(st.integers(0, len(sizes)))
    sizes.insert(split, 1)
    agree(lambda lib, x: x.reshape(sizes), array(shape))
    agree(lambda lib, x: x.view(*sizes), array(shape))
    agree(lambda lib, x: lib.reshape(x, tuple(sizes)), array(shape))


@few
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple), data=st.data())
def test_permutations(shape, data):
    dims = data.draw(st.permutations(range(len(shape))))
    dims = [d - len(shape) if data.draw(st.booleans()) else d for d in dims]
    agree(lambda lib, x: x.permute(*dims), array(shape))
    a, b = data.draw(st.sampled_from(dims)), data.draw(st.sampled_from(dims))
    agree(lambda lib, x: x.transpose(a, b), array(shape))
    n = data.draw(st.integers(1, len(shape)))
    targets = data.draw(st.permutations(range(len(shape))))[:n]
    agree(lambda lib, x: lib.movedim(x, tuple(dims[:n]), tuple(targets)), array(shape))
    agree(lambda lib, x: lib.flip(x, tuple(dims[:n])), array(shape))
    shifts = data.draw(st.lists(st.integers(-5, 5), min_size=n, max_size=n))
    agree(lambda lib, x: lib.roll(x, tuple(shifts), tuple(dims[:n])), array(shape))


@few
@given(shape=shapes, data=st.data())
def test_expand_repeat_and_tile(shape, data):
    shape = tuple(data.draw(st.sampled_from([n, 1])) for n in shape)
    new = data.draw(st.lists(st.integers(0, 3), max_size=2))
    sizes = new + [data.draw(st.sampled_from([n, -1] if n != 1 else [1, 2, -1])) for n in shape]
    agree(lambda lib, x: x.expand(sizes), array(shape))
    repeats = data.draw(st.lists(st.integers(0, 3), min_size=len(shape), max_size=len(shape) + 2))
    if repeats:
        agree(lambda lib, x: x.repeat(*repeats), array(shape))
        agree(lambda lib, x: lib.tile(x, tuple(repeats[:2])), array(shape))
    if shape:
        dim = data.draw(st.integers(-len(shape), len(shape) - 1))
        counts = data.draw(st.lists(st.integers(0, 3), min_size=shape[dim], max_size=shape[dim]))
        agree(lambda lib, x: lib.repeat_interleave(x, 3, dim), array(shape))
        if shape[dim] != 1:
            agree(lambda lib, x: lib.repeat_interleave(x, lib.tensor(counts, dtype=lib.int64), dim), array(shape))


@few
@given(shape=shapes, data=st.data())
def test_squeeze_unsqueeze_and_flatten(shape, data):
    shape = tuple(data.draw(st.sampled_from([n, 1])) for n in shape)
    n = max(len(shape), 1)
    agree(lambda lib, x: lib.squeeze(x), array(shape))
    dims = sorted({data.draw(st.integers(-n, n - 1)) % n for _ in range(2)})
    agree(lambda lib, x: x.squeeze(tuple(dims)), array(shape))
    agree(lambda lib, x: x.flatten(dims[0], dims[-1]), array(shape))
    dim = data.draw(st.integers(-len(shape) - 1, len(shape)))
    agree(lambda lib, x: x.unsqueeze(dim), array(shape))


@few
@given(shape=st.lists(st.integers(0, 7), min_size=1, max_size=3).map(tuple), data=st.data())
def test_splitting(shape, data):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    n = shape[dim]
    size = data.draw(st.integers(1, 8))
    agree(lambda lib, x: x.split(size, dim), array(shape))
    agree(lambda lib, x: x.chunk(size, dim), array(shape))
    agree(lambda lib, x: x.tensor_split(size, dim), array(shape))
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=3)))
    sections = np.diff([0, *cuts, n]).tolist()
    agree(lambda lib, x: x.split(sections, dim), array(shape))
    anywhere = data.draw(st.lists(st.integers(-n - 2, n + 2), min_size=1, max_size=3))
    agree(lambda lib, x: lib.tensor_split(x, tuple(anywhere), dim), array(shape))
    agree(lambda lib, x: x.unbind(dim), array(shape))
    start = data.draw(st.integers(-n, n))
    length = data.draw(st.integers(0, n - start if start >= 0 else -start))
    agree(lambda lib, x: x.narrow(dim, start, length), array(shape))


@few
@given(shape=st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple), data=st.data())
def test_joining(shape, data):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    lengths = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    parts = [array((*shape[:dim % len(shape)], n, *shape[dim % len(shape) + 1:]), n) for n in lengths]
    agree(lambda lib, *xs: lib.cat(xs, dim), *parts)
    agree(lambda lib, x: lib.cat([x, x * 2, x], dim), parts[0])
    place = data.draw(st.integers(-len(shape) - 1, len(shape)))
    agree(lambda lib, x, y: lib.stack([x, y, x], place), array(shape), array(shape, 1))


@few
@given(shape=st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple), data=st.data())
def test_diagonals(shape, data):
    dims = data.draw(st.permutations(range(-len(shape), 0)))[:2]
    offset = data.draw(st.integers(-5, 5))
    agree(lambda lib, x: lib.tril(x, offset), array(shape))
    agree(lambda lib, x: lib.triu(x, offset), array(shape))
    agree(lambda lib, x: lib.diag_embed(x, offset, *dims), array(shape))
    if -shape[dims[0]] <= offset <= shape[dims[1]]:
        agree(lambda lib, x: lib.diagonal(x, offset, *dims), array(shape))


@few
@given(data=st.data(), mode=st.sampled_from(["reflect", "replicate", "circular", "constant"]))
def test_pad(data, mode):
    n = data.draw(st.integers(1, 3))
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=n + 1, max_size=n + 2)))
    widths = []
    for length in reversed(shape[-n:]):
        most = {"reflect": length - 1, "circular": length}.get(mode, 4)
        least = 0 if mode == "circular" else 1 - length  # torch wraps around more than once where a cut comes first
        left = data.draw(st.integers(least, most))
        widths += [left, data.draw(st.integers(least - min(left, 0), most))]
    while min(n + a + b for n, a, b in zip(shape[::-1], widths[::2], widths[1::2], strict=False)) < 1:
        widths = [abs(w) // 2 for w in widths]
    agree(lambda lib, x: (F if lib is kdl else torch.nn.functional).pad(x, widths, mode), array(shape))


# --- views and copies ---
VIEWS = {
    "reshape": lambda x: x.reshape(6, 4), "view": lambda x: x.view(-1), "flatten": lambda x: x.flatten(1),
    "unflatten": lambda x: x.unflatten(2, (2, 2)), "permute": lambda x: x.permute(2, 0, 1), "T": lambda x: x[0].T,
    "mT": lambda x: x.mT, "transpose": lambda x: x.transpose(0, 1), "movedim": lambda x: x.movedim(0, -1),
    "squeeze": lambda x: x[:1].squeeze(0), "unsqueeze": lambda x: x.unsqueeze(1), "select": lambda x: x.select(1, 0),
    "narrow": lambda x: x.narrow(2, 1, 2), "split": lambda x: x.split(2)[0], "chunk": lambda x: x.chunk(2, 1)[1],
    "unbind": lambda x: x.unbind(2)[3], "diagonal": lambda x: x.diagonal(), "index": lambda x: x[0, 1:, None],
    "element": lambda x: x[1, 2, 3], "all": lambda x: x[...], "view_as": lambda x: x.view_as(kdl.zeros(8, 3)),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_share_memory_and_changes(name):
    x = kdl.zeros(2, 3, 4)
    y = VIEWS[name](x)
    assert np.shares_memory(x.array, y.array) and y.version is x.version
    y.fill_(5)
    assert x.sum().item() == 5 * y.numel() and x.version[0] == 1


def test_copies_share_nothing():
    x = kdl.ones(3, 3)
    for y in (x.flip(0), x.roll(1), x.repeat(1, 1), x.tile(1), x.repeat_interleave(1, 0), x.tril(), x.diag(), x[[0, 1]],
              x[x > 0]):
        assert not np.shares_memory(x.array, y.array)


def test_expanded_views_cannot_be_written_to():
    x = kdl.zeros(3, 1).expand(3, 4)
    assert x.array.strides[1] == 0
    with pytest.raises((ValueError, RuntimeError), match="read-only"):
        x.fill_(1)


def test_view_refuses_what_only_a_copy_can_give():
    x, t = kdl.zeros(4, 3).T, torch.zeros(4, 3).T
    with pytest.raises(ValueError, match=r"view: expected a shape whose dimensions are contiguous.*use .reshape"):
        x.view(12)
    with pytest.raises(RuntimeError):
        t.view(12)
    assert x.view(3, 2, 2).shape == t.view(3, 2, 2).shape == (3, 2, 2)
    assert x.reshape(12).shape == (12,)
    assert kdl.zeros(0, 3).T.view(0).shape == (0,)


def test_cat_keeps_channels_last_and_promotes():
    x = kdl.randn(2, 3, 4, 5).to(memory_format=kdl.channels_last)
    assert kdl.cat([x, x], 1).is_contiguous(memory_format=kdl.channels_last)
    assert F.pad(x, (1, 1)).is_contiguous(memory_format=kdl.channels_last)
    mixed = kdl.cat([kdl.ones(2, dtype=kdl.float16), kdl.ones(1, dtype=kdl.int64), kdl.ones(1, dtype=kdl.bool)])
    assert mixed.dtype == kdl.float16 and kdl.stack([kdl.ones(1), kdl.ones(1, dtype=kdl.float64)]).dtype == kdl.float64


def test_methods_that_torch_has_only_as_methods():
    x = array((2, 3, 4))
    agree(lambda lib, x: x.reshape_as(lib.zeros(4, 6)), x)
    agree(lambda lib, x: x.view_as(lib.zeros(6, 4)), x)
    agree(lambda lib, x: x[:, :1].expand_as(lib.zeros(2, 3, 4)), x)
    agree(lambda lib, x: x[0].T + x[1].t(), x)
    agree(lambda lib, x: x.mT, x)
    lower, upper = kdl.Tensor(x.copy()), kdl.Tensor(x.copy())
    assert lower.tril_(1) is lower and upper.triu_() is upper
    np.testing.assert_array_equal(lower.numpy(), np.tril(x, 1))
    np.testing.assert_array_equal(upper.numpy(), np.triu(x))


def test_ints_may_be_tensors_arrays_or_numpy_numbers():
    x = kdl.zeros(2, 3)
    assert x.reshape(np.int64(3), kdl.tensor(2)).shape == (3, 2) == x.reshape([3, 2]).shape
    assert x.reshape(shape=(3, 2)).shape == (3, 2)
    assert x.permute(dims=(1, 0)).shape == (3, 2) and x.select(np.int32(1), kdl.tensor(2)).shape == (2,)


# --- what is refused ---
REFUSED = {
    "reshape: expected a shape of 6 elements": lambda lib, x: x.reshape(4),
    "reshape: expected a shape of 6 elements, with at most one -1": lambda lib, x: x.reshape(-1, -1),
    "got shape (-2, -3)": lambda lib, x: x.reshape(-2, -3),
    "got shape (0, -1), input (0, 3)": lambda lib, x: x[:0].reshape(0, -1),
    "reshape: expected shape to be ints, got (1.5,)": lambda lib, x: x.reshape(1.5),
    "reshape: unexpected keyword argument 'size'": lambda lib, x: x.reshape(size=(6,)),
    "permute: expected every dimension once, got dims (0, 0)": lambda lib, x: x.permute(0, 0),
    "permute: expected dim in [-2, 1], got 2": lambda lib, x: x.permute(0, 2),
    "transpose: expected dim in [-2, 1], got 2": lambda lib, x: x.transpose(0, 2),
    "t: expected a tensor of at most 2 dimensions": lambda lib, x: x[None].t(),
    "mT": lambda lib, x: x[0].mT,
    "movedim: expected as many sources as destinations": lambda lib, x: x.movedim((0, 1), 0),
    "movedim: expected every dim once": lambda lib, x: x.movedim((0, 0), (0, 1)),
    "flatten: expected start_dim before end_dim": lambda lib, x: x.flatten(1, 0),
    "unflatten: expected sizes that multiply to input.shape[1]": lambda lib, x: x.unflatten(1, (2, 2)),
    "unsqueeze: expected dim in [-3, 2], got 3": lambda lib, x: x.unsqueeze(3),
    "squeeze: expected dim in [-2, 1], got 2": lambda lib, x: x.squeeze(2),
    "expand: expected lengths of the input": lambda lib, x: x.expand(4, 3),
    "expand: expected lengths of the input, or any for its dimensions of length 1, got size (-1, 2, 3)":
        lambda lib, x: x.expand(-1, 2, 3),
    "expand: expected lengths": lambda lib, x: x.expand(3),
    "broadcast_tensors: expected shapes that broadcast": lambda lib, x: lib.broadcast_tensors(x, x.T),
    "select: expected index in [-3, 2] for dim 1, got 3": lambda lib, x: x.select(1, 3),
    "select: expected a tensor with dimensions": lambda lib, x: x.sum().select(0, 0),
    "narrow: expected 0 <= length <= 3 - start, got start 1, length 3": lambda lib, x: x.narrow(1, 1, 3),
    "narrow: expected start in [-3, 3]": lambda lib, x: x.narrow(1, 4, 0),
    "diagonal: expected two different dimensions": lambda lib, x: x.diagonal(0, 1, 1),
    "diag: expected a vector or a matrix": lambda lib, x: x[None].diag(),
    "diag_embed: expected two different dimensions": lambda lib, x: x.diag_embed(0, 1, 1),
    "trace: expected a matrix": lambda lib, x: x[0].trace(),
    "tril: expected a tensor of at least 2 dimensions": lambda lib, x: x[0].tril(),
    "flip: expected every dim once": lambda lib, x: x.flip(0, 0),
    "fliplr": lambda lib, x: x[0].fliplr(),
    "roll: expected as many shifts as dims": lambda lib, x: x.roll((1, 2), 0),
    "roll: expected one shift when dims are not given": lambda lib, x: x.roll((1, 2)),
    "repeat: expected one repeat of at least 0 per dimension": lambda lib, x: x.repeat(2),
    "repeat: expected one repeat of at least 0": lambda lib, x: x.repeat(2, -1),
    "repeat_interleave: expected 3 repeats": lambda lib, x: x.repeat_interleave(lib.tensor([1, 2]), 1),
    "repeat_interleave: expected integer repeats": lambda lib, x: x.repeat_interleave(lib.tensor([1.0, 2.0]), 0),
    "repeat_interleave: expected repeats of at least 0": lambda lib, x: x.repeat_interleave(-1, 0),
    "repeat_interleave: expected output_size 4": lambda lib, x: x.repeat_interleave(
        lib.tensor([2, 2]), 0, output_size=5),
    "cannot be interpreted as an integer": lambda lib, x: x.select(0, 0.5),
    "'float' object cannot be interpreted as an integer": lambda lib, x: x.split(1.5),
    "cat: expected a list or tuple of at least one tensor": lambda lib, x: lib.cat([]),
    "cat: expected shapes that differ in dimension 0 only, got tensors [(2, 3), (3, 2)]":
        lambda lib, x: lib.cat([x, x.T]),
    "cat: expected tensors with dimensions": lambda lib, x: lib.cat([x.sum(), x.sum()]),
    "cat: expected tensors[1] to be a Tensor, got int": lambda lib, x: lib.cat([x, 3]),
    "stack: expected tensors of one shape": lambda lib, x: lib.stack([x, x.T]),
    "stack: expected dim in [-3, 2]": lambda lib, x: lib.stack([x, x], 3),
    "split: expected sizes that add up to 3": lambda lib, x: x.split([1, 1], 1),
    "split: expected a size of at least 1": lambda lib, x: x.split(0),
    "chunk: expected at least 1 chunk": lambda lib, x: x.chunk(0),
    "tensor_split: expected at least 1 section": lambda lib, x: x.tensor_split(0),
    "unbind: expected a tensor with dimensions": lambda lib, x: x.sum().unbind(),
    "meshgrid: expected tensors of at most one dimension": lambda lib, x: lib.meshgrid(x, x, indexing="ij"),
    "meshgrid: expected indexing 'ij' or 'xy', got indexing ab": lambda lib, x: lib.meshgrid(x[0], indexing="ab"),
    "meshgrid: expected tensors of one dtype": lambda lib, x: lib.meshgrid(x[0], x[0].long(), indexing="ij"),
    "reshape: expected input to be a Tensor, got list; use kdl.tensor(...)": lambda lib, x: lib.reshape([1, 2], (2,)),
    "pad: expected 2 numbers for each of the last dimensions": lambda lib, x: pad(lib)(x, (1,)),
    "pad: expected 2 numbers": lambda lib, x: pad(lib)(x, (1,) * 6),
    "pad: expected lengths of at least 0 after padding": lambda lib, x: pad(lib)(x, (-2, -2)),
    "pad: expected mode 'constant'": lambda lib, x: pad(lib)(x, (1, 1), "mirror"),
    "pad: expected padding of at most the length - 1 in mode 'reflect'": lambda lib, x: pad(lib)(x, (3, 0), "reflect"),
    "pad: expected padding of at most the length in mode 'circular'": lambda lib, x: pad(lib)(x, (4, 0), "circular"),
    "pad: expected 1, 2 or 3 padded dimensions": lambda lib, x: pad(lib)(x, (1, 1, 1, 1), "reflect"),
    "pad: expected no value in mode 'reflect'": lambda lib, x: pad(lib)(x, (1, 1), "reflect", 2.0),
    "pad: expected lengths above 0": lambda lib, x: pad(lib)(x[:, :0], (1, 1), "replicate"),
    "pad: expected a tuple of ints": lambda lib, x: pad(lib)(x, (1.5, 1)),
}


def pad(lib):
    return (F if lib is kdl else torch.nn.functional).pad


@pytest.mark.parametrize("text", REFUSED)
def test_refused_with_one_sentence_as_torch_refuses(text):
    call = REFUSED[text]
    with pytest.raises((ValueError, TypeError, IndexError)) as caught:
        call(kdl, kdl.zeros(2, 3))
    assert text in str(caught.value)
    with pytest.raises((ValueError, TypeError, IndexError, RuntimeError, NotImplementedError)):
        call(torch, torch.zeros(2, 3))
