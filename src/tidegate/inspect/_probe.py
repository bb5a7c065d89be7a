"""Linear probes: how well a label can be read from states, on rows that the probe has not seen."""

from __future__ import annotations

import numpy as np

# Small against the variance of a standardised unit: it only keeps the solution unique.
_RIDGE = 1e-3


class Target:
    """A label for each state: a class, or a number.

    Args:
        labels: (n,) whole numbers, words or truth values are classes; floats are numbers.
        rows: (n,) which row each state is of; a row is never both learnt from and tested on.
        folds: parts for the cross-validation.

    Raises:
        ValueError: there are too few rows, one class only, or a number is not finite.
    """

    def __init__(self, labels: np.ndarray, rows: np.ndarray, folds: int = 5):
        self.is_class = labels.dtype.kind not in "f"
        different = np.unique(rows)
        if len(different) < 2:
            raise ValueError("a probe needs at least 2 rows to test on what it has not learnt from")
        fold = np.random.default_rng(0).permutation(len(different)) % min(folds, len(different))
        self.fold = fold[np.searchsorted(different, rows)]
        if self.is_class:
            self.classes, self.labels = np.unique(labels, return_inverse=True)
            if len(self.classes) < 2:
                raise ValueError(f"target has one class only, {self.classes[0]}: nothing to read")
            self.chance = float(np.bincount(self.labels).max() / len(labels))
        else:
            self.labels = labels.astype(np.float64)
            if not np.isfinite(self.labels).all():
                raise ValueError("target has NaN or infinity among its numbers")
            self.chance = 0.0

    @property
    def score(self) -> str:
        """What the probe's score is, in words."""
        return "accuracy" if self.is_class else "share of the variance"

    def read(self, states: np.ndarray) -> float:
        """Cross-validated score of one probe on (n, units): accuracy, or R squared."""
        predicted = np.empty(len(states))
        for fold in np.unique(self.fold):
            test = self.fold == fold
            predicted[test] = self._predict(states[~test], self.labels[~test], states[test])
        return self._score(predicted)

    def read_each(self, states: np.ndarray) -> np.ndarray:
        """Cross-validated score of a probe on each unit of (n, units) alone, (units,)."""
        return np.array([self.read(states[:, [unit]]) for unit in range(states.shape[1])])

    def _score(self, predicted: np.ndarray) -> float:
        if self.is_class:
            return float((predicted == self.labels).mean())
        spread = ((self.labels - self.labels.mean()) ** 2).sum()
        return float(1 - ((self.labels - predicted) ** 2).sum() / spread) if spread else 0.0

    def _predict(self, seen: np.ndarray, labels: np.ndarray, unseen: np.ndarray) -> np.ndarray:
        mean, spread = seen.mean(0), seen.std(0)
        spread = np.where(spread > 1e-12, spread, np.inf)  # what never moves says nothing
        seen, unseen = (seen - mean) / spread, (unseen - mean) / spread
        if self.is_class:
            return _discriminant(seen, labels, unseen, len(self.classes))
        centred = labels - labels.mean()
        gram = seen.T @ seen / len(seen) + _RIDGE * np.eye(seen.shape[1])
        return labels.mean() + unseen @ np.linalg.solve(gram, seen.T @ centred / len(seen))


def _discriminant(
    seen: np.ndarray, labels: np.ndarray, unseen: np.ndarray, classes: int
) -> np.ndarray:
    """Fisher's linear discriminant: classes with a mean each and one covariance for all."""
    present = np.flatnonzero(np.bincount(labels, minlength=classes))
    means = np.stack([seen[labels == c].mean(0) for c in present])
    inside = seen - means[np.searchsorted(present, labels)]
    covariance = inside.T @ inside / len(seen) + _RIDGE * np.eye(seen.shape[1])
    weights = np.linalg.solve(covariance, means.T)
    share = np.bincount(labels, minlength=classes)[present] / len(labels)
    bias = np.log(share) - 0.5 * (means * weights.T).sum(1)
    return present[(unseen @ weights + bias).argmax(1)]
