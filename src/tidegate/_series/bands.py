"""Bands around the median: their names, their quantiles, and their width as the data showed it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from numbers import Real
from statistics import NormalDist

import numpy as np

from ..errors import InputError

# A width that was measured at few moments counts as no more than so many times another one.
_FARTHEST = 4.0
# In scales; a network that errs by nothing gives bands of nothing.
_LEAST_DISTANCE = 1e-6


def quantiles_of(levels: Sequence[float]) -> np.ndarray:
    """Quantiles in rising order, the median in the middle, of bands that hold so many percent.

    Example:
        >>> quantiles_of([80, 50])
        array([0.1 , 0.25, 0.5 , 0.75, 0.9 ])

    Raises:
        InputError: a level is not between 0 and 100, or comes twice.
    """
    listed = isinstance(levels, Collection) and all(isinstance(level, Real) for level in levels)
    ordered = sorted(map(float, levels)) if listed else []
    inside = all(0 < level < 100 for level in ordered)
    if not listed or not inside or len(set(ordered)) < len(ordered):
        raise InputError(f"levels must be different numbers between 0 and 100, got {levels!r}")
    half = np.array(ordered) / 200
    return np.concatenate([0.5 - half[::-1], [0.5], 0.5 + half])


def levels_of(quantiles: Sequence[float]) -> list[float]:
    """The bands that `quantiles_of` gave these quantiles for, in rising order.

    Example:
        >>> levels_of([0.1, 0.25, 0.5, 0.75, 0.9])
        [50.0, 80.0]
    """
    below = list(quantiles)[: len(quantiles) // 2]
    return [round(100 * (1 - 2 * quantile), 9) for quantile in reversed(below)]


def column_names(model: str, levels: Sequence[float]) -> list[str]:
    """The columns of the quantiles, as statsforecast calls them.

    Example:
        >>> column_names("GRU", [80, 50])
        ['GRU-lo-80', 'GRU-lo-50', 'GRU', 'GRU-hi-50', 'GRU-hi-80']
    """
    ordered = sorted(levels)
    low = [f"{model}-lo-{level:g}" for level in reversed(ordered)]
    return [*low, model, *(f"{model}-hi-{level:g}" for level in ordered)]


def measure_widths(answer: np.ndarray, error: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """By how much to stretch the distance of each quantile from the median (conformal correction).

    Stretched so, each quantile has the share of the errors on its side that it should have.

    Args:
        answer: quantiles, (rows, horizon, quantiles).
        error: what came, less its forecast, (rows, horizon); NaN where not known.
        quantiles: which ones, in rising order, the median in the middle.
    """
    middle = len(quantiles) // 2
    widths = np.ones(len(quantiles))
    known = np.isfinite(error)
    if not known.any():
        return widths
    for i, quantile in enumerate(quantiles):
        if i != middle:
            distance = np.abs(answer[..., i] - answer[..., middle])[known]
            distance = np.copysign(np.maximum(distance, _LEAST_DISTANCE), quantile - 0.5)
            share = quantile if quantile > 0.5 else 1 - quantile
            widths[i] = max(np.quantile(error[known] / distance, share), 0.0)
    return widths


def blend(measured: np.ndarray, usual: np.ndarray, moments: int) -> np.ndarray:
    """Widths that were measured at so many moments in time, believed the more the more there were.

    What shakes one year shakes all series together, so a thousand of them at one moment tell less
    of other years than it seems. The usual widths, from all times, count as one moment.

    Example:
        >>> blend(np.array([4.0, 1.0, 0.0]), np.ones(3), 1)
        array([2. , 1. , 0.5])
    """
    usual = np.where(usual > 0, usual, measured)
    near = np.clip(measured, usual / _FARTHEST, usual * _FARTHEST)
    return near ** (moments / (moments + 1)) * usual ** (1 / (moments + 1))


def small_sample(quantiles: np.ndarray, freedom: float) -> np.ndarray:
    """How much wider the bands of a few errors must be than those of many.

    Student's quantile over the normal one, by the expansion of Abramowitz and Stegun (1964),
    26.7.5; one for the median.

    Example:
        >>> small_sample(np.array([0.025, 0.5, 0.975]), 10).round(3)
        array([1.137, 1.   , 1.137])
    """
    z = np.array([NormalDist().inv_cdf(quantile) for quantile in quantiles])
    s, f = z**2, freedom
    terms = [
        (s + 1) / (4 * f),
        (5 * s**2 + 16 * s + 3) / (96 * f**2),
        (3 * s**3 + 19 * s**2 + 17 * s - 15) / (384 * f**3),
    ]
    return np.where(z == 0, 1.0, 1 + sum(terms))


def stretch(answer: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Answers with each quantile at so many times its distance from the median; never crossing."""
    middle = len(widths) // 2
    median = answer[..., middle : middle + 1]
    stretched = median + widths * (answer - median)
    above = np.maximum.accumulate(stretched[..., middle:], -1)
    below = np.minimum.accumulate(stretched[..., middle::-1], -1)[..., ::-1]
    return np.concatenate([below[..., :-1], above], -1)
