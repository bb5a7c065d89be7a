"""How good forecasts are: the measures of the M competitions, and of quantiles.

Arrays of actual values and forecasts are (series, horizon); NaN in `actual` is left out. A measure
of each series can be averaged; where it cannot be taken, it is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def smape(actual: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """Symmetric mean absolute percentage error of each series, in percent, as in M3 and M4.

    Example:
        >>> smape(np.array([[100.0, 200.0]]), np.array([[100.0, 100.0]]))
        array([33.33333333])
    """
    size = np.abs(actual) + np.abs(forecast)
    error = np.abs(actual - forecast)
    # Zero forecast as zero is no error.
    return _mean(np.where(size > 0, 200 * error / np.where(size > 0, size, 1.0), 0 * error))


def naive_error(history: Sequence[np.ndarray], season_length: int) -> np.ndarray:
    """Mean absolute error of the seasonal naive forecast inside each history: the unit of MASE."""
    changes = [np.abs(y[season_length:] - y[:-season_length]) for y in map(np.asarray, history)]
    return np.array([_mean(change[None])[0] for change in changes])


def mase(actual: np.ndarray, forecast: np.ndarray, naive: np.ndarray) -> np.ndarray:
    """Mean absolute scaled error of each series (Hyndman and Koehler 2006).

    Args:
        actual: what came.
        forecast: what was forecast.
        naive: `naive_error` of the histories.

    Example:
        >>> mase(np.array([[3.0, 4.0]]), np.array([[2.0, 2.0]]), naive=np.array([0.5]))
        array([3.])
    """
    return _mean(np.abs(actual - forecast)) / np.where(naive > 0, naive, np.nan)


def weighted_quantile_loss(
    actual: np.ndarray, forecast: np.ndarray, quantiles: Sequence[float]
) -> float:
    """Quantile loss of all series together over the sum of what came, averaged over the quantiles.

    Args:
        actual: what came, (series, horizon).
        forecast: the quantiles, (series, horizon, quantiles).
        quantiles: which they are.
    """
    q = np.asarray(quantiles)
    error = np.asarray(actual)[..., None] - forecast
    loss = 2 * np.nansum(np.maximum(q * error, (q - 1) * error), (0, 1))
    return float(np.mean(loss) / np.nansum(np.abs(actual)))


def coverage(actual: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Share of the actual values that lie in the band from `low` to `high`."""
    inside = (actual >= low) & (actual <= high)
    return float(inside[np.isfinite(actual)].mean())


def _mean(numbers: np.ndarray) -> np.ndarray:
    known = np.isfinite(numbers)
    total = np.where(known, numbers, 0.0).sum(1)
    return np.where(known.any(1), total / np.maximum(known.sum(1), 1), np.nan)
