"""The minGRU of Feng et al. 2024 (arXiv:2410.01201), with its gradients.

    z = sigmoid(W_z x + b_z)                         update gate
    n = W_n x + b_n                                  candidate; candidate="linear"
    n = g(W_n x + b_n)                               candidate; candidate="positive"
    h_t = (1 - z) * h_{t-1} + z * n
    g(a) = a + 1/2 for a >= 0, sigmoid(a) below      the paper's, which keeps states positive

The convention is the paper's, and the opposite of the GRU's here: z near one admits the new. Gates
are stacked z, n. Neither sees the state, so that h is a sum of candidates with weights that are
known before the recurrence begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tidegate.reference._sigmoid import sigmoid

if TYPE_CHECKING:
    from jaxtyping import Float, Int

Array = np.ndarray


class MinGRUResult(NamedTuple):
    """Every state, each row's last state, and the gates z, n (gate, time, batch, hidden)."""

    output: Array
    h_n: Array
    gates: Array


class MinGRUGradients(NamedTuple):
    """Gradient of the loss in each argument of `min_gru`."""

    x: Array
    h_0: Array
    weight: Array
    bias: Array
    keep: Array | None


def min_gru_step(
    x: Float[Array, "batch features"],
    h: Float[Array, "batch hidden"],
    weight: Float[Array, "gates features"],
    bias: Float[Array, " gates"],
    *,
    candidate: str = "linear",
) -> tuple[Float[Array, "batch hidden"], Float[Array, "2 batch hidden"]]:
    """One step: the new state, and the gates."""
    x_z, x_n = np.split(x @ weight.T + bias, 2, axis=1)
    z = sigmoid(x_z)
    n = x_n if candidate == "linear" else _g(x_n)
    return (1 - z) * h + z * n, np.stack([z, n])


def min_gru(
    x: Float[Array, "time batch features"],
    h_0: Float[Array, "batch hidden"],
    weight: Float[Array, "gates features"],
    bias: Float[Array, " gates"],
    *,
    candidate: str = "linear",
    keep: Float[Array, "time batch ..."] | None = None,
    lengths: Int[Array, " batch"] | None = None,
    reverse: bool = False,
) -> MinGRUResult:
    """Run it over `x`. `keep`, `lengths` and `reverse` are as in `reference.gru`."""
    time, batch, _ = x.shape
    output, gates = np.zeros((time, *h_0.shape)), np.zeros((2, time, *h_0.shape))
    h_n = h_0.copy()
    for row, t in _walk(time, batch, lengths, reverse):
        factor = 1.0 if keep is None else keep[t, row]
        step = min_gru_step(x[t, [row]], factor * h_n[[row]], weight, bias, candidate=candidate)
        h_n[row], gates[:, t, row] = step[0][0], step[1][:, 0]
        output[t, row] = h_n[row]
    return MinGRUResult(output, h_n, gates)


def min_gru_backward(
    x: Float[Array, "time batch features"],
    h_0: Float[Array, "batch hidden"],
    weight: Float[Array, "gates features"],
    bias: Float[Array, " gates"],
    *,
    d_output: Float[Array, "time batch hidden"],
    d_h_n: Float[Array, "batch hidden"],
    candidate: str = "linear",
    keep: Float[Array, "time batch ..."] | None = None,
    lengths: Int[Array, " batch"] | None = None,
    reverse: bool = False,
) -> MinGRUGradients:
    """Gradients in each argument, from those of every state and of the last."""
    time, batch, _ = x.shape
    output, _, (z, n) = min_gru(
        x, h_0, weight, bias, candidate=candidate, keep=keep, lengths=lengths, reverse=reverse
    )
    d_x, d_h = np.zeros_like(x), d_h_n.copy()
    d_weight, d_bias = np.zeros_like(weight), np.zeros_like(bias)
    d_keep = np.zeros_like(output)
    first = dict(reversed(_walk(time, batch, lengths, reverse)))
    for row, t in reversed(_walk(time, batch, lengths, reverse)):
        before = h_0[row] if t == first[row] else output[t + 1 if reverse else t - 1, row]
        factor = 1.0 if keep is None else keep[t, row]
        d = d_h[row] + d_output[t, row]
        d_z, d_n = d * (n[t, row] - factor * before), d * z[t, row]
        slope = np.ones_like(d)
        if candidate == "positive":
            below = x[t, row] @ weight[len(d) :].T + bias[len(d) :] < 0
            slope = np.where(below, n[t, row] * (1 - n[t, row]), 1)
        d_a = np.concatenate([d_z * z[t, row] * (1 - z[t, row]), d_n * slope])
        d_x[t, row] = d_a @ weight
        d_weight += np.outer(d_a, x[t, row])
        d_bias += d_a
        d_keep[t, row] = d * (1 - z[t, row]) * before
        d_h[row] = d * (1 - z[t, row]) * factor
    if keep is None:
        return MinGRUGradients(d_x, d_h, d_weight, d_bias, None)
    return MinGRUGradients(d_x, d_h, d_weight, d_bias, d_keep.sum(2) if keep.ndim == 2 else d_keep)


def _g(a: Array) -> Array:
    return np.where(a >= 0, a + 0.5, sigmoid(a))


def _walk(time: int, batch: int, lengths: Array | None, reverse: bool) -> list[tuple[int, int]]:
    """(row, step) in the order in which steps are taken."""
    ends = [time] * batch if lengths is None else [int(length) for length in lengths]
    return [
        (row, end - 1 - k if reverse else k) for row, end in enumerate(ends) for k in range(end)
    ]
