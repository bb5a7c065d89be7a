"""Series on the calendar that a model has learnt, where it is theirs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import InputError
from ._sessions import Irregular, Timetable
from .frequency import Every, Frequency, Months, Steps, Weekdays
from .panel import Panel

# Where more than this share of the values would be missing, another calendar may fit better; it is
# believed after so many steps.
_MISSING, _BELIEVED = 0.2, 4


def read_like(
    read: Callable[[str | None], Panel], frequency: Frequency, insist: bool = False
) -> Panel:
    """Series on the calendar of a model, or on their own where that is the same but for its day.

    Args:
        read: reads them on the calendar of this name, or on their own.
        frequency: of the model.
        insist: leave gaps, also where a coarser calendar has none.

    Raises:
        InputError: they have another calendar, or cannot be read.
    """
    try:
        panel = read(frequency.name)
    except InputError:
        panel = read(None)
    else:
        if not insist and _share_missing(panel) > _MISSING:
            panel = _on_a_coarser(read, panel) or panel
    require_same(panel.frequency, frequency)
    return panel


def require_same(theirs: Frequency, learnt: Frequency) -> None:
    """See that steps of two calendars mean the same.

    Raises:
        InputError: they do not.
    """
    # Whole numbers stand for no date: their steps may be anything.
    counted = isinstance(theirs, Steps) or isinstance(learnt, Steps)
    same = counted or _beat(theirs) == _beat(learnt)
    if theirs.season_length != learnt.season_length or not same:
        raise InputError(
            f"the model forecasts series that are {learnt.words}, but these are {theirs.words}"
        )


def _on_a_coarser(read: Callable[[str | None], Panel], panel: Panel) -> Panel | None:
    """The series on a calendar of their own, if that is regular and leaves most gaps out."""
    try:
        own = read(None)
    except InputError:  # too few rows to have one, or some are off it
        return None
    steps = _steps(own)
    regular = not isinstance(own.frequency, Irregular)
    fits = steps < (1 - _MISSING) * _steps(panel) and steps - len(own) >= _BELIEVED
    return own if regular and fits else None


def _steps(panel: Panel) -> int:
    return sum(map(len, panel.values))


def _share_missing(panel: Panel) -> float:
    return sum(int(np.isnan(values).sum()) for values in panel.values) / _steps(panel)


def _beat(frequency: Frequency) -> tuple[str, int]:
    """What a step of the calendar is, on whatever day or at whatever hour it falls."""
    match frequency:
        case Months():
            return "months", frequency.months
        case Every():
            return "nanoseconds", frequency.nanoseconds
        case Timetable():
            return "nanoseconds of a timetable", frequency.nanoseconds
        case Weekdays():
            return "days of a week", frequency.week.count("1")
    return type(frequency).__name__, 0
