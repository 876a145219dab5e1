"""exp, log and their relatives as straight-line arithmetic, so that a kernel's loop over them is vectorised.

Each function is written for float32 and float64, and the argument's type chooses. NaN, infinities, signed zeros and
denormals come out as in C, except that `decay` and what is made from it end in 0 a little above the smallest normal
number. The worst error found over dense samples, in units in the last place:

| function | float32 | float64 | method                                                                                |
|----------|---------|---------|---------------------------------------------------------------------------------------|
| exp      | 1.0     | 1.1     | x = n ln2 + r, |r| <= ln2 / 2; a polynomial in r                                      |
| decay    | 1.0     | 1.1     | e^x for x <= 0, the same                                                              |
| expm1    | 1.3     | 1.7     | the same, with 1 taken from 2^n                                                       |
| sigmoid  | 2.4     | 2.4     | from decay                                                                            |
| tanh     | 2.4     | 2.5     | from expm1                                                                            |
| log      | 0.9     | 0.9     | x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2); a polynomial in f, or in f / (2 + f)   |
| log1p    | 1.4     | 1.4     | the same for 1 + x, whose rounding error is added to f                                |
| softplus | 2.8     | 2.8     | from decay, and the series of artanh                                                  |
| erf      | 1.1     | 1.1     | a polynomial below 1, and 1 - e^polynomial above                                      |
| erfc     | 0.6     | 1       | the normal distribution's tail in float64; in float64 C's own, which is no vector     |
| normal   | 6 + x^2 | 6 + x^2 | from decay(-x^2 / 2), whose argument is rounded                                       |

Adding and subtracting 1.5 * 2^23 (2^52) rounds to an integer, which then stands in the low bits of the sum;
reassociation would undo it, so these functions keep their own flags. A branch would undo the vectorisation: every side
is computed, then one is selected.
"""
import math as c_math

import numpy as np
from numba import typeof, types
from numba.extending import overload

from kdl.kernels.cpu.launch import device_function

_f4, _i4, _f8, _i8 = np.float32, np.int32, np.float64, np.int64


class _ByDtype:
    """A function of x for kernels, and for one NumPy scalar, from its versions for float32 and float64."""

    def __init__(self, float32, float64):
        self.versions = {types.float32: float32, types.float64: float64}

        @overload(self, jit_options=float32.targetoptions)
        def choose(x):
            return self.versions[x].py_func if x in self.versions else None

    def __call__(self, x):
        return self.versions[typeof(x)](x)


# --- e^x = 2^n e^r = 2^(n - 1) (2 + 2r + c r^2); the bias that exponents are stored with is part of what rounds ---
_ROUND4, _ROUND8, _BITS8 = _f4(12582912.0), _f8(6755399441055744.0), _i8(0x4338000000000000)


@device_function
def _reduced_float32(x):
    """The bits that make 2^(n - 1), and r, of x = n ln2 + r."""
    z = x * _f4(1.44269504) + (_ROUND4 + _f4(126))
    k = z - (_ROUND4 + _f4(126))
    r = (x - k * _f4(0.693145751953125)) - k * _f4(1.42860682e-6)
    return _f4(z).view(_i4), r


@device_function
def _reduced_float64(x):
    z = x * 1.4426950408889634 + (_ROUND8 + 1022.0)
    k = z - (_ROUND8 + 1022.0)
    r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10
    return _f8(z).view(_i8), r


@device_function
def _curve_float32(r):
    """2 (e^r - 1 - r) / r^2 for |r| <= ln2 / 2."""
    c = _f4(2.76291999e-3) * r + _f4(1.67374313e-2)
    c = c * r + _f4(8.33367780e-2)
    c = c * r + _f4(3.33330423e-1)
    return c * r + _f4(9.99999881e-1)


@device_function
def _curve_float64(r):
    c = 5.02287960094835e-08 * r + 5.525267957276926e-07
    c = c * r + 5.511445642562511e-06
    c = c * r + 4.960300886847079e-05
    c = c * r + 0.00039682539805433044
    c = c * r + 0.00277777778647234
    c = c * r + 0.016666666666629494
    c = c * r + 0.0833333333331476
    c = c * r + 0.3333333333333337
    return c * r + 1.0000000000000012


@device_function
def _power_of_2_float32(bits):
    """2^(i - 127) where the lowest bits are the integer i."""
    return _i4(bits << _i4(23)).view(_f4)


@device_function
def _power_of_2_float64(bits):
    return _i8(bits << 52).view(_f8)


# Between these limits the result still reaches 0 and inf. Where 2^(n - 1) is no normal number, 2^(n + 63) is.
@device_function
def _exp_float32(x):
    x = _f4(89.0) if x > _f4(89.0) else x
    x = _f4(-104.0) if x < _f4(-104.0) else x
    low = x < _f4(-86.0)
    bits, r = _reduced_float32(x)
    y = ((_curve_float32(r) * r + _f4(2)) * r + _f4(2)) * _power_of_2_float32(_i4(bits + _i4(64)) if low else bits)
    return y * _f4(2.0**-64) if low else y


@device_function
def _exp_float64(x):
    x = 710.0 if x > 710.0 else x
    x = -746.0 if x < -746.0 else x
    low = x < -708.0
    bits, r = _reduced_float64(x)
    y = ((_curve_float64(r) * r + 2.0) * r + 2.0) * _power_of_2_float64(bits + 64 if low else bits)
    return y * 2.0**-64 if low else y


@device_function
def _decay_float32(x):
    """e^x for x <= 0, at two thirds of the cost of exp: what is below 3e-38 (in float64, 6e-308) becomes 0."""
    bits, r = _reduced_float32(x)
    y = ((_curve_float32(r) * r + _f4(2)) * r + _f4(2)) * _power_of_2_float32(bits)
    return _f4(0) if x < _f4(-86.5) else y


@device_function
def _decay_float64(x):
    bits, r = _reduced_float64(x)
    y = ((_curve_float64(r) * r + 2.0) * r + 2.0) * _power_of_2_float64(bits)
    return 0.0 if x < -707.5 else y


@device_function
def _expm1_float32(x):
    c = _f4(89.0) if x > _f4(89.0) else x
    c = _f4(-18.0) if c < _f4(-18.0) else c
    bits, r = _reduced_float32(c)
    s = _power_of_2_float32(bits)
    y = s * r + (s - _f4(0.5))
    return x if abs(x) < _f4(1e-30) else s * (_curve_float32(r) * (r * r)) + (y + y)


@device_function
def _expm1_float64(x):
    c = 710.0 if x > 710.0 else x
    c = -38.0 if c < -38.0 else c
    bits, r = _reduced_float64(c)
    s = _power_of_2_float64(bits)
    y = s * r + (s - 0.5)
    return x if abs(x) < 1e-290 else s * (_curve_float64(r) * (r * r)) + (y + y)


exp = _ByDtype(_exp_float32, _exp_float64)
decay = _ByDtype(_decay_float32, _decay_float64)
expm1 = _ByDtype(_expm1_float32, _expm1_float64)


@device_function
def sigmoid(x):
    """1 / (1 + e^-x), by way of e^-|x|, which cannot overflow."""
    T = type(x)
    e = decay(-abs(x))
    return (e if x < T(0) else T(1)) / (T(1) + e)


@device_function
def tanh(x):
    """(e^2|x| - 1) / (e^2|x| + 1), with the sign of x; 1 beyond 20."""
    T = type(x)
    a = T(20) if abs(x) > T(20) else abs(x)
    e = expm1(a + a)
    return np.copysign(e / (e + T(2)), x)


# --- log(2^k (1 + f)) = k ln2 + log(1 + f) ---
@device_function
def _split_float32(x):
    """k and f of x = 2^k (1 + f), for normal x."""
    i = _f4(x).view(_i4)
    k = _i4(_i4(i - _i4(0x3F3504F3)) >> _i4(23))
    return k, _i4(i - (k << _i4(23))).view(_f4) - _f4(1)


@device_function
def _split_float64(x):
    i = _f8(x).view(_i8)
    k = (i - _i8(0x3FE6A09E667F3BCD)) >> 52
    return k, _i8(i - (k << 52)).view(_f8) - 1.0


@device_function
def _float64(k):
    """An integer as a float64; the conversion of one is not vectorised before AVX-512."""
    return _i8(k + _BITS8).view(_f8) - _ROUND8


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
    denormal = x < _f4(1.17549435e-38)
    k, f = _split_float32(x * _f4(8388608) if denormal else x)
    y = _log_sum_float32(_f4(k) - (_f4(23) if denormal else _f4(0)), f)
    y = _f4(-np.inf) if x == _f4(0) else y
    y = x if x == _f4(np.inf) else y
    return y if x >= _f4(0) else _f4(np.nan)


@device_function
def _log_float64(x):
    denormal = x < 2.2250738585072014e-308
    k, f = _split_float64(x * 4503599627370496.0 if denormal else x)
    y = _log_sum_float64(_float64(k) - (52.0 if denormal else 0.0), f)
    y = -np.inf if x == 0.0 else y
    y = x if x == np.inf else y
    return y if x >= 0.0 else np.nan


@device_function
def _log1p_float32(x):
    u = x + _f4(1)
    k, f = _split_float32(u)
    f += (x - (u - _f4(1))) * _power_of_2_float32(_i4(max(_i4(127) - k, _i4(0))))  # what rounding took from u
    y = _log_sum_float32(_f4(k), f)
    y = _f4(-np.inf) if u == _f4(0) else y
    y = x if x == _f4(np.inf) else y
    return np.copysign(y if u >= _f4(0) else _f4(np.nan), x)


@device_function
def _log1p_float64(x):
    u = x + 1.0
    k, f = _split_float64(u)
    f += (x - (u - 1.0)) * _power_of_2_float64(max(1023 - k, 0))
    y = _log_sum_float64(_float64(k), f)
    y = -np.inf if u == 0.0 else y
    y = x if x == np.inf else y
    return np.copysign(y if u >= 0.0 else np.nan, x)


log = _ByDtype(_log_float32, _log_float64)
log1p = _ByDtype(_log1p_float32, _log1p_float64)


@device_function
def _log1p_to_1_float32(x):
    """log(1 + x) = 2 artanh(s) for 0 <= x <= 1, s = x / (2 + x)."""
    s = x / (_f4(2) + x)
    z = s * s
    p = _f4(0.2801195775) * z + _f4(0.2800181175)
    p = p * z + _f4(0.4002152679)
    p = p * z + _f4(0.666664163)
    return p * (s * z) + (s + s)


@device_function
def _log1p_to_1_float64(x):
    s = x / (2.0 + x)
    z = s * s
    p = 0.1700971435161378 * z + 0.08344996026040541
    p = p * z + 0.1210493882675843
    p = p * z + 0.13301122218418304
    p = p * z + 0.1538654832196085
    p = p * z + 0.18181744482815218
    p = p * z + 0.22222223953523323
    p = p * z + 0.2857142854812041
    p = p * z + 0.4000000000015509
    p = p * z + 0.6666666666666631
    return p * (s * z) + (s + s)


_log1p_to_1 = _ByDtype(_log1p_to_1_float32, _log1p_to_1_float64)


@device_function
def softplus(x):
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
    T = type(x)
    return (T(0) if x < T(0) else x) + _log1p_to_1(decay(-abs(x)))


# --- erf: a polynomial in x^2 below 1, 1 - e^q(|x|) above ---
@device_function
def _erf_float32(x):
    z = x * x
    p = _f4(-5.96761703e-4) * z + _f4(4.99119423e-3)
    p = p * z + _f4(-2.67681349e-2)
    p = p * z + _f4(1.12819925e-1)
    p = p * z + _f4(-3.76125336e-1)
    p = p * z + _f4(1.28379166e-1)
    a = abs(x)
    t = _f4(4.1) if a > _f4(4.1) else a
    q = _f4(-1.72853470e-5) * t + _f4(3.83197126e-4)
    q = q * t + _f4(-3.88396438e-3)
    q = q * t + _f4(2.42546219e-2)
    q = q * t + _f4(-1.06777877e-1)
    q = q * t + _f4(-6.34846687e-1)
    q = q * t + _f4(-1.28717512e-1)
    big = np.copysign(_f4(1) - _decay_float32(q * t - t), x)
    return big if a > _f4(0.921875) else p * x + x


@device_function
def _erf_float64(x):
    z = x * x
    p = -7.779471406957415e-10 * z + 1.3710982108482451e-08
    p = p * z + -1.6206314196309946e-07
    p = p * z + 1.6447131635680484e-06
    p = p * z + -1.4924712308029719e-05
    p = p * z + 0.00012055293577272878
    p = p * z + -0.000854832592932979
    p = p * z + 0.00522397760611888
    p = p * z + -0.02686617064311153
    p = p * z + 0.11283791670944185
    p = p * z + -0.3761263890318352
    p = p * z + 0.12837916709551256
    a = abs(x)
    t = (6.0 if a > 6.0 else a) - 1.0
    q = -4.928991698766308e-12 * t + 1.2071764312886364e-10
    q = q * t + -1.3326899008538037e-09
    q = q * t + 8.597536662587205e-09
    q = q * t + -3.3693668904699656e-08
    q = q * t + 5.882370815992569e-08
    q = q * t + 2.0324138413759066e-07
    q = q * t + -2.12972098121607e-06
    q = q * t + 9.669077775989942e-06
    q = q * t + -2.719723330160176e-05
    q = q * t + 2.6295378675696534e-05
    q = q * t + 0.00023731679898488696
    q = q * t + -0.0019779013109679417
    q = q * t + 0.010033825195157513
    q = q * t + -0.041561098026682244
    q = q * t + -0.8431072563593304
    q = q * t + -2.6389675142347775
    q = q * t + -1.8496055099332482
    big = np.copysign(1.0 - _decay_float64(q), x)
    return big if a > 1.0 else p * x + x


erf = _ByDtype(_erf_float32, _erf_float64)


# --- the normal distribution: its tail is e^(-x^2 / 2) times a slow function, a polynomial in (|x| - c) / (|x| + c) ---
@device_function
def _scaled_tail_float32(x):
    """e^(x^2 / 2) erfc(x / sqrt(2)) for 0 <= x < 13.5, beyond which it is finite (in float64, 40)."""
    r = _f4(1) / (x + _f4(3))
    q = _f4(1) - _f4(6) * r
    p = _f4(-0.0005412689643) * q + _f4(-0.001818061806)
    p = p * q + _f4(0.002154242713)
    p = p * q + _f4(0.01385579631)
    p = p * q + _f4(-0.02095932513)
    p = p * q + _f4(-0.09451381117)
    p = p * q + _f4(0.4600385725)
    p = p * q + _f4(-1.018664479)
    p = p * q + _f4(1.458167315)
    return p * r


@device_function
def _scaled_tail_float64(x):
    r = 1.0 / (x + 5.0)
    q = 1.0 - 10.0 * r
    p = 4.050831583266366e-09 * q + 1.4417687308370495e-08
    p = p * q + -2.0453830337487213e-08
    p = p * q + -1.3079078167805135e-07
    p = p * q + 8.72100363053242e-08
    p = p * q + 8.655536963601997e-07
    p = p * q + -6.754282518055729e-07
    p = p * q + -5.5382307196392955e-06
    p = p * q + 7.962932035609362e-06
    p = p * q + 3.336233844750318e-05
    p = p * q + -9.952599818952685e-05
    p = p * q + -0.00011875143497971424
    p = p * q + 0.0010897982061358158
    p = p * q + -0.001595738800993823
    p = p * q + -0.005986753550591867
    p = p * q + 0.041590133600300574
    p = p * q + -0.1382372774119644
    p = p * q + 0.33004073234073217
    p = p * q + -0.6270663133426294
    p = p * q + 0.9906112319399538
    p = p * q + -1.3307650057801133
    p = p * q + 1.538386099500126
    return p * r


_scaled_tail = _ByDtype(_scaled_tail_float32, _scaled_tail_float64)


@device_function
def normal(x):
    """The distribution function of the standard normal distribution, and its density."""
    T = type(x)
    e = decay(T(-0.5) * (x * x))
    tail = T(0.5) * e * _scaled_tail(abs(x))
    return tail if x < T(0) else T(1) - tail, T(0.3989422804014327) * e


# --- erfc: the same tail; x^2 = h^2 + (x - h)(x + h), where the half of x's bits that h has make h^2 exact ---
@device_function
def _erfc_float32(x):
    """In float64, whose 8 units in the last place are far below one of float32."""
    x = _f8(x)
    a = 28.0 if abs(x) > 28.0 else abs(x)
    h = _i8(_f8(a).view(_i8) & _i8(-134217728)).view(_f8)
    tail = _scaled_tail_float64(a * 1.4142135623730951) * (exp(-h * h) * exp((h - a) * (h + a)))
    return _f4(2.0 - tail if x < 0.0 else tail)


@device_function
def _erfc_float64(x):
    return c_math.erfc(x)


erfc = _ByDtype(_erfc_float32, _erfc_float64)
