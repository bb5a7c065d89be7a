"""What a backtest says: errors by step ahead, and whether bands hold what they promise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from narwhals.typing import IntoFrame


@dataclass(frozen=True, eq=False)
class Judgement:
    """Forecasts beside what came.

    Attributes:
        error: (steps ahead,) mean absolute error.
        relative: whether it is a share of each series' own mean size, as where there are several.
        levels: the bands, in percent, in rising order.
        coverage: share of what came that lay in each.
        forecasts: how many numbers were forecast and are known.
        origins: from how many origins, all series together.
    """

    error: np.ndarray
    relative: bool
    levels: np.ndarray
    coverage: np.ndarray
    forecasts: int
    origins: int


def judge(frame: IntoFrame) -> Judgement:
    """Read a frame that `GRUForecaster.backtest` gave.

    Raises:
        InputError: the frame lacks a column.
    """
    import narwhals as nw

    df = nw.from_native(frame)
    df = df.collect() if isinstance(df, nw.LazyFrame) else df
    lows = {m[1]: name for name in df.columns if (m := re.fullmatch(r"GRU-lo-([\d.]+)", name))}
    for name in ("cutoff", "GRU"):
        if name not in df.columns:
            raise InputError(f"the backtest has no column {name!r}: give what backtest returned")
    place = df.columns.index("cutoff")
    heads, target = df.columns[:place], df.columns[place + 1]
    if target == "GRU" or not df[target].dtype.is_numeric():
        raise InputError("the backtest has no column of what came: give what backtest returned")
    truth, median = (df[name].to_numpy().astype(float) for name in (target, "GRU"))
    known = np.isfinite(truth)
    series = _numbered([df[name].to_numpy() for name in heads[:-1]], len(df))
    step = _steps_ahead(_numbered([series, df["cutoff"].to_numpy()], len(df)))
    size = _mean_size(series, truth) if series.max(initial=0) else np.ones(1)
    wrong = np.abs(truth - median) / size[series]
    counted = known & np.isfinite(wrong)
    steps = int(step.max(initial=0)) + 1
    count = np.bincount(step, counted, steps)
    error = np.bincount(step, np.where(counted, wrong, 0.0), steps) / np.maximum(count, 1)
    levels = sorted(lows, key=float)
    held = [
        float(np.mean(_inside(df, level, truth)[known])) if known.any() else np.nan
        for level in levels
    ]
    return Judgement(
        error=np.where(count > 0, error, np.nan),
        relative=len(size) > 1,
        levels=np.array([float(level) for level in levels]),
        coverage=np.array(held),
        forecasts=int(known.sum()),
        origins=int((step == 0).sum()),
    )


def _numbered(columns: Sequence[np.ndarray], rows: int) -> np.ndarray:
    """(rows,) a number for each different row of these columns."""
    number = np.zeros(rows, int)
    for column in columns:
        mine = np.unique(column.astype(str), return_inverse=True)[1].reshape(rows)
        number = np.unique(number * (mine.max(initial=0) + 1) + mine, return_inverse=True)[1]
    return number.reshape(rows)


def _steps_ahead(forecast: np.ndarray) -> np.ndarray:
    """The place of each row among those of its forecast, from 0."""
    order = np.argsort(forecast, kind="stable")
    ordered = forecast[order]
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)]
    place = np.arange(len(ordered))
    step = np.empty(len(ordered), int)
    step[order] = place - np.maximum.accumulate(np.where(first, place, 0))
    return step


def _mean_size(series: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(series,) the mean size of what came; NaN where it is nothing."""
    known = np.isfinite(truth)
    count = np.bincount(series, known)
    total = np.bincount(series, np.where(known, np.abs(truth), 0.0))
    return np.where(total > 0, total, np.nan) / np.maximum(count, 1)


def _inside(df, level: str, truth: np.ndarray) -> np.ndarray:
    low, high = (df[f"GRU-{side}-{level}"].to_numpy().astype(float) for side in ("lo", "hi"))
    return (truth >= low) & (truth <= high)
