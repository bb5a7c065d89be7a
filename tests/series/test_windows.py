"""Windows: what lies before an origin and what comes after, and nothing of other series."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tidegate._series.windows import Origins, Windows

lengths = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def panel(lengths: list[int]) -> list[np.ndarray]:
    return [100.0 * i + np.arange(length) for i, length in enumerate(lengths)]


@given(lengths=lengths, context=st.integers(1, 9), horizon=st.integers(1, 9))
def test_history_and_future_meet_at_the_origin(lengths, context, horizon):
    values = panel(lengths)
    origins = Windows(values).draw(0, 10**6, np.random.default_rng(0))
    history = Windows(values).history(origins, context)
    future = Windows(values).future(origins, horizon)
    assert len(origins.series) == sum(lengths)
    for row, (series, step) in enumerate(zip(*origins, strict=True)):
        before, after = values[series][:step], values[series][step:]
        known = history[row][np.isfinite(history[row])]
        np.testing.assert_array_equal(known, before[max(0, step - context) :])
        known = future[row][np.isfinite(future[row])]
        np.testing.assert_array_equal(known, after[:horizon])


@given(lengths=lengths, least=st.integers(0, 5), most=st.integers(1, 20))
def test_drawn_origins_keep_their_distances(lengths, least, most):
    windows = Windows(panel(lengths))
    origins = windows.draw(least, most, np.random.default_rng(0))
    possible = sum(max(0, length - least) for length in lengths)
    assert len(origins.series) == min(possible, most)
    assert (origins.step >= least).all()
    assert (origins.step < windows.lengths[origins.series]).all()
    assert len(set(zip(*map(np.ndarray.tolist, origins), strict=True))) == len(origins.series)


def test_ends_leave_short_series_out():
    origins = Windows(panel([3, 8, 5])).ends(4)
    np.testing.assert_array_equal(origins.series, [1, 2])
    np.testing.assert_array_equal(origins.step, [4, 1])


def test_missing_values_are_not_known():
    windows = Windows([np.array([np.nan, 1.0, np.nan, 2.0]), np.array([3.0, 4.0])])
    origins = Origins(np.array([0, 0, 0, 1]), np.array([1, 2, 4, 2]))
    np.testing.assert_array_equal(windows.known_before(origins, 1), [False, True, True, True])
    np.testing.assert_array_equal(windows.known_before(origins, 2), [False, False, True, True])
    np.testing.assert_array_equal(windows.known_before(origins, 1, 1), [False, True, True, True])
    np.testing.assert_array_equal(windows.known_before(origins, 2, 2), [False, False, False, True])


def test_a_history_of_missing_values_begins_with_the_last_one_that_is_known():
    windows = Windows([np.array([1.0, 2.0, np.nan, np.nan, np.nan]), np.array([np.nan, 3.0])])
    origins = Origins(np.array([0, 0, 1]), np.array([5, 4, 1]))
    wanted = [[2.0, np.nan, np.nan], [2.0, np.nan, np.nan], [np.nan] * 3]
    np.testing.assert_array_equal(windows.history(origins, 3)[[0]], wanted[:1])
    np.testing.assert_array_equal(windows.history(origins, 2), [row[:2] for row in wanted])
