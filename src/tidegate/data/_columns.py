"""The three columns of a long frame as arrays: which series, when, how much."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import InputError
from ._dates import FIRST_YEAR, LAST_YEAR, UnreadableDate, parse_dates
from ._zones import Clock, choose_clock, local_times, utc_times, zone_of
from .frequency import DAY_NS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import narwhals as nw


# Not 20240131, which is a date.
_WHOLE_NUMBER = re.compile(r"-?\d{1,7}")


class Names(NamedTuple):
    """What the source and its columns are called; `id` is None for a single series."""

    source: str
    id: str | None
    time: str
    target: str


@dataclass(frozen=True)
class Series:
    """Which series each row belongs to, and the words for the place of a row."""

    names: Names
    ids: list[str]
    codes: np.ndarray

    def place(self, column: str, row: int) -> str:
        """Where an entry stands; rows of data are counted from 1, without the header."""
        series = "" if self.names.id is None else f", series {self.ids[self.codes[row]]!r}"
        return f"{self.names.source}: column {column!r}{series}, data row {row + 1}"


class Rows(NamedTuple):
    """A frame taken apart, one entry a row; `clock` is set if a time zone was dropped."""

    series: Series
    times: np.ndarray
    values: np.ndarray
    clock: Clock | None


def read_columns(df: nw.DataFrame, names: Names, usual: Clock | None = None) -> Rows:
    """Take a long frame apart into series, time stamps and values.

    Args:
        df: the frame.
        names: of its columns.
        usual: the clock of time stamps with a zone, where they are regular by each.

    Raises:
        InputError: a column is missing, or holds an entry that cannot be used.
    """
    wanted = {"series": names.id, "time stamps": names.time, "target": names.target}
    _require(df, names, wanted)
    series = read_ids(df, names)
    times, clock = read_times(df[names.time], series, usual)
    return Rows(series, times, read_numbers(df[names.target], series), clock)


def read_stamps(df: nw.DataFrame, names: Names, clock: Clock | None) -> tuple[Series, np.ndarray]:
    """Series and time stamps of a long frame that needs no target, by this clock.

    Raises:
        InputError: as `read_columns`; or time stamps have a zone and `clock` is none, or they have
            none and it is one.
    """
    _require(df, names, {"series": names.id, "time stamps": names.time})
    series = read_ids(df, names)
    times, own = read_times(df[names.time], series, clock=clock)
    if (own is None) != (clock is None):
        have, lack = ("no time zone", "one") if own is None else ("a time zone", "none")
        raise InputError(
            f"{names.source}: column {names.time!r} has {have}, and the series have {lack}"
        )
    return series, times


def time_text(moment: np.generic) -> str:
    """A time stamp as people write it: no clock at midnight, no fraction that is zero."""
    day, _, clock = str(moment).partition("T")
    clock = clock.rstrip("0").rstrip(".") if "." in clock else clock
    return day if clock in ("", "00:00", "00:00:00") else f"{day} {clock}"


def require_columns(columns: Sequence[str], source: str, wanted: Mapping[str, str | None]) -> None:
    """See that a table has the columns of these roles; None is not asked for.

    Raises:
        InputError: one is missing.
    """
    there = ", ".join(repr(name) for name in columns) or "none"
    for role, name in wanted.items():
        if name is not None and name not in columns:
            raise InputError(
                f"{source} has no column {name!r} for the {role}; its columns are {there}"
            )


def _require(df: nw.DataFrame, names: Names, wanted: Mapping[str, str | None]) -> None:
    require_columns(df.columns, names.source, wanted)
    if len(df) == 0:
        raise InputError(f"{names.source} has no rows of data")


def read_ids(df: nw.DataFrame, names: Names) -> Series:
    """Which series each row belongs to; one series where there is no column of ids.

    Raises:
        InputError: an id is missing.
    """
    import narwhals as nw

    if names.id is None:
        return Series(names, ["series"], np.zeros(len(df), np.int64))
    column = df[names.id]
    missing = _missing(column)
    if column.dtype == nw.String:
        missing = missing | (column == "").fill_null(True).to_numpy()
    if missing.any():
        row = int(missing.argmax()) + 1
        raise InputError(
            f"{names.source}: column {names.id!r}, data row {row} is empty: it names no series"
        )
    table: dict[str, int] = {}
    codes = [table.setdefault(str(entry), len(table)) for entry in column.to_list()]
    return Series(names, list(table), np.array(codes, np.int64))


def read_times(
    column: nw.Series, series: Series, usual: Clock | None = None, clock: Clock | None = None
) -> tuple[np.ndarray, Clock | None]:
    """Time stamps, or whole numbers, and whose clock they show; None if they have no time zone.

    Args:
        column: the time stamps.
        series: which series each belongs to.
        usual: the clock of time stamps with a zone, where they are regular by each.
        clock: the one that such time stamps are to show, whether regular or not.

    Raises:
        InputError: an entry is neither.
    """
    import narwhals as nw

    missing = _missing(column)
    if missing.any():
        place = series.place(column.name, int(missing.argmax()))
        raise InputError(f"{place} is empty, where a time stamp was expected")
    if column.dtype.is_numeric():
        return _of_numbers(whole_numbers(column.to_numpy(), column.name, series), column, series)
    if zone_of(column) is not None:
        utc = dates_in_range(utc_times(column), column.name, series)
        offset = local_times(utc, column) - utc
        day_before = utc - np.timedelta64(DAY_NS, "ns")
        before = local_times(day_before, column) - day_before
    elif isinstance(column.dtype, nw.Date | nw.Datetime):
        return dates_in_range(column.to_numpy(), column.name, series), None
    else:
        texts = [_text(entry) for entry in column.to_list()]
        if all(_WHOLE_NUMBER.fullmatch(text) for text in texts):
            return _of_numbers(np.array([int(text) for text in texts]), column, series)
        utc, offset = _dates_of(texts, column.name, series)
        if offset is None:
            return utc, None
        _, first, which = np.unique(utc, return_index=True, return_inverse=True)
        before = np.insert(offset[first], 0, offset[first[0]])[which]
    if clock is not None:
        return (utc if clock == "UTC" else utc + offset), clock
    return choose_clock(utc, offset, before, usual)


def whole_numbers(numbers: np.ndarray, column: str, series: Series) -> np.ndarray:
    """Numbers as int64.

    Raises:
        InputError: one is not whole, or too large.
    """
    whole = (np.abs(numbers.astype(np.float64)) < 2**53) & (numbers == np.round(numbers))
    if not whole.all():
        row = int(whole.argmin())
        place = series.place(column, row)
        raise InputError(
            f"{place}: {numbers[row]} is neither a date nor a whole number below 2**53"
        )
    return numbers.astype(np.int64)


def _of_numbers(
    numbers: np.ndarray, column: nw.Series, series: Series
) -> tuple[np.ndarray, Clock | None]:
    """Whole numbers as they are, or as the dates that they are written for."""
    month, day = numbers // 100, numbers % 100
    if _are_months(month) and ((day >= 1) & (day <= 31)).all():
        texts = [f"{m // 100}-{m % 100:02d}-{d:02d}" for m, d in zip(month, day, strict=True)]
    elif _are_months(numbers):
        texts = [f"{number // 100}-{number % 100:02d}" for number in numbers]
    else:
        return numbers, None
    return _dates_of(texts, column.name, series)[0], None


def _are_months(numbers: np.ndarray) -> bool:
    """Whether whole numbers are months written as 202401, of this calendar or the Persian one."""
    year, month = numbers // 100, numbers % 100
    likely = ((year >= 1800) & (year <= 2200)) | ((year >= 1300) & (year < 1500))
    return bool((likely & (month >= 1) & (month <= 12)).all())


def _dates_of(
    texts: list[str], column: str, series: Series
) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        return parse_dates(texts)
    except UnreadableDate as bad:
        raise InputError(f"{series.place(column, bad.row)}: {bad.reason}") from None
    except InputError as unclear:
        raise InputError(f"{series.names.source}: column {column!r}: {unclear}") from None


def dates_in_range(times: np.ndarray, column: str, series: Series) -> np.ndarray:
    """Time stamps as datetime64[ns].

    Raises:
        InputError: one is in a year that this does not hold.
    """
    years = times.astype("datetime64[Y]").astype(np.int64) + 1970
    outside = (years < FIRST_YEAR) | (years > LAST_YEAR)
    if outside.any():
        row = int(outside.argmax())
        place = series.place(column, row)
        raise InputError(f"{place}: {times[row]} is outside the years {FIRST_YEAR} to {LAST_YEAR}")
    return times.astype("datetime64[ns]")


def _text(entry: object) -> str:
    return entry.isoformat() if isinstance(entry, date) else str(entry).strip()


def read_numbers(column: nw.Series, series: Series) -> np.ndarray:
    """A column as float64, NaN where a value is missing.

    Raises:
        InputError: an entry is infinite or no number.
    """
    values = as_floats(column) if holds_numbers(column) else _from_entries(column, series)
    refuse_infinite(values, column.name, series)
    return values


def refuse_infinite(values: np.ndarray, column: str, series: Series) -> None:
    """Pass over finite and missing numbers.

    Raises:
        InputError: one is infinite.
    """
    infinite = np.isinf(values)
    if infinite.any():
        raise InputError(f"{series.place(column, int(infinite.argmax()))} is infinite")


def holds_numbers(column: nw.Series) -> bool:
    """Whether all entries are numbers or truth values, of a type that casts to float64."""
    import narwhals as nw

    kind = column.dtype
    return kind == nw.Boolean or (kind.is_numeric() and not kind.is_decimal())


def entries_or_none(column: nw.Series) -> list[Any]:
    """The entries as Python has them, None where one is missing or an empty text."""
    missing = _missing(column)
    entries = zip(column.to_list(), missing, strict=True)
    return [None if gone or (isinstance(e, str) and e == "") else e for e, gone in entries]


def as_floats(column: nw.Series) -> np.ndarray:
    """A column of numbers or truth values as float64, NaN where a value is missing."""
    import narwhals as nw

    try:
        return np.asarray(column.cast(nw.Float64).to_numpy(), np.float64)
    except ValueError:  # pyarrow refuses whole numbers that float64 rounds
        return np.array([np.nan if v is None else float(v) for v in column.to_list()])


def _from_entries(column: nw.Series, series: Series) -> np.ndarray:
    """Numbers from a column of text or of Python objects."""
    values = np.full(len(column), np.nan)
    for row, entry in enumerate(entries_or_none(column)):
        if entry is None:
            continue
        try:
            values[row] = float(entry)
        except (TypeError, ValueError):
            place = series.place(column.name, row)
            raise InputError(f"{place}: {str(entry)!r} is not a number") from None
    return values


def _missing(column: nw.Series) -> np.ndarray:
    missing = column.is_null().to_numpy()
    if column.dtype.is_float():
        missing = missing | np.isnan(column.to_numpy())
    return missing
