"""The benchmark: its statistics, its gates, its files, and that it refuses to time what is wrong."""
import csv
import json
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import kdl
from benchmarks import gates, harness, machine, models, report, suite, timing, worker
from benchmarks.device import SPIN, Clock
from benchmarks.gates import Gate
from kdl.cli import main
from kdl.kernels import cuda

ROWS = {device: harness.rows(device=device) for device in ("cpu", "cuda")}


# --- statistics ---
def test_a_spread_is_the_median_and_the_quartiles():
    assert timing.Spread.of([5, 1, 2, 3, 4]) == timing.Spread(3.0, 2.0, 4.0)


def test_a_ratio_is_taken_within_each_turn():
    """A machine that is ten times slower in the second turn does not matter."""
    assert timing.ratio([1, 10, 2], [2, 20, 4]) == timing.Spread(2.0, 2.0, 2.0)


def test_geometric_mean():
    assert timing.geometric_mean([1, 4, 16]) == pytest.approx(4)
    assert math.isnan(timing.geometric_mean([]))


def test_variants_take_turns_forwards_and_backwards():
    order = []

    def run(name, seconds):
        def timed(calls):
            order.append(name)
            return seconds * calls
        return timed
    times = timing.race({"a": run("a", 1e-3), "b": run("b", 2e-3)}, seconds=0.01)
    assert "".join(order[:10]) == "ab" + "abbaabba"  # one call each to see how many fill a round
    assert times["a"] == pytest.approx([1e-3] * len(times["a"]))
    assert timing.ratio(times["a"], times["b"]).median == pytest.approx(2)


def test_a_slow_rival_is_dropped_and_ours_stays():
    times = timing.race({"ours": lambda calls: 1e-3 * calls, "slow": lambda calls: 5.0 * calls}, seconds=0.1, least=7)
    assert len(times["slow"]) == 1 and len(times["ours"]) >= 50


def test_an_error_that_is_no_number_is_the_largest():
    found = worker.errors([np.array([1.0, np.nan]), np.ones(2)], [np.ones(2), np.array([0.0, 1.0])])
    assert math.isnan(found[0]) and math.isnan(found[1])
    error, relative = worker.errors([np.array([1.0, 3.0])], [np.array([0.0, 4.0])])
    assert error == pytest.approx(0.5) and relative == pytest.approx(0.25)


def test_errors_leave_out_the_share_that_may_differ():
    truth = np.random.default_rng(0).standard_normal(1000)
    found = truth.copy()
    found[[3, 500]] += 1
    found[7] += 1e-3
    assert worker.errors([found], [truth], 1e-3)[0] == pytest.approx(1 / truth.std())
    assert worker.errors([found], [truth], 2e-3)[0] == pytest.approx(1e-3 / truth.std())
    found[7] = np.nan
    assert math.isnan(worker.errors([found], [truth], 2e-3)[0])


# --- rows ---
def test_labels_are_distinct():
    for rows in ROWS.values():
        labels = [row.label(which) for row in rows for which in row.passes]
        assert len(labels) == len(set(labels))


def test_every_row_counts_its_work():
    empty = [row.label(which) for rows in ROWS.values() for row in rows for which, work in row.work.items()
             if not any(work) or min(work) < 0]
    assert empty == []


def test_quick_rows_are_small_and_of_every_kernel_family():
    quick = harness.rows(quick=True)
    assert {row.family for row in quick} == set(harness.families())
    assert len({(row.family, row.name) for row in quick}) == len(quick) < len(ROWS["cpu"])


def test_an_unknown_family_is_named():
    with pytest.raises(ValueError, match=r"bench: no family cnov; there are activation, .*conv"):
        harness.rows(["cnov"])


@pytest.mark.parametrize("row", [r for r in ROWS["cpu"] if r.program == "training_step"], ids=lambda r: r.name)
def test_training_rows_count_the_products_of_their_network(row):
    """Against torch's own layers: what each multiplies is its output times the weights of one output channel."""
    torch = pytest.importorskip("torch", reason="counts the products of torch's layers")
    counted = []

    def count(layer, inputs, y):
        shape = inputs[0].shape if isinstance(layer, torch.nn.ConvTranspose2d) else y.shape
        counted.append(math.prod(shape) * math.prod(layer.weight.shape[1:]))
    shape = row.case.args[0].shape
    model = getattr(models, row.name)(torch, shape[1], row.case.kwargs["classes"])
    for layer in model.modules():
        if hasattr(layer, "weight") and layer.weight.ndim > 1:
            layer.register_forward_hook(count)
    model(torch.zeros(2, *shape[1:]))
    assert row.work["step"][0] == 6 * shape[0] * sum(counted) // 2


def test_a_process_that_times_torch_does_not_import_kdl():
    script = "import sys, benchmarks.worker; from benchmarks import harness; assert 'kdl' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], env=machine.environment(1), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_environment_of_a_timed_process(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1")
    found = machine.environment(2, MALLOC_ARENA_MAX="1")
    assert "OPENBLAS_CORETYPE" not in found and "MALLOC_TOP_PAD_" not in found
    assert found["OPENBLAS_NUM_THREADS"] == found["NUMBA_NUM_THREADS"] == "2" and found["MALLOC_ARENA_MAX"] == "1"


def test_what_a_kernel_leaves_out_is_seen(monkeypatch):
    library = worker.Kdl()
    row = next(r for r in ROWS["cpu"] if r.family == "tape" and r.name == "relu")
    assert library.prepare(row)["kdl"] == ["forward", "recorded", "step"]
    truth = library.truth(row, "forward")
    assert worker.errors(library.outputs("kdl", "forward"), truth) == (0.0, 0.0)
    monkeypatch.setattr(kdl.kernels.get("cpu"), "relu_forward", lambda x, y: y[:4].fill(0))
    assert math.isnan(worker.errors(library.outputs("kdl", "forward"), truth)[0])


def test_a_wrong_variant_is_not_timed(monkeypatch):
    class Wrong:
        def ask(self, request, *args):
            return [np.zeros(3)] if request == "truth" else [np.full(3, 0.5)]
    row = next(r for r in ROWS["cpu"] if r.name == "relu")
    tested = suite.Suite("cpu", 1, ["numpy"])
    tested.workers = {"": Wrong()}
    with pytest.raises(AssertionError, match=r"kdl differs from the float64 reference by 0\.5"):
        tested._check(row, "forward", {"kdl": (tested.workers[""], "kdl")})


# --- gates, comparison, files ---
def result(name="relu", x=2.0, low=None, high=None, family="activation", column="torch tuned", threads=1, **others):
    ratio = {"best": "tuned contiguous", "x": x, "low": x if low is None else low, "high": x if high is None else high}
    return {"commit": "abc", "family": family, "area": "",
            "name": name, "label": f"{name}(8) forward", "pass": "forward",
            "dtype": "float32", "threads": threads, "clock": "cpu", "flops": 64, "bytes": 64, "us": 2.0, "us_low": 1.5,
            "us_high": 2.5, "gflops": 0.1, "gbs": 0.1, "roof": 0.5, "variants": {"kdl": 2.0, "tuned contiguous": 4.0},
            "errors": {"kdl": 1e-7}, "failed": {}, "ratios": {column: ratio}, **others}


def whole(*results, memory=(), cpu="AMD, avx2"):
    roof = {"flops": {"float32": 1e11}, "copy": {"1048576": 2e10}}
    facts = {"cpu": cpu, "cores": 2, "threads": 1, "clock": "cpu", "load": 0.5, "kdl": "1", "commit": "abc",
             "date": "today", "absent": {"torch": "not installed"}, "roof": roof}
    return {"machines": [facts], "results": list(results), "memory": list(memory)}


def verdicts(found, monkeypatch, *table):
    monkeypatch.setattr(gates, "GATES", table)
    return {title: (figure, verdict) for title, _, figure, _, _, verdict, _ in gates.judgements(found)}


def test_gates_judge_the_geometric_mean(monkeypatch):
    found = whole(result(x=1.0), result(x=4.0))
    seen = verdicts(found, monkeypatch, Gate("below", 2.1, 3, names=("relu",)), Gate("met", 1.9, 3, names=("relu",)),
                    Gate("reached", 1, 2, names=("relu",)), Gate("none", 1, 2, names=("tanh",)),
                    Gate("elsewhere", 9, 9, machine=("avx512f",)))
    assert {t: v for t, (_, v) in seen.items() if t != "rows slower than the reference"} == {
        "below": "BELOW", "met": "gate", "reached": "goal", "none": "not measured", "elsewhere": "does not apply"}
    assert seen["met"][0] == pytest.approx(2)
    assert gates.judge(found) == 1


def test_gates_of_families_that_were_not_asked_for_are_left_out(monkeypatch):
    assert "conv" not in verdicts(whole(result()), monkeypatch, Gate("conv", 3, 9, family="conv"))


def test_a_variant_is_judged_by_its_own_time(monkeypatch):
    fast = result(variants={"kdl": 2.0, "kdl fast": 1.0, "tuned contiguous": 4.0})
    assert verdicts(whole(fast), monkeypatch, Gate("fast", 1, 9, variant="kdl fast"))["fast"] == (4.0, "gate")


def test_gates_of_memory_and_of_rows_slower_than_the_reference(monkeypatch):
    step = {"label": "mlp step", "kdl": 120 << 20, "torch": 100 << 20}
    found = whole(result(x=0.5, high=0.6, column="reference"), result(x=0.9, high=1.1, column="reference"),
                  memory=[step])
    seen = verdicts(found, monkeypatch)
    assert seen["rows slower than the reference"] == (1, "BELOW")
    assert seen["peak memory of mlp step"] == (1.2, "BELOW")


def test_a_run_above_its_gates_exits_with_zero(monkeypatch, capsys):
    monkeypatch.setattr(gates, "GATES", [Gate("relu", 1, 1.5, names=("relu",))])
    assert gates.judge(whole(result())) == 0
    out = capsys.readouterr().out
    assert "2.00  1.00  1.50       1  goal           relu (1 rows, lowest 2.00 relu(8) forward)" in out


def test_comparing_reports_what_lies_beyond_the_spreads():
    before = whole(result("a", 2, 1.9, 2.1), result("b", 2, 1.9, 2.1), result("c", 2, 1.5, 2.5), result("d", 2))
    after = whole(result("a", 1, 0.9, 1.1), result("b", 4, 3.9, 4.1), result("c", 1.8, 1.4, 2.2), result("e", 2))
    lines, slower = report.compare(before, after)
    assert slower == 1
    assert lines[0].startswith("slower  0.50:     2.00 ->     1.00 x torch tuned") and "a(8)" in lines[0]
    assert lines[1].startswith("faster  2.00") and "b(8)" in lines[1]
    assert lines[-1] == "1 slower, 1 faster, 1 within their spreads, 1 no longer there"


def test_compare_from_the_command_line(tmp_path, capsys):
    for name, x in (("a", 2.0), ("b", 1.0)):
        report.write(tmp_path / f"{name}.json", json.dumps(whole(result(x=x))))
    a, b = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    assert main(["bench", "--compare", a, b]) == 1
    assert main(["bench", "--compare", b, a]) == 0
    report.write(tmp_path / "b.json", "{}")
    assert main(["bench", "--compare", a, b]) == 2
    assert f"expected a results.json of kdl bench, got {b}" in capsys.readouterr().err


def test_rows_measured_before_are_kept_unless_measured_again():
    before = whole(result("a", 2), result("b", 2, threads=2), result("c", 2, family="pool"),
                   memory=[{"label": "m", "kdl": 1}])
    found = report.merged(before, whole(result("a", 3), result("d", 4), memory=[{"label": "m", "kdl": 2}]))
    assert [(r["name"], r["ratios"]["torch tuned"]["x"]) for r in found["results"]] == [
        ("b", 2), ("a", 3), ("d", 4), ("c", 2)]
    assert found["memory"] == [{"label": "m", "kdl": 2}] and len(found["machines"]) == 1
    assert report.merged(None, before) is before


def test_the_table_of_the_readme_is_replaced_between_its_markers(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    found = whole(result(x=3.0, low=2.9), result("tanh", 0.5), memory=[{"label": "mlp", "kdl": 1 << 20}])
    for _ in range(2):
        report.update_readme(page, found)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith(f"{report.END}\nafter\n") and "old" not in text
    assert text.count("| relu(8) forward | 2 | 0.1 GB/s | 50 | 1e-07 | **3.00** |") == 1
    assert text.count("| tanh(8) forward | 2 | 0.1 GB/s | 50 | 1e-07 | 0.50 |") == 1
    assert "absent: torch, not installed" in text and "peak memory of mlp: kdl 1 MB" in text


@pytest.mark.parametrize("text", ["nothing", report.BEGIN, report.END + report.BEGIN,
                                  f"{report.BEGIN}{report.END}{report.BEGIN}"])
def test_a_readme_without_its_markers_is_left_alone(tmp_path, text):
    page = tmp_path / "README.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="once each"):
        report.update_readme(page, whole(result()))
    assert page.read_text() == text


def test_the_readme_has_its_markers():
    text = (machine.ROOT / "benchmarks" / "README.md").read_text()
    assert text.count(report.BEGIN) == text.count(report.END) == 1


def test_an_absent_rival_is_named(monkeypatch):
    monkeypatch.setattr(machine, "installed", lambda package: package != "torch")
    absent = suite.Suite("cpu", 1, ["numpy", "torch"]).absent
    assert absent == {"torch": "not installed"}
    facts = whole()["machines"][0]
    assert "absent: torch, not installed" in list(report.facts(facts))


# --- the GPU's clock, on a stand-in for CuPy ---
def test_launches_wait_in_the_queue_and_copies_take_turns():
    log = []

    class Event:
        def record(self):
            log.append("record")

        def synchronize(self):
            log.append("synchronize")

    def kernel(source, name):
        assert (source, name) == (SPIN, "spin")
        return lambda grid, block, args: log.append(f"spin {args[0]}")
    runtime = SimpleNamespace(Event=Event, get_elapsed_time=lambda start, end: 5.0,
                           Device=lambda: SimpleNamespace(attributes={"ClockRate": 1_000_000, "L2CacheSize": 1 << 20}))
    clock = Clock(SimpleNamespace(RawKernel=kernel, cuda=runtime))
    assert clock.seconds([lambda: log.append("a"), lambda: log.append("b")], 3) == pytest.approx(5e-3)
    assert log == ["spin 80000", "record", "a", "b", "a", "record", "synchronize"]


@pytest.mark.skipif(cuda.available(), reason="this machine has a GPU")
def test_without_a_gpu_the_suite_is_rehearsed(capsys):
    assert main(["bench", "tape", "--device", "cuda"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("no measurement: ") and lines[-1] == "3 of 3 rows passed; times need a GPU"
    assert sum(line.startswith("checked, error") for line in lines) == 9


# --- all of it ---
def test_the_benchmarks_belong_to_a_checkout(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(kdl, "__file__", str(tmp_path / "kdl" / "__init__.py"))
    assert main(["bench", "tape"]) == 2
    assert "not part of the installed package; get the source, then run `make bench` in it" in capsys.readouterr().err


def test_a_family_from_end_to_end(tmp_path, capsys):
    pytest.importorskip("torch", reason="the rival of this test")
    code = main(["bench", "tape", "--threads", "1", "--seconds", "0.002", "--out", str(tmp_path), "--gates"])
    out = capsys.readouterr().out
    found = report.load(tmp_path / "results.json")
    assert code == ("BELOW" in out)
    assert [r["label"] for r in found["results"]] == [
        r.label(which) for r in harness.rows(["tape"]) for which in ("forward", "recorded", "step")]
    linear = next(r for r in found["results"] if r["label"].startswith("linear") and r["pass"] == "forward")
    assert {"kdl", "reference", "numpy", "torch contiguous", "tuned contiguous"} <= linear["variants"].keys()
    assert 0 < linear["us_low"] <= linear["us"] <= linear["us_high"]
    assert linear["ratios"]["torch"]["low"] <= linear["ratios"]["torch"]["x"] <= linear["ratios"]["torch"]["high"]
    assert max(linear["errors"].values()) < 1e-5
    assert found["machines"][0]["roof"]["flops"]["float32"] > 1e8
    assert "GFLOP/s" in out and "commit" in out and linear["label"] in out
    with open(tmp_path / "results.csv") as file:
        table = list(csv.DictReader(file))
    assert [row["label"] for row in table] == [r["label"] for r in found["results"]]
    assert float(table[0]["torch"]) == pytest.approx(found["results"][0]["ratios"]["torch"]["x"], abs=1e-3)
    for picture in ("roofline.png", "ratios.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
