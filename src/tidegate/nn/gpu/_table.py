"""Where the kernels were measured to be faster than torch's own.

`table.json` is written by `benchmarks/gpu/run.py`: for each device by its name, and each kind of
call ("bfloat16 training packed"), rows of hidden size, batch, and how many times faster than the
fastest way of torch's. What was not measured is not there, and torch's own runs.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

FORMAT = 1
Row = tuple[int, int, float]  # hidden, batch, times faster
Table = dict[str, dict[str, list[Row]]]  # device, kind of call


def call_kind(kind: str, training: bool, packed: bool) -> str:
    """The name of a kind of call."""
    return f"{kind} {'training' if training else 'forward'} {'packed' if packed else 'padded'}"


@functools.cache
def shipped() -> Table:
    """The table that came with the package."""
    return parse((files("tidegate.nn.gpu") / "table.json").read_text("utf-8"))


def parse(text: str) -> Table:
    """A table from its JSON.

    Raises:
        ValueError: it is of another format.
    """
    document = json.loads(text)
    if document.get("format") != FORMAT:
        raise ValueError(f"a table of format {FORMAT} was expected")
    return {
        device: {call: [_row(row) for row in rows] for call, rows in calls.items()}
        for device, calls in document["devices"].items()
    }


def text_of(table: Table) -> str:
    """The JSON of a table, a line for each kind of call."""
    devices = []
    for device, calls in sorted(table.items()):
        lines = [
            f"      {json.dumps(name)}: {json.dumps(rows)}" for name, rows in sorted(calls.items())
        ]
        devices.append(f"    {json.dumps(device)}: {{\n" + ",\n".join(lines) + "\n    }")
    inside = "{\n" + ",\n".join(devices) + "\n  }" if devices else "{}"
    return f'{{\n  "format": {FORMAT},\n  "devices": {inside}\n}}\n'


def is_faster(table: Table, device: str, call: str, hidden: int, batch: int) -> bool:
    """Whether the kernels were faster at all measured sizes around this one.

    Between sizes that were measured their neighbours speak; beyond them nobody does.
    """
    times = {(h, b): faster for h, b, faster in table.get(device, {}).get(call, [])}
    around = [
        times.get((h, b), 0.0)
        for h in _neighbours({h for h, _ in times}, hidden)
        for b in _neighbours({b for _, b in times}, batch)
    ]
    return bool(around) and min(around) >= 1


def _row(row: list[float]) -> Row:
    hidden, batch, times = row
    return int(hidden), int(batch), float(times)


def _neighbours(measured: Iterable[int], size: int) -> list[int]:
    """The nearest measured sizes on either side; none where one side has none."""
    below = [other for other in measured if other <= size]
    above = [other for other in measured if other >= size]
    return sorted({max(below), min(above)}) if below and above else []


def read(path: Path) -> Table:
    """The table of a file; an empty one where there is no file."""
    return parse(path.read_text("utf-8")) if path.exists() else {}
