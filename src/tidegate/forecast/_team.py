"""Processes that train one network together, or one that trains it alone.

Each process has some of the windows, in the order in which they would stand in one process. A batch
is drawn from all of them by the same random numbers everywhere; each process answers for those rows
that it has. So the batches, and up to rounding the network, do not depend on how many there are.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

_T = TypeVar("_T")


class Alone:
    """One process, which has everything."""

    rank, size, device = 0, 1, "cpu"

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


def assemble_team() -> Alone:
    """The processes that `torchrun` started or Ray Train connected; else this one."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if not several and "torch" not in sys.modules:
        return Alone()
    from ._together import join

    return join(several)


def agreed(team: Alone, work: Callable[[], _T]) -> _T:
    """Do something in every process; if one cannot, all say why, and none waits for it.

    Raises:
        InputError: the sentence of the first that could not.
    """
    sentence, found = "", None
    try:
        found = work()
    except InputError as error:
        sentence = str(error)
    said = next(filter(None, team.gather(sentence)), None)
    if said is not None:
        raise InputError(said)
    return cast(_T, found)


def share(team: Alone, rows: np.ndarray) -> range:
    """Which of several things, each of so many rows, this process has: a run of them.

    Example:
        >>> share(Alone(), np.array([3, 4]))
        range(0, 2)
    """
    middle = np.cumsum(rows) - rows / 2
    owner = np.minimum(team.size * middle // max(rows.sum(), 1), team.size - 1)
    return range(*np.searchsorted(owner, [team.rank, team.rank + 1]).tolist())
