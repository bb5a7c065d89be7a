"""How far a forecast may go: from the last value to the smoothing, and from it to the network."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from .._series.bands import small_sample
from .._series.model import Source, chunks
from .._series.scale import Scaling, scale, scale_future
from .._series.windows import Origins

# Windows heavier than this share of all others count as this: no series rules a choice.
_HEAVIEST = 0.99
# How much of the network's correction is added where nothing better is known; and which other
# shares are tried: the best is taken if it lowers the error of the trial by so much.
TRUST = 0.6
_OTHER_TRUST, _LEAST_TRUST_GAIN = (0.0, 0.3, 0.8, 1.0), 0.05
# Where fewer windows than this were tried, chance rules the choice: none is added then, unless a
# share errs less than none with this confidence.
_ENOUGH, _CONFIDENCE = 8, 0.99
# How much of the way from the last value to the smoothing is gone. All of it, unless less lowers
# the error by so much; then the least that errs by no more than the best and this share of it.
_REACHES, _LEAST_REACH_GAIN, _AS_GOOD = (0.0, 0.25, 0.5, 0.75, 1.0), 0.01, 0.005
# The whole way is gone all the same where the trial beats the last value by so much, and by so many
# standard errors: then it is the network that knows more.
_LEAST_TRIAL_GAIN, _SURE = 0.02, 2.0


def choose_trust(
    median: np.ndarray, truth: np.ndarray, weight: np.ndarray, knows_more: bool
) -> float:
    """The share of the network's correction that forecasts what was held back well.

    Args:
        median: corrections, in scales, (rows, horizon).
        truth: what they should have been; NaN where not known.
        weight: what an error costs, (rows,).
        knows_more: whether the network reads what the smoothing does not.
    """
    weight = _capped(weight)

    def errors(trust: float) -> np.ndarray:
        return np.nansum(weight * np.abs(truth - trust * median), 1)

    def error(trust: float) -> float:
        return float(errors(trust).sum())

    best = min(_OTHER_TRUST, key=error)
    chosen = best if error(best) < (1 - _LEAST_TRUST_GAIN) * error(TRUST) else TRUST
    if knows_more or len(median) >= _ENOUGH:
        return chosen
    return chosen if _is_sure(errors(0.0) - errors(chosen)) else 0.0


def _is_sure(gains: np.ndarray) -> bool:
    """Whether the mean of few gains is above zero by Student's test."""
    count = len(gains)
    if count < 2:
        return False
    normal = NormalDist().inv_cdf(_CONFIDENCE)
    student = normal * float(small_sample(np.array([_CONFIDENCE]), count - 1)[0])
    return bool(gains.sum() > student * np.sqrt(count) * gains.std(ddof=1))


def choose_reach(source: Source, origins: Origins, scaling: Scaling) -> float:
    """How far to go from the last value towards the smoothing, by how it would have done.

    The smoothing has learnt nothing from these series, so every window tells. Prices and their like
    are forecast by their last value best: nothing that moves from it is worth its error.

    Args:
        source: the series.
        origins: windows inside them.
        scaling: how they are read.
    """
    if not len(origins.series):
        return 1.0
    parts = []
    for chunk in chunks(origins, scaling.context):
        scaled = scale(source.windows.history(chunk, scaling.context), scaling)
        truth = scale_future(source.windows.future(chunk, scaling.horizon), scaled)
        parts.append((scaled.last, truth, scaled.weight))
    last, truth, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    weight = _capped(weight)
    error = {
        reach: float(np.nansum(weight * np.abs(truth - (1 - reach) * last))) for reach in _REACHES
    }
    best = min(error.values())
    if best >= (1 - _LEAST_REACH_GAIN) * error[1.0]:
        return 1.0
    return next(reach for reach in _REACHES if error[reach] <= (1 + _AS_GOOD) * best)


def beats_the_last_value(
    median: np.ndarray, last: np.ndarray, truth: np.ndarray, weight: np.ndarray
) -> bool:
    """Whether forecasts of what was held back are surely better than the last value.

    Args:
        median: the forecasts, in scales, (rows, horizon).
        last: the last value, likewise.
        truth: what came; NaN where not known.
        weight: what an error costs, (rows,).
    """
    known = np.isfinite(truth)
    weight = _capped(weight) * known
    truth = np.where(known, truth, 0.0)
    plain, ours = (weight * np.abs(truth - forecast) for forecast in (last, median))
    gain = (plain - ours).sum(1)
    noise = np.sqrt(len(gain)) * gain.std()
    return bool(gain.sum() > max(_LEAST_TRIAL_GAIN * plain.sum(), _SURE * noise))


WORDS_OF_NO_TRUST = (
    "the network's correction had no sure gain on what was held back: the forecasts are those of "
    "smoothing, and the network gives the bands around them"
)


def words_of_reach(reach: float) -> str:
    """What a reach of less than 1 means, for the user."""
    if reach:
        return (
            "the last value is hard to beat on these series: the forecasts go "
            f"{reach:.0%} of the way from it to what smoothing and network say"
        )
    return (
        "on these series nothing that was tried beats the last value: it is the forecast, and the "
        "network gives the bands around it"
    )


def _capped(weight: np.ndarray) -> np.ndarray:
    return np.minimum(weight, np.quantile(weight, _HEAVIEST))[:, None]
