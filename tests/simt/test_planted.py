"""Every planted bug is found, by the build that should find it; the sound kernels are never accused."""
import re

import numpy as np
import pytest

from kdl.kernels import simt
from tests.simt import ORDERS, kernels_of, sparse
from tests.simt.planted import BUGS, SEEDS, expected, finding


@pytest.fixture
def planted():
    return kernels_of(simt.build())


@pytest.mark.parametrize("row", BUGS, ids=[row[1] for row in BUGS])
def test_a_planted_bug_is_found(planted, row):
    pattern, found = expected(simt.build(), row), finding(planted, row[0])
    if pattern is None:
        assert found is None
    elif pattern != ".*":
        assert found is not None and re.search(pattern, found), found


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", SEEDS)
def test_sound_kernels_are_not_accused(planted, order, seed):
    assert [finding(planted, bug, order, seed) for bug in (0, 20, 60)] == [None] * 3


def test_a_report_names_kernel_line_block_and_thread(planted):
    found = finding(planted, 13 if simt.build() == "race" else 7)
    if simt.build() == "plain":
        assert found == "planted: a kernel wrote past the last byte of y"  # found after the kernel has ended
    else:
        assert re.search(r"reverse_kernel<\d+>: (race|out of bounds): write .*at planted\.cu:\d+: byte \d+ of y", found)
        assert re.search(r"\[block \(1, 0, 0\), thread \(\d+, 0, 0\)\]$", found)


def test_the_process_goes_on_after_a_report(planted):
    for _ in range(20):
        assert "deadlock" in finding(planted, 26)
        assert finding(planted, 20) is None


def test_an_index_of_32_bits_shows_past_its_range(planted):
    """Five billion elements, of which only the last block's pages exist."""
    n = 2**32 + 200
    x, y = sparse(n, np.uint8), sparse(n, np.uint8)
    x[-100:] = np.arange(100) + 1
    planted.set_option("last_block", 1)
    try:
        planted.narrow_index(x, y)
        assert not y[-8:].any()
        planted.wide_index(x, y)
    finally:
        planted.set_option("last_block", 0)
    np.testing.assert_array_equal(y[-8:], x[-8:])


def test_memory_traffic_is_counted(planted):
    if simt.build() != "race":
        pytest.skip("only the race build counts")
    before = planted.counter("bytes_read"), planted.counter("bytes_written")
    assert finding(planted, 20) is None
    assert (planted.counter("bytes_read") - before[0], planted.counter("bytes_written") - before[1]) == (512, 512)
