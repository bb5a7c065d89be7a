"""Seasonal indices: found where they are, nothing where they are not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate._series.season import seasonal_indices


def history(context: int, season: np.ndarray, slope: float = 0.0) -> np.ndarray:
    time = np.arange(context)
    return (season[time % len(season)] + slope * time + 7)[None]


@given(
    seed=st.integers(0, 2**32 - 1),
    season_length=st.integers(2, 13),
    extra=st.integers(0, 12),
    slope=st.floats(-1, 1),
)
def test_a_pure_season_on_a_line_is_found_exactly(seed, season_length, extra, slope):
    season = np.random.default_rng(seed).standard_normal(season_length)
    season -= season.mean()
    z = history(5 * season_length + extra, season, slope)
    indices, strength = seasonal_indices(z, season_length)
    np.testing.assert_allclose(indices[0], season, atol=1e-9)
    np.testing.assert_allclose(strength, 1, atol=1e-9)


@pytest.mark.parametrize("missing", [[20], [20, 21, 22], [0, 1, 2, 3, 4]])
def test_missing_values_hide_no_season(missing):
    season = np.sin(np.arange(12) / 12 * 2 * np.pi)
    z = history(120, season)
    z[0, missing] = np.nan
    indices, _ = seasonal_indices(z, 12)
    assert np.abs(indices[0] - season).max() < 0.2


def test_noise_has_nearly_no_season():
    noise = np.random.default_rng(0).standard_normal((200, 120))
    indices, strength = seasonal_indices(noise, 12)
    assert np.abs(indices).mean() < 0.5 * np.sqrt(2 / np.pi / 10)
    assert strength.mean() < 0.25


def test_a_short_history_has_no_season():
    indices, strength = seasonal_indices(np.full((1, 40), np.nan), 12)
    assert not indices.any()
    assert not strength.any()
    indices, _ = seasonal_indices(history(24, np.arange(12.0)), 12)
    assert not indices.any()


@given(rows=st.permutations(range(5)))
def test_rows_do_not_meet(rows):
    z = np.random.default_rng(0).standard_normal((5, 48))
    np.testing.assert_array_equal(seasonal_indices(z, 4)[0][rows], seasonal_indices(z[rows], 4)[0])
