"""The classical methods that the demo compares with, from statsforecast."""

from __future__ import annotations

import importlib.util
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import Competition

if TYPE_CHECKING:
    from collections.abc import Iterator


def require_statsforecast() -> None:
    """Find out before the training whether there is something to compare with.

    Raises:
        ModuleNotFoundError: statsforecast is not installed.
    """
    if importlib.util.find_spec("statsforecast") is None:
        raise ModuleNotFoundError("no statsforecast", name="statsforecast")


def classical_forecasts(
    competition: Competition, all_methods: bool
) -> Iterator[tuple[str, np.ndarray, float]]:
    """Name, forecasts (series, horizon) and seconds of one method after the other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from statsforecast import StatsForecast
        from statsforecast.models import AutoETS, DynamicOptimizedTheta

        methods = [DynamicOptimizedTheta, AutoETS] if all_methods else [DynamicOptimizedTheta]
        for method in methods:
            begun = time.perf_counter()
            # One process: with several, Ctrl-C leaves each of them to print a traceback.
            model = StatsForecast([method(competition.season_length)], freq=competition.freq)
            answer: Any = model.forecast(df=competition.train, h=competition.horizon)
            seconds = time.perf_counter() - begun
            ids = competition.train["unique_id"].unique()
            table = answer.set_index("unique_id")[method.__name__].loc[ids]
            yield method.__name__, table.to_numpy().reshape(len(ids), -1), seconds
