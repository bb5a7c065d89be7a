"""A step written out in NumPy: what a user without a library would do."""

from __future__ import annotations

import numpy as np

from harness.cases import Array, Case, Weights, inputs
from harness.peers import STREAMED_STEPS
from harness.runner import Runner


def prepare(case: Case) -> dict[str, Runner]:
    """Streaming alone."""
    if case.mode != "stream":
        return {}
    numbers = inputs(case)
    x, h, weights = numbers.x[0, 0], numbers.h_0[0, 0], numbers.weights[0]

    def call() -> None:
        nonlocal h
        h = _step(x, h, weights)

    def results() -> list[np.ndarray]:
        nonlocal h
        h = numbers.h_0[0, 0]
        for _ in range(STREAMED_STEPS):
            call()
        return [h[None, None]]

    return {"NumPy": Runner(call, results)}


def version() -> str:
    """As the table names it."""
    return f"NumPy {np.__version__}"


def _step(x: Array, h: Array, w: Weights) -> Array:
    size = len(h)
    x_gates = w.weight_ih @ x + w.bias_ih
    h_gates = w.weight_hh @ h + w.bias_hh
    gates = 1 / (1 + np.exp(-(x_gates[: 2 * size] + h_gates[: 2 * size])))
    r, z = gates[:size], gates[size:]
    n = np.tanh(x_gates[2 * size :] + r * h_gates[2 * size :])
    return np.asarray((1 - z) * n + z * h, h.dtype)
