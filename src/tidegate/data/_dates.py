"""Text to time stamps: ISO 8601 first, then the ways people write dates."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np

from ..errors import InputError

# What numpy's datetime64[ns] can hold, in whole years.
FIRST_YEAR, LAST_YEAR = 1678, 2261
_PERSIAN_YEARS = range(1200, 1500)
# Digits of Persian and Arabic keyboards.
_DIGITS = {ord(digit): str(i % 10) for i, digit in enumerate("۰۱۲۳۴۵۶۷۸۹٠١٢٣٤٥٦٧٨٩")}

_DAY_FIRST = ("%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y")
_MONTH_FIRST = ("%m/%d/%Y", "%m.%d.%Y", "%m-%d-%Y")
_CLOCKS = ("", " %H:%M", " %H:%M:%S")
_OTHERS = (
    "%Y-%m",
    "%Y/%m",
    "%Y/%m/%d",
    *(f"%Y/%m/%d{clock}" for clock in _CLOCKS[1:]),
    "%b %Y",
    "%B %Y",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%b-%y",
    "%d-%b-%Y",
)
_QUARTER = re.compile(r"(\d{4})[- ]?[Qq]([1-4])")

Parser = Callable[[str], datetime]


class UnreadableDate(Exception):
    """The entry in row `row` is no date (`reason` says why not)."""

    def __init__(self, row: int, reason: str):
        super().__init__(reason)
        self.row = row
        self.reason = reason


def parse_dates(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Read date texts, all written in one way, as datetime64[ns].

    Returns:
        The time stamps, in UTC if they came with an offset from it; and these offsets.

    Raises:
        UnreadableDate: an entry is no date, or is not written as the others are.
        InputError: day and month cannot be told apart.
    """
    first_row: dict[str, int] = {}
    for row, text in enumerate(texts):
        first_row.setdefault(text, row)
    parse = _choose(list(first_row))
    moments = {text: _moment(parse, text, row) for text, row in first_row.items()}
    offsets = {text: moment.utcoffset() for text, moment in moments.items()}
    times = _as_array([moment.replace(tzinfo=None) for moment in moments.values()], "datetime64")
    places = {text: place for place, text in enumerate(first_row)}
    which = np.array([places[text] for text in texts])
    if None not in offsets.values():
        ahead = _as_array(list(offsets.values()), "timedelta64")
        return (times - ahead)[which], ahead[which]
    unlike = next((text for text in first_row if offsets[text] is not None), None)
    if unlike is not None:
        raise UnreadableDate(
            first_row[unlike], f"{unlike!r} has an offset from UTC, and others have none"
        )
    return times[which], None


def _as_array(values: list, kind: str) -> np.ndarray:
    return np.array(values, f"{kind}[us]").astype(f"{kind}[ns]")


def _plain(text: str) -> str:
    return text.strip().translate(_DIGITS)


def _moment(parse: Parser, text: str, row: int) -> datetime:
    try:
        moment = parse(_plain(text))
    except (ValueError, OverflowError):
        raise UnreadableDate(row, f"{text!r} is not a date") from None
    if moment.year in _PERSIAN_YEARS:
        raise UnreadableDate(
            row, f"{text!r} seems to be of the Persian calendar; write Gregorian dates (2024-03-20)"
        )
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        years = f"{FIRST_YEAR} to {LAST_YEAR}"
        raise UnreadableDate(row, f"{text!r} is outside the years {years}")
    return moment


def _choose(texts: list[str]) -> Parser:
    """The way of reading that understands most of the texts; ISO 8601 wins a tie."""
    sample = [_plain(text) for text in texts]
    day_first = _best([_strptime(d + c) for d in _DAY_FIRST for c in _CLOCKS], sample)
    month_first = _best([_strptime(d + c) for d in _MONTH_FIRST for c in _CLOCKS], sample)
    others = [datetime.fromisoformat, _quarter, *map(_strptime, _OTHERS)]
    best = _best([*others, day_first, month_first], sample)
    if best is day_first and _read(day_first, sample) == _read(month_first, sample):
        example = sample[0]
        raise InputError(
            f"{example!r} may be day first or month first; write dates as year-month-day"
        )
    return best


def _best(parsers: list[Parser], sample: list[str]) -> Parser:
    for parse in parsers:
        if _read(parse, sample[:1]) and _read(parse, sample) == len(sample):
            return parse
    return max(parsers, key=lambda parse: _read(parse, sample[:1000]))


def _read(parse: Parser, sample: list[str]) -> int:
    return sum(_understands(parse, text) for text in sample)


def _understands(parse: Parser, text: str) -> bool:
    try:
        parse(text)
    except (ValueError, OverflowError):
        return False
    return True


def _strptime(pattern: str) -> Parser:
    return lambda text: datetime.strptime(text, pattern)


def _quarter(text: str) -> datetime:
    match = _QUARTER.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return datetime(int(match[1]), 3 * int(match[2]) - 2, 1)
