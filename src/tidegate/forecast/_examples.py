"""What a network learns from: scaled windows, and what came after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .._series.inputs import Inputs, make_inputs
from .._series.model import Source, chunks
from .._series.scale import Scaling, scale, scale_future
from .._series.windows import Origins


@dataclass(frozen=True)
class Examples:
    """Scaled windows with their futures, as tensors of one row each."""

    inputs: tuple[Tensor, ...]
    truth: Tensor
    weight: Tensor

    def __len__(self) -> int:
        """How many windows."""
        return len(self.truth)

    def rows(self, which: Tensor | slice) -> Examples:
        """Some of the windows."""
        inputs = tuple(tensor[which] for tensor in self.inputs)
        return Examples(inputs, self.truth[which], self.weight[which])

    def to(self, device: str) -> Examples:
        """The same windows on another device."""
        inputs = tuple(tensor.to(device) for tensor in self.inputs)
        return Examples(inputs, self.truth.to(device), self.weight.to(device))

    @classmethod
    def joined(cls, several: Sequence[Examples]) -> Examples:
        """All of them, one after the other."""
        columns = zip(*(some.inputs for some in several), strict=True)
        inputs = tuple(torch.cat(column) for column in columns)
        truth, weight = (torch.cat([getattr(s, n) for s in several]) for n in ("truth", "weight"))
        return cls(inputs, truth, weight)

    def without(self, hidden: np.ndarray) -> Examples:
        """The windows with some of their futures hidden, where anything is left of them."""
        truth = torch.where(torch.from_numpy(hidden), torch.nan, self.truth)
        some = torch.isfinite(truth).any(1)
        left = Examples(self.inputs, truth, self.weight)
        return left if some.all() else left.rows(some.nonzero()[:, 0])


def make_examples(source: Source, origins: Origins, scaling: Scaling) -> Examples:
    """Scale the windows at `origins`, which must all have a future of which something is known."""
    parts = []
    for chunk in chunks(origins, scaling.context):
        scaled = scale(source.windows.history(chunk, scaling.context), scaling)
        truth = scale_future(source.windows.future(chunk, scaling.horizon), scaled)
        inputs = make_inputs(scaled, source.channels, chunk, scaling)
        parts.append((*inputs, truth.astype(np.float32), scaled.weight.astype(np.float32)))
    columns = [torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True)]
    return Examples(tuple(columns[:-2]), *columns[-2:])


def as_tensors(inputs: Inputs) -> tuple[Tensor, ...]:
    """The arrays that a network takes, as tensors."""
    return tuple(map(torch.from_numpy, inputs))
