"""Forecasting many series with one network, what to compare it with, and how to measure it."""

from typing import TYPE_CHECKING, Any

from ._suggest import Suggestion as Suggestion
from ._suggest import suggest as suggest
from .baselines import seasonal_naive as seasonal_naive
from .metrics import coverage as coverage
from .metrics import mase as mase
from .metrics import naive_error as naive_error
from .metrics import smape as smape
from .metrics import weighted_quantile_loss as weighted_quantile_loss

if TYPE_CHECKING:
    from ._forecaster import GRUForecaster as GRUForecaster


def __getattr__(name: str) -> Any:
    """Only the forecaster needs torch: it is imported when asked for."""
    if name == "GRUForecaster":
        from ._forecaster import GRUForecaster

        return GRUForecaster
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
