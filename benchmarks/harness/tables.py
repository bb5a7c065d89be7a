"""Rows as tables of text, printed to a terminal or as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table as Rich

from harness.accuracy import Accuracy
from harness.cases import YARDSTICK, Case, threads_text
from harness.goals import RECOMPUTE, SAVE, Goal
from harness.rows import Row, Timing

NOISY = 0.5  # share of disturbed turns from which a time is marked
NAMES = {"inference": "Inference", "training": "Training step", "stream": "Streaming step"}


class Table(NamedTuple):
    """A title, a heading for each column, and the cells."""

    title: str
    headings: list[str]
    cells: list[list[str]]


def print_rich(console: Console, table: Table) -> None:
    """Print to a terminal."""
    rich = Rich(title=table.title, title_justify="left", box=box.SIMPLE_HEAD)
    for i, heading in enumerate(table.headings):
        rich.add_column(heading, justify="right" if i else "left", no_wrap=True)
    for cells in table.cells:
        rich.add_row(*cells)
    console.print(rich)


def markdown_of(table: Table) -> str:
    """As `benchmarks/README.md` holds it."""
    alignment = ["---", *["---:"] * (len(table.headings) - 1)]
    lines = [table.headings, alignment, *table.cells]
    return "\n".join([f"### {table.title}", "", *(f"| {' | '.join(line)} |" for line in lines), ""])


def tables(rows: Iterable[Row]) -> list[Table]:
    """A table for each mode and setting."""

    def group(row: Row) -> tuple[str, int, str]:
        return row.case.mode, row.case.threads, row.case.isa

    return [_table(list(members)) for _, members in groupby(sorted(rows, key=group), group)]


def kept_table(rows: Iterable[Row]) -> Table:
    """Memory held between forward and backward; it does not depend on the threads."""
    training = {row.case.shape: row for row in rows if row.case.mode == "training"}
    names = ["torch", SAVE, RECOMPUTE]
    cells = [
        [shape, _three(row.case.outputs / 1e6)]
        + [_three((row.timings[name].kept or 0) / 1e6) for name in names]
        for shape, row in training.items()
    ]
    title = "Memory kept between forward and backward, MB"
    return Table(title, ["B,T,I,H", "outputs alone", *names], cells)


def accuracy_table(accuracy: dict[str, list[Accuracy]]) -> Table:
    """Errors of the activations by instruction set."""
    headings = ["", *(f"{a.function} {a.dtype}" for a in next(iter(accuracy.values()), []))]
    cells = [[isa, *(_accuracy(a) for a in found)] for isa, found in accuracy.items()]
    return Table("Largest error of the activations, ulp", headings, cells)


def goal_table(goals: Iterable[Goal]) -> Table:
    """Goals and whether they were met."""
    cells = [[goal.text, goal.found, "met" if goal.met else "fell short"] for goal in goals]
    return Table("Goals", ["goal", "measured", ""], cells)


def _accuracy(a: Accuracy) -> str:
    faults = [] if a.monotone else ["not monotone"]
    faults += [] if a.exact else ["limits not exact"]
    return ", ".join([f"{a.ulp:.2f}", *faults])


def _table(rows: list[Row]) -> Table:
    case = rows[0].case
    ours = [name for name in rows[0].timings if name.startswith("Tidegate")]
    peers = [name for name in rows[0].timings if name not in ours and name != YARDSTICK]
    headings = ["H" if case.mode == "stream" else "B,T,I,H", *ours]
    headings += [*([] if case.mode == "stream" else ["of sgemm"]), *peers]
    cells = [_cells(row, ours, peers) for row in rows]
    return Table(_title(case), headings, cells)


def _title(case: Case) -> str:
    unit = "µs" if case.mode == "stream" else "ms"
    isa = f", {case.isa.upper()} forced on both sides" if case.isa else ""
    return f"{NAMES[case.mode]}, {threads_text(case.threads)}{isa}, {unit}"


def _cells(row: Row, ours: list[str], peers: list[str]) -> list[str]:
    stream = row.case.mode == "stream"
    scale = 1e6 if stream else 1e3
    own = [row.timings[name] for name in ours]
    cells = [str(row.case.hidden) if stream else row.case.shape]
    cells += [_time(timing, scale) for timing in own]
    cells += [] if stream else ["/".join(f"{100 * row.of_sgemm(name):.0f}" for name in ours) + "%"]
    return cells + [_peer(row.timings[name], own, scale) for name in peers]


def _time(timing: Timing, scale: float) -> str:
    """Median and quartiles; a tilde where others used the machine most of the time."""
    median, lower, upper = (
        _three(seconds * scale) for seconds in (timing.median, timing.lower, timing.upper)
    )
    return f"{'~' * (timing.noisy > NOISY)}{median} ({lower}-{upper})"


def _peer(timing: Timing, ours: list[Timing], scale: float) -> str:
    """Median, and how many times as long as ours it is."""
    times = "/".join(_three(timing.median / own.median) for own in ours)
    return f"{'~' * (timing.noisy > NOISY)}{_three(timing.median * scale)} (x{times})"


def _three(value: float) -> str:
    """Three figures, without an exponent."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"
