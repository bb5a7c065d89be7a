"""The forecaster as sktime has forecasters; needs sktime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sktime.forecasting.base import BaseForecaster

from ..errors import InputError
from ._forecaster import GRUForecaster

_LEVELS_OF_SKTIME = 200  # a level in percent is twice the distance of a quantile from a half


class TidegateForecaster(BaseForecaster):
    """`GRUForecaster` with the interface of sktime: one series, with what is known ahead as `X`.

    The horizon is the largest step that `fit` is asked for. Time stamps that have no calendar are
    read as whole numbers.

    Args:
        season_length: steps in a season; by the calendar of the index when not given.
        quantiles: those that the network learns; others are read between them.
        options: further arguments of `GRUForecaster`, by name.

    Examples
    --------
    >>> import pandas as pd
    >>> from tidegate.forecast.sktime import TidegateForecaster
    >>> y = pd.Series(range(60), pd.period_range("2020-01", periods=60, freq="M"), dtype=float)
    >>> forecaster = TidegateForecaster(options={"steps": 20}).fit(y, fh=[1, 2, 3])
    >>> len(forecaster.predict())
    3
    """

    # pyrefly: ignore[bad-override]
    _tags: ClassVar[dict[str, Any]] = {
        "authors": ["the Tidegate authors"],
        "python_dependencies": ["torch", "narwhals"],
        "y_inner_mtype": "pd.Series",
        "X_inner_mtype": "pd.DataFrame",
        "capability:multivariate": False,
        "capability:exogenous": True,
        "capability:missing_values": True,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
        "capability:insample": False,
        "requires-fh-in-fit": True,
        "X-y-must-have-same-index": True,
        "enforce_index_type": None,
    }

    def __init__(
        self,
        season_length: int | None = None,
        quantiles: Sequence[float] = (0.025, 0.1, 0.25, 0.75, 0.9, 0.975),
        options: dict[str, Any] | None = None,
    ):
        """Store the arguments."""
        self.season_length = season_length
        self.quantiles = quantiles
        self.options = options
        super().__init__()
        me: Any = self  # what `update` refits on
        me.set_config(remember_data=True)

    def _fit(self, y: pd.Series, X: pd.DataFrame | None, fh: Any) -> TidegateForecaster:
        steps = fh.to_relative(self.cutoff).to_numpy()
        self._columns = [] if X is None else [f"x{i}" for i in range(X.shape[1])]
        levels = sorted({round(_LEVELS_OF_SKTIME * abs(q - 0.5), 9) for q in self.quantiles})
        settings: dict[str, Any] = {
            "season_length": self.season_length,
            "levels": tuple(level for level in levels if level > 0),
            "future_cols": tuple(self._columns),
        }
        model = GRUForecaster(int(steps.max()), **(settings | (self.options or {})))
        self._dated = True
        frame = self._frame(y, X)
        try:
            model.fit(frame)
        except InputError:
            # An index may follow no calendar, or one that is not known here.
            if frame.ds.dtype.kind == "i":
                raise
            self._dated = False
            model.fit(self._frame(y, X))
        self.model_ = model
        return self

    def _predict(self, fh: Any, X: pd.DataFrame | None) -> pd.Series:
        forecast, steps = self._forecast(fh, X)
        index = fh.to_absolute_index(self.cutoff)
        return pd.Series(forecast["GRU"].to_numpy()[steps], index, name=self._seen().name)

    # pyrefly: ignore[bad-override]
    def _predict_quantiles(
        self, fh: Any, X: pd.DataFrame | None, alpha: Sequence[float]
    ) -> pd.DataFrame:
        forecast, steps = self._forecast(fh, X)
        levels = sorted(self.model_.levels)
        low = [f"GRU-lo-{level:g}" for level in reversed(levels)]
        names = [*low, "GRU", *(f"GRU-hi-{level:g}" for level in levels)]
        answer = forecast[names].to_numpy()[steps]
        known = self.model_.model_.quantiles
        # Beyond the outermost quantile that was learnt, that one stands.
        found = np.stack([np.interp(alpha, known, row) for row in answer])
        name = self._seen().name
        columns = pd.MultiIndex.from_product([[0 if name is None else name], list(alpha)])
        return pd.DataFrame(found, fh.to_absolute_index(self.cutoff), columns)

    def _forecast(self, fh: Any, X: pd.DataFrame | None) -> tuple[pd.DataFrame, np.ndarray]:
        """The forecast of every step, and which of them are asked for."""
        steps = fh.to_relative(self.cutoff).to_numpy() - 1
        horizon = self.model_.horizon
        if steps.max() >= horizon:
            raise ValueError(
                f"fit was asked for {horizon} steps, and predict is asked for {steps.max() + 1}"
            )
        y, given = self._seen(), self._X
        past = self._frame(y, None if given is None else given.loc[y.index])
        future = self._ahead(past, X, fh, horizon) if self._columns else None
        return self.model_.predict(past, future=future), steps

    def _seen(self) -> pd.Series:
        """All that the forecaster has been given."""
        y: Any = self._y
        return y

    def _ahead(
        self, past: pd.DataFrame, X: pd.DataFrame | None, fh: Any, horizon: int
    ) -> pd.DataFrame:
        """What is known of every step ahead; missing where only some steps are asked for."""
        model = self.model_
        stamps = model.frequency_.next(past.ds.to_numpy()[-1], horizon)
        ahead = pd.DataFrame(np.nan, range(horizon), self._columns)
        if X is not None:
            steps = fh.to_relative(self.cutoff).to_numpy() - 1
            cutoff: Any = self.cutoff
            rows = X.loc[X.index > cutoff[0]].to_numpy(float)
            whole = len(rows) >= horizon
            which = np.arange(horizon) if whole else steps[: len(rows)]
            ahead.iloc[which] = rows[: len(which)]
        return ahead.assign(ds=stamps)

    def _frame(self, y: pd.Series, X: pd.DataFrame | None) -> pd.DataFrame:
        index = y.index
        if self._dated and isinstance(index, pd.PeriodIndex):
            index = index.to_timestamp()
        dated = self._dated and isinstance(index, pd.DatetimeIndex)
        stamps = index if dated else self._positions(y.index)
        frame = pd.DataFrame({"ds": stamps, "y": y.to_numpy(float)})
        if X is not None:
            frame[self._columns] = X.to_numpy(float)
        return frame

    @staticmethod
    def _positions(index: pd.Index) -> np.ndarray:
        whole = index.dtype.kind == "i" and (np.diff(index) == 1).all()
        return index.to_numpy() if whole else np.arange(len(index))

    @classmethod
    # pyrefly: ignore[bad-override]
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Settings that train in a moment, for sktime's own checks."""
        small = {"steps": 2, "hidden_size": 4, "num_layers": 1, "batch_size": 8}
        return [{"options": small}, {"season_length": 4, "options": small | {"trust": 0.0}}]
