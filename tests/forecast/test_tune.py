"""The search: it goes on where it stopped, refuses other data, and keeps the best."""

import pytest

from forecast_cases import small_forecaster, small_panel
from tidegate.errors import InputError

pytest.importorskip("optuna")


@pytest.fixture
def model():
    return small_forecaster(steps=None, hidden_size=None, num_layers=None)


def test_a_search_goes_on_where_it_stopped(model, tmp_path, monkeypatch):
    from tidegate.forecast import GRUForecaster, tune

    asked = []

    def fit_in_a_moment(self, df, **arguments):
        asked.append(self.get_params())
        self.steps = 2
        return fit(self, df, **arguments)

    fit = GRUForecaster.fit
    monkeypatch.setattr(GRUForecaster, "fit", fit_in_a_moment)
    told = []
    panel, storage = small_panel(), tmp_path / "search.db"
    first = tune.tune(model, panel, 2, storage=storage, progress=lambda *a: told.append(a))
    assert [t[:2] for t in told] == [(1, 2), (2, 2)]
    assert asked[0]["hidden_size"] == model.suggest(panel).hidden_size
    fits = len(asked)
    again = tune.tune(model, panel, 2, storage=storage)
    assert again == first
    assert len(asked) == fits
    more = tune.tune(model, panel, 3, storage=storage)
    assert more.trials == 3
    assert more.error <= first.error <= first.suggested
    assert small_forecaster().set_params(**more.settings).steps == more.settings["steps"]
    with pytest.raises(InputError, match="of other data"):
        tune.tune(model, small_panel(3), 3, storage=storage)


def test_series_too_short_for_the_folds_are_refused(model):
    from tidegate.forecast.tune import tune

    with pytest.raises(InputError, match="too short to hold 12 horizons back"):
        tune(model, small_panel(), 1, folds=12)
