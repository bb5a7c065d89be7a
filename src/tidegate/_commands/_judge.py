"""Measures of forecasts, and the forecast that any other has to beat."""

from __future__ import annotations

import time

import numpy as np

from ..data import Panel
from ..forecast import mase, naive_error, seasonal_naive, smape
from ._results import Score

_SHOWN_PERCENTILES = (20, 40, 60, 80)


class Judge:
    """Measures forecasts of one panel against what came.

    Args:
        panel: the histories.
        truth: what came, (series, horizon); NaN where that is not known.
        season_length: steps in a season.
    """

    def __init__(self, panel: Panel, truth: np.ndarray, season_length: int):
        self.ids = panel.ids
        self.truth = truth
        self.naive = naive_error(panel.values, season_length)

    def __call__(self, method: str, forecast: np.ndarray, seconds: float) -> Score:
        """The score of a method's forecasts, (series, horizon)."""
        scaled, percent = self._scaled(forecast), smape(self.truth, forecast)
        return Score(method, _mean(scaled), _mean(percent), seconds)

    def examples(self, forecast: np.ndarray) -> dict[int, str]:
        """Series across the range of errors, so that the picture is no choice of the best."""
        scaled = self._scaled(forecast)
        order = np.argsort(scaled)[: max(int(np.isfinite(scaled).sum()), 1)]  # NaN comes last
        shown = {}
        for percentile in _SHOWN_PERCENTILES:
            which = int(order[len(order) * percentile // 100])
            error = f"MASE {scaled[which]:.2f}, {percentile}th percentile"
            shown[which] = f"{self.ids[which]} ({error})"
        return shown

    def _scaled(self, forecast: np.ndarray) -> np.ndarray:
        return mase(self.truth, forecast, self.naive)


def naive_forecasts(panel: Panel, horizon: int, season_length: int) -> tuple[np.ndarray, float]:
    """The seasonal naive forecast of each series, (series, horizon), and the seconds it took."""
    begun = time.perf_counter()
    forecasts = [seasonal_naive(values, horizon, season_length) for values in panel.values]
    return np.stack(forecasts), time.perf_counter() - begun


def _mean(numbers: np.ndarray) -> float:
    known = numbers[np.isfinite(numbers)]
    return float(known.mean()) if known.size else float("nan")
