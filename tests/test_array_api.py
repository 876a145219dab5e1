"""kdl.array_api gives what NumPy's namespace gives, for every function that it has, and libraries that ask for it."""
import os
import subprocess
import sys

import numpy as np
import pytest

import kdl
from kdl import array_api

RNG = np.random.default_rng(3)
A, B = RNG.standard_normal((2, 3, 4)).astype("f4"), RNG.standard_normal((2, 3, 4)).astype("f4")
P, U = np.abs(A) + np.float32(1.1), np.tanh(A)  # above 1, and in -1..1
M, V = RNG.standard_normal((4, 5)).astype("f4"), RNG.standard_normal(6).astype("f4")
N, J = RNG.integers(-9, 9, (3, 4)), RNG.integers(1, 5, (3, 4))
L, K = A > 0, B > 0
ODD = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.5, 2.5, -0.5], "f4")
W = np.array([3, 1, 2, 3, 1])
D = np.arange(3.0, dtype="f8")
ORDER = np.argsort(RNG.random((2, 3, 4)), 1)


def each(names, *cases):
    return {name: [lambda xp, *x, name=name: getattr(xp, name)(*x), *cases] for name in names.split()}


# A name; a function of the namespace and of arrays; and the arrays of every case.
CASES = {
    **each("abs ceil floor round sign square trunc negative positive isfinite isinf isnan", (A,), (ODD,), (N,)),
    **each("cos cosh exp expm1 sin sinh tan tanh atan asinh reciprocal", (A,)),
    **each("sqrt log log1p log2 log10 acosh", (P,)), **each("acos asin atanh", (U,)), **each("signbit", (A,), (ODD,)),
    **each("add subtract multiply maximum minimum", (A, B), (N, J), (D, D[:1].astype("f4")), (A, 2), (2.5, A)),
    **each("divide atan2 copysign hypot logaddexp nextafter", (A, B), (A, P[0, 0])),
    **each("floor_divide remainder", (A, P), (N, J), (N, 3)), **each("pow", (P, A), (J, J), (P, 2)),
    **each("equal not_equal less less_equal greater greater_equal", (A, B), (N, J), (N, N), (A, 0)),
    **each("logical_and logical_or logical_xor", (L, K)), **each("logical_not", (L,)),
    **each("bitwise_and bitwise_or bitwise_xor", (N, J), (L, K)), **each("bitwise_invert", (N,), (L,)),
    **each("bitwise_left_shift bitwise_right_shift", (N, J)),
    **each("matmul", (A, M), (V, V), (A.astype("f8"), M)), **each("matrix_transpose unique_values", (A,)),
    **each("nonzero", (L,), (N,)), **each("broadcast_arrays", (A, A[0, :1], D[:1].astype("f4"))),
    **each("unique_counts unique_inverse unique_all", (W,), (N,)),
    **each("where", (L, A, B), (L, A, 0.0), (L, D[:1], A)),
    **each("empty_like ones_like zeros_like", (A,)), **each("unstack", (A,)),
    "sum": [lambda xp, x: [xp.sum(x), xp.sum(x, axis=1), xp.sum(x, axis=(0, -1), keepdims=True), xp.sum(x, axis=()),
                           xp.sum(x, axis=0, dtype=xp.float64)], (A,), (N[None],)],
    "prod": [lambda xp, x: [xp.prod(x), xp.prod(x, axis=-1), xp.prod(x, axis=(0, 2), keepdims=True)], (U,), (J[None],)],
    **{name: [lambda xp, x, name=name: [getattr(xp, name)(x), getattr(xp, name)(x, axis=1, keepdims=True),
                                        getattr(xp, name)(x, axis=(0, 2)), getattr(xp, name)(x, keepdims=True)],
              (x,), (y,)]
       for name, x, y in (("max", A, N[None]), ("min", A, N[None]), ("mean", A, A[:, :1]), ("all", L, K), ("any", L, K),
                          ("count_nonzero", L, N[None]))},
    **{name: [lambda xp, x, name=name: [getattr(xp, name)(x), getattr(xp, name)(x, axis=(0, 1), correction=1),
                                        getattr(xp, name)(x, axis=2, keepdims=True)], (A,)] for name in ("std", "var")},
    **{name: [lambda xp, x, name=name: [getattr(xp, name)(x), getattr(xp, name)(x, axis=1),
                                        getattr(xp, name)(x, axis=-1, keepdims=True)], (A,), (N,)]
       for name in ("argmax", "argmin")},
    **{name: [lambda xp, x, name=name: [getattr(xp, name)(x, axis=1),
                                        getattr(xp, name)(x, axis=0, include_initial=True),
                                        getattr(xp, name)(x, axis=-1, dtype=xp.float64)], (U,), (J,)]
       for name in ("cumulative_sum", "cumulative_prod")},
    "sort": [lambda xp, x: [xp.sort(x), xp.sort(x, axis=0)], (A,), (N,)],
    "argsort": [lambda xp, x: [xp.argsort(x, stable=True), xp.argsort(x, axis=0, stable=True)], (A,), (N,)],
    "searchsorted": [lambda xp, s, x: [xp.searchsorted(s, x), xp.searchsorted(s, x, side="right")],
                     (D, D + 0.5), (D, D)],
    "diff": [lambda xp, x: [xp.diff(x), xp.diff(x, axis=0, n=1), xp.diff(x, n=2, prepend=x[..., :1])], (A,)],
    "clip": [lambda xp, x: [xp.clip(x, -0.5, 0.5), xp.clip(x, 0.0, None), xp.clip(x, None, 0.1)], (A,)],
    "take": [lambda xp, x, i: [xp.take(x, i, axis=1), xp.take(x, i, axis=0)], (np.stack([A] * 3, 0)[:, 0], W % 3)],
    "take_along_axis": [lambda xp, x, i: xp.take_along_axis(x, i, axis=1), (A, ORDER), (A[:1], ORDER)],
    "tensordot": [lambda xp, x, y: [xp.tensordot(x, y, axes=1), xp.tensordot(x, x, axes=((0, 2), (0, 2)))], (A, M)],
    "vecdot": [lambda xp, x, y: [xp.vecdot(x, y), xp.vecdot(x, y, axis=1)], (A, B)],
    "concat": [lambda xp, x, y: [xp.concat([x, y]), xp.concat((x, y), axis=-1), xp.concat([x, y], axis=None)], (A, B),
               (N, J.astype("i4"))],
    "stack": [lambda xp, x, y: [xp.stack([x, y]), xp.stack((x, y), axis=-1)], (A, B)],
    "expand_dims": [lambda xp, x: [xp.expand_dims(x, axis=axis) for axis in (0, -1, (0, 2))], (A,)],
    "flip": [lambda xp, x: [xp.flip(x), xp.flip(x, axis=1), xp.flip(x, axis=(0, -1))], (A,)],
    "moveaxis": [lambda xp, x: [xp.moveaxis(x, 0, -1), xp.moveaxis(x, (0, 1), (1, 0))], (A,)],
    "permute_dims": [lambda xp, x: xp.permute_dims(x, (2, 0, 1)), (A,)],
    "repeat": [lambda xp, x: [xp.repeat(x, 2), xp.repeat(x, 3, axis=1)], (A,)],
    "reshape": [lambda xp, x: [xp.reshape(x, (6, -1)), xp.reshape(x, (-1,), copy=True)], (A,)],
    "roll": [lambda xp, x: [xp.roll(x, 2), xp.roll(x, -1, axis=1), xp.roll(x, (1, 2), axis=(0, 2))], (A,)],
    "squeeze": [lambda xp, x: [xp.squeeze(x, axis=0), xp.squeeze(x, axis=(0, -1))], (A[None, ..., None],)],
    "tile": [lambda xp, x: [xp.tile(x, (2,)), xp.tile(x, (2, 1, 1, 3))], (A,)],
    "broadcast_to": [lambda xp, x: xp.broadcast_to(x, (5, 2, 3, 4)), (A,)],
    **{name: [lambda xp, x, name=name: [getattr(xp, name)(x), getattr(xp, name)(x, k=1)], (A,)]
       for name in ("tril", "triu")},
    "arange": [lambda xp: [xp.arange(5), xp.arange(2, 9, 3), xp.arange(0, 1, 0.25, dtype=xp.float64)], ()],
    "asarray": [lambda xp: [xp.asarray([[1, 2], [3, 4]]), xp.asarray([True]), xp.asarray([1.5], dtype=xp.float64)], ()],
    "empty": [lambda xp: xp.empty((2, 3), dtype=xp.float64), ()],
    "eye": [lambda xp: [xp.eye(3, dtype=xp.float32), xp.eye(2, 4, k=1, dtype=xp.int64)], ()],
    "full": [lambda xp: [xp.full((2, 3), 7), xp.full((2,), 1.5, dtype=xp.float32), xp.full((), True)], ()],
    "full_like": [lambda xp, x: [xp.full_like(x, 3), xp.full_like(x, 1, dtype=xp.int32)], (A,)],
    "linspace": [lambda xp: [xp.linspace(0, 1, 5, dtype=xp.float64),
                             xp.linspace(0, 1, 4, endpoint=False, dtype=xp.float64)], ()],
    "meshgrid": [lambda xp, x, y: [*xp.meshgrid(x, y), *xp.meshgrid(x, y, indexing="ij")], (D, D[:2])],
    "ones": [lambda xp: [xp.ones((2, 3), dtype=xp.float64), xp.ones(3, dtype=xp.int8)], ()],
    "zeros": [lambda xp: [xp.zeros((2, 3), dtype=xp.float64), xp.zeros((), dtype=xp.bool)], ()],
    "astype": [lambda xp, x: [xp.astype(x, xp.int32), xp.astype(x, xp.float64), xp.astype(x, xp.bool)], (A,)],
    "from_dlpack": [lambda xp, x: xp.from_dlpack(x), (A,)],
    "result_type": [lambda xp, x, y: [xp.zeros(1, dtype=t) for t in (
        xp.result_type(x, y), xp.result_type(x, 1), xp.result_type(y, xp.int8))], (A, D), (D, A), (N, J.astype("i2"))],
    "can_cast": [lambda xp, x: [xp.can_cast(x, xp.float64), xp.can_cast(x.dtype, xp.int8),
                                xp.can_cast(xp.int8, xp.int64)], (A,), (N,)],
    "isdtype": [lambda xp: [xp.isdtype(t, kind) for t in (xp.bool, xp.int8, xp.uint8, xp.float32, xp.float64)
                            for kind in ("bool", "signed integer", "integral", "real floating", "numeric",
                                         "complex floating", xp.float32, ("bool", "unsigned integer"))], ()],
    "finfo": [lambda xp: [float(getattr(xp.finfo(xp.float32), name)) for name in ("eps", "max", "min", "bits")], ()],
    "iinfo": [lambda xp: [getattr(xp.iinfo(xp.int16), name) for name in ("max", "min", "bits")], ()],
}
CONSTANTS = {name for name in array_api.__all__ if not callable(getattr(array_api, name))}


def flat(result):
    return [part for item in result for part in flat(item)] if isinstance(result, (list, tuple)) else [result]


@pytest.mark.parametrize("name", sorted(CASES))
def test_agrees_with_numpy(name):
    function, *cases = CASES[name]
    assert cases
    for arrays in cases:
        ours = flat(function(array_api, *[kdl.Tensor(x) if isinstance(x, np.ndarray) else x for x in arrays]))
        with np.errstate(all="ignore"):
            theirs = flat(function(np, *arrays))
        assert len(ours) == len(theirs)
        for x, y in zip(ours, theirs, strict=True):
            if isinstance(x, kdl.Tensor):
                x, y = x.numpy(), np.asarray(y)
                assert x.dtype == y.dtype and x.shape == y.shape
            if not name.startswith("empty"):
                np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-6)


def test_every_function_has_a_case():
    assert set(CASES) | CONSTANTS | {"__array_namespace_info__"} == set(array_api.__all__)
    assert CONSTANTS == {"e", "inf", "nan", "newaxis", "pi", "__array_api_version__", "bool", "int8", "int16", "int32",
                         "int64", "uint8", "float16", "bfloat16", "float32", "float64"}


def test_descending_order():
    x = kdl.tensor([2.0, 1.0, 2.0])
    assert array_api.sort(x, descending=True).tolist() == [2, 2, 1]
    assert array_api.argsort(x, descending=True).tolist() == [0, 2, 1]


def test_a_tensor_says_its_namespace():
    x = kdl.ones(2)
    assert x.__array_namespace__() is x.__array_namespace__(api_version="2023.12") is array_api
    with pytest.raises(ValueError, match=r"expected api_version up to 2024\.12, got 2099\.12"):
        x.__array_namespace__(api_version="2099.12")
    assert x.to_device(x.device) is x
    info = array_api.__array_namespace_info__()
    assert x.device in info.devices() and info.default_device() == x.device
    assert info.default_dtypes()["real floating"] == kdl.float32 and info.capabilities()["boolean indexing"]
    assert info.dtypes(kind="real floating") == {"float32": kdl.float32, "float64": kdl.float64}


def test_gradients_pass_through():
    x = kdl.tensor(A[0], requires_grad=True)
    array_api.sum(array_api.multiply(array_api.permute_dims(x, (1, 0)), 3.0), axis=(0, 1)).backward()
    assert (x.grad == 3).all()


SKLEARN = """
import numpy as np, sklearn, kdl
from sklearn.metrics import accuracy_score, mean_squared_error
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler
rng = np.random.default_rng(0)
x, y, z = rng.standard_normal((20, 3)), rng.integers(0, 3, 20), rng.integers(0, 3, 20)
for scaler in (MaxAbsScaler, MinMaxScaler, StandardScaler):
    expected = scaler().fit_transform(x)
    with sklearn.config_context(array_api_dispatch=True):
        got = scaler().fit_transform(kdl.tensor(x))
    assert isinstance(got, kdl.Tensor), type(got)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9)
with sklearn.config_context(array_api_dispatch=True):
    assert np.isclose(accuracy_score(kdl.tensor(y), kdl.tensor(z)), (y == z).mean())
    assert np.isclose(mean_squared_error(kdl.tensor(x[:, 0]), kdl.tensor(x[:, 1])), ((x[:, 0] - x[:, 1])**2).mean())
print("agrees")
"""


def test_scikit_learn_computes_with_tensors():
    pytest.importorskip("sklearn", reason="pip install 'kdl-kernels[demo]'")
    done = subprocess.run([sys.executable, "-c", SKLEARN], env=os.environ | {"SCIPY_ARRAY_API": "1"}, text=True,
                          capture_output=True)
    assert done.stdout == "agrees\n", done.stderr
