"""Networks that have learnt, and the way from a history to their forecast."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ._bands import stretch
from ._network import Network
from ._scale import Scaled, Scaling, scale, unscale
from ._windows import Origins, Windows

# Histories are scaled some at a time, so many numbers, so that memory does not grow with the panel.
_CHUNK = 2**20


@dataclass
class Model:
    """All that a forecast needs, and that a file keeps.

    Args:
        scaling: what the networks are shown.
        networks: their answers are averaged.
        trust: the share of their correction of the median that is added.
        widths: by how much to stretch the distance of each quantile from the median.
    """

    scaling: Scaling
    networks: list[Network]
    trust: float
    widths: np.ndarray

    def forecast(self, windows: Windows, origins: Origins) -> np.ndarray:
        """Quantiles from each origin on, (origins, horizon, quantiles)."""
        parts = [
            unscale(stretch(answer, self.widths), scaled)
            for _, scaled, answer in self.answers(windows, origins)
        ]
        return np.concatenate(parts)

    def answers(
        self, windows: Windows, origins: Origins
    ) -> Iterator[tuple[Origins, Scaled, np.ndarray]]:
        """For some origins at a time: the scaled histories, and quantiles of the residual."""
        for chunk in chunks(origins, self.scaling.context):
            scaled = scale(windows.history(chunk, self.scaling.context), self.scaling)
            yield chunk, scaled, self._answer(scaled)

    @torch.no_grad()
    def _answer(self, scaled: Scaled) -> np.ndarray:
        tensors = [torch.from_numpy(a) for a in (scaled.inputs, scaled.facts, scaled.season)]
        answers = [network(*tensors).numpy().astype(np.float64) for network in self.networks]
        mean = np.mean(answers, 0)
        middle = mean.shape[-1] // 2
        return mean - (1 - self.trust) * mean[..., middle : middle + 1]


def chunks(origins: Origins, context: int) -> Iterator[Origins]:
    """The origins, some at a time."""
    rows = max(_CHUNK // context, 1)
    for start in range(0, len(origins.series), rows):
        part = slice(start, start + rows)
        yield Origins(origins.series[part], origins.step[part])
