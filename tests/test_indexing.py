"""x[key], selection by index tensors and masks, sorting and counting: generated arguments against torch."""
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import kdl
import kdl.nn.functional as F

torch = pytest.importorskip("torch", reason="indexing is compared with torch: pip install 'kdl-kernels[test]'")
few = settings(max_examples=50, deadline=None)


def array(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def in_library(lib, value):
    """A key or argument with its arrays as tensors of the library."""
    if isinstance(value, np.ndarray):
        return lib.tensor(value)
    return tuple(in_library(lib, v) for v in value) if isinstance(value, tuple) else value


def agree(function, *arrays, args=()):
    """The same values and gradients from function(lib, tensors..., args...) for kdl and torch."""
    results = []
    for lib, make in ((kdl, lambda a: kdl.Tensor(a.copy(), requires_grad=True)),
                      (torch, lambda a: torch.tensor(a, requires_grad=True))):
        leaves = [make(a) for a in arrays]
        y = function(lib, *leaves, *[in_library(lib, a) for a in args])
        weights = np.cos(np.arange(y.numel())).reshape(tuple(y.shape))
        if y.requires_grad:
            (y * (kdl.Tensor(weights) if lib is kdl else torch.tensor(weights))).sum().backward()
        results.append((y.detach().numpy(), [x.grad for x in leaves]))
    (a, ours), (b, theirs) = results
    assert a.shape == b.shape and a.dtype == b.dtype
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    for g, t in zip(ours, theirs, strict=True):
        assert (g is None) == (t is None)
        if g is not None:
            np.testing.assert_allclose(g.numpy(), t.numpy(), rtol=1e-9, atol=1e-12)


# --- keys ---
@st.composite
def keys(draw, shape):
    """A key for a tensor of the shape: ints, slices, None, Ellipsis, masks and integer arrays that broadcast."""
    lengths = draw(st.sampled_from([(3,), (2, 1), (0,)]))  # of the integer arrays
    first = draw(st.integers(0, len(shape)))
    last = draw(st.integers(first, len(shape)))

    def item(n):
        kinds = ["slice", "slice"] + (["int", "array", "array"] if n else [])
        kind = draw(st.sampled_from([*kinds, "mask"] if n > 2 and lengths == (3,) else kinds))
        if kind == "int":
            return draw(st.integers(-n, n - 1))
        if kind == "slice":
            ends = st.one_of(st.none(), st.integers(-n - 1, n + 1))
            return slice(draw(ends), draw(ends), draw(st.sampled_from([None, 1, 2, 3])))
        if kind == "mask":  # of three positions, which broadcast with arrays of shape (3,)
            return np.isin(np.arange(n), draw(st.permutations(range(n)))[:3])
        size = int(np.prod(lengths))
        values = draw(st.lists(st.integers(-n, n - 1), min_size=size, max_size=size))
        return np.array(values, draw(st.sampled_from([np.int64, np.int32]))).reshape(lengths)
    key = [item(n) for n in shape[:first]]
    if draw(st.booleans()):
        key += [..., *[item(n) for n in shape[last:]]]
    for _ in range(draw(st.integers(0, 2))):
        key.insert(draw(st.integers(0, len(key))), None)
    return tuple(key)


def shapes(low=0):
    return st.lists(st.integers(low, 4), min_size=1, max_size=4).map(tuple)


@settings(max_examples=150, deadline=None)
@given(shape=shapes(), data=st.data())
def test_reading_by_key(shape, data):
    key = data.draw(keys(shape))
    agree(lambda lib, x, *k: x[k], array(shape), args=key)


@settings(max_examples=100, deadline=None)
@given(shape=shapes(), data=st.data())
def test_writing_by_key(shape, data):
    key = data.draw(keys(shape))
    places = np.arange(np.prod(shape)).reshape(shape)
    target = torch.tensor(places)[in_library(torch, key)]
    assume(len(target.unique()) == target.numel())  # torch does not say which of two values stays

    def write(lib, x, v, *k):
        y = x * 1
        y[k] = v
        return y
    for v in (array(target.shape, 1), array(target.shape[1:], 1), array((1, *target.shape), 1)):
        agree(write, array(shape), v, args=key)
        agree(lambda lib, x, *k, v=v: write(lib, x, lib.tensor(v), *k), array(shape), args=key)
        agree(lambda lib, v, *k: write(lib, lib.tensor(array(shape)), v, *k), v, args=key)
    agree(lambda lib, x, *k: write(lib, x, 2.5, *k), array(shape), args=key)
    ours, theirs = kdl.tensor(array(shape)), torch.tensor(array(shape))
    ours[in_library(kdl, key)] = kdl.tensor(v)
    theirs[in_library(torch, key)] = torch.tensor(v)
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert ours.version[0] == 1


@pytest.mark.parametrize("key", [
    True, False, (None, True), (True, 0), ([0, 1], True), [0, 2], [True, False, True], [], range(2), 1,
    np.int64(1), np.array([0, 2], np.int16), (0, [1, 1]), (slice(None), 0, [0, 3]), (0, slice(None), [1, 1]),
    ([0], slice(None), [1, 3]), ([0, 2], [1]), (..., [1, 1], [0, 3]), ([[0], [1]], [0, 2]), (None, [0, 1], None, 2),
    (slice(1, 9), ..., None), (), (..., None), ([-1, -3],)], ids=str)
def test_keys_of_python_values(key):
    agree(lambda lib, x: x[key], array((3, 3, 4)))


def test_a_list_of_lists_is_one_index_tensor():
    x = kdl.tensor(array((3, 4)))
    np.testing.assert_array_equal(x[[[0, 1], [1, 2]]].numpy(), array((3, 4))[np.array([[0, 1], [1, 2]])])


def test_keys_of_tensors():
    whole = torch.ones(3, 3, dtype=torch.bool)
    for key in (torch.tensor(1), torch.tensor(True), (torch.tensor([0, 2]), torch.tensor(1)), whole,
                (slice(torch.tensor(0), torch.tensor(2)),), torch.zeros(0, dtype=torch.int64),
                torch.zeros(3, dtype=torch.bool), (whole, torch.tensor(1))):
        ours = tuple(_converted(k) for k in key) if isinstance(key, tuple) else _converted(key)
        agree(lambda lib, x, key=key, ours=ours: x[ours if lib is kdl else key], array((3, 3, 4)))


def _converted(k):
    if isinstance(k, slice):
        return slice(*[None if v is None else kdl.tensor(v.numpy()) for v in (k.start, k.stop, k.step)])
    return kdl.tensor(k.numpy())


def test_duplicate_indices_accumulate():
    x = kdl.zeros(3, dtype=kdl.float64, requires_grad=True)
    x[[0, 0, 0, 2]].backward(kdl.tensor([1.0, 2.0, 4.0, 8.0]))
    assert x.grad.tolist() == [7, 0, 8]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_accumulate_in_float32(dtype):
    x = kdl.zeros(2, dtype=getattr(kdl, dtype), requires_grad=True)
    x[kdl.zeros(3000, dtype=kdl.int64)].sum().backward()
    assert x.grad.dtype == getattr(kdl, dtype) and x.grad[0].item() == pytest.approx(3000, rel=2**-8)


def test_an_index_changed_before_backward_does_not_matter():
    for read in (lambda x, i: x[i], lambda x, i: x.index_select(0, i), lambda x, i: x.gather(0, i),
                 lambda x, i: x.take(i)):
        x, i = kdl.zeros(4, dtype=kdl.float64, requires_grad=True), kdl.tensor([1, 1])
        y = read(x, i).sum()
        i.fill_(3)
        y.backward()
        assert x.grad.tolist() == [0, 2, 0, 0]


def test_an_index_changed_after_writing_does_not_matter():
    v, i, x = kdl.ones(2, dtype=kdl.float64, requires_grad=True), kdl.tensor([1, 2]), kdl.zeros(4, dtype=kdl.float64)
    x[i] = v
    i.fill_(3)
    (x * kdl.arange(4)).sum().backward()
    assert v.grad.tolist() == [1, 2]


def test_writing_casts_to_the_dtype_as_torch_does():
    for value in (1.5, True, -1):
        ours, theirs = kdl.zeros(3, dtype=kdl.int64), torch.zeros(3, dtype=torch.int64)
        ours[1], theirs[1] = value, value
        assert ours.tolist() == theirs.tolist()
    x = kdl.zeros(3)
    x[1:] = np.array([1.0, 2.0])
    x[0] = np.float64(7)
    assert x.tolist() == [7, 1, 2]
    v = kdl.ones(2, dtype=kdl.float64, requires_grad=True)
    x[1:] = v
    x.sum().backward()
    assert v.grad.dtype == kdl.float64 and x.dtype == kdl.float32


def test_writing_over_overlapping_memory():
    x = kdl.arange(6)
    x[1:] = x[:-1]
    assert x.tolist() == [0, 0, 1, 2, 3, 4]


def test_read_modify_write():
    x = kdl.zeros(3)
    x[1] += 5
    x[x > 1] *= 2
    x[0].fill_(3)
    assert x.tolist() == [3, 10, 0]
    w = kdl.zeros(3, requires_grad=True)
    y = w * 1
    y[0] = y[0] + 2
    y[1:] = y[1:] * 3
    y.sum().backward()
    assert w.grad.tolist() == [1, 3, 3]
    with pytest.raises(RuntimeError, match="a view cannot be changed while recording; use the out-of-place form"):
        y[1:] *= 3


# --- whole index tensors ---
def index(data, shape, n, low=0):
    size = int(np.prod(shape))
    return np.array(data.draw(st.lists(st.integers(low, n - 1), min_size=size, max_size=size)), np.int64).reshape(shape)


@few
@given(shape=shapes(1), data=st.data())
def test_gather_scatter_and_their_relatives(shape, data):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    n = shape[dim]
    lengths = [data.draw(st.integers(1, m)) for m in shape]
    lengths[dim] = data.draw(st.integers(1, 6))
    i = index(data, lengths, n)
    agree(lambda lib, x, i: x.gather(dim, i), array(shape), args=(i,))
    agree(lambda lib, x, s, i: x.scatter_add(dim, i, s), array(shape), array(lengths, 1), args=(i,))
    agree(lambda lib, x, s, i: (x * 1).scatter_add_(dim, i, s), array(shape), array(lengths, 1), args=(i,))
    once = np.argsort(array((*lengths[:dim % len(shape)], n, *lengths[dim % len(shape) + 1:]), 2), dim)
    agree(lambda lib, x, s, i: x.scatter(dim, i, s), array(shape), array(once.shape, 1), args=(once,))
    agree(lambda lib, x, i: x.scatter(dim, i, 2.5), array(shape), args=(once,))
    agree(lambda lib, x, i: (x * 1).scatter_(dim, i, value=-1), array(shape), args=(once,))
    wide = [data.draw(st.sampled_from([m, 1])) for m in shape]
    wide[dim] = data.draw(st.integers(0, 4))
    agree(lambda lib, x, i: lib.take_along_dim(x, i, dim), array(shape), args=(index(data, wide, n, -n),))
    agree(lambda lib, x, i: lib.take(x, i), array(shape), args=(index(data, (2, 3), np.prod(shape), -np.prod(shape)),))


@few
@given(shape=shapes(1), data=st.data())
def test_selecting_slices(shape, data):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    i = index(data, (data.draw(st.integers(0, 5)),), shape[dim])
    source = (*shape[:dim % len(shape)], len(i), *shape[dim % len(shape) + 1:])
    alpha = data.draw(st.sampled_from([1, -2, 0.5]))
    agree(lambda lib, x, i: x.index_select(dim, i), array(shape), args=(i,))
    agree(lambda lib, x, i: lib.index_select(x, dim, i.int()), array(shape), args=(i,))
    agree(lambda lib, x, s, i: x.index_add(dim, i, s, alpha=alpha), array(shape), array(source, 1), args=(i,))
    agree(lambda lib, x, s, i: (x * 1).index_add_(dim, i, s), array(shape), array(source, 1), args=(i,))
    agree(lambda lib, x, i: x.index_fill(dim, i, 2), array(shape), args=(np.unique(i),))
    agree(lambda lib, x, v, i: (x * 1).index_fill_(dim, i, v), array(shape), array(()), args=(np.unique(i),))


@few
@given(shape=shapes(), data=st.data())
def test_masks(shape, data):
    mask = array([data.draw(st.sampled_from([n, 1])) for n in shape], 1) > 0
    x = array(shape)
    agree(lambda lib, x, m: x.masked_fill(m, 2.5), x, args=(mask,))
    agree(lambda lib, x, v, m: (x * 1).masked_fill_(m, v), x, array(()), args=(mask,))
    agree(lambda lib, x, m: x.masked_select(m), x, args=(mask,))
    agree(lambda lib, x, y, m: lib.where(m, x, y), x, array(shape[1:], 1), args=(mask,))
    agree(lambda lib, x, m: x.where(m, lib.tensor(0.0)), x, args=(mask,))
    agree(lambda lib, x: lib.nonzero(x > 0), x)
    agree(lambda lib, x: lib.argwhere(x > 0), x)


def test_where_and_fills_promote_as_in_torch():
    for x, y in ((1, 2.5), (1, 2), (True, False), ("float16", 2.5), ("int64", 1.5), ("float32", "float64"),
                 ("int8", "uint8")):
        results = []
        for lib in (kdl, torch):
            pair = [lib.ones(2, dtype=getattr(lib, v)) if isinstance(v, str) else v for v in (x, y)]
            z = lib.where(lib.tensor([True, False]), *pair)
            results.append((z.tolist(), str(z.dtype).removeprefix("torch.")))
        assert results[0] == results[1]
    assert kdl.zeros(2, dtype=kdl.int64).masked_fill(kdl.tensor([True, False]), 1.5).tolist() == [1, 0]


def test_nan_and_inf_do_not_leak_through_where():
    x = kdl.tensor([0.0, 4.0], requires_grad=True)
    kdl.where(x > 0, x, kdl.full((2,), np.inf)).clamp(max=9).sum().backward()
    assert x.grad.tolist() == [0, 1]
    y = kdl.tensor([np.nan, 1.0]).masked_fill(kdl.tensor([True, False]), 0.0)
    assert y.tolist() == [0, 1]


# --- order and counting ---
def tied(shape, data):
    """Few different values, with NaN and infinities among them."""
    pool = np.array([0.0, 1.0, 2.0, -1.0, np.nan, np.inf, -np.inf])
    return pool[np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, len(pool), shape)]


@few
@given(shape=shapes(), data=st.data(), descending=st.booleans())
def test_sorting_is_stable_with_nan_last(shape, data, descending):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = tied(shape, data)
    ours = kdl.tensor(x).sort(dim, descending)
    theirs = torch.tensor(x).sort(dim=dim, descending=descending, stable=True)
    np.testing.assert_array_equal(ours.values.numpy(), theirs.values.numpy())
    np.testing.assert_array_equal(ours.indices.numpy(), theirs.indices.numpy())
    np.testing.assert_array_equal(kdl.tensor(x).argsort(dim, descending).numpy(), theirs.indices.numpy())
    distinct = np.random.default_rng(1).permutation(x.size).reshape(shape) / 7
    agree(lambda lib, x: lib.sort(x, dim=dim, descending=descending)[0], distinct)


@few
@given(n=st.integers(1, 40), data=st.data(), largest=st.booleans(), rows=st.integers(0, 3))
def test_topk_and_kthvalue(n, data, largest, rows):
    x = tied((rows, n), data)
    k = data.draw(st.integers(0, n))
    values, indices = kdl.tensor(x).topk(k, largest=largest)
    np.testing.assert_array_equal(values.numpy(), torch.tensor(x).topk(k, largest=largest).values.numpy())
    np.testing.assert_array_equal(np.take_along_axis(x, indices.numpy(), 1), values.numpy())
    assert all(len(set(row)) == k for row in indices.tolist())
    distinct = np.random.default_rng(2).permutation(rows * n).reshape(rows, n) / 7
    agree(lambda lib, x: lib.topk(x, k, 1, largest)[0], distinct)
    k = max(k, 1)
    np.testing.assert_array_equal(kdl.tensor(x).kthvalue(k).values.numpy(), torch.tensor(x).kthvalue(k).values.numpy())
    agree(lambda lib, x: lib.kthvalue(x, k)[0], distinct)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "uint8", "int32", "bool"])
def test_sorting_other_dtypes(dtype):
    x = torch.tensor([[3, 0, 2, 1, 0], [1, 1, 0, 5, 2]]).to(getattr(torch, dtype))
    y = kdl.tensor(x.to(torch.float32).numpy()).to(getattr(kdl, dtype))
    values, indices = y.sort(1, True)
    assert values.tolist() == x.sort(dim=1, descending=True, stable=True).values.tolist() and values.dtype == y.dtype
    assert indices.tolist() == x.sort(dim=1, descending=True, stable=True).indices.tolist()
    assert kdl.unique(y).tolist() == torch.unique(x).tolist() and kdl.unique(y).dtype == y.dtype


@few
@given(rows=st.integers(0, 3), n=st.integers(0, 6), m=st.integers(0, 6), right=st.booleans(), data=st.data())
def test_searchsorted(rows, n, m, right, data):
    sequence, values = np.sort(tied((rows, n), data), 1), tied((rows, m), data)
    for a, v in ((sequence, values), *zip(sequence, values, strict=True)):
        if not np.isnan(a).any():
            expected = torch.searchsorted(torch.tensor(a), torch.tensor(v), right=right).numpy()
            found = kdl.searchsorted(kdl.tensor(a), kdl.tensor(v), right=right).numpy()
            np.testing.assert_array_equal(found, expected)


@few
@given(shape=shapes(1), data=st.data())
def test_unique(shape, data):
    x = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 3, shape)
    for dim in (None, *range(len(shape))):
        ours = kdl.unique(kdl.tensor(x), return_inverse=True, return_counts=True, dim=dim)
        theirs = torch.unique(torch.tensor(x), return_inverse=True, return_counts=True, dim=dim)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert kdl.unique(kdl.tensor([np.nan, 1.0, np.nan])).shape == (3,)


def test_searching_with_a_sorter_and_numbers():
    x = kdl.tensor([3.0, 1.0, 2.0])
    assert kdl.searchsorted(x, kdl.tensor([1.5, 9.0]), sorter=x.argsort()).tolist() == [1, 3]
    assert kdl.searchsorted(kdl.tensor([1, 2]), 1.5).item() == 1
    assert kdl.searchsorted(kdl.tensor([1, 2]), kdl.tensor([2]), out_int32=True, side="right").dtype == kdl.int32


# --- what is refused ---
REFUSED = {
    "index: expected one in [-2, 1] for dim 0, got 2": lambda lib, x: x[2],
    "index: expected at most 2 indices for shape (2, 3), got 3": lambda lib, x: x[0, 0, 0],
    "index: expected a slice with a step above 0, got slice(None, None, -1); use .flip(...)": lambda lib, x: x[::-1],
    "index: expected a slice with a step above 0": lambda lib, x: x[::0],
    "None, Ellipsis and tensors of integers or booleans, got float": lambda lib, x: x[1.5],
    "None, Ellipsis and tensors of integers or booleans, got str": lambda lib, x: x["a"],
    "integers or booleans, got float32": lambda lib, x: x[lib.ones(1)],
    "index: expected an index tensor of int32, int64 or bool, got int8": lambda lib, x: x[lib.ones(1, dtype=lib.int8)],
    "index: expected indices in [-2, 1] for dimension 0, got 0 to 2": lambda lib, x: x[lib.tensor([0, 2])],
    "index: expected a mask of shape (2,) for dimension 0, got (3,)": lambda lib, x: x[lib.ones(3, dtype=lib.bool)],
    "a mask of shape (2, 3) for dimension 0, got (2, 2)": lambda lib, x: x[lib.ones(2, 2, dtype=lib.bool)],
    "index: expected index tensors that broadcast, got shapes [(2,), (3,)]": lambda lib, x: x[[0, 1], [0, 1, 2]],
    "setitem: expected a value that can be stored in (3,) elements of float32, got (2,)":
        lambda lib, x: x.__setitem__(0, lib.ones(2)),
    "setitem: expected a value that can be stored in (6,) elements of float32, got (4,)":
        lambda lib, x: x.__setitem__(x == 0, lib.ones(4)),
    "setitem: expected a value that can be stored in (3,) elements of uint8, got 300":
        lambda lib, x: x.to(lib.uint8).__setitem__(0, 300),
    "setitem: expected a tensor, an array or a number, got value list": lambda lib, x: x.__setitem__(0, [1, 2, 3]),
    "setitem: expected a tensor, an array or a number, got value str": lambda lib, x: x.__setitem__(0, "a"),
    "where: expected a boolean condition, got condition float32": lambda lib, x: lib.where(x, x, x),
    "where: expected shapes that broadcast": lambda lib, x: lib.where(x > 0, x, x.T),
    "where: expected both input and other": lambda lib, x: lib.where(x > 0, x),
    "gather: expected an index with the dimensions of input": lambda lib, x: x.gather(1, lib.tensor([0])),
    "no longer than it but in dim, got index (3, 1), input (2, 3), dim 1":
        lambda lib, x: x.gather(1, lib.zeros(3, 1, dtype=lib.int64)),
    "gather: expected indices in [0, 2], got -1 to -1": lambda lib, x: x.gather(1, lib.tensor([[-1]])),
    "gather: expected indices in [0, 2], got 0 to 3": lambda lib, x: x.gather(1, lib.tensor([[0, 3]])),
    "gather: expected indices in [0, 2], got -2 to 1": lambda lib, x: x.gather(1, lib.tensor([[1, -2]]).int()),
    "gather: expected an index of int64 or int32, got index float32": lambda lib, x: x.gather(1, lib.zeros(2, 1)),
    "gather: expected dim in [-2, 1], got 2": lambda lib, x: x.gather(2, lib.tensor([[0]])),
    "scatter: expected indices in [0, 2], got 5 to 5": lambda lib, x: x.scatter(1, lib.tensor([[5]]), 1.0),
    "scatter: expected src of the input's dtype, got src float64, input float32":
        lambda lib, x: x.scatter(1, lib.tensor([[0]]), lib.ones(1, 1).double()),
    "scatter: expected src with at least the lengths of the index, got src (1, 1), index (1, 2)":
        lambda lib, x: x.scatter(1, lib.tensor([[0, 1]]), lib.ones(1, 1)),
    "scatter_add: expected src with at least": lambda lib, x: x.scatter_add(1, lib.tensor([[0]]), lib.ones(())),
    "take: expected indices in [-6, 5], got 6 to 6": lambda lib, x: x.take(lib.tensor([6])),
    "take_along_dim: expected as many dimensions in indices as in input":
        lambda lib, x: lib.take_along_dim(x, lib.tensor([0]), 1),
    "take_along_dim: expected indices in [0, 5], got 6 to 6": lambda lib, x: lib.take_along_dim(x, lib.tensor([6])),
    "index_select: expected an index of one dimension": lambda lib, x: x.index_select(0, lib.tensor([[0]])),
    "index_select: expected indices in [0, 1], got 2 to 2": lambda lib, x: x.index_select(0, lib.tensor([2])),
    "index_add: expected source of shape (2, 1)": lambda lib, x: x.index_add(1, lib.tensor([0]), lib.ones(2, 2)),
    "index_add: expected source of the input's dtype":
        lambda lib, x: x.index_add(1, lib.tensor([0]), lib.ones(2, 1).int()),
    "index_fill: expected indices in [-3, 2]": lambda lib, x: x.index_fill(1, lib.tensor([3]), 1),
    "index_fill: expected a 0-d value, got value (1,)": lambda lib, x: x.index_fill(1, lib.tensor([0]), lib.ones(1)),
    "masked_fill: expected a boolean mask, got mask int64": lambda lib, x: x.masked_fill(x.long(), 1),
    "masked_fill: expected a 0-d value": lambda lib, x: x.masked_fill(x > 0, lib.ones(1)),
    "masked_fill: expected a value that uint8 holds, got 300": lambda lib, x: x.to(lib.uint8).masked_fill(x > 0, 300),
    "masked_fill: expected shapes that broadcast": lambda lib, x: x.masked_fill(x.T > 0, 1),
    "does not fit into (3,)": lambda lib, x: (x[0] * 1).masked_fill_(x > 0, 1),
    "masked_select: expected a boolean mask": lambda lib, x: x.masked_select(x),
    "topk: expected 0 <= k <= 3, got k 4, input (2, 3)": lambda lib, x: x.topk(4),
    "topk: expected numbers, got input bool": lambda lib, x: (x > 0).topk(1),
    "kthvalue: expected 1 <= k <= 3, got k 0": lambda lib, x: x.kthvalue(0),
    "sort: ": lambda lib, x: x.sort(2),
    "unique: expected slices with elements": lambda lib, x: lib.unique(x[:, :0], dim=0),
    "searchsorted: expected side 'left' or 'right' that agrees with right, got side left, right True":
        lambda lib, x: lib.searchsorted(x[0], x[0], side="left", right=True),
    "searchsorted: expected equal leading dimensions": lambda lib, x: lib.searchsorted(x, x[0]),
    "searchsorted: expected a sequence with dimensions": lambda lib, x: lib.searchsorted(x.sum(), x),
    "bucketize: expected 1-D boundaries": lambda lib, x: lib.bucketize(x, x),
    "bincount: expected integers, got input float32": lambda lib, x: lib.bincount(x[0]),
    "bincount: expected a 1-D tensor of numbers from 0 on": lambda lib, x: lib.bincount(lib.tensor([-1])),
    "bincount: expected a 1-D tensor": lambda lib, x: lib.bincount(x.long()),
    "bincount: expected weights of the input's shape": lambda lib, x: lib.bincount(lib.tensor([1, 2]), lib.ones(1)),
    "bincount: expected minlength >= 0": lambda lib, x: lib.bincount(lib.tensor([1]), minlength=-1),
    "one_hot: expected an int64 tensor, got tensor float32": lambda lib, x: one_hot(lib)(x),
    "one_hot: expected classes in [0, 1], got smallest 0, largest 2":
        lambda lib, x: one_hot(lib)(lib.tensor([0, 2]), 2),
    "one_hot: expected classes in [0, 0], got smallest -1": lambda lib, x: one_hot(lib)(lib.tensor([0, -1])),
    "one_hot: expected num_classes above 0": lambda lib, x: one_hot(lib)(lib.zeros(0, dtype=lib.int64)),
    "isin: expected at least one tensor": lambda lib, x: lib.isin(1, 2),
}


def one_hot(lib):
    return (F if lib is kdl else torch.nn.functional).one_hot


@pytest.mark.parametrize("text", REFUSED)
def test_refused_with_one_sentence_as_torch_refuses(text):
    call = REFUSED[text]
    with pytest.raises((ValueError, TypeError, IndexError, RuntimeError)) as caught:
        call(kdl, kdl.zeros(2, 3))
    assert text in str(caught.value)
    with pytest.raises((ValueError, TypeError, IndexError, RuntimeError, NotImplementedError)):
        call(torch, torch.zeros(2, 3))
