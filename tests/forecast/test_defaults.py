"""The defaults hold on series of every kind; `benchmarks/defaults.py` trains them to the end."""

import numpy as np
import pytest

from panel_kinds import HORIZONS, PANELS
from tidegate.data import Panel
from tidegate.forecast import GRUForecaster, mase, naive_error, seasonal_naive


@pytest.mark.parametrize("kind", PANELS)
def test_after_a_few_steps_it_is_no_worse_than_repeating_the_last_season(kind):
    horizon, panel = HORIZONS[kind], Panel.from_frame(PANELS[kind]())
    past = panel.without_last(horizon)
    model = GRUForecaster(horizon, steps=25, hidden_size=16, num_layers=1).fit(past)
    season = model.suggestion_.season_length
    truth = np.stack([values[-horizon:] for values in panel.values])
    naive = np.stack([seasonal_naive(values, horizon, season) for values in past.values])
    ours = model.predict()["GRU"].to_numpy().reshape(truth.shape)
    assert np.isfinite(ours).all()
    shortest = min(len(values) for values in past.values)
    unit = naive_error(past.values, season if shortest > season else 1)
    errors = [np.nanmean(mase(truth, forecast, unit)) for forecast in (ours, naive)]
    assert errors[0] < 1.02 * errors[1]
    if kind == "negative":
        assert (ours < 0).mean() > 0.9
