"""The vectorised exp, log and relatives: error in units in the last place, special values, and that they vectorise."""
import math
import platform

import numpy as np
import pytest
from numba import njit

from kdl.kernels.cpu import math as vectorised

DTYPES = [np.float32, np.float64]
wide_erf = np.vectorize(math.erf, otypes=[np.longdouble])


def wide_sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def wide_softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


# name: (exact function, largest error in ulp for float32 and float64, where to sample besides everywhere)
FUNCTIONS = {
    "exp": (np.exp, 1.0, 1.1, [(-110, 90), (-750, 715), (-1, 1)]),
    "expm1": (np.expm1, 1.3, 1.7, [(-20, 90), (-40, 715), (-1, 1)]),
    "log": (np.log, 0.9, 0.9, [(0, 3), (0.6, 1.5)]),
    "log1p": (np.log1p, 1.4, 1.4, [(-1, 2), (-0.4, 0.5)]),
    "sigmoid": (wide_sigmoid, 2.4, 2.4, [(-110, 20), (-750, 40), (-2, 2)]),
    "softplus": (wide_softplus, 2.8, 2.8, [(-110, 20), (-750, 40), (-2, 2)]),
    "tanh": (np.tanh, 2.4, 2.5, [(-10, 10), (-20, 20), (-1, 1)]),
    "erf": (wide_erf, 1.1, 1.6, [(-4.5, 4.5), (-1.1, 1.1)]),  # math.erf, the reference, is itself off by up to 0.5
}
DECAYING = "sigmoid", "softplus"  # by `decay`, which ends in 0 a little above the smallest normal number
every_function = pytest.mark.parametrize("name", FUNCTIONS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
_loops = {}


def loop(name):
    """A loop over the function, with the flags of a kernel."""
    if name not in _loops:
        function = getattr(vectorised, name)

        @njit(fastmath={"contract", "nsz", "arcp"}, error_model="numpy")
        def run(x, y):
            for i in range(x.size):
                y[i] = function(x[i])
        _loops[name] = run
    return _loops[name]


def run(name, x):
    y = np.empty_like(x)
    loop(name)(x, y)
    return y


def samples(rng, dtype, ranges):
    """Numbers from the ranges, and numbers of every size: random bit patterns."""
    bits = np.int32 if dtype == np.float32 else np.int64
    largest = np.array(np.inf, dtype).view(bits)
    everywhere = rng.integers(0, largest, 10_000, dtype=bits).view(dtype)
    return np.concatenate([everywhere, -everywhere, *[rng.uniform(*r, 10_000).astype(dtype) for r in ranges]])


@every_dtype
@every_function
def test_error_in_ulp(name, dtype, rng):
    exact, *bounds, ranges = FUNCTIONS[name]
    x = samples(rng, dtype, ranges)
    with np.errstate(all="ignore"):
        expected = exact(x.astype(np.longdouble))
        rounded = expected.astype(dtype)
        ulp = np.spacing(np.abs(rounded)).astype(np.longdouble)
    y = run(name, x)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(y[~finite], rounded[~finite])
    error = np.abs(y[finite].astype(np.longdouble) - expected[finite]) / ulp[finite]
    if name in DECAYING:
        error[(y[finite] == 0) & (expected[finite] < 3 * np.finfo(dtype).tiny)] = 0
    assert error.max() <= bounds[DTYPES.index(dtype)], f"at x = {x[finite][error.argmax()]!r}"


@every_dtype
@every_function
def test_special_values(name, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = [np.nan, np.inf, -np.inf, 0.0, -0.0, tiny, -tiny, 1000 * tiny, -1000 * tiny, -1.0, 1.0, 1e4, -1e4]
    x = np.array(x * 3, dtype)  # a vector of them and a remainder
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[name][0](x.astype(np.longdouble)).astype(dtype)
    y = run(name, x)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=0)
    if name not in ("sigmoid", "softplus", "log"):
        number = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(y[number]), np.signbit(expected[number]))


@every_dtype
def test_normal_has_a_tail_of_the_right_size(dtype, rng):
    x = rng.uniform(-12, 6, 20_000).astype(dtype)
    below, density = (np.empty_like(x) for _ in range(2))

    @njit(error_model="numpy")
    def both(x, below, density):
        for i in range(x.size):
            below[i], density[i] = vectorised.normal(x[i])
    both(x, below, density)
    z = x.astype(np.float64)
    exact = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in z])
    # an error of half an ulp in x^2 / 2 is a relative error of x^2 / 4 ulp in e^(-x^2 / 2); so it is with the reference
    allowed = np.finfo(dtype).eps * (6 + z * z)
    assert np.all(np.abs(below - exact) <= allowed * exact)
    exact = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    assert np.all(np.abs(density - exact) <= allowed * exact)


@every_dtype
def test_scalars_may_be_passed_from_python(dtype):
    y = vectorised.exp(dtype(1))
    assert y == pytest.approx(math.e, rel=1e-7)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86 assembly")
@every_dtype
@every_function
def test_loops_are_vectorised(name, dtype):
    run(name, np.ones(8, dtype))
    signature, = (s for s in loop(name).signatures if s[0].dtype.name == np.dtype(dtype).name)
    lines = loop(name).inspect_asm(signature).splitlines()
    suffix = "ps" if dtype == np.float32 else "pd"
    fused = [line for line in lines if "mul" + suffix in line or f"132{suffix}" in line or f"213{suffix}" in line]
    assert any("mm" in line for line in fused), "no packed arithmetic"
    if dtype == np.float32:
        assert not any(op in line for op in ("cvtss2sd", "cvtps2pd") for line in lines), "promoted to float64"
