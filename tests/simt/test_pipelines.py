"""Every planted bug of a pipeline is found, by the build that should find it; the sound pipeline is never accused."""
import re

import numpy as np
import pytest

from tests.simt import ORDERS, kernels_of

WRONG = "wrong result"
BUGS = [  # number, name, what the plain build finds in forward order (None: nothing), what the race build finds
    (1, "wait one stage short", "returns with .* cp.async under way", "race: read .* a cp.async is still writing"),
    (2, "no barrier after the wait", WRONG, "race: |read of memory that nobody wrote"),
    (3, "copies without a commit", "returns with .* cp.async under way|is still writing", "is still writing"),
    (4, "fills the stage that is being read", "is still writing|wrong result", "race: "),
    (5, "a row of ldmatrix is not aligned", "ldmatrix .* no multiple of 16", "ldmatrix .* no multiple of 16"),
    (6, "wrong lane map", WRONG, WRONG),
    (7, "halves of a fragment swapped", WRONG, WRONG),
    (8, "guard of a copy dropped", "cp.async .* out of bounds: reads past a", "cp.async .* out of bounds"),
    (9, "mma in one branch", "divergent warp|has returned|deadlock", "divergent warp|has returned|deadlock"),
    (10, "a copy is never waited for", "returns with .* cp.async under way", "returns with .* cp.async under way"),
    (11, "source of a copy is not aligned", "cp.async .* misaligned source", "cp.async .* misaligned source"),
    (12, "a store under a copy", None, "race: write .* which a cp.async is still writing"),
]
RNG = np.random.default_rng(3)
A, B = (RNG.integers(-9, 10, (rows, 72)).astype(np.float16) for rows in (30, 16))
EXPECTED = A.astype(np.float32) @ B.astype(np.float32).T


def finding(build, bug, order="forward", seed=0):
    """What a run of the kernel shows: None when nothing."""
    kernels = kernels_of(build)
    kernels.set_option("order", ORDERS.index(order))
    kernels.set_option("seed", seed)
    y = np.full_like(EXPECTED, np.nan)
    try:
        kernels.planted_pipeline(A, B, y, bug)
    except RuntimeError as error:
        return str(error)
    finally:
        kernels.set_option("order", 0)
    return None if np.array_equal(y, EXPECTED) else WRONG


@pytest.mark.parametrize("bug, name, plain, race", BUGS, ids=[b[1] for b in BUGS])
@pytest.mark.parametrize("build", ["plain", "race"])
def test_a_planted_bug_is_found(build, bug, name, plain, race):
    expected, found = plain if build == "plain" else race, finding(build, bug)
    if expected is None:
        assert found is None
    else:
        assert found is not None and re.search(expected, found), found


@pytest.mark.parametrize("bug", [1, 2, 3, 4])
def test_mistakes_in_the_order_are_found_in_every_schedule_by_the_race_build(bug):
    for order in ORDERS:
        for seed in range(3):
            assert finding("race", bug, order, seed) is not None


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("build", ["plain", "race"])
def test_the_sound_pipeline_is_not_accused(build, order, seed):
    assert finding(build, 0, order, seed) is None
