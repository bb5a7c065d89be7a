"""Exact vector-Jacobian products back through the steps of a recurrence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Up to so many units every direction is followed back; beyond it, some drawn at random, whose mean
# square is the same.
_ALL_DIRECTIONS, _SOME_DIRECTIONS = 256, 64

# The state after step t, from the state before it; of several batches one after the other.
Advance = Callable[[Tensor, int], Tensor]


def sensitivity(advance: Advance, states: Tensor, lags: int) -> Tensor:
    """How much the last state changes with each number of an earlier one, in the mean.

    Entry [k, b, i] is the root mean square, over the units of h_T, of its derivative in unit i of
    h_{T-k}, times the root of the number of units: the norm of column i of the Jacobian. Where
    every column has norm one, a small change at lag k is as large when it arrives.

    Args:
        advance: one step of the recurrence.
        states: (time + 1, batch, hidden) all states, the initial one first.
        lags: the largest k.

    Returns:
        (lags + 1, batch, hidden).
    """
    time, hidden = len(states) - 1, states.size(-1)
    seeds = _seeds(hidden, states.dtype)
    scale = (hidden / len(seeds)) ** 0.5
    vectors = seeds[:, None].expand(-1, states.size(1), -1)
    columns = [vectors.norm(dim=0) * scale]
    for t in range(time - 1, time - 1 - lags, -1):
        with torch.enable_grad():
            h = states[t].detach().requires_grad_()
            new = advance(h, t)
        (vectors,) = torch.autograd.grad(new, h, vectors, is_grads_batched=True)
        columns.append(vectors.norm(dim=0) * scale)
    return torch.stack(columns)


def norm(columns: Tensor) -> Tensor:
    """The Jacobian's norm from that of its columns: one where nothing is lost or gained.

    The Frobenius norm over the root of the number of units, which is the root mean square of the
    singular values.
    """
    return columns.square().mean(-1).sqrt()


def _seeds(hidden: int, dtype: torch.dtype) -> Tensor:
    if hidden <= _ALL_DIRECTIONS:
        return torch.eye(hidden, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(hidden, _SOME_DIRECTIONS, dtype=dtype, generator=generator)
    return torch.linalg.qr(drawn)[0].T
