"""From the scores of the next token to its probabilities."""

from __future__ import annotations

import numpy as np


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise unless the arguments of `probabilities` are in range.

    Raises:
        ValueError: one is not.
    """
    if not temperature >= 0 or temperature == np.inf:
        raise ValueError(f"temperature must be 0 or more, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be more than 0 and at most 1, got {top_p}")


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the probabilities along the last axis, in float64."""
    shifted = logits - logits.max(-1, keepdims=True).astype(np.float64)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def probabilities(
    logits: np.ndarray,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> np.ndarray:
    """Probabilities of the next token, float64, that add up to one.

    >>> probabilities(np.log([0.5, 0.3, 0.2]), top_p=0.6).round(3)
    array([0.625, 0.375, 0.   ])

    Args:
        logits: a score for each token.
        temperature: divides the scores; at 0 the best token has all.
        top_k: only so many of the best tokens are possible; of equals the first.
        top_p: only the best tokens are possible that together have this probability, as few as
            that takes.
    """
    if temperature == 0 or top_k == 1:
        return np.eye(1, len(logits), int(logits.argmax())).ravel()
    with np.errstate(over="ignore"):  # the quotient may be infinite, which is as it should be
        p = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    if top_k is not None and top_k < len(p):
        p[np.argsort(-logits, kind="stable")[top_k:]] = 0
    p /= p.sum()
    if top_p is not None and top_p < 1:
        order = np.argsort(-p, kind="stable")
        enough = int(np.searchsorted(np.cumsum(p[order]), top_p)) + 1
        p[order[enough:]] = 0
        p /= p.sum()
    return p


def draw(p: np.ndarray, uniform: float) -> int:
    """The token on which a number in [0, 1) falls."""
    ends = np.cumsum(p)
    return int(np.searchsorted(ends, uniform * ends[-1], "right"))
