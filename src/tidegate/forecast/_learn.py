"""Training a network on windows of a panel, and asking it for forecasts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..train import History, Progress, Settings, train
from ._network import Network, pinball
from ._scale import Scaled, Scaling, scale, scale_future
from ._windows import Origins, Windows

# Histories are scaled this many at a time, so that memory does not grow with the panel.
_CHUNK = 4096
# Windows heavier than this share of all others count as this: no series rules the loss.
_HEAVIEST = 0.99


@dataclass(frozen=True)
class Examples:
    """Scaled windows with what came after them, as tensors."""

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
    """Scale the windows at `origins`; what lies in the last `held_back` steps is not shown."""
    parts = []
    for chunk in _chunks(origins):
        scaled = scale(windows.history(chunk, scaling.context), scaling)
        truth = scale_future(windows.future(chunk, scaling.horizon, held_back), scaled)
        parts.append((scaled.inputs, scaled.facts, scaled.season, truth, scaled.weight))
    arrays = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Examples(*(torch.from_numpy(array.astype(np.float32)) for array in arrays))


def learn(
    network: Network,
    examples: Examples,
    validation: Examples | None,
    quantiles: np.ndarray,
    batch_size: int,
    settings: Settings,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> History:
    """Train `network` on batches of windows drawn at random."""
    q = torch.tensor(quantiles, dtype=torch.float32)
    generator = np.random.default_rng(settings.seed)
    order = torch.from_numpy(generator.integers(len(examples), size=(settings.steps, batch_size)))
    heaviest = float(np.quantile(examples.weight.numpy(), _HEAVIEST))

    def cost(some: Examples) -> Tensor:
        known = torch.isfinite(some.truth)
        truth = torch.where(known, some.truth, 0.0)
        loss = pinball(network(some.inputs, some.facts, some.season), truth, q)
        weight = some.weight.clamp(max=heaviest)[:, None] * known
        return (loss * weight).sum() / weight.sum()

    return train(
        network,
        lambda number: cost(examples.rows(order[number])),
        settings,
        validate=None if validation is None else lambda: cost(validation).item(),
        progress=progress,
        checkpoint=checkpoint,
        resume=resume,
    )


@torch.no_grad()
def answer(networks: list[Network], scaled: Scaled) -> np.ndarray:
    """The mean of the networks' quantiles of the residual, (rows, horizon, quantiles)."""
    tensors = [torch.from_numpy(a) for a in (scaled.inputs, scaled.facts, scaled.season)]
    answers = [network(*tensors).numpy().astype(np.float64) for network in networks]
    return np.mean(answers, 0)


def answers(
    networks: list[Network], windows: Windows, origins: Origins, scaling: Scaling
) -> Iterator[tuple[Origins, Scaled, np.ndarray]]:
    """For some origins at a time: the scaled histories, and the quantiles of the residual."""
    for chunk in _chunks(origins):
        scaled = scale(windows.history(chunk, scaling.context), scaling)
        yield chunk, scaled, answer(networks, scaled)


def _chunks(origins: Origins) -> Iterator[Origins]:
    for start in range(0, len(origins.series), _CHUNK):
        part = slice(start, start + _CHUNK)
        yield Origins(origins.series[part], origins.step[part])
