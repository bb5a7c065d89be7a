"""Rows in any order become series on a regular grid, or one sentence that says why they cannot."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ._columns import Series, time_text
from ._infer import infer_frequency
from ._sessions import Irregular
from .frequency import Frequency, Steps

# A series of which more than this share would be gaps does not follow its calendar.
_MOST_GAPS = 0.95
# Where more than this share of the rows is off every calendar, there is none.
_MOST_OFF = 0.2


class Grids(NamedTuple):
    """Series on their calendar.

    Attributes:
        times: the time stamps of each series.
        values: the values, NaN in the gaps.
        frequency: the calendar.
        order: rows of the source, sorted by series and time.
        places: of each series, where its sorted rows stand among its time stamps.
    """

    times: list[np.ndarray]
    values: list[np.ndarray]
    frequency: Frequency
    order: np.ndarray
    places: list[np.ndarray]


def assemble(
    series: Series, times: np.ndarray, values: np.ndarray, freq: str | int | None, notes: list[str]
) -> Grids:
    """Sort the rows, find their calendar, and fill its gaps with NaN.

    Raises:
        InputError: a time stamp occurs twice or fits no calendar, or a series has no value.
    """
    order = np.lexsort((times, series.codes))
    _say_if_unsorted(series, times, notes)
    times, values, codes = times[order], values[order], series.codes[order]
    rows = _Sorted(series, order, times, codes)
    rows.refuse_duplicates()
    rows.refuse_empty(values)
    frequency = _frequency(rows, freq, notes)
    if isinstance(frequency, Irregular):
        steps = np.ones(len(times) - 1, np.int64)
    else:
        steps = rows.steps(frequency)
        _say_gaps(rows, steps, frequency, notes)
    return _fill(rows, values, steps, frequency)


class _Sorted:
    """Rows sorted by series and time, that still know where they stood in the source."""

    def __init__(self, series: Series, order: np.ndarray, times: np.ndarray, codes: np.ndarray):
        self.series = series
        self.order = order
        self.times = times
        self.codes = codes
        self.within = codes[1:] == codes[:-1]
        self.starts = np.flatnonzero(np.concatenate([[True], ~self.within]))

    def place(self, row: int, column: str | None = None) -> str:
        return self.series.place(column or self.series.names.time, int(self.order[row]))

    def time(self, row: int) -> str:
        return time_text(self.times[row])

    def refuse_duplicates(self) -> None:
        twice = self.within & (self.times[1:] == self.times[:-1])
        if not twice.any():
            return
        row = int(twice.argmax())
        first, second = sorted(self.order[[row, row + 1]])
        advice = (
            ", or name the column that tells the series apart"
            if self.series.names.id is None
            else ""
        )
        place = self.series.place(self.series.names.time, int(second))
        raise InputError(
            f"{place}: time stamp {self.time(row)} is already in data row {first + 1}; "
            f"keep one of the two{advice}"
        )

    def refuse_empty(self, values: np.ndarray) -> None:
        known = np.add.reduceat(~np.isnan(values), self.starts, dtype=np.int64)
        if not known.all():
            row = int(self.starts[int((known == 0).argmax())])
            place = self.place(row, self.series.names.target)
            raise InputError(f"{place} and all others of the series are missing")

    def off(self, frequency: Frequency) -> tuple[np.ndarray, np.ndarray]:
        """Calendar steps from each row to the next, and which rows are off the calendar."""
        off = ~frequency.holds(self.times)
        steps = frequency.count(self.times[:-1], self.times[1:])
        on_grid = frequency.shift(self.times[:-1], steps) == self.times[1:]
        off[1:] |= self.within & ~on_grid
        return steps, off

    def steps(self, frequency: Frequency) -> np.ndarray:
        """Calendar steps from each row to the next; refuses a row that is off the calendar."""
        steps, off = self.off(frequency)
        if off.any():
            row = int(off.argmax())
            raise InputError(
                f"{self.place(row)}: {self.time(row)} is not on the calendar "
                f"{frequency.name} ({frequency.words}), and time stamps must be regular"
            )
        return steps


def _say_if_unsorted(series: Series, times: np.ndarray, notes: list[str]) -> None:
    by_series = np.argsort(series.codes, kind="stable")
    codes, times = series.codes[by_series], times[by_series]
    backwards = (codes[1:] == codes[:-1]) & (times[1:] < times[:-1])
    if backwards.any():
        place = series.place(series.names.time, int(by_series[int(backwards.argmax()) + 1]))
        notes.append(f"{place} lies before the row above it in time; rows were sorted")


def _frequency(rows: _Sorted, freq: str | int | None, notes: list[str]) -> Frequency:
    if freq is None:
        found = infer_frequency(rows.times, rows.within)
        if found is None:
            raise InputError(
                f"{rows.place(0)}: no series has two time stamps to tell the frequency from; "
                "give it (freq)"
            )
        share = rows.off(found)[1].mean()
        if share <= _MOST_OFF:
            return found
        irregular = Irregular.of(rows.times, rows.within)
        notes.append(
            f"{rows.series.names.source}: {share:.0%} of the time stamps are off every calendar; "
            f"they are taken as they come ({irregular.words})"
        )
        return irregular
    frequency = Frequency.parse(freq)
    if isinstance(frequency, Irregular):
        return Irregular.of(rows.times, rows.within) if not frequency.step else frequency
    if isinstance(frequency, Steps) != (rows.times.dtype.kind == "i"):
        kind = "dates" if rows.times.dtype.kind == "M" else "whole numbers"
        column = rows.series.names.time
        raise InputError(
            f"{rows.series.names.source}: column {column!r} holds {kind}, which frequency "
            f"{freq!r} does not fit"
        )
    return frequency


def _say_gaps(rows: _Sorted, steps: np.ndarray, frequency: Frequency, notes: list[str]) -> None:
    missing = np.where(rows.within, steps - 1, 0)
    if not missing.any():
        return
    per_series = np.add.reduceat(np.append(missing, 0), rows.starts)
    lengths = np.diff(np.append(rows.starts, len(rows.times)))
    sparse = per_series > _MOST_GAPS * (per_series + lengths)
    if sparse.any():
        which = int(sparse.argmax())
        share = 100 * per_series[which] / (per_series[which] + lengths[which])
        raise InputError(
            f"{rows.place(int(rows.starts[which]))}: the series has rows for only "
            f"{100 - share:.1f} % of its time stamps on the calendar "
            f"{frequency.name} ({frequency.words})"
        )
    row = int((missing > 0).argmax())
    others = int((per_series > 0).sum()) - 1
    more = f", and {others} other series have gaps too" if others else ""
    count = int(per_series[np.searchsorted(rows.starts, row, "right") - 1])
    plural = "s are" if count > 1 else " is"
    notes.append(
        f"{rows.place(row)}: {count} time stamp{plural} missing in the series, first after "
        f"{rows.time(row)}{more}; they count as missing values"
    )


def _fill(rows: _Sorted, values: np.ndarray, steps: np.ndarray, frequency: Frequency) -> Grids:
    cuts = rows.starts[1:]
    grids, filled = np.split(rows.times, cuts), np.split(values, cuts)
    places = [np.arange(len(grid)) for grid in grids]
    incomplete = np.flatnonzero(rows.within & (steps > 1))
    for which in np.unique(np.searchsorted(rows.starts, incomplete, "right") - 1):
        start = rows.starts[which]
        inside = steps[start : start + len(grids[which]) - 1]
        positions = np.concatenate([[0], np.cumsum(inside)])
        places[which] = positions
        grids[which] = frequency.shift(rows.times[start], np.arange(positions[-1] + 1))
        on_grid = np.full(positions[-1] + 1, np.nan)
        on_grid[positions] = filled[which]
        filled[which] = on_grid
    return Grids(grids, filled, frequency, rows.order, places)
