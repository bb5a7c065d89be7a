"""Processes that train one network together, or one that trains it alone.

Each process has some of the windows, in the order in which they would stand in one process. A batch
is drawn from all of them by the same random numbers everywhere; each process answers for those rows
that it has. So the batches, and up to rounding the network, do not depend on how many there are.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class Alone:
    """One process, which has everything."""

    rank, size = 0, 1

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network as it is to be called in training."""
        return network

    def gather(self, mine: Any) -> list[Any]:
        """What each process gave, in their order."""
        return [mine]

    def first(self, value: float) -> float:
        """The number as the first process has it."""
        return value

    def mean(self, cost: Tensor, weight: Tensor) -> Tensor:
        """The weighted mean cost of the rows of all, whose gradient is right in `wrap`."""
        return cost / weight


class Together(Alone):
    """One of several processes, which torch.distributed connects."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def wrap(self, network: nn.Module) -> nn.Module:
        """Gradients become the mean over the processes."""
        return DistributedDataParallel(network)

    def gather(self, mine: Any) -> list[Any]:
        """What each process gave, in their order."""
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, mine)
        return found

    def first(self, value: float) -> float:
        """The number as the first process has it, so that all decide alike."""
        held = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(held, 0)
        return held.item()

    def mean(self, cost: Tensor, weight: Tensor) -> Tensor:
        """As of one process; the mean of the gradients is then that of the sum."""
        both = torch.stack([cost.detach(), weight]).double()
        dist.all_reduce(both)
        total = both[1].to(cost.dtype)
        mine = self.size * cost / total
        return mine + ((both[0] / both[1]).to(cost.dtype) - mine).detach()


def assemble_team() -> Alone:
    """The processes that `torchrun` started or Ray Train connected; else this one."""
    if not dist.is_available():
        return Alone()
    if not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")
    return Together() if dist.is_initialized() and dist.get_world_size() > 1 else Alone()


def share(team: Alone, rows: np.ndarray) -> range:
    """Which of several things, each of so many rows, this process has: a run of them.

    Example:
        >>> share(Alone(), np.array([3, 4]))
        range(0, 2)
    """
    middle = np.cumsum(rows) - rows / 2
    owner = np.minimum(team.size * middle // max(rows.sum(), 1), team.size - 1)
    return range(*np.searchsorted(owner, [team.rank, team.rank + 1]).tolist())
