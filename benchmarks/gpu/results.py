"""What is measured, and what is made of it: lines, a CSV file, the package's table, a plot."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tidegate._files import replacing
from tidegate.nn.gpu import _table

HIDDEN = (128, 256, 96, 192, 64, 160, 32, 384, 512)  # the most telling first
BATCH = (16, 64, 1, 256)
KINDS = ("bfloat16", "tf32", "float16", "float32")
ROADS = ("ours", "eager", "graph", "flashrnn")
LARGEST = 256  # of ours; above it torch's are timed for the plot
FIELDS = ("kind", "training", "packed", "hidden", "batch", *ROADS, "error", "fault")


class Case(NamedTuple):
    """One kind of call and size."""

    kind: str
    training: bool
    packed: bool
    hidden: int
    batch: int


class Kernel(NamedTuple):
    """A kind of number and a size: what is compiled for itself."""

    kind: str
    hidden: int


def kernels(hidden: Sequence[int] = ()) -> list[Kernel]:
    """Every kernel; first those of which the goals speak, last the sizes that are torch's alone."""
    sizes = hidden or HIDDEN
    ours, larger = ([h for h in sizes if (h <= LARGEST) == own] for own in (True, False))
    parts = ((ours, KINDS[:2]), (ours, KINDS[2:]), (larger, KINDS))
    return [Kernel(kind, h) for sizes, kinds in parts for h in sizes for kind in kinds]


def calls(kernel: Kernel) -> list[Case]:
    """Every call that a kernel is measured with."""
    kinds = itertools.product((True, False), (False, True), BATCH)
    return [Case(kernel.kind, training, packed, kernel.hidden, b) for training, packed, b in kinds]


def write_csv(path: Path, rows: Iterable[dict]) -> None:
    """One row a case; times in milliseconds. The file is whole at any moment."""
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, restval="")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict]:
    """What `write_csv` wrote; an absent time is None."""
    with path.open(newline="", encoding="utf-8") as file:
        return [_typed(row) for row in csv.DictReader(file)]


def _typed(row: dict[str, str]) -> dict:
    numbers = {name: float(row[name]) if row[name] else None for name in (*ROADS, "error")}
    flags = {name: row[name] == "True" for name in ("training", "packed")}
    sizes = {name: int(row[name]) for name in ("hidden", "batch")}
    return {"kind": row["kind"], "fault": row["fault"], **flags, **sizes, **numbers}


def with_flashrnn(rows: Iterable[dict], others: Iterable[dict]) -> list[dict]:
    """The rows, and in those of the same calls what the others have of FlashRNN."""
    found = {Case(*(row[name] for name in Case._fields)): row["flashrnn"] for row in others}
    calls = [(row, Case(*(row[name] for name in Case._fields))) for row in rows]
    return [row | {"flashrnn": found[call]} if call in found else row for row, call in calls]


def faster(rows: Iterable[dict]) -> dict[str, list[_table.Row]]:
    """How many times faster ours is than `torch.nn.GRU`, for the package's table.

    A call is compared with torch's as it is called, not in a graph that a user has to make: in one
    graph or the other ours and torch's are both. A case at fault is zero times faster.
    """
    table: dict[str, list[_table.Row]] = {}
    for row in sorted(rows, key=lambda row: (row["hidden"], row["batch"])):
        if row["hidden"] > LARGEST:
            continue
        right = not row.get("fault") and row.get("ours") and row.get("eager")
        times = round(row["eager"] / row["ours"], 2) if right else 0.0
        call = _table.call_kind(row["kind"], row["training"], row["packed"])
        table.setdefault(call, []).append((row["hidden"], row["batch"], times))
    return table


def lines_of(rows: Iterable[dict]) -> list[str]:
    """A line for each case."""
    found = []
    for row in rows:
        call = _table.call_kind(row["kind"], row["training"], row["packed"])
        times = [f"{road} {row[road]:.3f} ms" for road in ROADS if row.get(road)]
        said = row.get("fault") or ", ".join(times)
        found.append(f"{call}, hidden {row['hidden']}, batch {row['batch']}: {said}")
    return found


def plot(rows: Sequence[dict], device: str, path: Path) -> None:
    """How many times faster ours is than torch's, over hidden sizes; a panel for each call."""
    from matplotlib.figure import Figure

    calls = faster(rows)
    figure = Figure(figsize=(4 * max(1, len(calls)), 3.5), layout="constrained")
    panels = figure.subplots(1, max(1, len(calls)), squeeze=False, sharey=True)[0]
    for panel, (call, measured) in zip(panels, sorted(calls.items()), strict=False):
        for batch in sorted({b for _, b, _ in measured}):
            points = [(h, times) for h, b, times in measured if b == batch and times]
            panel.plot(*zip(*points, strict=True), "o-", label=f"batch {batch}") if points else None
        panel.axhline(1, color="grey", linewidth=0.8)
        panel.set(title=call, xlabel="hidden size", ylabel="times faster than nn.GRU")
        panel.legend()
    figure.suptitle(device)
    figure.savefig(path)
