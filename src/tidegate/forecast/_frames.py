"""Forecasts as the columns of a long frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._series.bands import column_names
from ..data import Panel, to_frame
from ..data._sessions import Irregular
from ..data._zones import Clock

NAME = "GRU"


def forecast_columns(
    panel: Panel, quantiles: np.ndarray, levels: Sequence[float], id: str, time: str
) -> dict[str, Any]:
    """A row for each series and step after its end.

    Args:
        panel: the series.
        quantiles: of each series, (series, horizon, quantiles), the median in the middle.
        levels: of the bands, in percent.
        id: what the column of ids is to be called.
        time: that of time stamps.
    """
    horizon = quantiles.shape[1]
    ids = np.array(panel.ids, object).repeat(horizon)
    columns = {id: ids, time: np.concatenate(stamps_after(panel, horizon))}
    return columns | quantile_columns(quantiles, levels)


def quantile_columns(quantiles: np.ndarray, levels: Sequence[float]) -> dict[str, np.ndarray]:
    """The median first, then the limits of the bands."""
    names, middle = column_names(NAME, levels), len(levels)
    order = [middle, *(i for i in range(len(names)) if i != middle)]
    return {names[i]: quantiles[..., i].ravel() for i in order}


def stamps_after(panel: Panel, horizon: int) -> list[np.ndarray]:
    """The time stamps after the end of each series."""
    if panel.later is not None or isinstance(panel.frequency, Irregular):
        return [panel.stamps(i, len(panel.times[i]), horizon) for i in range(len(panel))]
    # Most series of a panel end together, and a calendar goes on from the last stamp alone.
    known: dict[Any, np.ndarray] = {}
    for times in panel.times:
        if times[-1] not in known:
            known[times[-1]] = panel.frequency.next(times[-1], horizon)
    return [known[times[-1]] for times in panel.times]


def head(df: Any) -> Any:
    """A few rows of a frame, to remember its kind by."""
    import narwhals as nw

    return nw.from_native(df).head(2).to_native()


def as_frame(columns: dict[str, Any], like: Any, clock: Clock | None, id: str) -> Any:
    """Columns as a frame of the kind of `like`, without ids where it has none; else pandas."""
    if like is None:
        import pandas as pd

        return pd.DataFrame(columns)
    import narwhals as nw

    if id not in nw.from_native(like).collect_schema().names():
        del columns[id]
    return to_frame(columns, like, clock)
