"""A few steps towards other series, on a leash: what was learnt before is not forgotten."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from .._series.model import Model, Source
from ..train import Settings, train
from ._examples import Examples, make_examples
from ._network import Network, pinball

# A history is learnt from when so many of its values are known.
_LEAST_HISTORY = 4
_BATCH, _MOST = 128, 4096
_RATE, _EVERY, _PATIENCE = 3e-4, 10, 3
# The latest quarter of the windows say when to stop; with fewer windows nothing is changed.
_HELD_OUT, _FEWEST = 4, 8


def adapt_networks(
    model: Model,
    networks: list[Network],
    source: Source,
    steps: int,
    proximity: float,
    seed: int,
) -> list[Network]:
    """Copies of the networks that took up to so many steps towards these series.

    The squared distance of the weights from where they were, times `proximity`, is added to the
    loss. The latest windows are held out: the networks stop where these are forecast best, which
    may be where they started. With fewer windows than can be told apart so, nothing changes.
    """
    windows, horizon = source.windows, model.scaling.horizon
    rng = np.random.default_rng(seed)
    origins = windows.draw(_LEAST_HISTORY - 1, 0, _MOST, rng)
    origins = origins.where(windows.known_before(origins, _LEAST_HISTORY - 1))
    origins = origins.where(np.isfinite(windows.future(origins, horizon)).any(1))
    if len(origins.series) < _FEWEST:
        return networks
    examples = make_examples(source, origins, model.scaling)
    left = windows.lengths[origins.series] - origins.step
    latest = np.argsort(left, kind="stable")[: len(left) // _HELD_OUT]
    held_out = examples.rows(torch.from_numpy(np.sort(latest)))
    earlier = np.setdiff1d(np.arange(len(left)), latest)
    examples = examples.rows(torch.from_numpy(earlier))
    quantiles = torch.tensor(model.quantiles, dtype=torch.float32)
    adapted = []
    for network in map(copy.deepcopy, networks):
        settings = Settings(
            steps,
            learning_rate=_RATE,
            weight_decay=0.0,
            validate_every=_EVERY,
            patience=_PATIENCE,
            seed=seed,
        )
        _approach(network, examples, held_out, quantiles, proximity, settings)
        adapted.append(network)
    return adapted


def _approach(
    network: Network,
    examples: Examples,
    held_out: Examples,
    quantiles: Tensor,
    proximity: float,
    settings: Settings,
) -> None:
    start = [parameter.detach().clone() for parameter in network.parameters()]
    before = copy.deepcopy(network.state_dict())
    rng = np.random.default_rng(settings.seed)
    order = rng.integers(len(examples), size=(settings.steps, min(_BATCH, len(examples))))
    order = torch.from_numpy(order)

    def cost(some: Examples) -> Tensor:
        known = torch.isfinite(some.truth)
        truth = torch.where(known, some.truth, 0.0)
        loss = pinball(network(*some.inputs), truth, quantiles)
        weight = some.weight[:, None] * known
        return (loss * weight).sum() / weight.sum()

    def loss(step: int) -> Tensor:
        distance = sum(
            (now - then).square().sum()
            for now, then in zip(network.parameters(), start, strict=True)
        )
        return cost(examples.rows(order[step])) + proximity * distance

    with torch.no_grad():
        first = cost(held_out).item()
    history = train(network, loss, settings, validate=lambda: cost(held_out).item())
    if history.best is None or history.best[1] >= first:
        network.load_state_dict(before)
