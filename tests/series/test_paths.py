"""Paths have the quantiles that they are drawn from, and go together as errors did."""

import numpy as np

from tidegate._series.paths import draw_paths, learn_correlation, random_walk_correlation

QUANTILES = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
NORMAL = np.array([-1.96, -1.2816, -0.6745, 0.0, 0.6745, 1.2816, 1.96])


def walks(rows: int, horizon: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(0).standard_normal((rows, horizon)), 1)


def walk_quantiles(rows: int, horizon: int) -> np.ndarray:
    spread = np.sqrt(np.arange(1.0, horizon + 1))
    return np.broadcast_to(spread[:, None] * NORMAL, (rows, horizon, len(NORMAL)))


def test_the_correlation_of_a_random_walk_is_found():
    found = learn_correlation(walk_quantiles(3000, 6), walks(3000, 6), QUANTILES)
    np.testing.assert_allclose(found, random_walk_correlation(6), atol=0.05)
    assert (np.linalg.eigvalsh(found) > -1e-9).all()


def test_each_step_has_its_quantiles():
    paths = draw_paths(
        walk_quantiles(1, 4), QUANTILES, random_walk_correlation(4), 20000, np.random.default_rng(1)
    )
    got = np.quantile(paths[0], QUANTILES, axis=0).T
    np.testing.assert_allclose(got, walk_quantiles(1, 4)[0], atol=0.12)


def test_sums_have_the_spread_of_sums():
    """Of a random walk the sum spreads far more than steps that know nothing of each other."""
    answer = walk_quantiles(1, 8)
    rng = np.random.default_rng(2)
    together = draw_paths(answer, QUANTILES, random_walk_correlation(8), 4000, rng).sum(2).std()
    apart = draw_paths(answer, QUANTILES, np.eye(8), 4000, rng).sum(2).std()
    true = walks(20000, 8).sum(1).std()
    assert abs(together / true - 1) < 0.08
    assert apart < 0.7 * true


def test_too_little_to_measure_leaves_the_random_walk():
    truth = np.full((5, 3), np.nan)
    found = learn_correlation(walk_quantiles(5, 3), truth, QUANTILES)
    np.testing.assert_array_equal(found, random_walk_correlation(3))


def test_a_median_alone_can_be_drawn_from():
    paths = draw_paths(np.full((2, 3, 1), 5.0), (0.5,), np.eye(3), 2, np.random.default_rng(0))
    assert (paths == 5.0).all()
