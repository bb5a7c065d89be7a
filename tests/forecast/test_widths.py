"""Bands are as wide as errors ask that the network has not made itself."""

from dataclasses import replace

import numpy as np
import pytest

from forecast_cases import seasonal_series
from tidegate._series.bands import quantiles_of
from tidegate._series.channels import Channels, Layout
from tidegate._series.inputs import Inputs, make_inputs
from tidegate._series.model import Model, Source
from tidegate._series.paths import random_walk_correlation
from tidegate._series.scale import Scaling, scale_future
from tidegate._series.windows import Windows
from tidegate.forecast._widths import Missed, choose_widths

Z = np.array([-1.96, -1.2816, -0.6745, 0, 0.6745, 1.2816, 1.96])


def by_heart(inputs: Inputs) -> np.ndarray:
    """A network that is sure to err by a hundredth of a scale."""
    rows, horizon = inputs.season.shape
    return np.broadcast_to(0.01 * Z, (rows, horizon, 7))


def source_of(count: int, first: int) -> Source:
    windows = Windows([seasonal_series(first + i, 96) for i in range(count)])
    return Source(windows, Channels({}, Layout()))


@pytest.fixture(scope="module")
def learnt():
    """A model whose network is too sure; the series that it learnt, and windows of them."""
    scaling = Scaling(horizon=6, season_length=12, context=96, input_length=24)
    quantiles = tuple(quantiles_of([50, 80, 95]).tolist())
    walk = random_walk_correlation(6)
    model = Model(scaling, Layout(), [by_heart], quantiles, 1.0, 1.0, np.ones(7), walk)
    source = source_of(40, first=0)
    return model, source, source.windows.draw(70, 400, np.random.default_rng(0))


def test_bands_of_a_network_that_is_too_sure_hold_on_other_series(learnt):
    model, source, everywhere = learnt
    others = source_of(100, first=1000)
    origins = others.windows.ends(6)
    truth = others.windows.future(origins, 6)

    def below(widths: np.ndarray) -> np.ndarray:
        """The share of the truth that is below each quantile, but for the median."""
        answer = replace(model, widths=widths).forecast(others, origins)
        return np.delete((truth[..., None] <= answer).mean((0, 1)), 3)

    right = np.delete(np.array(model.quantiles), 3)
    assert np.abs(below(np.ones(7)) - right).max() > 0.4
    assert np.abs(below(choose_widths(model, source, everywhere, None)) - right).max() < 0.1


@pytest.mark.parametrize(("times", "wider"), [(0.25, 0.25), (1, 1), (3, 3**0.5), (100, 2)])
def test_what_a_trial_at_one_moment_missed_counts_for_half(learnt, times, wider):
    """Its widths and those of the smoothing are averaged, as factors; none counts without limit."""
    model, source, everywhere = learnt
    usual = choose_widths(model, source, everywhere, None)
    (answer,) = model.answers(source, everywhere)
    future = source.windows.future(everywhere, model.scaling.horizon)
    plain = scale_future(future, answer.scaled)
    inputs = make_inputs(answer.scaled, source.channels, everywhere, model.scaling)
    missed = Missed(inputs, times * plain, plain, moments=1)
    found = choose_widths(model, source, everywhere, missed)
    np.testing.assert_allclose(found, np.where(Z == 0, 1, wider * usual), rtol=1e-6)
