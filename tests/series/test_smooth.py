"""Exponential smoothing: against a loop over one series, and on series whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate._series.smooth import RATES, smooth, trend_shares


def smooth_one(z: np.ndarray, trend: bool) -> tuple[float, float, float, float]:
    """The same for one history without gaps, step by step."""
    drift = 0.5 * np.polyfit(np.arange(len(z)), z, 1)[0] if trend and len(z) > 1 else 0.0
    runs = []
    for rate in RATES:
        level, error = z[0], 0.0
        for value in z[1:]:
            forecast = level + drift
            error += abs(value - forecast)
            level = forecast + rate * (value - forecast)
        runs.append((error / max(len(z) - 1, 1), level, rate))
    error, level, rate = min(runs, key=lambda run: run[0])
    return level, drift, rate, error


@pytest.mark.parametrize("trend", [True, False])
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 20), padding=st.integers(0, 9))
def test_matches_a_loop_over_one_series(trend, seed, length, padding):
    z = np.cumsum(np.random.default_rng(seed).standard_normal(length))
    padded = np.concatenate([np.full(padding, np.nan), z])[None]
    together = np.array(smooth(padded, trend))[:, 0]
    np.testing.assert_allclose(together, smooth_one(z, trend), atol=1e-9)


def test_a_line_goes_on_at_its_level():
    level, drift, _, error = smooth(np.arange(30.0)[None])
    np.testing.assert_allclose(drift, 0.5)
    assert abs(level[0] - 29) < 1
    assert error[0] < 1


@given(gap=st.integers(1, 28))
def test_a_missing_value_of_a_constant_changes_nothing(gap):
    z = np.full((1, 30), 4.0)
    z[0, gap] = np.nan
    level, drift, _, error = smooth(z)
    np.testing.assert_allclose([level[0], drift[0], error[0]], [4, 0, 0], atol=1e-12)


def trend_shares_one(z: np.ndarray, horizon: int) -> np.ndarray:
    """The same for one history without gaps, step by step."""
    runs = []
    for rate in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0):
        for share in (0.0, 0.5, 1.0):
            level, error, slope = z[0], 0.0, 0.0
            for k, value in enumerate(z[1:], 1):
                forecast = level + share * slope
                error += abs(value - forecast)
                level = forecast + rate * (value - forecast)
                slope = np.polyfit(np.arange(k + 1), z[: k + 1], 1)[0]
            runs.append((error, level + share * slope * np.arange(1, horizon + 1)))
    errors = np.array([error for error, _ in runs])
    weights = ((errors + 1e-9) / (errors.min() + 1e-9)) ** (-2 * np.sqrt(len(z)))
    return np.average([forecast for _, forecast in runs], axis=0, weights=weights)


@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 20), padding=st.integers(0, 9))
def test_shares_of_the_trend_match_a_loop_over_one_series(seed, length, padding):
    z = np.cumsum(np.random.default_rng(seed).standard_normal(length))
    padded = np.concatenate([np.full(padding, np.nan), z])[None]
    np.testing.assert_allclose(trend_shares(padded, 3)[0], trend_shares_one(z, 3), atol=1e-7)


def test_a_line_is_followed_along_its_whole_trend():
    np.testing.assert_allclose(trend_shares(np.arange(30.0)[None], 4)[0], [30, 31, 32, 33])


@given(gap=st.integers(2, 28))
def test_a_missing_value_of_a_line_changes_nothing(gap):
    z = np.arange(30.0)[None]
    z[0, gap] = np.nan
    # But the level after the gap, which is a step behind.
    np.testing.assert_allclose(trend_shares(z, 3)[0], [30, 31, 32], atol=1e-6)
