"""The way of GPU arrays through kdl, on a stand-in for CuPy whose kernels run under simt: no GPU is needed.

In its strict form the stand-in refuses what real CuPy would compile at run time; see tests/fake_cupy.py.
"""
import struct

import numpy as np
import pytest

import kdl
import kdl.nn.functional as F
from kdl import kernels, nn, optim
from kdl.kernels import cuda, simt
from kdl.models import LeNet5
from tests import fake_cupy

pytestmark = pytest.mark.skipif(not simt.available(), reason=str(simt.problem()))


@pytest.fixture
def cupy():
    with fake_cupy.installed() as module:
        yield module


def batch(device, shape=(4, 1, 32, 32), classes=10):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(shape).astype(np.float32), rng.integers(0, classes, shape[0])
    return kdl.from_numpy(x).to(device), kdl.from_numpy(y).to(device)


def trained(make, device, loss, optimizer, steps=2, shape=(4, 1, 32, 32)):
    """The weights after some steps, as NumPy arrays."""
    kdl.manual_seed(0)
    model = make().to(device)
    x, y = batch(device, shape)
    stepper = optimizer(model.parameters())
    for _ in range(steps):
        stepper.zero_grad()
        loss(model(x), y).backward()
        stepper.step()
    return [p.detach().cpu().numpy() for p in model.state_dict().values()]


class Residual(nn.Module):
    """What a ResNet step calls: convolutions with strides, batch norm, additions, a global average."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.down = nn.Conv2d(4, 8, 1, stride=2, bias=False)
        self.body = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.stem(x))), 3, 2, 1)
        x = F.relu(self.body(x) + self.down(x))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class UNet(nn.Module):
    """What a U-Net step calls: transposed convolution and concatenation."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 4, 3, padding=1), nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        d = F.relu(self.down(x))
        return self.head(kdl.cat([d, self.up(F.max_pool2d(d, 2))], 1))


class Perceptron(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.GELU(), nn.Linear(16, 10))

    def forward(self, x):
        return self.layers(x)


def to_input(y, target):
    """A mean squared error with whatever has the prediction's shape."""
    return F.mse_loss(y, kdl.ones_like(y))


STEPS = {
    "lenet5": (LeNet5, F.cross_entropy, lambda p: optim.SGD(p, lr=0.05, momentum=0.9), (4, 1, 32, 32)),
    "lenet5 relu": (lambda: LeNet5(variant="relu"), F.cross_entropy,
                    lambda p: optim.Adam(p, lr=0.01, eps=1e-4), (4, 1, 32, 32)),  # or gradients of rounding count too
    "perceptron": (Perceptron, F.cross_entropy, lambda p: optim.AdamW(p, lr=0.01), (5, 1, 8, 8)),
    "perceptron mse": (Perceptron, to_input, lambda p: optim.RMSprop(p, lr=0.01, eps=0.1, momentum=0.5), (5, 1, 8, 8)),
    "residual": (Residual, F.cross_entropy, lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
                 (3, 3, 16, 16)),
    "u-net": (UNet, to_input, lambda p: optim.Adam(p, lr=0.01), (2, 1, 8, 8)),
}


@pytest.mark.parametrize("name", STEPS)
def test_training_gives_the_cpus_weights_and_compiles_nothing(name, cupy):
    make, loss, optimizer, shape = STEPS[name]
    ours = trained(make, "cuda", loss, optimizer, shape=shape)
    theirs = trained(make, "cpu", loss, optimizer, shape=shape)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def test_channels_last_training_compiles_nothing(cupy):
    make, loss, optimizer, shape = STEPS["residual"]
    last = lambda: make().to(memory_format=kdl.channels_last)
    for a, b in zip(trained(last, "cuda", loss, optimizer, shape=shape),
                    trained(make, "cpu", loss, optimizer, shape=shape), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def test_the_stand_in_refuses_what_would_compile(cupy):
    x = cupy.asarray(np.ones((3, 4), np.float32))
    for call in (lambda: x + x, lambda: x.sum(), lambda: x.astype(np.float64), lambda: cupy.exp(x),
                 lambda: cupy.ascontiguousarray(x.T), lambda: x.__setitem__(0, 1), lambda: x[np.array([1])]):
        with pytest.raises(fake_cupy.WouldCompile):
            call()


def test_the_command_line_trains(cupy, tmp_path, capsys):
    from kdl.cli import main
    rng = np.random.default_rng(0)
    for part, n in (("train", 24), ("t10k", 8)):
        images, labels = rng.integers(0, 256, (n, 28, 28), np.uint8), rng.integers(0, 10, n).astype(np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, n, 28, 28) + images.tobytes())
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, n) + labels.tobytes())
    code = main(["train", "lenet5", "--device", "cuda", "--data", str(tmp_path), "--epochs", "1", "--batch-size", "8",
                 "--out", str(tmp_path / "out")])
    assert code == 0, capsys.readouterr().err
    assert (tmp_path / "out" / "checkpoint.safetensors").exists()


# --- devices ---
def test_there_and_back(cupy):
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    x = kdl.from_numpy(a).to("cuda")
    assert x.is_cuda and str(x.device) == "cuda:0" and x.to("cuda:0") is x and isinstance(x.array, cupy.ndarray)
    np.testing.assert_array_equal(x.cpu().numpy(), a)
    assert kdl.zeros(2, device="cuda").is_cuda and kdl.ones(2, 2, device="cuda").cpu().tolist() == [[1, 1], [1, 1]]
    with pytest.raises(ValueError, match=r"cuda:1|below"):
        kdl.cuda.set_device(1)
    with pytest.raises(RuntimeError, match="expected a device below cuda:1, got cuda:3"):
        x.to("cuda:3")


def test_host_access_is_refused(cupy):
    x = kdl.ones(3, device="cuda")
    with pytest.raises(TypeError, match=r"use tensor.cpu\(\).numpy\(\)"):
        x.numpy()
    with pytest.raises(TypeError, match="GPU"):
        np.asarray(x)
    assert x[0].item() == 1.0 and "device='cuda:0'" in repr(x)


def test_mixed_devices_are_refused(cupy):
    x, y = kdl.ones(3, device="cuda"), kdl.ones(3)
    for call in (lambda: x + y, lambda: y * x, lambda: F.linear(x[None], kdl.ones(2, 3)), lambda: kdl.cat([x, y])):
        with pytest.raises(TypeError, match=r"same device.*\.to\(device\)"):
            call()


def test_gradients_come_back_to_where_the_input_was(cupy):
    x = kdl.ones(3, requires_grad=True)
    (x.to("cuda") * 2).sum().backward()
    assert not x.grad.is_cuda and x.grad.tolist() == [2, 2, 2]


def test_arrays_come_in_and_go_out_without_a_copy(cupy):
    a = cupy.asarray(np.arange(4, dtype=np.float32))
    x = kdl.as_tensor(a)
    assert x.array is a
    assert x.__cuda_array_interface__["data"] == a.__cuda_array_interface__["data"]
    assert not hasattr(kdl.ones(2), "__cuda_array_interface__")
    assert not hasattr(kdl.ones(2, device="cuda", requires_grad=True), "__cuda_array_interface__")
    assert x.__dlpack_device__() == (2, 0)
    assert kdl.from_dlpack(x).array.data.ptr == a.data.ptr


def test_a_namespace_without_the_kernel_says_so(cupy):
    with pytest.raises(AttributeError, match="cuda namespace has no kernel"):
        F.max_pool3d(kdl.ones(1, 1, 4, 4, 4, device="cuda"), 2)


# --- kdl.cuda ---
def test_the_names_of_torch_cuda(cupy):
    assert kdl.cuda.is_available() and kdl.cuda.device_count() == 1 and kdl.cuda.current_device() == 0
    assert kdl.cuda.get_device_name() == "NumPy" and kdl.cuda.get_device_capability("cuda:0") == (9, 0)
    kdl.cuda.synchronize()
    with kdl.cuda.device(0), kdl.cuda.stream(kdl.cuda.Stream()) as stream:
        assert stream.ptr == kdl.cuda.current_stream().ptr


def test_without_a_gpu(monkeypatch):
    if cuda.available():
        pytest.skip("there is a GPU")
    assert not kdl.cuda.is_available() and kdl.cuda.device_count() == 0
    kdl.cuda.empty_cache()
    for call in (kdl.cuda.current_device, kdl.cuda.synchronize, kdl.cuda.get_device_name, kdl.cuda.Stream,
                 lambda: kdl.zeros(2, device="cuda"), lambda: kdl.ones(2).cuda()):
        with pytest.raises(RuntimeError) as error:
            call()
        assert cuda.problem() in str(error.value)


@pytest.mark.parametrize("capability, architectures, runs", [
    ("7.5", "75-real 80-real 120-virtual", True), ("8.6", "75-real 80-real", True), ("9.0", "80-real", False),
    ("7.0", "75-real 75-virtual", False), ("9.0", "80", True), ("9.0", "90a-real", True), ("9.0", "native", True),
    ("10.0", "90a-virtual", False), ("12.1", "75-real 90-virtual", True), ("9.0", "100-real 120-virtual", False),
    ("10.3", "100f-real", False), ("12.0", "120-real", True)])
def test_which_code_runs_on_which_gpu(capability, architectures, runs):
    assert cuda.runs_on(capability, architectures) is runs


def test_a_gpu_that_no_code_fits(cupy, monkeypatch):
    monkeypatch.setattr(cuda._extension(), "architectures", "75-real 80-real")
    cuda.problem.cache_clear()
    with pytest.raises(RuntimeError, match=r"compute capability 9\.0, and these kernels are built for 75-real 80-real"):
        kdl.zeros(2, device="cuda")


def test_every_kernel_of_the_namespace_is_callable_by_name(cupy):
    assert kernels.get("cuda").functions.keys() == simt.functions().keys()
