"""Probabilities of the next token obey their laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate._text._sampling import check_sampling, draw, log_softmax, probabilities

LOGITS = st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=40).map(
    lambda numbers: np.array(numbers, np.float32)
)
TEMPERATURES = st.floats(1e-3, 1e3)


@given(
    LOGITS,
    st.just(0.0) | TEMPERATURES,
    st.none() | st.integers(1, 50),
    st.none() | st.floats(0.01, 1),
)
def test_probabilities_are_positive_and_add_up_to_one(logits, temperature, top_k, top_p):
    p = probabilities(logits, temperature, top_k, top_p)
    assert (p >= 0).all()
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert p[logits.argmax()] == p.max()


@given(LOGITS, st.none() | st.integers(1, 50), st.none() | st.floats(0.01, 1))
def test_cold_is_greedy(logits, top_k, top_p):
    greedy = np.eye(len(logits))[logits.argmax()]
    assert (probabilities(logits, 0, top_k, top_p) == greedy).all()
    assert (probabilities(logits, 1.0, top_k=1) == greedy).all()
    best = logits == logits.max()
    assert probabilities(logits, 1e-300)[best].sum() == pytest.approx(1)


@given(LOGITS)
def test_by_themselves_they_are_the_softmax(logits):
    p = np.exp(logits.astype(np.float64) - logits.max())
    np.testing.assert_allclose(probabilities(logits), p / p.sum(), rtol=1e-12)
    np.testing.assert_allclose(np.exp(log_softmax(logits)), p / p.sum(), rtol=1e-12, atol=1e-300)


@given(LOGITS, TEMPERATURES, st.integers(1, 50))
def test_top_k_leaves_the_k_best(logits, temperature, k):
    p = probabilities(logits, temperature, top_k=k)
    assert (p > 0).sum() <= k
    left = np.argsort(-logits, kind="stable")[:k]
    assert p[left].sum() == pytest.approx(1)


@given(LOGITS, st.floats(0.01, 0.999))
def test_top_p_leaves_the_fewest_that_are_enough(logits, share):
    whole, p = probabilities(logits), probabilities(logits, top_p=share)
    left = p > 0
    assert whole[left].sum() >= share - 1e-9
    if left.sum() > 1:
        least = whole[left].min()
        assert whole[left].sum() - least < share + 1e-9


def test_a_token_is_drawn_as_often_as_it_is_likely():
    p = np.array([0.0, 0.25, 0.0, 0.5, 0.25])
    drawn = [draw(p, u) for u in (np.arange(1000) + 0.5) / 1000]
    assert np.bincount(drawn, minlength=5).tolist() == [0, 250, 0, 500, 250]
    assert draw(p, 0.0) == 1
    assert draw(p, np.nextafter(1, 0)) == 4


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((-1, None, None), "temperature"),
        ((1, 0, None), "top_k"),
        ((1, None, 0), "top_p"),
        ((1, None, 2), "top_p"),
        ((float("nan"), None, None), "temperature"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, name):
    with pytest.raises(ValueError, match=f"{name} must be"):
        check_sampling(*arguments)
