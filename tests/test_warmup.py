"""`kdl warmup` compiles what a model needs: after it, a training step compiles nothing."""
import os
import re
import subprocess
import sys

import pytest

import kdl
from kdl import models, recipes, warmup
from kdl.cli import main

LINE = re.compile(r"mlp: (\d+) kernels compiled, (\d+) loaded from disk, in [\d.]+ s\n")
STEP = """
import kdl
from kdl import models, optim
from kdl.kernels.cpu.launch import dispatchers
from kdl.nn import functional as F
model = models.MLP([784, 512, 10])
optimizer = optim.AdamW(model.parameters())
F.cross_entropy(model(kdl.randn(64, 784)), kdl.randint(0, 10, (64,))).backward()
optimizer.step()
from kdl.warmup import _counts
print(*_counts(dispatchers))
"""


def run(*command, cache):
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True,
                          env=os.environ | {"NUMBA_CACHE_DIR": str(cache)})
    return done.stdout


def test_after_a_warm_up_a_step_compiles_nothing(tmp_path):
    compiled, loaded = map(int, LINE.fullmatch(run("-m", "kdl", "warmup", "mlp", cache=tmp_path)).groups())
    assert compiled > 4 and loaded == 0
    again, loaded = map(int, LINE.fullmatch(run("-m", "kdl", "warmup", "mlp", cache=tmp_path)).groups())
    assert again == 0 and loaded > 4
    missed, found = map(int, run("-c", STEP, cache=tmp_path).split())
    assert missed == 0 and found > 0


def test_every_network_has_an_example():
    parts = {"BasicBlock", "Bottleneck", "GATLayer", "GCNLayer", "ResNet", "normalized_adjacency"}
    assert set(warmup.MODELS) == {name.lower() for name in set(models.__all__) - parts}


@pytest.mark.parametrize("name", sorted(set(warmup.MODELS) - {"resnet18", "resnet34", "resnet50"}))
def test_every_example_takes_a_step(name):
    model, loss = warmup.MODELS[name]()
    value = loss()
    value.backward()
    assert value.ndim == 0 and kdl.isfinite(value)
    assert all(p.grad is not None for p in model.parameters())


def test_a_recipe_is_run_for_one_epoch(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["warmup", "xor"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("xor: ") and printed.count("\n") == 1 and not list(tmp_path.iterdir())


def test_unknown_names_are_answered_with_the_near_ones(capsys):
    assert main(["warmup", "resnet19"]) == 2
    message = capsys.readouterr().err
    assert "no model or recipe 'resnet19'" in message and "resnet18" in message
    assert set(recipes.names()) <= {*warmup.MODELS, *warmup._trained()}
