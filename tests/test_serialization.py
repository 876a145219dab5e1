"""save and load: what comes back, what others can read, and what happens to damaged files."""
import json
import math
import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kdl
from kdl import serialization
from kdl.nn import Parameter
from kdl.serialization import load, save

DTYPES = [kdl.float16, kdl.bfloat16, kdl.float32, kdl.float64, kdl.uint8, kdl.int8, kdl.int16, kdl.int32, kdl.int64,
          kdl.bool]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.safetensors"


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, kdl.Tensor):
        assert_same(a.array, b.array)
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b or (a != a and b != b)


CHECKPOINT = {
    "model": {"conv.weight": kdl.Tensor(np.arange(24.0).reshape(1, 2, 3, 4)), "steps": kdl.Tensor(np.array(7))},
    "optimizer": {"state": {0: {"step": 3, "exp_avg": kdl.Tensor(np.ones(3, np.float32))}, 1: {}},
                  "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0, 1], "nesterov": False}]},
    "random": {"state": np.array([2**64 - 1, 5], np.uint64), "counter": 2**120 + 1},
    "scheduler": None, "epoch": 3, "best": math.inf, "loss": math.nan, "note": "résumé \N{SNOWMAN} \ud800",
    "empty": [{}, [], (), kdl.Tensor(np.zeros((0, 3)))], "a.b": 1, "a": {"b": kdl.Tensor(np.ones(1))},
    (1, "x"): True, 2.5: None,
}


def test_a_checkpoint_comes_back_as_it_was(path):
    save(CHECKPOINT, path)
    assert_same(load(path), CHECKPOINT)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(path, dtype):
    rng = np.random.default_rng(0)
    a = kdl.Tensor((rng.standard_normal((3, 5)) * 3).astype(dtype))
    save({"a": a}, path)
    assert_same(load(path), {"a": a})


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3)).map(
        lambda a: kdl.Tensor(np.arange(math.prod(a[1])).reshape(a[1]).astype(a[0]))))
TREES = st.recursive(LEAVES, lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple),
    st.dictionaries(st.one_of(st.text(max_size=4), st.integers(), st.tuples(st.integers())), inner, max_size=3)))


@settings(max_examples=50, deadline=None)
@given(tree=TREES)
def test_any_tree_comes_back_as_it_was(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "tree.safetensors"
    save(tree, path)
    assert_same(load(path), tree)


@pytest.mark.parametrize("layout", [
    lambda a: a[:, ::2], lambda a: a.T, lambda a: a[::-1], lambda a: np.asfortranarray(a),
    lambda a: np.broadcast_to(a[:1], a.shape)])
def test_memory_order_does_not_matter(path, layout):
    a = layout(np.arange(24.0).reshape(4, 6))
    save({"a": kdl.Tensor(a)}, path)
    np.testing.assert_array_equal(load(path)["a"].array, a)


def test_what_is_loaded_can_be_changed(path):
    save({"a": kdl.Tensor(np.ones(3))}, path)
    load(path)["a"].array[0] = 5


def test_parameters_become_tensors_and_numpy_numbers_plain_ones(path):
    save({"p": Parameter(np.ones(2)), "n": np.int64(3), "f": np.float32(0.5), "b": np.bool_(True)}, path)
    loaded = load(path)
    assert type(loaded["p"]) is kdl.Tensor and not loaded["p"].requires_grad
    assert_same([loaded[key] for key in "nfb"], [3, 0.5, True])


def test_a_single_tensor(path):
    save(kdl.Tensor(np.array(2.0)), path)
    assert load(path).array == 2.0


# --- other readers and writers ---
def test_a_state_dict_is_an_ordinary_safetensors_file(path):
    torch = pytest.importorskip("torch", reason="read by torch users: pip install 'kdl-kernels[test]'")
    from safetensors.torch import load_file
    weight = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    save({"fc.weight": kdl.Tensor(weight), "half": kdl.Tensor(weight.astype(kdl.bfloat16))}, path)
    theirs = load_file(path)
    np.testing.assert_array_equal(theirs["fc.weight"].numpy(), weight)
    assert theirs["half"].dtype == torch.bfloat16
    np.testing.assert_array_equal(theirs["half"].float().numpy(), weight.astype(kdl.bfloat16).astype(np.float32))


def test_the_tensors_of_a_checkpoint_have_their_paths_as_names(path):
    from safetensors.numpy import load_file
    save(CHECKPOINT, path)
    assert {"model.conv.weight", "optimizer.state.0.exp_avg", "a.b"} <= load_file(path).keys()


def test_names_that_meet_are_kept_apart(path):
    tree = {"a.b": kdl.Tensor(np.ones(1)), "a": {"b": kdl.Tensor(np.zeros(2))}, "__metadata__": kdl.Tensor(np.ones(3))}
    save(tree, path)
    assert_same(load(path), tree)


def test_files_written_by_others_load_as_tensors_by_name(path):
    torch = pytest.importorskip("torch", reason="written by torch users: pip install 'kdl-kernels[test]'")
    from safetensors.torch import save_file
    save_file({"w": torch.arange(6.0).reshape(2, 3), "h": torch.ones(2, dtype=torch.bfloat16)}, path, {"format": "pt"})
    assert_same(load(path), {"h": kdl.Tensor(np.ones(2, kdl.bfloat16)), "w": kdl.Tensor(np.arange(6, dtype=np.float32)
                                                                                        .reshape(2, 3))})


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "complex64", "uint16"])
def test_dtypes_that_kdl_has_not_are_refused(path, dtype):
    torch = pytest.importorskip("torch", reason="written by torch users: pip install 'kdl-kernels[test]'")
    from safetensors.torch import save_file
    save_file({"w": torch.ones(2), "odd": torch.zeros(3).to(getattr(torch, dtype))}, path)
    with pytest.raises(ValueError, match=f"load: {path}.*{dtype}"):
        load(path)


# --- bad files ---
def test_every_truncation_is_noticed(path):
    save({"model": {"w": kdl.Tensor(np.arange(5.0))}, "epoch": 3}, path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"load: {path}"):
            load(path)


def test_every_changed_byte_is_noticed(path):
    """Except in the key "kdl" itself, without which the file is another's: then its tensors come by name."""
    tree = {"model": {"w": kdl.Tensor(np.arange(5.0))}, "epoch": 3}
    save(tree, path)
    whole = path.read_bytes()
    key = whole.index(b'"kdl"')
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x21]) + whole[position + 1:])
        if key < position <= key + 3:
            assert_same(load(path), {"model.w": tree["model"]["w"]})
            continue
        with pytest.raises(ValueError, match=f"load: {path}"):
            load(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\3\4" + bytes(100), struct.pack("<Q", 2**60) + b"{}",
                                     struct.pack("<Q", 2) + b"[]"])
def test_other_formats_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"load: {path} cannot be read as a safetensors file"):
        load(path)


def test_no_file_and_no_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*nowhere"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="cannot be read as a safetensors file"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no such directory: .*nowhere"):
        save({}, tmp_path / "nowhere" / "file")


def test_a_later_version_and_a_strange_description_are_refused(path):
    from safetensors.numpy import save_file
    save_file({}, path, {"kdl": json.dumps({"version": 2, "tree": "", "crc32": 0})})
    with pytest.raises(ValueError, match="format version 2"):
        load(path)
    for description in ("", "[]", "{}"):
        save_file({}, path, {"kdl": description})
        with pytest.raises(ValueError, match="description cannot be read"):
            load(path)


@pytest.mark.parametrize("value, shown", [
    (lambda: None, "got function .* at optimizer.hooks.0"), (object(), "got object"), ({1, 2}, "got set {1, 2}"),
    (np.array(["a"]), "an array of <U1"), (1 + 2j, "got complex"), (b"raw", "got bytes")])
def test_other_values_are_refused_by_their_place(path, value, shown):
    with pytest.raises(TypeError, match=f"save: expected tensors, .*{shown}"):
        save({"optimizer": {"hooks": [value]}}, path)
    assert not path.exists()


# --- atomic writing ---
@pytest.mark.parametrize("failing", ["_flush", "os.replace"])
def test_an_interrupted_save_leaves_the_old_file(path, monkeypatch, failing):
    save({"epoch": 1}, path)

    def fail(*args):
        raise KeyboardInterrupt

    if failing == "_flush":
        monkeypatch.setattr(serialization, "_flush", fail)
    else:
        monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        save({"epoch": 2}, path)
    monkeypatch.undo()
    assert load(path) == {"epoch": 1}
    assert os.listdir(path.parent) == [path.name]


def test_a_file_is_not_private_to_its_writer(path):
    mask = os.umask(0o022)
    try:
        save({}, path)
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o644


def test_loading_to_a_device(path):
    save(CHECKPOINT, path)
    assert_same(load(path, device="cpu"), CHECKPOINT)
