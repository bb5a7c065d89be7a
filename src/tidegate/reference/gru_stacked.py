"""The GRU of `gru.py` written as products of the concatenated [x, h] with stacked weights.

    reset="after":   a_r, a_z, x_n, h_n = [x, h] W + b     n = tanh(x_n + r * h_n)
    reset="before":  a_r, a_z = [x, h] W_rz + b_rz         n = tanh([x, r * h] W_n + b_n)
    reset="none":    a_z, a_n = [x, h] W + b               n = tanh(a_n)
    r, z = sigmoid(a_r), sigmoid(a_z)
    h_t = (1 - z) * n + z * h_{t-1}

The rows of W are those of x, then those of h. After the product the reset gate sees only the
state's share of the candidate, so that the two shares need a column block each, with zeros where
the other source would be. `tidegate.weights` stacks and unstacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy import concatenate, tanh

from tidegate.reference._sigmoid import sigmoid

if TYPE_CHECKING:
    from jaxtyping import Float

Array = np.ndarray


class GRUStackedGradients(NamedTuple):
    """Gradient of the loss in each argument of `gru_stacked`.

    Where `weight` has a block of zeros that is no parameter, its gradient means nothing.
    """

    x: Array
    h_0: Array
    weight: Array
    bias: Array


def gru_stacked(
    x: Float[Array, "time batch features"],
    h_0: Float[Array, "batch hidden"],
    weight: Float[Array, "features+hidden gates"],
    bias: Float[Array, " gates"],
    *,
    reset: str = "after",
) -> tuple[Float[Array, "time batch hidden"], Float[Array, "batch hidden"]]:
    """Run the GRU over `x`; return every state, and the last."""
    step, _ = STEPS[reset]
    h, output = h_0, np.zeros((len(x), *h_0.shape))
    for t in range(len(x)):
        h = output[t] = step(x[t], h, weight, bias)
    return output, h


def gru_stacked_backward(
    x: Float[Array, "time batch features"],
    h_0: Float[Array, "batch hidden"],
    weight: Float[Array, "features+hidden gates"],
    bias: Float[Array, " gates"],
    *,
    d_output: Float[Array, "time batch hidden"],
    d_h_n: Float[Array, "batch hidden"],
    reset: str = "after",
) -> GRUStackedGradients:
    """Gradients of `gru_stacked`, given those of its two results."""
    output, _ = gru_stacked(x, h_0, weight, bias, reset=reset)
    _, step_backward = STEPS[reset]
    d_x, d_h = np.zeros_like(x), d_h_n
    d_weight, d_bias = np.zeros_like(weight), np.zeros_like(bias)
    for t in reversed(range(len(x))):
        h = output[t - 1] if t > 0 else h_0
        d = step_backward(x[t], h, weight, bias, d_h + d_output[t])
        d_x[t], d_h = d.x, d.h_0
        d_weight += d.weight
        d_bias += d.bias
    return GRUStackedGradients(d_x, d_h, d_weight, d_bias)


def _after(x: Array, h: Array, weight: Array, bias: Array) -> Array:
    a_r, a_z, x_n, h_n = np.split(concatenate((x, h), axis=1) @ weight + bias, 4, axis=1)
    r = sigmoid(a_r)
    z = sigmoid(a_z)
    n = tanh(x_n + r * h_n)
    return (1 - z) * n + z * h


def _after_backward(
    x: Array, h: Array, weight: Array, bias: Array, d_h_t: Array
) -> GRUStackedGradients:
    xh = concatenate((x, h), axis=1)
    a_r, a_z, x_n, h_n = np.split(xh @ weight + bias, 4, axis=1)
    r, z = sigmoid(a_r), sigmoid(a_z)
    n = tanh(x_n + r * h_n)
    d_a_n = d_h_t * (1 - z) * (1 - n**2)
    d_a_z = d_h_t * (h - n) * z * (1 - z)
    d_a_r = d_a_n * h_n * r * (1 - r)
    d_a = concatenate((d_a_r, d_a_z, d_a_n, d_a_n * r), axis=1)
    d_x, d_h = np.split(d_a @ weight.T, [x.shape[1]], axis=1)
    return GRUStackedGradients(d_x, d_h_t * z + d_h, xh.T @ d_a, d_a.sum(axis=0))


def _before(x: Array, h: Array, weight: Array, bias: Array) -> Array:
    r_z = [2 * h.shape[1]]
    (w_rz, w_n), (b_rz, b_n) = np.split(weight, r_z, axis=1), np.split(bias, r_z)
    a_r, a_z = np.split(concatenate((x, h), axis=1) @ w_rz + b_rz, 2, axis=1)
    r = sigmoid(a_r)
    z = sigmoid(a_z)
    n = tanh(concatenate((x, r * h), axis=1) @ w_n + b_n)
    return (1 - z) * n + z * h


def _before_backward(
    x: Array, h: Array, weight: Array, bias: Array, d_h_t: Array
) -> GRUStackedGradients:
    r_z, features = [2 * h.shape[1]], [x.shape[1]]
    (w_rz, w_n), (b_rz, b_n) = np.split(weight, r_z, axis=1), np.split(bias, r_z)
    xh = concatenate((x, h), axis=1)
    r, z = np.split(sigmoid(xh @ w_rz + b_rz), 2, axis=1)
    x_reset_h = concatenate((x, r * h), axis=1)
    n = tanh(x_reset_h @ w_n + b_n)
    d_a_n = d_h_t * (1 - z) * (1 - n**2)
    d_a_z = d_h_t * (h - n) * z * (1 - z)
    d_x_n, d_reset_h = np.split(d_a_n @ w_n.T, features, axis=1)
    d_a_r = d_reset_h * h * r * (1 - r)
    d_a_rz = concatenate((d_a_r, d_a_z), axis=1)
    d_x_rz, d_h_rz = np.split(d_a_rz @ w_rz.T, features, axis=1)
    return GRUStackedGradients(
        x=d_x_rz + d_x_n,
        h_0=d_h_t * z + d_h_rz + d_reset_h * r,
        weight=concatenate((xh.T @ d_a_rz, x_reset_h.T @ d_a_n), axis=1),
        bias=concatenate((d_a_rz, d_a_n), axis=1).sum(axis=0),
    )


def _none(x: Array, h: Array, weight: Array, bias: Array) -> Array:
    a_z, a_n = np.split(concatenate((x, h), axis=1) @ weight + bias, 2, axis=1)
    z = sigmoid(a_z)
    n = tanh(a_n)
    return (1 - z) * n + z * h


def _none_backward(
    x: Array, h: Array, weight: Array, bias: Array, d_h_t: Array
) -> GRUStackedGradients:
    xh = concatenate((x, h), axis=1)
    a_z, a_n = np.split(xh @ weight + bias, 2, axis=1)
    z, n = sigmoid(a_z), tanh(a_n)
    d_a_n = d_h_t * (1 - z) * (1 - n**2)
    d_a_z = d_h_t * (h - n) * z * (1 - z)
    d_a = concatenate((d_a_z, d_a_n), axis=1)
    d_x, d_h = np.split(d_a @ weight.T, [x.shape[1]], axis=1)
    return GRUStackedGradients(d_x, d_h_t * z + d_h, xh.T @ d_a, d_a.sum(axis=0))


STEPS = {
    "after": (_after, _after_backward),
    "before": (_before, _before_backward),
    "none": (_none, _none_backward),
}
