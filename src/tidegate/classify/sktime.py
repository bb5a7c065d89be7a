"""`GRUClassifier` and `GRURegressor` as sktime has such estimators; needs sktime.

from sktime.datasets import load_gunpoint
X, y = load_gunpoint(split="train", return_X_y=True)
SktimeClassifier().fit(X, y)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sktime.classification.base import BaseClassifier
from sktime.regression.base import BaseRegressor

from ._classifier import GRUClassifier
from ._regressor import GRURegressor

_TAGS: dict[str, Any] = {
    "X_inner_mtype": "df-list",
    "capability:multivariate": True,
    "capability:unequal_length": True,
    "capability:missing_values": True,
    "python_dependencies": "torch",
}


class _OfPanels:
    """What both take and do; comes before sktime's base class."""

    _kind: type[GRUClassifier] | type[GRURegressor]
    model_: Any

    def __init__(
        self,
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = True,
        cell: str = "gru",
        pooling: str = "attention",
        stride: int | None = None,
        dropout: float = 0.2,
        held_out: float = 0.2,
        steps: int | None = None,
        batch_size: int = 32,
        learning_rate: float = 6e-3,
        members: int = 1,
        seed: int = 0,
    ):
        """Store the arguments."""
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.cell = cell
        self.pooling = pooling
        self.stride = stride
        self.dropout = dropout
        self.held_out = held_out
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.members = members
        self.seed = seed
        super().__init__()

    def _fit(self, X: list[Any], y: np.ndarray) -> Self:
        me: Any = self
        self.model_ = self._kind(**me.get_params()).fit(_sequences(X), y)
        return self

    def _predict(self, X: list[Any]) -> np.ndarray:
        return self.model_.predict(_sequences(X))


class SktimeClassifier(_OfPanels, BaseClassifier):
    """Labels panels of time series in any of sktime's types; arguments are `GRUClassifier`'s.

    Example:
        >>> import numpy as np
        >>> from tidegate.classify.sktime import SktimeClassifier
        >>> X = np.stack([np.arange(6.0), -np.arange(6.0)] * 8)[:, None]
        >>> y = np.array(["up", "down"] * 8)
        >>> SktimeClassifier(hidden_size=8, steps=40).fit(X, y).predict(X[:2]).tolist()
        ['up', 'down']
    """

    _tags = _TAGS | {"capability:predict_proba": True}
    _kind = GRUClassifier

    def __init__(
        self,
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = True,
        cell: str = "gru",
        pooling: str = "attention",
        stride: int | None = None,
        dropout: float = 0.2,
        held_out: float = 0.2,
        steps: int | None = None,
        batch_size: int = 32,
        learning_rate: float = 6e-3,
        members: int = 1,
        seed: int = 0,
        calibrate: bool = True,
        class_weight: str | Mapping[Any, float] | None = None,
    ):
        """Store the arguments."""
        self.calibrate = calibrate
        self.class_weight = class_weight
        super().__init__(
            hidden_size=hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            cell=cell,
            pooling=pooling,
            stride=stride,
            dropout=dropout,
            held_out=held_out,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            members=members,
            seed=seed,
        )

    def _predict_proba(self, X: list[Any]) -> np.ndarray:
        return self.model_.predict_proba(_sequences(X))

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> Any:
        """Arguments under which sktime's checks are quick."""
        small = {"hidden_size": 4, "steps": 4}
        return [small, small | {"pooling": "last", "cell": "mingru", "held_out": 0.0}]


class SktimeRegressor(_OfPanels, BaseRegressor):
    """Predicts a number of panels in any of sktime's types; arguments are `GRURegressor`'s.

    Example:
        >>> import numpy as np
        >>> from tidegate.classify.sktime import SktimeRegressor
        >>> X = np.random.default_rng(0).normal(size=(40, 1, 4))
        >>> y = X.mean((1, 2))
        >>> SktimeRegressor(hidden_size=16, steps=200).fit(X, y).score(X, y) > 0.5
        True
    """

    _tags = _TAGS
    _kind = GRURegressor

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> Any:
        """Arguments under which sktime's checks are quick."""
        small = {"hidden_size": 4, "steps": 4}
        return [small, small | {"pooling": "last", "held_out": 0.0}]


def _sequences(x: list[Any]) -> list[np.ndarray]:
    """A list of frames, a row a step, as arrays (time, features)."""
    return [frame.to_numpy() for frame in x]
