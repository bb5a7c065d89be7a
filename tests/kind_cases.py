"""Small models of every kind, learnt in a moment, and what they can be run on."""

from pathlib import Path

import numpy as np
import pandas as pd

from forecast_cases import seasonal_series, small_forecaster, small_panel
from language_cases import TEXT, small_model
from runtime_cases import gru_layer, linear
from tidegate.classify import GRUClassifier, GRURegressor
from tidegate.runtime import Model, Stack


def write_models(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Models by name; a panel for the forecaster "f", and steps with labels for "c" and "r"."""
    panel = small_panel(2)
    small_forecaster(steps=4, trust=1.0).fit(panel).save(folder / "f.safetensors")
    days = pd.date_range("2024-01-01", periods=80)
    dated = pd.DataFrame({"ds": days, "y": seasonal_series(0, 80, 7), "promo": np.arange(80) % 3})
    options = {"future_cols": ("promo",), "calendar": True, "steps": 2, "horizon": 2}
    small_forecaster(**options).fit(dated).save(folder / "dated.safetensors")
    rng = np.random.default_rng(0)
    steps = pd.DataFrame(rng.normal(size=(48, 2)), columns=["left", "right"])
    steps = steps.assign(unique_id=np.repeat([f"m{i}" for i in range(6)], 8), ds=[*range(8)] * 6)
    forward = {"hidden_size": 3, "steps": 2, "bidirectional": False}
    labels = steps.assign(y=np.repeat(["up", "down"], 24))
    GRUClassifier(**forward).fit(labels).save(folder / "c.safetensors")
    GRURegressor(**forward).fit(steps.assign(y=np.repeat(np.arange(6.0), 8))).save(
        folder / "r.safetensors"
    )
    GRUClassifier(hidden_size=3, steps=2).fit(labels).save(folder / "both.safetensors")
    texts = ["to and fro", "up and down"] * 5
    GRUClassifier(hidden_size=3, steps=2).fit(texts, [0, 1] * 5).save(folder / "texts.safetensors")
    small_model(steps=3).fit(TEXT).save(folder / "lm.safetensors")
    Model(Stack([gru_layer(0, 2, 5), linear(1, 5, 2)])).save(folder / "stack.safetensors")
    return panel, labels
