"""Tensor: what it is, its way to Python and NumPy and back, and how types promote."""
import copy
import itertools
import operator
import pickle
import subprocess
import sys

import numpy as np
import pytest

import kdl

torch = pytest.importorskip("torch", reason="Tensor is compared with torch: pip install 'kdl-kernels[test]'")

DTYPES = ["float16", "bfloat16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool"]


def test_import_is_light():
    heavy = ("numba", "cupy", "torch", "matplotlib", "sklearn")
    code = f"import sys, kdl; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_names_that_hide_modules_are_functions():
    assert callable(kdl.tensor) and kdl.tensor([1.0]).dtype == kdl.float32
    from kdl.tensor import Tensor
    assert Tensor is kdl.Tensor and kdl.random.Generator is kdl.Generator


# --- what it is ---
def test_properties():
    x = kdl.zeros(2, 3, 4)
    assert x.shape == (2, 3, 4) == x.size() and x.size(-1) == 4 and x.ndim == x.dim() == 3
    assert repr(x.shape) == "kdl.Size([2, 3, 4])" and str(x.shape) == "(2, 3, 4)" and x.shape.numel() == 24
    assert x.numel() == 24 and x.element_size() == x.itemsize == 4 and x.nbytes == 96
    assert x.stride() == (12, 4, 1) and x.stride(1) == 4 and x.transpose(0, 2).stride() == (1, 4, 12)
    assert x.dtype == kdl.float32 == np.float32 and str(x.device) == "cpu" and not x.is_cuda
    assert x.is_contiguous() and not x.T.is_contiguous() and x.is_leaf and x.is_floating_point()
    assert not kdl.zeros(1, dtype=kdl.int64).is_floating_point()
    with pytest.raises(TypeError, match="is_contiguous"):
        x.is_contiguous(memory_format="channels_last")


def test_requires_grad_is_checked_when_set():
    x = kdl.zeros(3)
    x.requires_grad = True
    assert (x * 2).requires_grad and x.requires_grad_(False) is x and not x.requires_grad
    integers = kdl.arange(3)
    for wrong in (lambda: integers.requires_grad_(), lambda: setattr(integers, "requires_grad", True),
                  lambda: kdl.Tensor(integers.array, requires_grad=True)):
        with pytest.raises(RuntimeError, match="only floating-point tensors can require gradients, got int64"):
            wrong()
    y = x.requires_grad_() * 2
    with pytest.raises(RuntimeError, match=r"only leaf tensors can stop requiring gradients; use .detach\(\)"):
        y.requires_grad = False
    assert y.requires_grad_() is y


def test_tensors_are_hashed_by_identity():
    x, y = kdl.ones(2), kdl.ones(2)
    assert len({x, y}) == 2 and x in {x: 1}


# --- to Python ---
@pytest.mark.parametrize("dtype", DTYPES)
def test_items_and_lists(dtype):
    x = kdl.tensor([[1, 0], [1, 1]], dtype=getattr(kdl, dtype))
    t = torch.tensor([[1, 0], [1, 1]], dtype=getattr(torch, dtype))
    assert x.tolist() == t.tolist() and type(x.tolist()[0][0]) is type(t.tolist()[0][0])
    assert x[0, 0].item() == 1 and type(x[0, 0].item()) is type(t[0, 0].item())
    assert kdl.tensor([[1]], dtype=getattr(kdl, dtype)).item() == 1
    assert kdl.zeros(()).tolist() == 0.0 and kdl.zeros(2, 0).tolist() == [[], []]


def test_conversions_to_python_numbers():
    one, many, none = kdl.tensor([2.5]), kdl.ones(2), kdl.ones(0)
    assert float(one) == 2.5 and int(one) == 2 and bool(one) and not bool(kdl.zeros(1, 1))
    assert [10, 20, 30][kdl.tensor(1)] == 20 and list(range(kdl.tensor([3]))) == [0, 1, 2]
    for wrong in (many, none):
        with pytest.raises(RuntimeError, match=r"item: expected a tensor with one element, got shape \("):
            wrong.item()
        with pytest.raises(RuntimeError, match=r"the truth of a tensor of shape \(.*\) is ambiguous; use .any\(\)"):
            bool(wrong)
    for wrong in (one, kdl.tensor([1, 2])):
        with pytest.raises(TypeError, match="index: expected an integer tensor with one element"):
            operator.index(wrong)


def test_length_iteration_and_membership():
    x = kdl.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert len(x) == 2 and [row.tolist() for row in x] == [[1, 2], [3, 4]]
    a, b = x
    (a * b).sum().backward()
    assert x.grad.tolist() == [[3, 4], [1, 2]]
    assert 3 in x and 5 not in x and x[0, 0] in x
    assert list(kdl.zeros(0, 3)) == []
    for call in (len, iter):
        with pytest.raises(TypeError, match="0-d"):
            call(kdl.tensor(1.0))


def test_format_and_repr():
    assert f"{kdl.tensor(1.5):.2f} {kdl.tensor(3):03d} {kdl.tensor(1.5)}" == "1.50 003 1.5"
    assert f"{kdl.tensor([1, 2])}" == "tensor([1, 2])"
    with pytest.raises(TypeError, match=r"format: expected a 0-d tensor for the format '.2f', got shape \(1,\)"):
        format(kdl.tensor([1.0]), ".2f")
    assert repr(kdl.tensor([1.0, 2.5])) == "tensor([1. , 2.5])"
    x = kdl.zeros(2, dtype=kdl.float64, requires_grad=True)
    assert repr(x) == "tensor([0., 0.], dtype=float64, requires_grad=True)"
    assert repr(kdl.tensor([True])) == "tensor([ True])" and "int32" in repr(kdl.zeros(1, dtype=kdl.int32))
    assert "grad_fn=<Mul>" in repr(kdl.zeros(2, requires_grad=True) * 2)
    assert "bfloat16" in repr(kdl.ones(2, dtype=kdl.bfloat16)) and "..." in repr(kdl.zeros(2000))


# --- to NumPy and back ---
def test_numpy_shares_memory_and_refuses_recorded_tensors():
    x = kdl.zeros(3)
    x.numpy()[0] = 5
    assert x.tolist() == [5, 0, 0] and np.shares_memory(np.asarray(x), x.numpy())
    assert np.asarray(x, dtype=np.float64).dtype == np.float64 and np.array(x) is not x.numpy()
    x.requires_grad_()
    for export in (lambda: x.numpy(), lambda: np.asarray(x)):
        with pytest.raises(RuntimeError, match=r"use tensor.detach\(\).numpy\(\)"):
            export()


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "pow", "floordiv", "mod", "matmul", "eq", "lt", "ge"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_numpy_operands_on_either_side(name, dtype):
    function = getattr(operator, name)
    a, b = (np.arange(1, 10).reshape(3, 3).astype(dtype) for _ in range(2))
    expected = function(torch.tensor(a), torch.tensor(b))
    for x, y in ((kdl.tensor(a), kdl.tensor(b)), (kdl.tensor(a), b), (a, kdl.tensor(b))):
        z = function(x, y)
        assert isinstance(z, kdl.Tensor) and str(z.dtype) == str(expected.dtype).removeprefix("torch.")
        np.testing.assert_allclose(z.numpy(), expected.numpy())
    assert isinstance(np.float64(2) * kdl.ones(2), kdl.Tensor)


# --- promotion ---
def operands(lib, kinds):
    made = []
    for kind in kinds:
        if isinstance(kind, tuple):
            dtype, shape = kind
            kind = lib.ones(shape, dtype=getattr(lib, dtype))
        made.append(kind)
    return made


OPERANDS = [(dtype, shape) for dtype in DTYPES for shape in ((), (2,))]


@pytest.mark.parametrize("default", ["float32", "float64"])
def test_promotion_agrees_with_torch(default):
    torch.set_default_dtype(getattr(torch, default))
    kdl.set_default_dtype(getattr(kdl, default))
    try:
        for kinds in itertools.product([*OPERANDS, True, 3, 2.5], repeat=2):
            expected = str(torch.result_type(*operands(torch, kinds))).removeprefix("torch.")
            assert str(kdl.result_type(*operands(kdl, kinds))) == expected, kinds
            if any(isinstance(k, tuple) for k in kinds):
                x, y = operands(kdl, kinds)
                assert str((x + y).dtype) == expected and str((y * x).dtype) == expected, kinds
    finally:
        torch.set_default_dtype(torch.float32)
        kdl.set_default_dtype(kdl.float32)


def test_promotion_of_three_operands_is_by_class_first():
    three = (kdl.ones(2, dtype=kdl.int8), kdl.ones((), dtype=kdl.int64), 1.5)
    assert kdl.result_type(*three) == kdl.float32 and kdl.result_type(*three[:2]) == kdl.int8
    assert kdl.result_type(np.ones(2, np.float16), np.float64(2)) == kdl.float16
    with pytest.raises(TypeError, match="result_type: expected tensors or numbers, got str"):
        kdl.result_type(kdl.ones(2), "a")


def test_promote_types_agrees_with_torch():
    for a, b in itertools.product(DTYPES, repeat=2):
        expected = torch.promote_types(getattr(torch, a), getattr(torch, b))
        assert str(kdl.promote_types(getattr(kdl, a), getattr(kdl, b))) == str(expected).removeprefix("torch.")


def test_dtypes_and_devices_that_do_not_exist():
    for wrong in ("complex64", "float8", object, np.uint16, "U3"):
        with pytest.raises(TypeError, match="dtype: expected"):
            kdl.zeros(1, dtype=wrong)
    assert kdl.zeros(1, dtype=float).dtype == kdl.float32 and kdl.zeros(1, dtype=int).dtype == kdl.int64
    assert kdl.zeros(1, dtype=bool).dtype == kdl.bool and kdl.zeros(1, dtype="float64").dtype == kdl.double
    for wrong in ("tpu", "cuda:x", "cpu:"):
        with pytest.raises(ValueError, match="device: expected 'cpu', 'cuda' or 'cuda:<index>', got"):
            kdl.device(wrong)
    assert kdl.device("cuda:1") == kdl.device("cuda", 1) != kdl.device("cuda")
    assert str(kdl.device("cuda", 1)) == "cuda:1" and str(kdl.device("cuda")) == "cuda"


# --- copies ---
def test_deep_copies_and_pickles_of_leaves():
    x = kdl.randn(2, 3, requires_grad=True)
    (x * x).sum().backward()
    y = copy.deepcopy(x)
    assert y.requires_grad and not np.shares_memory(y.detach().numpy(), x.detach().numpy())
    np.testing.assert_array_equal(y.grad.numpy(), x.grad.numpy())
    assert not np.shares_memory(y.grad.numpy(), x.grad.numpy())
    pair = copy.deepcopy([x, x])
    assert pair[0] is pair[1]
    z = pickle.loads(pickle.dumps(x))
    assert z.requires_grad and z.grad is None
    np.testing.assert_array_equal(z.detach().numpy(), x.detach().numpy())
    for dtype in DTYPES:
        t = kdl.ones(2, dtype=getattr(kdl, dtype))
        assert pickle.loads(pickle.dumps(t)).dtype == t.dtype and copy.deepcopy(t).tolist() == t.tolist()
    last = kdl.zeros(2, 3, 4, 5).to(memory_format=kdl.channels_last)
    assert copy.deepcopy(last).is_contiguous(memory_format=kdl.channels_last)
    for computed in (copy.deepcopy, pickle.dumps):
        with pytest.raises(RuntimeError, match=r"only leaf tensors .*use .detach\(\)"):
            computed(x * 2)
