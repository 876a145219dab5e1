"""A Generator's numbers, where there is no torch to compare with: a seed must mean the same in every version."""
import numpy as np
import pytest

import kdl
import kdl.nn.functional as F

WEIGHTS = [1.0, 2.0, 3.0, 4.0]
PINNED = {  # all after manual_seed(0)
    "rand": (lambda: kdl.rand(4), [0.49625658988952637, 0.7682217955589294, 0.08847743272781372, 0.13203048706054688]),
    "rand of float64": (lambda: kdl.rand(2, dtype=kdl.float64), [0.9700530018065531, 0.707819864399788]),
    "rand of float16": (lambda: kdl.rand(3, dtype=kdl.float16), [0.496337890625, 0.76806640625, 0.0885009765625]),
    "uniform_": (lambda: kdl.zeros(3).uniform_(-1, 2), [0.4887697696685791, 1.3046653270721436, -0.7345677018165588]),
    "randint": (lambda: kdl.randint(10, (8,)), [4, 9, 3, 0, 3, 9, 7, 3]),
    "randint of two words": (lambda: kdl.randint(2**40, (2,)), [741280623151, 506137267392]),
    "random_": (lambda: kdl.zeros(2, dtype=kdl.int64).random_(), [900450186894289455, 3969543146641149120]),
    "randperm": (lambda: kdl.randperm(9), [8, 0, 2, 3, 7, 1, 4, 5, 6]),
    "bernoulli_": (lambda: kdl.zeros(12).bernoulli_(0.4), [0, 0, 0, 0, 0, 0, 1, 1, 0, 1, 0, 1]),
    "dropout": (lambda: F.dropout(kdl.ones(12), 0.6), [0, 0, 0, 0, 0, 0, 2.5, 2.5, 0, 2.5, 0, 2.5]),
    "bernoulli": (lambda: kdl.bernoulli(kdl.full((12,), 0.4)), [0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 0]),
    "geometric_": (lambda: kdl.zeros(4).geometric_(0.3), [1, 1, 3, 1]),
    "poisson": (lambda: kdl.poisson(kdl.tensor([3.0, 3, 30, 30])), [6, 3, 24, 32]),
    "multinomial": (lambda: kdl.multinomial(kdl.tensor(WEIGHTS), 3), [2, 1, 3]),
    "multinomial with replacement": (lambda: kdl.multinomial(kdl.tensor(WEIGHTS), 8, True), [3, 3, 2, 3, 3, 3, 1, 2]),
}
NEARLY = {  # to rounding: NumPy's log, sin and cos may differ from version to version
    "few randn": (lambda: kdl.randn(3), [1.5409960746765137, -0.293428897857666, -2.1787893772125244]),
    "randn": (lambda: kdl.randn(20)[::5],
              [-1.1258398294448853, -1.5550950765609741, 1.4436600400375366, -0.843676745891571]),
    "exponential_": (lambda: kdl.zeros(3).exponential_(), [3.508326292037964, 1.2303847074508667, 0.615044116973877]),
}


@pytest.mark.parametrize("name", PINNED)
def test_numbers_are_pinned(name):
    draw, expected = PINNED[name]
    kdl.manual_seed(0)
    assert draw().tolist() == expected


@pytest.mark.parametrize("name", NEARLY)
def test_numbers_are_pinned_to_rounding(name):
    draw, expected = NEARLY[name]
    kdl.manual_seed(0)
    np.testing.assert_allclose(draw().numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("before", [0, 1, 624, 1000])
def test_many_words_are_those_of_few(before):
    """Many are drawn by a kernel, few by NumPy."""
    many, few = [kdl.Generator().manual_seed(4) for _ in range(2)]
    for generator in (many, few):
        generator.words(before)
    expected = np.concatenate([few.words(50_000) for _ in range(3)])
    np.testing.assert_array_equal(many.words(150_000), expected)
    assert many.get_state().tolist() == few.get_state().tolist()


@pytest.mark.parametrize("before", [0, 1, 2, 623, 624, 625])
def test_masks_go_on_from_any_place_in_the_stream(before):
    """The kernel that draws masks moves on NumPy's state, whose 624 words may end in the middle of a number."""
    generator = kdl.Generator().manual_seed(4)
    words = kdl.Generator().manual_seed(4).words(before + 2 * 2001 + 1).astype(np.uint64)
    generator.words(before)
    mask, (high, low) = generator.bernoulli(2001, 0.3), words[before:-1].reshape(-1, 2).T
    np.testing.assert_array_equal(mask, (high << 32 | low) % 2**53 < 0.3 * 2**53)
    assert generator.words(1) == words[-1]
