"""Covariates as columns: at the right step, and nothing of what is not known ahead."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate._series.channels import Channels, Layout, learn_layout
from tidegate._series.windows import Origins
from tidegate.data import Covariate

LENGTHS = (7, 4, 9)


def covariates() -> dict[str, Covariate]:
    rain = [10.0 * i + np.arange(n) for i, n in enumerate(LENGTHS)]
    price = [100.0 * i + np.arange(n + 3.0) for i, n in enumerate(LENGTHS)]
    day = [np.array([f"d{k % 3}" for k in range(n + 3)]) for n in LENGTHS]
    shop = [np.array(["a"]), np.array([""]), np.array(["b"])]
    roles = {"rain": "past", "price": "future", "day": "future", "shop": "static"}
    return {n: Covariate(roles[n], v) for n, v in zip(roles, (rain, price, day, shop), strict=True)}


def test_a_layout_is_read_back_from_json():
    layout = learn_layout(covariates() | {"gap": Covariate("future", [np.zeros(9)] * 3)}, "gap")
    assert Layout.from_facts(json.loads(json.dumps(layout.facts()))) == layout
    assert layout.numbers[layout.gap].name == "gap"


@given(series=st.integers(0, 2), step=st.integers(1, 4), length=st.integers(1, 9))
def test_columns_meet_at_the_origin(series, step, length):
    given_, layout = covariates(), learn_layout(covariates())
    channels = Channels(given_, layout)
    origins = Origins(np.array([series]), np.array([step]))
    past, ahead = channels.history(origins, length), channels.ahead(origins, 3)
    assert past.numbers.shape == (1, length, 2)
    assert ahead.numbers.shape == (1, 3, 1)
    for i, name in enumerate(("rain", "price")):
        number = layout.numbers[i]
        got = past.numbers[0, :, i] * number.spread + number.mean
        before = given_[name].values[series][max(0, step - length) : step]
        np.testing.assert_allclose(got[np.isfinite(got)], before, rtol=1e-4, atol=1e-4)
    price = layout.numbers[1]
    got = ahead.numbers[0, :, 0] * price.spread + price.mean
    np.testing.assert_allclose(got, given_["price"].values[series][step : step + 3], rtol=1e-4)
    names = ("", *layout.categories[0].names)
    got_days = [names[code] for code in ahead.codes[0, :, 0]]
    assert got_days == given_["day"].values[series][step : step + 3].tolist()
    shops = ("", *layout.categories[1].names)
    assert {shops[code] for code in ahead.codes[0, :, 1]} == set(given_["shop"].values[series])


def test_what_is_known_until_now_has_no_place_ahead():
    channels = Channels(covariates(), learn_layout(covariates()))
    origins = Origins(np.array([0, 2]), np.array([3, 3]))
    changed = covariates()
    changed["rain"].values[0][3:] = 1e6
    other = Channels(changed, learn_layout(covariates()))
    for one, two in ((channels.history, other.history), (channels.ahead, other.ahead)):
        for a, b in zip(one(origins, 3), two(origins, 3), strict=True):
            np.testing.assert_array_equal(a, b)


def test_names_never_seen_count_as_missing():
    layout = learn_layout(covariates())
    strange = covariates()
    strange["shop"].values[0][:] = "z"
    codes = Channels(strange, layout).history(Origins(np.array([0, 1]), np.array([2, 2])), 1).codes
    np.testing.assert_array_equal(codes[:, 0, 1], [0, 0])


@pytest.mark.parametrize("entries", [np.full(3, np.nan), np.ones(3)])
def test_a_column_that_says_nothing_is_no_trouble(entries):
    layout = learn_layout({"x": Covariate("past", [entries])})
    assert layout.numbers[0].spread == 1.0
