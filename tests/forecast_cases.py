"""Small panels, and a forecaster that learns them in a moment."""

import numpy as np
import pandas as pd

from tidegate.forecast import GRUForecaster


def frame(series: dict[str, np.ndarray], start: str = "2015-01-01", freq: str = "MS"):
    """A long pandas frame of series that begin together."""
    parts = [
        pd.DataFrame(
            {"unique_id": name, "ds": pd.date_range(start, periods=len(y), freq=freq), "y": y}
        )
        for name, y in series.items()
    ]
    return pd.concat(parts, ignore_index=True)


def seasonal_series(seed: int, length: int, season_length: int = 12) -> np.ndarray:
    """A positive series with a level, a trend, a season and noise of its own."""
    rng = np.random.default_rng(seed)
    time = np.arange(length)
    season = 0.3 * np.sin(2 * np.pi * (time / season_length + rng.uniform()))
    logs = rng.normal(3, 2) + rng.normal(0, 0.005) * time + season
    return np.exp(logs + 0.05 * rng.standard_normal(length))


def small_panel(count: int = 4, length: int = 60) -> pd.DataFrame:
    """A few series of different lengths."""
    return frame({f"s{i}": seasonal_series(i, length + 5 * i) for i in range(count)})


def small_forecaster(**arguments) -> GRUForecaster:
    """A forecaster that trains in a moment."""
    sizes = {"horizon": 6, "hidden_size": 8, "num_layers": 1, "steps": 8, "batch_size": 16}
    return GRUForecaster(**(sizes | arguments))
