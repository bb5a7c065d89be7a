"""sktime's own checks of a forecaster, run on ours."""

import warnings

import pytest

pytest.importorskip("sktime")


@pytest.mark.timeout(900)
def test_every_check_of_sktime_passes():
    from sktime.utils.estimator_checks import check_estimator

    from tidegate.forecast.sktime import TidegateForecaster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(TidegateForecaster, raise_exceptions=False, verbose=False)
    failed = {name: result for name, result in results.items() if result != "PASSED"}
    assert len(results) > 100
    assert failed == {}
