"""The forecaster: its laws, its files, and what it says to data that it cannot use."""

import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from forecast_cases import frame, seasonal_series, small_forecaster, small_panel
from tidegate.data import Panel
from tidegate.errors import InputError
from tidegate.forecast import GRUForecaster, suggest

COLUMNS = [
    f"GRU{suffix}" for suffix in ("-lo-95", "-lo-80", "-lo-50", "", "-hi-50", "-hi-80", "-hi-95")
]


@pytest.fixture(scope="module")
def panel() -> pd.DataFrame:
    return small_panel()


@pytest.fixture(scope="module")
def fitted(panel) -> GRUForecaster:
    return small_forecaster().fit(panel)


def numbers(df) -> np.ndarray:
    return np.stack([df[name].to_numpy() for name in COLUMNS], 1)


def test_the_forecast_follows_each_series(fitted, panel):
    forecast = fitted.predict()
    assert list(forecast.columns[:3]) == ["unique_id", "ds", "GRU"]
    assert sorted(forecast.columns[2:]) == sorted(COLUMNS)
    assert (forecast.groupby("unique_id").size() == 6).all()
    last = panel.groupby("unique_id").ds.max() + pd.offsets.MonthBegin()
    pd.testing.assert_series_equal(forecast.groupby("unique_id").ds.min(), last)


def test_quantiles_never_cross(fitted):
    wild = frame({f"w{i}": np.random.default_rng(i).standard_cauchy(40) for i in range(20)})
    for df in (fitted.predict(), fitted.predict(wild)):
        assert np.isfinite(numbers(df)).all()
        assert (np.diff(numbers(df), axis=1) >= 0).all()


@pytest.mark.parametrize("factor", [1e-30, 3.0, 1e9])
def test_a_factor_on_a_series_is_a_factor_on_its_forecast(fitted, panel, factor):
    scaled = fitted.predict(panel.assign(y=factor * panel.y))
    np.testing.assert_allclose(numbers(scaled), factor * numbers(fitted.predict()), rtol=1e-4)


def test_a_forecast_depends_on_no_other_series_and_on_no_order(fitted, panel):
    alone = fitted.predict(panel[panel.unique_id == "s2"])
    whole = fitted.predict(panel.sample(frac=1, random_state=0))
    np.testing.assert_allclose(numbers(whole[whole.unique_id == "s2"]), numbers(alone), rtol=1e-5)


def test_series_that_are_forecast_some_at_a_time_are_forecast_the_same(fitted, monkeypatch):
    whole = fitted.predict()
    monkeypatch.setattr("tidegate._series.model._CHUNK", 2 * fitted.model_.scaling.context)
    np.testing.assert_allclose(numbers(fitted.predict()), numbers(whole), rtol=1e-5)


def test_the_order_of_the_series_changes_no_more_than_the_draw(panel):
    backwards = pd.concat([group for _, group in reversed(list(panel.groupby("unique_id")))])
    one, other = (small_forecaster(trust=0).fit(df).predict() for df in (panel, backwards))
    both = one.merge(other, on=["unique_id", "ds"])
    np.testing.assert_allclose(both.GRU_x, both.GRU_y, rtol=1e-9)


def test_equal_seeds_give_equal_forecasts(fitted, panel):
    again = small_forecaster().fit(panel).predict()
    pd.testing.assert_frame_equal(again, fitted.predict())
    assert not small_forecaster(seed=1).fit(panel).predict().equals(again)


def test_the_future_does_not_leak(panel):
    """Values after the cut of a backtest change neither its forecasts nor what was learnt."""
    model = small_forecaster(steps=4)
    cut = panel.groupby("unique_id").ds.rank(ascending=False) <= 6
    one = model.backtest(panel, windows=1)
    other = model.backtest(panel.assign(y=panel.y.where(~cut, 1e6)), windows=1)
    np.testing.assert_array_equal(numbers(one), numbers(other))
    np.testing.assert_array_equal(one.y, panel.y[cut])
    assert (other.y == 1e6).all()


def test_a_backtest_moves_its_origin(panel):
    model = small_forecaster(steps=2)
    result = model.backtest(panel, windows=3, step=2)
    assert not hasattr(model, "model_")
    for name, group in result.groupby("unique_id"):
        truth = panel[panel.unique_id == name].set_index("ds").y
        cutoffs = group.cutoff.unique()
        np.testing.assert_array_equal(cutoffs, truth.index[[-11, -9, -7]])
        np.testing.assert_array_equal(group.y, truth[group.ds])
        assert (group.ds > group.cutoff).all()


def test_a_saved_model_forecasts_the_same(fitted, panel, tmp_path):
    fitted.save(tmp_path / "model.safetensors")
    loaded = GRUForecaster.load(tmp_path / "model.safetensors")
    pd.testing.assert_frame_equal(loaded.predict(panel), fitted.predict())
    assert loaded.get_params() == fitted.get_params()
    assert os.listdir(tmp_path) == ["model.safetensors"]
    with pytest.raises(InputError, match="holds no data"):
        loaded.predict()


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "folder", "missing"])
def test_a_damaged_file_is_refused(fitted, tmp_path, damage):
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    whole = path.read_bytes()
    contents = {"cut": whole[:-100], "text": b"unique_id,ds,y\n", "empty": b""}
    if damage in contents:
        path.write_bytes(contents[damage])
    else:
        path.unlink()
    if damage == "folder":
        path.mkdir()
    with pytest.raises(InputError, match=r"model\.safetensors"):
        GRUForecaster.load(path)


def test_a_foreign_file_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "m")
    with pytest.raises(InputError, match="is not a forecaster"):
        GRUForecaster.load(tmp_path / "m")


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[2:]
from forecast_cases import small_forecaster, small_panel

seen = []

def progress(number, p):
    seen.append(number)
    if seen.count(1) == 250:
        os.kill(os.getpid(), signal.SIGKILL)

small_forecaster(steps=900).fit(small_panel(), progress=progress, checkpoint=sys.argv[1])
"""


def test_a_killed_fit_resumes_to_the_same_forecasts(tmp_path, panel):
    checkpoint = tmp_path / "fit"
    arguments = [sys.executable, "-c", KILLED, str(checkpoint), *sys.path]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.run(arguments, env=os.environ | threads, check=False)
    assert process.returncode == -signal.SIGKILL
    whole, told = small_forecaster(steps=900).fit(panel), []
    resumed = small_forecaster(steps=900).fit(
        panel, checkpoint=checkpoint, resume=True, progress=lambda number, p: told.append(number)
    )
    assert told == [1] * (len(whole.history_[1].losses) - 200)
    pd.testing.assert_frame_equal(resumed.predict(), whole.predict())
    resumed.save(tmp_path / "model.safetensors")
    assert os.listdir(tmp_path) == ["model.safetensors"], "the state of a fit that is over stays"


def test_a_checkpoint_of_other_data_is_refused(tmp_path, panel):
    class Stop(Exception):
        pass

    def stop(number, p):
        if number == 1:
            raise Stop

    with pytest.raises(Stop):
        small_forecaster().fit(panel, checkpoint=tmp_path / "fit", progress=stop)
    other = panel.assign(y=2 * panel.y)
    with pytest.raises(InputError, match="belongs to a run with other data"):
        small_forecaster().fit(other, checkpoint=tmp_path / "fit", resume=True)


def test_progress_counts_the_steps_of_all_trainings(panel):
    told = []
    model = small_forecaster(steps=30, members=2)
    model.fit(panel, progress=lambda number, p: told.append((number, p.step, p.steps)))
    numbers, steps, totals = zip(*told, strict=True)
    assert steps == tuple(range(1, len(told) + 1))
    assert sorted(set(numbers)) == [0, 1, 2]
    assert totals[-1] == len(told) == sum(len(h.losses) for h in model.history_)


def test_frames_come_back_as_they_came(fitted, panel):
    forecast = fitted.predict(pl.from_pandas(panel))
    assert isinstance(forecast, pl.DataFrame)
    pd.testing.assert_frame_equal(
        forecast.to_pandas().astype({"ds": "datetime64[ns]"}), fitted.predict(), check_dtype=False
    )
    learnt = small_forecaster(steps=1).fit(pl.from_pandas(panel))
    assert isinstance(learnt.predict(), pl.DataFrame)
    assert isinstance(learnt.backtest(pl.from_pandas(panel), windows=1), pl.DataFrame)


def test_a_single_series_needs_no_id_and_columns_may_have_other_names():
    df = frame({"a": seasonal_series(0, 70)}).drop(columns="unique_id")
    df.columns = ["month", "sales"]
    model = small_forecaster(time_col="month", target_col="sales").fit(df)
    assert list(model.predict().columns)[:2] == ["month", "GRU"]


def test_missing_values_are_learnt_around(panel):
    rng = np.random.default_rng(0)
    holes = panel.assign(y=panel.y.where(rng.random(len(panel)) > 0.2))
    forecast = small_forecaster().fit(holes).predict()
    assert np.isfinite(numbers(forecast)).all()
    truth = small_forecaster().fit(panel).predict()
    assert (np.abs(forecast.GRU / truth.GRU - 1) < 0.5).mean() > 0.9


@pytest.mark.parametrize(
    "values",
    [
        np.full(60, 3.0),
        np.zeros(60),
        -seasonal_series(1, 60),
        1e-30 * seasonal_series(1, 60),
        1e30 * seasonal_series(1, 60),
        np.where(np.arange(60) % 7 == 0, 5.0, 0.0),
        np.tile([1e-30, 1e30], 30),
        np.array([1.0, 2.0]),
        np.array([7.0]),
        np.append(seasonal_series(1, 60), np.full(200, np.nan)),
        np.concatenate([seasonal_series(1, 60), np.full(200, np.nan), seasonal_series(1, 9)]),
    ],
    ids=[
        *("constant", "zero", "negative", "tiny", "huge", "intermittent", "wild", "two", "one"),
        *("ended long ago", "long asleep"),
    ],
)
def test_odd_series_get_finite_forecasts(panel, values):
    df = pd.concat([panel, frame({"odd": values})])
    forecast = small_forecaster().fit(df).predict()
    assert np.isfinite(numbers(forecast)).all()
    odd = forecast[forecast.unique_id == "odd"].GRU
    if len(values) > 1 and np.ptp(values) == 0:
        np.testing.assert_allclose(odd, values[0], rtol=1e-9)


def test_a_panel_too_short_for_the_horizon_is_refused():
    df = frame({"a": np.arange(7.0), "b": np.arange(5.0)})
    with pytest.raises(InputError, match=r"longest series has 7 values, too few .* horizon of 6"):
        small_forecaster().fit(df)
    with pytest.raises(InputError, match="the backtest needs more than 12"):
        small_forecaster().backtest(df, windows=2)


def test_short_series_train_without_validation_and_say_so():
    df = frame({str(i): seasonal_series(i, 12) for i in range(5)})
    model = small_forecaster().fit(df)
    assert "too short to hold a part back" in model.notes_[-1]
    assert model.history_[0].validations == []
    assert np.isfinite(numbers(model.predict())).all()


def test_another_calendar_is_refused(fitted):
    daily = frame({"a": seasonal_series(0, 60)}, freq="D")
    with pytest.raises(InputError, match=r"series that are monthly.*but these are daily"):
        fitted.predict(daily)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("horizon", 0),
        ("horizon", 2.5),
        ("trust", 1.5),
        ("horizon", 10**30),
        ("levels", (0, 50)),
        ("levels", "95"),
        ("levels", 80),
        ("past_cols", "price"),
        ("static_cols", None),
        ("holidays", 3),
        ("members", 0),
        ("steps", 0),
        ("input_length", 0),
    ],
)
def test_arguments_out_of_range_are_refused_by_fit(panel, argument, value):
    with pytest.raises(ValueError, match=argument):
        small_forecaster(**{argument: value}).fit(panel)


@pytest.mark.parametrize(
    ("use", "sentence"),
    [
        (lambda m, df: m.sample(paths=1.5), "paths must be a whole number, at least 1, got 1.5"),
        (lambda m, df: m.adapt(df, steps="9"), "steps must be a whole number, at least 1, got '9'"),
        (
            lambda m, df: m.adapt(df, proximity=-1),
            "proximity must be finite and at least 0, got -1",
        ),
        (lambda m, df: m.backtest(df, windows=0), "windows must be a whole number, at least 1"),
        (lambda m, df: m.backtest(df, step=0.5), "step must be a whole number, at least 1"),
        (lambda m, df: m.plot(ids="0"), "ids must be a list of series, got '0'"),
        (lambda m, df: m.plot(ids=[]), "ids must be a list of series, got "),
    ],
)
def test_arguments_out_of_range_are_refused_after_fit(fitted, panel, use, sentence):
    with pytest.raises(InputError, match=f"^{sentence}"):
        use(fitted, panel)


def test_nothing_works_before_fit():
    with pytest.raises(ValueError, match=r"GRUForecaster\(horizon=3\) is not fitted yet"):
        GRUForecaster(3).predict()


def test_parameters_are_scikit_learns():
    sklearn = pytest.importorskip("sklearn.base")
    model = small_forecaster(trust=0.25)
    twin = sklearn.clone(model)
    assert twin.get_params() == model.get_params()
    assert twin.set_params(horizon=9).horizon == 9
    with pytest.raises(ValueError, match="no argument 'depth'"):
        twin.set_params(depth=2)


def test_a_panel_is_taken_as_a_frame_is(fitted, panel):
    forecast = fitted.predict(Panel.from_frame(panel))
    pd.testing.assert_frame_equal(forecast, fitted.predict(), check_dtype=False)


def test_suggestions_come_with_reasons_and_can_be_overruled(panel):
    suggestion = suggest(panel, horizon=6)
    assert suggestion.season_length == 12
    assert suggestion.input_length == 36
    text = str(suggestion)
    for name in ("season_length", "input_length", "hidden_size", "num_layers", "steps"):
        assert f"{name} = {getattr(suggestion, name)}: " in text
    model = small_forecaster(input_length=20).fit(panel)
    assert model.suggestion_.input_length == 20
    assert model.suggestion_.reasons["input_length"] == "as you said"
