"""A few steps towards other series, on a leash: what was learnt before is not forgotten."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .._series.model import Model, Source
from .._series.windows import Origins
from ..train import Settings, train
from ._examples import Examples, make_examples
from ._network import Network, pinball

# A window has so many known values before it, and one at least after it.
_LEAST_HISTORY = 2
_BATCH, _MOST = 128, 4096
_RATE, _EVERY, _PATIENCE = 3e-4, 10, 3
# The latest quarter of each series, one value at least, says for how many steps to train.
_HELD_BACK = 4
# They must lower the error there by this over the root of the number of its values: by a third if
# there is one, by a hundredth if there are a thousand.
_LEAST_GAIN = 0.33
_TOO_SHORT = "the series are too short to adapt to: the networks are as they were"
_NO_GAIN = "no step towards these series helped in a trial: the networks are as they were"
_GAIN = "adapted: in a trial it made the error on the latest values {:.0%} smaller"


@dataclass(frozen=True)
class Adapted:
    """Networks after some steps towards other series, and in words what that did."""

    networks: list[Network]
    words: str


def adapt_networks(
    model: Model,
    networks: list[Network],
    source: Source,
    steps: int,
    proximity: float,
    seed: int,
) -> Adapted:
    """Copies of the networks that took up to so many steps towards these series.

    The squared distance of the weights from where they were, times `proximity`, is added to the
    loss. First the latest values are held back: how many steps forecast them best, and whether any
    do better than none, is found there. Then so many are taken with all values.
    """
    held_back = _held_back(source)
    origins = _origins(model, source, seed)
    latest = origins.step >= (source.windows.lengths - held_back)[origins.series]
    if latest.all() or not latest.any():
        return Adapted(networks, _TOO_SHORT)
    examples = make_examples(source, origins, model.scaling)
    earlier = _earlier(examples, origins, source, held_back, model.scaling.horizon)
    if not len(earlier):
        return Adapted(networks, _TOO_SHORT)
    held_out = examples.rows(torch.from_numpy(np.flatnonzero(latest)))
    quantiles = torch.tensor(model.quantiles, dtype=torch.float32)
    settings = Settings(
        steps,
        learning_rate=_RATE,
        weight_decay=0.0,
        validate_every=_EVERY,
        patience=_PATIENCE,
        seed=seed,
    )
    before = after = 0.0
    adapted = []
    for network in networks:
        leash = _Leash(network, quantiles, proximity)
        taken, first, best = leash.try_on(earlier, held_out, settings)
        before, after = before + first, after + best
        adapted.append(leash.approach(examples, taken, seed) if taken else network)
    if after == before:
        return Adapted(networks, _NO_GAIN)
    return Adapted(adapted, _GAIN.format(1 - after / before))


def _held_back(source: Source) -> np.ndarray:
    """How many of the last steps of each series are held back in the trial."""
    return np.maximum(source.windows.lengths // _HELD_BACK, 1)


def _origins(model: Model, source: Source, seed: int) -> Origins:
    windows = source.windows
    origins = windows.draw(_LEAST_HISTORY, _MOST, np.random.default_rng(seed))
    origins = origins.where(windows.known_before(origins, _LEAST_HISTORY, model.scaling.context))
    return origins.where(np.isfinite(windows.future(origins, model.scaling.horizon)).any(1))


def _earlier(
    examples: Examples, origins: Origins, source: Source, held_back: np.ndarray, horizon: int
) -> Examples:
    """The windows without what is held back."""
    step = origins.step[:, None] + np.arange(horizon)
    last = (source.windows.lengths - held_back)[origins.series]
    return examples.without(step >= last[:, None])


class _Leash:
    """One network, and what it costs to leave where it is.

    Args:
        network: is left as it is.
        quantiles: that it answers.
        proximity: what the squared distance of the weights costs.
    """

    def __init__(self, network: Network, quantiles: Tensor, proximity: float):
        self.network = network
        self.quantiles = quantiles
        self.proximity = proximity
        self.start = [parameter.detach().clone() for parameter in network.parameters()]

    def try_on(
        self, earlier: Examples, held_out: Examples, settings: Settings
    ) -> tuple[int, float, float]:
        """How many steps on the earlier forecast what is held out best, and both errors there.

        No steps unless they surely help.
        """
        with torch.no_grad():
            first = self._cost(self.network, held_out).item()
        trial = copy.deepcopy(self.network)
        history = train(
            trial,
            self._loss(trial, earlier, settings),
            settings,
            validate=lambda: self._cost(trial, held_out).item(),
        )
        values = int(torch.isfinite(held_out.truth).sum())
        enough = (1 - _LEAST_GAIN / np.sqrt(values)) * first
        if history.best is None or history.best[1] >= enough:
            return 0, first, first
        return history.best[0], first, history.best[1]

    def approach(self, examples: Examples, steps: int, seed: int) -> Network:
        """A copy that took so many steps."""
        settings = Settings(steps, learning_rate=_RATE, weight_decay=0.0, seed=seed)
        network = copy.deepcopy(self.network)
        train(network, self._loss(network, examples, settings), settings)
        return network

    def _loss(
        self, network: Network, examples: Examples, settings: Settings
    ) -> Callable[[int], Tensor]:
        """What a batch of examples costs, and the way from the start."""
        rng = np.random.default_rng(settings.seed)
        shape = (settings.steps, min(_BATCH, len(examples)))
        order = torch.from_numpy(rng.integers(len(examples), size=shape))

        def loss(step: int) -> Tensor:
            distance = sum(
                (now - then).square().sum()
                for now, then in zip(network.parameters(), self.start, strict=True)
            )
            return self._cost(network, examples.rows(order[step])) + self.proximity * distance

        return loss

    def _cost(self, network: Network, some: Examples) -> Tensor:
        known = torch.isfinite(some.truth)
        truth = torch.where(known, some.truth, 0.0)
        loss = pinball(network(*some.inputs), truth, self.quantiles)
        weight = some.weight[:, None] * known
        return (loss * weight).sum() / weight.sum()
