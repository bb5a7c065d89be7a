"""Time zones leave on the way in and come back on the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import narwhals as nw

Clock = Literal["UTC", "local time"]


def drop_zone(column: nw.Series) -> tuple[nw.Series, Clock | None]:
    """Time stamps without their zone, and whose clock they now show; None if they had no zone.

    Days, always at one hour of the local clock, keep that clock: they are not regular in UTC,
    where summer time moves them. For hours it is the other way round.
    """
    if getattr(column.dtype, "time_zone", None) is None:
        return column, None
    local = column.dt.replace_time_zone(None)
    stamps = local.to_numpy().astype("datetime64[ns]")
    if np.unique(stamps - stamps.astype("datetime64[D]")).size == 1:
        return local, "local time"
    return column.dt.convert_time_zone("UTC").dt.replace_time_zone(None), "UTC"


def restore_zone(column: nw.Series, zone: str, clock: Clock | None) -> nw.Series:
    """Undo `drop_zone`."""
    if clock == "UTC":
        return column.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    return column.dt.replace_time_zone(zone)
