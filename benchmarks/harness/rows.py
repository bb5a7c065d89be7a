"""What was measured, and the files that hold it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from harness.accuracy import Accuracy
from harness.cases import YARDSTICK, YARDSTICK_SIZE, Case


@dataclass(frozen=True)
class Timing:
    """Of one way to compute a case."""

    median: float  # seconds of one call
    lower: float  # quartiles
    upper: float
    samples: int
    noisy: float  # share of the turns in which others used the machine
    cores: float  # processor time over time
    error: float  # the largest RMS error of a result, in eps of float32
    kept: int | None  # bytes held between forward and backward


@dataclass(frozen=True)
class Row:
    """A case and its timings by name."""

    case: Case
    timings: dict[str, Timing]

    def of_sgemm(self, name: str) -> float:
        """Rate of the products of this row, as a share of the yardstick's in the same turns."""
        yardstick = 2 * YARDSTICK_SIZE**3 / self.timings[YARDSTICK].median
        return self.case.flops / self.timings[name].median / yardstick

    def times(self, peer: str, ours: str) -> float:
        """How many times as long as ours a peer takes."""
        return self.timings[peer].median / self.timings[ours].median


@dataclass
class Run:
    """All of one run."""

    about: dict[str, str]  # machine, date, command
    versions: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    accuracy: dict[str, list[Accuracy]] = field(default_factory=dict)  # by instruction set

    def save(self, folder: Path) -> None:
        """Write `cpu.json` and `cpu.csv`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.json").write_text(self.json())
        with (folder / "cpu.csv").open("w", newline="") as file:
            lines = [_flat(row, name) for row in self.rows for name in row.timings]
            writer = csv.DictWriter(file, lines[0] if lines else [])
            writer.writeheader()
            writer.writerows(lines)

    def json(self) -> str:
        """As text."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The run that a `cpu.json` holds."""
        fields = json.loads(path.read_text())
        accuracy = {isa: [Accuracy(*a) for a in found] for isa, found in fields["accuracy"].items()}
        return cls(fields["about"], fields["versions"], list(_rows(fields["rows"])), accuracy)


def _rows(rows: Iterable[dict]) -> Iterable[Row]:
    for row in rows:
        timings = {name: Timing(**timing) for name, timing in row["timings"].items()}
        yield Row(Case(**row["case"]), timings)


def _flat(row: Row, name: str) -> dict[str, float | int | str | None]:
    share = {"of_sgemm": 1.0 if name == YARDSTICK else row.of_sgemm(name)}
    return asdict(row.case) | {"name": name} | asdict(row.timings[name]) | share
