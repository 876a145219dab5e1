"""What torch has at its top level and on its tensors beside the operations of the op table, against torch's."""
import warnings

import numpy as np
import pytest

import kdl

torch = pytest.importorskip("torch", reason="compared with torch: pip install 'kdl-kernels[test]'")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_finfo_is_torchs(dtype):
    ours, theirs = kdl.finfo(getattr(kdl, dtype)), torch.finfo(getattr(torch, dtype))
    for name in ("bits", "eps", "max", "min", "tiny", "smallest_normal", "resolution", "dtype"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert repr(ours) == repr(theirs) and repr(kdl.finfo()) == repr(torch.finfo())
    with pytest.raises(TypeError, match="finfo: expected a floating-point dtype, got int64"):
        kdl.finfo(kdl.int64)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64"])
def test_iinfo_is_torchs(dtype):
    ours, theirs = kdl.iinfo(getattr(kdl, dtype)), torch.iinfo(getattr(torch, dtype))
    assert (ours.bits, ours.min, ours.max, ours.dtype) == (theirs.bits, theirs.min, theirs.max, theirs.dtype)
    assert ours.bits > 16 or repr(ours) == repr(theirs)  # torch shows large numbers with six digits
    for wrong in (kdl.float32, kdl.bool):
        with pytest.raises(TypeError, match="iinfo: expected an integer dtype"):
            kdl.iinfo(wrong)


def test_inference_mode():
    x = kdl.ones(2, requires_grad=True)
    assert not kdl.is_inference_mode_enabled()
    with kdl.inference_mode():
        assert kdl.is_inference_mode_enabled() and not kdl.is_grad_enabled() and not (x * 2).requires_grad
        with kdl.inference_mode(False):
            assert not kdl.is_inference_mode_enabled() and (x * 2).requires_grad
        assert kdl.is_inference_mode_enabled()
    assert (x * 2).requires_grad and not kdl.is_inference_mode_enabled()

    @kdl.inference_mode()
    def with_brackets():
        return (x * 2).requires_grad, kdl.is_inference_mode_enabled()

    @kdl.inference_mode
    def without():
        return (x * 2).requires_grad, kdl.is_inference_mode_enabled()

    @kdl.inference_mode()
    def generator():
        yield kdl.is_inference_mode_enabled()
        yield kdl.is_inference_mode_enabled()

    assert with_brackets() == without() == (False, True)
    values = generator()
    assert next(values) and not kdl.is_inference_mode_enabled() and next(values)


def pair(array):
    return kdl.tensor(array), torch.from_numpy(np.array(array))


@pytest.mark.parametrize("name", ["nelement", "ndimension", "is_signed", "is_complex", "get_device", "is_pinned"])
@pytest.mark.parametrize("array", [np.ones((2, 3), np.float32), np.ones((), np.uint8), np.ones(0, bool)])
def test_what_a_tensor_is(name, array):
    ours, theirs = pair(array)
    assert getattr(ours, name)() == getattr(theirs, name)()
    if hasattr(torch, name) and name != "get_device":
        assert getattr(kdl, name)(ours) == getattr(torch, name)(theirs)
    assert ours.is_cpu and theirs.is_cpu and ours.pin_memory() is ours
    assert ours.data_ptr() == ours.array.ctypes.data == kdl.Tensor(ours.array).data_ptr()


def test_comparisons_of_shape_and_truth():
    a, b = kdl.ones(2, 3), kdl.zeros(3, 2)
    assert a.is_same_size(kdl.zeros(2, 3)) and not kdl.is_same_size(a, b)
    assert kdl.is_nonzero(kdl.tensor([2.0])) and not kdl.tensor(0).is_nonzero()
    with pytest.raises(RuntimeError):
        kdl.is_nonzero(a)


@pytest.mark.parametrize("shape, dim, size, step", [((7,), 0, 3, 2), ((7,), 0, 2, 3), ((7,), 0, 7, 1), ((7,), 0, 0, 1),
                                                    ((3, 8, 2), 1, 3, 1), ((3, 8, 2), -2, 5, 3), ((4, 5), 0, 1, 1)])
def test_slices_of_a_dimension(shape, dim, size, step):
    x = np.random.default_rng(0).standard_normal(shape)
    a, b = kdl.Tensor(x).requires_grad_(), torch.from_numpy(x.copy()).requires_grad_()
    ours, theirs = (a * 1).unfold(dim, size, step), (b * 1).unfold(dim, size, step)
    np.testing.assert_array_equal(ours.detach().array, theirs.detach().numpy())
    weights = np.random.default_rng(1).standard_normal(ours.shape)
    (ours * kdl.Tensor(weights)).sum().backward()
    (theirs * torch.from_numpy(weights)).sum().backward()
    np.testing.assert_allclose(a.grad.array, b.grad.numpy(), rtol=1e-12)
    view = kdl.Tensor(x).unfold(dim, size, step)
    assert view.numel() == 0 or np.shares_memory(view.array, x)


def test_slices_that_do_not_fit():
    for arguments in ((0, 8, 1), (0, 2, 0), (0, -1, 1)):
        with pytest.raises(ValueError, match="unfold: expected 0 <= size"):
            kdl.ones(7).unfold(*arguments)
    with pytest.raises(IndexError):
        kdl.ones(7).unfold(1, 2, 1)
    x = kdl.ones(7, requires_grad=True) * 1
    y = (x.unfold(0, 3, 1) ** 2).sum()
    y.backward(retain_graph=True)
    x.detach().zero_()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


@pytest.mark.parametrize("name, arguments", [("squeeze_", ()), ("squeeze_", (1,)), ("unsqueeze_", (0,)),
                                             ("transpose_", (0, 2)), ("swapaxes_", (0, 1)), ("swapdims_", (1, 2))])
def test_shapes_in_place(name, arguments):
    ours, theirs = pair(np.arange(6.0).reshape(2, 1, 3))
    memory, a = ours.array, ours
    assert getattr(ours, name)(*arguments) is a
    getattr(theirs, name)(*arguments)
    np.testing.assert_array_equal(ours.array, theirs.numpy())
    assert np.shares_memory(ours.array, memory)
    x = kdl.ones(2, 1, 3, requires_grad=True)
    y = x * 2
    getattr(y, name)(*arguments)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.array, np.full((2, 1, 3), 2))
    with pytest.raises(RuntimeError, match="a leaf that requires grad"):
        getattr(x, name)(*arguments)
    assert kdl.ones(2, 3).t_().shape == (3, 2)


@pytest.mark.parametrize("shape, wrap", [((4, 3), False), ((7, 3), True), ((7, 3), False), ((3, 7), True),
                                         ((3, 3, 3), False), ((0, 3), False)])
def test_filling_diagonals_and_running_sums_in_place(shape, wrap):
    ours, theirs = pair(np.random.default_rng(0).standard_normal(shape))
    for x in (ours, theirs):
        assert x.fill_diagonal_(5, wrap) is x
        assert x.cumsum_(0) is x and x.cumprod_(-1) is x
    np.testing.assert_allclose(ours.array, theirs.numpy(), rtol=1e-12)
    with pytest.raises(ValueError, match="a matrix, or dimensions of one length"):
        kdl.ones(3).fill_diagonal_(1)


def test_other_shapes_of_matrices_and_sums():
    ours, theirs = pair(np.arange(24.0).reshape(2, 3, 4))
    for size in ((3, 1), (1, 3, 4), (4,), (2, 1, 1), (2, 3, 4)):
        np.testing.assert_array_equal(ours.sum_to_size(*size).array, theirs.sum_to_size(*size).numpy())
    with pytest.raises(ValueError, match="a size that expands"):
        ours.sum_to_size(2, 4)
    np.testing.assert_array_equal(ours.mH.array, theirs.mH.numpy())
    np.testing.assert_array_equal(ours[0].H.array, theirs[0].H.numpy())
    for a, b in zip(ours.split_with_sizes([1, 3], 2), theirs.split_with_sizes([1, 3], 2), strict=True):
        np.testing.assert_array_equal(a.array, b.numpy())
    assert kdl.ger is kdl.outer


def test_buffers_typed_constructors_and_constants():
    data = np.arange(6, dtype=np.float32).tobytes()
    np.testing.assert_array_equal(kdl.frombuffer(data, dtype=kdl.float32, count=3, offset=4).array, [1, 2, 3])
    for name in ("FloatTensor", "DoubleTensor", "HalfTensor", "BFloat16Tensor", "LongTensor", "IntTensor",
                 "ShortTensor", "CharTensor", "ByteTensor", "BoolTensor"):
        ours, theirs = (getattr(module, name) for module in (kdl, torch))
        assert str(ours([1, 0]).dtype) == str(theirs([1, 0]).dtype).removeprefix("torch.")
        assert ours(2, 3).shape == theirs(2, 3).shape and ours().shape == theirs().shape
        assert ours([1, 0]).tolist() == theirs([1, 0]).tolist()
    for name in ("e", "pi", "inf"):
        assert getattr(kdl, name) == getattr(torch, name)
    assert isinstance(kdl.bfloat16, kdl.dtype) and isinstance(kdl.channels_last, kdl.memory_format)
    assert kdl.newaxis is None and kdl.nan != kdl.nan


def test_how_tensors_are_shown():
    x = kdl.tensor([1e-5, 2.123456789])
    before = repr(x)
    try:
        kdl.set_printoptions(precision=2, sci_mode=False)
        assert repr(x) == "tensor([0.  , 2.12])"
        kdl.set_printoptions(profile="full")
        assert "..." not in repr(kdl.zeros(2000))
        kdl.set_printoptions(edgeitems=1, threshold=5)
        assert repr(kdl.zeros(2000)) == "tensor([0., ..., 0.])"
    finally:
        kdl.set_printoptions(profile="default")
    assert repr(x) == before
    with pytest.raises(ValueError, match="profile one of"):
        kdl.set_printoptions(profile="long")


def test_switches_of_backends():
    kdl.backends.cudnn.benchmark = True
    kdl.use_deterministic_algorithms(True)
    assert kdl.are_deterministic_algorithms_enabled() and not kdl.backends.mps.is_available()
    kdl.use_deterministic_algorithms(False)
    assert not kdl.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("name, arguments, mean", [("log_normal_", (0, 0.5), np.exp(0.125)),
                                                   ("geometric_", (0.25,), 4.0)])
def test_fills_have_their_means(name, arguments, mean):
    kdl.manual_seed(0)
    assert abs(getattr(kdl.empty(100000), name)(*arguments).mean().item() - mean) < 0.02 * mean
    with pytest.raises(ValueError):
        getattr(kdl.empty(3), name)(*([-1] * len(arguments)))


def test_poisson_and_cauchy():
    kdl.manual_seed(0)
    rates = kdl.tensor([0.0, 1.0, 20.0]).expand(20000, 3)
    drawn = kdl.poisson(rates)
    assert drawn.dtype == kdl.float32
    np.testing.assert_allclose(drawn.array.mean(0), [0, 1, 20], rtol=0.03)
    with pytest.raises(ValueError, match="rates of at least 0"):
        kdl.poisson(-kdl.ones(2))
    assert abs(kdl.empty(100000).cauchy_(3.0, 0.5).median().item() - 3) < 0.02


# --- other namespaces ---
def test_functions_at_both_places_are_the_same():
    for name in ("conv2d", "max_pool2d", "layer_norm", "cosine_similarity", "pixel_shuffle", "conv_transpose1d"):
        assert getattr(kdl, name) is getattr(kdl.nn.functional, name)
    x = np.random.default_rng(0).standard_normal((1, 2, 5, 5))
    w = np.random.default_rng(0).standard_normal((2, 3, 2, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = torch.conv_transpose2d(torch.from_numpy(x), torch.from_numpy(w), None, 2, 1, 0, 1, 1)
    np.testing.assert_allclose(kdl.conv_transpose2d(kdl.Tensor(x), kdl.Tensor(w), None, 2, 1, 0, 1, 1).array,
                               theirs.numpy(), rtol=1e-12)


def test_names_of_dtypes_as_types():
    for dtype in ("FloatTensor", "LongTensor", "BoolTensor", "HalfTensor"):
        ours, theirs = getattr(kdl, dtype)([1, 0]), getattr(torch, dtype)([1, 0])
        assert ours.type() == theirs.type().replace("torch", "kdl")
        assert kdl.ones(2).type(getattr(kdl, dtype)).dtype == ours.dtype
    assert kdl.ones(2).type(kdl.int32).dtype == kdl.int32 and kdl.ones(2).type("int8").dtype == kdl.int8


@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 3, 4)])
def test_places_of_flat_positions(shape):
    size = int(np.prod(shape))
    positions = np.random.default_rng(0).integers(-size, size, (2, 6))
    for a, b in zip(kdl.unravel_index(kdl.Tensor(positions), shape),
                    torch.unravel_index(torch.from_numpy(positions), shape), strict=True):
        np.testing.assert_array_equal(a.array, b.numpy())
    with pytest.raises(ValueError, match="positions in the shape"):
        kdl.unravel_index(kdl.tensor([size]), shape)
    with pytest.raises(TypeError, match="integer indices"):
        kdl.unravel_index(kdl.ones(1), shape)


FUNCTIONS = {
    "one": (lambda x: (x**3).sum(), [(2, 3)]), "matrix": (lambda x: x.exp(), [(2, 2)]),
    "two": (lambda x, y: x @ y, [(2, 3), (3,)]), "pair": (lambda x, y: (x * y, x.sum()), [(3,), (3,)]),
    "unused": (lambda x, y: x * 2, [(2,), (3,)]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_jacobians_are_torchs(name):
    func, shapes = FUNCTIONS[name]
    arrays = [np.random.default_rng(i).standard_normal(shape) for i, shape in enumerate(shapes)]
    ours, theirs = tuple(map(kdl.Tensor, arrays)), tuple(map(torch.from_numpy, arrays))
    if len(arrays) == 1:
        (ours,), (theirs,) = ours, theirs
    same(kdl.autograd.functional.jacobian(func, ours), torch.autograd.functional.jacobian(func, theirs))
    outputs = func(*theirs) if len(arrays) > 1 else func(theirs)
    several = isinstance(outputs, tuple)
    v = [np.random.default_rng(9).standard_normal(tuple(y.shape)) for y in (outputs if several else [outputs])]
    a, b = [kdl.Tensor(w) for w in v], [torch.from_numpy(w) for w in v]
    same(kdl.autograd.functional.vjp(func, ours, a if several else a[0]),
         torch.autograd.functional.vjp(func, theirs, tuple(b) if several else b[0]))
    if name == "unused":
        with pytest.raises(RuntimeError, match="does not depend"):
            kdl.autograd.functional.jacobian(func, ours, strict=True)


def same(ours, theirs):
    if isinstance(theirs, tuple):
        for a, b in zip(ours, theirs, strict=True):
            same(a, b)
    else:
        np.testing.assert_allclose(ours.array, theirs.numpy(), rtol=1e-12)


def test_threads():
    before = kdl.get_num_threads()
    assert before >= 1
    kdl.set_num_threads(1)
    assert kdl.get_num_threads() == 1
    kdl.set_num_threads(before)
    assert kdl.get_num_threads() == before
    with pytest.raises(ValueError, match="an int above 0"):
        kdl.set_num_threads(0)


def test_seeds_and_memory_of_gpus():
    kdl.cuda.manual_seed_all(5)
    first = kdl.rand(3).tolist()
    kdl.cuda.manual_seed(5)
    assert kdl.rand(3).tolist() == first
    if not kdl.cuda.is_available():
        assert kdl.cuda.memory_allocated() == kdl.cuda.memory_reserved() == 0 and not kdl.cuda.is_bf16_supported()


def test_in_place_functions_are_torchs():
    names = {name for name in dir(torch) if name.endswith("_") and not name.startswith("_")}
    missing = {name for name in names if hasattr(kdl.Tensor, name) and not hasattr(kdl, name)}
    assert not missing
    x = kdl.ones(2)
    assert kdl.exp_(x) is x and kdl.clamp_(x, 0, 2) is x and x.tolist() == [2, 2] and kdl.zero_(x).tolist() == [0, 0]
