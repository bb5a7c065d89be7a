"""Metrics: against utilsforecast where it is installed, and by laws."""

import numpy as np
import pandas as pd
import pytest

from tidegate.forecast import coverage, mase, naive_error, smape, weighted_quantile_loss

SEASON, QUANTILES = 4, [0.1, 0.5, 0.9]


@pytest.fixture
def case() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Histories of different lengths, what came after them, and quantiles forecast."""
    rng = np.random.default_rng(0)
    history = [rng.gamma(2, 10, 20 + 3 * i) for i in range(5)]
    actual = rng.gamma(2, 10, (5, 6))
    return history, actual, np.sort(rng.gamma(2, 10, (5, 6, 3)), -1)


def long(arrays, **columns) -> pd.DataFrame:
    lengths = [len(a) for a in arrays]
    ids = np.repeat(np.arange(len(arrays)), lengths)
    ds = np.concatenate([np.arange(n) for n in lengths])
    return pd.DataFrame({"unique_id": ids, "ds": ds, "y": np.concatenate(arrays), **columns})


def test_match_utilsforecast(case):
    losses = pytest.importorskip("utilsforecast.losses")
    history, actual, forecast = case
    low, median, high = np.moveaxis(forecast, -1, 0)
    df = long(actual, m=median.ravel(), **{"m-lo": low.ravel(), "m-hi": high.ravel()})
    theirs = losses.mase(df, ["m"], SEASON, long(history)).m
    np.testing.assert_allclose(mase(actual, median, naive_error(history, SEASON)), theirs)
    np.testing.assert_allclose(smape(actual, median), 200 * losses.smape(df, ["m"]).m)
    pinball = [
        losses.quantile_loss(df, {"m": name}, q).m.mean()
        for q, name in zip(QUANTILES, ("m-lo", "m", "m-hi"), strict=True)
    ]
    np.testing.assert_allclose(
        weighted_quantile_loss(actual, forecast, QUANTILES),
        2 * np.mean(pinball) / np.abs(actual).mean(),
    )
    inside = (df.y >= df["m-lo"]) & (df.y <= df["m-hi"])
    np.testing.assert_allclose(coverage(actual, low, high), inside.mean())


def test_what_is_not_known_is_left_out(case):
    _, actual, forecast = case
    holes = actual.copy()
    holes[:, 3:] = np.nan
    np.testing.assert_allclose(
        smape(holes, forecast[..., 1]), smape(actual[:, :3], forecast[:, :3, 1])
    )
    low, high = forecast[..., 0], forecast[..., 2]
    assert coverage(holes, low, high) == coverage(actual[:, :3], low[:, :3], high[:, :3])
    assert weighted_quantile_loss(holes, forecast, QUANTILES) == pytest.approx(
        weighted_quantile_loss(actual[:, :3], forecast[:, :3], QUANTILES)
    )


def test_what_cannot_be_measured_is_nan():
    assert np.isnan(naive_error([np.arange(3.0)], 4)).all()
    assert np.isnan(mase(np.ones((1, 2)), np.zeros((1, 2)), np.zeros(1))).all()
    assert smape(np.zeros((1, 2)), np.zeros((1, 2)))[0] == 0
    assert np.isnan(smape(np.full((1, 2), np.nan), np.zeros((1, 2)))[0])


def test_seasonal_naive_of_the_history_has_a_mase_of_one():
    history = np.random.default_rng(0).standard_normal(40)
    forecast = history[None, :-SEASON]
    naive = naive_error([history], SEASON)
    np.testing.assert_allclose(mase(history[None, SEASON:], forecast, naive), 1)
