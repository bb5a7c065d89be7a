"""What is known beside the values of each series: columns of the frame, and what the time tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ._columns import as_floats, entries_or_none, holds_numbers, refuse_infinite

if TYPE_CHECKING:
    import narwhals as nw

    from ._columns import Series

ROLES = ("static", "past", "future")


@dataclass(frozen=True, eq=False)
class Covariate:
    """One covariate of all series of a panel.

    Attributes:
        role: "static": one value a series; "past": known until now; "future": known ahead too.
        values: of each series: one value, one a time stamp, or more where they are known ahead.
            Numbers as float64, NaN where missing; names as text, "" where missing.
    """

    role: str
    values: list[np.ndarray]

    @property
    def is_text(self) -> bool:
        """Whether it holds names instead of numbers."""
        return any(values.dtype.kind == "U" for values in self.values)

    def select(self, which: Sequence[int]) -> Covariate:
        """The covariate of some of the series."""
        return replace(self, values=[self.values[i] for i in which])

    def without_last(self, steps: int) -> Covariate:
        """As it was known so many steps ago: what was known ahead stays."""
        if self.role != "past":
            return self
        return replace(self, values=[values[:-steps] for values in self.values])


def read_covariates(
    df: nw.DataFrame,
    roles: dict[str, str],
    series: Series,
    order: np.ndarray,
    places: list[np.ndarray],
    lengths: list[int],
) -> dict[str, Covariate]:
    """Covariates from columns of a long frame, on the grid of the panel.

    Args:
        df: the frame.
        roles: of each column by name.
        series: which series each row of the frame belongs to.
        order: rows of the frame, sorted by series and time.
        places: of each series, where its sorted rows stand on its grid.
        lengths: of each grid.

    Raises:
        InputError: a column is not there, is infinite, or is static and changes.
    """
    cuts = np.cumsum([len(place) for place in places])[:-1]
    rows = np.split(order, cuts)
    found = {}
    for name, role in roles.items():
        entries = _entries(df, name, series)
        if role == "static":
            values = [_only(entries[mine], name, mine, series) for mine in rows]
        else:
            values = [
                _on_grid(entries[mine], place, length)
                for mine, place, length in zip(rows, places, lengths, strict=True)
            ]
        found[name] = Covariate(role, values)
    return found


def extend(
    covariates: dict[str, Covariate], more: dict[str, list[np.ndarray]]
) -> dict[str, Covariate]:
    """Covariates with values that are known ahead added at the end of each series."""
    longer = {}
    for name, values in more.items():
        old = covariates[name]
        both = zip(old.values, values, strict=True)
        longer[name] = replace(old, values=[np.concatenate(pair) for pair in both])
    return covariates | longer


def entries_of(column: nw.Series, series: Series) -> np.ndarray:
    """Numbers as float64, names as text; NaN or "" where an entry is missing.

    Raises:
        InputError: a number is infinite, or an entry is neither number nor name.
    """
    if holds_numbers(column):
        return _finite(as_floats(column), column, series)
    entries = entries_or_none(column)
    known = [(row, entry) for row, entry in enumerate(entries) if entry is not None]
    for row, entry in known:
        if not isinstance(entry, str | Real | Decimal | np.bool_):
            place = series.place(column.name, row)
            raise InputError(f"{place}: {str(entry)!r} is neither a number nor a name")
    if known and not any(isinstance(entry, str) for _, entry in known):
        numbers = [np.nan if entry is None else float(entry) for entry in entries]
        return _finite(np.array(numbers), column, series)
    return np.array(["" if entry is None else str(entry) for entry in entries], np.str_)


def _finite(numbers: np.ndarray, column: nw.Series, series: Series) -> np.ndarray:
    refuse_infinite(numbers, column.name, series)
    return numbers


def _entries(df: nw.DataFrame, name: str, series: Series) -> np.ndarray:
    if name not in df.columns:
        there = ", ".join(map(repr, df.columns))
        raise InputError(
            f"{series.names.source} has no column {name!r} for a covariate; its columns are {there}"
        )
    return entries_of(df[name], series)


def _missing_like(entries: np.ndarray, length: int) -> np.ndarray:
    if entries.dtype.kind == "U":
        return np.zeros(length, entries.dtype)
    return np.full(length, np.nan)


def _on_grid(entries: np.ndarray, place: np.ndarray, length: int) -> np.ndarray:
    grid = _missing_like(entries, length)
    grid[place] = entries
    return grid


def _only(entries: np.ndarray, name: str, rows: np.ndarray, series: Series) -> np.ndarray:
    """The one value of a static covariate."""
    is_text = entries.dtype.kind == "U"
    known = np.flatnonzero(entries != "" if is_text else np.isfinite(entries))
    if not len(known):
        return _missing_like(entries, 1)
    first = entries[known[0]]
    other = known[entries[known] != first]
    if len(other):
        place = series.place(name, int(rows[other[0]]))
        raise InputError(
            f"{place}: {entries[other[0]]} after {first}; a static covariate has one value a series"
        )
    return entries[known[:1]]
