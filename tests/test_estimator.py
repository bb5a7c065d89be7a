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
@pytest.mark.parametrize("rate", [0.0, -1e-3, float("inf"), float("nan")])
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
def test_half_a_unit_is_refused(fit, name):
    with pytest.raises(ValueError, match=rf"{name} must be (a )?whole numbers?, at least 1, got"):
        fit(**{name: 2.5})
