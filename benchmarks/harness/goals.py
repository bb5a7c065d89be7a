"""What was aimed for, and whether a run reached it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from harness.accuracy import Accuracy
from harness.cases import SHAPES, Case, threads_text
from harness.rows import Row, Run

SAVE, RECOMPUTE = "Tidegate save", "Tidegate recompute"
OBJECTS = 4096  # bytes that tensors and the graph of one layer take, whatever its size


class Goal(NamedTuple):
    """A goal, what was found and whether that meets it."""

    text: str
    found: str
    met: bool


def goals(run: Run) -> Iterator[Goal]:
    """Every goal of which the run holds rows."""
    plain = [row for row in run.rows if not row.case.isa]
    training = [row for row in plain if row.case.mode == "training"]
    inference = [row for row in plain if row.case.mode == "inference"]
    for ours in (SAVE, RECOMPUTE):
        yield from _ratios(
            f"training, {ours.split()[1]}, against torch", training, ours, ["torch"], 5, 1.2
        )
    yield from _ratios("inference against torch", inference, "Tidegate", ["torch"], 4, 1.3)
    runtimes = ["ONNX Runtime", "OpenVINO"]
    text = "inference against ONNX Runtime and OpenVINO"
    yield from _ratios(text, inference, "Tidegate", runtimes, 2, 1.0)
    yield from _of_sgemm(inference)
    yield from _forced([row for row in run.rows if row.case.isa])
    yield from _stream([row for row in plain if row.case.mode == "stream"])
    yield from _kept(training)
    yield from _errors(run.rows)
    yield from _activations(run.accuracy)


def _ratios(
    text: str, rows: list[Row], ours: str, peers: list[str], mean: float, least: float
) -> Iterator[Goal]:
    """Against the fastest of `peers`: the mean over the plain shapes, the least over all rows."""
    rows = [row for row in rows if any(peer in row.timings for peer in peers)]
    for threads in sorted({row.case.threads for row in rows}):
        ratios = {
            row.case: min(row.times(peer, ours) for peer in peers if peer in row.timings)
            for row in rows
            if row.case.threads == threads
        }
        where = f"{text}, {threads_text(threads)}"
        plain = [ratio for case, ratio in ratios.items() if _is_plain(case)]
        if plain:
            found = math.exp(sum(map(math.log, plain)) / len(plain))
            yield Goal(f"{where}: geometric mean at least {mean}", f"{found:.2f}", found >= mean)
        yield from _least(f"{where}: no shape below {least}", ratios, least)


def _is_plain(case: Case) -> bool:
    shape = (case.batch, case.time, case.input, case.hidden)
    return shape in SHAPES and case.layers == case.directions == 1


def _least(text: str, values: dict[Case, float], least: float) -> Iterator[Goal]:
    if values:
        case = min(values, key=lambda case: values[case])
        yield Goal(text, f"{values[case]:.2f} at {case.shape}", values[case] >= least)


def _of_sgemm(rows: list[Row]) -> Iterator[Goal]:
    large = [row for row in rows if row.case.hidden >= 256 and row.case.batch >= 64]
    for threads in sorted({row.case.threads for row in large}):
        shares = {
            row.case: row.of_sgemm("Tidegate") for row in large if row.case.threads == threads
        }
        text = f"forward at H >= 256, B >= 64, {threads_text(threads)}: at least 0.92 of sgemm"
        yield from _least(text, shares, 0.92)


def _forced(rows: list[Row]) -> Iterator[Goal]:
    for mode, ours in (("inference", "Tidegate"), ("training", SAVE)):
        for threads in sorted({row.case.threads for row in rows}):
            members = [r for r in rows if (r.case.mode, r.case.threads) == (mode, threads)]
            ratios = {row.case: row.times("torch", ours) for row in members}
            text = f"AVX2 on both sides, {mode}, {threads_text(threads)}: no shape below 1.1"
            yield from _least(text, ratios, 1.1)


def _stream(rows: list[Row]) -> Iterator[Goal]:
    for row in rows:
        where = f"streaming step, H = {row.case.hidden}, {threads_text(row.case.threads)}"
        if row.case.hidden == 64:
            found = row.timings["Tidegate"].median * 1e6
            yield Goal(f"{where}: at most 2 µs", f"{found:.2f}", found <= 2)
        least = {64: 4, 256: 2}.get(row.case.hidden)
        if least and "ONNX Runtime" in row.timings:
            found = row.times("ONNX Runtime", "Tidegate")
            yield Goal(f"{where}: {least} times ONNX Runtime", f"{found:.2f}", found >= least)


def _kept(rows: list[Row]) -> Iterator[Goal]:
    """What is kept beyond the outputs, counted in states of the whole batch."""
    beyond = {row.case: _states_beyond(row) for row in rows}
    if beyond:
        case = max(beyond, key=lambda case: beyond[case])
        text = "kept with recompute: the outputs and at most 16 states"
        found = f"{beyond[case]:.1f} states at {case.shape}"
        yield Goal(text, found, beyond[case] <= 16)


def _states_beyond(row: Row) -> float:
    """Bytes kept that are not outputs, over those of the states of all layers."""
    case = row.case
    beyond = (row.timings[RECOMPUTE].kept or 0) - case.outputs - case.layers * OBJECTS
    return max(0, beyond) / (case.outputs / case.time)


def _errors(rows: list[Row]) -> Iterator[Goal]:
    errors = {
        row.case: timing.error
        for row in rows
        for name, timing in row.timings.items()
        if name.startswith("Tidegate")
    }
    if errors:
        case = max(errors, key=lambda case: errors[case])
        text = "float32 against float64: RMS error at most 8 eps"
        yield Goal(text, f"{errors[case]:.2f} eps, {case.mode} {case.shape}", errors[case] <= 8)


def _activations(accuracy: dict[str, list[Accuracy]]) -> Iterator[Goal]:
    found = [a for members in accuracy.values() for a in members]
    if found:
        worst = max(found, key=lambda a: a.ulp)
        text = "sigmoid and tanh: at most 4 ulp, monotone, limits exact"
        met = worst.ulp <= 4 and all(a.monotone and a.exact for a in found)
        yield Goal(text, f"{worst.ulp:.2f} ulp, {worst.function} {worst.dtype}", met)
