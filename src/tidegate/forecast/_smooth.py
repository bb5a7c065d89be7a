"""Exponential smoothing of many histories at once: the forecast that the network corrects."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

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


def _slope(z: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Slope of the least-squares line through each row."""
    count = known.sum(1)
    time = np.where(known, np.arange(z.shape[1], dtype=float), 0.0)
    centre = np.where(known, time - (time.sum(1) / count)[:, None], 0.0)
    return (centre * np.where(known, z, 0.0)).sum(1) / np.maximum((centre**2).sum(1), 1e-9)
