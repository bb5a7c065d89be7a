"""`GRURegressor`: a number for whole sequences, or for each of their steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._sequences import mean_and_spread
from ._inputs import Inputs
from ._labels import numbers_of, read_labels
from ._recurrent import Recurrent

Array = np.ndarray


class GRURegressor(Recurrent):
    """Predicts a number for whole sequences, or for each of their steps.

    As `GRUClassifier`, whose arguments it has; the loss is squared error.

    Attributes:
        notes_: what was noticed in the data and done about it, a sentence each.
        history_: loss and validation over the trial, if there was one, and each network.
        held_out_: how well the trial did on what it held back: `score`, the `plain` score of the
            mean, and how many `sequences`; None where there was no trial.
        n_features_in_: numbers at each step; 0 of texts.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(60, 8))
        >>> GRURegressor(hidden_size=16, steps=200).fit(X, X.mean(1)).score(X, X.mean(1)) > 0.8
        True
    """

    _kind, _estimator_type = "regressor", "regressor"

    def score(self, X: Any, y: Any = None) -> float:
        """The share of the variance that is explained (R squared); y as in `fit`.

        Raises:
            InputError: the data cannot be used.
        """
        inputs, labels = self._scored(X, y)
        truth = np.concatenate([np.atleast_1d(t) for t in numbers_of(labels, self.per_step)])
        found = np.concatenate([np.atleast_1d(a) for a in self._answer(inputs)])
        unit = np.abs(truth).max() or 1.0
        truth, found = truth / unit, found / unit
        spread = np.square(truth - truth.mean()).sum()
        return float(1 - np.square(truth - found).sum() / spread) if spread else 0.0

    def _answer(self, inputs: Inputs) -> Any:
        found = self.model_.numbers(inputs.sequences)
        return found if self.per_step else np.array(found)

    def _learn_answers(self, labels: list[Any]) -> tuple[Sequence, Array | None]:
        numbers = numbers_of(labels, self.per_step)
        flat = np.concatenate([np.atleast_1d(number) for number in numbers])
        center, spread = mean_and_spread(flat, np.isfinite(flat))
        self._center, self._spread = float(center), float(spread) or 1.0
        return [(number - self._center) / self._spread for number in numbers], None

    def _numbered(self, labels: list[Any], inputs: Inputs) -> Any:
        read = read_labels(labels, inputs.lengths, self.per_step)
        center, spread = self.model_.center, self.model_.spread
        return [(number - center) / spread for number in numbers_of(read, self.per_step)]

    def _outputs(self) -> int:
        return 1

    def _scale_answers(self) -> None:
        self.model_.center, self.model_.spread = self._center, self._spread
