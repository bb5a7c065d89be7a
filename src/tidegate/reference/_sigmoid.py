"""The logistic function, exact at both ends."""

from numpy import abs, exp, where
from numpy.typing import NDArray


def sigmoid(x: NDArray) -> NDArray:
    """1 / (1 + exp(-x)), with no exponential of a positive number: it would overflow."""
    e = exp(-abs(x))
    return where(x >= 0, 1, e) / (1 + e)
