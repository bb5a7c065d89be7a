"""Stacks of every layer for the tests of the runtime, and their slow truth."""

from __future__ import annotations

import numpy as np

from helpers import gru_inputs
from tidegate.reference import gru as gru_reference
from tidegate.runtime import (
    GRU,
    Activation,
    AddInput,
    Embedding,
    Last,
    Layer,
    LayerNorm,
    Linear,
    Stack,
)
from tidegate.weights import GRUWeights

RESETS = ("after", "before", "none")


def gru_weights(seed, features, hidden, dtype=np.float32, reset="after") -> GRUWeights:
    return GRUWeights(*gru_inputs(seed, 1, 1, features, hidden, dtype, reset)[2:], reset=reset)


def gru_layer(seed, features, hidden, dtype=np.float32, reset="after", directions=1, **rest) -> GRU:
    weights = [gru_weights(seed + d, features, hidden, dtype, reset) for d in range(directions)]
    return GRU(tuple(weights), **rest)


def linear(seed, inputs, outputs, dtype=np.float32) -> Linear:
    rng = np.random.default_rng(seed)
    weight = rng.uniform(-1, 1, (outputs, inputs)) / np.sqrt(inputs)
    return Linear(weight.astype(dtype), rng.uniform(-1, 1, outputs).astype(dtype))


def layer_norm(seed, size, dtype=np.float32) -> LayerNorm:
    rng = np.random.default_rng(seed)
    weight, bias = (rng.uniform(0.5, 1.5, size).astype(dtype) for _ in range(2))
    return LayerNorm(size, weight, bias)


def embedding(seed, symbols, features, dtype=np.float32) -> Embedding:
    return Embedding(np.random.default_rng(seed).standard_normal((symbols, features), dtype))


def as_double(layer: Layer) -> Layer:
    """The same layer with its numbers in float64."""
    if isinstance(layer, GRU):
        weights = [
            GRUWeights(*(a.astype(np.float64) for a in w.arrays), reset=w.reset)
            for w in layer.directions
        ]
        return GRU(tuple(weights), layer.reverse, layer.final)
    values = {
        name: value.astype(np.float64) if isinstance(value, np.ndarray) else value
        for name, value in vars(layer).items()
    }
    return type(layer)(**values)


def truth(stack: Stack, x: np.ndarray) -> np.ndarray:
    """What a stack gives for whole sequences, by the equations in float64."""
    y = x if x.dtype.kind in "iu" else x.astype(np.float64)
    for layer in map(as_double, stack.layers):
        match layer:
            case GRU():
                y = _gru_truth(layer, y)
            case Last():
                y = y[-1]
            case AddInput():
                y = y + (x if y.ndim == 3 else x[-1])[..., : layer.columns]
            case Embedding():
                y = layer.weight[y]
            case Activation():
                y = _activation_truth(layer, y)
            case Linear():
                y = np.einsum("...i,oi->...o", y, layer.weight) + layer.bias
            case LayerNorm():
                spread = np.sqrt(y.var(-1, keepdims=True) + layer.eps)
                y = layer.weight * (y - y.mean(-1, keepdims=True)) / spread + layer.bias
    return y


def _gru_truth(layer: GRU, x: np.ndarray) -> np.ndarray:
    outputs, ends = [], []
    for number, weights in enumerate(layer.directions):
        h_0, back = np.zeros((x.shape[1], layer.hidden_size)), layer.reverse or number == 1
        result = gru_reference(x, h_0, *weights.arrays, reset=weights.reset, reverse=back)
        outputs.append(result.output)
        ends.append(result.h_n)
    return np.concatenate(ends if layer.final else outputs, -1)


def _activation_truth(layer: Activation, x: np.ndarray) -> np.ndarray:
    e = np.exp(x)
    return {
        "relu": np.where(x > 0, x, 0),
        "leaky_relu": np.where(x > 0, x, layer.alpha * x),
        "elu": np.where(x > 0, x, layer.alpha * (e - 1)),
        "tanh": np.tanh(x),
        "sigmoid": e / (1 + e),
        "silu": x * e / (1 + e),
        "softplus": np.log(1 + e),
        "softmax": e / e.sum(-1, keepdims=True),
        "log_softmax": np.log(e / e.sum(-1, keepdims=True)),
    }[layer.name]
