"""Each layout is run by its own library's formula, written here as that library documents it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy import concatenate, tanh

from helpers import assert_matches, gru_inputs
from tidegate import weights as tw
from tidegate.errors import InputError
from tidegate.reference import gru, gru_stacked

seed = st.integers(0, 2**32 - 1)
size = st.integers(1, 6)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def keras_after(params, x, h):
    kernel, recurrent_kernel, bias = params
    x_z, x_r, x_h = np.split(x @ kernel + bias[0], 3, axis=-1)
    h_z, h_r, h_h = np.split(h @ recurrent_kernel + bias[1], 3, axis=-1)
    z = sigmoid(x_z + h_z)
    r = sigmoid(x_r + h_r)
    return z * h + (1 - z) * tanh(x_h + r * h_h)


def keras_before(params, x, h):
    kernel, recurrent_kernel, bias = params
    units = h.shape[-1]
    x_z, x_r, x_h = np.split(x @ kernel + bias, 3, axis=-1)
    z = sigmoid(x_z + h @ recurrent_kernel[:, :units])
    r = sigmoid(x_r + h @ recurrent_kernel[:, units : 2 * units])
    return z * h + (1 - z) * tanh(x_h + (r * h) @ recurrent_kernel[:, 2 * units :])


def onnx(linear_before_reset):
    def step(params, x, h):
        w, r, b = (array[0] for array in params)
        (w_z, w_r, w_h), (r_z, r_r, r_h) = np.split(w, 3), np.split(r, 3)
        wb_z, wb_r, wb_h, rb_z, rb_r, rb_h = np.split(b, 6)
        z = sigmoid(x @ w_z.T + h @ r_z.T + wb_z + rb_z)
        r = sigmoid(x @ w_r.T + h @ r_r.T + wb_r + rb_r)
        if linear_before_reset:
            new = tanh(x @ w_h.T + r * (h @ r_h.T + rb_h) + wb_h)
        else:
            new = tanh(x @ w_h.T + (r * h) @ r_h.T + rb_h + wb_h)
        return (1 - z) * new + z * h

    return step


def haste(params, x, h):
    kernel, recurrent_kernel, bias, recurrent_bias = params
    return keras_after((kernel, recurrent_kernel, np.stack((bias, recurrent_bias))), x, h)


def linen(params, x, h):
    def dense(name, inputs):
        return inputs @ params[name]["kernel"] + params[name].get("bias", 0)

    r = sigmoid(dense("ir", x) + dense("hr", h))
    z = sigmoid(dense("iz", x) + dense("hz", h))
    n = tanh(dense("in", x) + r * dense("hn", h))
    return (1 - z) * n + z * h


def nnx(params, x, h):
    dense_i_kernel, dense_i_bias, dense_h_kernel = params
    x_r, x_z, x_n = np.split(x @ dense_i_kernel + dense_i_bias, 3, axis=-1)
    h_r, h_z, h_n = np.split(h @ dense_h_kernel, 3, axis=-1)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    n = tanh(x_n + r * h_n)
    return (1 - z) * n + z * h


def equinox(params, x, h):
    weight_ih, weight_hh, bias, bias_n = params
    x_r, x_z, x_n = np.split(x @ weight_ih.T + bias, 3, axis=-1)
    h_r, h_z, h_n = np.split(h @ weight_hh.T, 3, axis=-1)
    reset = sigmoid(x_r + h_r)
    inp = sigmoid(x_z + h_z)
    new = tanh(x_n + reset * (h_n + bias_n))
    return new + inp * (h - new)


def tf1(params, x, h):
    gates_kernel, gates_bias, candidate_kernel, candidate_bias = params
    value = sigmoid(concatenate((x, h), axis=1) @ gates_kernel + gates_bias)
    r, u = np.split(value, 2, axis=1)
    c = tanh(concatenate((x, r * h), axis=1) @ candidate_kernel + candidate_bias)
    return u * h + (1 - u) * c


def ng(params, x, h):
    """Columns are examples, as in the course."""
    x, c_prev = x.T, h.T
    both = concatenate((c_prev, x))
    gamma_u = sigmoid(params.w_u @ both + params.b_u)
    if params.w_r is None:
        c_tilde = tanh(params.w_c @ both + params.b_c)
    else:
        gamma_r = sigmoid(params.w_r @ both + params.b_r)
        c_tilde = tanh(params.w_c @ concatenate((gamma_r * c_prev, x)) + params.b_c)
    return (gamma_u * c_tilde + (1 - gamma_u) * c_prev).T


def stacked(reset):
    return lambda params, x, h: gru_stacked(x[None], h, *params, reset=reset)[1]


@dataclass(frozen=True)
class Layout:
    reset: str
    write: Callable  # GRUWeights -> params
    read: Callable  # params -> GRUWeights
    step: Callable  # params, x, h -> h


LAYOUTS = {
    "keras after": Layout(
        "after", tw.to_keras, lambda p: tw.from_keras(*p, reset_after=True), keras_after
    ),
    "keras before": Layout(
        "before", tw.to_keras, lambda p: tw.from_keras(*p, reset_after=False), keras_before
    ),
    "onnx after": Layout(
        "after", tw.to_onnx, lambda p: tw.from_onnx(*p, linear_before_reset=1)[0], onnx(1)
    ),
    "onnx before": Layout(
        "before", tw.to_onnx, lambda p: tw.from_onnx(*p, linear_before_reset=0)[0], onnx(0)
    ),
    "haste": Layout("after", tw.to_haste, lambda p: tw.from_haste(*p), haste),
    "flax.linen": Layout("after", tw.to_linen, tw.from_linen, linen),
    "flax.nnx": Layout("after", tw.to_nnx, lambda p: tw.from_nnx(*p), nnx),
    "equinox": Layout("after", tw.to_equinox, lambda p: tw.from_equinox(*p), equinox),
    "tf1": Layout("before", tw.to_tf1, lambda p: tw.from_tf1(*p), tf1),
    "ng": Layout("before", tw.to_ng, lambda p: tw.from_ng(*p), ng),
    "ng simplified": Layout("none", tw.to_ng, lambda p: tw.from_ng(*p), ng),
    **{
        f"stacked {reset}": Layout(
            reset,
            tw.to_stacked,
            lambda p, reset=reset: tw.from_stacked(*p, reset=reset),
            stacked(reset),
        )
        for reset in ("after", "before", "none")
    },
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def draw(layout, seed, batch=2, features=3, hidden=4):
    """Inputs of three steps, and weights that the layout can say."""
    x, h_0, *arrays = gru_inputs(seed, 3, batch, features, hidden, reset=layout.reset)
    if layout is LAYOUTS["flax.nnx"]:
        arrays[3][2 * hidden :] = 0
    return x, h_0, tw.GRUWeights(*arrays, reset=layout.reset)


@every_layout
@given(seed, size, size, size)
def test_the_librarys_own_formula_computes_the_same(layout, seed, batch, features, hidden):
    x, h_0, weights = draw(layout, seed, batch, features, hidden)
    params, h = layout.write(weights), h_0
    for x_t in x:
        h = layout.step(params, x_t, h)
    assert_matches(h, gru(x, h_0, *weights.arrays, reset=layout.reset).h_n)


@every_layout
@given(seed, size, size, size)
def test_a_round_trip_keeps_the_function_and_the_librarys_numbers(
    layout, seed, batch, features, hidden
):
    x, h_0, weights = draw(layout, seed, batch, features, hidden)
    params = layout.write(weights)
    back = layout.read(params)
    assert back.reset == layout.reset
    ours, theirs = (gru(x, h_0, *w.arrays, reset=layout.reset) for w in (weights, back))
    assert_matches(theirs.output, ours.output)
    for before, after in zip(leaves(params), leaves(layout.write(back)), strict=True):
        assert np.array_equal(before, after)


def leaves(params):
    """Every array of nested dicts and tuples."""
    if params is None or isinstance(params, np.ndarray):
        return [] if params is None else [params]
    children = params.values() if isinstance(params, dict) else params
    return [leaf for child in children for leaf in leaves(child)]


@every_layout
def test_dtype_is_kept(layout):
    _, _, weights = draw(layout, 0)
    single = tw.GRUWeights(*(a.astype(np.float32) for a in weights.arrays), reset=layout.reset)
    params = layout.write(single)
    assert {leaf.dtype for leaf in leaves(params)} == {np.dtype(np.float32)}
    assert {array.dtype for array in layout.read(params).arrays} == {np.dtype(np.float32)}


REFUSED = [
    (tw.to_keras, ["none"]),
    (tw.to_onnx, ["none"]),
    (tw.to_haste, ["before", "none"]),
    (tw.to_linen, ["before", "none"]),
    (tw.to_nnx, ["before", "none"]),
    (tw.to_equinox, ["before", "none"]),
    (tw.to_tf1, ["after", "none"]),
    (tw.to_ng, ["after"]),
]


@pytest.mark.parametrize(("write", "resets"), REFUSED)
def test_a_reset_that_the_target_does_not_have_is_refused(write, resets):
    for reset in resets:
        weights = tw.GRUWeights(*gru_inputs(0, 1, 1, 3, 4, reset=reset)[2:], reset=reset)
        with pytest.raises(InputError, match=f"has reset .* only, and the weights '{reset}'"):
            write(weights)


def test_what_the_target_cannot_hold_is_refused():
    _, _, weights = draw(LAYOUTS["equinox"], 0)
    with pytest.raises(InputError, match="no bias inside the reset product"):
        tw.to_nnx(weights)
    with pytest.raises(InputError, match="first direction"):
        tw.to_onnx(weights, replace(weights, reset="before"))
    weight, bias = tw.to_stacked(weights)
    with pytest.raises(InputError, match="where x meets"):
        tw.from_stacked(weight + 1, bias, reset="after")


@every_layout
def test_a_wrong_shape_is_refused(layout):
    """Any one array with any axis one short, unless the layout has nothing to compare it with."""
    _, _, weights = draw(layout, 0, features=7, hidden=4)
    params = layout.write(weights)
    for leaf in leaves(params):
        for axis, length in enumerate(leaf.shape):
            if length not in (1, 7, 7 + 4):
                with pytest.raises(InputError, match=r"must have shape \(.*\), not \(.*\)"):
                    layout.read(swap(params, leaf, np.delete(leaf, 0, axis)))
        with pytest.raises(InputError, match=r"must have shape \(.*\), not \(.*\)"):
            layout.read(swap(params, leaf, leaf[None]))


def swap(params, old, new):
    """The same tree with another leaf."""
    if params is old:
        return new
    if isinstance(params, dict):
        return {key: swap(value, old, new) for key, value in params.items()}
    if isinstance(params, tuple):
        children = [swap(child, old, new) for child in params]
        return type(params)(*children) if hasattr(params, "_fields") else tuple(children)
    return params


def test_two_onnx_directions_are_two_weights():
    forward, reverse = (tw.GRUWeights(*gru_inputs(seed, 1, 1, 3, 4)[2:]) for seed in (0, 1))
    back = tw.from_onnx(*tw.to_onnx(forward, reverse), linear_before_reset=1)
    for weights, expected in zip(back, (forward, reverse), strict=True):
        for a, b in zip(weights.arrays, expected.arrays, strict=True):
            assert np.array_equal(a, b)


def test_biases_left_out_are_zeros():
    weights = tw.GRUWeights(*gru_inputs(0, 1, 1, 3, 4)[2:4])
    kernel, recurrent_kernel, bias = tw.to_keras(weights)
    assert not bias.any()
    for reset_after in (True, False):
        read = tw.from_keras(kernel, recurrent_kernel, reset_after=reset_after)
        assert not read.bias_ih.any()
        assert not read.bias_hh.any()
    w, r, _ = tw.to_onnx(weights)
    (read,) = tw.from_onnx(w, r, linear_before_reset=1)
    assert not read.bias_hh.any()


def test_ngs_gate_near_one_takes_the_candidate_and_near_zero_keeps_the_past():
    x, h_0, weights = draw(LAYOUTS["ng"], 0)
    params = tw.to_ng(weights)
    for b_u, expected in ((-50, h_0), (50, None)):
        shut = tw.from_ng(*params._replace(b_u=np.full((4, 1), b_u)))
        result = gru(x[:1], h_0, *shut.arrays, reset="before")
        _, _, candidate = result.gates
        assert_matches(result.h_n, candidate[0] if expected is None else expected)


@pytest.mark.parametrize("reset", ["After", "", None])
def test_an_unknown_reset_is_refused(reset):
    with pytest.raises(InputError, match="reset must be"):
        tw.GRUWeights(np.ones((3, 1)), np.ones((3, 1)), reset=reset)
    with pytest.raises(InputError, match="reset must be"):
        tw.from_stacked(np.ones((3, 3)), np.ones(3), reset=reset)


def test_a_missing_flax_parameter_is_named():
    _, _, weights = draw(LAYOUTS["flax.linen"], 0)
    params = tw.to_linen(weights)
    del params["hn"]["bias"]
    with pytest.raises(InputError, match="lack 'bias'"):
        tw.from_linen(params)
    del params["iz"]
    with pytest.raises(InputError, match="lack 'iz'"):
        tw.from_linen(params)
