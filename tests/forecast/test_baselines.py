"""Seasonal naive: the last known value of the same season."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.forecast import seasonal_naive


@given(length=st.integers(1, 40), horizon=st.integers(1, 30), season_length=st.integers(1, 13))
def test_matches_its_definition(length, horizon, season_length):
    history = np.random.default_rng(length).standard_normal(length)
    if length > 3:
        history[-3] = np.nan
    forecast = seasonal_naive(history, horizon, season_length)
    for step in range(horizon):
        same = history[(length + step) % season_length :: season_length]
        known = same[np.isfinite(same)]
        expected = known[-1] if len(known) else history[np.isfinite(history)][-1]
        assert forecast[step] == expected


def test_nothing_known_gives_nothing():
    assert np.isnan(seasonal_naive(np.full(4, np.nan), 3, 2)).all()


def test_matches_statsforecast():
    models = pytest.importorskip("statsforecast.models")
    history = np.random.default_rng(0).standard_normal(50)
    theirs = models.SeasonalNaive(season_length=12).forecast(history, h=30)["mean"]
    np.testing.assert_array_equal(seasonal_naive(history, 30, 12), theirs)
