"""Arrays back into the kind of frame that the user works with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._zones import Clock, restore_zone, zone_of

if TYPE_CHECKING:
    import narwhals as nw
    from narwhals.typing import IntoFrameT


def to_frame(
    columns: Mapping[str, np.ndarray | Sequence], like: IntoFrameT, clock: Clock | None = None
) -> IntoFrameT:
    """Columns as a frame of the same kind as `like`: pandas, polars, pyarrow.

    A column that `like` has too (the ids, the time stamps) comes in the type that it has there,
    so that the two join; text that held dates comes as dates, in UTC if `clock` says so.

    Args:
        columns: the columns by name.
        like: a frame, or a few rows of one.
        clock: whose clock the time stamps show, where they came with a zone (`Panel.clock`).

    Example:
        >>> import pandas as pd
        >>> df = pd.DataFrame({"unique_id": [7], "ds": pd.to_datetime(["2024-01-01"]), "y": [1.0]})
        >>> to_frame({"unique_id": ["7"], "median": np.array([2.0])}, like=df).dtypes.to_dict()
        {'unique_id': dtype('int64'), 'median': dtype('float64')}
    """
    import narwhals as nw

    native: Any = like
    model = nw.from_native(native)
    model = model.collect() if isinstance(model, nw.LazyFrame) else model
    frame = nw.from_dict(dict(columns), backend=model.implementation)
    shared = [name for name in frame.columns if name in model.columns]
    zoned = next((model[name] for name in shared if zone_of(model[name]) is not None), None)
    times = [c for c in frame.iter_columns() if isinstance(c.dtype, nw.Datetime)]
    if zoned is not None:
        frame = frame.with_columns(*(restore_zone(c, zoned, clock).alias(c.name) for c in times))
    elif clock == "UTC":
        frame = frame.with_columns(*(c.dt.replace_time_zone("UTC") for c in times))
    frame = frame.with_columns(*(_as(frame[name], model[name].dtype) for name in shared))
    if not model.implementation.is_pandas_like():
        return frame.to_native()
    # pandas has several types for one kind of column: NumPy's, its own nullable ones, Arrow's.
    same = [name for name in shared if frame[name].dtype == model[name].dtype]
    plain = [name for name in same if frame[name].dtype != nw.Categorical]
    return frame.to_native().astype({name: native[name].dtype for name in plain})


def _as(column: nw.Series, want: nw.dtypes.DType) -> nw.Series:
    """The column in the type wanted, where that can hold it."""
    import narwhals as nw

    is_time = isinstance(column.dtype, nw.Datetime)
    times_into_other = is_time and not isinstance(want, nw.Date | nw.Datetime)
    if times_into_other or isinstance(want, nw.Object | nw.Unknown):
        return column
    of_pandas = column.implementation.is_pandas_like()
    if of_pandas and isinstance(want, nw.Datetime) and zone_of(column) is not None:
        # Its casts do not know every zone.
        return nw.from_native(column.to_native().dt.as_unit(want.time_unit), series_only=True)
    return column.cast(want)
