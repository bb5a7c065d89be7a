"""The plain recurrent network, split and stacked, with its gradients.

    h_t = tanh(W_i x_t + W_h h_{t-1} + b)

`torch.nn.RNN` has two biases, which enter only as their sum; here there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy import concatenate, tanh

if TYPE_CHECKING:
    from jaxtyping import Float

Array = np.ndarray


class RNNGradients(NamedTuple):
    """Gradient of the loss in each argument of `rnn`."""

    x: Array
    h_0: Array
    weight_ih: Array
    weight_hh: Array
    bias: Array


class RNNStackedGradients(NamedTuple):
    """Gradient of the loss in each argument of `rnn_stacked`."""

    x: Array
    h_0: Array
    weight: Array
    bias: Array


def rnn(
    x: Float[Array, "time batch features"],
    h_0: Float[Array, "batch hidden"],
    weight_ih: Float[Array, "hidden features"],
    weight_hh: Float[Array, "hidden hidden"],
    bias: Float[Array, " hidden"],
) -> tuple[Float[Array, "time batch hidden"], Float[Array, "batch hidden"]]:
    """Run the network over `x`; return every state, and the last."""
    h, output = h_0, np.zeros((len(x), *h_0.shape))
    for t in range(len(x)):
        h = output[t] = tanh(x[t] @ weight_ih.T + h @ weight_hh.T + bias)
    return output, h


def rnn_backward(
    x: Float[Array, "time batch features"],
    h_0: Float[Array, "batch hidden"],
    weight_ih: Float[Array, "hidden features"],
    weight_hh: Float[Array, "hidden hidden"],
    bias: Float[Array, " hidden"],
    *,
    d_output: Float[Array, "time batch hidden"],
    d_h_n: Float[Array, "batch hidden"],
) -> RNNGradients:
    """Gradients of `rnn`, given those of its two results."""
    output, _ = rnn(x, h_0, weight_ih, weight_hh, bias)
    d_x, d_h = np.zeros_like(x), d_h_n
    d_weight_ih, d_weight_hh = np.zeros_like(weight_ih), np.zeros_like(weight_hh)
    d_bias = np.zeros_like(bias)
    for t in reversed(range(len(x))):
        h = output[t - 1] if t > 0 else h_0
        d_a = (d_h + d_output[t]) * (1 - output[t] ** 2)
        d_x[t] = d_a @ weight_ih
        d_h = d_a @ weight_hh
        d_weight_ih += d_a.T @ x[t]
        d_weight_hh += d_a.T @ h
        d_bias += d_a.sum(axis=0)
    return RNNGradients(d_x, d_h, d_weight_ih, d_weight_hh, d_bias)


def rnn_stacked(
    x: Float[Array, "time batch features"],
    h_0: Float[Array, "batch hidden"],
    weight: Float[Array, "features+hidden hidden"],
    bias: Float[Array, " hidden"],
) -> tuple[Float[Array, "time batch hidden"], Float[Array, "batch hidden"]]:
    """Run the same network as one product a step, of [x, h] with [W_i; W_h].

    `weight` is `vstack((weight_ih.T, weight_hh.T))`.
    """
    h, output = h_0, np.zeros((len(x), *h_0.shape))
    for t in range(len(x)):
        h = output[t] = tanh(concatenate((x[t], h), axis=1) @ weight + bias)
    return output, h


def rnn_stacked_backward(
    x: Float[Array, "time batch features"],
    h_0: Float[Array, "batch hidden"],
    weight: Float[Array, "features+hidden hidden"],
    bias: Float[Array, " hidden"],
    *,
    d_output: Float[Array, "time batch hidden"],
    d_h_n: Float[Array, "batch hidden"],
) -> RNNStackedGradients:
    """Gradients of `rnn_stacked`, given those of its two results."""
    output, _ = rnn_stacked(x, h_0, weight, bias)
    d_x, d_h = np.zeros_like(x), d_h_n
    d_weight, d_bias = np.zeros_like(weight), np.zeros_like(bias)
    for t in reversed(range(len(x))):
        h = output[t - 1] if t > 0 else h_0
        d_a = (d_h + d_output[t]) * (1 - output[t] ** 2)
        d_x[t], d_h = np.split(d_a @ weight.T, [x.shape[2]], axis=1)
        d_weight += concatenate((x[t], h), axis=1).T @ d_a
        d_bias += d_a.sum(axis=0)
    return RNNStackedGradients(d_x, d_h, d_weight, d_bias)
