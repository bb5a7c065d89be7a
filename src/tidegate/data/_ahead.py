"""Rows that lie ahead of the values: covariates that are known there, and their time stamps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ._columns import Names, Series, read_stamps, time_text
from ._sessions import Irregular
from .covariates import entries_of, extend
from .panel import Panel

if TYPE_CHECKING:
    from narwhals.typing import IntoFrame


def with_future(panel: Panel, future: IntoFrame, names: Names, horizon: int) -> Panel:
    """The panel with what a frame says of the `horizon` steps after each of its series.

    Args:
        panel: the series; covariates with the role "future" are columns of the frame.
        future: a row for each series and time stamp ahead; rows at or before the end of a series
            are passed over, and so are those after the last step.
        names: of its columns; the target is not read.
        horizon: how many steps.

    Raises:
        InputError: a column or a row is not there, or a time stamp is off the calendar.
    """
    import narwhals as nw

    frame = nw.from_native(future)
    frame = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
    series, times = read_stamps(frame, names, panel.clock)
    wanted = [name for name, c in panel.covariates.items() if c.role == "future"]
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise InputError(f"{names.source} has no column {missing[0]!r}, which is known ahead")
    rows = _rows_ahead(panel, series, times, horizon)
    entries = {name: entries_of(frame[name], series) for name in wanted}
    more = {name: [entries[name][mine] for mine in rows] for name in wanted}
    later = [times[mine] for mine in rows]
    return replace(panel, covariates=extend(panel.covariates, more), later=later)


def _rows_ahead(panel: Panel, series: Series, times: np.ndarray, horizon: int) -> list[np.ndarray]:
    """Of each series of the panel, the rows of its next `horizon` steps."""
    number = {name: i for i, name in enumerate(series.ids)}
    single = len(panel) == 1 and series.names.id is None
    found = []
    for i, name in enumerate(panel.ids):
        code = 0 if single else number.get(name, -1)
        rows = np.flatnonzero(series.codes == code)
        last = panel.times[i][-1]
        rows = rows[times[rows] > last]
        rows = rows[np.argsort(times[rows], kind="stable")][:horizon]
        if len(rows) < horizon:
            raise InputError(
                f"{series.names.source} has {len(rows)} rows after {time_text(last)} for series "
                f"{name!r}, and {horizon} are needed"
            )
        _check_stamps(panel, i, series, times, rows)
        found.append(rows)
    return found


def _check_stamps(
    panel: Panel, i: int, series: Series, times: np.ndarray, rows: np.ndarray
) -> None:
    if isinstance(panel.frequency, Irregular):
        wrong = np.append(False, times[rows][1:] == times[rows][:-1])
    else:
        wrong = times[rows] != panel.frequency.next(panel.times[i][-1], len(rows))
    if wrong.any():
        row = int(rows[int(wrong.argmax())])
        place = series.place(series.names.time, row)
        raise InputError(
            f"{place}: {time_text(times[row])} is not the next step of the calendar "
            f"{panel.frequency.name} ({panel.frequency.words})"
        )
