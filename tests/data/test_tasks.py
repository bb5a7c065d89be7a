"""Tasks of memory: what is asked follows from what was shown, and from nothing later."""

import numpy as np
import pytest

from tidegate.data import tasks


@pytest.mark.parametrize("name", tasks.TASKS)
def test_a_seed_makes_the_same_and_another_does_not(name):
    draw = tasks.TASKS[name]
    one, same, other = draw(4, 30, 1), draw(4, 30, 1), draw(4, 30, 2)
    assert np.array_equal(one.x, same.x)
    assert np.array_equal(one.target, same.target)
    assert not np.array_equal(one.x, other.x)
    assert one.x.dtype == np.float32
    assert one.x.shape[:2] == one.target.shape == one.asked.shape
    assert one.asked.any(1).all()
    if one.classes:
        assert set(np.unique(one.target[one.asked])) <= set(range(one.classes))
        assert one.chance == pytest.approx(np.log(one.classes))


def test_the_answers_are_in_the_sequences():
    x, target, asked, *_ = tasks.adding(50, 21, 3)
    assert (x[..., 1].sum(1) == 2).all()
    np.testing.assert_allclose((x[..., 0] * x[..., 1]).sum(1), target[asked])
    x, target, asked, *_ = tasks.latch(50, 9, 3)
    assert ((x[:, 0, 0] > 0) == target[asked]).all()
    assert (x[:, 1:, 0] == 0).all()
    x, target, *_ = tasks.parity(5, 9, 3)
    assert ((x[..., 0] > 0).cumsum(1) % 2 == target).all()
    x, target, asked, *_ = tasks.delayed_recall(50, 40, 3, distractors=4)
    cue = x[..., -1].argmax(1)
    assert (x[np.arange(50), cue, :8].argmax(1) == target[asked]).all()
    assert (cue < 4).all()
    assert (x[..., :8].sum((1, 2)) == 5).all()


@pytest.mark.parametrize("draw", [tasks.copying, tasks.selective_copying])
def test_what_was_said_is_to_be_said_again_in_order(draw):
    x, target, asked, *_ = draw(20, 25, 0)
    tokens = x.argmax(2)
    for row in range(20):
        said = tokens[row][tokens[row] < 8]
        assert said.tolist() == target[row][asked[row]].tolist()
        assert tokens[row, -10] == 9
    assert asked.sum(1).tolist() == [10] * 20


def test_copying_waits_as_long_as_it_says():
    tokens = tasks.copying(1, 25, 0).x.argmax(2)[0]
    assert len(tokens) - 10 - 10 == 25 - 1


@pytest.mark.parametrize("name", tasks.TASKS)
def test_too_short_a_sequence_is_refused(name):
    with pytest.raises(ValueError, match="length must be at least"):
        tasks.TASKS[name](2, 0)
    with pytest.raises(ValueError, match="count must be at least 1"):
        tasks.TASKS[name](0, 30)
