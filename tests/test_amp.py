"""Mixed precision: dtypes and training steps against torch's autocast on the CPU, and the gradient scaler."""
import copy
import importlib
import pkgutil
import threading
import warnings

import numpy as np
import pytest

import kdl
import kdl.nn.functional as F
from kdl import nn, ops
from kdl.autograd import Function
from kdl.kernels import simt
from tests import fake_cupy
from tests.optable import ROWS
from tests.test_optable import build, call

torch = pytest.importorskip("torch", reason="compared with torch: pip install 'kdl-kernels[test]'")
lists = importlib.import_module("kdl.autograd.autocast")

CASES = [pytest.param(row, case, id=f"{row.name}({case})") for row in ROWS if row.torch
         for case in row.cases[:2]]

# Where torch's CPU kernels decide otherwise than by its lists: recurrent cells keep float32, some products of vectors
# are no matrix products, and what has no kernel for bfloat16 is computed, or left, in float32.
LOWER_HERE = {"bilinear", "einsum", "gru", "gru_cell", "inner", "lstm", "lstm_cell", "tensordot"}
NO_KERNEL = {"adaptive_avg_pool3d", "adaptive_max_pool3d", "adaptive_max_pool3d_with_indices", "avg_pool3d",
             "cholesky_inverse", "cholesky_solve", "fractional_max_pool2d", "fractional_max_pool2d_with_indices",
             "fractional_max_pool3d", "fractional_max_pool3d_with_indices", "grid_sample", "inverse", "interpolate",
             "ldexp", "local_response_norm", "lp_pool3d", "matrix_power", "max_pool3d", "max_unpool1d",
             "max_unpool2d", "max_unpool3d", "nanquantile", "nextafter", "pad", "pinverse", "quantile", "trace"}
WEIGHTED = {"l1_loss", "mse_loss"}  # torch multiplies the losses by weights in Python, in bfloat16


def results(row, case, low, module):
    """The dtypes of the outputs inside autocast, for float32 inputs or, where `low`, bfloat16 ones."""
    ours = module is kdl
    functional = F if ours else torch.nn.functional
    function = getattr(functional, row.name, None) or getattr(module, row.name)
    tensors = {}
    for position, array, _ in build(case, "float32"):
        x = kdl.Tensor(array.copy()) if ours else torch.from_numpy(np.array(array))
        tensors[position] = x.bfloat16() if low and x.is_floating_point() else x
    with module.autocast("cpu", module.bfloat16):
        return [str(y.dtype).removeprefix("torch.") for y in call(function, case, tensors)]


@pytest.mark.parametrize("low", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("row, case", CASES)
@pytest.mark.filterwarnings("ignore")
def test_dtypes_are_torchs(row, case, low):
    if row.name in (NO_KERNEL | WEIGHTED if low else LOWER_HERE):
        pytest.skip("torch decides otherwise")
    try:
        theirs = results(row, case, low, torch)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        pytest.skip(f"torch: {error}")
    assert results(row, case, low, kdl) == theirs


# --- training ---
def recurrent(module):
    """A recurrent network and a linear layer on its last output."""
    class Recurrent(module.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = module.RNN(6, 8, batch_first=True), module.Linear(8, 3)

        def forward(self, x):
            return self.out(self.rnn(x)[0][:, -1])
    return Recurrent()


NETWORKS = {
    "mlp": (lambda m: m.Sequential(m.Linear(6, 16), m.ReLU(), m.Linear(16, 3)), (5, 6)),
    "convolutions": (lambda m: m.Sequential(
        m.Conv2d(2, 4, 3), m.BatchNorm2d(4), m.GELU(), m.MaxPool2d(2), m.Flatten(), m.Dropout(0.0), m.Linear(16, 3)),
        (5, 2, 6, 6)),
    "norms": (lambda m: m.Sequential(m.Linear(6, 8), m.LayerNorm(8), m.Tanh(), m.Linear(8, 8), m.GroupNorm(2, 8),
                                     m.PReLU(), m.Linear(8, 3)), (5, 6)),
    "attention": (lambda m: m.Sequential(
        m.TransformerEncoderLayer(6, 2, 12, 0.0, batch_first=True), m.Flatten(), m.Linear(24, 3)), (5, 4, 6)),
    "recurrent": (recurrent, (5, 4, 6)),
}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_training_steps_are_torchs(name, dtype):
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    ours, theirs = make(nn), make(torch.nn)
    ours.load_state_dict({key: value.numpy().copy() for key, value in theirs.state_dict().items()})
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(shape).astype(np.float32), rng.integers(0, 3, 5)
    losses = []
    for network, module, optim, tensor in ((ours, kdl, kdl.optim, kdl.Tensor), (theirs, torch, torch.optim,
                                                                              torch.from_numpy)):
        optimizer = optim.SGD(network.parameters(), lr=0.1)
        for _ in range(4):
            optimizer.zero_grad()
            with module.autocast("cpu", getattr(module, dtype)):
                outputs = network(tensor(x))
                loss = module.nn.functional.cross_entropy(outputs, tensor(y))
            assert str(outputs.dtype).endswith(dtype) and str(loss.dtype).endswith("float32")
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    np.testing.assert_allclose(losses[:4], losses[4:], rtol=0.03)
    for (key, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert a.dtype == b.numpy().dtype
        np.testing.assert_allclose(a.array, b.numpy(), rtol=0.05, atol=0.02, err_msg=key)


# --- the context ---
def product_dtype():
    return (kdl.ones(2, 2) @ kdl.ones(2, 2)).dtype


def test_blocks_within_blocks():
    assert product_dtype() == kdl.float32 and not kdl.is_autocast_enabled("cpu")
    with kdl.autocast("cpu"):
        assert product_dtype() == kdl.bfloat16 and kdl.is_autocast_enabled("cpu")
        assert kdl.get_autocast_dtype("cpu") == kdl.bfloat16 and not kdl.is_autocast_enabled()
        with kdl.autocast("cpu", enabled=False):
            assert product_dtype() == kdl.float32 and not kdl.is_autocast_enabled("cpu")
        with kdl.amp.autocast("cpu", kdl.float16):
            assert product_dtype() == kdl.float16 and kdl.get_autocast_dtype("cpu") == kdl.float16
        assert product_dtype() == kdl.bfloat16
        with pytest.raises(ZeroDivisionError), kdl.autocast("cpu", enabled=False):
            raise ZeroDivisionError
        assert product_dtype() == kdl.bfloat16
    assert product_dtype() == kdl.float32 and not lists.active


def test_decorators():
    @kdl.autocast("cpu")
    def decorated(n):
        return product_dtype() if n == 0 else decorated(n - 1)

    assert decorated(2) == kdl.bfloat16 and product_dtype() == kdl.float32


def test_other_threads_compute_as_usual():
    seen = []
    with kdl.autocast("cpu"):
        thread = threading.Thread(target=lambda: seen.append(product_dtype()))
        thread.start()
        thread.join()
    assert seen == [kdl.float32]


def test_what_is_not_cast():
    with kdl.autocast("cpu"):
        assert (kdl.ones(2, 2).double() @ kdl.ones(2, 2).double()).dtype == kdl.float64
        assert (kdl.ones(2, 2).long() @ kdl.ones(2, 2).long()).dtype == kdl.int64
        assert (kdl.ones(2, 2) @ kdl.ones(2, 2).bfloat16()).dtype == kdl.bfloat16
        with pytest.raises(TypeError, match="MatMul cannot compute with float64 and bfloat16"):
            kdl.ones(2, 2).double() @ kdl.ones(2, 2)
        with pytest.raises(TypeError, match="tensors of one dtype"):
            kdl.dot(kdl.ones(2), kdl.ones(2).bfloat16())
    with pytest.raises(TypeError, match="tensors of one dtype"):
        kdl.ones(2, 2) @ kdl.ones(2, 2).bfloat16()


def test_low_copies_of_parameters_are_kept():
    w = kdl.ones(2, 2, requires_grad=True)
    with kdl.autocast("cpu"):
        a, b = w @ kdl.ones(2, 2), kdl.ones(2, 2) @ w
        assert len(lists.current.casts) == 1
        a.sum().backward()
        b.sum().backward()  # through the same copy
        (w @ kdl.ones(2, 2)).sum().backward()
        np.testing.assert_array_equal(w.grad.array, np.full((2, 2), 6))
        with kdl.no_grad():
            w.mul_(3)
            assert (w @ kdl.ones(2, 2)).array.astype(float).max() == 6
        c = w @ kdl.ones(2, 2)
        assert c.requires_grad and c.detach().float().array.max() == 6
        kdl.clear_autocast_cache()
        assert lists.current.casts is None
    with kdl.autocast("cpu", cache_enabled=False):
        assert not kdl.is_autocast_cache_enabled()
        w @ kdl.ones(2, 2)
        assert lists.current.casts is None
    assert kdl.is_autocast_cache_enabled()


def test_masks_of_attention_and_weights_of_losses_may_be_wider():
    x = kdl.randn(2, 5, 4)
    with kdl.autocast("cpu"):
        low = x.bfloat16()
        assert F.scaled_dot_product_attention(low, low, low, kdl.zeros(5, 5)).dtype == kdl.bfloat16
        assert F.cross_entropy(low[0], kdl.tensor([0, 1, 2, 3, 0]), kdl.ones(4)).dtype == kdl.float32
        assert kdl.addmm(kdl.ones(4), x[0], kdl.ones(4, 4)).dtype == kdl.bfloat16


def test_autocasts_that_are_refused_or_disabled():
    with pytest.raises(ValueError, match="device_type to be a string"):
        kdl.autocast(kdl.device("cpu"))
    with pytest.raises(RuntimeError, match="'cpu' or 'cuda', got 'tpu'"):
        kdl.autocast("tpu")
    with pytest.warns(UserWarning, match="expected float16 or bfloat16, got float32"), kdl.autocast("cpu", kdl.float32):
        assert product_dtype() == kdl.float32
    if not kdl.cuda.is_available():
        with pytest.warns(UserWarning, match="no GPU"), kdl.autocast("cuda"):
            assert not kdl.is_autocast_enabled()


def test_the_lists_name_what_there_is():
    functions = set()
    for module in pkgutil.iter_modules(ops.__path__):
        found = vars(importlib.import_module(f"kdl.ops.{module.name}")).values()
        functions |= {f.__name__ for f in found if isinstance(f, type) and issubclass(f, Function)}
    for table in (lists.LOWER, lists.WIDER, lists.FIRST):
        assert table["cpu"] | table["cuda"] <= functions
    for name in lists.WIDER_OPS["cpu"] | lists.WIDER_OPS["cuda"] | lists.MIXING:
        assert hasattr(F, name) or hasattr(kdl, name), name


@pytest.mark.skipif(not simt.available(), reason=str(simt.problem()))
def test_lists_of_gpus():
    with fake_cupy.installed(), fake_cupy.computing(), kdl.autocast("cuda"):
        x = kdl.ones(3, 4).cuda()
        assert (x @ x.t()).dtype == kdl.float16
        half = x.half()
        for function in (lambda t: t.softmax(1), lambda t: t.sum(), kdl.exp, kdl.log, lambda t: t**2,
                         lambda t: t.norm(), lambda t: t.cumsum(0), lambda t: F.mse_loss(t, x),
                         lambda t: F.cosine_similarity(t, t)):
            assert function(half).dtype == kdl.float32
        assert (half + half).dtype == F.relu(half).dtype == kdl.float16 and (half + x).dtype == kdl.float32
        assert (kdl.ones(2, 2) @ kdl.ones(2, 2)).dtype == kdl.float32  # the CPU is not meant


# --- GradScaler ---
def scaled_pair(**options):
    ours = kdl.amp.GradScaler("cpu", **options)
    return ours, torch.amp.GradScaler("cpu", **options)


def test_the_scaler_is_torchs():
    scalers = scaled_pair(init_scale=1024.0, growth_factor=3.0, backoff_factor=0.3, growth_interval=3)
    x = np.arange(1.0, 4.0, dtype=np.float32)
    parameters = kdl.Tensor(x.copy()).requires_grad_(), torch.from_numpy(x.copy()).requires_grad_()
    optimizers = kdl.optim.SGD([parameters[0]], lr=0.01), torch.optim.SGD([parameters[1]], lr=0.01)
    for step in range(14):
        seen = []
        for scaler, p, optimizer in zip(scalers, parameters, optimizers, strict=True):
            optimizer.zero_grad()
            loss = (p * p).sum() * (float("inf") if step in (2, 7, 8) else 1.0)
            scaler.scale(loss).backward()
            if step % 2:
                scaler.unscale_(optimizer)
                seen.append(np.asarray(p.grad))
            scaler.step(optimizer)
            scaler.update()
        if seen:
            np.testing.assert_allclose(*seen, rtol=1e-6)
        assert scalers[0].get_scale() == scalers[1].get_scale(), step
        assert scalers[0].state_dict() == scalers[1].state_dict()
        np.testing.assert_allclose(parameters[0].detach().array, parameters[1].detach().numpy(), rtol=1e-6)


def test_a_restored_scaler_goes_on():
    ours, theirs = scaled_pair(init_scale=4.0, growth_interval=2)
    theirs.load_state_dict({**theirs.state_dict(), "_growth_tracker": 1, "scale": 8.0})
    ours.load_state_dict(theirs.state_dict())
    assert ours.get_scale() == 8 and copy.deepcopy(ours).state_dict() == ours.state_dict()
    p = kdl.ones(2, requires_grad=True)
    optimizer = kdl.optim.SGD([p], lr=0.1)
    outputs = ours.scale([p.sum(), p.half().sum()])
    assert [y.item() for y in outputs] == [16, 16] and outputs[1].dtype == kdl.float32
    outputs[0].backward()
    ours.step(optimizer)
    ours.update()
    assert ours.get_scale() == 16
    ours.update(32.0)
    assert ours.get_scale() == 32


def test_scalers_that_do_nothing():
    scaler = kdl.GradScaler("cpu", enabled=False)
    p = kdl.ones(2, requires_grad=True)
    loss = p.sum()
    assert scaler.scale(loss) is loss and scaler.get_scale() == 1 and scaler.state_dict() == {}
    loss.backward()
    optimizer = kdl.optim.SGD([p], lr=0.1)
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    np.testing.assert_allclose(p.detach().array, 0.9)
    if not kdl.cuda.is_available():
        with pytest.warns(UserWarning, match="no GPU"):
            assert not kdl.GradScaler().is_enabled()


def test_steps_out_of_order_are_refused():
    scaler = kdl.GradScaler("cpu")
    p = kdl.ones(2, requires_grad=True)
    optimizer = kdl.optim.SGD([p], lr=0.1)
    with pytest.raises(RuntimeError, match="call step or unscale_ first"):
        scaler.update()
    with pytest.raises(RuntimeError, match="no gradients were found"):
        scaler.step(optimizer)
    scaler = kdl.GradScaler("cpu")
    scaler.scale(p.sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="already called on this optimizer"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="called after step"):
        scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="already called since the last update"):
        scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="a closure cannot be used"):
        scaler.step(optimizer, closure=lambda: 0)
    half = kdl.ones(2, dtype=kdl.float16, requires_grad=True)
    half.sum().backward()
    with pytest.raises(ValueError, match="got float16 gradients"):
        kdl.GradScaler("cpu").unscale_(kdl.optim.SGD([half], lr=0.1))
    for options in ({"growth_factor": 1.0}, {"backoff_factor": 1.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            kdl.GradScaler("cpu", **options)


def test_getters_and_setters():
    scaler = kdl.GradScaler("cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, value in (("growth_factor", 4.0), ("backoff_factor", 0.25), ("growth_interval", 7)):
            getattr(scaler, f"set_{name}")(value)
            assert getattr(scaler, f"get_{name}")() == value == scaler.state_dict()[name]
