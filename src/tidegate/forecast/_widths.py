"""How wide the bands must be, by what forecasts missed.

The network's own bands are too narrow where series are few: it has learnt their past by heart. Two
kinds of errors are not its own: those of the trial, on values that it had not seen, and those of
the smoothing, which learns nothing, at all times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._series.bands import blend, measure_widths, small_sample
from .._series.inputs import Inputs
from .._series.model import Model, Source
from .._series.scale import scale_future
from .._series.windows import Origins

# Errors of many series at one moment are not so many errors: all together count as half the root
# of their number, as one a moment, or as so many, whichever is most.
_LEAST_FREEDOM = 3.0


@dataclass(frozen=True, eq=False)
class Missed:
    """What the trial missed on what was held back.

    Args:
        inputs: what the network was shown.
        error: what came, less the forecast, in scales, (rows, horizon); NaN where not known.
        plain: the same of the smoothing.
        moments: how many moments in time the forecasts were made at.
    """

    inputs: Inputs
    error: np.ndarray
    plain: np.ndarray
    moments: int

    @property
    def share(self) -> float:
        """Of the smoothing's error, what is left after the network's correction; at most 1."""
        plain = float(np.nanmean(np.abs(self.plain)))
        return min(float(np.nanmean(np.abs(self.error))) / plain, 1.0) if plain else 1.0


def choose_widths(
    model: Model, source: Source, everywhere: Origins, missed: Missed | None
) -> np.ndarray:
    """By how much to stretch the distance of each of the model's quantiles from the median.

    Args:
        model: with the networks that will forecast.
        source: the series.
        everywhere: windows at all times; something is known before and after each.
        missed: None where there was no trial.
    """
    if not len(everywhere.series):
        return np.ones(len(model.quantiles))
    quantiles, moments = np.array(model.quantiles), 1
    parts = []
    for answer in model.answers(source, everywhere):
        future = source.windows.future(answer.origins, model.scaling.horizon)
        plain = scale_future(future, answer.scaled) - (1 - model.reach) * answer.scaled.last
        parts.append((answer.quantiles, plain))
    answers, plain = (np.concatenate(column) for column in zip(*parts, strict=True))
    left = 1.0 if missed is None else missed.share
    widths = measure_widths(answers, left * plain, quantiles)
    if missed is not None:
        moments = missed.moments
        answers = np.mean([network(missed.inputs) for network in model.networks], 0)
        measured = measure_widths(answers, missed.error, quantiles)
        widths = blend(measured, widths, moments)
    errors = moments * len(source.windows.lengths)
    freedom = max(np.sqrt(errors) / 2, moments + 1, _LEAST_FREEDOM)
    return widths * small_sample(quantiles, freedom)
