"""Seasonal indices of many histories at once, shrunk towards none where the evidence is thin."""

from __future__ import annotations

import numpy as np

# An index is believed only when each season of the year was seen at least this often.
_CYCLES = 2


def seasonal_indices(z: np.ndarray, season_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Additive seasonal indices by classical decomposition, each row on its own.

    The mean distance of each season from a centred moving average is multiplied by the
    James-Stein factor: the part of its variance over the seasons that noise alone does not explain.

    Args:
        z: histories, right-aligned, (rows, context); NaN where there is no value.
        season_length: steps in a season.

    Returns:
        The indices, (rows, season_length): column k is for the columns of `z` that are k modulo
        season_length; and the factors, (rows,): 0 for no season, towards 1 for a sure one.
    """
    rows, context = z.shape
    if season_length == 1 or context < (_CYCLES + 1) * season_length:
        return np.zeros((rows, season_length)), np.zeros(rows)
    distance = z - _moving_average(_bridge(z), season_length)
    cycles = _split(distance, season_length)
    seen = np.isfinite(cycles)
    count = seen.sum(1)
    cycles = np.where(seen, cycles, 0.0)
    indices = cycles.sum(1) / np.maximum(count, 1)
    residual = np.where(seen, cycles - indices[:, None], 0.0)
    indices -= indices.mean(1, keepdims=True)
    factor = _shrinkage(indices, (residual**2).sum((1, 2)), count)
    return indices * factor[:, None], factor


def _shrinkage(indices: np.ndarray, residual: np.ndarray, count: np.ndarray) -> np.ndarray:
    seasons = indices.shape[1]
    freedom = np.maximum(count.sum(1) - seasons, 1)
    noise = (residual / freedom) * (1 / np.maximum(count, 1)).mean(1)
    spread = (indices**2).sum(1) / (seasons - 1)
    dimensions = (seasons - 3 if seasons > 3 else 1) / (seasons - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.clip(1 - dimensions * noise / spread, 0.0, 1.0)
    return np.where((count.min(1) >= _CYCLES) & (spread > 0), factor, 0.0)


def _split(z: np.ndarray, season_length: int) -> np.ndarray:
    """(rows, cycles, season_length), left-padded with NaN; column k is k modulo season_length."""
    rows, context = z.shape
    extra = -context % season_length
    padded = np.concatenate([np.full((rows, extra), np.nan), z], 1)
    cycles = padded.reshape(rows, -1, season_length)
    return np.roll(cycles, -extra, 2)


def _moving_average(z: np.ndarray, season_length: int) -> np.ndarray:
    """Centred over one season; NaN at the ends, and where an entry is NaN."""
    average = _running_mean(z, season_length)
    if season_length % 2 == 0:
        # The mean of two neighbours: half a weight at either end, and a centre on a step.
        average = (average[:, 1:] + average[:, :-1]) / 2
    half = season_length // 2
    padded = np.full(z.shape, np.nan)
    padded[:, half : z.shape[1] - half] = average
    return padded


def _running_mean(z: np.ndarray, length: int) -> np.ndarray:
    """Means of every `length` neighbours, in time that does not depend on `length`."""
    known = np.isfinite(z)
    start = np.zeros((len(z), 1))
    total = np.concatenate([start, np.where(known, z, 0.0).cumsum(1)], 1)
    count = np.concatenate([start, known.cumsum(1)], 1)
    mean = (total[:, length:] - total[:, :-length]) / length
    return np.where(count[:, length:] - count[:, :-length] == length, mean, np.nan)


def _bridge(z: np.ndarray) -> np.ndarray:
    """Straight lines over missing values inside a row; the ends stay NaN."""
    known = np.isfinite(z)
    column = np.arange(z.shape[1])
    before = np.maximum.accumulate(np.where(known, column, -1), 1)
    after = np.minimum.accumulate(np.where(known, column, z.shape[1])[:, ::-1], 1)[:, ::-1]
    inside = ~known & (before >= 0) & (after < z.shape[1])
    row, at = np.nonzero(inside)
    left, right = before[inside], after[inside]
    share = (at - left) / (right - left)
    bridged = z.copy()
    bridged[inside] = (1 - share) * z[row, left] + share * z[row, right]
    return bridged
