"""The LSTM, split and stacked, with its gradients: for comparison.

    i, f, o = sigmoid(W_i x + W_h h + b)        input, forget and output gate
          g = tanh(W_ig x + W_hg h + b_g)       candidate
        c_t = f * c_{t-1} + i * g
        h_t = o * tanh(c_t)

Gates are stacked i, f, g, o, as in `torch.nn.LSTM`, whose two biases enter only as their sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy import concatenate, tanh

from tidegate.reference._sigmoid import sigmoid

if TYPE_CHECKING:
    from jaxtyping import Float

Array = np.ndarray


class LSTMResult(NamedTuple):
    """Every state, and the last state and cell."""

    output: Array
    h_n: Array
    c_n: Array


class LSTMGradients(NamedTuple):
    """Gradient of the loss in each argument of `lstm`."""

    x: Array
    h_0: Array
    c_0: Array
    weight_ih: Array
    weight_hh: Array
    bias: Array


class LSTMStackedGradients(NamedTuple):
    """Gradient of the loss in each argument of `lstm_stacked`."""

    x: Array
    h_0: Array
    c_0: Array
    weight: Array
    bias: Array


def lstm(
    x: Float[Array, "time batch features"],
    h_0: Float[Array, "batch hidden"],
    c_0: Float[Array, "batch hidden"],
    weight_ih: Float[Array, "gates features"],
    weight_hh: Float[Array, "gates hidden"],
    bias: Float[Array, " gates"],
) -> LSTMResult:
    """Run the LSTM over `x`."""
    h, c, output = h_0, c_0, np.zeros((len(x), *h_0.shape))
    for t in range(len(x)):
        h, c = _cell(x[t] @ weight_ih.T + h @ weight_hh.T + bias, c)
        output[t] = h
    return LSTMResult(output, h, c)


def lstm_backward(
    x: Float[Array, "time batch features"],
    h_0: Float[Array, "batch hidden"],
    c_0: Float[Array, "batch hidden"],
    weight_ih: Float[Array, "gates features"],
    weight_hh: Float[Array, "gates hidden"],
    bias: Float[Array, " gates"],
    *,
    d_output: Float[Array, "time batch hidden"],
    d_h_n: Float[Array, "batch hidden"],
    d_c_n: Float[Array, "batch hidden"],
) -> LSTMGradients:
    """Gradients of `lstm`, given those of its three results."""
    h, c, states = h_0, c_0, []
    for t in range(len(x)):
        a = x[t] @ weight_ih.T + h @ weight_hh.T + bias
        states.append((h, c, a))
        h, c = _cell(a, c)

    d_x, d_h, d_c = np.zeros_like(x), d_h_n, d_c_n
    d_weight_ih, d_weight_hh = np.zeros_like(weight_ih), np.zeros_like(weight_hh)
    d_bias = np.zeros_like(bias)
    for t in reversed(range(len(x))):
        h, c, a = states[t]
        d_a, d_c = _cell_backward(a, c, d_h + d_output[t], d_c)
        d_x[t] = d_a @ weight_ih
        d_h = d_a @ weight_hh
        d_weight_ih += d_a.T @ x[t]
        d_weight_hh += d_a.T @ h
        d_bias += d_a.sum(axis=0)
    return LSTMGradients(d_x, d_h, d_c, d_weight_ih, d_weight_hh, d_bias)


def lstm_stacked(
    x: Float[Array, "time batch features"],
    h_0: Float[Array, "batch hidden"],
    c_0: Float[Array, "batch hidden"],
    weight: Float[Array, "features+hidden gates"],
    bias: Float[Array, " gates"],
) -> LSTMResult:
    """Run the same LSTM as one product a step, of [x, h] with [W_i; W_h].

    `weight` is `vstack((weight_ih.T, weight_hh.T))`.
    """
    h, c, output = h_0, c_0, np.zeros((len(x), *h_0.shape))
    for t in range(len(x)):
        h, c = _cell(concatenate((x[t], h), axis=1) @ weight + bias, c)
        output[t] = h
    return LSTMResult(output, h, c)


def lstm_stacked_backward(
    x: Float[Array, "time batch features"],
    h_0: Float[Array, "batch hidden"],
    c_0: Float[Array, "batch hidden"],
    weight: Float[Array, "features+hidden gates"],
    bias: Float[Array, " gates"],
    *,
    d_output: Float[Array, "time batch hidden"],
    d_h_n: Float[Array, "batch hidden"],
    d_c_n: Float[Array, "batch hidden"],
) -> LSTMStackedGradients:
    """Gradients of `lstm_stacked`, given those of its three results."""
    h, c, states = h_0, c_0, []
    for t in range(len(x)):
        xh = concatenate((x[t], h), axis=1)
        a = xh @ weight + bias
        states.append((xh, c, a))
        h, c = _cell(a, c)

    d_x, d_h, d_c = np.zeros_like(x), d_h_n, d_c_n
    d_weight, d_bias = np.zeros_like(weight), np.zeros_like(bias)
    for t in reversed(range(len(x))):
        xh, c, a = states[t]
        d_a, d_c = _cell_backward(a, c, d_h + d_output[t], d_c)
        d_x[t], d_h = np.split(d_a @ weight.T, [x.shape[2]], axis=1)
        d_weight += xh.T @ d_a
        d_bias += d_a.sum(axis=0)
    return LSTMStackedGradients(d_x, d_h, d_c, d_weight, d_bias)


def _cell(a: Float[Array, "batch gates"], c: Float[Array, "batch hidden"]) -> tuple[Array, Array]:
    """State and cell after a step, from the gates' pre-activations and the cell before it."""
    i, f, g, o = _gates(a)
    c = f * c + i * g
    return o * tanh(c), c


def _cell_backward(
    a: Float[Array, "batch gates"],
    c: Float[Array, "batch hidden"],
    d_h: Float[Array, "batch hidden"],
    d_c: Float[Array, "batch hidden"],
) -> tuple[Array, Array]:
    """Gradients of `_cell` in `a` and `c`, given those of its results."""
    i, f, g, o = _gates(a)
    tanh_c = tanh(f * c + i * g)
    d_c = d_c + d_h * o * (1 - tanh_c**2)
    d_i, d_f, d_g, d_o = d_c * g, d_c * c, d_c * i, d_h * tanh_c
    d_a = (d_i * i * (1 - i), d_f * f * (1 - f), d_g * (1 - g**2), d_o * o * (1 - o))
    return concatenate(d_a, axis=1), d_c * f


def _gates(a: Float[Array, "batch gates"]) -> tuple[Array, Array, Array, Array]:
    """Input gate, forget gate, candidate and output gate."""
    i, f, g, o = np.split(a, 4, axis=1)
    return sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
