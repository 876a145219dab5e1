"""Elementwise functions against torch: shapes, special values, promotion, operators, in-place forms, errors."""
import itertools
import math
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import kdl
from tests.optable import TOLERANCE

torch = pytest.importorskip("torch", reason="elementwise functions are compared with torch")

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, math.inf, -math.inf, math.nan]
BINARY = ["add", "sub", "mul", "div", "pow", "remainder", "fmod", "atan2", "hypot", "logaddexp", "xlogy", "copysign",
          "maximum", "minimum", "fmax", "fmin"]
UNARY = ["exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "sqrt", "rsqrt", "square", "sin", "cos", "tan",
         "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "erf", "erfc", "sign", "floor", "ceil",
         "round", "trunc", "frac", "reciprocal", "neg", "abs", "nan_to_num", "deg2rad", "rad2deg"]


def both(call, *arrays, grad=True):
    """The value of `call(library, *tensors)` and the gradients of its sum, from kdl and from torch."""
    results = []
    for library, make in ((kdl, lambda a: kdl.Tensor(np.array(a))), (torch, lambda a: torch.tensor(np.array(a)))):
        tensors = [make(a) for a in arrays]
        for x in tensors:
            x.requires_grad_(grad and np.dtype(arrays[0].dtype).kind == "f")
        y = call(library, *tensors)
        if y.requires_grad:
            y.backward(make(np.ones(tuple(y.shape), arrays[0].dtype)))
        results.append([y.detach().numpy()] + [None if x.grad is None else x.grad.numpy() for x in tensors])
    return results


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype and a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=TOLERANCE.get(str(a.dtype), 0), atol=TOLERANCE.get(str(a.dtype), 0))


# --- values and gradients ---
@given(st.data())
@settings(max_examples=100, deadline=None)
def test_binary_functions_on_shapes_that_broadcast(data):
    name = data.draw(st.sampled_from(BINARY))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    shapes = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3, min_side=0)).input_shapes
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x, y = [rng.uniform(0.5, 2.5, shape).astype(dtype) for shape in shapes]
    assert_same(*both(lambda library, x, y: getattr(library, name)(x, y), x, y))


@pytest.mark.parametrize("name", BINARY)
def test_binary_functions_on_special_values(name):
    x, y = np.array(list(itertools.product(SPECIAL, SPECIAL))).T
    ours, theirs = both(lambda library, x, y: getattr(library, name)(x, y), x, y)
    assert_same(ours, theirs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", UNARY)
def test_unary_functions_on_special_values(name, dtype):
    assert_same(*both(lambda library, x: getattr(library, name)(x), np.array(SPECIAL, dtype)))


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_clamp_with_numbers_and_tensors(data):
    x = np.array(SPECIAL)
    limit = st.one_of(st.none(), st.sampled_from(SPECIAL), st.just("tensor"))
    limits = [data.draw(limit), data.draw(limit)]
    if limits == [None, None] or ("tensor" in limits and any(isinstance(a, float) for a in limits)):
        return
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    tensors = [rng.choice(SPECIAL, (3, 1)) for a in limits if a == "tensor"]

    def call(library, x, *given):
        given = list(given)
        return library.clamp(x, *[given.pop(0) if a == "tensor" else a for a in limits])
    assert_same(*both(call, x, *tensors))


@pytest.mark.parametrize("weight", [-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0, math.nan])
def test_lerp_is_exact_at_its_ends(weight, rng):
    x, y = rng.standard_normal((2, 50)).astype(np.float32)
    ours, theirs = both(lambda library, x, y: library.lerp(x, y, weight), x, y)
    assert_same(ours, theirs)
    if weight in (0, 1):
        np.testing.assert_array_equal(ours[0], y if weight else x)


@pytest.mark.parametrize("decimals", [-3, -1, 0, 1, 3])
def test_round_to_decimals(decimals, rng):
    x = np.concatenate([rng.uniform(-2000, 2000, 50), np.arange(-5, 5) + 0.5, [150.0, 250.0]])
    assert_same(*both(lambda library, x: library.round(x, decimals=decimals), x))


def test_rounded_quotients_and_remainders_of_integers():
    x, y = np.array([(a, b) for a in range(-7, 8) for b in range(-3, 4) if b]).T
    for dtype in (np.int8, np.int32, np.int64):
        for call in (lambda _, x, y: x // y, lambda _, x, y: x % y, lambda library, x, y: library.fmod(x, y),
                     lambda library, x, y: library.div(x, y, rounding_mode="trunc"),
                     lambda library, x, y: library.div(x, y, rounding_mode="floor")):
            assert_same(*both(call, x.astype(dtype), y.astype(dtype)))


def test_integer_powers_wrap_and_truncate():
    x, y = np.array(list(itertools.product([-2, -1, 0, 1, 2, 3], [-3, -2, -1, 0, 1, 5, 7]))).T
    for dtype in (np.int8, np.int64):
        assert_same(*both(lambda _, x, y: x ** y, x.astype(dtype), y.astype(dtype)))


@pytest.mark.parametrize("exponent", [0, 0.0, 1, 2, 2.0, 3, 0.5, -1, -0.5, 1.7])
def test_powers_with_a_number(exponent):
    x = np.array([*SPECIAL, 1.7])
    assert_same(*both(lambda _, x: x ** exponent, x))
    assert_same(*both(lambda _, x: exponent ** x, x))


def test_error_functions_to_the_last_bits(rng):
    x = np.concatenate([rng.uniform(-6, 6, 2000), rng.uniform(-1e-3, 1e-3, 100), [0.0, 1e-300, -30.0, 27.0]])
    for name in ("erf", "erfc"):
        y = getattr(kdl, name)(kdl.Tensor(x)).array
        exact = np.array([getattr(math, name)(v) for v in x])
        np.testing.assert_array_max_ulp(y, exact, 2)
        single = getattr(kdl, name)(kdl.Tensor(x.astype(np.float32))).array
        exact = np.array([getattr(math, name)(v) for v in x.astype(np.float32)]).astype(np.float32)
        np.testing.assert_array_max_ulp(single, exact, 3)


# --- comparisons and logic ---
@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor"])
def test_comparisons_of_special_values(name):
    x, y = np.array(list(itertools.product(SPECIAL, SPECIAL))).T
    for dtype in (np.float64, np.float16):
        assert_same(*both(lambda library, x, y: getattr(library, name)(x, y), x.astype(dtype), y.astype(dtype)))


@pytest.mark.parametrize("name", ["isnan", "isinf", "isfinite", "isposinf", "isneginf", "logical_not"])
def test_predicates_of_special_values(name):
    assert_same(*both(lambda library, x: getattr(library, name)(x), np.array(SPECIAL)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_comparisons_round_a_number_to_the_dtype(dtype):
    for call in (operator.eq, operator.lt, operator.ge):
        for value in (0.1, 0.1001, 2049, 2048.5):
            for x in (0.1, 2048.0, 2050.0):
                ours = call(kdl.Tensor(np.array([x]).astype(getattr(kdl, dtype))), value)
                theirs = call(torch.tensor([x], dtype=getattr(torch, dtype)), value)
                assert ours.tolist() == theirs.tolist(), (x, call, value)


def test_isclose_allclose_equal(rng):
    x, y = np.array(list(itertools.product(SPECIAL, SPECIAL))).T
    y = y + rng.choice([0, 1e-9, 1e-6, 1e-3], y.shape)
    for options in ({}, {"rtol": 1e-2}, {"atol": 0.1}, {"equal_nan": True}):
        assert_same(*both(lambda library, x, y, o=options: library.isclose(x, y, **o), x, y, grad=False))
    one = kdl.Tensor(np.ones((2, 2)))
    assert one.allclose(kdl.Tensor(np.ones(2))) and not one.allclose(one + 1)
    assert kdl.equal(one, kdl.Tensor(np.ones((2, 2), np.int64))) and not kdl.equal(one, kdl.Tensor(np.ones(2)))


# --- promotion ---
DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
OPERANDS = [*((d, shape) for d in DTYPES for shape in ((2,), ())), (True, None), (3, None), (-300, None), (2.5, None)]
PROMOTED = [operator.add, operator.sub, operator.mul, operator.truediv, operator.lt, operator.eq, operator.and_,
            "maximum", "atan2", "fmod", "floor_divide", "pow"]


@pytest.mark.parametrize("call", PROMOTED, ids=lambda c: getattr(c, "__name__", c))
def test_promotion_of_every_pair_of_dtypes(call):
    """Same dtype and value as torch, or both refuse."""
    def operand(library, make, kind, shape):
        return kind if shape is None else make(np.ones(shape, np.int64)).to(getattr(library, kind))

    for x, y in itertools.product(OPERANDS, OPERANDS):
        if x[1] is None and (y[1] is None or isinstance(call, str)):
            continue
        if y[1] is None and call in ("maximum", "atan2"):
            continue  # torch refuses numbers here, kdl takes them
        if call is operator.lt and {x[0], y[0]} == {"uint8", -300}:
            continue  # torch wraps the number around
        if call == "pow" and x[0] == "bool" and y[0] is True:
            continue  # torch takes this way to write a copy
        outcomes = []
        for library, make in ((kdl, kdl.Tensor), (torch, torch.from_numpy)):
            a, b = operand(library, make, *x), operand(library, make, *y)
            try:
                z = (getattr(library, call) if isinstance(call, str) else call)(a, b)
                outcomes.append((str(z.dtype).removeprefix("torch."), np.asarray(z.tolist())))
            except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
                outcomes.append(type(error))
        ours, theirs = outcomes
        assert isinstance(ours, tuple) == isinstance(theirs, tuple), (x, y, ours, theirs)
        if isinstance(ours, tuple):
            assert ours[0] == theirs[0], (x, y, ours, theirs)
            np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-2, err_msg=f"{x} {y}")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_computed_in_float32_and_rounded_once(dtype, rng):
    dtype = getattr(kdl, dtype)
    x, y = [rng.uniform(0.5, 2, 200).astype(dtype) for _ in range(2)]
    wide = x.astype(np.float32), y.astype(np.float32)
    for call in (lambda x, y: x + y, lambda x, y: x * y, lambda x, y: x / y, kdl.pow, kdl.hypot,
                 lambda x, y: kdl.exp(x), lambda x, y: x * 1.01, lambda x, y: 3 - x):
        exact = call(*map(kdl.Tensor, wide)).array.astype(dtype)
        np.testing.assert_array_equal(call(kdl.Tensor(x), kdl.Tensor(y)).array, exact)


def test_a_gradient_has_the_dtype_of_its_operand(rng):
    x = kdl.Tensor(rng.standard_normal((3, 4)).astype(np.float32), requires_grad=True)
    y = kdl.Tensor(rng.standard_normal(4), requires_grad=True)
    z = kdl.Tensor(rng.standard_normal(4).astype(np.float16), requires_grad=True)
    (x * y + z).sum().backward()
    assert [t.grad.dtype for t in (x, y, z)] == [np.float32, np.float64, np.float16]
    np.testing.assert_allclose(y.grad.array, x.array.sum(0), rtol=1e-6)
    np.testing.assert_array_equal(z.grad.array, np.full(4, 3, np.float16))


# --- operators ---
def test_operators_take_arrays_and_numbers_on_either_side(rng):
    a, b = rng.uniform(1, 2, (2, 3)), rng.uniform(1, 2, 3)
    x = kdl.Tensor(a)
    for call in (operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod,
                 operator.pow, operator.lt, operator.eq, operator.ge):
        for other in (b, 1.5, 2, np.float64(1.5), np.float32(1.5), np.int64(2), np.array(1.5)):
            for ours, exact in ((call(x, other), call(a, other)), (call(other, x), call(other, a))):
                assert type(ours) is kdl.Tensor and ours.dtype == exact.dtype
                np.testing.assert_allclose(ours.array, exact, rtol=1e-15)
    assert (x + np.float32(1)).dtype == np.float64 and (kdl.Tensor(a.astype("f")) + np.float64(1)).dtype == np.float32
    np.testing.assert_array_equal((-x).array, -a)
    np.testing.assert_array_equal(abs(-x).array, a)
    assert +x is x
    bits = kdl.Tensor(np.array([6, 3]))
    assert (bits & 2).tolist() == [2, 2] and (1 | bits).tolist() == [7, 3] and (bits ^ bits).tolist() == [0, 0]
    assert (~bits).tolist() == [-7, -4] and (~(bits > 3)).tolist() == [False, True]


def test_operators_leave_foreign_types_alone():
    x = kdl.Tensor(np.ones(2))

    class Foreign:
        def __radd__(self, other):
            return "mine"
    assert x + Foreign() == "mine"
    assert (x == None) is False and (x != "a") is True  # noqa: E711
    for call in (operator.add, operator.mul, operator.lt, operator.and_):
        for other in (None, "a", [1.0, 2.0], 1j, object()):
            with pytest.raises(TypeError):
                call(x, other)
    assert len({x, kdl.Tensor(np.ones(2)), x}) == 2 and hash(x) == hash(x)


# --- in place ---
def test_in_place_forms_write_into_the_same_memory():
    x = kdl.Tensor(np.array([1.0, 4.0, 9.0]))
    array, view = x.array, x.detach()
    same = kdl.Tensor(np.array([2.0, 5.0, 10.0]))
    for change, expected in ((lambda: x.add_(1), [2, 5, 10]), (lambda: x.sub_(x, alpha=0.5), [1, 2.5, 5]),
                             (lambda: x.mul_(2), [2, 5, 10]), (lambda: x.div_(same), [1] * 3),
                             (lambda: x.pow_(2).add_(3), [4] * 3), (lambda: x.sqrt_(), [2] * 3),
                             (lambda: x.clamp_(max=1.5), [1.5] * 3), (lambda: x.neg_(), [-1.5] * 3),
                             (lambda: x.abs_(), [1.5] * 3), (lambda: x.zero_(), [0] * 3), (lambda: x.exp_(), [1] * 3),
                             (lambda: x.fill_(4), [4] * 3), (lambda: x.copy_(np.arange(3)), [0, 1, 2]),
                             (lambda: x.addcmul_(x, x, value=2), [0, 3, 10]),
                             (lambda: x.addcdiv_(x + 1, x + 1), [1, 4, 11]),
                             (lambda: x.floor_divide_(2), [0, 2, 5]), (lambda: x.lerp_(x + 2, 0.5), [1, 3, 6])):
        version = x.version[0]
        assert change() is x and x.array is array and x.version[0] > version and view.version is x.version
        np.testing.assert_array_equal(array, expected)
    mask = kdl.Tensor(np.array([True, False]))
    mask &= kdl.Tensor(np.array([True, True]))
    mask |= True
    assert mask.tolist() == [True, True]


def test_augmented_assignment_on_a_leaf_under_no_grad(rng):
    x = kdl.Tensor(rng.standard_normal(3), requires_grad=True)
    array, before = x.array, x.array.copy()
    with kdl.no_grad():
        x += 1
        x *= 3.0
        x -= np.ones(3)
        x /= 2
        x **= 2
    assert x.array is array and x.is_leaf and x.requires_grad
    np.testing.assert_allclose(array, (((before + 1) * 3 - 1) / 2) ** 2)
    with pytest.raises(RuntimeError, match="leaf"):
        x += 1


def test_recorded_in_place_changes_have_gradients(rng):
    def call(library, x, y):
        z = x * 1
        z += y
        z.mul_(y).sub_(1, alpha=2)
        z **= 2
        return z.div_(3).exp_()
    x, y = rng.standard_normal((2, 4))
    assert_same(*both(call, x, y))

    def overwrite(library, x, y):
        z = x * 2
        z.copy_(y)
        w = x * 3
        return z * x + w.zero_() + (x * 1).fill_(2.0)
    assert_same(*both(overwrite, x, y[:1]))


def test_a_saved_tensor_changed_in_place_is_found(rng):
    x = kdl.Tensor(rng.standard_normal(3), requires_grad=True)
    y = kdl.Tensor(rng.standard_normal(3))
    for call in (lambda: x * y, lambda: kdl.atan2(x, y), lambda: x.clamp(y)):
        z = call()
        y.add_(1)
        with pytest.raises(RuntimeError, match="changed in place"):
            z.sum().backward()
    z = x + y  # addition saves nothing
    y.add_(1)
    z.sum().backward()


@pytest.mark.parametrize("change", [
    lambda x, _: x.add_(1.5), lambda x, _: x.div_(2), lambda x, _: x.clamp_(0.5), lambda x, t: x.mul_(t(np.array(0.5))),
    lambda x, t: x.add_(t(np.ones((2, 3), np.int64))), lambda x, t: x.copy_(t(np.ones(4))), lambda x, _: x.exp_(),
    lambda x, t: x.fill_(t(np.ones(3)))])
def test_in_place_results_that_do_not_fit_are_refused(change):
    for make in (kdl.Tensor, torch.from_numpy):
        x = make(np.arange(3))
        with pytest.raises((RuntimeError, ValueError)):
            change(x, make)
        assert x.tolist() == [0, 1, 2]


# --- errors ---
@pytest.mark.parametrize("call, error, text", [
    (lambda x, m: x + m(np.ones(4)), ValueError, r"add: expected shapes that broadcast, got shapes \(2, 3\) and \(4"),
    (lambda x, m: x < m(np.ones(4)), ValueError, "lt: expected shapes that broadcast"),
    (lambda x, m: x.clamp(m(np.ones(4))), ValueError, "clamp: expected shapes that broadcast"),
    (lambda x, m: x.clamp(), ValueError, "clamp: expected a min or a max"),
    (lambda x, m: m(np.ones(2, bool)) - m(np.ones(2, bool)), TypeError, "sub: expected operands that are not boolean"),
    (lambda x, m: m(np.ones(2, bool)) - 1, TypeError, "sub: expected operands that are not boolean, got dtypes bool"),
    (lambda x, m: -m(np.ones(2, bool)), TypeError, "neg: expected operands that are not boolean"),
    (lambda x, m: abs(m(np.ones(2, bool))), TypeError, "abs"),
    (lambda x, m: +m(np.ones(2, bool)), TypeError, "positive"),
    (lambda x, m: m(np.ones(2, bool)) // m(np.ones(2, bool)), TypeError, "floor_divide"),
    (lambda x, m: m(np.ones(2, bool)) ** m(np.ones(2, bool)), TypeError, "pow"),
    (lambda x, m: m(np.arange(3)) // 0, ValueError, "floor_divide: expected an integer divisor without 0"),
    (lambda x, m: m(np.arange(3)) % m(np.arange(3)), ValueError, "remainder: expected an integer divisor without 0"),
    (lambda x, m: m(np.arange(3)) ** -1, ValueError, "pow: expected an exponent from 0 on for int64"),
    (lambda x, m: m(np.arange(3)).hypot(m(np.arange(3))), TypeError, "hypot: expected floating-point operands"),
    (lambda x, m: m(np.arange(3)).frac(), TypeError, "frac: expected floating-point operands, got dtypes int64"),
    (lambda x, m: m(np.arange(3)).round(decimals=1), TypeError, "round: expected floating-point"),
    (lambda x, m: m(np.arange(3)).lerp(m(np.arange(3)), 0.5), TypeError, "lerp"),
    (lambda x, m: x.lerp(m(np.ones((2, 3), np.float32)), 0.5), TypeError, "lerp: expected tensors of one dtype"),
    (lambda x, m: m(np.arange(3)).add(m(np.arange(3)), alpha=1.5), TypeError, "add: expected an alpha"),
    (lambda x, m: x.add(x, alpha=True), TypeError, None),
    (lambda x, m: x.div(x, rounding_mode="up"), ValueError, "div: expected rounding_mode None, 'trunc' or 'floor'"),
    (lambda x, m: m(np.arange(3)).addcdiv(m(np.arange(3)), m(np.arange(3))), TypeError, "addcdiv"),
    (lambda x, m: x & 1, TypeError, "bitwise_and: expected integers or booleans, got dtypes float64 and int"),
    (lambda x, m: ~x, TypeError, "bitwise_not: expected integers or booleans"),
    (lambda x, m: x.isclose(x, rtol=-1), ValueError, "isclose: expected tolerances of at least 0"),
    (lambda x, m: x.isclose(m(np.ones((2, 3), np.float32))), TypeError, "isclose: expected tensors of one dtype"),
    (lambda x, m: x.heaviside(m(np.ones((2, 3), np.float32))), TypeError, "heaviside: expected tensors of one dtype"),
    (lambda x, m: x.equal(1.0), TypeError, "equal: expected two tensors"),
    (lambda x, m: x.heaviside(x.requires_grad_()).sum().backward(), RuntimeError, None),
    (lambda x, m: (x.requires_grad_() // 2).sum().backward(), RuntimeError, None),
])
def test_errors_say_what_was_expected(call, error, text):
    if text is not None or error is RuntimeError:
        with pytest.raises(error, match=text):
            call(kdl.Tensor(np.ones((2, 3))), kdl.Tensor)
    with pytest.raises((RuntimeError, TypeError, ValueError, NotImplementedError)):
        call(torch.ones((2, 3), dtype=torch.float64), torch.from_numpy)


@pytest.mark.parametrize("function", [kdl.exp, kdl.erf, kdl.round, kdl.nan_to_num, kdl.isnan, kdl.clone])
def test_functions_of_one_tensor_ask_for_a_tensor(function):
    with pytest.raises(TypeError, match="Tensor"):
        function(np.ones(3))


def test_functions_of_numbers_alone_ask_for_a_tensor():
    with pytest.raises(TypeError, match="add: expected at least one tensor"):
        kdl.add(1, 2.0)
    with pytest.raises(TypeError, match="dtype"):
        kdl.Tensor(np.ones(2)) + np.ones(2, np.complex128)
    with pytest.raises(TypeError, match="add: expected tensors, arrays or real numbers"):
        kdl.add(kdl.Tensor(np.ones(2)), [1, 2])


def test_nothing_warns_and_nothing_saved_is_written(rng):
    x = kdl.Tensor(np.array([3e38, -3e38, 0.0], np.float32), requires_grad=True)
    (((x * 10) / x).exp() + x.log() + (x - x) / x).sum().backward()
    x.detach().half()
    array = rng.standard_normal((3, 4))
    saved = array.copy()
    y = kdl.Tensor(array, requires_grad=True)
    (y.exp() * y.sin() / (y * y + 1)).sum().backward(retain_graph=True)
    np.testing.assert_array_equal(array, saved)
