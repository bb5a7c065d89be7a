"""Time zones leave on the way in and come back on the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ._sessions import Irregular
from .frequency import DAY_NS, Every, Frequency, Steps

if TYPE_CHECKING:
    import narwhals as nw

Clock = Literal["UTC", "local time"]

_DAY = np.timedelta64(DAY_NS, "ns")


def zone_of(column: nw.Series) -> Any:
    """The time zone of a column of time stamps; None if it has none."""
    # narwhals does not know the names of all zones that pandas has.
    pandas = getattr(column.to_native(), "dtype", None)
    return getattr(pandas, "tz", None) or getattr(column.dtype, "time_zone", None)


def utc_times(column: nw.Series) -> np.ndarray:
    """The time stamps of a column with a time zone, in UTC."""
    if column.implementation.is_pandas_like():
        return column.to_native().dt.tz_convert(None).to_numpy()
    return column.dt.convert_time_zone("UTC").dt.replace_time_zone(None).to_numpy()


def local_times(utc: np.ndarray, like: nw.Series) -> np.ndarray:
    """What the clocks in the zone of `like` show at these times, datetime64[ns]."""
    return _wall(_in_zone(utc, like))


def choose_clock(
    utc: np.ndarray, offset: np.ndarray, before: np.ndarray, usual: Clock | None
) -> tuple[np.ndarray, Clock]:
    """Time stamps without their zone, and whose clock they show.

    What keeps to hours of the local clock (days, the hours of a market) is not regular in UTC,
    where summer time moves it. For what goes on day and night it is the other way round.

    Args:
        utc: the time stamps, datetime64[ns].
        offset: how far the local clock is ahead, timedelta64[ns].
        before: how far it was ahead some time before each; a day, where that is known.
        usual: the clock by which both are regular; when not given, the local one if it shows one
            hour only.
    """
    local = _put_back(utc + offset, offset - before)
    moments, first = np.unique(utc, return_index=True)
    shown = local[first]
    gaps, shown_gaps = np.diff(moments), np.diff(shown)
    if not (shown_gaps > np.timedelta64(0, "ns")).all():
        return utc, "UTC"
    hours, shown_hours = _count(_hours(moments)), _count(_hours(shown))
    if shown_hours < hours and _count(shown_gaps) < _count(gaps):
        usual = "local time"
    by_local = shown_hours == 1 if usual is None else usual == "local time"
    return (local, "local time") if by_local else (utc, "UTC")


def usual_clock(frequency: Frequency) -> Clock | None:
    """The clock by which series of this calendar go, as far as it tells."""
    if isinstance(frequency, Irregular | Steps):
        return None
    day_and_night = isinstance(frequency, Every) and frequency.nanoseconds < DAY_NS
    return "UTC" if day_and_night else "local time"


def restore_zone(column: nw.Series, like: nw.Series, clock: Clock | None) -> nw.Series:
    """Undo `choose_clock`, in the zone of `like`.

    A time that the local clock leaves out becomes as much later as the clock is put forward; of
    one that it shows twice, the first is taken.
    """
    stamps = column.to_numpy().astype("datetime64[ns]")
    if clock != "UTC":
        early, late = (
            stamps - (local_times(moment, like) - moment)
            for moment in (stamps - _DAY, stamps + _DAY)
        )
        by_late = (local_times(early, like) != stamps) & (local_times(late, like) == stamps)
        stamps = np.where(by_late, late, early)
    return _in_zone(stamps, like)


def _put_back(local: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """Hours that there were not, as clocks were put forward so far, instead of those after them."""
    hours = _hours(local)
    usual = np.unique(hours[forward <= np.timedelta64(0, "ns")])
    if not len(usual):
        return local
    late = hours - usual[np.maximum(np.searchsorted(usual, hours, "right") - 1, 0)]
    return np.where((late > np.timedelta64(0, "ns")) & (late <= forward), local - late, local)


def _hours(times: np.ndarray) -> np.ndarray:
    return times - times.astype("datetime64[D]")


def _count(values: np.ndarray) -> int:
    return len(np.unique(values))


def _in_zone(utc: np.ndarray, like: nw.Series) -> nw.Series:
    import narwhals as nw

    column = nw.new_series(like.name, utc, backend=like.implementation)
    return column.dt.replace_time_zone("UTC").dt.convert_time_zone(zone_of(like))


def _wall(column: nw.Series) -> np.ndarray:
    return column.dt.replace_time_zone(None).to_numpy().astype("datetime64[ns]")
