"""Bands: named as statsforecast names them, as wide as the data showed, never crossing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate._series.bands import (
    blend,
    column_names,
    measure_widths,
    quantiles_of,
    small_sample,
    stretch,
)

LEVELS = (50, 80, 95)


def answers(seed: int, rows: int, width: float = 1.0) -> np.ndarray:
    """Quantiles of a normal distribution of that width, around medians of their own."""
    rng = np.random.default_rng(seed)
    z = np.array([-1.9600, -1.2816, -0.6745, 0, 0.6745, 1.2816, 1.9600])
    return rng.standard_normal((rows, 6, 1)) + width * z


@pytest.mark.parametrize("width", [0.3, 1.0, 4.0])
def test_bands_get_the_width_that_held_the_truth(width):
    quantiles = quantiles_of(LEVELS)
    answer = answers(0, 4000, width)
    error = np.random.default_rng(1).standard_normal((4000, 6))
    truth = answer[..., 3] + error
    stretched = stretch(answer, measure_widths(answer, error, quantiles))
    below = (truth[..., None] <= stretched).mean((0, 1))
    np.testing.assert_allclose(below[[0, 1, 2, 4, 5, 6]], quantiles[[0, 1, 2, 4, 5, 6]], atol=2e-3)
    np.testing.assert_array_equal(stretched[..., 3], answer[..., 3])


def test_where_no_error_is_known_no_width_changes():
    error = np.full((10, 6), np.nan)
    assert (measure_widths(answers(0, 10), error, quantiles_of(LEVELS)) == 1).all()


@given(widths=st.lists(st.floats(0, 100), min_size=7, max_size=7))
def test_no_width_makes_quantiles_cross(widths):
    stretched = stretch(answers(0, 5), np.array(widths))
    assert (np.diff(stretched, axis=-1) >= 0).all()


def test_names_are_those_of_statsforecast():
    models = pytest.importorskip("statsforecast.models")
    theirs = models.SeasonalNaive(season_length=4)
    found = theirs.forecast(np.arange(20.0), h=1, level=[80, 99.5])
    ours = {"mean", *(name.removeprefix("GRU-") for name in column_names("GRU", [80, 99.5]))}
    assert set(found) == ours - {"GRU"}


@pytest.mark.parametrize("levels", [(0,), (100,), (50, 50), (-5, 80)])
def test_levels_out_of_range_are_refused(levels):
    with pytest.raises(ValueError, match="levels"):
        quantiles_of(levels)


def test_widths_are_believed_the_more_the_more_moments_they_were_measured_at():
    measured, usual = np.array([4.0, 1.0, 0.25, 0.0]), np.array([1.0, 0.0, 1.0, 0.0])
    near = [4.0, 1.0, 0.25, 0.0]
    distance = [np.abs(blend(measured, usual, m) - near).sum() for m in (1, 2, 8, 1000)]
    assert distance == sorted(distance, reverse=True)
    assert distance[-1] < 0.01
    assert (blend(np.ones(7), np.ones(7), 3) == 1).all()


def test_a_width_is_measured_within_a_factor_of_the_usual_one():
    found = blend(np.array([1e3, 0.0]), np.ones(2), 10**6)
    np.testing.assert_allclose(found, [4.0, 0.25], rtol=1e-4)


@pytest.mark.parametrize(
    ("freedom", "student"), [(3, [1.638, 3.182]), (5, [1.476, 2.571]), (30, [1.310, 2.042])]
)
def test_a_small_sample_widens_bands_as_students_quantiles_do(freedom, student):
    found = small_sample(np.array([0.025, 0.1, 0.5, 0.9, 0.975]), freedom)
    np.testing.assert_allclose(found[3:] * [1.2816, 1.9600], student, rtol=0.02)
    np.testing.assert_allclose(found, found[::-1])
    assert found[2] == 1
