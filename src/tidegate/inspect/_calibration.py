"""Whether answers with their probabilities are right as often as they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .._inspectable import Choices, Inspectable

# So many answers to a point of the curve, so many points at most; under two there is no curve.
_ANSWERS, _POINTS = 20, 8


@dataclass(frozen=True, eq=False)
class Calibration:
    """The likeliest answers, in groups of rising probability.

    Attributes:
        promised: (groups,) their mean probability.
        held: (groups,) the share that was right.
        count: of all answers whose truth is known.
        sure: the mean probability of all of them.
        right: the share of all of them that was right.
    """

    promised: np.ndarray
    held: np.ndarray
    count: int
    sure: float
    right: float


def calibration_of(item: Inspectable) -> Calibration | None:
    """Of all answers whose truth is known; None where they are too few to say anything."""
    known = [
        (choices.chances[0], choices.names[0] == choices.truth)
        for row in item.outcomes or ()
        if isinstance(row, Sequence)
        for choices in row
        if isinstance(choices, Choices) and choices.truth is not None
    ]
    groups = min(len(known) // _ANSWERS, _POINTS)
    if groups < 2:
        return None
    chance, right = np.array(sorted(known), float).T
    parts = np.array_split(np.arange(len(known)), groups)
    return Calibration(
        promised=np.array([chance[part].mean() for part in parts]),
        held=np.array([right[part].mean() for part in parts]),
        count=len(known),
        sure=float(chance.mean()),
        right=float(right.mean()),
    )
