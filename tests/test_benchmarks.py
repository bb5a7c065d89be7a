"""The harness of the benchmarks: it refuses what is wrong, and its tables say what was measured."""

import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
for package in ("matplotlib", "cyclopts", "rich"):
    pytest.importorskip(package)

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from harness import accuracy, compare, goals, measure, noise, tables  # noqa: E402
from harness.cases import Case, all_cases  # noqa: E402
from harness.journal import Journal  # noqa: E402
from harness.peers._modules import runner  # noqa: E402
from harness.rows import Row, Run, Timing  # noqa: E402
from harness.runner import sample  # noqa: E402
from harness.worker import PeerError, Peers, Worker, environment  # noqa: E402

from tidegate import _kernels  # noqa: E402
from tidegate._commands import bench  # noqa: E402
from tidegate.errors import InputError  # noqa: E402

CASE = Case("training", 2, 5, 3, 4, layers=2, directions=2)


def timing(seconds: float, **others) -> Timing:
    return replace(Timing(seconds, seconds, seconds, 9, 0.0, 1.0, 1.0, None), **others)


def row(mode: str = "inference", **seconds: float) -> Row:
    """A row of a shape of the table; names of peers have `_` for a blank."""
    case = Case(mode, 64, 200, 256, 256)
    return Row(case, {name.replace("_", " "): timing(s) for name, s in seconds.items()})


@pytest.fixture(scope="module")
def measured() -> Row:
    with Peers(1, _kernels.ISA) as peers:
        return measure.measure(CASE, peers, seconds=0.0, quiet=False)


def test_a_row_has_all_its_peers_and_their_errors(measured):
    assert set(measured.timings) == {"torch", "sgemm", "Tidegate save", "Tidegate recompute"}
    for name, found in measured.timings.items():
        assert 0 < found.lower <= found.median <= found.upper
        assert found.error < 8
        assert name == "sgemm" or found.kept > 0


def test_recompute_keeps_less_than_save_and_torch(measured):
    kept = {name: found.kept for name, found in measured.timings.items()}
    assert kept["Tidegate recompute"] < kept["Tidegate save"] < kept["torch"]


class Liar:
    """A worker whose results are torch's but for one number."""

    def __init__(self, at: int, wrong: float):
        self.results = runner(torch.nn.GRU, CASE).results()
        self.results[at] = self.results[at].copy()
        self.results[at].flat[0] += wrong

    def ask(self, request, *_):
        assert request == "results"
        return self.results


@pytest.mark.parametrize("at", range(4 + 16))  # output, h_n, x, h_0 and four times four weights
@pytest.mark.parametrize("wrong", [0.01, np.nan])
def test_one_wrong_number_anywhere_is_refused(at, wrong):
    with pytest.raises(compare.DisagreementError, match="eps from float64"):
        compare.errors(CASE, {"liar": Liar(at, wrong)})


def test_right_numbers_are_not_refused():
    assert compare.errors(CASE, {"honest": Liar(0, 0.0)})["honest"] < 8


@pytest.mark.parametrize("mode", ["inference", "stream"])
@pytest.mark.parametrize("peer", ["onnxruntime", "openvino", "jax", "numpy"])
def test_peers_agree_with_float64(peer, mode):
    if find_spec(peer) is None:
        pytest.skip(f"{peer} is not installed")
    case = Case("stream", 1, 1, 8, 8) if mode == "stream" else replace(CASE, mode=mode)
    with Worker(peer, 1) as worker:
        names = worker.ask("prepare", case)
        compare.errors(case, dict.fromkeys(names, worker))


def test_a_failing_worker_says_why():
    with Worker("numpy", 1) as worker, pytest.raises(PeerError, match="AttributeError"):
        worker.ask("tell", "no_such_function")


def test_samples_last_as_long_as_the_calls_they_time():
    calls = []
    taken = sample(lambda: calls.append(0), 0.01)
    assert 0 < min(taken.seconds) <= taken.wall / (len(calls) / len(taken.seconds)) * 2
    assert sum(taken.seconds) <= taken.wall


def test_an_instruction_set_is_forced_on_both_sides():
    settings = environment(2, "avx2")
    assert settings["TIDEGATE_ISA"] == settings["ATEN_CPU_CAPABILITY"] == "avx2"
    assert settings["OMP_NUM_THREADS"] == "2"
    assert "TIDEGATE_ISA" not in environment(2, "")


def test_others_use_of_the_machine_is_what_we_did_not_use():
    before, after = noise.Busy(0.0, 10.0, 0.0), noise.Busy(2.0, 13.0, 0.5)
    assert noise.foreign(before, after, own=3.5) == 0
    assert noise.foreign(before, after, own=1.5) == pytest.approx(1.0, abs=0.01)


def test_the_flops_of_a_training_step_are_three_times_those_of_a_forward_pass():
    forward = Case("inference", 2, 3, 5, 7)
    assert forward.flops == 2 * 3 * (2 * 3 * 7 * (5 + 7))
    assert replace(forward, mode="training").flops == 3 * forward.flops
    assert replace(forward, directions=2).flops == 2 * forward.flops


def test_goals_are_met_and_missed_where_they_should_be():
    rows = [row(sgemm=0.01, Tidegate=1.0, torch=4.5, ONNX_Runtime=3.0, OpenVINO=0.9)]
    found = {goal.text: goal.met for goal in goals.goals(Run({}, rows=rows))}
    met = {text for text, met in found.items() if met}
    assert met == {
        "inference against torch, one thread: geometric mean at least 4",
        "inference against torch, one thread: no shape below 1.3",
        "float32 against float64: RMS error at most 8 eps",
    }
    missed = "inference against ONNX Runtime and OpenVINO, one thread: no shape below 1.0"
    assert found[missed] is False


def test_tables_show_times_and_ratios():
    (table,) = tables.tables([row(sgemm=0.01, Tidegate=0.001, torch=0.0045)])
    assert table.headings == ["B,T,I,H", "Tidegate", "of sgemm", "torch"]
    assert table.cells[0][0] == "64,200,256,256"
    assert table.cells[0][1] == "1.00 (1.00-1.00)"
    assert table.cells[0][3] == "4.50 (x4.50)"
    assert "| 64,200,256,256 | 1.00 (1.00-1.00) |" in tables.markdown_of(table)


def test_a_run_is_read_as_it_was_saved(tmp_path):
    found = accuracy.Accuracy("tanh", "float32", 2.5, True, True)
    run = Run({"machine": "m"}, {"torch": "t"}, [row(sgemm=0.01, torch=1.0)], {"avx2": [found]})
    run.save(tmp_path)
    assert Run.read(tmp_path / "cpu.json") == run
    assert len((tmp_path / "cpu.csv").read_text().splitlines()) == 3


def test_every_row_has_a_label_of_its_own():
    labels = [case.label for case in all_cases((1, 2))]
    assert len(set(labels)) == len(labels)


def test_accuracy_counts_units_of_the_last_place():
    def kernel(_, size, x, y):
        source = np.ctypeslib.as_array((np.ctypeslib.ctypes.c_float * size).from_address(x))
        target = np.ctypeslib.as_array((np.ctypeslib.ctypes.c_float * size).from_address(y))
        target[:] = np.tanh(source.astype(np.float64))
        target[:] += 3 * np.spacing(target)

    found = accuracy.sweep("tanh", kernel, np.float32)
    assert 2.9 < found.ulp <= 3.6
    assert not found.exact


def test_the_command_shows_every_shape(monkeypatch, capsys):
    monkeypatch.setattr(bench, "SHAPES", (bench.Shape(2, 3, 1, 4), bench.Shape(1, 5, 2, 3)))
    before = torch.get_num_threads()
    bench.run_bench(threads=1, seconds=0.0)
    assert torch.get_num_threads() == before
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    expected = [["2", "3", "1", "4"], ["1", "5", "2", "3"]]
    for what in ("forward", "training"):
        assert [line[:4] for line in lines if len(line) == 8 and line[4] == what] == expected


class Wrong(torch.nn.GRU):
    def forward(self, *args):
        output, h_n = super().forward(*args)
        return output + 0.001, h_n


def test_the_command_refuses_to_time_what_is_wrong(monkeypatch):
    monkeypatch.setattr(bench, "GRU", Wrong)
    with pytest.raises(InputError, match="disagree"):
        bench.run_bench(threads=1, seconds=0.0)


def test_a_journal_goes_on_where_it_stopped(tmp_path):
    runs, done = [{"cell": "a"}, {"cell": "b"}, {"cell": "c"}], []

    def run(cell: str) -> dict:
        done.append(cell)
        return {"loss": 1.0}

    journal = Journal(tmp_path / "runs.jsonl")
    assert journal.run_all(runs[:2], run) == 0
    again = Journal(tmp_path / "runs.jsonl")
    assert again.find({"cell": "b"}) == {"cell": "b", "loss": 1.0}
    assert again.run_all(runs, run, seconds=-1) == 1
    assert again.run_all(runs, run) == 0
    assert done == ["a", "b", "c"]
