"""Time zones leave on the way in and come back on the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import narwhals as nw


def keeps_local_clock(column: nw.Series) -> bool:
    """Whether time stamps with a zone are days: always at one hour of the local clock.

    Such a column is regular on the local clock and not in UTC, where summer time moves it;
    for any other it is the other way round.
    """
    local = column.dt.replace_time_zone(None).to_numpy().astype("datetime64[ns]")
    return np.unique(local - local.astype("datetime64[D]")).size == 1


def drop_zone(column: nw.Series) -> tuple[nw.Series, str]:
    """The time stamps without their zone, and whose clock they now show."""
    if keeps_local_clock(column):
        return column.dt.replace_time_zone(None), "local time"
    return column.dt.convert_time_zone("UTC").dt.replace_time_zone(None), "UTC"


def restore_zone(column: nw.Series, like: nw.Series, zone: str) -> nw.Series:
    """Undo `drop_zone` for the time stamps that follow those of `like`."""
    if keeps_local_clock(like):
        return column.dt.replace_time_zone(zone)
    return column.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
