"""Where a network learns from more series than memory holds: lots, each a sample of some series."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..data._parts import Part, Parts
from ._reading import Reading, thinned

if TYPE_CHECKING:
    import pyarrow as pa

# Rows of the sample, and from so many lots at least, where there are so many row groups.
SAMPLE, LOTS = 2**21, 64


class Lots(Protocol):
    """A sample in lots; any process can read any of them, and reads the same series each time."""

    @property
    def id(self) -> str:
        """The column that tells series apart."""
        ...

    @property
    def rows(self) -> int:
        """How many rows the sample is of."""
        ...

    @property
    def sizes(self) -> np.ndarray:
        """What reading each lot costs, as rows."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of the data."""
        ...

    def name(self, number: int) -> str:
        """What a lot is called in a sentence about it."""
        ...

    def read(self, number: int, rng: np.random.Generator) -> pa.Table | None:
        """Series of a lot, sorted; None if it has none."""
        ...


@dataclass(frozen=True)
class FolderLots:
    """Row groups of a folder of Parquet files, drawn at random if it is large."""

    parts: Parts
    seed: int

    @classmethod
    def open(cls, source: str, reading: Reading, seed: int) -> FolderLots:
        """Look at the files, but not at their rows.

        Raises:
            InputError: the files cannot be used.
        """
        return cls(reading.open(source, SAMPLE // LOTS, LOTS), seed)

    @property
    def id(self) -> str:
        """The column that tells series apart."""
        return self.parts.id

    @property
    def rows(self) -> int:
        """Rows of the folder."""
        return self.parts.rows

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each lot, all of which are read, but not kept."""
        return np.array([lot.rows for lot in self._lots])

    @property
    def fingerprint(self) -> str:
        """Of the folder."""
        return self.parts.fingerprint

    def name(self, number: int) -> str:
        """The file."""
        return self._lots[number].name

    def read(self, number: int, rng: np.random.Generator) -> pa.Table | None:
        """Some of the series of a lot; None if no series begins in it.

        Raises:
            InputError: a file is damaged, or its rows are not sorted by series.
        """
        import pyarrow as pa

        lot, rows = self._lots[number], SAMPLE // len(self._lots)
        kept = [
            thinned(table, self.id, max(rows * len(table) // lot.rows, 1), rng)
            for table in self.parts.batches(lot)
        ]
        return pa.concat_tables(kept, promote_options="permissive") if kept else None

    @cached_property
    def _lots(self) -> list[Part]:
        """All parts of a small folder, some drawn at random from a large one."""
        parts = self.parts
        if parts.rows <= SAMPLE:
            return list(parts.parts)
        order = np.random.default_rng(self.seed).permutation(len(parts.parts))
        rows = np.cumsum([parts.parts[i].rows for i in order])
        needed = int(np.searchsorted(rows, SAMPLE)) + 1
        return [parts.parts[i] for i in sorted(order[: max(needed, LOTS)])]
