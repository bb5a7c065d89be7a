"""Tables of whole series as panels, on one calendar; what cannot be used is named, or left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..data import Frequency, Panel
from ..data._parts import Parts
from ..errors import InputError
from ._columns import Columns

if TYPE_CHECKING:
    import pyarrow as pa

# A row is counted in the table that was read, which no user has seen; its series is named.
_ROW = re.compile(r", data row \d+")


@dataclass(frozen=True)
class Reading:
    """What the columns of a folder are for, and what becomes of series that cannot be used.

    Args:
        columns: of the files.
        freq: the calendar as `Panel.from_frame` takes it.
        skip: leave out series that cannot be used, instead of stopping.
        like: the calendar of a model that learnt from such series, told to take `freq`.
    """

    columns: Columns
    freq: str | int | None = None
    skip: bool = False
    like: Frequency | None = None

    def open(self, source: str, rows: int, least: int = 1) -> Parts:
        """The parts of a folder, of at most so many rows, and about so many of them at least.

        Raises:
            InputError: the files cannot be used.
        """
        id, *others = self.columns.for_scanning(source)
        return Parts.open(source, id, others, rows, least)

    def panel(self, table: pa.Table, source: str) -> tuple[Panel | None, list[str]]:
        """The series of a table, and a sentence for each that was left out.

        Raises:
            InputError: a series cannot be used, and is not to be left out.
        """
        try:
            return self._panel(table, source), []
        except InputError as error:
            if not self.skip:
                raise InputError(_ROW.sub("", str(error))) from None
        good, bad = [], []
        for one in _series(table, self.columns.id):
            try:
                self._panel(one, source)
                good.append(one)
            except InputError as error:
                bad.append(_ROW.sub("", str(error)))
        if not good:
            return None, bad
        import pyarrow as pa

        return self._panel(pa.concat_tables(good), source), bad

    def _panel(self, table: pa.Table, source: str) -> Panel:
        if self.like is None:
            return self.columns.panel(table, self.freq, source)
        return self.columns.panel_like(table, self.like, self.freq, source)


def thinned(table: pa.Table, id: str, rows: int, rng: np.random.Generator) -> pa.Table:
    """Some of the series of a table, drawn at random: about so many rows, and one series at least.

    Args:
        table: sorted by series.
        id: the column of ids.
        rows: of the answer, on the average.
        rng: draws them.
    """
    import pyarrow as pa

    if len(table) <= rows:
        return table
    codes = _codes(table, id)
    chosen = rng.random(codes[-1] + 1) < rows / len(table)
    chosen[rng.integers(len(chosen))] |= not chosen.any()
    return table.filter(pa.array(chosen[codes]))


def _codes(table: pa.Table, id: str) -> np.ndarray:
    """The number of the series that each row belongs to."""
    return table[id].combine_chunks().dictionary_encode().indices.to_numpy()


def _series(table: pa.Table, id: str) -> Iterator[pa.Table]:
    codes = _codes(table, id)
    for rows in np.split(np.arange(len(codes)), np.flatnonzero(np.diff(codes)) + 1):
        yield table.slice(int(rows[0]), len(rows))
