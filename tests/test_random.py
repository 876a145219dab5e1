"""Random numbers: reproducible streams, the right distributions, what is refused."""
import copy
import pickle
import threading

import numpy as np
import pytest

import kdl
from kdl import random

torch = pytest.importorskip("torch", reason="refusals are compared with torch: pip install 'kdl-kernels[test]'")

N = 40_000
DRAWS = {
    "rand": lambda **g: kdl.rand(5, **g), "randn": lambda **g: kdl.randn(5, **g),
    "randint": lambda **g: kdl.randint(0, 1000, (5,), **g), "randperm": lambda **g: kdl.randperm(50, **g),
    "normal": lambda **g: kdl.normal(0.0, 1.0, (5,), **g),
    "bernoulli": lambda **g: kdl.bernoulli(kdl.full((50,), 0.5), **g),
    "multinomial": lambda **g: kdl.multinomial(kdl.ones(50), 5, **g),
    "rand_like": lambda **g: kdl.rand_like(kdl.ones(5), **g),
    "randn_like": lambda **g: kdl.randn_like(kdl.ones(5), **g),
    "randint_like": lambda **g: kdl.randint_like(kdl.ones(5), 0, 1000, **g),
    "uniform_": lambda **g: kdl.zeros(5).uniform_(**g), "normal_": lambda **g: kdl.zeros(5).normal_(**g),
    "bernoulli_": lambda **g: kdl.zeros(50).bernoulli_(**g), "exponential_": lambda **g: kdl.zeros(5).exponential_(**g),
    "random_": lambda **g: kdl.zeros(5).random_(**g),
}


# --- streams ---
@pytest.mark.parametrize("name", DRAWS)
def test_the_same_seed_gives_the_same_numbers(name):
    draw = DRAWS[name]
    kdl.manual_seed(3)
    first, second = draw().tolist(), draw().tolist()
    kdl.manual_seed(3)
    assert draw().tolist() == first != second
    generator = kdl.Generator().manual_seed(3)
    assert draw(generator=generator).tolist() == first
    assert draw(generator=generator).tolist() == second
    kdl.manual_seed(4)
    assert draw().tolist() != first
    with pytest.raises(TypeError, match=r"expected a kdl.Generator, got generator int"):
        draw(generator=3)


def test_a_stream_is_the_same_in_any_thread():
    drawn, generator = [], kdl.Generator().manual_seed(0)
    thread = threading.Thread(target=lambda: drawn.append(kdl.rand(3, generator=generator).tolist()))
    thread.start()
    thread.join()
    kdl.manual_seed(0)
    assert kdl.rand(3).tolist() == drawn[0]


def test_states_go_on_where_they_were_taken():
    generator = kdl.Generator().manual_seed(7)
    kdl.randn(3, generator=generator)  # the fourth is kept
    state = generator.get_state()
    assert state.dtype == kdl.uint8
    expected = [kdl.randn(5, generator=generator).tolist(), kdl.rand(3, generator=generator).tolist()]
    there = kdl.Generator().set_state(kdl.tensor(state.tolist(), dtype=kdl.uint8))
    for other in (pickle.loads(pickle.dumps(there)), copy.deepcopy(there), there):
        assert other.initial_seed() == 7
        assert [kdl.randn(5, generator=other).tolist(), kdl.rand(3, generator=other).tolist()] == expected
    clone = generator.clone_state()
    assert kdl.rand(2, generator=clone).tolist() == kdl.rand(2, generator=generator).tolist()


def test_the_default_generator():
    assert kdl.manual_seed(5) is kdl.default_generator is random.default_generator
    assert kdl.initial_seed() == 5
    state, first = kdl.get_rng_state(), kdl.rand(3).tolist()
    kdl.set_rng_state(state)
    assert kdl.rand(3).tolist() == first
    a, b = kdl.seed(), kdl.seed()
    assert a != b and kdl.initial_seed() == b
    kdl.manual_seed(b)
    assert kdl.Generator().manual_seed(-1).initial_seed() == 2**64 - 1


def test_fork_rng_leaves_no_trace():
    kdl.manual_seed(1)
    expected = kdl.rand(2).tolist()
    kdl.manual_seed(1)
    with random.fork_rng():
        kdl.manual_seed(99)
        kdl.rand(10)
    assert kdl.rand(2).tolist() == expected
    with pytest.raises(KeyError), random.fork_rng():
        kdl.manual_seed(2)
        raise KeyError
    assert kdl.initial_seed() == 1
    with random.fork_rng(enabled=False):
        kdl.manual_seed(2)
    assert kdl.initial_seed() == 2


# --- torch's numbers ---
def given(library, array, dtype="float32"):
    return library.tensor(np.asarray(array), dtype=getattr(library, dtype))


def empty(library, layout, dtype="float32"):
    """A tensor to fill."""
    x = library.zeros(3, 4, 5, 6, dtype=getattr(library, dtype))
    return {"few": lambda: x[0, 0, 0], "rows": lambda: x, "steps": lambda: x[:, :, :, ::2],
            "columns": lambda: x.permute(3, 1, 0, 2),
            "channels last": lambda: x.to(memory_format=library.channels_last)}[layout]()


LAYOUTS = ("few", "rows", "steps", "columns", "channels last")
UNIT = np.random.default_rng(0).random((5, 9)).astype(np.float32)
FILLS = {"uniform_": (-0.3, 0.7), "normal_": (1, 2), "exponential_": (2.5,), "log_normal_": (0.1, 0.5),
         "cauchy_": (1, 2), "geometric_": (0.2,), "bernoulli_": (0.3,), "random_": (3, 200)}


def same_as_torch(draw, exactly=True):
    """Also what is drawn next. What is not the same bit for bit is so to rounding: torch has its own log and cos."""
    for seed in (0, -3, 2**40 + 1):
        kdl.manual_seed(seed)
        torch.manual_seed(seed)
        ours, theirs = draw(kdl), draw(torch)
        step = 0 if exactly else max(torch.finfo(theirs.dtype).eps, 1e-6)
        np.testing.assert_allclose(ours.double().numpy(), theirs.double().numpy(), rtol=step, atol=min(step, 1e-6))
        assert kdl.rand(1).item() == torch.rand(1).item()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", FILLS)
def test_fills_are_torchs(name, dtype, layout):
    same_as_torch(lambda library: getattr(empty(library, layout, dtype), name)(*FILLS[name]),
                  exactly=name in ("uniform_", "geometric_", "bernoulli_", "random_"))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64", "bool", "float16", "bfloat16", "float32",
                                   "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_integers_are_torchs(dtype, layout):
    same_as_torch(lambda library: empty(library, layout, dtype).random_())
    if dtype != "bool":
        same_as_torch(lambda library: library.randint_like(empty(library, layout, dtype), 3, 99))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_likes_are_torchs(layout):
    same_as_torch(lambda library: library.rand_like(empty(library, layout)))
    same_as_torch(lambda library: library.randn_like(empty(library, layout)), exactly=False)


TORCHS = {
    "rand": lambda lib: lib.rand(1000), "rand of float64": lambda lib: lib.rand(1000, dtype=lib.float64),
    "rand of float16": lambda lib: lib.rand(1000, dtype=lib.float16),
    "randint": lambda lib: lib.randint(-5, 2**28 - 6, (50,)),
    "randint of two words": lambda lib: lib.randint(2**28, (50,)),
    "randint of all": lambda lib: lib.randint(-2**62, 2**62, (50,)),
    "randperm": lambda lib: lib.randperm(1000), "randperm of 0": lambda lib: lib.randperm(0),
    "bernoulli": lambda lib: lib.bernoulli(given(lib, UNIT)),
    "bernoulli of float64": lambda lib: lib.bernoulli(given(lib, UNIT, "float64")),
    "bernoulli of a number": lambda lib: lib.bernoulli(given(lib, UNIT), 0.3),
    "bernoulli of columns": lambda lib: lib.bernoulli(given(lib, UNIT).t()),
    "bernoulli_ of a tensor": lambda lib: lib.zeros(9, 5).t().bernoulli_(given(lib, UNIT)),
    "poisson": lambda lib: lib.poisson(given(lib, 40 * UNIT)),
    "multinomial": lambda lib: lib.multinomial(given(lib, UNIT), 1, True),
    "multinomial with replacement": lambda lib: lib.multinomial(given(lib, UNIT), 40, True),
    "multinomial of float64": lambda lib: lib.multinomial(given(lib, UNIT[0], "float64"), 40, True),
    "multinomial of bfloat16": lambda lib: lib.multinomial(given(lib, UNIT, "bfloat16"), 40, True),
    "multinomial without replacement": lambda lib: lib.multinomial(given(lib, UNIT), 9),
}
NEARLY = {
    "few randn": lambda lib: lib.randn(15), "randn": lambda lib: lib.randn(16),
    "randn of a rest": lambda lib: lib.randn(99),
    "randn of float64": lambda lib: lib.randn(99, dtype=lib.float64),
    "normal": lambda lib: lib.normal(3.0, 0.5, (99,)), "few normal": lambda lib: lib.normal(3.0, 0.5, (9,)),
    "normal of a mean": lambda lib: lib.normal(given(lib, UNIT), 0.5),
    "normal of a deviation": lambda lib: lib.normal(1.5, given(lib, UNIT)),
    "normal of both": lambda lib: lib.normal(given(lib, UNIT[0]), given(lib, UNIT[0])),
}


@pytest.mark.parametrize("name", TORCHS)
def test_numbers_are_torchs(name):
    same_as_torch(TORCHS[name])


@pytest.mark.parametrize("name", NEARLY)
def test_normal_numbers_are_torchs_to_rounding(name):
    same_as_torch(NEARLY[name], exactly=False)


def test_states_are_torchs():
    ours, theirs = kdl.Generator(), torch.Generator()
    assert ours.initial_seed() == theirs.initial_seed()
    for words in (5, 700, 624 * 3 - 705):
        kdl.randn(3, generator=ours)
        torch.randn(3, generator=theirs)
        kdl.rand(words, generator=ours)
        torch.rand(words, generator=theirs)
        assert ours.get_state().tolist() == theirs.get_state().tolist()
        theirs.set_state(torch.tensor(ours.get_state().tolist(), dtype=torch.uint8))
        ours = kdl.Generator().set_state(kdl.tensor(theirs.get_state().tolist(), dtype=kdl.uint8))
    fresh = torch.Generator().manual_seed(9).get_state().tolist()
    assert kdl.rand(5, generator=ours.set_state(kdl.tensor(fresh, dtype=kdl.uint8))).tolist() == torch.rand(
        5, generator=theirs.manual_seed(9)).tolist()


# --- distributions ---
def moments(x, mean, deviation, spread=5):
    """Mean and standard deviation within `spread` standard errors."""
    x = x.double().numpy()
    assert abs(x.mean() - mean) < spread * deviation / np.sqrt(x.size)
    assert abs(x.std() / deviation - 1) < spread * 2 / np.sqrt(x.size) if deviation else x.std() == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_moments_and_ranges(dtype):
    kdl.manual_seed(0)
    dtype = getattr(kdl, dtype)
    zeros = kdl.zeros(N, dtype=dtype)
    for x in (kdl.rand(N, dtype=dtype), kdl.rand_like(zeros), kdl.zeros_like(zeros).uniform_()):
        assert x.dtype == dtype and 0 <= x.min().item() and x.max().item() < 1
        moments(x, 0.5 if dtype != kdl.bfloat16 else 0.5 - 2**-9, 12**-0.5)
    for x in (kdl.randn(N, dtype=dtype), kdl.randn_like(zeros), kdl.zeros_like(zeros).normal_()):
        assert x.dtype == dtype
        moments(x, 0, 1)
    x = kdl.zeros(N, dtype=dtype).uniform_(-2, 4)
    assert x.min().item() >= -2 and x.max().item() <= 4
    moments(x, 1 if dtype != kdl.bfloat16 else 1 - 6 * 2**-9, 6 * 12**-0.5)
    moments(kdl.zeros(N, dtype=dtype).normal_(3, 0.5), 3, 0.5)
    x = kdl.zeros(N, dtype=dtype).exponential_(2)
    assert x.min().item() >= 0
    moments(x, 0.5, 0.5, 8)
    for x in (kdl.bernoulli(kdl.full((N,), 0.25, dtype=dtype)), kdl.zeros(N, dtype=dtype).bernoulli_(0.25),
              kdl.zeros(N, dtype=dtype).bernoulli(0.25)):
        assert set(x.tolist()) == {0, 1} and x.dtype == dtype
        moments(x, 0.25, 0.1875**0.5)


def test_normal_with_tensors():
    kdl.manual_seed(0)
    mean = kdl.tensor([[0.0], [10.0]])
    x = kdl.normal(mean, kdl.ones(N) * 2)
    assert x.shape == (2, N) and x.dtype == kdl.float32
    moments(x[0], 0, 2)
    moments(x[1], 10, 2)
    assert kdl.normal(mean, 0.0).tolist() == mean.tolist()
    assert kdl.normal(1.0, kdl.zeros(3)).tolist() == [1, 1, 1]
    moments(kdl.normal(2.0, 3.0, (N,)), 2, 3)


def test_integers():
    kdl.manual_seed(0)
    x = kdl.randint(-3, 4, (N,))
    assert x.dtype == kdl.int64 and set(x.tolist()) == set(range(-3, 4))
    moments(x, 0, 2)
    assert set(kdl.randint(3, (200,)).tolist()) == {0, 1, 2} == set(kdl.randint(high=3, size=(200,)).tolist())
    assert kdl.randint(0, 5, (2, 3), dtype=kdl.float32).dtype == kdl.float32
    assert kdl.randint_like(kdl.zeros(9), 4).dtype == kdl.float32
    assert kdl.randint_like(kdl.zeros(9), 5, 6).tolist() == [5] * 9
    x = kdl.zeros(400, dtype=kdl.uint8).random_()
    assert x.min().item() < 10 and x.max().item() > 245
    assert set(kdl.zeros(99).random_(2).tolist()) == {0, 1} and set(kdl.zeros(99).random_(5, 7).tolist()) == {5, 6}
    assert set(kdl.zeros(99, dtype=kdl.bool).random_().tolist()) == {True, False}
    p = kdl.randperm(100)
    assert p.dtype == kdl.int64 and sorted(p.tolist()) == list(range(100)) != p.tolist()
    assert kdl.randperm(0).shape == (0,) and kdl.randperm(3, dtype=kdl.int32).dtype == kdl.int32


@pytest.mark.parametrize("replacement", [True, False])
def test_multinomial(replacement):
    kdl.manual_seed(0)
    weights = kdl.tensor([[0.0, 1.0, 3.0, 0.0], [2.0, 0.0, 2.0, 4.0]])
    first = kdl.stack([kdl.multinomial(weights, 2, replacement) for _ in range(4000)])
    assert first.shape == (4000, 2, 2) and first.dtype == kdl.int64
    for row in range(2):
        counts = np.bincount(first[:, row, 0].numpy(), minlength=4) / 4000
        expected = weights[row].numpy() / weights[row].numpy().sum()
        np.testing.assert_allclose(counts, expected, atol=0.03)
        assert (counts[expected == 0] == 0).all()
        if not replacement:
            assert (first[:, row, 0] != first[:, row, 1]).all().item()
    assert kdl.multinomial(kdl.ones(7), 7).sort().values.tolist() == list(range(7))
    assert kdl.multinomial(kdl.tensor([0.0, 1e-30]), 5, replacement=True).tolist() == [1] * 5


# --- tensors ---
def test_shapes_options_and_layout():
    assert kdl.rand(2, 3).shape == kdl.rand((2, 3)).shape == kdl.randn([2, 3]).shape == (2, 3)
    assert kdl.rand(()).shape == () and kdl.randn(0, 3).shape == (0, 3)
    x = kdl.randn(2, dtype=kdl.float64, device="cpu", requires_grad=True)
    assert x.is_leaf and x.requires_grad and x.dtype == kdl.float64
    last = kdl.zeros(2, 3, 4, 5).to(memory_format=kdl.channels_last)
    for like in (kdl.rand_like, kdl.randn_like, lambda t: kdl.randint_like(t, 9), lambda t: t.bernoulli(0.5)):
        assert like(last).is_contiguous(memory_format=kdl.channels_last)
    assert kdl.rand_like(last, dtype=kdl.float64, requires_grad=True).requires_grad


def test_fills_write_in_place_and_tell_the_tape():
    base = kdl.zeros(2, 3)
    view = base[1]
    assert view.uniform_(1, 2) is view and base[0].sum().item() == 0 and base[1].min().item() >= 1
    w, x = kdl.ones(3, requires_grad=True), kdl.ones(3)
    y = (w * x).sum()
    x.normal_()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()
    for fill in ("uniform_", "normal_", "exponential_", "bernoulli_", "random_"):
        with pytest.raises(RuntimeError, match=f"{fill}: a tensor that requires grad cannot be filled while recording"):
            getattr(w, fill)()
        with kdl.no_grad():
            assert getattr(w, fill)() is w and w.requires_grad


REFUSED = {
    "rand: expected size to be ints": lambda lib: lib.rand(2.5),
    "rand: expected lengths of at least 0": lambda lib: lib.rand(-1),
    "rand: expected a floating-point dtype, got dtype int64": lambda lib: lib.rand(2, dtype=lib.int64),
    "rand_like: expected a floating-point dtype, got dtype int64": lambda lib: lib.rand_like(lib.arange(3)),
    "randint: expected low < high, got low 3, high 3": lambda lib: lib.randint(3, 3, (2,)),
    "randint: expected (low=0, high, size)": lambda lib: lib.randint(3),
    "randint: expected high to be an int, got high 2.5": lambda lib: lib.randint(0, 2.5, (2,)),
    "randint: expected numbers that uint8 holds, got low 0, high 300":
        lambda lib: lib.randint(0, 300, (2,), dtype=lib.uint8),
    "randperm: expected lengths of at least 0": lambda lib: lib.randperm(-1),
    "normal: expected std >= 0": lambda lib: lib.normal(0.0, -1.0, (2,)),
    "normal: expected tensors, or two numbers and a size": lambda lib: lib.normal(0.0, 1.0),
    "bernoulli: expected probabilities in [0, 1]": lambda lib: lib.bernoulli(lib.tensor([1.5])),
    "bernoulli: expected probabilities in [0, 1], got p (1,)": lambda lib: lib.bernoulli(lib.tensor([float("nan")])),
    "bernoulli: expected a floating-point dtype": lambda lib: lib.bernoulli(lib.tensor([1])),
    "multinomial: expected finite weights of at least 0": lambda lib: lib.multinomial(lib.tensor([-1.0, 2.0]), 1),
    "some above 0 in every row, got input (2,)": lambda lib: lib.multinomial(lib.zeros(2), 1),
    "multinomial: expected finite weights": lambda lib: lib.multinomial(lib.tensor([float("nan"), 1.0]), 1, True),
    "multinomial: expected at least 1 sample": lambda lib: lib.multinomial(lib.ones(2), 0),
    "multinomial: expected at most as many samples as positive weights": lambda lib: lib.multinomial(lib.ones(2), 3),
    "multinomial: expected a tensor of 1 or 2 dimensions": lambda lib: lib.multinomial(lib.ones(2, 2, 2), 1),
    "multinomial: expected a floating-point dtype": lambda lib: lib.multinomial(lib.arange(3), 1),
    "uniform_: expected from_ <= to, got from_ 2, to 1": lambda lib: lib.zeros(2).uniform_(2, 1),
    "uniform_: expected a floating-point dtype": lambda lib: lib.arange(2).uniform_(),
    "normal_: expected std >= 0, got std -1": lambda lib: lib.zeros(2).normal_(0, -1),
    "exponential_: expected lambd > 0, got lambd 0": lambda lib: lib.zeros(2).exponential_(0),
    "bernoulli: expected probabilities in [0, 1], got p 2": lambda lib: lib.zeros(2).bernoulli_(2),
    "random_: expected low < high, got low 3, high 3": lambda lib: lib.zeros(2).random_(3, 3),
    "manual_seed: expected an int, got seed a": lambda lib: lib.manual_seed("a"),
    "manual_seed: expected a seed of at most 64 bits": lambda lib: lib.Generator().manual_seed(2**64),
    "set_state: expected a uint8 tensor of shape (5056,), got new_state (3,)":
        lambda lib: lib.set_rng_state(lib.zeros(3)),
    "set_state: expected the state of a generator, got left 0, next 0":
        lambda lib: lib.set_rng_state(lib.zeros(5056, dtype=lib.uint8)),
}


@pytest.mark.parametrize("text", REFUSED)
def test_refused_with_one_sentence_as_torch_refuses(text):
    with pytest.raises((ValueError, TypeError)) as caught:
        REFUSED[text](kdl)
    assert text in str(caught.value)
    with pytest.raises((ValueError, TypeError, RuntimeError, NotImplementedError)):
        REFUSED[text](torch)
