"""A saved classifier answers without torch as it did with it."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch")

from tidegate.classify import GRUClassifier, GRURegressor
from tidegate.errors import InputError
from tidegate.runtime import _classifier, load


def sequences(features: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(n, features)) for n in rng.integers(1, 30, 24)]
    x[3][0, 0] = np.nan
    return x


@pytest.mark.parametrize(
    "options",
    [
        {"members": 2},
        {"pooling": "mean", "num_layers": 2, "stride": 3},
        {"pooling": "last", "bidirectional": False},
        {"pooling": "last", "num_layers": 2},
        {"per_step": True},
        {"cell": "mingru", "num_layers": 2},
        {"cell": "mingru", "pooling": "last", "bidirectional": False},
        {"text": True},
    ],
)
def test_the_runtime_says_what_the_estimator_says(options, tmp_path):
    options = dict(options)
    x, y = sequences(), ["a", "b", "c"] * 8
    if options.pop("text", False):
        x = ["abc" * n for n in range(1, 25)]
    if options.get("per_step"):
        y = [np.where(one[:, 1] > 0, 1, 0) for one in x]
    model = GRUClassifier(hidden_size=5, steps=8, **options).fit(x, y)
    model.save(tmp_path / "m.safetensors")
    runner = load(tmp_path / "m.safetensors")
    for ours, theirs in zip(runner.probabilities(x), model.predict_proba(x), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for ours, theirs in zip(runner(x), model.predict(x), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("per_step", [False, True])
def test_rows_beyond_what_is_answered_at_once_get_the_same_answers(per_step, tmp_path, monkeypatch):
    x = sequences()
    y = [one[:, 1] > 0 for one in x] if per_step else ["a", "b", "c"] * 8
    model = GRUClassifier(hidden_size=5, steps=4, per_step=per_step).fit(x, y)
    model.save(tmp_path / "m.safetensors")
    runner = load(tmp_path / "m.safetensors")
    together = runner.probabilities(x)
    monkeypatch.setattr(_classifier, "_ROWS", 5)  # 24 sequences: four times five, and four
    for few, many in zip(runner.probabilities(x), together, strict=True):
        np.testing.assert_allclose(few, many, atol=1e-6)


def test_a_saved_model_that_has_answered_goes_to_another_process(tmp_path):
    x = sequences()
    GRUClassifier(hidden_size=5, steps=4).fit(x, ["a", "b"] * 12).save(tmp_path / "m.safetensors")
    runner = load(tmp_path / "m.safetensors")
    answers = runner.probabilities(x)
    for again in (pickle.loads(pickle.dumps(runner)), copy.deepcopy(runner)):
        np.testing.assert_array_equal(again.probabilities(x), answers)


@pytest.mark.parametrize("per_step", [False, True])
def test_numbers_too(per_step, tmp_path):
    x = sequences()
    y = [one[:, 1] if per_step else one[0, 1] for one in x]
    model = GRURegressor(hidden_size=5, steps=8, per_step=per_step).fit(x, y)
    model.save(tmp_path / "m.safetensors")
    for ours, theirs in zip(load(tmp_path / "m.safetensors")(x), model.predict(x), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_it_needs_no_torch_and_refuses_what_it_has_not_learnt_from(tmp_path):
    path = tmp_path / "m.safetensors"
    GRUClassifier(hidden_size=5, steps=8).fit(sequences(), ["a", "b"] * 12).save(path)
    script = f"""
import sys
sys.path[:0] = {sys.path}
from tidegate.runtime import load
print(load({str(path)!r})([[[0.0, 1.0]] * 4]).tolist(), "torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() in ("['a'] False", "['b'] False")
    with pytest.raises(InputError, match="x has 3 features at each step"):
        load(path)(sequences(3))
