"""Datasets, batches and splits: what comes, in which order, from which thread, and how it goes on."""
import threading
from collections import namedtuple

import numpy as np
import pytest

import kdl
from kdl.data import DataLoader, Dataset, Subset, TensorDataset, default_collate, random_split, train_test_split

X = np.arange(46.0).reshape(23, 2)
Y = np.arange(23)


class Squares(Dataset):
    """Single examples, some of which may fail."""

    def __init__(self, n=10, fails_at=None):
        self.n, self.fails_at, self.threads = n, fails_at, set()

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.threads.add(threading.current_thread().name)
        if i == self.fails_at:
            raise ValueError(f"example {i} is damaged")
        return np.full(2, i * i), i


def loader(**options):
    return DataLoader(TensorDataset(X, Y), **options)


def labels(batches):
    return [y.array.tolist() for _, y in batches]


def flat(lists):
    return [x for part in lists for x in part]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


# --- order and batches ---
@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("batch_size, drop_last, sizes", [(5, False, [5, 5, 5, 5, 3]), (5, True, [5] * 4),
                                                          (23, True, [23]), (50, False, [23]), (50, True, [])])
def test_sizes_of_batches(batch_size, drop_last, sizes, workers):
    data = loader(batch_size=batch_size, drop_last=drop_last, num_workers=workers)
    batches = list(data)
    assert [len(x) for x, _ in batches] == sizes and len(data) == len(sizes)
    assert flat(labels(batches)) == list(range(sum(sizes)))
    for x, y in batches:
        np.testing.assert_array_equal(x.array, X[y.array])
        assert isinstance(x, kdl.Tensor) and x.dtype == kdl.float64 and y.dtype == kdl.int64


@pytest.mark.parametrize("workers", [0, 1])
def test_the_seed_fixes_the_order_of_every_epoch(workers):
    a, b = loader(batch_size=4, shuffle=True, seed=3, num_workers=workers), loader(batch_size=4, shuffle=True, seed=3)
    epochs = [labels(a) for _ in range(3)]
    assert epochs == [labels(b) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert all(sorted(flat(epoch)) == list(range(23)) for epoch in epochs)
    assert labels(loader(batch_size=4, shuffle=True, seed=4)) != epochs[0]


def test_the_order_comes_from_the_default_generator_or_the_one_given():
    kdl.manual_seed(5)
    first = labels(loader(batch_size=4, shuffle=True))
    kdl.manual_seed(5)
    assert labels(loader(batch_size=4, shuffle=True)) == first
    before = kdl.get_rng_state()
    given = [loader(batch_size=4, shuffle=True, generator=kdl.Generator().manual_seed(5)) for _ in range(2)]
    assert labels(given[0]) == labels(given[1]) == labels(loader(batch_size=4, shuffle=True, seed=5)) != first
    np.testing.assert_array_equal(np.asarray(before), np.asarray(kdl.get_rng_state()))


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"shuffle": True, "batch_size": 23},
                                     {"shuffle": True, "drop_last": True, "num_workers": 1}])
@pytest.mark.parametrize("given", [False, True])
def test_batches_are_torchs(options, given):
    torch = pytest.importorskip("torch", reason="compared with torch: pip install 'kdl-kernels[test]'")

    def epochs(library, data, dataset, **more):
        library.manual_seed(6)
        generator = library.Generator().manual_seed(7) if given else None
        batches = data.DataLoader(dataset, **{"batch_size": 4} | options | more, generator=generator)
        next(iter(batches))
        return [[x.tolist() for x, in batches] for _ in range(3)], library.rand(1, generator=generator).item()
    ours = epochs(kdl, kdl.data, TensorDataset(Y))
    theirs = epochs(torch, torch.utils.data, torch.utils.data.TensorDataset(torch.arange(23)), num_workers=0)
    assert ours == theirs


def test_the_order_of_a_seed_is_pinned():
    kdl.manual_seed(0)
    batches = labels(loader(batch_size=8, shuffle=True))
    assert batches == [[3, 22, 17, 13, 0, 20, 15, 12], [4, 9, 1, 6, 5, 14, 16, 10], [7, 19, 11, 21, 18, 8, 2]]


def test_a_sampler_gives_the_order():
    data = loader(batch_size=2, sampler=[4, 4, 0, 22, 7], num_workers=1)
    assert labels(data) == [[4, 4], [0, 22], [7]] and len(data) == 3
    assert labels(loader(batch_size=2, sampler=iter([1, 2, 3]), drop_last=True)) == [[1, 2]]


def test_batches_do_not_share_memory_with_the_dataset():
    tensors = TensorDataset(X.copy())
    for batch, in DataLoader(tensors, batch_size=23):
        batch.array[...] = -1
    np.testing.assert_array_equal(tensors.tensors[0].array, X)


# --- the thread ---
def test_the_thread_makes_batches_and_its_errors_arrive():
    data = Squares(10, fails_at=7)
    seen = []
    with pytest.raises(ValueError, match="example 7 is damaged"):
        for _, y in DataLoader(data, batch_size=2, num_workers=1):
            seen += y.tolist()
    assert seen == [0, 1, 2, 3, 4, 5]
    assert all(name.startswith("kdl.data") for name in data.threads)


def test_leaving_early_ends_the_thread():
    data = Squares(1000)
    for _ in DataLoader(data, num_workers=1, prefetch_factor=3):
        break
    iterator = iter(DataLoader(data, num_workers=1))
    next(iterator)
    del iterator
    iter(DataLoader(data, num_workers=1))  # never used at all
    with pytest.raises(KeyError):
        for _ in DataLoader(data, num_workers=1):
            raise KeyError


def test_the_thread_runs_ahead_but_not_far():
    data = Squares(100)
    made = []
    data.__class__ = type("Counting", (Squares,), {"__getitem__": lambda self, i: made.append(i) or i})
    for _ in DataLoader(data, num_workers=1, prefetch_factor=2):
        pass
    assert made == list(range(100))
    made.clear()
    iterator = iter(DataLoader(data, num_workers=1, prefetch_factor=2))
    next(iterator)
    iterator.close()
    assert len(made) <= 4


# --- going on ---
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("options", [{"shuffle": True, "seed": 1}, {"shuffle": True}, {}, {"sampler": list(range(9))}])
@pytest.mark.parametrize("stop", [0, 2, 5])
def test_an_interrupted_epoch_goes_on(options, stop, workers):
    data = loader(batch_size=4, num_workers=workers, **options)
    kdl.manual_seed(2)
    labels(data)
    seen, state = [], data.state_dict()
    for i, batch in enumerate(data):
        if i == stop:
            break
        seen.append(batch)
        state = data.state_dict()
    random = kdl.get_rng_state()
    kdl.manual_seed(2)
    whole = loader(batch_size=4, **options)
    labels(whole)
    expected = labels(whole), labels(whole)

    kdl.manual_seed(77)
    resumed = loader(batch_size=4, num_workers=workers, **options)
    resumed.load_state_dict(state)
    if stop:
        kdl.set_rng_state(random)
    else:  # stopped between epochs, before the order of the next was drawn
        kdl.manual_seed(2)
        labels(loader(batch_size=4, **{**options, "seed": None} if "seed" in options else options))
    assert labels(seen) + labels(resumed) == expected[0]
    assert labels(resumed) == expected[1]


def test_leaving_an_epoch_does_not_change_the_next():
    data = loader(batch_size=4, shuffle=True)
    after = []
    for epoch in (labels, lambda batches: next(iter(batches))):
        kdl.manual_seed(1)
        epoch(data)
        after.append(labels(data))
    assert after[0] == after[1]


# --- datasets ---
def test_tensor_dataset():
    data = TensorDataset(kdl.Tensor(X), Y)
    assert len(data) == 23
    x, y = data[3]
    assert x.array.tolist() == [6.0, 7.0] and int(y) == 3
    assert data[2:4][1].tolist() == [2, 3]
    with pytest.raises(ValueError, match=r"tensors with one first length, got shapes \[\(23, 2\), \(3,\)\]"):
        TensorDataset(X, Y[:3])
    with pytest.raises(ValueError, match="tensors with one first length"):
        TensorDataset(np.array(1.0))
    with pytest.raises(ValueError, match="at least one tensor"):
        TensorDataset()


def test_a_subclass_that_changes_its_examples_is_asked_for_each():
    class Doubled(TensorDataset):
        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            return x * 2, y
    (x, _), = DataLoader(Doubled(X, Y), batch_size=23)
    np.testing.assert_array_equal(x.array, X * 2)


def test_any_sequence_is_a_dataset():
    assert [b.tolist() for b in DataLoader([1, 2, 3], batch_size=2)] == [[1, 2], [3]]
    assert list(DataLoader(["a", "b"], batch_size=2)) == [["a", "b"]]


def test_subsets_of_subsets():
    inner = Subset(TensorDataset(X, Y), [5, 6, 7, 8])
    outer = Subset(inner, [3, 0])
    assert len(outer) == 2 and int(outer[0][1]) == 8
    assert labels(DataLoader(outer, batch_size=2)) == [[8, 5]]
    assert [y.tolist() for _, y in DataLoader(Subset(Squares(), [3, 1]), batch_size=2)] == [[3, 1]]
    assert [b.tolist() for b in DataLoader(Subset([10, 20, 30], [2, 0]), batch_size=2)] == [[30, 10]]


@pytest.mark.parametrize("samples", [
    [1, 2], [1.5, 2.0], [True, False], [np.float32(1), np.float32(2)], ["a", "b"], [np.ones(2), np.zeros(2)],
    [(1, 2.0), (3, 4.0)], [[1, [2]], [3, [4]]], [{"a": 1, "b": (2,)}, {"a": 3, "b": (4,)}],
    [np.array(3), np.array(4)]])
def test_collate_is_torchs(samples):
    torch = pytest.importorskip("torch", reason="compared with torch: pip install 'kdl-kernels[test]'")

    def same(a, b):
        if isinstance(b, torch.Tensor):
            assert isinstance(a, kdl.Tensor)
            assert a.array.dtype == b.numpy().dtype and a.tolist() == b.tolist()
        elif isinstance(b, dict):
            assert a.keys() == b.keys()
            for key in a:
                same(a[key], b[key])
        elif isinstance(b, (list, tuple)):
            assert type(a) is type(b) and len(a) == len(b)
            for x, y in zip(a, b, strict=True):
                same(x, y)
        else:
            assert a == b
    same(default_collate(samples), torch.utils.data.default_collate(samples))


def test_collate_of_tensors_and_of_what_does_not_fit():
    Point = namedtuple("Point", "x y")
    batch = default_collate([Point(kdl.Tensor(np.ones(2)), 1), Point(kdl.Tensor(np.zeros(2)), 2)])
    assert isinstance(batch, Point) and batch.x.shape == (2, 2)
    with pytest.raises(ValueError, match=r"examples of one shape; .* got shapes \[\(2,\), \(3,\)\]"):
        default_collate([np.ones(2), np.ones(3)])
    with pytest.raises(ValueError, match=r"examples of one length, got lengths \[1, 2\]"):
        default_collate([(1,), (1, 2)])
    with pytest.raises(TypeError, match="got object; pass a collate_fn"):
        default_collate([object()])
    assert list(DataLoader(TensorDataset(Y), batch_size=20, collate_fn=len)) == [20, 3]


# --- splits ---
def test_splits_are_torchs():
    torch = pytest.importorskip("torch", reason="compared with torch: pip install 'kdl-kernels[test]'")
    for lengths in ([10, 8, 5], [0.5, 0.3, 0.2]):
        kdl.manual_seed(2)
        torch.manual_seed(2)
        theirs = torch.utils.data.random_split(range(23), lengths)
        assert [part.indices.tolist() for part in random_split(range(23), lengths)] == [p.indices for p in theirs]


def test_random_split():
    parts = random_split(TensorDataset(X, Y), [10, 8, 5], generator=kdl.Generator().manual_seed(1))
    assert [len(p) for p in parts] == [10, 8, 5]
    assert sorted(i for p in parts for i in p.indices) == list(range(23))
    again = random_split(TensorDataset(X, Y), [10, 8, 5], generator=kdl.Generator().manual_seed(1))
    assert [p.indices.tolist() for p in parts] == [p.indices.tolist() for p in again]
    assert [len(p) for p in random_split(range(10), [0.25, 0.25, 0.5])] == [3, 2, 5]
    with pytest.raises(ValueError, match=r"got lengths \[5, 5\], dataset 23"):
        random_split(TensorDataset(X), [5, 5])


def test_train_test_split():
    x, xt, y, yt = train_test_split(X, kdl.Tensor(Y), test_size=0.3, generator=kdl.Generator().manual_seed(1))
    assert (len(x), len(xt)) == (16, 7) and isinstance(x, np.ndarray) and isinstance(yt, kdl.Tensor)
    np.testing.assert_array_equal(x[:, 0], 2 * y.array)
    np.testing.assert_array_equal(xt[:, 0], 2 * yt.array)
    assert sorted([*y.tolist(), *yt.tolist()]) == list(range(23))
    assert len(train_test_split(X, test_size=4)[1]) == 4
    with pytest.raises(ValueError, match="at least one example on either side, got test_size 23, examples 23"):
        train_test_split(X, test_size=23)
    with pytest.raises(ValueError, match=r"arrays of one length, got lengths \[23, 5\]"):
        train_test_split(X, Y[:5])
    with pytest.raises(TypeError, match="arrays or tensors, got one list"):
        train_test_split([1, 2])


@pytest.mark.parametrize("error, message, options", [
    (ValueError, "batch_size >= 1, got batch_size 0", {"batch_size": 0}),
    (TypeError, "batch_size to be an int, got batch_size 1.5", {"batch_size": 1.5}),
    (ValueError, "num_workers >= 0", {"num_workers": -1}),
    (ValueError, "prefetch_factor >= 1", {"prefetch_factor": 0}),
    (ValueError, "shuffle or a sampler, not both", {"shuffle": True, "sampler": [0]}),
    (ValueError, "a seed or a generator, not both", {"seed": 1, "generator": object()}),
])
def test_bad_arguments_are_refused(error, message, options):
    with pytest.raises(error, match=f"DataLoader: expected {message}"):
        loader(**options)


def test_an_index_out_of_range_is_refused():
    for workers in (0, 1):
        with pytest.raises(IndexError):
            list(loader(sampler=[23], num_workers=workers))
