"""Small panels, and a forecaster that learns them in a moment."""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from tidegate._series.bands import quantiles_of
from tidegate.forecast import GRUForecaster
from tidegate.forecast._examples import make_examples
from tidegate.forecast._fit import AsFunction
from tidegate.forecast._network import Network, pinball
from tidegate.train import Settings, train


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


def trained_from_nothing(model: GRUForecaster, df: pd.DataFrame, steps: int = 300) -> GRUForecaster:
    """The same network with fresh weights, trained on nothing but these series."""
    panel = model.read_panel(df)
    source = model.derived_.source(panel, model.model_.layout, model.horizon)
    origins = source.windows.draw(2, 4096, np.random.default_rng(0))
    examples = make_examples(source, origins, model.model_.scaling)
    known = torch.isfinite(examples.truth)
    truth = torch.where(known, examples.truth, 0.0)
    quantiles = torch.tensor(quantiles_of(model.levels), dtype=torch.float32)
    torch.manual_seed(model.seed)
    network = Network(model.shape_)

    def loss(step: int) -> torch.Tensor:
        return (pinball(network(*examples.inputs), truth, quantiles) * known).sum() / known.sum()

    train(network, loss, Settings(steps, learning_rate=model.learning_rate))
    fresh = copy.copy(model)
    fresh.networks_ = [network]
    fresh.model_ = replace(model.model_, networks=[AsFunction(network)])
    return fresh
