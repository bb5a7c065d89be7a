"""The calendars that a series can follow: how far apart time stamps are, and which come next."""

# ruff: noqa: D102 - the methods are described once, on Frequency

from __future__ import annotations

import calendar
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

DAY_NS = 86_400_000_000_000
MONTHS = tuple(name.upper() for name in calendar.month_abbr[1:])
WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
MONDAY_TO_FRIDAY = "1111100"

# Longest first: a step is named in the longest unit that divides it.
UNITS = {
    "W": 7 * DAY_NS,
    "D": DAY_NS,
    "h": DAY_NS // 24,
    "min": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}
_UNIT_WORDS = {
    "W": ("weekly", "weeks"),
    "D": ("daily", "days"),
    "h": ("hourly", "hours"),
    "min": ("every minute", "minutes"),
    "s": ("every second", "seconds"),
    "ms": ("every millisecond", "milliseconds"),
    "us": ("every microsecond", "microseconds"),
    "ns": ("every nanosecond", "nanoseconds"),
}


class Frequency(ABC):
    """A regular calendar: `Months`, `Weekdays`, `Every` (a fixed time) or `Steps` (integers).

    `Frequency.parse` reads pandas' names ("MS", "QE", "W-SUN", "B", "15min"); `name` gives them
    back.

    Example:
        >>> Frequency.parse("ME").next(np.datetime64("2023-12-31"), 2).astype("datetime64[D]")
        array(['2024-01-31', '2024-02-29'], dtype='datetime64[D]')
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The pandas alias, or the nearest thing to one; `Frequency.parse` reads it back."""

    @property
    @abstractmethod
    def words(self) -> str:
        """The calendar in plain words, as a user is shown it."""

    @property
    def season_length(self) -> int:
        """How many steps make the most usual season; 1 where there is none."""
        return 1

    def holds(self, times: np.ndarray) -> np.ndarray:
        """Whether each time stamp can lie on this calendar at all."""
        return np.ones(times.shape, bool)

    @abstractmethod
    def count(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """How many steps lead from each start to each stop, rounded down."""

    @abstractmethod
    def shift(self, start: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """The time stamps that lie so many steps after each start."""

    def next(self, last: np.datetime64 | np.int64 | int, n: int) -> np.ndarray:
        """The n time stamps that follow `last`."""
        start = np.asarray(last)
        if start.dtype.kind == "M":
            start = start.astype("datetime64[ns]")
        return self.shift(start, np.arange(1, n + 1))

    @staticmethod
    def parse(text: str | int) -> Frequency:
        """Read a pandas alias ("MS", "W-SUN", "15min"), or a whole number for integer steps.

        Raises:
            InputError: the text names no frequency known here.
        """
        return _parse(str(text).strip())


@dataclass(frozen=True)
class Steps(Frequency):
    """Whole numbers that rise by `step`; they stand for no date."""

    step: int = 1

    @property
    def name(self) -> str:
        return str(self.step)

    @property
    def words(self) -> str:
        return f"whole numbers, {self.step} apart"

    def count(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        return (stop - start) // self.step

    def shift(self, start: np.ndarray, steps: np.ndarray) -> np.ndarray:
        return start + steps * self.step


@dataclass(frozen=True)
class Every(Frequency):
    """A fixed time, from nanoseconds to weeks; `weekday` (0 is Monday) pins weeks down."""

    nanoseconds: int
    weekday: int | None = None

    @property
    def _unit(self) -> tuple[int, str]:
        unit = next(u for u, length in UNITS.items() if self.nanoseconds % length == 0)
        return self.nanoseconds // UNITS[unit], unit

    @property
    def name(self) -> str:
        number, unit = self._unit
        anchor = "" if self.weekday is None else f"-{WEEKDAYS[self.weekday]}"
        return f"{number if number > 1 else ''}{unit}{anchor}"

    @property
    def words(self) -> str:
        number, unit = self._unit
        once, many = _UNIT_WORDS[unit]
        on = "" if self.weekday is None else f", on {calendar.day_name[self.weekday]}"
        return (once if number == 1 else f"every {number} {many}") + on

    @property
    def season_length(self) -> int:
        number, unit = self._unit
        if unit == "W":
            return max(1, 52 // number)
        # A week of days, a day of hours or minutes, an hour of seconds, a second of less.
        season = {"D": 7 * DAY_NS, "h": DAY_NS, "min": DAY_NS, "s": DAY_NS // 24}
        length = season.get(unit, 1_000_000_000)
        return length // self.nanoseconds if length % self.nanoseconds == 0 else 1

    def holds(self, times: np.ndarray) -> np.ndarray:
        if self.weekday is None:
            return super().holds(times)
        return weekday_of(times) == self.weekday

    def count(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        return (stop - start).astype("timedelta64[ns]").astype(np.int64) // self.nanoseconds

    def shift(self, start: np.ndarray, steps: np.ndarray) -> np.ndarray:
        return start + (steps * self.nanoseconds).astype("timedelta64[ns]")


@dataclass(frozen=True)
class Months(Frequency):
    """Every so many months, on one `day`: "start", "end", "business end", or "1" to "31".

    `phase` is the month, counted from January 1970 and taken modulo `months`, on which steps fall;
    None where the series of a panel differ in it.
    """

    months: int
    day: str = "start"
    phase: int | None = None

    @property
    def name(self) -> str:
        ending = {"start": "S", "end": "E", "business end": "E"}.get(self.day)
        if ending is None:
            return f"{self.months if self.months > 1 else ''}M-{self.day}"
        number, unit = next((self.months // n, u) for u, n in _MONTH_UNITS if self.months % n == 0)
        prefix = "B" if self.day == "business end" else ""
        return f"{number if number > 1 else ''}{prefix}{unit}{ending}{self._anchor(unit)}"

    def _anchor(self, unit: str) -> str:
        if unit == "M" or self.phase is None:
            return ""
        month = self.phase % dict(_MONTH_UNITS)[unit]
        # pandas counts quarters from the month that begins, or ends, the year.
        last_year_end = month if unit == "Y" else month + 9
        return f"-{MONTHS[month if self.day == 'start' else last_year_end]}"

    @property
    def words(self) -> str:
        every = {1: "monthly", 3: "quarterly", 12: "yearly"}
        on = {
            "start": "the first day of the month",
            "end": "the last day of the month",
            "business end": "the last working day of the month",
        }
        often = every.get(self.months, f"every {self.months} months")
        return f"{often}, on {on.get(self.day, f'day {self.day} of the month')}"

    @property
    def season_length(self) -> int:
        return 12 // self.months if self.months <= 12 and 12 % self.months == 0 else 1

    def holds(self, times: np.ndarray) -> np.ndarray:
        months = times.astype("datetime64[M]")
        right_day = times.astype("datetime64[D]") == day_of_month(months, self.day)
        if self.phase is None:
            return right_day
        return right_day & (months.astype(np.int64) % self.months == self.phase)

    def count(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        between = stop.astype("datetime64[M]") - start.astype("datetime64[M]")
        return between.astype(np.int64) // self.months

    def shift(self, start: np.ndarray, steps: np.ndarray) -> np.ndarray:
        hour = start - start.astype("datetime64[D]")
        months = start.astype("datetime64[M]") + (steps * self.months).astype("timedelta64[M]")
        return day_of_month(months, self.day).astype("datetime64[ns]") + hour


_MONTH_UNITS = (("Y", 12), ("Q", 3), ("M", 1))


@dataclass(frozen=True)
class Weekdays(Frequency):
    """The days of the week marked "1" in `week`, Monday first: opening days of a shop or market."""

    week: str = MONDAY_TO_FRIDAY

    @property
    def name(self) -> str:
        if self.week == MONDAY_TO_FRIDAY:
            return "B"
        return "C-" + "-".join(self._open_days(WEEKDAYS))

    @property
    def words(self) -> str:
        if self.week == MONDAY_TO_FRIDAY:
            return "working days, Monday to Friday"
        return "every " + ", ".join(self._open_days(tuple(calendar.day_name)))

    def _open_days(self, names: tuple[str, ...]) -> list[str]:
        return [name for name, is_open in zip(names, self.week, strict=True) if is_open == "1"]

    @property
    def season_length(self) -> int:
        return self.week.count("1")

    def holds(self, times: np.ndarray) -> np.ndarray:
        return np.is_busday(times.astype("datetime64[D]"), weekmask=self.week)

    def count(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        days = (start.astype("datetime64[D]"), stop.astype("datetime64[D]"))
        return np.busday_count(*days, weekmask=self.week)

    def shift(self, start: np.ndarray, steps: np.ndarray) -> np.ndarray:
        day = start.astype("datetime64[D]")
        moved = np.busday_offset(day, steps, roll="backward", weekmask=self.week)
        return moved.astype("datetime64[ns]") + (start - day)


def weekday_of(times: np.ndarray) -> np.ndarray:
    """The day of the week, 0 for Monday; the first of January 1970 was a Thursday."""
    return (times.astype("datetime64[D]").astype(np.int64) + 3) % 7


def day_of_month(months: np.ndarray, day: str) -> np.ndarray:
    """The date on which `day` ("start", "end", "business end", "15") falls in each month."""
    if day == "start":
        return months.astype("datetime64[D]")
    one_day = np.timedelta64(1, "D")
    last = (months + np.timedelta64(1, "M")).astype("datetime64[D]") - one_day
    if day == "end":
        return last
    if day == "business end":
        return np.busday_offset(last, 0, roll="backward")
    return np.minimum(months.astype("datetime64[D]") + (int(day) - 1) * one_day, last)


_LONGEST = 36_500  # days of a step
_ALIASES = {"H": "h", "T": "min", "S": "s", "L": "ms", "U": "us", "N": "ns"}
_OLD_MONTH_ALIASES = {"M": "ME", "Q": "QE", "Y": "YE", "A": "YE", "AS": "YS", "BM": "BME"}
_SHAPE = re.compile(r"(?P<number>\d*)(?P<unit>[A-Za-z]+)(?P<anchor>(-[A-Za-z0-9]+)*)")


def _parse(text: str) -> Frequency:
    if text.isdecimal() and int(text) > 0:
        return Steps(int(text))
    if (pausing := _parse_pausing(text)) is not None:
        return pausing
    shape = _SHAPE.fullmatch(text)
    number = int(shape["number"] or 1) if shape else 0
    if shape and number:
        unit, anchors = shape["unit"], shape["anchor"].upper().split("-")[1:]
        found = _parse_months(number, unit, anchors) or _parse_days(number, unit, anchors)
        if found is not None:
            return found
    raise InputError(
        f"frequency {text!r} is not known: use pandas' names, such as MS or ME (months), QS, YS, "
        "W-SUN, D, B (working days), h, 15min, s, or 1 for whole numbers; or irregular, for time "
        "stamps as they come"
    )


def _parse_pausing(text: str) -> Frequency | None:
    from ._sessions import Irregular, Timetable

    if text == "irregular" or text.startswith("irregular-"):
        return Irregular.read(text)
    return Timetable.read(text) if "@" in text else None


def _parse_days(number: int, unit: str, anchors: list[str]) -> Frequency | None:
    unit = _ALIASES.get(unit, unit)
    if number * UNITS.get(unit, 1) > _LONGEST * DAY_NS:
        return None
    if unit == "B" and number == 1 and not anchors:
        return Weekdays()
    if unit == "C" and number == 1 and anchors and set(anchors) <= set(WEEKDAYS):
        return Weekdays("".join("1" if day in anchors else "0" for day in WEEKDAYS))
    if unit == "W" and len(anchors) == 1 and anchors[0] in WEEKDAYS:
        return Every(number * UNITS["W"], WEEKDAYS.index(anchors[0]))
    if unit in UNITS and not anchors:
        return Every(number * UNITS[unit])
    return None


def _parse_months(number: int, unit: str, anchors: list[str]) -> Frequency | None:
    if unit == "M" and len(anchors) == 1 and anchors[0].isdecimal() and 1 <= int(anchors[0]) <= 31:
        return Months(number, str(int(anchors[0])))
    unit = _OLD_MONTH_ALIASES.get(unit, unit)
    shape = re.fullmatch(r"(B?)([MQY])([SE])", unit)
    if shape is None or (shape[1] and shape[3] == "S") or len(anchors) > 1:
        return None
    length = dict(_MONTH_UNITS)[shape[2]]
    if number * length * 30 > _LONGEST:
        return None
    day = "start" if shape[3] == "S" else ("business end" if shape[1] else "end")
    if not anchors:
        return Months(number * length, day)
    if length == 1 or anchors[0] not in MONTHS:
        return None
    # Months since January 1970; a longer step than the unit leaves the year open.
    phase = MONTHS.index(anchors[0]) % length
    return Months(number * length, day, phase if number == 1 else None)
