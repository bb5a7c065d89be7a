"""What every estimator asks of its arguments before it trains."""

import numpy as np
import pandas as pd
import pytest

from tidegate.classify import GRUClassifier, GRURegressor
from tidegate.errors import InputError
from tidegate.forecast import GRUForecaster
from tidegate.language import LanguageModel

ROWS = np.random.default_rng(0).standard_normal((12, 5))
FRAME = pd.DataFrame({"unique_id": 0, "ds": np.arange(12), "y": ROWS[:, 0]})
FIT = {
    "forecaster": lambda **options: GRUForecaster(2, **options).fit(FRAME),
    "classifier": lambda **options: GRUClassifier(**options).fit(ROWS, ROWS[:, 0] > 0),
    "regressor": lambda **options: GRURegressor(**options).fit(ROWS, ROWS[:, 0]),
    "language": lambda **options: LanguageModel(**options).fit("the tide is in, and out"),
}


@pytest.mark.parametrize("fit", FIT.values(), ids=FIT.keys())
@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, None, "1"])
def test_a_seed_that_starts_no_random_numbers_is_refused(fit, seed):
    with pytest.raises(InputError, match=r"seed must be a whole number from 0 to 4294967295, got"):
        fit(seed=seed)


@pytest.mark.parametrize("fit", FIT.values(), ids=FIT.keys())
@pytest.mark.parametrize("rate", [0.0, -1e-3, float("inf"), float("nan"), "0.1", None])
def test_a_learning_rate_that_moves_nothing_or_all_is_refused(fit, rate):
    with pytest.raises(InputError, match="learning_rate must be finite and more than 0, got"):
        fit(learning_rate=rate)


@pytest.mark.parametrize("fit", FIT.values(), ids=FIT.keys())
def test_numbers_of_numpy_are_numbers(fit, tmp_path):
    """A search over `np.arange` gives them; the model must still go into a file."""
    options = {"hidden_size": 3, "num_layers": 2, "steps": 2, "batch_size": 4, "seed": 1}
    of_numpy = {name: np.int64(value) for name, value in options.items()}
    for name, arguments in {"plain": options, "of_numpy": of_numpy}.items():
        fit(**arguments).save(tmp_path / name)
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "of_numpy").read_bytes()


@pytest.mark.parametrize("fit", FIT.values(), ids=FIT.keys())
@pytest.mark.parametrize("name", ["hidden_size", "num_layers", "steps", "batch_size"])
@pytest.mark.parametrize("value", [2.5, True, "2"])
def test_what_is_no_count_is_refused(fit, name, value):
    with pytest.raises(InputError, match=rf"{name} must be (a )?whole numbers?, at least 1, got"):
        fit(**{name: value})


@pytest.mark.parametrize("fit", FIT.values(), ids=FIT.keys())
def test_a_cell_that_there_is_not_is_refused(fit):
    with pytest.raises(InputError, match=r"cell must be one of gru, .*, got 'transformer'"):
        fit(cell="transformer")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("forecaster", "log"),
        ("forecaster", "calendar"),
        ("classifier", "calibrate"),
        ("regressor", "per_step"),
        ("language", "tied"),
    ],
)
def test_what_is_neither_true_nor_false_is_refused(kind, name):
    with pytest.raises(InputError, match=f"^{name} must be True or False, got 'no'$"):
        FIT[kind](**{name: "no"})


@pytest.mark.parametrize(
    ("kind", "name", "least"),
    [
        ("forecaster", "trust", "from 0 to 1"),
        ("classifier", "dropout", "from 0 to below 1"),
        ("regressor", "held_out", "from 0 to below 1"),
        ("language", "weight_dropout", "from 0 to below 1"),
        ("language", "patience", "finite and at least 0"),
        ("language", "epochs", "finite and more than 0"),
    ],
)
@pytest.mark.parametrize("value", [-1.0, float("nan"), "half"])
def test_a_number_out_of_its_range_is_refused(kind, name, least, value):
    with pytest.raises(InputError, match=f"^{name} must be {least}, got {value!r}$"):
        FIT[kind](**{name: value})
