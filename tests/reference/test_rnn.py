import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import assert_gradients, assert_matches
from tidegate.reference import rnn, rnn_backward, rnn_stacked, rnn_stacked_backward

seed = st.integers(0, 2**32 - 1)
size = st.integers(1, 5)
time = st.integers(0, 6)


def rnn_inputs(seed, time, batch, features, hidden):
    rng = np.random.default_rng(seed)
    shapes = (time, batch, features), (batch, hidden), (hidden, features), (hidden, hidden), hidden
    return [rng.uniform(-1, 1, shape) for shape in shapes]


def test_reproduces_the_tutorial_as_printed():
    # Both forms multiply rows: the printed W1 and W2 are our weights transposed.
    np.random.seed(1)  # noqa: NPY002, the tutorial's generator
    w1, w2, b = np.random.randn(3, 4), np.random.randn(4, 4), np.random.randn(4)  # noqa: NPY002
    x, h_0 = np.random.rand(1, 3), np.zeros((1, 4))  # noqa: NPY002
    assert f"{w1[0, 0]:.8f}" == "1.62434536"
    assert str(x) == "[[0.01936696 0.67883553 0.21162812]]"

    split, _ = rnn(x[None], h_0, w1.T, w2.T, b)
    stacked, _ = rnn_stacked(x[None], h_0, np.vstack((w1, w2)), b)
    printed = "[[ 0.39571463 -0.79928612  0.65952559 -0.87874953]]"
    assert str(split[0]) == printed
    assert str(stacked[0]) == printed


@given(seed, time, size, size, size)
def test_the_stacked_form_is_the_split_form(seed, time, batch, features, hidden):
    x, h_0, weight_ih, weight_hh, bias = rnn_inputs(seed, time, batch, features, hidden)
    weight = np.vstack((weight_ih.T, weight_hh.T))
    d_output, d_h_n = np.cos(np.arange(time * batch * hidden)).reshape(time, batch, hidden), h_0
    for a, b in zip(
        rnn(x, h_0, weight_ih, weight_hh, bias), rnn_stacked(x, h_0, weight, bias), strict=True
    ):
        assert_matches(a, b)
    split = rnn_backward(x, h_0, weight_ih, weight_hh, bias, d_output=d_output, d_h_n=d_h_n)
    stacked = rnn_stacked_backward(x, h_0, weight, bias, d_output=d_output, d_h_n=d_h_n)
    assert_matches(split.x, stacked.x)
    assert_matches(split.h_0, stacked.h_0)
    assert_matches(np.vstack((split.weight_ih.T, split.weight_hh.T)), stacked.weight)
    assert_matches(split.bias, stacked.bias)


@pytest.mark.parametrize("time", [0, 1, 4])
def test_gradients_are_those_of_differences(time):
    arguments = rnn_inputs(0, time, batch=2, features=3, hidden=4)
    rng = np.random.default_rng(1)
    d_output, d_h_n = rng.standard_normal((time, 2, 4)), rng.standard_normal((2, 4))

    def loss(*arguments):
        output, h_n = rnn(*arguments)
        return np.sum(output * d_output) + np.sum(h_n * d_h_n)

    gradients = rnn_backward(*arguments, d_output=d_output, d_h_n=d_h_n)
    assert_gradients(loss, arguments, gradients)


@given(seed, st.integers(1, 6), size, size, size)
def test_agrees_with_torch(seed, time, batch, features, hidden):
    x, h_0, weight_ih, weight_hh, bias = rnn_inputs(seed, time, batch, features, hidden)
    theirs = torch.nn.RNN(features, hidden, dtype=torch.float64)
    parameters = (weight_ih, weight_hh, bias / 4, 3 / 4 * bias)
    with torch.no_grad():
        for parameter, value in zip(theirs.parameters(), parameters, strict=True):
            parameter.copy_(torch.from_numpy(value))
        their_output, their_h_n = theirs(torch.from_numpy(x), torch.from_numpy(h_0)[None])
    output, h_n = rnn(x, h_0, weight_ih, weight_hh, bias)
    assert_matches(output, their_output)
    assert_matches(h_n, their_h_n[0])


@given(seed, st.integers(0, 6))
def test_state_carries_across_a_cut(seed, cut):
    x, h_0, *weights = rnn_inputs(seed, time=6, batch=2, features=3, hidden=4)
    whole, h_n = rnn(x, h_0, *weights)
    head, h_cut = rnn(x[:cut], h_0, *weights)
    tail, h_end = rnn(x[cut:], h_cut, *weights)
    assert_matches(np.concatenate((head, tail)), whole)
    assert_matches(h_end, h_n)
