"""GRUs side by side: torch's and ours with the same parameters, and ours by the equations."""

import numpy as np
import torch
from torch import Tensor, nn

from helpers import assert_matches
from tidegate.nn import GRU
from tidegate.reference import gru as gru_reference

FLOAT32_AND_64 = [torch.float32, torch.float64]


def twins(*sizes: int, seed: int = 0, **arguments) -> tuple[nn.GRU, GRU]:
    """torch's GRU and ours, drawn from the same seed."""
    torch.manual_seed(seed)
    theirs = nn.GRU(*sizes, **arguments)
    torch.manual_seed(seed)
    return theirs, GRU(*sizes, **arguments)


def assert_close(actual: Tensor, expected: Tensor, *, eps: float = 64) -> None:
    """Assert equality of shape and dtype, and of value within `eps` rounding errors.

    Two programs that both round are compared, gradients summed over every step among the values.
    """
    assert actual.dtype == expected.dtype
    assert_matches(actual.detach().numpy(), expected.detach().double().numpy(), eps=eps)


def gradients(outputs: tuple[Tensor, ...], inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of an uneven loss of all the outputs."""
    loss = sum((output * torch.cos(output.detach() * 5)).sum() for output in outputs)
    return torch.autograd.grad(loss, inputs, materialize_grads=True)


def by_the_equations(
    gru: GRU,
    x: Tensor,
    hx: Tensor,
    *,
    lengths: Tensor | None = None,
    keep: Tensor | None = None,
    masks: Tensor | None = None,
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Output, h_n and gates of a time-first GRU in float64; `masks` are (layer, direction, ...)."""
    below, states, gates = _numpy(x), [], []
    for layer in range(gru.num_layers):
        results = []
        for direction, suffix in enumerate(["", "_reverse"][: 1 + gru.bidirectional]):
            index = layer * (1 + gru.bidirectional) + direction
            result = gru_reference(
                below,
                _numpy(hx[index]),
                *_weights(gru, f"_l{layer}{suffix}"),
                reset=gru.reset,
                keep=None if keep is None else _numpy(keep),
                lengths=None if lengths is None else lengths.numpy(),
                mask=1.0 if masks is None else _numpy(masks[layer, direction]),
                reverse=bool(direction),
            )
            results.append(result)
            states.append(result.h_n)
        below = np.concatenate([result.output for result in results], -1)
        gates.append(np.concatenate([result.gates for result in results], -1))
    return below, np.stack(states), gates


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def _weights(gru: GRU, suffix: str) -> list[np.ndarray]:
    matrices = [_numpy(getattr(gru, name + suffix)) for name in ("weight_ih", "weight_hh")]
    if not gru.bias:
        return [*matrices, *[np.zeros(len(matrices[0]))] * 2]
    return [*matrices, *(_numpy(getattr(gru, name + suffix)) for name in ("bias_ih", "bias_hh"))]
