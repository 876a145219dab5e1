"""The main job: `kdl train lenet5` learns, draws, resumes bit for bit, and refuses bad input in one sentence."""
import gzip
import importlib
import json
import struct

import numpy as np
import pytest

import kdl
from kdl import recipes
from kdl.cli import main
from kdl.data import read_idx, read_mnist
from kdl.models import LeNet5


def run(*argv):
    return main([str(a) for a in argv])


@pytest.fixture
def quick(monkeypatch):
    """Digits few enough for a test: 256 to train, 64 to test."""
    from kdl.recipes import lenet5
    load = lenet5.load
    sizes = (256, 64, 256, 64)
    monkeypatch.setattr(lenet5, "load", lambda *a: tuple(part[:n] for part, n in zip(load(*a), sizes, strict=True)))


def test_lenet5_reaches_its_gate(tmp_path, capsys):
    assert run("train", "lenet5", "--out", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    name, value = lines[-1].split(" (")[0].rsplit(" ", 1)
    assert name == "test accuracy" and float(value) >= 0.95 and lines[-1].endswith("OK")
    for picture in ("curves.png", "confusion.png", "filters.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("variant", ["tanh", "relu"])
def test_resuming_gives_the_same_bits(tmp_path, quick, variant):
    shared = ("train", "lenet5", "--variant", variant, "--seed", 3)
    run(*shared, "--epochs", 3, "--out", tmp_path / "whole")
    run(*shared, "--epochs", 1, "--out", tmp_path / "first")
    run("train", "lenet5", "--resume", tmp_path / "first" / "checkpoint.safetensors", "--epochs", 3,
        "--out", tmp_path / "rest")
    whole, rest = [kdl.load(tmp_path / run / "checkpoint.safetensors") for run in ("whole", "rest")]
    whole, rest = whole["phases"]["training"], rest["phases"]["training"]
    assert whole["history"] == rest["history"]
    for name, weight in whole["parts"]["model"].items():
        np.testing.assert_array_equal(weight.numpy(), rest["parts"]["model"][name].numpy())


def test_interrupting_leaves_the_last_whole_checkpoint(tmp_path, quick, monkeypatch, capsys):
    from kdl.recipes.common import Job
    predict, calls = Job.predict, []

    def interrupted(*args):
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return predict(*args)

    monkeypatch.setattr(Job, "predict", interrupted)
    assert run("train", "lenet5", "--epochs", 3, "--out", tmp_path) == 130
    assert "--resume" in capsys.readouterr().err
    assert kdl.load(tmp_path / "checkpoint.safetensors")["phases"]["training"]["epoch"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.safetensors"]
    monkeypatch.setattr(Job, "predict", predict)
    shared = ("train", "lenet5", "--epochs", 3, "--out")
    run(*shared, tmp_path / "rest", "--resume", tmp_path / "checkpoint.safetensors")
    run(*shared, tmp_path / "whole")
    rest, whole = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("rest", "whole")]
    assert rest["measured"] == whole["measured"] and rest["baseline"] == whole["baseline"]


def test_resuming_refuses_what_does_not_fit(tmp_path, quick, capsys):
    run("train", "lenet5", "--epochs", 1, "--out", tmp_path)
    checkpoint = tmp_path / "checkpoint.safetensors"
    assert run("train", "lenet5", "--resume", checkpoint, "--variant", "relu") == 2
    assert "variant tanh" in capsys.readouterr().err
    checkpoint.write_bytes(checkpoint.read_bytes()[:-10])
    assert run("train", "lenet5", "--resume", checkpoint) == 2
    assert str(checkpoint) in capsys.readouterr().err
    kdl.save({"x": kdl.zeros(1)}, tmp_path / "other.safetensors")
    assert run("train", "lenet5", "--resume", tmp_path / "other.safetensors") == 2
    assert "not a checkpoint of lenet5" in capsys.readouterr().err


@pytest.mark.parametrize("argv, said", [
    (["--epochs", "0"], "epochs 0"), (["--batch-size", "5000"], "5000"), (["--device", "tpu"], "tpu"),
    (["--data", "/no/such/folder"], "train-images-idx3-ubyte"), (["--resume", "/no/such/file"], "/no/such/file"),
])
def test_bad_options_are_one_sentence(argv, said, capsys):
    assert run("train", "lenet5", *argv) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1


def test_an_unknown_recipe_names_the_near_ones(capsys):
    with pytest.raises(SystemExit) as stop:
        run("train", "lenet")
    assert stop.value.code == 2 and "did you mean lenet5" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--help"], ["train", "--help"], ["train", "lenet5", "--help"], ["doctor", "--help"],
                                  ["list", "--help"], ["--version"]])
def test_help_is_everywhere(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*argv)
    assert stop.value.code == 0 and "kdl" in capsys.readouterr().out


def test_doctor_finds_no_fault_and_speaks_json(capsys, monkeypatch):
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert run("doctor", "--json") == 0
    findings = {f["name"]: f["value"] for f in json.loads(capsys.readouterr().out)}
    assert findings["kdl"] == kdl.__version__ and "numba with" in findings["cpu kernels"]
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert run("doctor") == 1
    assert "held back by OPENBLAS_CORETYPE" in capsys.readouterr().out


def test_list_names_every_recipe(capsys):
    assert run("list") == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == recipes.names() and "lenet5" in listed


def test_lenet5_has_the_papers_layers():
    model = LeNet5()
    assert [tuple(p.shape) for p in model.parameters()] == [
        (6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (120, 400), (120,), (84, 120), (84,), (10, 84), (10,)]
    assert model(kdl.zeros(2, 1, 32, 32)).shape == (2, 10)
    with pytest.raises(ValueError, match="sigmoid"):
        LeNet5(variant="sigmoid")


# --- IDX files ---
def idx(array, code=0x08):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.tobytes()


@pytest.fixture
def mnist(tmp_path, rng):
    """A small MNIST folder, two of its files compressed, with labels that can be read off the images."""
    for half, n in (("train", 40), ("t10k", 20)):
        labels = rng.integers(0, 10, n).astype(np.uint8)
        images = np.zeros((n, 28, 28), np.uint8)
        images[np.arange(n), labels, :] = 255
        (tmp_path / f"{half}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{half}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def test_idx_files_are_read(mnist):
    x, y, xt, yt = read_mnist(mnist)
    assert x.shape == (40, 28, 28) and yt.shape == (20,) and x.dtype == np.uint8
    np.testing.assert_array_equal(x[:, :, 0].argmax(1), y)
    np.testing.assert_array_equal(xt[:, :, 27].argmax(1), yt)


@pytest.mark.parametrize("dtype, code", [(">i2", 0x0B), (">i4", 0x0C), (">f4", 0x0D), (">f8", 0x0E), (">i1", 0x09)])
def test_idx_dtypes(tmp_path, dtype, code):
    array = np.arange(-3, 3).reshape(2, 3).astype(dtype)
    (tmp_path / "f").write_bytes(idx(array, code))
    np.testing.assert_array_equal(read_idx(tmp_path / "f"), array)


def test_lenet5_trains_on_idx_files(mnist, tmp_path, capsys):
    assert run("train", "lenet5", "--data", mnist, "--epochs", 1, "--batch-size", 8, "--out", tmp_path / "out") == 0
    assert "gate" not in capsys.readouterr().out


@pytest.mark.parametrize("damage, said", [
    (lambda raw: b"PNG" + raw, "not an IDX file"), (lambda raw: b"", "not an IDX file"),
    (lambda raw: raw[:-1], "bytes"),
    (lambda raw: raw + b"\0", "bytes"), (lambda raw: raw[:6], "cut short"),
    (lambda raw: gzip.compress(raw)[:20], "damaged gzip"),
])
def test_wrong_idx_files_are_named(mnist, damage, said, capsys):
    path = mnist / "train-labels-idx1-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=said) as error:
        read_mnist(mnist)
    assert str(path) in str(error.value)
    assert run("train", "lenet5", "--data", mnist) == 2


def test_idx_files_that_do_not_belong_together(mnist):
    (mnist / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(ValueError, match="test images"):
        read_mnist(mnist)


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_runs_for_an_epoch(name, tmp_path):
    few = ["--epochs", 1] if hasattr(importlib.import_module(f"kdl.recipes.{name}"), "EPOCHS") else []
    assert run("train", name, *few, "--out", tmp_path) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["metric"] in result["measured"] and result["gates"]
    assert all(np.isfinite(result["measured"][gate]) for gate, *_ in result["gates"])
    assert result["pictures"] and all((tmp_path / p["file"]).stat().st_size for p in result["pictures"])


def test_all_recipes_make_a_gallery(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "names", lambda: ["neurons"])
    assert run("train", "--all", "--out", tmp_path) == 0
    page = (tmp_path / "gallery.md").read_text()
    result = json.loads((tmp_path / "gallery" / "neurons" / "result.json").read_text())
    assert f"| [neurons](#neurons) | {result['metric']} |" in page
    assert all(f"(gallery/neurons/{p['file']})" in page for p in result["pictures"])
