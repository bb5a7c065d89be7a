"""The gated recurrent unit in its three forms, with its gradients.

    r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)        reset gate
    z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)        update gate
    n = tanh(W_in x + b_in + r * (W_hn h + b_hn))     candidate; reset="after" the product
    n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)     candidate; reset="before" the product
    n = tanh(W_in x + b_in + W_hn h + b_hn)           candidate; reset="none": there is no r
    h_t = (1 - z) * n + z * h_{t-1}

The convention is `torch.nn.GRU`'s: z near one keeps the old state. Gates are stacked r, z, n, or
z, n where there is no reset gate. `gru_stacked.py` has the same equations as one product.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy import concatenate, tanh

from tidegate.reference._sigmoid import sigmoid

if TYPE_CHECKING:
    from jaxtyping import Float, Int

Array = np.ndarray
Gates = tuple[Array, ...]
Weights = tuple[Array, Array, Array, Array]


class GRUResult(NamedTuple):
    """Every state, each row's last state, and the gates (gate, time, batch, hidden)."""

    output: Array
    h_n: Array
    gates: Array


class GRUGradients(NamedTuple):
    """Gradient of the loss in each argument of `gru`."""

    x: Array
    h_0: Array
    weight_ih: Array
    weight_hh: Array
    bias_ih: Array
    bias_hh: Array
    keep: Array | None


class GRUStepGradients(NamedTuple):
    """Gradient of the loss in each argument of `gru_step`."""

    x: Array
    h: Array
    weight_ih: Array
    weight_hh: Array
    bias_ih: Array
    bias_hh: Array


def gru_step(
    x: Float[Array, "batch features"],
    h: Float[Array, "batch hidden"],
    weight_ih: Float[Array, "gates features"],
    weight_hh: Float[Array, "gates hidden"],
    bias_ih: Float[Array, " gates"],
    bias_hh: Float[Array, " gates"],
    *,
    reset: str = "after",
    mask: Float[Array, "batch hidden"] | float = 1.0,
) -> tuple[Float[Array, "batch hidden"], Gates]:
    """One step: the new state, and the gates r, z, n.

    `mask` multiplies the state where it meets the recurrent weights, and only there.
    """
    step, _ = STEPS[reset]
    return step(x, h, mask, (weight_ih, weight_hh, bias_ih, bias_hh))


def gru(
    x: Float[Array, "time batch features"],
    h_0: Float[Array, "batch hidden"],
    weight_ih: Float[Array, "gates features"],
    weight_hh: Float[Array, "gates hidden"],
    bias_ih: Float[Array, " gates"],
    bias_hh: Float[Array, " gates"],
    *,
    reset: str = "after",
    keep: Float[Array, "time batch ..."] | None = None,
    mask: Float[Array, "batch hidden"] | float = 1.0,
    lengths: Int[Array, " batch"] | None = None,
    reverse: bool = False,
) -> GRUResult:
    """Run the GRU over `x`.

    `keep[t]` multiplies the state that comes into step t, one number a row or one a unit. Past its
    length a row's output is zero, its state stands still, and nothing of it is read. In reverse,
    each row starts at its own end.
    """
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    x, keep_, inside = _prepare(x, keep, lengths)
    h, output = h_0, np.zeros((len(x), *h_0.shape))
    gates = np.zeros((len(weight_hh) // h_0.shape[1], *output.shape))
    for t in _steps(len(x), reverse):
        h_t, gates_t = gru_step(x[t], keep_[t] * h, *weights, reset=reset, mask=mask)
        h = np.where(inside[t], h_t, h)
        output[t] = np.where(inside[t], h_t, 0)
        gates[:, t] = np.where(inside[t], gates_t, 0)
    return GRUResult(output, h, gates)


def gru_backward(
    x: Float[Array, "time batch features"],
    h_0: Float[Array, "batch hidden"],
    weight_ih: Float[Array, "gates features"],
    weight_hh: Float[Array, "gates hidden"],
    bias_ih: Float[Array, " gates"],
    bias_hh: Float[Array, " gates"],
    *,
    d_output: Float[Array, "time batch hidden"],
    d_h_n: Float[Array, "batch hidden"],
    d_gates: Float[Array, "gate time batch hidden"] | None = None,
    reset: str = "after",
    keep: Float[Array, "time batch ..."] | None = None,
    mask: Float[Array, "batch hidden"] | float = 1.0,
    lengths: Int[Array, " batch"] | None = None,
    reverse: bool = False,
) -> GRUGradients:
    """Gradients of `gru`, given those of its results."""
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    result = gru(
        x, h_0, *weights, reset=reset, keep=keep, mask=mask, lengths=lengths, reverse=reverse
    )
    x, keep_, inside = _prepare(x, keep, lengths)
    d_gates = np.zeros_like(result.gates) if d_gates is None else d_gates
    d_x, d_h, d_keep = np.zeros_like(x), d_h_n, np.zeros_like(result.output)
    d_weights = [np.zeros_like(weight) for weight in weights]
    _, step_backward = STEPS[reset]
    for t in _steps(len(x), not reverse):
        h = _state_before(t, h_0, result.output, inside, reverse)
        d_h_t = np.where(inside[t], d_h + d_output[t], 0)
        d_gates_t = np.where(inside[t], d_gates[:, t], 0)
        d = step_backward(x[t], keep_[t] * h, mask, weights, d_h_t, d_gates_t)
        d_x[t], d_keep[t] = d.x, d.h * h
        d_h = np.where(inside[t], keep_[t] * d.h, d_h)
        for total, d_weight in zip(d_weights, d[2:], strict=True):
            total += d_weight
    return GRUGradients._make((d_x, d_h, *d_weights, _like_keep(d_keep, keep)))


def _after(x: Array, h: Array, mask: Array | float, weights: Weights) -> tuple[Array, Gates]:
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    x_r, x_z, x_n = np.split(x @ weight_ih.T + bias_ih, 3, axis=1)
    h_r, h_z, h_n = np.split((mask * h) @ weight_hh.T + bias_hh, 3, axis=1)
    r = sigmoid(x_r + h_r)
    z = sigmoid(x_z + h_z)
    n = tanh(x_n + r * h_n)
    return (1 - z) * n + z * h, (r, z, n)


def _after_backward(
    x: Array,
    h: Array,
    mask: Array | float,
    weights: Weights,
    d_h_t: Array,
    d_gates: Iterable[Array],
) -> GRUStepGradients:
    weight_ih, weight_hh, _, bias_hh = weights
    _, (r, z, n) = _after(x, h, mask, weights)
    _, _, h_n = np.split((mask * h) @ weight_hh.T + bias_hh, 3, axis=1)
    d_r, d_z, d_n = d_gates
    d_a_n = (d_n + d_h_t * (1 - z)) * (1 - n**2)
    d_a_z = (d_z + d_h_t * (h - n)) * z * (1 - z)
    d_a_r = (d_r + d_a_n * h_n) * r * (1 - r)
    d_x_gates = concatenate((d_a_r, d_a_z, d_a_n), axis=1)
    d_h_gates = concatenate((d_a_r, d_a_z, d_a_n * r), axis=1)
    return GRUStepGradients(
        x=d_x_gates @ weight_ih,
        h=d_h_t * z + mask * (d_h_gates @ weight_hh),
        weight_ih=d_x_gates.T @ x,
        weight_hh=d_h_gates.T @ (mask * h),
        bias_ih=d_x_gates.sum(axis=0),
        bias_hh=d_h_gates.sum(axis=0),
    )


def _before(x: Array, h: Array, mask: Array | float, weights: Weights) -> tuple[Array, Gates]:
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    x_r, x_z, x_n = np.split(x @ weight_ih.T + bias_ih, 3, axis=1)
    w_r, w_z, w_n = np.split(weight_hh, 3)
    b_r, b_z, b_n = np.split(bias_hh, 3)
    r = sigmoid(x_r + (mask * h) @ w_r.T + b_r)
    z = sigmoid(x_z + (mask * h) @ w_z.T + b_z)
    n = tanh(x_n + (r * mask * h) @ w_n.T + b_n)
    return (1 - z) * n + z * h, (r, z, n)


def _before_backward(
    x: Array,
    h: Array,
    mask: Array | float,
    weights: Weights,
    d_h_t: Array,
    d_gates: Iterable[Array],
) -> GRUStepGradients:
    weight_ih, weight_hh, _, _ = weights
    _, (r, z, n) = _before(x, h, mask, weights)
    w_r, w_z, w_n = np.split(weight_hh, 3)
    d_r, d_z, d_n = d_gates
    d_a_n = (d_n + d_h_t * (1 - z)) * (1 - n**2)
    d_a_z = (d_z + d_h_t * (h - n)) * z * (1 - z)
    d_reset_h = d_a_n @ w_n
    d_a_r = (d_r + d_reset_h * mask * h) * r * (1 - r)
    d_a = concatenate((d_a_r, d_a_z, d_a_n), axis=1)
    return GRUStepGradients(
        x=d_a @ weight_ih,
        h=d_h_t * z + mask * (d_a_r @ w_r + d_a_z @ w_z + d_reset_h * r),
        weight_ih=d_a.T @ x,
        weight_hh=concatenate(
            (d_a_r.T @ (mask * h), d_a_z.T @ (mask * h), d_a_n.T @ (r * mask * h))
        ),
        bias_ih=d_a.sum(axis=0),
        bias_hh=d_a.sum(axis=0),
    )


def _none(x: Array, h: Array, mask: Array | float, weights: Weights) -> tuple[Array, Gates]:
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    x_z, x_n = np.split(x @ weight_ih.T + bias_ih, 2, axis=1)
    h_z, h_n = np.split((mask * h) @ weight_hh.T + bias_hh, 2, axis=1)
    z = sigmoid(x_z + h_z)
    n = tanh(x_n + h_n)
    return (1 - z) * n + z * h, (z, n)


def _none_backward(
    x: Array,
    h: Array,
    mask: Array | float,
    weights: Weights,
    d_h_t: Array,
    d_gates: Iterable[Array],
) -> GRUStepGradients:
    weight_ih, weight_hh, _, _ = weights
    _, (z, n) = _none(x, h, mask, weights)
    d_z, d_n = d_gates
    d_a_n = (d_n + d_h_t * (1 - z)) * (1 - n**2)
    d_a_z = (d_z + d_h_t * (h - n)) * z * (1 - z)
    d_a = concatenate((d_a_z, d_a_n), axis=1)
    return GRUStepGradients(
        x=d_a @ weight_ih,
        h=d_h_t * z + mask * (d_a @ weight_hh),
        weight_ih=d_a.T @ x,
        weight_hh=d_a.T @ (mask * h),
        bias_ih=d_a.sum(axis=0),
        bias_hh=d_a.sum(axis=0),
    )


STEPS = {
    "after": (_after, _after_backward),
    "before": (_before, _before_backward),
    "none": (_none, _none_backward),
}


def _prepare(x: Array, keep: Array | None, lengths: Array | None) -> tuple[Array, Array, Array]:
    """`x` with zeros in its padding, `keep` with ones there and a last axis, and which is which."""
    time, batch, _ = x.shape
    lengths = np.full(batch, time) if lengths is None else lengths
    inside = (np.arange(time)[:, None] < lengths)[:, :, None]
    keep = np.ones((time, batch)) if keep is None else keep
    keep = keep[:, :, None] if keep.ndim == 2 else keep
    return np.where(inside, x, 0), np.where(inside, keep, 1), inside


def _steps(time: int, reverse: bool) -> Iterable[int]:
    return reversed(range(time)) if reverse else range(time)


def _state_before(
    t: int, h_0: Array, output: Array, inside: Array, reverse: bool
) -> Float[Array, "batch hidden"]:
    """Each row's state before step t: its initial one where t is the first step of its walk."""
    before = t + 1 if reverse else t - 1
    if not 0 <= before < len(output):
        return h_0
    return np.where(inside[before], output[before], h_0)


def _like_keep(d_keep: Array, keep: Array | None) -> Array | None:
    """The gradient of one number a unit, summed over the units if `keep` has one a row."""
    if keep is None:
        return None
    return d_keep.sum(axis=2) if keep.ndim == 2 else d_keep
