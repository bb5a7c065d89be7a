"""A team of several processes, connected by torch.distributed."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ._team import Alone


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


def join(connect: bool) -> Alone:
    """The team of this process; first connected, where that is not done yet."""
    if not dist.is_available():
        return Alone()
    if connect and not dist.is_initialized():
        dist.init_process_group("gloo")
    return Together() if dist.is_initialized() and dist.get_world_size() > 1 else Alone()
