"""Scaling: it can be undone, and depends on nothing but the history's shape."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tidegate._series.scale import Scaling, scale, scale_future, unscale

SCALING = Scaling(horizon=5, season_length=4, context=64, input_length=12)
PLAIN = Scaling(5, 4, 64, 12, log=False, season=False, trend=False)


def histories(seed: int, rows: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.exp(np.cumsum(0.1 * rng.standard_normal((rows, 64)), 1) + rng.normal(0, 3, (rows, 1)))


@pytest.mark.parametrize("scaling", [SCALING, PLAIN])
@given(seed=st.integers(0, 2**32 - 1))
def test_unscale_undoes_scale(scaling, seed):
    scaled = scale(histories(seed), scaling)
    future = histories(seed + 1)[:, :5] * scaled.unit[:, None]
    residual = scale_future(future, scaled)
    possible = future > 1e-4 * scaled.unit[:, None]
    np.testing.assert_allclose(unscale(residual, scaled)[possible], future[possible], rtol=1e-9)


@given(
    seed=st.integers(0, 2**32 - 1), factor=st.sampled_from([1e-200, 1e-30, 0.3, 7.0, 1e30, 1e200])
)
def test_a_factor_on_the_history_is_a_factor_on_the_forecast(seed, factor):
    history = histories(seed)
    one, other = scale(history, SCALING), scale(factor * history, SCALING)
    np.testing.assert_allclose(other.history, one.history, atol=1e-5)
    np.testing.assert_allclose(other.facts, one.facts, atol=1e-5)
    answer = np.random.default_rng(seed).standard_normal((6, 5))
    np.testing.assert_allclose(unscale(answer, other), factor * unscale(answer, one), rtol=1e-6)


@given(seed=st.integers(0, 2**32 - 1))
def test_turning_a_history_upside_down_turns_the_forecast(seed):
    history = histories(seed) - 1
    one, other = scale(history, PLAIN), scale(-history, PLAIN)
    answer = np.random.default_rng(seed).standard_normal((6, 5))
    np.testing.assert_allclose(unscale(-answer, other), -unscale(answer, one), rtol=1e-9)


@given(
    history=arrays(
        np.float64,
        (3, 64),
        elements=st.one_of(
            st.floats(-1e300, 1e300), st.just(0.0), st.just(np.nan), st.floats(1e-300, 1e-290)
        ),
    )
)
def test_whatever_comes_finite_numbers_go_to_the_network(history):
    history[:, -1] = np.where(np.isnan(history[:, -1]), 1.0, history[:, -1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled = scale(history, SCALING)
        for array in scaled:
            assert np.isfinite(array).all()
        assert np.isfinite(unscale(np.full((3, 5), 3.0), scaled)).all()


def test_what_was_never_negative_is_not_forecast_to_be_unless_it_is_asked_for():
    rng = np.random.default_rng(0)
    history = np.stack([rng.poisson(0.3, 64), rng.poisson(0.3, 64) - 1.0, np.zeros(64)])
    history[1, 0] = -1
    low = np.full((3, 5), -50.0)
    forecast = unscale(low, scale(history, SCALING))
    assert (forecast[[0, 2]] == 0).all()
    assert (forecast[1] < 0).all()
    assert (unscale(low, scale(history, PLAIN))[:2] < 0).all()


def test_one_value_says_nothing_of_how_it_will_move():
    history = np.full((2, 64), np.nan)
    history[:, -1] = 7, -7
    low, high = (unscale(np.full((2, 5), side), scale(history, SCALING)) for side in (-1.0, 1.0))
    assert (low < history[:, -1:]).all()
    assert (high > history[:, -1:]).all()


def test_a_history_that_ended_before_smoothing_looks_back_is_forecast_by_its_last_value():
    history = np.full((1, 600), np.nan)
    history[0, :50] = np.arange(50.0) + 1
    forecast = unscale(
        np.zeros((1, 5)), scale(history, replace(SCALING, context=600, season=False))
    )
    np.testing.assert_allclose(forecast, [[50.0] * 5], rtol=1e-12)


def test_what_never_moved_is_forecast_to_stay():
    history = np.array([np.full(64, 3.5), np.zeros(64), np.full(64, -2.0)])
    forecast = unscale(np.ones((3, 5)), scale(history, SCALING))
    np.testing.assert_allclose(forecast, [[3.5] * 5, [0] * 5, [-2] * 5], rtol=1e-12)


@given(seed=st.integers(0, 2**32 - 1), rows=st.permutations(range(6)))
def test_rows_do_not_meet(seed, rows):
    history = histories(seed)
    for one, other in zip(scale(history, SCALING), scale(history[rows], SCALING), strict=True):
        np.testing.assert_array_equal(one[rows], other)


def test_a_season_comes_back_where_it_belongs():
    season = np.array([0.5, -0.2, 0.1, -0.4])
    history = np.exp(3 + season[np.arange(64) % 4])[None]
    forecast = unscale(np.zeros((1, 5)), scale(history, SCALING))
    np.testing.assert_allclose(forecast, np.exp(3 + season[[0, 1, 2, 3, 0]])[None], rtol=1e-3)
