"""JAX: `lax.scan` under jit, the input product taken out of the loop."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from harness.cases import Case, Weights, inputs
from harness.runner import Runner


def prepare(case: Case) -> dict[str, Runner]:
    """Inference and training."""
    if case.mode == "stream":
        return {}
    numbers = jax.tree.map(jnp.asarray, inputs(case))
    arguments = (numbers.x, numbers.h_0, numbers.weights)

    def forward(x, h_0, weights):
        return _gru(x, h_0, weights, case)

    def step(d_output, *arguments):
        results, backward = jax.vjp(forward, *arguments)
        return *results, *backward((d_output, jnp.zeros_like(arguments[1])))

    compiled = jax.jit(step if case.mode == "training" else forward)
    if case.mode == "training":
        arguments = (numbers.d_output, *arguments)

    def call() -> object:
        return jax.block_until_ready(compiled(*arguments))

    return {"JAX": Runner(call, lambda: [np.asarray(leaf) for leaf in jax.tree.leaves(call())])}


def version() -> str:
    """As the table names it."""
    return f"JAX {jax.__version__}"


def _gru(x: jax.Array, h_0: jax.Array, weights: list[Weights], case: Case):
    h_n = []
    for first in range(0, len(weights), case.directions):
        sides = [
            _direction(x, h_0[i], weights[i], reverse=i > first)
            for i in range(first, first + case.directions)
        ]
        x = jnp.concatenate([output for _, output in sides], -1)
        h_n += [state for state, _ in sides]
    return x, jnp.stack(h_n)


def _direction(x: jax.Array, h_0: jax.Array, w: Weights, reverse: bool):
    def step(h, x_gates):
        x_r, x_z, x_n = jnp.split(x_gates, 3, -1)
        h_r, h_z, h_n = jnp.split(h @ w.weight_hh.T + w.bias_hh, 3, -1)
        r, z = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
        n = jnp.tanh(x_n + r * h_n)
        h = (1 - z) * n + z * h
        return h, h

    return lax.scan(step, h_0, x @ w.weight_ih.T + w.bias_ih, reverse=reverse)
