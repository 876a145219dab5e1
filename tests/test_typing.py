"""The type hints: current, sound to mypy, and true of every call in the op table."""
import collections.abc
import subprocess
import sys
import types
import typing
from inspect import Parameter, signature
from pathlib import Path

import numpy as np
import pytest

import kdl
from kdl import typing as hints
from kdl.nn import functional as F
from tests import stubs
from tests.optable import ROWS
from tests.test_optable import build, call

ROOT = Path(__file__).parent.parent
NAMES = vars(hints) | vars(typing) | vars(collections.abc) | {"builtins": __import__("builtins"), **vars(kdl.nn)} | {
    "Generator": kdl.Generator, "tuple": tuple, "SlogDet": kdl.linalg.SlogDet}


def test_the_stubs_are_current():
    """In a process of its own: what a test has imported, as kdl.onnx, stands in kdl from then on."""
    done = subprocess.run([sys.executable, "-m", "tests.stubs", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_accepts_the_stubs_and_typed_code_that_uses_them(tmp_path):
    pytest.importorskip("mypy", reason="pip install 'kdl-kernels[dev]'")
    done = subprocess.run([sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path)], cwd=ROOT, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout


def test_the_typed_code_runs():
    from tests.typing_example import main
    history, accuracy = main()
    assert history[0] > history[-1] and accuracy > 0.5


def admits(hint, value):
    """Whether a value has a type; an int is a float, as Python's type checkers see it."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is typing.Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(admits(part, value) for part in parts)
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, (float, int, np.floating, np.integer))
    if origin is tuple and Ellipsis not in parts:
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(admits, parts, value))
    if origin is collections.abc.Callable:
        return callable(value)
    if origin in (tuple, collections.abc.Sequence, collections.abc.Iterable):
        return isinstance(value, origin) and not isinstance(value, str) and all(admits(parts[0], v) for v in value)
    if origin is np.ndarray or origin is np.dtype:
        return isinstance(value, origin)
    return isinstance(value, hint)


def watched(name, function, owner, wrong):
    """The function, noting what its hints do not admit."""
    parameters = signature(function)

    def run(*args, **kwargs):
        given = parameters.bind(*args, **kwargs)
        for argument, value in given.arguments.items():
            parameter = parameters.parameters[argument]
            hint = eval(stubs.argument("", name, parameter), NAMES)
            values = {Parameter.VAR_POSITIONAL: value, Parameter.VAR_KEYWORD: ()}.get(parameter.kind, (value,))
            wrong.extend(f"{name}.{argument}: {hint}, got {v if isinstance(v, (int, str, tuple)) else type(v)}"
                         for v in values if not admits(hint, v))
        output = function(*args, **kwargs)
        if "return_indices" not in parameters.parameters:
            hint = eval(stubs.result(owner, name), NAMES)
            if not admits(hint, output):
                wrong.append(f"{name}: {hint}, got {type(output).__name__}")
        return output
    return run


def test_the_hints_admit_every_call_of_the_op_table():
    wrong = []
    for row in ROWS:
        owner, function = next((module.__name__.rpartition(".")[2], getattr(module, row.name))
                               for module in (F, kdl) if hasattr(module, row.name))
        if {row.name, f"{owner}.{row.name}"} & set(stubs.OVERLOADS):
            continue
        for case in row.cases:
            tensors = {position: kdl.Tensor(array) for position, array, _ in build(case)}
            call(watched(row.name, function, owner, wrong), case, tensors)
    assert sorted(set(wrong)) == []
