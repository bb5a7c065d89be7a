"""Effects add up to the forecast, and stand where the forecast came from."""

import numpy as np
import pandas as pd
import pytest

from forecast_cases import frame, small_forecaster, small_panel


def test_effects_add_up_to_the_forecast():
    rng = np.random.default_rng(0)
    df = small_panel(4, 50)
    df = df.assign(
        promo=rng.integers(0, 2, len(df)).astype(float),
        rain=rng.standard_normal(len(df)),
        shop=df.unique_id.str[-1],
    )
    late = df.groupby("unique_id").ds.rank(ascending=False) <= 6
    model = small_forecaster(
        steps=40, future_cols=("promo",), past_cols=("rain",), static_cols=("shop",), trust=1.0
    ).fit(df[~late])
    effects = model.explain(future=df[late])
    forecast = model.predict(future=df[late])
    total = effects.groupby("unique_id").effect.sum()
    mean = forecast.groupby("unique_id").GRU.mean()
    start = effects[effects.input == "start"].set_index("unique_id").effect
    np.testing.assert_allclose(total - start, mean - start, rtol=0.02, atol=1e-3 * mean.mean())
    assert set(effects.input) == {"start", "summary", "y", "promo", "rain", "shop"}
    first = df[late].groupby("unique_id").ds.min()
    assert set(effects[effects.ds >= effects.unique_id.map(first)].input) == {"promo"}


def test_effects_add_up_where_a_series_is_short():
    model = small_forecaster(steps=10, trust=1.0).fit(small_panel(4, 50))
    short = frame({"short": np.array([100.0, 130.0, 90.0, 95.0, 120.0, 110.0])})
    effects, forecast = model.explain(short), model.predict(short)
    np.testing.assert_allclose(effects.effect.sum(), forecast.GRU.mean(), rtol=0.01)


def test_what_the_network_looks_at_is_found():
    """Each value repeats the one four steps before it: no other step says anything."""
    rng = np.random.default_rng(0)
    series = {}
    for i in range(40):
        y = rng.standard_normal(60)
        for t in range(4, 60):
            y[t] = 0.95 * y[t - 4] + 0.3 * rng.standard_normal()
        series[f"s{i}"] = y
    df = frame(series)
    model = small_forecaster(
        horizon=1, steps=250, hidden_size=16, batch_size=64, season=False, trust=1.0,
        season_length=1, input_length=12,
    ).fit(df)  # fmt: skip
    effects = model.explain()
    values = effects[effects.input == "y"]
    size = values.assign(size=values.effect.abs()).groupby("ds")["size"].mean()
    assert size.idxmax() == sorted(size.index)[-4]


def test_pictures_are_drawn():
    model = small_forecaster(steps=2).fit(small_panel(6))
    figure = model.plot(ids=["s1", "s3"])
    assert sum(pane.get_title(loc="left") in ("s1", "s3") for pane in figure.axes) == 2
    with pytest.raises(ValueError, match="level must be one of"):
        model.plot(level=60)
    with pytest.raises(ValueError, match="no series 'x'"):
        model.plot(ids=["x"])


def test_sampled_paths_have_the_bands_of_the_forecast():
    model = small_forecaster(steps=20).fit(small_panel(6))
    paths, forecast = model.sample(paths=800, seed=1), model.predict()
    assert list(paths.columns) == ["unique_id", "ds", "path", "GRU"]
    assert len(paths) == 6 * 800 * 6
    low = paths.groupby(["unique_id", "ds"]).GRU.quantile(0.25).to_numpy()
    width = (forecast["GRU-hi-50"] - forecast["GRU-lo-50"]).to_numpy()
    np.testing.assert_allclose(low, forecast["GRU-lo-50"], atol=0.25 * width.max())
    assert (np.abs(low - forecast["GRU-lo-50"].to_numpy()) < 0.25 * width).mean() > 0.95
    pd.testing.assert_frame_equal(model.sample(paths=2, seed=3), model.sample(paths=2, seed=3))
