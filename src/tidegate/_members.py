"""The networks of an ensemble as arrays by name, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from ._tensors import under

_N = TypeVar("_N", bound=nn.Module)


def arrays_of(networks: Iterable[nn.Module]) -> dict[str, np.ndarray]:
    """The states of networks, the name of each array after the number of its network."""
    return {
        f"{member}.{name}": tensor.detach().cpu().numpy()
        for member, network in enumerate(networks)
        for name, tensor in network.state_dict().items()
    }


def networks_of(new: Callable[[], _N], arrays: Mapping[str, np.ndarray], members: int) -> list[_N]:
    """So many new networks with the states that `arrays_of` took, for answers, not for training.

    Raises:
        RuntimeError: an array is missing, or not as large as its network has it.
    """
    networks = []
    for member in range(members):
        mine = under(f"{member}.", arrays)
        network = new().eval()
        network.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in mine.items()})
        networks.append(network)
    return networks
