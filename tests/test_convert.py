"""Casts, copies, memory orders, devices and overwriting, against torch where it has a say."""
import importlib.util
import itertools
import re

import numpy as np
import pytest

import kdl
from kdl.kernels import cuda

torch = pytest.importorskip("torch", reason="conversions are compared with torch")

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
LAYOUTS = {
    "contiguous": lambda make: make(np.arange(120.0).reshape(2, 3, 4, 5)),
    "channels_last": lambda make: make(np.arange(120.0).reshape(2, 4, 5, 3)).permute(0, 3, 1, 2),
    "transposed": lambda make: make(np.arange(120.0).reshape(5, 4, 3, 2)).permute(3, 2, 1, 0),
    "sliced": lambda make: make(np.arange(240.0).reshape(2, 3, 4, 10)[..., ::2]),
    "one channel": lambda make: make(np.arange(40.0).reshape(2, 1, 4, 5)),
    "expanded": lambda make: make(np.arange(15.0).reshape(1, 3, 1, 5)).expand(2, 3, 4, 5),
}


# --- dtypes ---
@pytest.mark.parametrize("source, target", [*itertools.product(DTYPES, DTYPES)])
def test_casts_are_torchs(source, target):
    values = np.array([0, 1, 2, 3, 100, 77], np.float64) * (1.25 if "float" in source else 1)
    ours = kdl.Tensor(values).to(getattr(kdl, source)).to(getattr(kdl, target))
    theirs = torch.from_numpy(values).to(getattr(torch, source)).to(getattr(torch, target))
    assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.")
    assert ours.tolist() == theirs.tolist()


def test_named_casts_and_identity():
    x = kdl.Tensor(np.ones(2, np.float32))
    for name, dtype in (("half", "float16"), ("bfloat16", "bfloat16"), ("double", "float64"), ("byte", "uint8"),
                        ("char", "int8"), ("short", "int16"), ("int", "int32"), ("long", "int64"), ("bool", "bool")):
        assert getattr(x, name)().dtype == getattr(kdl, dtype)
    assert x.float() is x and x.to(kdl.float32) is x and x.to("cpu") is x and x.to() is x and x.cpu() is x
    assert x.to(kdl.float32, copy=True) is not x and x.to(x, False, True) is not x
    assert x.to("cpu", kdl.float64).dtype == np.float64 and x.to(dtype=kdl.int32, device="cpu").dtype == np.int32
    assert x.to(kdl.Tensor(np.ones(1, np.int8))).dtype == np.int8
    assert x.type(kdl.float64).dtype == np.float64 and x.type_as(x.double()).dtype == np.float64
    assert x.to(float).dtype == np.float32 and x.to(np.float64).dtype == np.float64


def test_a_cast_gives_its_gradient_back_in_the_inputs_dtype(rng):
    x = kdl.Tensor(rng.standard_normal(4).astype(np.float32), requires_grad=True)
    (x.double() * 3).half().float().sum().backward()
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad.array, np.full(4, 3, np.float32))
    assert not x.long().requires_grad and not (x > 0).requires_grad


# --- memory order ---
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("change", [
    lambda library, x: x.clone(), lambda library, x: x.clone(memory_format=library.contiguous_format),
    lambda library, x: x.clone(memory_format=library.channels_last), lambda library, x: x.contiguous(),
    lambda library, x: x.contiguous(memory_format=library.channels_last), lambda library, x: x.float(),
    lambda library, x: x.to(memory_format=library.channels_last),
    lambda library, x: x.to(library.float32, memory_format=library.contiguous_format)])
def test_memory_order_after_a_change_is_torchs(layout, change):
    ours = change(kdl, LAYOUTS[layout](lambda a: kdl.Tensor(a)))
    theirs = change(torch, LAYOUTS[layout](lambda a: torch.from_numpy(a)))
    np.testing.assert_array_equal(ours.array, theirs.numpy())
    if layout not in ("sliced", "expanded"):  # torch keeps the strides of a dense tensor; of others it makes its own
        lengths = [i for i, n in enumerate(ours.shape) if n > 1]
        assert [ours.stride(i) for i in lengths] == [theirs.stride(i) for i in lengths]


def test_copies_have_memory_of_their_own(rng):
    for layout in LAYOUTS.values():
        x = layout(kdl.Tensor)
        for y in (x.clone(), x.clone(memory_format=kdl.channels_last), x.to(kdl.float64, copy=True)):
            assert not np.shares_memory(x.array, y.array)
    x = kdl.Tensor(rng.standard_normal((2, 3)))
    assert x.contiguous() is x
    y = kdl.Tensor(rng.standard_normal((2, 3)), requires_grad=True)
    z = y.clone()
    z.retain_grad()
    (z * 2).sum().backward()
    np.testing.assert_array_equal(y.grad.array, np.full((2, 3), 2.0))
    assert y.grad.array is not z.grad.array


# --- written over ---
def test_copy_and_fill_write_whatever_fits():
    x = kdl.Tensor(np.zeros((2, 3), np.float32))
    assert x.copy_(kdl.Tensor(np.arange(3))) is x and x.tolist() == [[0, 1, 2]] * 2
    assert x.copy_(np.array([[1.5], [2.5]])).tolist() == [[1.5] * 3, [2.5] * 3]
    assert x.fill_(kdl.Tensor(np.array(7))).tolist() == [[7] * 3] * 2 and x.zero_().tolist() == [[0] * 3] * 2
    whole = kdl.Tensor(np.zeros(2, np.int64))
    assert whole.fill_(3.7).tolist() == [3, 3] and whole.copy_(kdl.Tensor(np.array([2.9, -2.9]))).tolist() == [2, -2]
    strided = np.zeros((4, 4))
    kdl.Tensor(strided[::2, 1::2]).fill_(1)
    assert strided.sum() == 4


def test_detach_in_place(rng):
    x = kdl.Tensor(rng.standard_normal(3), requires_grad=True)
    y = x * 2
    assert y.detach_() is y and y.is_leaf and not y.requires_grad
    with pytest.raises(RuntimeError, match="detach_: a recorded view"):
        x.reshape(3, 1).detach_()


# --- errors ---
@pytest.mark.parametrize("call, error, text", [
    (lambda x, library: x.to("gpu"), ValueError, "device: expected 'cpu', 'cuda'"),
    (lambda x, library: x.to("float32"), ValueError, "device: expected .*, got .float32."),
    (lambda x, library: x.to(np.complex64), TypeError, "dtype: expected one of"),
    (lambda x, library: x.contiguous(memory_format=library.channels_last), ValueError,
     r"contiguous: expected a tensor of rank 4 for kdl.channels_last, got input \(2, 3\)"),
    (lambda x, library: x.clone(memory_format=library.channels_last_3d), ValueError, "clone: expected a tensor of ra"),
    (lambda x, library: x.to(memory_format="channels_last"), TypeError, "to: expected a memory format"),
    (lambda x, library: x.copy_(x.reshape(3, 2)), ValueError, "copy_: expected shapes that broadcast"),
    (lambda x, library: x.copy_(x.reshape(2, 1, 3)), ValueError, "copy_: expected a src that broadcasts to input"),
    (lambda x, library: x.fill_(x), ValueError, r"fill_: expected a number or a 0-d tensor, got value \(2, 3\)"),
    (lambda x, library: x.fill_("a"), TypeError, "fill_: expected tensors, arrays or real numbers, got operand str"),
])
def test_errors_say_what_was_expected(call, error, text):
    with pytest.raises(error, match=text):
        call(kdl.Tensor(np.ones((2, 3))), kdl)
    with pytest.raises((RuntimeError, TypeError)):
        call(torch.ones(2, 3), torch)


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_a_gpu_that_cannot_be_used_says_why():
    x = kdl.Tensor(np.ones(2))
    for call in (lambda: x.to("cuda"), lambda: x.cuda(), lambda: x.cuda(1), lambda: x.to("cuda:1", kdl.float32)):
        with pytest.raises(RuntimeError, match=rf"device 'cuda.*' cannot be used: {re.escape(cuda.problem())}"):
            call()
