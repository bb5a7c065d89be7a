"""Covariates: they help where they tell something, and what is not known yet is never read."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from forecast_cases import frame, seasonal_series, small_forecaster
from tidegate.data import Panel
from tidegate.data.clock import holiday_covariates
from tidegate.errors import InputError
from tidegate.forecast import GRUForecaster

HORIZON = 6
ALL = {"static_cols": ("region",), "past_cols": ("rain",), "future_cols": ("promo", "event")}


def table(count: int = 6, length: int = 60) -> pd.DataFrame:
    """Series that double where `promo` is 1, with other columns that say nothing."""
    rng = np.random.default_rng(0)
    df = frame({f"s{i}": seasonal_series(i, length) for i in range(count)}, freq="D")
    promo = rng.random(len(df)) < 0.3
    return df.assign(
        y=df.y * np.where(promo, 2.0, 1.0),
        promo=promo.astype(float),
        rain=rng.standard_normal(len(df)),
        event=rng.choice(["", "fair", "game"], len(df)),
        region=np.where(df.unique_id < "s3", "north", "south"),
    )


def parts(df: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All but the last steps, and these."""
    late = df.groupby("unique_id").ds.rank(ascending=False) <= HORIZON
    return df[~late], df[late]


@pytest.fixture(scope="module")
def fitted() -> GRUForecaster:
    return small_forecaster(calendar=False, **ALL).fit(parts(table())[0])


def test_what_is_known_ahead_is_used():
    past, future = parts(table(8, 80))
    settings = {"steps": 120, "hidden_size": 16, "batch_size": 64, "calendar": False}
    blind = small_forecaster(**settings).fit(past).predict()
    seeing = small_forecaster(future_cols=("promo",), **settings).fit(past).predict(future=future)
    truth = future.y.to_numpy()
    error = {name: np.abs(np.log(f.GRU / truth)).mean() for name, f in
             (("blind", blind), ("seeing", seeing))}  # fmt: skip
    assert error["seeing"] < 0.6 * error["blind"]


def test_the_future_of_what_is_known_ahead_moves_the_forecast_at_that_step(fitted):
    _, future = parts(table())
    one = fitted.predict(future=future)
    other = fitted.predict(future=future.assign(promo=1 - future.promo))
    assert (one.GRU != other.GRU).all()


@pytest.mark.parametrize("column", ["y", "rain"])
def test_what_is_known_until_now_does_not_leak(column):
    """Values planted after the cut change neither what is learnt nor what is forecast."""
    df = table()
    late = df.index.isin(parts(df)[1].index)
    planted = df.assign(**{column: df[column].where(~late, 1e6)})
    model = small_forecaster(steps=4, calendar=False, **ALL)
    one, other = (model.backtest(d, windows=1) for d in (df, planted))
    np.testing.assert_array_equal(one.GRU, other.GRU)
    before = df.assign(**{column: df[column].where(late, df[column] ** 2)})
    assert (model.backtest(before, windows=1).GRU != one.GRU).any()


def test_missing_entries_are_read_around(fitted):
    past, future = parts(table())
    rng = np.random.default_rng(1)
    holes = {
        name: past[name].where(rng.random(len(past)) > 0.4) for name in ("promo", "rain", "event")
    }
    gone = past.assign(**holes, region=None)
    forecast = small_forecaster(calendar=False, **ALL).fit(gone).predict(future=future)
    assert np.isfinite(forecast.GRU).all()
    future = future.assign(promo=np.nan, event=None)
    assert np.isfinite(fitted.predict(past.assign(event="never seen"), future=future).GRU).all()


def test_a_saved_model_reads_the_same_covariates(fitted, tmp_path):
    past, future = parts(table())
    fitted.save(tmp_path / "m")
    loaded = GRUForecaster.load(tmp_path / "m")
    pd.testing.assert_frame_equal(
        loaded.predict(past, future=future), fitted.predict(future=future)
    )
    assert loaded.get_params() == fitted.get_params()


def test_frames_of_other_kinds_serve_too(fitted):
    past, future = parts(table())
    forecast = fitted.predict(pl.from_pandas(past), future=pl.from_pandas(future))
    assert isinstance(forecast, pl.DataFrame)
    np.testing.assert_array_equal(forecast["GRU"], fitted.predict(future=future).GRU)


def test_the_order_of_the_rows_changes_nothing(fitted):
    past, future = parts(table())
    shuffled = future.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(fitted.predict(future=shuffled), fitted.predict(future=future))
    mixed = fitted.predict(past.sample(frac=1, random_state=0), future=future)
    both = mixed.merge(fitted.predict(future=future), on=["unique_id", "ds"])
    # Measured: 3e-9. The head's products are summed in blocks of rows, which stand elsewhere now.
    np.testing.assert_allclose(both.GRU_x, both.GRU_y, rtol=1e-6)


def test_a_calendar_and_holidays_are_read():
    pytest.importorskip("holidays")
    df = frame({"a": seasonal_series(0, 800, 7)}, freq="D")
    model = small_forecaster(steps=2, holidays="DE").fit(df)
    names = [number.name for number in model.model_.layout.numbers]
    assert names == ["year, sine", "year, cosine", "week, sine", "week, cosine", "holiday"]
    assert len(model.model_.layout.categories[0].names) > 5
    assert np.isfinite(model.predict().GRU).all()
    with pytest.raises(InputError, match="knows no country 'Atlantis'"):
        small_forecaster(holidays="Atlantis").fit(df)


def test_holidays_are_known_as_far_ahead_as_the_horizon():
    pytest.importorskip("holidays")
    weeks = np.datetime64("2001-01-01", "ns") + np.arange(10) * np.timedelta64(7, "D")
    panel = Panel.from_arrays("a", [weeks], [np.arange(10.0)], "W-MON")
    marks = holiday_covariates(panel, "DE", 60 * 52)["holiday"].values[0]
    assert marks[-52:].sum() >= 2  # Easter Monday and Whit Monday


BAD = {
    "no future": (lambda p, f: (p, None), "known ahead: give predict a frame"),
    "too short a future": (
        lambda p, f: (p, f.groupby("unique_id").head(4)),
        "4 rows after .* for series 's0', and 6 are needed",
    ),
    "a future with a hole": (
        lambda p, f: (p, pd.concat([f.iloc[[0, 2, 3, 4, 5]], f.iloc[[5]], f.iloc[6:]])),
        "is not the next step of the calendar D",
    ),
    "a column less": (lambda p, f: (p, f.drop(columns="promo")), "no column 'promo'"),
    "a column less in the past": (
        lambda p, f: (p.drop(columns="rain"), f), "no column 'rain' for a covariate"
    ),
    "an infinite entry ahead": (lambda p, f: (p, f.assign(promo=np.inf)), "'promo'.* is infinite"),
    "an infinite entry": (lambda p, f: (p.assign(rain=np.inf), f), "'rain'.* is infinite"),
    "a static one that moves": (
        lambda p, f: (p.assign(region=[str(i) for i in range(len(p))]), f),
        "a static covariate has one value a series",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_covariates_get_one_sentence(fitted, what):
    spoil, sentence = BAD[what]
    past, future = spoil(*parts(table()))
    with pytest.raises(InputError, match=sentence):
        fitted.predict(past, future=future)


def test_a_column_has_one_role():
    with pytest.raises(ValueError, match="'rain' has two roles"):
        small_forecaster(past_cols=("rain",), future_cols=("rain",)).fit(table())
