"""What time stamps tell by themselves: gaps, the hour, the day, the month, holidays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import InputError
from ._sessions import Irregular, Timetable
from .covariates import Covariate
from .frequency import DAY_NS, Every, Months, Weekdays, weekday_of
from .panel import Panel

GAP = "time gap"


def has_gaps(panel: Panel) -> bool:
    """Whether steps of the calendar are of unequal length: closed markets, nights, no beat."""
    return isinstance(panel.frequency, Weekdays | Timetable | Irregular)


def gap_covariate(panel: Panel, horizon: int) -> Covariate:
    """Logarithm of the time since the step before, over the usual time; 0 where it is usual."""
    usual = _usual_gap(panel)

    def gaps(stamps: np.ndarray) -> np.ndarray:
        elapsed = np.diff(stamps.astype(np.int64), prepend=stamps[:1].astype(np.int64) - usual)
        return np.log(np.maximum(elapsed, 1) / usual)

    return _ahead(panel, horizon, gaps)


def useful_cycles(panel: Panel) -> list[str]:
    """Of "year", "week" and "day", those that the panel shows twice and its steps tell apart."""
    if panel.times[0].dtype.kind != "M":
        return []
    longest = max(int((times[-1] - times[0]).astype(np.int64)) for times in panel.times)
    step = _usual_gap(panel)
    return [name for name, length in _LENGTHS.items() if 1.5 * step < length <= longest / 2]


def calendar_covariates(panel: Panel, cycles: list[str], horizon: int) -> dict[str, Covariate]:
    """Where each time stamp stands in the year, the week and the day: a sine and a cosine each.

    Raises:
        InputError: the time stamps are whole numbers.
    """
    if panel.times[0].dtype.kind != "M":
        raise InputError("calendar features need dates, and the time stamps are whole numbers")
    found = {}
    for name in cycles:
        found[f"{name}, sine"] = _ahead(panel, horizon, _wave(_CYCLES[name], np.sin))
        found[f"{name}, cosine"] = _ahead(panel, horizon, _wave(_CYCLES[name], np.cos))
    return found


def is_fine(panel: Panel) -> bool:
    """Whether steps are of a day or less, so that a year, a week and a day may all show."""
    return panel.times[0].dtype.kind == "M" and _usual_gap(panel) <= DAY_NS


def holiday_covariates(panel: Panel, country: str, horizon: int) -> dict[str, Covariate]:
    """The holidays of a country: whether a time stamp falls on one, and which it is.

    Args:
        panel: the series.
        country: as the package holidays names it: "DE", "IR", "US-NY".
        horizon: steps ahead.

    Raises:
        InputError: the package is not installed or does not know the country, or the time stamps
            are no dates of days or less.
    """
    if panel.times[0].dtype.kind != "M" or isinstance(panel.frequency, Months):
        raise InputError(f"holidays need dates of days or hours, not {panel.frequency.words}")
    ends = [panel.stamps(i, len(times), horizon)[-1] for i, times in enumerate(panel.times)]
    first, last = min(times[0] for times in panel.times), max(ends)
    names = _holidays(country, range(_year(first), _year(last) + 1))
    days = np.array(sorted(names), "datetime64[D]")
    words = np.array([names[day] for day in sorted(names)], np.str_)

    def which(stamps: np.ndarray) -> np.ndarray:
        place = np.searchsorted(days, stamps.astype("datetime64[D]"))
        place = np.minimum(place, len(days) - 1)
        return np.where(days[place] == stamps.astype("datetime64[D]"), words[place], "none")

    return {
        "holiday": _ahead(panel, horizon, lambda stamps: (which(stamps) != "none").astype(float)),
        "which holiday": _ahead(panel, horizon, which),
    }


def _year(stamp: np.datetime64) -> int:
    return int(stamp.astype("datetime64[Y]").astype(int)) + 1970


def _holidays(country: str, years: range) -> dict[np.datetime64, str]:
    try:
        import holidays
    except ModuleNotFoundError:
        raise InputError(
            "holidays need the package holidays: pip install 'tidegate[holidays]'"
        ) from None
    place, _, part = country.partition("-")
    try:
        found = holidays.country_holidays(place, subdiv=part or None, years=years)
    except NotImplementedError:
        raise InputError(f"the package holidays knows no country {country!r}") from None
    return {np.datetime64(day, "D"): name for day, name in found.items()}


def _ahead(panel: Panel, horizon: int, measure: Callable[[np.ndarray], np.ndarray]) -> Covariate:
    """A covariate that follows from the time stamps, known as far as the horizon."""
    values = []
    for i, times in enumerate(panel.times):
        after = panel.stamps(i, len(times), horizon)
        values.append(measure(np.concatenate([times, after])))
    return Covariate("future", values)


def _usual_gap(panel: Panel) -> int:
    frequency = panel.frequency
    if isinstance(frequency, Irregular):
        return frequency.step
    if isinstance(frequency, Timetable | Every):
        return frequency.nanoseconds
    if isinstance(frequency, Months):
        return frequency.months * 30 * DAY_NS
    return DAY_NS if isinstance(frequency, Weekdays) else 1


_LENGTHS = {"year": 365 * DAY_NS, "week": 7 * DAY_NS, "day": DAY_NS}


def _of_year(stamps: np.ndarray) -> np.ndarray:
    year = stamps.astype("datetime64[Y]")
    start = year.astype("datetime64[ns]")
    length = (year + np.timedelta64(1, "Y")).astype("datetime64[ns]") - start
    return (stamps - start).astype(float) / length.astype(float)


def _of_day(stamps: np.ndarray) -> np.ndarray:
    return (stamps - stamps.astype("datetime64[D]")).astype(np.int64) / DAY_NS


def _of_week(stamps: np.ndarray) -> np.ndarray:
    return (weekday_of(stamps) + _of_day(stamps)) / 7


_CYCLES = {"year": _of_year, "week": _of_week, "day": _of_day}


def _wave(
    share: Callable[[np.ndarray], np.ndarray], curve: Callable[[np.ndarray], np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    return lambda stamps: curve(2 * np.pi * share(stamps))
