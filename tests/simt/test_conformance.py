"""The engine's warp and block operations return what CUDA's programming guide defines."""
import numpy as np
import pytest

from tests.simt import ORDERS, kernels_of


def warp_operations(x):
    """One row per lane for a warp's 32 values."""
    lane = np.arange(32)
    group, inside = lane // 8 * 8, lane % 8
    columns = [
        x[np.full(32, 5)],
        x[group + (lane + 3) % 8],
        x[np.where(lane < 3, lane, lane - 3)],
        x[np.where(inside < 3, lane, lane - 3)],
        x[np.where(lane + 3 > 31, lane, lane + 3)],
        x[np.where(inside + 3 > 7, lane, lane + 3)],
        x[lane ^ 9],
        x[np.where(inside ^ 9 > 7, lane, group + (inside ^ 9) % 8)],
        np.full(32, sum(1 << i for i in range(32) if x[i] % 3 == 0)),
        np.full(32, int((x == 7).any()) + 2 * int((x >= 0).all())),
        np.where(lane < 10, x[np.maximum(9 - lane, 0)], -1),
    ]
    return np.stack(columns, 1)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("build", ["plain", "race"])
def test_operations(build, order, rng):
    kernels = kernels_of(build)
    x = rng.integers(0, 50, 64).astype(np.int32)
    y = np.full((64, 16), -99, np.int64)
    kernels.set_option("order", ORDERS.index(order))
    try:
        kernels.operations(x, y)
    finally:
        kernels.set_option("order", 0)
    np.testing.assert_array_equal(y[:, :11], np.concatenate([warp_operations(x[:32]), warp_operations(x[32:])]))
    np.testing.assert_array_equal(y[:, 11], (x % 3 == 0).sum())
    np.testing.assert_array_equal(y[:, 12], int((x == 7).any()) + 2 * int((x >= 0).all()))
    np.testing.assert_array_equal(y[:, 13], np.repeat(x.reshape(2, 32).sum(1), 32))
    np.testing.assert_array_equal(y[:, 14], x.sum())
    np.testing.assert_array_equal(y[:, 15], 0xFFFFFFFF)


@pytest.mark.parametrize("divisor", [1, 2, 3, 7, 10, 641, 2**31 - 1, 2**31, 2**33 + 1, 6700417 * 641, 2**62, 2**63 - 1])
def test_division_by_multiplication_is_exact(divisor, rng):
    x = np.concatenate([np.arange(100), rng.integers(0, 2**63 - 1, 500), [2**63 - 1, 2**62, divisor - 1, divisor]])
    multiples = rng.integers(0, (2**63 - 1) // divisor + 1, 200, endpoint=False) * divisor
    x = np.concatenate([x, multiples, np.maximum(multiples - 1, 0)]).astype(np.int64)
    y = np.full_like(x, -1)
    kernels_of("plain").divide(x, y, divisor)
    np.testing.assert_array_equal(y, x // divisor)
