"""One model, other series: it reads them from their context, and can be brought closer to them."""

import numpy as np
import pandas as pd
import pytest

from forecast_cases import (
    frame,
    seasonal_series,
    small_forecaster,
    small_panel,
    trained_from_nothing,
)
from tidegate.forecast import GRUForecaster


def parabolas(coefficients: np.ndarray, length: int) -> pd.DataFrame:
    x = np.arange(float(length))
    series = [a * x**2 + b * x + c for a, b, c in coefficients]
    parts = [
        pd.DataFrame({"unique_id": f"p{i}", "ds": np.arange(length), "y": y})
        for i, y in enumerate(series)
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def reader() -> GRUForecaster:
    """A network that has seen many parabolas."""
    rng = np.random.default_rng(0)
    coefficients = rng.uniform([-5, -10, -20], [5, 10, 20], (200, 3))
    return GRUForecaster(4, hidden_size=16, num_layers=1, steps=300).fit(
        parabolas(coefficients, 14)
    )


def error_in_steps(model: GRUForecaster, points: int, adapt: bool) -> float:
    """The error on y = 3x² + x + 1 after so many points, in mean steps of its history."""
    whole = parabolas(np.array([[3.0, 1.0, 1.0]]), points + 4)
    past, truth = whole[:points], whole.y.to_numpy()[points:]
    forecast = (model.adapt(past) if adapt else model).predict(past).GRU.to_numpy()
    return np.abs(forecast - truth).mean() / np.abs(np.diff(past.y)).mean()


@pytest.mark.parametrize("adapt", [False, True])
@pytest.mark.parametrize("points", [4, 5, 6])
def test_a_parabola_is_read_from_a_few_of_its_points(reader, points, adapt):
    assert error_in_steps(reader, points, adapt) < 0.2


def test_adapting_brings_the_model_closer():
    """Spikes that the training never had, at a beat that the network could learn."""
    model = small_forecaster(steps=60, hidden_size=16, season=False, season_length=4)
    model.fit(small_panel(6, 60))
    time = np.arange(96)
    odd = {f"o{i}": np.where((time + i) % 5 == 0, 40.0, 10.0) * 1.01**i for i in range(5)}
    df = frame(odd)
    past, future = (df[df.groupby("unique_id").ds.rank(ascending=False).gt(6) == k]
                    for k in (True, False))  # fmt: skip
    adapted = model.adapt(past, steps=200)
    error = [np.abs(m.predict(past).GRU.to_numpy() - future.y.to_numpy()).mean()
             for m in (model, adapted)]  # fmt: skip
    assert error[1] < 0.8 * error[0]


def test_adapting_leaves_the_model_itself_alone_and_holds_on_to_what_it_knew():
    panel = small_panel(6, 60)
    model = small_forecaster(steps=60).fit(panel)
    before = model.predict()
    adapted = model.adapt(frame({"new": seasonal_series(9, 40)}))
    pd.testing.assert_frame_equal(model.predict(), before)
    assert set(adapted.predict().unique_id) == {"new"}
    after = adapted.predict(panel)
    assert np.abs(np.log(after.GRU / before.GRU)).mean() < 0.02


def zigzags(count: int, length: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    time = np.arange(length)
    waves = [np.where((time + k) % 2 == 0, 14.0, 10.0) * 1.01**time for k in range(count)]
    return [wave * np.exp(0.02 * rng.standard_normal(length)) for wave in waves]


def test_a_few_points_are_enough_to_come_closer():
    """A zigzag, as the training never had it; a series alone, and eight of its points."""
    model = small_forecaster(horizon=4, steps=60, hidden_size=16, season=False, season_length=4)
    model.fit(small_panel(6, 60))
    error = np.zeros(2)
    for y in zigzags(4, 12):
        past = frame({"zigzag": y[:8]})
        adapted = model.adapt(past, steps=200)
        assert adapted.notes_[-1].startswith("adapted")
        for i, either in enumerate((model, adapted)):
            error[i] += np.abs(either.predict(past).GRU.to_numpy() - y[8:]).sum()
    assert error[1] < 0.9 * error[0]


@pytest.mark.parametrize("points", [4, 6, 8])
def test_what_was_learnt_before_beats_learning_from_a_few_points_alone(reader, points):
    whole = parabolas(np.array([[3.0, 1.0, 1.0]]), points + 4)
    past, truth = whole[:points], whole.y.to_numpy()[points:]
    alone = trained_from_nothing(reader, past)
    adapted, fresh = (m.predict(past).GRU.to_numpy() for m in (reader.adapt(past), alone))
    assert np.abs(adapted - truth).mean() < 0.5 * np.abs(fresh - truth).mean()


def test_two_values_change_nothing_and_that_is_said():
    model = small_forecaster().fit(small_panel())
    adapted = model.adapt(frame({"few": np.array([3.0, 4.0])}))
    other = small_panel(2, 30)
    pd.testing.assert_frame_equal(adapted.predict(other), model.predict(other))
    assert "too short to adapt to" in adapted.notes_[-1]


def test_where_nothing_is_gained_nothing_changes_and_that_is_said():
    panel = small_panel(6, 60)
    model = small_forecaster(steps=60).fit(panel)
    noise = np.exp(np.random.default_rng(0).standard_normal(14))
    adapted = model.adapt(frame({"noise": noise}))
    pd.testing.assert_frame_equal(adapted.predict(panel), model.predict(panel))
    assert "as they were" in adapted.notes_[-1]
