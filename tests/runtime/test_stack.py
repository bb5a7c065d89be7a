"""Stacks against the equations in float64, and their laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import assert_matches
from runtime_cases import (
    RESETS,
    embedding,
    gru_layer,
    gru_weights,
    layer_norm,
    linear,
    truth,
)
from tidegate.errors import InputError
from tidegate.runtime import GRU, Activation, AddInput, Last, LayerNorm, Linear, Model, Stack
from tidegate.runtime._layers import ACTIVATIONS

size = st.integers(1, 17)


def everything(dtype=np.float32, seed=0) -> Stack:
    """Two directions, another layer, a head, and a connection around them."""
    return Stack(
        [
            layer_norm(seed, 5, dtype),
            gru_layer(seed, 5, 6, dtype, directions=2),
            layer_norm(seed, 12, dtype),
            gru_layer(seed, 12, 7, dtype, "before", reverse=True),
            linear(seed, 7, 3, dtype),
            Activation("elu", 0.5),
            AddInput(3),
        ]
    )


def inputs(*shape, dtype=np.float32, seed=1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 99),
    time=size,
    batch=size,
    features=size,
    hidden=size,
    reset=st.sampled_from(RESETS),
    directions=st.sampled_from([1, 2]),
    final=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_a_layer_and_a_head_match_the_equations(
    seed, time, batch, features, hidden, reset, directions, final, dtype
):
    layer = gru_layer(seed, features, hidden, dtype, reset, directions, final=final)
    stack = Stack([layer, linear(seed, hidden * directions, 5, dtype)])
    x = inputs(time, batch, features, dtype=dtype)
    y = stack(x)
    assert y.dtype == dtype
    assert_matches(y, truth(stack, x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_layer_together_matches_the_equations(dtype):
    stack, x = everything(dtype), inputs(9, 4, 5, dtype=dtype)
    assert_matches(stack(x), truth(stack, x))


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_activation_matches_its_equation(name, dtype):
    stack = Stack([linear(0, 9, 17, dtype), Activation(name, 0.3)])
    x = 5 * inputs(3, 4, 9, dtype=dtype)
    assert_matches(stack(x), truth(stack, x))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_stays_finite_far_out(name):
    x = np.array([-1e4, -200.0, 200.0, 1e4], np.float32)
    assert np.isfinite(Activation(name, 1.0)(x)).all()


def test_whole_numbers_are_looked_up():
    stack = Stack([embedding(0, 11, 4), gru_layer(0, 4, 6), Last(), linear(0, 6, 11)])
    x = np.random.default_rng(0).integers(0, 11, (7, 3))
    assert stack.input_size == 0
    assert_matches(stack(x), truth(stack, x))


def test_the_state_carries_across_a_cut():
    stack = Stack([gru_layer(0, 5, 6), gru_layer(1, 6, 7, reset="none"), linear(2, 7, 3)])
    x = inputs(12, 4, 5)
    whole, ends = stack.run(x)
    for cut in (0, 1, 7, 12):
        head, states = stack.run(x[:cut])
        tail, states = stack.run(x[cut:], states)
        assert_matches(np.concatenate([head, tail]), whole)
        for state, end in zip(states, ends, strict=True):
            assert_matches(state, end)


def test_a_padded_row_gives_what_it_gives_alone():
    lengths = np.array([9, 1, 5])
    x = inputs(9, 3, 5)
    for layers in ([], [Last()]):
        stack = Stack([*everything().layers, *layers])
        y = stack.run(x, lengths=lengths)[0]
        for row, length in enumerate(lengths):
            alone = stack(x[:length, row : row + 1])
            part = y[row] if layers else y[:length, row]
            assert_matches(part, alone[0] if layers else alone[:, 0], eps=16)
            assert layers or not y[length:, row].any()


def test_the_order_of_rows_changes_nothing():
    x, order = inputs(6, 5, 5), [3, 0, 4, 1, 2]
    np.testing.assert_allclose(everything()(x[:, order]), everything()(x)[:, order], rtol=1e-5)


def test_a_model_takes_rows_first_or_one_alone():
    stack, x = everything(), inputs(6, 5, 5)
    y = stack(x)
    rows_first = Model(stack, batch_first=True)(x.swapaxes(0, 1))
    np.testing.assert_array_equal(rows_first, y.swapaxes(0, 1))
    alone, states = Model(stack).run(x[:, 2])
    np.testing.assert_allclose(alone, y[:, 2], rtol=1e-5)
    assert [h.shape for h in states] == [(6,), (6,), (7,)]
    again = Model(stack)(x[:, 2], states)
    np.testing.assert_allclose(again, stack(x[:, 2:3], [h[None] for h in states])[:, 0])


def test_final_states_are_not_the_last_step_where_there_are_two_directions():
    layer = gru_layer(0, 3, 4, directions=2)
    x = inputs(6, 2, 3)
    output, states = Stack([layer]).run(x)
    final = Stack([GRU(layer.directions, final=True)])(x)
    np.testing.assert_array_equal(final, np.concatenate(states, -1))
    np.testing.assert_array_equal(final, np.concatenate([output[-1, :, :4], output[0, :, 4:]], -1))


def test_no_steps_and_no_rows():
    stack = Stack([gru_layer(0, 3, 4), linear(0, 4, 2)])
    assert stack(inputs(0, 2, 3)).shape == (0, 2, 2)
    assert stack(inputs(5, 0, 3)).shape == (5, 0, 2)
    with pytest.raises(InputError, match="x has no steps"):
        Stack([gru_layer(0, 3, 4), Last()])(inputs(0, 2, 3))


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        ([], "a stack needs a layer"),
        ([Activation("tanh")], "a stack needs a layer that has a size"),
        ([gru_layer(0, 3, 4), linear(0, 5, 2)], "a Linear layer takes 5 features, and .* gives 4"),
        ([gru_layer(0, 3, 4), embedding(0, 4, 4)], "an Embedding can only be the first layer"),
        ([gru_layer(0, 3, 4), Last(), Last()], "a Last layer comes after the end of time"),
        ([gru_layer(0, 3, 4, final=True), gru_layer(0, 4, 4)], "a GRU layer comes after the end"),
        ([gru_layer(0, 3, 4), AddInput(4)], "AddInput adds 4 columns, and the input has 3"),
    ],
)
def test_layers_that_do_not_fit_are_refused(layers, sentence):
    with pytest.raises(InputError, match=sentence):
        Stack(layers)


def test_mixed_types_are_refused():
    with pytest.raises(TypeError, match="all float32 or all float64, not float32, float64"):
        Stack([gru_layer(0, 3, 4), linear(0, 4, 2, np.float64)])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Activation("relu6"), "activation must be one of relu, .*, not 'relu6'"),
        (lambda: GRU((), False), "one direction, either way, or two"),
        (lambda: gru_layer(0, 3, 4, directions=2, reverse=True), "one direction, either way"),
        (lambda: GRU((gru_weights(0, 3, 4), gru_weights(0, 3, 5))), "must have equal sizes"),
        (lambda: Linear(np.ones((2, 3)), np.ones(3)), r"bias must have shape \(2,\), not \(3,\)"),
        (lambda: LayerNorm(3, np.ones(2)), r"weight must have shape \(3,\), not \(2,\)"),
    ],
)
def test_a_layer_that_is_none_is_refused(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((inputs(6, 2, 4),), r"x must have shape \(\*, \*, 5\), not \(6, 2, 4\)"),
        ((np.zeros((6, 2, 5), complex),), "x must be numbers, not complex128"),
        ((np.array([["a"]]),), "x must be numbers"),
        ((inputs(6, 2, 5), [np.zeros((2, 6))]), "hx must be states of shapes"),
        ((inputs(6, 2, 5), None, [6, 7]), "lengths must be from 1 to 6, but go from 6 to 7"),
        ((inputs(6, 2, 5), None, [6.0, 6.0]), "lengths must be whole numbers of shape"),
        ((inputs(6, 2, 5), None, [6]), r"lengths must be whole numbers of shape \(2,\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        everything()(*arguments)


@pytest.mark.parametrize("x", [np.array([[11]]), np.array([[-1]]), np.array([[1.0]]), np.array(1)])
def test_whole_numbers_that_are_no_symbols_are_refused(x):
    with pytest.raises(InputError, match="x must be"):
        Stack([embedding(0, 11, 4)])(x)
