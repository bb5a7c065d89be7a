import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import assert_gradients, assert_matches
from tidegate.reference import lstm, lstm_backward, lstm_stacked, lstm_stacked_backward

seed = st.integers(0, 2**32 - 1)
size = st.integers(1, 5)


def lstm_inputs(seed, time, batch, features, hidden):
    rng = np.random.default_rng(seed)
    states, gates = (batch, hidden), 4 * hidden
    shapes = (time, batch, features), states, states, (gates, features), (gates, hidden), gates
    return [rng.uniform(-1, 1, shape) for shape in shapes]


def loss_gradients(seed, time, batch, hidden):
    rng = np.random.default_rng(seed)
    return {
        "d_output": rng.standard_normal((time, batch, hidden)),
        "d_h_n": rng.standard_normal((batch, hidden)),
        "d_c_n": rng.standard_normal((batch, hidden)),
    }


@given(seed, st.integers(0, 6), size, size, size)
def test_the_stacked_form_is_the_split_form(seed, time, batch, features, hidden):
    x, h_0, c_0, weight_ih, weight_hh, bias = lstm_inputs(seed, time, batch, features, hidden)
    weight = np.vstack((weight_ih.T, weight_hh.T))
    for a, b in zip(
        lstm(x, h_0, c_0, weight_ih, weight_hh, bias),
        lstm_stacked(x, h_0, c_0, weight, bias),
        strict=True,
    ):
        assert_matches(a, b)
    d = loss_gradients(seed, time, batch, hidden)
    split = lstm_backward(x, h_0, c_0, weight_ih, weight_hh, bias, **d)
    stacked = lstm_stacked_backward(x, h_0, c_0, weight, bias, **d)
    assert_matches(split.x, stacked.x)
    assert_matches(split.h_0, stacked.h_0)
    assert_matches(split.c_0, stacked.c_0)
    assert_matches(np.vstack((split.weight_ih.T, split.weight_hh.T)), stacked.weight)
    assert_matches(split.bias, stacked.bias)


@pytest.mark.parametrize("time", [0, 1, 4])
def test_gradients_are_those_of_differences(time):
    arguments = lstm_inputs(0, time, batch=2, features=3, hidden=4)
    d = loss_gradients(1, time, batch=2, hidden=4)

    def loss(*arguments):
        return sum(np.sum(a * b) for a, b in zip(lstm(*arguments), d.values(), strict=True))

    assert_gradients(loss, arguments, lstm_backward(*arguments, **d))


@given(seed, st.integers(1, 6), size, size, size)
def test_agrees_with_torch(seed, time, batch, features, hidden):
    x, h_0, c_0, weight_ih, weight_hh, bias = lstm_inputs(seed, time, batch, features, hidden)
    theirs = torch.nn.LSTM(features, hidden, dtype=torch.float64)
    parameters = (weight_ih, weight_hh, bias / 4, 3 / 4 * bias)
    with torch.no_grad():
        for parameter, value in zip(theirs.parameters(), parameters, strict=True):
            parameter.copy_(torch.from_numpy(value))
        states = torch.from_numpy(h_0)[None], torch.from_numpy(c_0)[None]
        their_output, (their_h_n, their_c_n) = theirs(torch.from_numpy(x), states)
    output, h_n, c_n = lstm(x, h_0, c_0, weight_ih, weight_hh, bias)
    assert_matches(output, their_output)
    assert_matches(h_n, their_h_n[0])
    assert_matches(c_n, their_c_n[0])


@given(seed, st.integers(0, 6))
def test_state_carries_across_a_cut(seed, cut):
    x, h_0, c_0, *weights = lstm_inputs(seed, time=6, batch=2, features=3, hidden=4)
    whole, *last = lstm(x, h_0, c_0, *weights)
    head, *cut_states = lstm(x[:cut], h_0, c_0, *weights)
    tail, *end = lstm(x[cut:], *cut_states, *weights)
    assert_matches(np.concatenate((head, tail)), whole)
    assert_matches(end, last)
