"""A stack of layers, as the runtime reads it from a file, as a torch module to look into."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import runtime
from .._inspectable import Choices, Inspectable, Numbers
from ..errors import InputError
from ..nn import GRU

_LIKELIEST = 5
_ACTIVATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "relu": lambda x, alpha: F.relu(x),
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "tanh": lambda x, alpha: torch.tanh(x),
    "sigmoid": lambda x, alpha: torch.sigmoid(x),
    "silu": lambda x, alpha: F.silu(x),
    "softplus": lambda x, alpha: F.softplus(x),
    "softmax": lambda x, alpha: F.softmax(x, -1),
    "log_softmax": lambda x, alpha: F.log_softmax(x, -1),
}


class StackModule(nn.Module):
    """The layers of a stack in torch; rows first."""

    def __init__(self, stack: runtime.Stack):
        super().__init__()
        self.layers = stack.layers
        self.made: dict[int, nn.Module] = {}
        counts: dict[str, int] = {}
        for number, layer in enumerate(stack.layers):
            if type(layer) not in _MAKERS:
                continue
            kind, make = _MAKERS[type(layer)]
            counts[kind] = counts.get(kind, 0) + 1
            self.made[number] = make(layer)
            self.add_module(f"{kind}{counts[kind]}", self.made[number])
        if "gru" not in counts:
            raise InputError("the stack holds no GRU: there is nothing to look into")

    def forward(self, x: Tensor) -> Tensor:
        """(rows, time, ...), or (rows, ...) after the end of time."""
        given = x
        for number, layer in enumerate(self.layers):
            if isinstance(layer, runtime.Activation):
                x = _ACTIVATIONS[layer.name](x, layer.alpha)
            elif isinstance(layer, runtime.Last):
                x = x[:, -1]
            elif isinstance(layer, runtime.AddInput):
                added = given[..., : layer.columns]
                x = x + (added if x.dim() == added.dim() else added[:, -1])
            elif isinstance(layer, runtime.GRU):
                result = self.made[number](x)
                x = result.last() if layer.final else result.output
            else:
                x = self.made[number](x)
        return x


def look_into(model: runtime.Model, x: np.ndarray, name: str) -> Inspectable:
    """A stack and one sequence for it, (time, features), or whole numbers (time,).

    Raises:
        InputError: the stack holds no GRU, or one that reads backward only.
    """
    module = StackModule(model.stack).eval()
    dtype = torch.int64 if x.ndim == 1 else torch.float64
    return Inspectable(
        module=module.double(),
        inputs=(torch.as_tensor(x, dtype=dtype)[None],),
        title=f"{name}: {_layers(model.stack)}",
        values=x[None, :, 0] if x.ndim == 2 and x.shape[1] == 1 else None,
        outcomes=_outcomes(model.stack, np.asarray(model(x))),
    )


def _outcomes(stack: runtime.Stack, answer: np.ndarray) -> list[Numbers | list[Choices]] | None:
    """One number a step or in all, or probabilities; None where the answer is something else."""
    answer = answer.reshape(-1, answer.shape[-1])
    if answer.shape[1] == 1:
        return [Numbers(answer[:, 0])]
    last = stack.layers[-1]
    if not isinstance(last, runtime.Activation) or "softmax" not in last.name:
        return None
    chances = np.exp(answer) if last.name == "log_softmax" else answer
    best = np.argsort(-chances, axis=1)[:, :_LIKELIEST]
    return [
        [
            Choices([f"class {i}" for i in order], row[order].tolist(), step)
            for step, (row, order) in enumerate(zip(chances, best, strict=True))
        ]
    ]


def _layers(stack: runtime.Stack) -> str:
    sizes = [str(layer.hidden_size) for layer in stack.layers if isinstance(layer, runtime.GRU)]
    return f"{len(sizes)} GRU layer{'s' if len(sizes) > 1 else ''} of {', '.join(sizes)} units"


def _gru(layer: runtime.GRU) -> GRU:
    if layer.reverse:
        raise InputError("a layer that reads backward only cannot be looked into")
    first = layer.directions[0]
    gru = GRU(
        layer.input_size,
        layer.hidden_size,
        batch_first=True,
        bidirectional=len(layer.directions) == 2,
        reset=first.reset,
    )
    with torch.no_grad():
        for weights, suffix in zip(layer.directions, ("", "_reverse"), strict=False):
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            for kind, array in zip(names, weights.arrays, strict=True):
                getattr(gru, f"{kind}_l0{suffix}").copy_(_tensor(array))
    return gru


def _linear(layer: runtime.Linear) -> nn.Linear:
    outputs, inputs = layer.weight.shape
    linear = nn.Linear(inputs, outputs, bias=layer.bias is not None)
    with torch.no_grad():
        linear.weight.copy_(_tensor(layer.weight))
        if layer.bias is not None:
            linear.bias.copy_(_tensor(layer.bias))
    return linear


def _layer_norm(layer: runtime.LayerNorm) -> nn.LayerNorm:
    norm = nn.LayerNorm(layer.size, eps=layer.eps)
    with torch.no_grad():
        for parameter, array in ((norm.weight, layer.weight), (norm.bias, layer.bias)):
            if array is not None:
                parameter.copy_(_tensor(array))
    return norm


def _tensor(array: np.ndarray | None) -> Tensor:
    return torch.from_numpy(np.array(array))


def _embedding(layer: runtime.Embedding) -> nn.Embedding:
    return nn.Embedding.from_pretrained(_tensor(layer.weight))


_MAKERS: dict[type, tuple[str, Callable[..., nn.Module]]] = {
    runtime.GRU: ("gru", _gru),
    runtime.Linear: ("linear", _linear),
    runtime.LayerNorm: ("norm", _layer_norm),
    runtime.Embedding: ("embedding", _embedding),
}
