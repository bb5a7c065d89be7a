"""A history shorter than all that were learnt from is read with caution."""

from dataclasses import replace

import numpy as np
import pytest

from tidegate._series.bands import quantiles_of
from tidegate._series.channels import Channels, Layout
from tidegate._series.inputs import Inputs
from tidegate._series.model import Model, Source
from tidegate._series.paths import random_walk_correlation
from tidegate._series.scale import Scaling
from tidegate._series.windows import Windows

HORIZON, LEAST, MIDDLE = 6, 14, 3


def wild(inputs: Inputs) -> np.ndarray:
    """A network that is sure to go far from the smoothing."""
    rows, horizon = inputs.season.shape
    far = 10.0 * np.arange(1, horizon + 1)[:, None] + 1e-3 * np.arange(-MIDDLE, MIDDLE + 1)
    return np.broadcast_to(far, (rows, horizon, 2 * MIDDLE + 1))


MODEL = Model(
    Scaling(horizon=HORIZON, season_length=12, context=48, input_length=24),
    Layout(),
    [wild],
    tuple(quantiles_of([50, 80, 95]).tolist()),
    1.0,
    1.0,
    np.ones(2 * MIDDLE + 1),
    random_walk_correlation(HORIZON),
    LEAST,
)


def forecast(model: Model, *series: np.ndarray) -> np.ndarray:
    source = Source(Windows(series), Channels({}, Layout()))
    return model.forecast(source, source.windows.ends())


def growing(count: int, sign: int = 1) -> np.ndarray:
    noise = np.random.default_rng(1).standard_normal(40)
    return (10.0 if sign > 0 else -10.0) + 0.1 * np.arange(40)[:count] + 0.3 * noise[:count]


@pytest.mark.parametrize("sign", [1, -1])  # with logarithms and without
def test_the_fewer_the_values_the_nearer_is_the_forecast_to_the_last(sign):
    series = [growing(count, sign) for count in range(1, LEAST + 1)]
    last = np.array([y[-1] for y in series])
    far = np.abs(forecast(MODEL, *series)[..., MIDDLE] / last[:, None] - 1).max(1)
    assert far[0] < 1e-9
    assert (far[1:4] < 0.1).all()
    assert far[LEAST - 1] > 10 * far[1]


def test_as_many_values_as_were_learnt_from_change_nothing():
    series = [growing(count) for count in (LEAST, LEAST + 1, 40)]
    np.testing.assert_array_equal(
        forecast(MODEL, *series), forecast(replace(MODEL, least=1), *series)
    )


@pytest.mark.parametrize("values", [[5.0], [100.0, 150.0], [-3.0, 4.0, -2.0], [0.0, 0.0, 3.0]])
def test_bands_of_a_few_values_are_those_of_a_random_walk(values):
    answer = forecast(MODEL, np.array(values))[0]
    assert (np.diff(answer, axis=1) >= 0).all()
    assert (answer[:, 0] <= values[-1]).all()
    assert (answer[:, -1] >= values[-1]).all()
    width = answer[:, -1] - answer[:, 0]
    assert width[0] > 0.1 * abs(values[-1])
    assert (np.diff(width) > 0).all()


def test_what_never_moved_stays():
    np.testing.assert_allclose(forecast(MODEL, np.array([7.0, 7.0])), 7.0, rtol=1e-12)
