"""The devices and helpers that tests share."""
import numpy as np
import pytest

from kdl import kernels

NAMESPACES = ["cpu"]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=NAMESPACES)
def namespace(request):
    """Every namespace that must agree with `reference`, one after the other."""
    with kernels.use(request.param):
        yield request.param
