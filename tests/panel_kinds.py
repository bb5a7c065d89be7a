"""Panels of every kind that the forecaster's defaults must hold on, generated."""

from collections.abc import Callable

import numpy as np
import pandas as pd

HORIZONS = {
    "hourly": 24,
    "daily": 14,
    "weekly": 8,
    "quarterly": 8,
    "yearly": 4,
    "working days": 5,
    "short": 3,
    "long": 24,
    "zero-inflated": 14,
    "negative": 12,
    "one series": 12,
}


def _frame(series: list[np.ndarray], freq: str) -> pd.DataFrame:
    parts = []
    for i, y in enumerate(series):
        days = pd.date_range("2001-01-01", None, len(y), freq)
        parts.append(pd.DataFrame({"unique_id": f"s{i:03d}", "ds": days, "y": y}))
    return pd.concat(parts, ignore_index=True)


def _waves(rng: np.random.Generator, length: int, periods: tuple[float, ...]) -> np.ndarray:
    """A positive series with a wandering level and waves of these periods."""
    time = np.arange(length)
    logs = rng.normal(3, 1) + np.cumsum(0.02 * rng.standard_normal(length))
    for period in periods:
        logs = logs + rng.uniform(0.1, 0.4) * np.sin(2 * np.pi * (time / period + rng.random()))
    return np.exp(logs + 0.1 * rng.standard_normal(length))


def _many(count: int, length: int, periods: tuple[float, ...], freq: str) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return _frame([_waves(rng, length, periods) for _ in range(count)], freq)


def _zero_inflated() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    series = []
    for _ in range(30):
        chance = 0.15 + 0.2 * (np.arange(300) % 7 >= 5)
        series.append(np.where(rng.random(300) < chance, rng.poisson(4, 300) + 1.0, 0.0))
    return _frame(series, "D")


def _negative() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    time = np.arange(120)
    wave = [np.sin(2 * np.pi * (time / 12 + rng.random())) for _ in range(30)]
    return _frame([-5 + 3 * w + 0.5 * rng.standard_normal(120) for w in wave], "MS")


PANELS: dict[str, Callable[[], pd.DataFrame]] = {
    "hourly": lambda: _many(10, 24 * 35, (24, 168), "h"),
    "daily": lambda: _many(20, 800, (7, 365.25), "D"),
    "weekly": lambda: _many(20, 260, (52.18,), "W-SUN"),
    "quarterly": lambda: _many(40, 60, (4,), "QS"),
    "yearly": lambda: _many(60, 30, (), "YS"),
    "working days": lambda: _many(10, 400, (5,), "B"),
    "short": lambda: _many(60, 12, (), "MS"),
    "long": lambda: _many(1, 100_000, (24,), "h"),
    "zero-inflated": _zero_inflated,
    "negative": _negative,
    "one series": lambda: _many(1, 120, (12,), "MS"),
}
