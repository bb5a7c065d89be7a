"""A history becomes numbers that a network can read, and its answer becomes a forecast.

    z    = log(history / unit)               the logarithm where all of the history is positive
    z    = season + level + drift * k + scale * residual
    answer of the network = residual, at each step ahead

Everything is worked out from the history alone, before the origin of the forecast, by the same
function for training and for forecasting. NumPy only: a saved model needs no torch to read this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .season import seasonal_indices
from .smooth import Smoothed, damped_trend, smooth, trend_shares

CHANNELS = 3  # residual, whether it is known, seasonal index
FACTS = 5  # drift, smoothing rate, strength of the season, length, noise
# Other forecasts that the network is shown, and may take its share of: half of the linear trend,
# the mean of damped trends, shares of the linear trend, the same without logarithms, the level
# alone, the best damped trend, the last value, the last step going on, the last bend going on. The
# last two are exact for lines and parabolas, and wild else.
CANDIDATES = 9
STEADY = 7
# The forecast that the network corrects is the mean of the first of them.
_AVERAGED = 4

# The scale of a history is at least this share of its unit: what moves less stands still.
_LEAST_SCALE = 0.01
# That of a history of one value; and how much a value changes by, which counts as so many changes.
_UNKNOWN_SCALE, _UNKNOWN_CHANGES = 0.1, 3
# Residuals beyond this many scales are outliers or breaks; the network sees them cut.
_LARGEST_INPUT = 20.0
# A future value below this share of the unit counts as this when logarithms are learnt.
_LEAST_SHARE = 1e-4
# exp() of more is no forecast but an overflow.
_LARGEST_LOG = 300.0
_LARGEST = np.finfo(np.float64).max
# A trend that goes on without logarithms may lower a positive series to this share of its level.
_LOWEST = 0.1
# Steps of history that smoothing looks back over; the smallest rate has forgotten older ones.
_SMOOTHED = 240


@dataclass(frozen=True)
class Scaling:
    """What the network is shown of a history, and what it is asked for.

    Args:
        horizon: steps to forecast.
        season_length: steps in a season; 1 for none.
        context: steps of history from which level, scale and season are worked out.
        input_length: steps of history that the network reads.
        log: take logarithms of histories that are positive throughout, and forecast those that
            were never negative as never negative.
        season: remove the seasonal indices and put them back.
        trend: let the level drift, along half of the linear trend and damped trends.
    """

    horizon: int
    season_length: int
    context: int
    input_length: int
    log: bool = True
    season: bool = True
    trend: bool = True


class Scaled(NamedTuple):
    """Histories as the network reads them, and how to turn its answers back, one row each."""

    history: np.ndarray  # (rows, input_length, CHANNELS)
    facts: np.ndarray  # (rows, FACTS)
    season: np.ndarray  # (rows, horizon): what the season will add, in scales
    candidates: np.ndarray  # (rows, CANDIDATES, horizon): distances from the base, in scales
    base: np.ndarray  # (rows, horizon): the forecast to which residuals are added
    last: np.ndarray  # (rows, horizon): distance of the last value from it, in scales
    scale: np.ndarray  # (rows,): the size of one residual
    weight: np.ndarray  # (rows,): what an error of one residual costs
    count: np.ndarray  # (rows,): how many values are known
    change: np.ndarray  # (rows,): how much a value usually differs from the one before, in scales
    unit: np.ndarray  # (rows,)
    lowest: np.ndarray  # (rows,): no forecast is below; 0 where the history never was
    log: np.ndarray  # (rows,): whether logarithms were taken


def scale(history: np.ndarray, scaling: Scaling) -> Scaled:
    """Scale histories, each by itself.

    Args:
        history: (rows, context), right-aligned; NaN where there is no value; one value at least in
            each row, and none infinite.
        scaling: what to do.
    """
    unit, log, z = _transform(history, scaling.log)
    context = z.shape[1]
    length = scaling.season_length if scaling.season else 1
    indices, strength = seasonal_indices(z, length)
    adjusted = z - indices[:, np.arange(context) % length]
    recent = _recent(adjusted)
    smoothed = smooth(recent, scaling.trend)
    size = np.maximum(smoothed.error, _LEAST_SCALE)
    season = indices[:, np.arange(context, context + scaling.horizon) % length]
    candidates = _candidates(recent, smoothed, log, scaling)
    base = candidates[:, :_AVERAGED].mean(1)
    distances = (candidates - base[:, None]) / size[:, None, None]
    base = season + base
    read = slice(-scaling.input_length, None)
    residual = (adjusted[:, read] - smoothed.level[:, None]) / size[:, None]
    past_season = indices[:, np.arange(context)[read] % length] / size[:, None]
    known = np.isfinite(residual)
    count = np.isfinite(z).sum(1)
    # What never moved is forecast to stay; how one value will move, nobody knows.
    moves = np.where(smoothed.error > 0, size, np.where(count == 1, _UNKNOWN_SCALE, 0.0))
    return Scaled(
        history=_cut(np.stack([np.where(known, residual, 0.0), known, past_season], -1)),
        facts=_cut(
            np.stack(
                [
                    smoothed.drift * scaling.season_length / size,
                    smoothed.rate,
                    strength,
                    np.log(count) - 4,
                    np.log(size) + 3,
                ],
                -1,
            )
        ),
        season=_cut(season / size[:, None]),
        candidates=_cut(distances),
        base=base,
        last=(_last_value(z)[:, None] - base) / size[:, None],
        scale=moves,
        weight=_weight(z, smoothed.level, size, log, scaling.season_length),
        count=count,
        change=np.where(moves > 0, _usual_change(z) / np.where(moves > 0, moves, 1.0), 0.0),
        unit=unit,
        lowest=np.where(scaling.log & (np.nanmin(history, 1) >= 0), 0.0, -_LARGEST),
        log=log,
    )


def _candidates(z: np.ndarray, smoothed: Smoothed, log: np.ndarray, scaling: Scaling) -> np.ndarray:
    """The forecasts that `CANDIDATES` counts, (rows, CANDIDATES, horizon)."""
    ahead = np.arange(1, scaling.horizon + 1)
    if not scaling.trend:
        flat = np.repeat(smoothed.level[:, None], scaling.horizon, 1)
        return np.stack([flat] * (STEADY - 1) + _go_on(z, flat, log, ahead), 1)
    theta = smoothed.level[:, None] + smoothed.drift[:, None] * ahead
    flat = np.repeat(smooth(z, trend=False).level[:, None], scaling.horizon, 1)
    damped, mean = damped_trend(z, scaling.horizon)
    shares = trend_shares(z, scaling.horizon)
    plain = _without_log(z, flat, log, scaling.horizon)
    plain[~log] = shares[~log]
    return np.stack([theta, mean, shares, plain, flat, damped, *_go_on(z, flat, log, ahead)], 1)


def _without_log(z: np.ndarray, flat: np.ndarray, log: np.ndarray, horizon: int) -> np.ndarray:
    """Shares of the linear trend of the series itself, not of its logarithm."""
    plain = np.empty((len(z), horizon))
    if log.any():
        forecast = trend_shares(np.exp(z[log]), horizon)
        plain[log] = np.log(np.maximum(forecast, _LOWEST * np.exp(flat[log])))
    return plain


def _go_on(z: np.ndarray, flat: np.ndarray, log: np.ndarray, ahead: np.ndarray) -> list[np.ndarray]:
    """The last value, step and bend, going on; in terms of the series, not of its logarithm."""
    recent = np.concatenate([np.full((len(z), 3), np.nan), z], 1)[:, -3:]
    recent = np.where(log[:, None], np.exp(recent), recent)
    step, before = recent[:, 2] - recent[:, 1], recent[:, 1] - recent[:, 0]
    last = recent[:, 2:] + 0.0 * ahead
    line = last + step[:, None] * ahead
    parabola = line + (step - before)[:, None] * ahead * (ahead + 1) / 2
    found = []
    for path, otherwise in ((last, flat), (line, flat), (parabola, flat)):
        with np.errstate(invalid="ignore"):
            logs = np.log(np.maximum(path, _LEAST_SHARE))
        path = np.where(log[:, None], logs, path)
        found.append(np.where(np.isfinite(path), path, otherwise))
    return found


def scale_future(future: np.ndarray, scaled: Scaled) -> np.ndarray:
    """What the network should have answered, (rows, horizon); NaN where the future is not known."""
    ratio = future / scaled.unit[:, None]
    with np.errstate(invalid="ignore"):
        logs = np.log(np.maximum(ratio, _LEAST_SHARE))
    z = np.where(scaled.log[:, None], logs, ratio)
    size = np.maximum(scaled.scale, _LEAST_SCALE)
    return (z - scaled.base) / size[:, None]


def unscale(residual: np.ndarray, scaled: Scaled) -> np.ndarray:
    """Answers of the network, (rows, horizon, ...), as values of the series."""
    more = (1,) * (residual.ndim - 2)
    base = scaled.base.reshape(*scaled.base.shape, *more)
    size, unit, lowest, log = (
        a.reshape(-1, 1, *more) for a in (scaled.scale, scaled.unit, scaled.lowest, scaled.log)
    )
    z = base + size * residual
    ratio = np.where(log, np.exp(np.clip(z, -_LARGEST_LOG, _LARGEST_LOG)), z)
    with np.errstate(over="ignore"):
        return np.clip(ratio * unit, lowest, _LARGEST)


def _transform(history: np.ndarray, log: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean size of each row, whether its logarithm is taken, and the row in these terms."""
    largest = np.nanmax(np.abs(history), 1)
    largest = np.where(largest > 0, largest, 1.0)
    ratio = history / largest[:, None]
    mean = np.nanmean(np.abs(ratio), 1)
    mean = np.where(mean > 0, mean, 1.0)
    ratio = ratio / mean[:, None]
    # Comparing with NaN is False, so `not <= 0` is "positive or missing".
    positive = np.logical_and(log, ~(ratio <= 0).any(1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return largest * mean, positive, np.where(positive[:, None], np.log(ratio), ratio)


def _weight(
    z: np.ndarray, level: np.ndarray, size: np.ndarray, log: np.ndarray, season_length: int
) -> np.ndarray:
    """What an error of one residual costs: between its share of the series' level, which sMAPE
    counts, and its share of the usual change, which MASE counts."""
    plain = np.where(log[:, None], np.exp(z), z)
    change = np.maximum(_naive_error(plain, season_length), _LEAST_SCALE)
    return size * np.sqrt(np.where(log, np.exp(level), 1.0) / change)


def _recent(z: np.ndarray) -> np.ndarray:
    """What smoothing looks back over; where all of it is missing, it begins with the last value."""
    recent = z[:, -_SMOOTHED:]
    empty = ~np.isfinite(recent).any(1)
    if not empty.any():
        return recent
    first = np.where(empty, _last_value(z), recent[:, 0])
    return np.concatenate([first[:, None], recent[:, 1:]], 1)


def _last_value(z: np.ndarray) -> np.ndarray:
    back = np.isfinite(z)[:, ::-1].argmax(1)
    return z[np.arange(len(z)), z.shape[1] - 1 - back]


def _naive_error(z: np.ndarray, season_length: int) -> np.ndarray:
    """Mean absolute change over a season, or over a step where no season is whole."""
    by_season, by_step = _mean_change(z, season_length), _mean_change(z, 1)
    return np.where(by_season > 0, by_season, by_step)


def _mean_change(z: np.ndarray, lag: int) -> np.ndarray:
    total, count = _changes(z, lag)
    return total / np.maximum(count, 1)


def _usual_change(z: np.ndarray) -> np.ndarray:
    """Mean absolute change over a step, of few steps mixed with what is usual."""
    total, count = _changes(z, 1)
    return (total + _UNKNOWN_CHANGES * _UNKNOWN_SCALE) / (count + _UNKNOWN_CHANGES)


def _changes(z: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """The absolute changes over so many steps, summed, and how many are known."""
    change = np.abs(z[:, lag:] - z[:, :-lag])
    known = np.isfinite(change)
    return np.where(known, change, 0.0).sum(1), known.sum(1)


def _cut(numbers: np.ndarray) -> np.ndarray:
    return np.clip(numbers, -_LARGEST_INPUT, _LARGEST_INPUT).astype(np.float32)
