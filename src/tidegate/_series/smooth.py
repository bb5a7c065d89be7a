"""Exponential smoothing of many histories at once: the forecast that the network corrects."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# The combinations of `damped_trend`: how fast the level and the trend follow, and what remains of
# the trend after a step.
_LEVEL_RATES = (0.1, 0.3, 0.6, 0.9)
_TREND_RATES = (0.05, 0.3)
_DAMPING = (0.8, 0.9, 0.98)
# The first trend is the mean change over so many steps.
_FIRST_VALUES = 8
_LEAST_ERROR = 1e-9
# Those of `trend_shares`: how fast the level follows, and along which share of the linear trend it
# drifts.
_FOLLOWING = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
_SHARES = (0.0, 0.5, 1.0)
RATES = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


class Smoothed(NamedTuple):
    """One entry a row: where the history stands now, and how it got there.

    Attributes:
        level: the smoothed level at the last step.
        drift: by how much it rises a step.
        rate: the smoothing rate that would have forecast the row best; 1 is a random walk.
        error: mean absolute error of its one-step forecasts.
    """

    level: np.ndarray
    drift: np.ndarray
    rate: np.ndarray
    error: np.ndarray


def smooth(z: np.ndarray, trend: bool = True) -> Smoothed:
    """Simple exponential smoothing with half of the linear trend: the Theta method.

    (Assimakopoulos and Nikolopoulos 2000; Hyndman and Billah 2003 show that it is this.) Each row
    takes the rate of `RATES` with the smallest absolute one-step error over the row.

    Args:
        z: histories, (rows, context), right-aligned; NaN is skipped; one value at least in each.
        trend: without it, the drift is zero.
    """
    rows, context = z.shape
    known = np.isfinite(z)
    first = known.argmax(1)
    drift = 0.5 * _slope(z, known) if trend else np.zeros(rows)
    level = np.repeat(z[np.arange(rows), first][:, None], len(RATES), 1)
    error = np.zeros_like(level)
    for step in range(int(first.min()) + 1, context):
        begun = (step > first)[:, None]
        level = level + np.where(begun, drift[:, None], 0.0)
        surprise = np.where(begun & known[:, step, None], z[:, step, None] - level, 0.0)
        error += np.abs(surprise)
        level = level + RATES * surprise
    best = error.argmin(1)
    row = np.arange(rows)
    forecasts = np.maximum(known.sum(1) - 1, 1)
    return Smoothed(level[row, best], drift, RATES[best], error[row, best] / forecasts)


def damped_trend(z: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Exponential smoothing with a trend that dies away (Gardner and McKenzie 1985).

    Each row is run with every combination of `_LEVEL_RATES`, `_TREND_RATES` and `_DAMPING`.

    Args:
        z: histories as `smooth` takes them.
        horizon: steps to forecast.

    Returns:
        Forecasts, (rows, horizon): of the combination that forecast the row best, and the mean of
        all, in which those that forecast it well weigh most.
    """
    rows = len(z)
    known = np.isfinite(z)
    first = known.argmax(1)
    alpha, beta, phi = (a.ravel() for a in np.meshgrid(_LEVEL_RATES, _TREND_RATES, _DAMPING))
    level = np.repeat(z[np.arange(rows), first][:, None], len(phi), 1)
    trend = np.repeat(_first_slope(z, known, first)[:, None], len(phi), 1)
    error = np.zeros_like(level)
    for step in range(int(first.min()) + 1, z.shape[1]):
        begun = (step > first)[:, None]
        trend = np.where(begun, phi * trend, trend)
        level = level + np.where(begun, trend, 0.0)
        surprise = np.where(begun & known[:, step, None], z[:, step, None] - level, 0.0)
        error += np.abs(surprise)
        level = level + alpha * surprise
        trend = trend + alpha * beta * surprise
    return _best_and_mean(level, trend, error, known.sum(1), phi, horizon)


def _best_and_mean(
    level: np.ndarray,
    trend: np.ndarray,
    error: np.ndarray,
    count: np.ndarray,
    phi: np.ndarray,
    horizon: int,
) -> tuple[np.ndarray, np.ndarray]:
    ahead = np.cumsum(phi[:, None] ** np.arange(1, horizon + 1), 1)
    row, best = np.arange(len(level)), error.argmin(1)
    forecast = level[row, best, None] + trend[row, best, None] * ahead[best]
    weight = _weights(error, count)
    return forecast, (weight * level).sum(1)[:, None] + (weight * trend) @ ahead


def trend_shares(z: np.ndarray, horizon: int) -> np.ndarray:
    """Smoothing that drifts along a share of the line through what was seen until then.

    This is the dynamic Theta method (Fiorucci et al. 2016), but for the choice of the share: each
    row is run with every combination of `_FOLLOWING` and `_SHARES`.

    Args:
        z: histories as `smooth` takes them.
        horizon: steps to forecast.

    Returns:
        Forecasts, (rows, horizon): the mean of all combinations, in which those that forecast the
        row well weigh most.
    """
    rows, context = z.shape
    known = np.isfinite(z)
    first = known.argmax(1)
    rates, shares = (a.ravel()[:, None] for a in np.meshgrid(_FOLLOWING, _SHARES))
    slopes = _slopes_so_far(z, known, first)
    # A combination a row: each step then works on whole rows of memory.
    level = np.repeat(z[np.arange(rows), first][None], len(rates), 0)
    error, surprise = np.zeros_like(level), np.empty_like(level)
    for step in range(int(first.min()) + 1, context):
        level += np.multiply(shares, slopes[:, step - 1], out=surprise)
        np.subtract(z[:, step], level, out=surprise)
        surprise[:, ~known[:, step]] = 0.0
        error += np.abs(surprise)
        level += np.multiply(rates, surprise, out=surprise)
    weight = _weights(error.T, known.sum(1))
    drift = (weight * shares[:, 0]).sum(1) * slopes[:, -1]
    return (weight * level.T).sum(1)[:, None] + drift[:, None] * np.arange(1, horizon + 1)


def _weights(error: np.ndarray, count: np.ndarray) -> np.ndarray:
    """What each combination weighs, (rows, combinations), by its error over a row of `count`.

    The longer the row, the surer is which combination suits it.
    """
    least = error.min(1, keepdims=True)
    ratio = (error + _LEAST_ERROR) / (least + _LEAST_ERROR)
    weight = ratio ** (-2 * np.sqrt(count))[:, None]
    return weight / weight.sum(1, keepdims=True)


def _slopes_so_far(z: np.ndarray, known: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Slope of the least-squares line through each row up to each step; 0 before a second value."""
    # From the first value on, and less it: sums of squares stay small, and so does their rounding.
    time = np.where(known, np.arange(z.shape[1], dtype=float) - first[:, None], 0.0)
    value = np.where(known, z - np.take_along_axis(z, first[:, None], 1), 0.0)
    count = np.maximum(known.cumsum(1), 1)
    mean_time, mean_value = time.cumsum(1) / count, value.cumsum(1) / count
    spread = (time**2).cumsum(1) / count - mean_time**2
    together = (time * value).cumsum(1) / count - mean_time * mean_value
    return np.where(spread > 0, together / np.where(spread > 0, spread, 1.0), 0.0)


def _first_slope(z: np.ndarray, known: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Mean change a step over the first values of each row."""
    row, width = np.arange(len(z)), z.shape[1]
    columns = np.minimum(first[:, None] + np.arange(_FIRST_VALUES), width - 1)
    seen = np.take_along_axis(known, columns, 1)
    last = columns[row, _FIRST_VALUES - 1 - seen[:, ::-1].argmax(1)]
    return (z[row, last] - z[row, first]) / np.maximum(last - first, 1)


def _slope(z: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Slope of the least-squares line through each row."""
    count = known.sum(1)
    time = np.where(known, np.arange(z.shape[1], dtype=float), 0.0)
    centre = np.where(known, time - (time.sum(1) / count)[:, None], 0.0)
    return (centre * np.where(known, z, 0.0)).sum(1) / np.maximum((centre**2).sum(1), 1e-9)
