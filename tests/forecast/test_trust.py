"""How far a forecast goes from the last value, and how much of its correction it takes."""

import numpy as np
import pandas as pd
import pytest

from forecast_cases import frame, seasonal_series, small_forecaster
from tidegate.forecast._fit import Frame
from tidegate.forecast._trust import beats_the_last_value, choose_trust


def walks(count: int, length: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Prices: nothing in their past tells where they go."""
    rng = np.random.default_rng(seed)
    steps = 0.02 * rng.standard_normal((count, length))
    return {f"p{i}": 100 * np.exp(walk) for i, walk in enumerate(steps.cumsum(1))}


def test_a_random_walk_is_forecast_by_its_last_value_and_that_is_said():
    model = small_forecaster(steps=10).fit(frame(walks(4, 200), freq="B"))
    assert model.model_.reach == 0
    assert any("the last value" in note for note in model.notes_)
    others = walks(3, 100, seed=1)
    forecast = model.predict(frame(others, freq="B")).GRU.to_numpy().reshape(3, -1)
    last = np.array([y[-1] for y in others.values()])
    np.testing.assert_allclose(forecast, last[:, None].repeat(model.horizon, 1), rtol=1e-9)


def test_the_bands_around_a_last_value_hold_what_they_should():
    model = small_forecaster(steps=30).fit(frame(walks(6, 200), freq="B"))
    others = walks(200, 60 + model.horizon, seed=1)
    past = frame({name: y[: -model.horizon] for name, y in others.items()}, freq="B")
    truth = np.concatenate([y[-model.horizon :] for y in others.values()])
    forecast = model.predict(past)
    held = (forecast["GRU-lo-80"] <= truth) & (truth <= forecast["GRU-hi-80"])
    assert 0.72 < held.mean() < 0.88


def test_a_season_is_followed_all_the_way():
    model = small_forecaster().fit(frame({f"s{i}": seasonal_series(i, 60) for i in range(4)}))
    assert model.model_.reach == 1
    assert not any("the last value" in note for note in model.notes_)


def test_where_a_covariate_tells_the_way_the_walk_is_followed():
    """The smoothing loses to the last value here; the network knows what comes."""
    rng = np.random.default_rng(0)
    push = rng.standard_normal((5, 150))
    days = pd.bdate_range("2020-01-01", periods=150)
    parts = [
        pd.DataFrame({"unique_id": f"p{i}", "ds": days, "y": 100 * np.exp(0.02 * row.cumsum()),
                      "push": row})
        for i, row in enumerate(push)
    ]  # fmt: skip
    model = small_forecaster(horizon=1, steps=100, future_cols=("push",)).fit(pd.concat(parts))
    assert model.model_.reach == 1


def test_a_share_that_the_user_gives_is_taken():
    model = small_forecaster(steps=20, trust=0.5).fit(frame(walks(4, 120), freq="B"))
    assert (model.model_.trust, model.model_.reach) == (0.5, 1.0)


@pytest.mark.parametrize(("share", "chosen"), [(0.0, 0.0), (0.6, 0.6), (1.0, 1.0)])
def test_as_much_is_corrected_as_proves_right(share, chosen):
    median = np.random.default_rng(0).standard_normal((200, 4))
    assert choose_trust(median, share * median, np.ones(200), False) == chosen


@pytest.mark.parametrize("windows", [1, 2, 7, 8])
@pytest.mark.parametrize("knows_more", [False, True])
def test_of_few_windows_a_gain_must_be_sure(windows, knows_more):
    """Better in most steps of the only windows there are, but not in one window after the other."""
    rng = np.random.default_rng(0)
    median = np.ones((windows, 4))
    truth = np.where(np.arange(windows)[:, None] % 3 == 1, -0.4, 1.0) + np.zeros((windows, 4))
    chosen = choose_trust(median, truth, np.ones(windows), knows_more)
    assert (chosen > 0) == (knows_more or windows >= 8)
    sure = median + 0.01 * rng.standard_normal(median.shape)
    assert choose_trust(median, sure, np.ones(windows), False) == (windows > 1)


def test_a_short_series_alone_is_forecast_by_smoothing_if_nothing_else_is_known():
    df = frame({"a": seasonal_series(0, 40)})
    model = small_forecaster().fit(df)
    assert model.model_.trust == 0
    assert any("the forecasts are those of smoothing" in note for note in model.notes_)
    assert small_forecaster(horizon=30).fit(df).model_.trust == 0  # and there is no trial
    known = df.assign(promo=np.arange(40) % 2)
    assert small_forecaster(horizon=30, past_cols=["promo"]).fit(known).model_.trust == 0.6


def test_a_gain_must_be_sure():
    truth = np.random.default_rng(0).standard_normal((30, 4))
    none, weight = np.zeros_like(truth), np.ones(30)
    assert beats_the_last_value(truth, none, truth, weight)
    assert not beats_the_last_value(none + 0.1, none, truth, weight)
    truth[:, 1:] = np.nan
    assert not beats_the_last_value(none, none, truth, weight)


def test_a_trial_learns_from_half_of_each_series_also_of_the_short_ones():
    lengths = np.array([26] * 9 + [200])
    df = frame({f"s{i}": seasonal_series(i, length) for i, length in enumerate(lengths)})
    model = small_forecaster(horizon=2)
    panel = model.read_panel(df)
    plan = model._choose(panel)
    windows = model.derived_.source(panel, plan.layout, plan.scaling.horizon).windows
    trial = Frame.of(windows, plan)
    origins = windows.draw(trial.least, 10_000, np.random.default_rng(0))
    hidden = trial.hides(windows, origins)
    learnt = np.array([(~hidden[origins.series == i, 0]).sum() for i in range(len(lengths))])
    assert (learnt >= (lengths - trial.least) / 2).all()
    assert hidden.any(1)[origins.series == 0].any()
    tried = trial.held_out(windows, plan)
    # Nothing is tried on that was learnt from, and the long series has more to try on.
    assert (tried.step >= trial.least + learnt[tried.series]).all()
    assert np.bincount(tried.series)[-1] > np.bincount(tried.series)[0] > 0
