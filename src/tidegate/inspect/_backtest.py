"""What a backtest says: errors by step ahead, and whether bands hold what they promise."""

from __future__ import annotations

import re
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
        levels: the bands, in percent, in rising order.
        coverage: share of what came that lay in each.
        forecasts: how many numbers were forecast and are known.
        origins: from how many origins, all series together.
    """

    error: np.ndarray
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
    others = {"cutoff", "GRU", *df.columns} - {n for n in df.columns if n.startswith("GRU")}
    target = next(
        (n for n in reversed(df.columns) if n in others and n != "cutoff" and _is_number(df[n])),
        None,
    )
    if target is None:
        raise InputError("the backtest has no column of what came: give what backtest returned")
    truth, median = (df[name].to_numpy().astype(float) for name in (target, "GRU"))
    known = np.isfinite(truth)
    step = _steps_ahead(df["cutoff"].to_numpy())
    size = int(step.max()) + 1
    wrong = np.where(known, np.abs(truth - median), 0.0)
    count = np.bincount(step, known, size)
    error = np.bincount(step, wrong, size) / np.maximum(count, 1)
    levels = sorted(lows, key=float)
    held = [
        float(np.mean(_inside(df, level, truth)[known])) if known.any() else np.nan
        for level in levels
    ]
    return Judgement(
        error=np.where(count > 0, error, np.nan),
        levels=np.array([float(level) for level in levels]),
        coverage=np.array(held),
        forecasts=int(known.sum()),
        origins=int((step == 0).sum()),
    )


def _is_number(column) -> bool:
    return column.dtype.is_numeric()


def _steps_ahead(cutoff: np.ndarray) -> np.ndarray:
    """Rows of one origin follow each other: the place of each in its run, from 0.

    A run ends where the cutoff changes, and after as many rows as the shortest run has: series
    that follow each other may share a cutoff.
    """
    starts = np.flatnonzero(np.concatenate([[True], cutoff[1:] != cutoff[:-1]]))
    runs = np.diff(np.concatenate([starts, [len(cutoff)]]))
    horizon = int(np.gcd.reduce(runs))
    return np.arange(len(cutoff)) % horizon


def _inside(df, level: str, truth: np.ndarray) -> np.ndarray:
    low, high = (df[f"GRU-{side}-{level}"].to_numpy().astype(float) for side in ("lo", "hi"))
    return (truth >= low) & (truth <= high)
