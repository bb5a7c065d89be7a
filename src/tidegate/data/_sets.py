"""The small data sets that ship with the package; `sets/README.md` says where they come from."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SETS = ("us_employment", "weather")


def load(name: str) -> pd.DataFrame:
    """A data set as a long frame with the columns unique_id, ds and y.

    Args:
        name: "us_employment" (23 monthly series, ten years) or "weather" (the daily highest
            temperature of two cities, four years, with the lowest, precipitation and wind).

    Raises:
        InputError: there is no data set of this name.

    Example:
        >>> load("weather").columns.to_list()
        ['unique_id', 'ds', 'y', 'temp_min', 'precipitation', 'wind']
    """
    if name not in SETS:
        raise InputError(f"there is no data set {name!r}; there are {', '.join(map(repr, SETS))}")
    return _READERS[name]()


def _us_employment() -> pd.DataFrame:
    wide = _read("us_employment", time="month").rename(columns={"month": "ds"})
    return wide.melt("ds", var_name="unique_id", value_name="y")[["unique_id", "ds", "y"]]


def _weather() -> pd.DataFrame:
    names = {"location": "unique_id", "date": "ds", "temp_max": "y"}
    table = _read("weather", time="date").rename(columns=names)
    return table[["unique_id", "ds", "y", "temp_min", "precipitation", "wind"]]


def _read(name: str, time: str) -> pd.DataFrame:
    import pandas as pd

    with files("tidegate.data").joinpath(f"sets/{name}.csv.gz").open("rb") as file:
        return pd.read_csv(file, compression="gzip", parse_dates=[time])


_READERS = dict(zip(SETS, (_us_employment, _weather), strict=True))
