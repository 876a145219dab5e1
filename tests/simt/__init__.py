"""Tests of the engine that runs the CUDA kernels on the CPU, on kernels of their own (`*.cu` beside this file)."""
import importlib

import pytest

from kdl.kernels import simt

ORDERS = ["forward", "reverse", "random"]


def kernels_of(build):
    """The test kernels compiled for the `plain` or the `race` build."""
    name = {"plain": "tests.simt._planted", "race": "tests.simt._planted_race"}[build]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        pytest.skip(simt.NOT_BUILT)
