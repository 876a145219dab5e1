"""exp, log and their relatives as straight-line arithmetic, so that a kernel's loop over them is vectorised.

Each function is written for float32 and float64, and the argument's type chooses. NaN, infinities, signed zeros and
denormals come out as in C. The worst error found over dense samples, in units in the last place:

| function | float32 | float64 | method                                                                              |
|----------|---------|---------|-------------------------------------------------------------------------------------|
| exp      | 1.0     | 1.0     | x = n ln2 + r, |r| <= ln2 / 2; polynomial in r; 2^n in two factors                  |
| log      | 0.9     | 0.9     | x = 2^k (1 + f), 1 + f in [sqrt(1/2), sqrt(2)); polynomial in f, or in f / (2 + f)  |

Adding and subtracting 1.5 * 2^23 (2^52) rounds to an integer, which then stands in the low bits of the sum;
reassociation would undo it, so these functions keep their own flags. A branch would undo the vectorisation: every side
is computed, then one is selected.
"""
import numpy as np
from numba import typeof, types
from numba.extending import overload

from kdl.kernels.cpu.launch import device_function

_f4, _i4, _f8, _i8 = np.float32, np.int32, np.float64, np.int64


class _ByDtype:
    """A function for kernels, and for one NumPy scalar, from its versions for float32 and float64."""

    def __init__(self, float32, float64):
        self.versions = {types.float32: float32, types.float64: float64}

        @overload(self, jit_options=float32.targetoptions)
        def choose(x):
            return self.versions[x].py_func if x in self.versions else None

    def __call__(self, x):
        return self.versions[typeof(x)](x)


# --- e^x = 2^n e^r ---
_ROUND4, _BITS4 = _f4(12582912.0), _i4(0x4B400000)
_ROUND8, _BITS8 = _f8(6755399441055744.0), _i8(0x4338000000000000)


@device_function
def _reduced_float32(x):
    """n and r of x = n ln2 + r."""
    z = x * _f4(1.44269504) + _ROUND4
    k = z - _ROUND4
    r = (x - k * _f4(0.693145751953125)) - k * _f4(1.42860682e-6)
    return _i4(_f4(z).view(_i4) - _BITS4), r


@device_function
def _reduced_float64(x):
    z = x * 1.4426950408889634 + _ROUND8
    k = z - _ROUND8
    r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10
    return _f8(z).view(_i8) - _BITS8, r


@device_function
def _expm1_near_0_float32(r):
    """e^r - 1 for |r| <= ln2 / 2."""
    p = _f4(1.9914166802e-4) * r + _f4(1.3941013101e-3)
    p = p * r + _f4(8.3332730687e-3)
    p = p * r + _f4(4.1666354797e-2)
    p = p * r + _f4(1.6666666817e-1)
    p = p * r + _f4(5.0000000463e-1)
    return p * (r * r) + r


@device_function
def _expm1_near_0_float64(r):
    p = 2.511439800474125e-08 * r + 2.762633978638463e-07
    p = p * r + 2.7557228212810555e-06
    p = p * r + 2.4801504435233955e-05
    p = p * r + 0.00019841269902716522
    p = p * r + 0.00138888889323617
    p = p * r + 0.008333333333314747
    p = p * r + 0.0416666666665738
    p = p * r + 0.16666666666666685
    p = p * r + 0.5000000000000006
    return p * (r * r) + r


@device_function
def _power_of_2_float32(n):
    return _i4((n + _i4(127)) << _i4(23)).view(_f4)


@device_function
def _power_of_2_float64(n):
    return _i8((n + 1023) << 52).view(_f8)


@device_function
def _exp_float32(x):
    x = _f4(89.0) if x > _f4(89.0) else x
    x = _f4(-104.0) if x < _f4(-104.0) else x  # in these limits the result still reaches inf and 0
    n, r = _reduced_float32(x)
    half = _i4(n >> _i4(1))
    return (_expm1_near_0_float32(r) + _f4(1)) * _power_of_2_float32(half) * _power_of_2_float32(_i4(n - half))


@device_function
def _exp_float64(x):
    x = 710.0 if x > 710.0 else x
    x = -746.0 if x < -746.0 else x
    n, r = _reduced_float64(x)
    half = n >> 1
    return (_expm1_near_0_float64(r) + 1.0) * _power_of_2_float64(half) * _power_of_2_float64(n - half)


# --- log(2^k (1 + f)) = k ln2 + log(1 + f) ---
@device_function
def _split_float32(x):
    """k and f of x = 2^k (1 + f), for finite x > 0."""
    denormal = x < _f4(1.17549435e-38)
    i = _f4(x * _f4(8388608) if denormal else x).view(_i4)
    e = _i4(_i4(i - _i4(0x3F3504F3)) >> _i4(23))
    f = _i4(i - (e << _i4(23))).view(_f4) - _f4(1)
    return _f4(e) - (_f4(23) if denormal else _f4(0)), f


@device_function
def _split_float64(x):
    denormal = x < 2.2250738585072014e-308
    i = _f8(x * 4503599627370496.0 if denormal else x).view(_i8)
    e = (i - _i8(0x3FE6A09E667F3BCD)) >> 52
    f = _i8(i - (e << 52)).view(_f8) - 1.0
    return (_i8(e + _BITS8).view(_f8) - _ROUND8) - (52.0 if denormal else 0.0), f


@device_function
def _log_sum_float32(k, f):
    """k ln2 + log(1 + f)."""
    p = _f4(7.0376836292e-2) * f + _f4(-1.1514610310e-1)
    p = p * f + _f4(1.1676998740e-1)
    p = p * f + _f4(-1.2420140846e-1)
    p = p * f + _f4(1.4249322787e-1)
    p = p * f + _f4(-1.6668057665e-1)
    p = p * f + _f4(2.0000714765e-1)
    p = p * f + _f4(-2.4999993993e-1)
    p = p * f + _f4(3.3333331174e-1)
    z = f * f
    return ((p * (f * z) + k * _f4(-2.12194440e-4)) - _f4(0.5) * z + f) + k * _f4(0.693359375)


@device_function
def _log_sum_float64(k, f):
    s = f / (2.0 + f)
    z = s * s
    p = 1.479819860511658591e-01 * z + 1.531383769920937332e-01
    p = p * z + 1.818357216161805012e-01
    p = p * z + 2.222219843214978396e-01
    p = p * z + 2.857142874366239149e-01
    p = p * z + 3.999999999940941908e-01
    p = p * z + 6.666666666666735130e-01
    h = 0.5 * f * f
    return k * 6.93147180369123816490e-01 - ((h - (s * (h + p * z) + k * 1.90821492927058770002e-10)) - f)


@device_function
def _log_float32(x):
    k, f = _split_float32(x)
    y = _log_sum_float32(k, f)
    y = _f4(-np.inf) if x == _f4(0) else y
    y = x if x == _f4(np.inf) else y
    return y if x >= _f4(0) else _f4(np.nan)


@device_function
def _log_float64(x):
    k, f = _split_float64(x)
    y = _log_sum_float64(k, f)
    y = -np.inf if x == 0.0 else y
    y = x if x == np.inf else y
    return y if x >= 0.0 else np.nan


exp = _ByDtype(_exp_float32, _exp_float64)
log = _ByDtype(_log_float32, _log_float64)
