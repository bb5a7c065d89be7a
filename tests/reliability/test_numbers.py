"""Numbers of any size, and holes in any place, give finite answers or one sentence."""

import numpy as np
import pandas as pd
import pytest
import torch

from helpers import gru_inputs
from tidegate import ops
from tidegate.classify import GRUClassifier, GRURegressor
from tidegate.errors import InputError
from tidegate.forecast import GRUForecaster
from tidegate.nn import GRU
from tidegate.runtime import GRU as RuntimeGRU
from tidegate.runtime import Model, Stack, load
from tidegate.weights import GRUWeights

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


# Sequences (count, time, features) for what labels them.

SEQUENCES = np.random.default_rng(0).standard_normal((12, 9, 2))
LABELS = np.arange(12) % 2
SMALL = {"hidden_size": 4, "steps": 3, "bidirectional": False}


def holes(*place):
    found = SEQUENCES.copy()
    found[place] = np.nan
    return found


READABLE = {
    "times 1e30": SEQUENCES * 1e30,
    "times 1e-30": SEQUENCES * 1e-30,
    "times 1e300": SEQUENCES * 1e300,
    "the largest": np.sign(SEQUENCES) * 1.7e308,
    "subnormal": SEQUENCES * 5e-323,
    "a far level": SEQUENCES + 1e9,
    "sixty orders of magnitude": SEQUENCES * 10.0 ** np.linspace(-30, 30, 12)[:, None, None],
    "constant": np.full_like(SEQUENCES, 3.0),
    "zero": np.zeros_like(SEQUENCES),
    "one step": SEQUENCES[:, :1],
    "a hole first": holes(slice(None), 0),
    "a hole last": holes(slice(None), -1),
    "a sequence of holes": holes(3),
    "a feature of holes": holes(slice(None), slice(None), 0),
    "holes alone": np.full_like(SEQUENCES, np.nan),
}


@pytest.fixture(scope="module")
def labellers(tmp_path_factory):
    """A classifier and a regressor, and each as its file without torch."""
    folder, found = tmp_path_factory.mktemp("models"), []
    for kind in (GRUClassifier, GRURegressor):
        model = kind(**SMALL).fit(SEQUENCES, LABELS)
        model.save(folder / "model.safetensors")
        found.append((model, load(folder / "model.safetensors")))
    return found


def probabilities(model, x):
    return model.predict_proba(x) if isinstance(model, GRUClassifier) else model.predict(x)


@pytest.mark.parametrize("x", READABLE.values(), ids=READABLE.keys())
def test_labels_and_numbers_are_finite(labellers, x):
    for model, file in labellers:
        fitted = type(model)(**SMALL).fit(x, LABELS)
        assert np.isfinite(probabilities(fitted, x)).all()
        assert np.isfinite(fitted.score(x, LABELS))
        assert np.isfinite(probabilities(model, x)).all()
        answers = file.probabilities(list(x)) if hasattr(file, "probabilities") else file(list(x))
        assert np.isfinite(np.stack(answers)).all()
        stream = file.stream()
        assert all(np.isfinite(stream.step(step)).all() for step in x[3])


@pytest.mark.parametrize("place", [(0, 0, 0), (5, 4, 1), (-1, -1, -1)])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_step_is_refused(labellers, place, value):
    x = SEQUENCES.copy()
    x[place] = value
    for model, file in labellers:
        calls = [lambda m=model: type(m)(**SMALL).fit(x, LABELS), lambda m=model: m.predict(x)]
        calls += [lambda f=file: f(list(x)), lambda f=file: f.stream().step(x[place[:2]])]
        for call in calls:
            with pytest.raises(InputError, match="contains infinity; leave missing values as NaN"):
                call()


@pytest.mark.parametrize("size", [1e-320, 1e-30, 0.0, 1e30, 1e300, 1.7e308])
def test_numbers_of_any_size_are_learnt(size):
    y = np.where(LABELS, size, -size)
    model = GRURegressor(**SMALL).fit(SEQUENCES, y)
    assert np.isfinite(model.predict(SEQUENCES)).all()
    assert np.isfinite(model.score(SEQUENCES, y))
    y[4] = np.nan
    with pytest.raises(InputError, match="y contains NaN or infinity"):
        model.fit(SEQUENCES, y)


# Layers: what is past the largest number, or none, reaches its own row from its step on.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-30, 1e30, 3e38])
def test_a_layer_is_finite_forward_and_backward(dtype, size):
    layer = GRU(2, 4, num_layers=2, bidirectional=True).to(dtype)
    x = (torch.from_numpy(np.sign(SEQUENCES)).to(dtype) * size).requires_grad_()
    output, h_n = layer(x)
    (output.sum() + h_n.sum()).backward()
    for numbers in (output, h_n, x.grad, *(p.grad for p in layer.parameters())):
        assert torch.isfinite(numbers).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("step", [0, 4, 8])
def test_what_is_no_number_reaches_its_own_row_from_its_step_on(value, step):
    x, h_0, *weights = gru_inputs(0, 9, 3, 2, 4, np.float32)
    clean, _ = ops.gru(x, h_0, *weights)
    x[step, 1, 0] = value
    found, _ = ops.gru(x, h_0, *weights)
    others = [0, 2]
    np.testing.assert_array_equal(found[:, others], clean[:, others])
    np.testing.assert_array_equal(found[:step, 1], clean[:step, 1])
    if np.isnan(value):
        assert np.isnan(found[step:, 1]).all()
    stream = Model(Stack([RuntimeGRU((GRUWeights(*weights),))])).stream()
    for row in x[:step, 1]:
        stream.step(row)
    with pytest.raises(ValueError, match="x has a number that is not finite in row 0"):
        stream.step(x[step, 1])
