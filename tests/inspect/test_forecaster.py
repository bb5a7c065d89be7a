"""A forecaster shows its network, its steps and what came out of them."""

import numpy as np
import pandas as pd
import pytest
import torch

from tidegate.errors import InputError
from tidegate.forecast import GRUForecaster
from tidegate.inspect import ablate, carry, gates, memory, report
from tidegate.inspect._input import read_input


def sales() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    months = pd.date_range("2020-01-01", periods=40, freq="MS")
    shops = {"north": 40, "south": 40, "new": 20}
    return pd.concat(
        pd.DataFrame(
            {"unique_id": name, "ds": months[-n:], "y": 50 + np.arange(n) + rng.normal(size=n)}
        )
        for name, n in shops.items()
    )


@pytest.fixture(scope="module")
def model():
    return GRUForecaster(horizon=4, steps=20, hidden_size=6).fit(sales())


def test_steps_are_named_by_their_time_stamps(model):
    found = gates(model)
    assert found.names == ("north", "south", "new")
    assert found.labels[0][-1] == "2023-04"
    assert found.labels[2][:2] == ("", "")  # before the series began
    assert len(found.labels[0]) == model.suggestion_.input_length
    assert found.layers[0].name == "gru.l0"


def test_outcomes_are_what_predict_says(model):
    item = read_input(model, sales())
    forecast = model.predict(sales())
    for name, ahead in zip(item.names, item.outcomes, strict=True):
        mine = forecast[forecast.unique_id == name]
        np.testing.assert_allclose(ahead.median, mine["GRU"])
        np.testing.assert_allclose(ahead.low, mine["GRU-lo-80"])
        np.testing.assert_allclose(ahead.high, mine["GRU-hi-80"])
        assert list(ahead.labels) == ["2023-05", "2023-06", "2023-07", "2023-08"]
        assert ahead.truth is None
    assert item.loss is None


def test_with_the_truth_known_there_is_a_loss_and_gates_have_a_worth(model):
    item = read_input(model, sales(), known=True)
    assert item.labels[0][-1] == "2022-12"
    np.testing.assert_allclose(item.outcomes[0].truth, sales().y[36:40])
    with torch.no_grad():
        loss = float(item.loss(item.module(*item.inputs)))
    assert ablate(model, sales()).loss == pytest.approx(loss, rel=1e-6)


def test_a_loaded_forecaster_is_looked_into_with_other_series(model, tmp_path):
    model.save(tmp_path / "model.safetensors")
    loaded = GRUForecaster.load(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="holds no data"):
        gates(loaded)
    one = sales().query("unique_id == 'north'").drop(columns="unique_id")
    assert memory(loaded, one)["gru.l0"].kept.shape == (6,)
    found = carry(loaded, one)
    assert found.words.startswith("the network's correction")
    assert found.gap == pytest.approx(0, abs=1e-4)
    with pytest.raises(ValueError, match="not fitted"):
        gates(GRUForecaster(horizon=2), one)


def test_a_series_that_ends_in_a_gap_is_drawn_apart_from_its_forecast(model):
    df = sales().assign(y=lambda df: df.y.where((df.unique_id != "north") | (df.ds < "2021-08")))
    assert "north: from nothing to a forecast" in report(model, df).html


def test_series_too_short_to_read_are_said_to_be(model):
    two, one = (sales().groupby("unique_id").head(n) for n in (2, 1))
    assert np.isnan(report(model, two).ablation.loss)  # nothing before the last four steps
    with pytest.raises(InputError, match="no series has two known values before its last 4 steps"):
        ablate(model, two)
    with pytest.raises(InputError, match=r"nothing can be read: no series has two known values$"):
        report(model, one)
