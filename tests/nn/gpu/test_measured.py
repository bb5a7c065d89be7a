"""What the benchmark makes of its timings, on timings that are made up."""

import contextlib
import importlib
import io
import json
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import torch

from gpu_cases import emulate
from tidegate.nn import GRU, _kernel, _short, _torchs, gpu
from tidegate.nn.gpu import _choice, _table

GPU = Path(__file__).parents[3] / "benchmarks" / "gpu"


@pytest.fixture
def results(monkeypatch):
    monkeypatch.syspath_prepend(str(GPU))
    for name in ("results", "run", "one", "checks"):  # of another folder
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("results")


@pytest.fixture
def run(results):
    return importlib.import_module("run")


def rows(results) -> list[dict]:
    made_up = []
    for hidden in (64, 384):
        for case in results.calls(results.Kernel("bfloat16", hidden)):
            times = {"ours": 2.0, "eager": 7.0, "graph": 5.0, "error": 0.4}
            made_up.append(case._asdict() | times)
    made_up[0] |= {"ours": None, "fault": "two runs differ in their bits"}
    made_up[1] |= {"eager": 1.0}
    return made_up


def test_a_table_is_made_of_what_was_right(results, tmp_path):
    path = tmp_path / "times.csv"
    results.write_csv(path, rows(results))
    table = {"a GPU": results.faster(results.read_csv(path))}
    assert _table.parse(_table.text_of(table)) == table
    call = _table.call_kind("bfloat16", training=True, packed=False)
    wrong, slower, *faster = results.BATCH
    measured = {batch: times for _, batch, times in table["a GPU"][call]}
    assert measured == {wrong: 0.0, slower: 0.5, **dict.fromkeys(faster, 3.5)}
    assert not _table.is_faster(table, "a GPU", call, 64, wrong)
    assert not _table.is_faster(table, "a GPU", call, 64, slower)
    assert _table.is_faster(table, "a GPU", call, 64, faster[0])
    assert not _table.is_faster(table, "a GPU", call, 384, faster[0])  # beyond our kernels


def test_every_call_is_measured_once_and_what_the_goals_speak_of_first(results):
    kernels = results.kernels()
    assert len(set(kernels)) == len(kernels) == len(results.KINDS) * len(results.HIDDEN)
    assert kernels[0] == results.Kernel("bfloat16", 128)
    ours = [kernel.hidden <= results.LARGEST for kernel in kernels]
    assert ours == sorted(ours, reverse=True)
    calls = results.calls(kernels[0])
    assert len(set(calls)) == len(calls) == 4 * len(results.BATCH)


def test_lines_and_plot_tell_times_and_faults(results, tmp_path):
    first, second = results.lines_of(rows(results)[:2])
    assert first == "bfloat16 training padded, hidden 64, batch 16: two runs differ in their bits"
    assert second.endswith("batch 64: ours 2.000 ms, eager 1.000 ms, graph 5.000 ms")
    results.plot(rows(results), "a GPU", tmp_path / "times.svg")
    assert (
        "a GPU" in (tmp_path / "times.svg").read_text() or (tmp_path / "times.svg").stat().st_size
    )


def test_what_flashrnn_took_joins_the_same_calls(results):
    mine = rows(results)
    (case,) = [c for c in results.calls(results.Kernel("bfloat16", 64)) if c[1:] == FLASH]
    joined = results.with_flashrnn(mine, [case._asdict() | {"flashrnn": 9.0}])
    assert [row.get("flashrnn") for row in joined].count(9.0) == 1
    (line,) = [line for line in results.lines_of(joined) if "flashrnn" in line]
    assert line.startswith("bfloat16 forward padded, hidden 64, batch 16: ours 2.000 ms")
    assert [row | {"flashrnn": None} for row in joined] == [r | {"flashrnn": None} for r in mine]


FLASH = (False, False, 64, 16)  # forward, padded


def test_a_kernel_that_fails_or_hangs_has_a_row_for_each_call(results, run, tmp_path):
    kernel = results.Kernel("bfloat16", 64)
    half = [results.calls(kernel)[0]._asdict() | {"ours": 1.0}]
    begun = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'input()']); "
    hangs = begun + f"print({json.dumps(half[0])!r}, flush=True); time.sleep(60)"
    found = run.measure(kernel, run._begin(["-c", hangs]), 1, tmp_path)
    assert found[0] == half[0]
    assert [row["fault"] for row in found[1:]] == ["did not end within 1 s"] * 15
    assert run.measure(kernel, run._begin(["-c", hangs]), 1, tmp_path, last=True) == half
    found = run.measure(kernel, run._begin(["-c", "import sys; sys.exit('broken')"]), 30, tmp_path)
    assert [row["fault"] for row in found] == ["broken"] * 16
    found = run.measure(kernel, run._begin(["-c", ""]), 30, tmp_path)
    assert [row["fault"] for row in found] == ["no answer"] * 16
    assert f"--- {kernel}: broken\n" in (tmp_path / run.LOG).read_text()


def test_the_next_kernel_makes_itself_ready_while_one_is_measured(run, monkeypatch, tmp_path):
    """What waits when the time is up is ended."""
    script = "import sys; open(sys.argv[1], 'w'); print(repr(sys.stdin.readline()))"
    monkeypatch.setattr(run, "_script", lambda kernel: ["-c", script, str(tmp_path / kernel)])
    turns = run.in_turn(["a", "b", "c"])
    _, first = next(turns)
    end = time.monotonic() + 30
    while not (tmp_path / "b").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert run._end(first, 30) == (["'\\n'"], "", "")
    _, second = next(turns)
    turns.close()
    assert second.returncode not in (0, None)


def made_up(results, script: list[str], fault: str) -> list[dict]:
    """What a process of `run.py` prints."""
    if script[0].endswith("checks.py"):
        return [{"check": "a", "fault": ""}, {"check": "b", "fault": fault}]
    cases = results.calls(results.Kernel(script[1], int(script[2])))
    return [case._asdict() | {"ours": 2.0, "eager": 7.0} for case in cases]


@pytest.fixture
def ready(results, run, monkeypatch, tmp_path):
    """All of `run.py` but what needs a device: its processes print made-up numbers."""
    begin, tool = run._begin, tmp_path / "compute-sanitizer"
    tool.write_text("#!/bin/sh\necho '========= ERROR SUMMARY: 0 errors'\n")
    tool.chmod(0o755)
    table = tmp_path / "package.json"
    table.write_text(_table.text_of({"another": {"a call": [(64, 16, 2.0)]}}))
    stand_in = types.SimpleNamespace(fault="", dies="", table=table, out=tmp_path / "out")
    monkeypatch.setattr(run, "TABLE", table)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(run.shutil, "which", lambda name: str(tool))

    def begun(script, *rest):
        lines = map(json.dumps, made_up(results, script, stand_in.fault))
        dies = f"raise SystemExit({stand_in.dies!r})" if stand_in.dies else ""
        return begin(["-c", dies or f"print({chr(10).join(lines)!r})"], *rest)

    monkeypatch.setattr(run, "_begin", begun)
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    return stand_in


def test_one_call_does_all(results, run, ready, capsys):
    call = ["--out", str(ready.out), "--hidden", "64"]
    assert run.main(call) == 0
    said = capsys.readouterr().out
    assert "2 checks passed, 0 did not" in said
    assert "compute-sanitizer: memcheck: ERROR SUMMARY: 0 errors, racecheck: ERROR" in said
    assert "64 calls, 0 not right" in said
    table = _table.read(ready.out / "table.json")
    assert set(table) == {"another", "a GPU"}
    assert (64, 16, 3.5) in table["a GPU"]["tf32 training packed"]
    assert len(results.read_csv(ready.out / "times.csv")) == 64
    assert (ready.out / "times.svg").exists()
    assert set(_table.read(ready.table)) == {"another"}
    ready.fault = "wrong"
    assert run.main([*call, "--keep"]) == 1
    assert "1 checks passed, 1 did not\nb: wrong" in capsys.readouterr().out
    assert set(_table.read(ready.table)) == {"another", "a GPU"}


def test_when_nothing_passes_or_the_time_is_up_it_stops(results, run, ready, capsys):
    call = ["--out", str(ready.out), "--minutes"]
    assert run.main([*call, "1.1"]) == 0  # a minute is the sanitizer's
    assert "the time is up: Kernel(kind='bfloat16', hidden=128)" in capsys.readouterr().out
    ready.dies = "CUDA driver version is insufficient"
    assert run.main([*call, "9"]) == 1
    said = capsys.readouterr().out
    assert "not one check passed: nothing was timed\nthe checks: CUDA driver version" in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    command = [sys.executable, str(GPU / "run.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "There is no GPU that torch can use: nothing was measured.\n"


class Clock:
    """An event of the CPU: each is a millisecond after the one before."""

    now = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        Clock.now += 1
        self.at = Clock.now

    def synchronize(self) -> None:
        assert self.at

    def elapsed_time(self, other: "Clock") -> float:
        return float(other.at - self.at)


@pytest.fixture
def one(results, monkeypatch):
    """The measuring scripts on a CPU: kernels emulated, stand-ins for events and graphs."""
    import one

    emulate(monkeypatch, "bfloat16")
    monkeypatch.setattr(one, "DEVICE", "cpu")
    monkeypatch.setattr(one, "TIME", 3)
    monkeypatch.setattr(one, "REPEATS", 2)
    monkeypatch.setattr(results, "BATCH", (1, 9))
    monkeypatch.setattr(one, "set_up", lambda kind: None)
    monkeypatch.setattr(torch.cuda, "Event", Clock)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    stream = types.SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: contextlib.nullcontext())
    graph = types.SimpleNamespace(replay=lambda: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    monkeypatch.setattr(_kernel, "runs", lambda layer: False)
    monkeypatch.setattr(_short, "run", lambda *call: None)
    monkeypatch.setattr(_torchs, "is_at_home", lambda x: True)  # computes in half precision
    monkeypatch.setattr(gpu, "runs", lambda layer, plan, training: _choice.fits(layer, plan))
    monkeypatch.setattr(gpu, "takes", lambda module, x: isinstance(module, GRU))
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    return one


def test_the_measuring_script_runs_from_end_to_end(one, capsys, monkeypatch):
    one.main("bfloat16", 20)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 8
    for row in rows:
        assert "fault" not in row
        assert 0 < row["error"] <= 8
        assert row["ours"] == row["eager"] == 1
        assert ("graph" in row) == (not row["packed"])

    def broken(graph):
        raise RuntimeError("cannot be captured")

    monkeypatch.setattr(torch.cuda, "graph", broken)
    one.main("bfloat16", 300)
    printed = capsys.readouterr()
    (row, *_) = [json.loads(line) for line in printed.out.splitlines()]
    assert not {"ours", "graph"} & set(row)
    assert row["eager"] == 1
    assert "graph cannot be timed" in printed.err


def test_flashrnn_is_timed_where_it_runs(one, capsys, monkeypatch):
    shapes = []

    def flashrnn(gates, weight, bias, function, backend):
        if gates.shape[0] > 1:
            raise RuntimeError("too many rows")
        shapes.append((gates.shape, weight.shape, bias.shape))

    monkeypatch.setitem(sys.modules, "flashrnn", types.SimpleNamespace(flashrnn=flashrnn))
    one.main("flashrnn", 20)
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert row == {**FLASHED, "flashrnn": 1.0}
    assert set(shapes) == {((1, 3, 3, 1, 20), (3, 1, 20, 20), (3, 1, 20))}


FLASHED = {"kind": "bfloat16", "training": False, "packed": False, "hidden": 20, "batch": 1}


@pytest.mark.parametrize("fault", ["a cell left out", "a wrong number", "other bits", "a refusal"])
def test_what_is_wrong_is_not_timed(one, monkeypatch, fault):
    forward, runs = gpu.forward, iter(range(1000))

    def broken(layer, plan):
        if fault == "a refusal":
            raise RuntimeError("CUDA error: an illegal memory access\nand how to find it")
        outputs, run = forward(layer, plan), next(runs)
        if fault == "a cell left out":
            outputs.output[0, 0, 0] = outputs.output.new_empty(())
        elif fault == "a wrong number":
            outputs.output[0, 0] += 1
        elif run == 4:
            outputs.output[0, 0, 0] *= 1.01
        return outputs

    monkeypatch.setattr(gpu, "forward", broken)
    found = one.measure(one.Case("bfloat16", True, False, 20, 1))
    said = {
        "a refusal": "RuntimeError: CUDA error: an illegal memory access",
        "other bits": "two runs differ in their bits",
    }
    assert said.get(fault, "against float64") in found["fault"]
    assert "ours" not in found


def test_every_check_can_pass_and_fail(one, monkeypatch, capsys):
    import checks

    monkeypatch.setattr(checks, "MANY_ROWS", 20)
    monkeypatch.setattr(checks, "SIZES", {"float32": (20,), "bfloat16": (37,)})
    monkeypatch.setattr(gpu, "call_dtype", lambda gru, x, *_: x.dtype if x.itemsize == 2 else None)
    monkeypatch.setattr(checks, "IN_CLUSTER", 37)
    checks.main()
    printed = capsys.readouterr()
    found = {row["check"]: row["fault"] for row in map(json.loads, printed.out.splitlines())}
    # A stand-in for a graph runs its call once, with the numbers that it is captured with.
    differ = found.pop("graph")
    assert "differ in their bits" in differ
    assert set(found.values()) == {""}, printed.err
    assert len(found) == 4 + 10
    monkeypatch.setattr(gpu, "runs", lambda layer, plan, training: False)
    checks.main()
    again = {
        row["check"]: row["fault"] for row in map(json.loads, capsys.readouterr().out.splitlines())
    }
    need_none = {"nothing", "another_device"}
    assert {name for name, fault in again.items() if not fault} == need_none
