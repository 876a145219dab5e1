"""LeNet-5 trains through the CUDA kernels' source to the CPU kernels' weights: the whole CUDA path, without a GPU."""
import numpy as np
import pytest

import kdl
from kdl import kernels, nn
from kdl.kernels import simt
from kdl.models import LeNet5

if not simt.available():
    pytest.skip(simt.problem(), allow_module_level=True)

# Of the largest weight of a tensor. float32: 2**-24 through gradients that are sums of up to 3136 products in another
# order, over three steps. float64 shows that nothing but rounding is between the two.
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}


def trained(namespace, variant, dtype):
    """The weights and losses after three steps of SGD with momentum on four images."""
    kdl.manual_seed(0)
    model = LeNet5(variant=variant).to(getattr(kdl, dtype))
    rng = np.random.default_rng(1)
    x, y = kdl.tensor(rng.standard_normal((4, 1, 32, 32)).astype(dtype)), kdl.tensor(rng.integers(0, 10, 4))
    optimizer = kdl.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    losses = []
    with kernels.use(namespace):
        for _ in range(3):
            optimizer.zero_grad()
            loss = nn.CrossEntropyLoss()(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return {name: p.detach().numpy() for name, p in model.named_parameters()}, losses


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("variant", ["tanh", "relu"])
def test_lenet5_trains_to_the_same_weights(variant, dtype):
    (ours, our_losses), (theirs, their_losses) = trained("simt", variant, dtype), trained("cpu", variant, dtype)
    for name, w in theirs.items():
        np.testing.assert_allclose(ours[name], w, rtol=0, atol=TOLERANCE[dtype] * np.abs(w).max(), err_msg=name)
    np.testing.assert_allclose(our_losses, their_losses, rtol=TOLERANCE[dtype])
    assert our_losses[-1] < our_losses[0]
