"""Loops over prange: every round once, alone and on threads; what cannot be shared is refused, failures are told."""
import numba
import numpy as np
import pytest

from kdl.kernels.cpu.launch import jit, prange


@jit
def rounds(y, step):
    n, (first, by) = y.size, step
    for i in prange(n):
        y[i] += first + by * i
    for i in prange(n // 2):
        y[i] = -y[i]


@jit
def sum_of_all(x, y):
    total = x[0]
    for i in prange(x.size):
        total += x[i]
    y[0] = total


@jit
def room_for(sizes, y):
    for i in prange(sizes.size):
        room = np.empty(sizes[i], np.float32)
        y[i] = room.size


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 1000])
@pytest.mark.parametrize("threads", [None, 1, 2])
def test_every_round_is_run_once(size, threads):
    if threads and threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip(f"this process has {numba.config.NUMBA_NUM_THREADS} thread")
    y, expected = np.ones(size, np.int64), 4 + 3 * np.arange(size)
    expected[:size // 2] *= -1
    before = numba.get_num_threads()
    try:
        if threads:
            numba.set_num_threads(threads)
        (rounds if threads else rounds.alone)(y, (3, 3))
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(y, expected)


def test_a_sum_over_all_rounds_is_refused():
    with pytest.raises(TypeError, match="sum_of_all: expected a loop over prange without a sum of all its rounds"):
        sum_of_all(np.ones(3), np.ones(1))


@pytest.mark.parametrize("call", [room_for, room_for.alone], ids=["threads", "alone"])
def test_a_round_without_memory_raises(call):
    y = np.zeros(3)
    with pytest.raises(MemoryError, match="no memory for room_for_0"):
        call(np.array([8, 1 << 60, 8]), y)
    call(np.array([8, 0, 4]), y)
    np.testing.assert_array_equal(y, [8, 0, 4])
