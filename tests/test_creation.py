"""Tensors from data, from other libraries and of a shape, against torch."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kdl

torch = pytest.importorskip("torch", reason="creation is compared with torch: pip install 'kdl-kernels[test]'")

pytestmark = pytest.mark.filterwarnings("ignore:Creating a tensor from a list of numpy.ndarrays")  # torch
DTYPES = ["float16", "bfloat16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool"]


def same(ours, theirs):
    assert tuple(ours.shape) == tuple(theirs.shape)
    assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.")
    np.testing.assert_allclose(np.array(ours.tolist(), float), np.array(theirs.tolist(), float), rtol=1e-6)
    assert ours.requires_grad == theirs.requires_grad


# --- from data ---
@pytest.mark.parametrize("data", [
    1, 2.5, True, [], [[], []], [1, 2], [1, 2.5], [True, 2], [[1, 2], [3, 4]], (1, (2)), range(4), np.float64(1.5),
    np.float32(1.5), [np.float64(1)], [np.float32(1), 2], np.int32(3), [np.int16(1)], np.arange(6).reshape(2, 3),
    np.ones(2, np.float16), np.array(3), [np.ones(2, np.float32), [1, 2]], [[True], [False]], -0.0, [1e300],
    float("nan"), [float("inf"), 1]], ids=str)
def test_tensor_infers_as_torch_does(data):
    same(kdl.tensor(data), torch.tensor(data))
    same(kdl.as_tensor(data), torch.as_tensor(data))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("data", [[1, 0, 3], [1.5, 0.0, 2.0], [True, False], np.array([1.0, 0.0]),
                                  np.array([3, 4], np.uint8)], ids=str)
def test_tensor_casts_as_torch_does(data, dtype):
    same(kdl.tensor(data, dtype=getattr(kdl, dtype)), torch.tensor(data, dtype=getattr(torch, dtype)))
    same(kdl.as_tensor(data, getattr(kdl, dtype)), torch.as_tensor(data, dtype=getattr(torch, dtype)))


def test_numbers_are_rounded_once():
    assert kdl.tensor([0.1], dtype=kdl.float64).item() == kdl.as_tensor(0.1, kdl.float64).item() == 0.1
    assert kdl.full((), 0.1, dtype=kdl.float64).item() == 0.1 == kdl.linspace(0.1, 1, 2, dtype=kdl.float64)[0].item()
    assert kdl.tensor([2**53 + 1]).item() == 2**53 + 1 and kdl.tensor(2**63 - 1).item() == 2**63 - 1


numbers = st.one_of(st.booleans(), st.integers(-2**40, 2**40), st.floats(-1e6, 1e6))


@settings(max_examples=60, deadline=None)
@given(data=st.one_of(numbers, st.lists(numbers), st.integers(0, 3).flatmap(
    lambda n: st.lists(st.lists(numbers, min_size=n, max_size=n), max_size=4))))
def test_tensor_of_nested_lists(data):
    same(kdl.tensor(data), torch.tensor(data))


def test_tensor_follows_the_default_dtype():
    kdl.set_default_dtype(kdl.float64)
    try:
        assert kdl.tensor(1.0).dtype == kdl.zeros(1).dtype == kdl.arange(2.0).dtype == kdl.rand(1).dtype == kdl.float64
        assert kdl.tensor(np.float32(1)).dtype == kdl.float32 and kdl.tensor([1]).dtype == kdl.int64
    finally:
        kdl.set_default_dtype(kdl.float32)
    for wrong in (kdl.int64, "complex64"):
        with pytest.raises(TypeError, match="dtype"):
            kdl.set_default_dtype(wrong)


def test_tensor_takes_tensors_and_lists_of_them():
    x = kdl.tensor([1.0, 2.0], requires_grad=True)
    y = kdl.tensor(x, requires_grad=True)
    assert y.is_leaf and not np.shares_memory(x.detach().numpy(), y.detach().numpy())
    assert kdl.tensor([x[0], 3, x[1].detach()]).tolist() == [1, 3, 2]
    assert kdl.tensor([kdl.tensor([1, 2]), kdl.tensor([3, 4])]).tolist() == [[1, 2], [3, 4]]
    assert kdl.tensor(torch.ones(2)).tolist() == [1, 1]  # anything with __array__


def test_what_shares_memory_and_what_copies():
    a = np.zeros(3)
    for shared in (kdl.from_numpy(a), kdl.as_tensor(a), kdl.asarray(a), kdl.asarray(a, copy=False), kdl.from_dlpack(a)):
        assert np.shares_memory(a, shared.numpy())
    for copied in (kdl.tensor(a), kdl.asarray(a, copy=True), kdl.as_tensor(a, kdl.float32), kdl.tensor(a[::2])):
        assert not np.shares_memory(a, copied.numpy())
    x = kdl.ones(3, requires_grad=True)
    assert kdl.as_tensor(x) is x and kdl.as_tensor(x * 2, kdl.float64).requires_grad
    assert kdl.asarray([1.0, 2.0], requires_grad=True).requires_grad
    with pytest.raises(ValueError, match="asarray: expected data that can be shared, with copy=False"):
        kdl.asarray([1, 2], copy=False)
    with pytest.raises(ValueError, match="copy=False"):
        kdl.asarray(a, dtype=kdl.float32, copy=False)
    last = np.zeros((2, 4, 5, 3)).transpose(0, 3, 1, 2)
    assert kdl.tensor(last).is_contiguous(memory_format=kdl.channels_last)


def test_from_numpy_takes_views_and_subclasses(tmp_path):
    a = np.arange(6.0).reshape(2, 3)
    assert kdl.from_numpy(a[::-1]).tolist() == a[::-1].tolist() and kdl.from_numpy(a.T).shape == (3, 2)
    np.save(tmp_path / "a.npy", a)
    mapped = kdl.from_numpy(np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert type(mapped.array) is np.ndarray and (mapped + 1).tolist() == (a + 1).tolist()


DATA_REFUSED = {
    "tensor: expected real numbers, sequences of them, arrays or tensors, got data complex": (1 + 2j, TypeError),
    "tensor: expected real numbers, sequences of them, arrays or tensors, got data str": ("ab", TypeError),
    "got data NoneType": ([1, None], TypeError), "got data dict": ({1: 2}, TypeError), "got data set": ({1}, TypeError),
    "got data generator": ((i for i in ()), TypeError), "got data bytes": (b"ab", TypeError),
    "tensor: expected nested sequences of equal lengths": ([[1], [2, 3]], ValueError),
    "tensor: expected real numbers of a dtype that kdl has, got complex128": (np.zeros(2, complex), TypeError),
    "got <U1": (np.array(["a"]), TypeError), "got object": (np.array([object()]), TypeError),
    "got >f4": (np.zeros(2, ">f4"), TypeError), "got datetime64[s]": (np.array(["2020-01-01"], "M8[s]"), TypeError),
    "tensor: expected integers within 64 bits": (2**70, ValueError),
    "tensor: expected integers within 64 bits, got": (2**63, ValueError),
}


@pytest.mark.parametrize("text", DATA_REFUSED)
def test_data_that_is_no_tensor(text):
    data, error = DATA_REFUSED[text]
    with pytest.raises(error) as caught:
        kdl.tensor(data)
    assert text in str(caught.value)
    if "datetime" not in text and "complex" not in text:
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            torch.tensor(data)


def test_other_wrong_data():
    with pytest.raises(ValueError, match="tensor: expected integers that uint8 holds, got smallest 300, largest 300"):
        kdl.tensor([300], dtype=kdl.uint8)
    with pytest.raises(RuntimeError, match="only floating-point tensors can require gradients, got int64"):
        kdl.tensor([1, 2], requires_grad=True)
    with pytest.raises(TypeError, match="from_numpy: expected a NumPy array, got ndarray list"):
        kdl.from_numpy([1])
    with pytest.raises(TypeError, match="dtype"):
        kdl.tensor([1], dtype="complex64")
    with pytest.raises(RuntimeError, match=r"CuPy|GPU"):
        kdl.tensor([1], device="cuda")


# --- of a shape ---
@pytest.mark.parametrize("name", ["zeros", "ones", "empty"])
def test_shapes_and_options(name):
    ours, theirs = getattr(kdl, name), getattr(torch, name)
    for args in ((2, 3), ((2, 3),), ([2, 3],), ((),), (0,), (torch.Size([2]),), (np.int64(2), 3)):
        assert tuple(ours(*args).shape) == tuple(theirs(*args).shape)
    assert ours(size=(2,)).shape == (2,) and ours(kdl.tensor(2), 3).shape == (2, 3)
    x = ours(2, dtype=kdl.float64, device="cpu", requires_grad=True)
    assert x.dtype == kdl.float64 and x.requires_grad and x.is_leaf
    for wrong, error, text in (((2.5,), TypeError, "size to be ints, got"), ((), TypeError, "expected a size"),
                               ((-1,), ValueError, "lengths of at least 0"), (("2",), TypeError, "size to be ints")):
        with pytest.raises(error, match=f"{name}: .*{text}"):
            ours(*wrong)
        with pytest.raises((TypeError, RuntimeError)):
            theirs(*wrong)
    with pytest.raises(TypeError, match=name):
        ours(2, shape=(3,))
    with pytest.raises(RuntimeError, match="require gradients"):
        ours(2, dtype=kdl.int64, requires_grad=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_filled_tensors_of_every_dtype(dtype):
    ours, theirs = getattr(kdl, dtype), getattr(torch, dtype)
    same(kdl.ones(2, dtype=ours), torch.ones(2, dtype=theirs))
    same(kdl.full((2,), 1.75, dtype=ours), torch.full((2,), 1.75, dtype=theirs))
    same(kdl.eye(2, 3, dtype=ours), torch.eye(2, 3, dtype=theirs))
    x, t = kdl.zeros(2, dtype=ours), torch.zeros(2, dtype=theirs)
    same(kdl.full_like(x, 1.75), torch.full_like(t, 1.75))
    same(x.new_full((2,), 1.75), t.new_full((2,), 1.75))
    same(x.new_tensor([1.75, 0]), t.new_tensor([1.75, 0]))
    same(x.new_ones(2, 3), t.new_ones(2, 3))
    same(x.new_zeros((2, 3), dtype=kdl.int32), t.new_zeros((2, 3), dtype=torch.int32))
    assert x.new_empty(3).dtype == x.dtype and x.new_zeros(1, requires_grad=False).dtype == x.dtype
    if dtype != "bool":
        same(kdl.arange(1, 6, 2, dtype=ours), torch.arange(1, 6, 2, dtype=theirs))
        same(kdl.linspace(0, 10, 5, dtype=ours), torch.linspace(0, 10, 5, dtype=theirs))


def test_like_keeps_memory_order_and_not_the_recording():
    x = kdl.ones(2, 3, 4, 5, requires_grad=True).to(memory_format=kdl.channels_last)
    for make in (kdl.zeros_like, kdl.ones_like, kdl.empty_like, lambda t, **o: kdl.full_like(t, 2, **o)):
        assert make(x).is_contiguous(memory_format=kdl.channels_last) and not make(x).requires_grad
        assert make(x, memory_format=kdl.contiguous_format).is_contiguous()
        assert make(kdl.ones(2, 3, 4, 5), memory_format=kdl.channels_last).stride() == (60, 1, 15, 3)
        assert make(x, dtype=kdl.int32).dtype == kdl.int32 and make(x, requires_grad=True).requires_grad
    with pytest.raises(TypeError, match=r"zeros_like: expected input to be a Tensor, got int"):
        kdl.zeros_like(3)


# --- sequences ---
@settings(max_examples=60, deadline=None)
@given(start=st.integers(-20, 20), end=st.integers(-20, 20), step=st.integers(-7, 7).filter(bool), real=st.booleans())
def test_arange(start, end, step, real):
    if (end - start) * step < 0:
        start, end = end, start
    args = (start / 4, end / 4, step / 4) if real else (start, end, step)
    same(kdl.arange(*args), torch.arange(*args))
    same(kdl.arange(*args, dtype=kdl.float64), torch.arange(*args, dtype=torch.float64))


@settings(max_examples=60, deadline=None)
@given(start=st.floats(-9, 9), end=st.floats(-9, 9), steps=st.integers(0, 40))
def test_linspace_and_logspace(start, end, steps):
    for dtype, tolerance in (("float32", 2e-6), ("float64", 1e-14)):
        for name, args in (("linspace", ()), ("logspace", (2.0,))):
            ours = getattr(kdl, name)(start, end, steps, *args, dtype=getattr(kdl, dtype))
            theirs = getattr(torch, name)(start, end, steps, *args, dtype=getattr(torch, dtype))
            scale = np.abs(theirs.numpy()).max(initial=1e-30)
            np.testing.assert_allclose(ours.numpy() / scale, theirs.numpy() / scale, rtol=0, atol=tolerance)
            assert ours.dtype == getattr(kdl, dtype)


def test_sequences_from_tensors_and_to_infinity():
    same(kdl.arange(kdl.tensor(4)), torch.arange(torch.tensor(4)))
    same(kdl.full((2,), kdl.tensor(3.0)), torch.full((2,), torch.tensor(3.0)))
    assert kdl.full((1,), float("-inf")).tolist() == [-np.inf]
    same(kdl.arange(2.5, dtype=kdl.int64), torch.arange(2.5, dtype=torch.int64))


REFUSED = {
    "arange: expected finite numbers and a step that leads from start to end, got start 5, end 1, step 1":
        lambda lib: lib.arange(5, 1),
    "step that leads from start to end, got start 0, end 1, step 0": lambda lib: lib.arange(0, 1, 0),
    "arange: expected finite numbers": lambda lib: lib.arange(0, float("inf")),
    "arange: expected finite numbers and": lambda lib: lib.arange(float("nan")),
    "arange: expected end to be a number, got end str": lambda lib: lib.arange("5"),
    "linspace: expected at least 0 steps, got steps -1": lambda lib: lib.linspace(0, 1, -1),
    "linspace: expected an integer number of steps, got steps 2.5": lambda lib: lib.linspace(0, 1, 2.5),
    "full: expected fill_value to be a number, got fill_value str": lambda lib: lib.full((2,), "a"),
    "full: expected size to be ints": lambda lib: lib.full((2.5,), 1),
    "eye: expected lengths of at least 0": lambda lib: lib.eye(-1),
    "triu_indices: expected dtype int32 or int64": lambda lib: lib.triu_indices(2, 2, dtype=lib.float32),
    "triu_indices: expected lengths of at least 0": lambda lib: lib.triu_indices(-1, 2),
    "device: expected 'cpu', 'cuda' or 'cuda:<index>', got 'tpu9'": lambda lib: lib.ones(2, device="tpu9"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_refused_with_one_sentence_as_torch_refuses(text):
    with pytest.raises((ValueError, TypeError)) as caught:
        REFUSED[text](kdl)
    assert text in str(caught.value)
    with pytest.raises((ValueError, TypeError, RuntimeError, NotImplementedError)):
        REFUSED[text](torch)


# --- other libraries ---
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool"])
def test_dlpack_to_and_from_torch_and_numpy(dtype):
    x = kdl.ones(2, 3, dtype=getattr(kdl, dtype))
    t = torch.from_dlpack(x)
    assert t.dtype == getattr(torch, dtype) and t.data_ptr() == x.array.ctypes.data
    t[0, 1] = 0
    assert not x[0, 1].item()
    back = kdl.from_dlpack(t.T)
    assert back.shape == (3, 2) and back.array.ctypes.data == t.data_ptr() and back.dtype == x.dtype
    assert np.shares_memory(np.from_dlpack(x), x.array)
    assert x.__dlpack_device__() == (1, 0)


def test_dlpack_refusals():
    x = kdl.ones(2, requires_grad=True)
    with pytest.raises(BufferError, match=r"requires grad; use tensor.detach\(\)"):
        torch.from_dlpack(x)
    with pytest.raises(TypeError, match="from_dlpack: expected an object with __dlpack__, got ext_tensor list"):
        kdl.from_dlpack([1])
    with pytest.raises(TypeError, match="from_dlpack: expected real numbers of a dtype that kdl has, got complex64"):
        kdl.from_dlpack(torch.ones(2, dtype=torch.complex64))


def test_small_questions():
    assert kdl.is_tensor(kdl.ones(1)) and not kdl.is_tensor(np.ones(1))
    assert kdl.is_floating_point(kdl.ones(1)) and not kdl.is_floating_point(kdl.arange(1))
    assert kdl.numel(kdl.ones(2, 3)) == 6
    with pytest.raises(TypeError, match="numel: expected input to be a Tensor"):
        kdl.numel([1])
