"""What a network learns from: scaled windows, and what came after them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ._model import chunks
from ._scale import Scaling, scale, scale_future
from ._windows import Origins, Windows


@dataclass(frozen=True)
class Examples:
    """Scaled windows with their futures, as tensors of one row each."""

    inputs: Tensor
    facts: Tensor
    season: Tensor
    truth: Tensor
    weight: Tensor

    def __len__(self) -> int:
        """How many windows."""
        return len(self.inputs)

    def rows(self, which: Tensor) -> Examples:
        """Some of the windows."""
        tensors = (self.inputs, self.facts, self.season, self.truth, self.weight)
        return Examples(*(tensor[which] for tensor in tensors))


def make_examples(windows: Windows, origins: Origins, scaling: Scaling, held_back: int) -> Examples:
    """Scale the windows at `origins` that have a known future before the last `held_back` steps."""
    parts = []
    for chunk in chunks(origins, scaling.context):
        scaled = scale(windows.history(chunk, scaling.context), scaling)
        truth = scale_future(windows.future(chunk, scaling.horizon, held_back), scaled)
        some = np.isfinite(truth).any(1)
        columns = (scaled.inputs, scaled.facts, scaled.season, truth, scaled.weight)
        parts.append([column[some] for column in columns])
    arrays = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Examples(*(torch.from_numpy(array.astype(np.float32)) for array in arrays))
