"""Calendars that pause or have no beat: opening hours in a week, and time stamps as they come."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass

import numpy as np

from .frequency import DAY_NS, UNITS, WEEKDAYS, Every, Frequency

_WEEK_NS = 7 * DAY_NS
# The first of January 1970 was a Thursday: weeks are counted from the Monday before.
_MONDAY = 3 * DAY_NS
_RUN = re.compile(r"([A-Z]{3})(\d{2}:\d{2}(?::\d{2})?)-(\d{2}:\d{2}(?::\d{2})?)")


@dataclass(frozen=True)
class Timetable(Frequency):
    """A fixed step at the same hours of every week: a market that opens from nine to five.

    Attributes:
        nanoseconds: the step.
        slots: the time stamps of a week, in nanoseconds since Monday midnight, in order.
    """

    nanoseconds: int
    slots: tuple[int, ...]

    @property
    def name(self) -> str:
        runs = (f"{WEEKDAYS[day]}{_clock(a)}-{_clock(b)}" for day, a, b in self._runs())
        return f"{Every(self.nanoseconds).name}@{','.join(runs)}"

    @property
    def words(self) -> str:
        runs = self._runs()
        hours = {(a, b) for _, a, b in runs}
        step = Every(self.nanoseconds).words
        if len(hours) > 1:
            return f"{step}, at {len(self.slots)} times of the week"
        start, stop = hours.pop()
        days = sorted({day for day, _, _ in runs})
        names = [calendar.day_name[day] for day in days]
        together = len(days) > 2 and days == list(range(days[0], days[-1] + 1))
        on = f"{names[0]} to {names[-1]}" if together else ", ".join(names)
        return f"{step}, {on}, from {_clock(start)} to {_clock(stop)}"

    @property
    def season_length(self) -> int:
        counts = {sum(slot // DAY_NS == day for slot in self.slots) for day in range(7)} - {0}
        return counts.pop() if len(counts) == 1 else len(self.slots)

    def holds(self, times: np.ndarray) -> np.ndarray:
        return np.isin(_in_week(times), self.slots)

    def count(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        return self._number(stop) - self._number(start)

    def shift(self, start: np.ndarray, steps: np.ndarray) -> np.ndarray:
        week, slot = np.divmod(self._number(start) + steps, len(self.slots))
        moment = week * _WEEK_NS + np.array(self.slots)[slot] - _MONDAY
        return moment.astype("datetime64[ns]")

    def _number(self, times: np.ndarray) -> np.ndarray:
        week = (_ns(times) + _MONDAY) // _WEEK_NS
        slot = np.searchsorted(self.slots, _in_week(times), "right") - 1
        return week * len(self.slots) + slot

    def _runs(self) -> list[tuple[int, int, int]]:
        """Day of the week, first and last slot of each run of slots one step apart."""
        runs: list[tuple[int, int, int]] = []
        for slot in self.slots:
            day, clock = divmod(slot, DAY_NS)
            if runs and runs[-1][0] == day and clock - runs[-1][2] == self.nanoseconds:
                runs[-1] = (day, runs[-1][1], clock)
            else:
                runs.append((day, clock, clock))
        return runs

    @classmethod
    def read(cls, text: str) -> Timetable | None:
        """The timetable of this name, or None."""
        step, _, spans = text.partition("@")
        parts = [_RUN.fullmatch(span) for span in spans.split(",")]
        if not all(part and part[1] in WEEKDAYS for part in parts):
            return None
        every = Frequency.parse(step)
        if not isinstance(every, Every):
            return None
        slots = [
            WEEKDAYS.index(part[1]) * DAY_NS + clock
            for part in parts
            if part is not None
            for clock in range(_moment(part[2]), _moment(part[3]) + 1, every.nanoseconds)
        ]
        return cls(every.nanoseconds, tuple(slots))


@dataclass(frozen=True)
class Irregular(Frequency):
    """Time stamps as they come: each row is a step, whatever time went by.

    Attributes:
        step: the usual distance, in nanoseconds, or in whole numbers if `dated` is false; 0 where
            it is yet to be measured.
        dated: whether the time stamps are dates.
    """

    step: int = 0
    dated: bool = True

    @property
    def name(self) -> str:
        if not self.step:
            return "irregular"
        return f"irregular-{Every(self.step).name if self.dated else self.step}"

    @property
    def words(self) -> str:
        if not self.step:
            return "irregular"
        usual = Every(self.step).words if self.dated else f"{self.step} apart"
        return f"irregular, usually {usual}"

    def count(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        return (stop - start).astype(np.int64) // max(self.step, 1)

    def shift(self, start: np.ndarray, steps: np.ndarray) -> np.ndarray:
        if self.dated:
            return start + (steps * self.step).astype("timedelta64[ns]")
        return start + steps * self.step

    @classmethod
    def read(cls, text: str) -> Irregular | None:
        """The calendar of this name, or None."""
        _, _, step = text.partition("-")
        if not step:
            return cls()
        if step.isdecimal():
            return cls(int(step), dated=False)
        every = Frequency.parse(step)
        return cls(every.nanoseconds) if isinstance(every, Every) else None

    @classmethod
    def of(cls, times: np.ndarray, within: np.ndarray) -> Irregular:
        """The calendar of these time stamps, with their median distance."""
        gaps = (times[1:] - times[:-1])[within].astype(np.int64)
        step, dated = max(int(np.median(gaps)), 1) if len(gaps) else 1, times.dtype.kind == "M"
        return cls(_rounded(step) if dated else step, dated)


def _rounded(step: int) -> int:
    """Nanoseconds as a whole number of the largest unit of which there are ten or more."""
    unit = next((length for length in UNITS.values() if step >= 10 * length), 1)
    return round(step / unit) * unit


def slots_of(times: np.ndarray) -> np.ndarray:
    """The times of the week that occur, in nanoseconds since Monday midnight."""
    return np.unique(_in_week(times))


def _in_week(times: np.ndarray) -> np.ndarray:
    return (_ns(times) + _MONDAY) % _WEEK_NS


def _ns(times: np.ndarray) -> np.ndarray:
    return np.asarray(times).astype("datetime64[ns]").astype(np.int64)


def _clock(nanoseconds: int) -> str:
    seconds = nanoseconds // 1_000_000_000
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}"
    return text if seconds % 60 == 0 else f"{text}:{seconds % 60:02d}"


def _moment(clock: str) -> int:
    parts = [int(part) for part in clock.split(":")]
    return sum(part * scale for part, scale in zip(parts, (3600, 60, 1), strict=False)) * 10**9
