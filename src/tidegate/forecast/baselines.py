"""Forecasts that cost nothing, for comparison."""

from __future__ import annotations

import numpy as np


def seasonal_naive(history: np.ndarray, horizon: int, season_length: int) -> np.ndarray:
    """Each step is what was known last of the same season: last year's month, for months.

    Example:
        >>> seasonal_naive(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), horizon=3, season_length=2)
        array([4., 5., 4.])
    """
    known = np.isfinite(history)
    forecast = np.full(horizon, history[known][-1] if known.any() else np.nan)
    for step in range(min(horizon, season_length)):
        same = np.flatnonzero(known[(len(history) + step) % season_length :: season_length])
        if len(same):
            place = (len(history) + step) % season_length + same[-1] * season_length
            forecast[step::season_length] = history[place]
    return forecast
