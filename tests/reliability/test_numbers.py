"""Numbers of any size, and holes in any place, give finite forecasts or one sentence."""

import numpy as np
import pandas as pd
import pytest

from tidegate.errors import InputError
from tidegate.forecast import GRUForecaster

MONTHS = 48
TIME = np.arange(MONTHS)
NOISE = np.random.default_rng(0)
SERIES = 50 + 10 * np.sin(TIME * np.pi / 6) + NOISE.normal(0, 1, MONTHS)


def frame(*columns):
    dates = pd.date_range("2015-01-01", periods=MONTHS, freq="MS")
    return pd.concat(
        pd.DataFrame({"unique_id": str(i), "ds": dates[: len(y)], "y": y})
        for i, y in enumerate(columns)
    )


def forecast(*columns):
    model = GRUForecaster(3, steps=2, hidden_size=4, num_layers=1, input_length=6)
    answer = model.fit(frame(*columns)).predict()
    return answer[[name for name in answer.columns if name.startswith("GRU")]].to_numpy()


FINITE = {
    "times 1e30": [SERIES * 1e30],
    "times 1e-30": [SERIES * 1e-30],
    "times 1e300": [SERIES * 1e300],
    "subnormal": [SERIES * 5e-323],
    "sixty orders of magnitude in one panel": [SERIES * 1e30, SERIES, SERIES * 1e-30],
    "negative": [-SERIES],
    "of both signs": [SERIES * (-1.0) ** TIME],
    "mostly zero": [np.where(TIME % 7 == 0, SERIES, 0)],
    "constant beside another": [np.full(MONTHS, 3.0), SERIES],
    "zero beside another": [np.zeros(MONTHS), SERIES],
    "a last value of 1e12": [np.r_[SERIES[:-1], 1e12]],
    "a far level": [SERIES + 1e9],
    "a step": [np.where(TIME < 20, 0.0, 1.0)],
    "holes": [np.where(TIME % 5 == 2, np.nan, SERIES)],
    "a hole first": [np.r_[np.nan, SERIES[1:]]],
    "a hole last": [np.r_[SERIES[:-1], np.nan]],
    "one point beside another": [SERIES[:1], SERIES],
    "twelve points": [SERIES[:12]],
    "whole numbers": [SERIES.astype(int)],
    "truth values": [SERIES > 50],
}


@pytest.mark.parametrize("columns", FINITE.values(), ids=FINITE.keys())
def test_forecasts_are_finite(columns):
    assert np.isfinite(forecast(*columns)).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 20, MONTHS - 1])
def test_an_infinite_value_is_named_with_its_row(value, place):
    values = SERIES.copy()
    values[place] = value
    with pytest.raises(InputError, match=rf"'y', series '0', data row {place + 1} is infinite"):
        forecast(values)


def test_a_series_of_holes_alone_is_named():
    with pytest.raises(InputError, match=r"series '0', data row 1 and all others .* are missing"):
        forecast(np.full(MONTHS, np.nan), SERIES)


@pytest.mark.parametrize("power", [-90, 40, 100])
def test_a_power_of_two_passes_through(power):
    """Scaling by a power of two changes no digit of the mantissa."""
    np.testing.assert_allclose(
        forecast(SERIES * 2.0**power), forecast(SERIES) * 2.0**power, rtol=1e-6
    )
