"""Whole futures drawn from quantiles, so that what is summed over the horizon has honest bands.

Quantiles say how far each step may go, not how the steps go together. That is measured on what was
held back: errors become normal scores by their own quantiles, and their correlation is kept. A path
is a draw of such scores, turned back by the quantiles of its series (a Gaussian copula).
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

# The measured correlation is mixed with that of a random walk, which counts as so many series.
_PRIOR = 20
# Beyond the outermost quantiles, scores are cut here.
_FARTHEST = 4.0
# Quantiles that meet are held so far apart, in scales.
_LEAST_DISTANCE = 1e-9


def random_walk_correlation(horizon: int) -> np.ndarray:
    """How the errors of a random walk go together, so many steps ahead."""
    ahead = np.arange(1.0, horizon + 1)
    return np.sqrt(np.minimum.outer(ahead, ahead) / np.maximum.outer(ahead, ahead))


def learn_correlation(
    answer: np.ndarray, truth: np.ndarray, quantiles: tuple[float, ...]
) -> np.ndarray:
    """Correlation of the errors at each two steps ahead.

    Args:
        answer: quantiles of held-back values, (rows, horizon, quantiles).
        truth: these values, (rows, horizon); NaN where not known.
        quantiles: which ones.
    """
    prior = random_walk_correlation(truth.shape[1])
    rows = np.isfinite(truth).all(1)
    if rows.sum() < 2:
        return prior
    scores = _scores(answer[rows], truth[rows], quantiles)
    together = scores.T @ scores / len(scores)
    size = np.sqrt(np.diag(together))
    together = together / np.maximum(np.outer(size, size), 1e-9)
    mixed = (len(scores) * together + _PRIOR * prior) / (len(scores) + _PRIOR)
    np.fill_diagonal(mixed, 1.0)
    return mixed


def draw_paths(
    answer: np.ndarray,
    quantiles: tuple[float, ...],
    correlation: np.ndarray,
    paths: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Futures whose steps have these quantiles and go together so, (rows, paths, horizon)."""
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    rows, horizon, _ = answer.shape
    scores = rng.standard_normal((rows, paths, horizon)) @ root.T
    scores = np.clip(scores, -_FARTHEST, _FARTHEST)
    drawn = np.empty_like(scores)
    for row in range(rows):
        for step in range(horizon):
            drawn[row, :, step] = _interpolate(
                scores[row, :, step], _normal(quantiles), answer[row, step]
            )
    return drawn


def _normal(quantiles: tuple[float, ...]) -> np.ndarray:
    return np.array([NormalDist().inv_cdf(quantile) for quantile in quantiles])


def _scores(answer: np.ndarray, truth: np.ndarray, quantiles: tuple[float, ...]) -> np.ndarray:
    """Where each value lies among its quantiles, as a normal score."""
    normal = _normal(quantiles)
    if len(normal) == 1:
        return np.zeros(truth.shape)
    place = answer + _LEAST_DISTANCE * np.arange(len(normal))
    left = np.clip((truth[..., None] > place).sum(-1) - 1, 0, len(normal) - 2)
    low, high = (np.take_along_axis(place, (left + k)[..., None], -1)[..., 0] for k in (0, 1))
    score = normal[left] + (normal[left + 1] - normal[left]) * (truth - low) / (high - low)
    return np.clip(score, -_FARTHEST, _FARTHEST)


def _interpolate(x: np.ndarray, known: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """Straight lines between the known points, and on beyond them."""
    if len(known) == 1:
        return np.full(x.shape, answer[0])
    left = np.clip(np.searchsorted(known, x) - 1, 0, len(known) - 2)
    slope = (answer[left + 1] - answer[left]) / (known[left + 1] - known[left])
    return answer[left] + slope * (x - known[left])
