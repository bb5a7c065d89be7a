"""One temperature for all logits: of what is given 80%, 80% shall come true (arXiv:1706.04599)."""

from __future__ import annotations

import numpy as np

from .._sequences import softmax

Array = np.ndarray

_COARSEST, _SEARCHES = 4.0, 60
# Few held-out answers say little: as if so many had said that one is right.
_PRIOR = 5.0


def temperature_of(logits: Array, truth: Array) -> float:
    """The temperature under which held-out labels are likeliest.

    Args:
        logits: (rows, classes), of answers that were not learnt from.
        truth: the right class of each.

    Example:
        >>> sure = np.array([[4.0, 0.0]] * 10)
        >>> temperature_of(sure, np.array([0] * 7 + [1] * 3)) > 1.5
        True
    """
    rows = np.arange(len(truth))

    def cost(power: float) -> float:
        likely = np.log(np.maximum(softmax(logits / np.exp(power))[rows, truth], 1e-300))
        return -likely.sum() + _PRIOR * power**2

    return float(np.exp(_minimum(cost, -np.log(_COARSEST), np.log(_COARSEST))))


def _minimum(cost, low: float, high: float) -> float:
    """Where a function of one valley is least, by golden section."""
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(_SEARCHES):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if cost(left) < cost(right):
            high = right
        else:
            low = left
    return (low + high) / 2
