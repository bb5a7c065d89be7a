"""A saved forecaster gives the same forecasts without torch."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from forecast_cases import frame, seasonal_series, small_forecaster, small_panel
from tidegate.data import Panel
from tidegate.errors import InputError
from tidegate.runtime import load


def quantiles(forecast: pd.DataFrame, horizon: int = 6) -> np.ndarray:
    names = [f"GRU-lo-{level}" for level in (95, 80, 50)] + ["GRU"]
    names += [f"GRU-hi-{level}" for level in (50, 80, 95)]
    return forecast[names].to_numpy().reshape(-1, horizon, 7)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"members": 2, "num_layers": 2, "levels": (95, 80, 50)},
        {"cell": "mingru", "num_layers": 2},
    ],
)
def test_arrays_are_forecast_as_frames_are(options, tmp_path):
    panel = small_panel()
    model = small_forecaster(**options).fit(panel)
    model.save(tmp_path / "m")
    saved = load(tmp_path / "m")
    assert saved.horizon == 6
    values = [group.y.to_numpy() for _, group in panel.groupby("unique_id")]
    want = quantiles(model.predict())
    np.testing.assert_allclose(saved(values), want, rtol=2e-5)
    np.testing.assert_allclose(saved(Panel.from_frame(panel)), want, rtol=2e-5)


@pytest.mark.parametrize("cell", ["gru", "mingru"])
def test_gaps_calendars_and_covariates_are_read_too(cell, tmp_path):
    days = pd.bdate_range("2023-01-02", periods=300).delete([7, 50])
    rng = np.random.default_rng(0)
    values = seasonal_series(0, 298, 5)
    promo, place = rng.integers(0, 2, 304).astype(float), np.array(["here"])
    df = pd.DataFrame({"ds": days, "y": values, "promo": promo[:298], "place": "here"})
    ahead = pd.bdate_range(days[-1], periods=7)[1:]
    model = small_forecaster(future_cols=("promo",), static_cols=("place",), cell=cell).fit(df)
    model.save(tmp_path / "m")
    future = pd.DataFrame({"ds": ahead, "promo": promo[298:]})
    want = quantiles(model.predict(future=future))
    # On the calendar, with holes where the market was closed.
    panel = Panel.from_frame(df, future_cols=("promo",))
    known = np.concatenate([panel.covariates["promo"].values[0], promo[298:]])
    covariates = {"promo": ("future", [known]), "place": ("static", [place])}
    saved = load(tmp_path / "m")
    got = saved(panel.values, [panel.times[0]], covariates)
    np.testing.assert_allclose(got, want, rtol=2e-5)
    with pytest.raises(InputError, match="reads time stamps: give times"):
        saved([values], None, covariates)
    with pytest.raises(InputError, match="reads the covariate 'promo': give it"):
        saved([values], [np.asarray(days)], {})
    with pytest.raises(InputError, match="'promo' is known ahead: 306 entries are needed"):
        saved(panel.values, [panel.times[0]], covariates | {"promo": ("future", [known[:303]])})


@pytest.mark.parametrize("series", [[], [np.nan, np.nan], [[1.0, 2.0]], [1.0, np.inf]])
def test_a_series_that_is_none_is_named(series, tmp_path):
    small_forecaster(steps=1).fit(small_panel()).save(tmp_path / "m")
    with pytest.raises(InputError, match="series 0 must be one row of numbers"):
        load(tmp_path / "m")([series])


def test_torch_is_not_needed(tmp_path):
    small_forecaster(steps=1).fit(frame({"a": seasonal_series(0, 50)})).save(tmp_path / "m")
    script = f"""
import sys
sys.path[:0] = {sys.path}
from tidegate.runtime import load
print(load({str(tmp_path / "m")!r})([[1.0, 2.0, 3.0, 2.0]]).shape)
print(*sorted({{"torch", "pandas", "narwhals"}} & set(sys.modules)))
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert process.stdout.split("\n")[:2] == ["(1, 6, 7)", ""], process.stderr
