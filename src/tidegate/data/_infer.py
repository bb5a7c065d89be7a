"""Which calendar a set of time stamps follows."""

from __future__ import annotations

import numpy as np

from ._sessions import Timetable, slots_of
from .frequency import DAY_NS, Every, Frequency, Months, Steps, Weekdays, weekday_of

# A shorter step than the usual one is believed when this share of its stamps is there;
# below it, the usual step stands and what does not fit it is an irregular row.
_PRESENT = 1 / 3
# A day of the week is taken as closed only when at least this many weeks show it.
_WEEKS_OF_EVIDENCE = 2
# Hours are taken as closed when the week has at most this share of open ones, and when this share
# of the open ones between the first and the last time stamp is there.
_OPEN, _THERE = 0.8, 0.6


def infer_frequency(times: np.ndarray, within: np.ndarray) -> Frequency | None:
    """The calendar that most of the time stamps follow, or None where nothing can be told.

    Args:
        times: time stamps of all series, one series after the other, each in order.
        within: for each pair of neighbours in `times`, whether both belong to one series.
    """
    gaps = (times[1:] - times[:-1])[within].astype(np.int64)
    if gaps.size == 0:
        return None
    if times.dtype.kind != "M":
        return Steps(_step(gaps))
    return (
        _months(times, within, gaps)
        or _weekdays(times, gaps)
        or _timetable(times, gaps)
        or _every(times, gaps)
    )


def _months(times: np.ndarray, within: np.ndarray, gaps: np.ndarray) -> Frequency | None:
    if _most_common(gaps) < 27 * DAY_NS:
        return None
    shares = {day: Months(1, day).holds(times).mean() for day in _candidate_days(times)}
    day = max(shares, key=shares.__getitem__)
    if shares[day] < 0.9:
        return None
    months = times.astype("datetime64[M]").astype(np.int64)
    step = _step((months[1:] - months[:-1])[within])
    phases = np.unique(months % step)
    return Months(step, day, int(phases[0]) if step in (3, 12) and phases.size == 1 else None)


def _candidate_days(times: np.ndarray) -> list[str]:
    days = times.astype("datetime64[D]") - times.astype("datetime64[M]").astype("datetime64[D]")
    return ["start", "end", "business end", str(int(days.max().astype(np.int64)) + 1)]


def _weekdays(times: np.ndarray, gaps: np.ndarray) -> Frequency | None:
    """Opening days, when some days of the week never occur though the others mostly do."""
    whole_days = not (gaps % DAY_NS).any()
    if not whole_days or _most_common(gaps) > 3 * DAY_NS or (gaps == gaps[0]).all():
        return None
    seen = np.bincount(weekday_of(times), minlength=7) > 0
    week = Weekdays("".join("1" if day else "0" for day in seen))
    # A gap of more than a week says nothing about the days of the week.
    near = gaps[gaps <= 7 * DAY_NS]
    days = int(near.sum() // DAY_NS)
    enough = days >= 7 * _WEEKS_OF_EVIDENCE and near.size >= seen.sum() * _WEEKS_OF_EVIDENCE
    mostly_there = near.size >= 0.6 * days * seen.mean()
    return week if enough and mostly_there and not seen.all() else None


def _timetable(times: np.ndarray, gaps: np.ndarray) -> Frequency | None:
    """Opening hours, when many hours of the week never occur though the others mostly do."""
    step = _most_common(gaps)
    if step >= DAY_NS or DAY_NS % step or (gaps == step).all() or (gaps % step).any():
        return None
    slots = slots_of(times)
    near = gaps[gaps <= 7 * DAY_NS]
    weeks = near.sum() / (7 * DAY_NS)
    enough = weeks >= _WEEKS_OF_EVIDENCE and len(slots) <= _OPEN * 7 * DAY_NS / step
    mostly_there = near.size >= _THERE * weeks * len(slots)
    return Timetable(step, tuple(slots.tolist())) if enough and mostly_there else None


def _every(times: np.ndarray, gaps: np.ndarray) -> Frequency:
    step = _step(gaps)
    if step % (7 * DAY_NS) == 0:
        days = np.unique(weekday_of(times))
        return Every(step, int(days[0]) if days.size == 1 else None)
    return Every(step)


def _step(gaps: np.ndarray) -> int:
    usual = _most_common(gaps)
    if (gaps % usual == 0).all():
        return usual
    divisor = int(np.gcd.reduce(gaps))
    return divisor if gaps.size * divisor >= _PRESENT * gaps.sum() else usual


def _most_common(gaps: np.ndarray) -> int:
    lengths, counts = np.unique(gaps, return_counts=True)
    return int(lengths[counts.argmax()])
