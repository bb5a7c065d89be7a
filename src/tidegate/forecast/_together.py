"""A team of several processes, connected by torch.distributed."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from ._team import Alone

# Seconds between two looks for processes that are still to come.
_PAUSE = 0.01


class Together(Alone):
    """One of several processes, which torch.distributed connects."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        if dist.get_backend() == "nccl":
            self.device = f"cuda:{torch.cuda.current_device()}"

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
        held = torch.tensor([value], dtype=torch.float64, device=self.device)
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
        store, rank, size = next(rendezvous("env://"))
        store = dist.PrefixStore(_name_of_start(store, rank, size), store)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    if not dist.is_initialized():
        return Alone()
    return Together() if dist.get_world_size() > 1 or dist.get_backend() == "nccl" else Alone()


def _name_of_start(store: dist.Store, rank: int, size: int) -> str:
    """A name on which the processes of one start agree.

    What `torchrun` starts again after an accident finds its store as it was, with the addresses of
    the processes before (pytorch#135712). So each makes a name of its own, and the first answers
    the names that it finds with its own, until each of the others has taken it from there.
    """
    mine = uuid4().hex
    if rank:
        store.set(f"tidegate/process/{rank}", mine)
        start = store.get(f"tidegate/answer/{mine}").decode()
        store.set(f"tidegate/{start}/{rank}", "")
        return start
    missing = set(range(1, size))
    while missing:
        for other in missing:
            name = store.get(f"tidegate/process/{other}").decode()
            store.set(f"tidegate/answer/{name}", mine)
        time.sleep(_PAUSE)
        missing = {other for other in missing if not store.check([f"tidegate/{mine}/{other}"])}
    return mine
