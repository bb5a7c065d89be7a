"""Peak memory of a training step against the number of time steps, ours and torch's, and a plot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
from cyclopts import App, Parameter
from harness import machine
from harness.cases import Case
from harness.tables import Table, markdown_of
from harness.worker import Worker

MB = 1e6
WAYS = {"torch": "pytorch", "Tidegate save": "tidegate", "Tidegate recompute": "tidegate"}

app = App(help=__doc__)
Steps = Annotated[tuple[int, ...], Parameter(consume_multiple=True, negative="")]


class Point(NamedTuple):
    """Peaks, in bytes, by name."""

    case: Case
    peaks: dict[str, int]


@app.default
def main(
    *,
    steps: Steps = (125, 250, 500, 1000, 2000, 4000),
    batch: int = 16,
    input: int = 64,
    hidden: int = 256,
    output: Path = Path("docs/img"),
) -> None:
    """Take each step in a process of its own, print a table, write memory.svg.

    The peak is what a process grows by from before the forward pass, its inputs and weights in
    place, until after the backward pass: scratch of the kernels and gradients are in it.

    Args:
        steps: Numbers of time steps.
        batch: Rows of the batch.
        input: Features of a step.
        hidden: Units.
        output: The folder for memory.svg.
    """
    points = [_measure(Case("training", batch, time, input, hidden)) for time in steps]
    shape = f"B = {batch}, I = {input}, H = {hidden}"
    print(f"{'. '.join(machine.describe().values())}.\n\n{markdown_of(_table(points, shape))}")
    output.mkdir(parents=True, exist_ok=True)
    _plot(points, shape, output / "memory.svg")


def _measure(case: Case) -> Point:
    peaks = {name: _peak(name, case) for name in WAYS}
    return Point(case, peaks)


def _peak(name: str, case: Case) -> int:
    with Worker(WAYS[name], case.threads) as worker:
        worker.ask("prepare", replace(case, time=2))
        worker.ask("results", name)  # what a first call loads and makes once is not the step's
        worker.ask("prepare", case)
        return worker.ask("peak", name)


def _table(points: list[Point], shape: str) -> Table:
    cells = [
        [str(p.case.time), *(f"{size / MB:.1f}" for size in (p.case.outputs, *p.peaks.values()))]
        for p in points
    ]
    headings = ["T", "outputs alone", *WAYS]
    return Table(f"Peak memory of a training step, MB, {shape}", headings, cells)


def _plot(points: list[Point], shape: str, path: Path) -> None:
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": path.name}  # small, and the same again
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    times = [p.case.time for p in points]
    for name in WAYS:
        axis.plot(times, [p.peaks[name] / MB for p in points], "o-", label=name)
    axis.plot(times, [p.case.outputs / MB for p in points], "k--", label="the outputs alone")
    axis.set_xlabel("time steps")
    axis.set_ylabel("peak memory, MB")
    axis.set_title(f"Training step, {shape}")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    app()
