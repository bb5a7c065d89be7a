"""scikit-learn's own checks of an estimator, and what does not apply, with the reason."""

import warnings

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import check_estimator

from tidegate.classify import GRUClassifier, GRURegressor

_AXIS = "a row of a 2-D array is a sequence of one feature, not a point of many"
# Checks that ask for what an estimator of sequences is not.
NOT_FOR_SEQUENCES = {
    "check_n_features_in": _AXIS,
    "check_n_features_in_after_fitting": _AXIS + ": sequences may be longer than in training",
    "check_supervised_y_2d": "a 2-D y is a label for each step",
    "check_classifiers_train": _AXIS + ": its last line wants other lengths to be refused",
}


@pytest.mark.parametrize(
    "estimator",
    [
        GRUClassifier(hidden_size=8, steps=60, learning_rate=2e-2),
        GRURegressor(hidden_size=4, steps=9),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_scikit_learns_checks(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the checks' own
        found = check_estimator(
            estimator, on_fail=None, on_skip=None, expected_failed_checks=NOT_FOR_SEQUENCES
        )
    failed = {r["check_name"]: r["exception"] for r in found if r["status"] == "failed"}
    assert not failed
    assert sum(r["status"] == "passed" for r in found) > 30
