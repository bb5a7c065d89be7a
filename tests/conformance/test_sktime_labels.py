"""sktime's own checks of a classifier and a regressor, run on ours."""

import warnings

import pytest

pytest.importorskip("torch")
pytest.importorskip("sktime")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SktimeClassifier", "SktimeRegressor"])
def test_every_check_of_sktime_passes(name):
    from sktime.utils.estimator_checks import check_estimator

    from tidegate.classify import sktime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(getattr(sktime, name), raise_exceptions=False, verbose=False)
    failed = {check: result for check, result in results.items() if result != "PASSED"}
    assert len(results) > 100
    assert failed == {}
