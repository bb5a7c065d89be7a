"""From a panel to a model: try on all but the end of each series, then learn from everything."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..train import History, Progress, Settings, train
from ._bands import measure_widths
from ._examples import Examples, make_examples
from ._model import Model
from ._network import Network, Shape, pinball
from ._scale import Scaling, scale_future
from ._windows import Origins, Windows

# Numbers that all scaled histories may take together; beyond it, windows are drawn at random.
_MEMORY = 2**25
# A history has a season and a little more before it is learnt from, if the series are that long.
_MORE_THAN_A_SEASON, _LEAST_HISTORY = 2, 3
# Series of which the end is tried on: enough to tell networks and widths apart.
_TRIED = 4096
# Windows heavier than this share of all others count as this: no series rules the loss.
_HEAVIEST = 0.99
# The trial stops after so many validations without a better one, but its best step counts as no
# less than this share of all: one lucky validation early on shall not end the learning.
_PATIENCE, _EARLIEST = 8, 1 / 3


@dataclass(frozen=True)
class Plan:
    """How to learn: what the networks see, their sizes, and the settings of their training."""

    scaling: Scaling
    shape: Shape
    quantiles: tuple[float, ...]
    trust: float
    members: int
    batch_size: int
    settings: Settings


@dataclass
class Watch:
    """Who is told how far the fit is, and where it keeps its state."""

    progress: Callable[[int, Progress], None] | None = None
    checkpoint: str | os.PathLike[str] | None = None
    resume: bool = False
    done: int = 0
    total: int = 0

    def files(self, number: int) -> Path | None:
        """The checkpoint of one training."""
        return None if self.checkpoint is None else Path(f"{os.fspath(self.checkpoint)}.{number}")

    def tell(self, number: int) -> Callable[[Progress], None] | None:
        """A callback of one training that counts the steps of all."""
        if self.progress is None:
            return None

        def tell(p: Progress) -> None:
            self.progress(number, replace(p, step=self.done + p.step, steps=self.total))

        return tell


def fit_model(windows: Windows, plan: Plan, watch: Watch) -> tuple[Model, list[History]]:
    """Learn from all series.

    A trial on all but the last `horizon` steps of each series says after how many batches to stop,
    and how wide the bands must be; then the networks are trained for so long on everything. Where
    the series are too short for a trial, it is left out.

    Returns:
        The model; and the histories of the trial, if there was one, and of the networks.

    Raises:
        InputError: the series are too short, or too little of them is known.
    """
    horizon = plan.scaling.horizon
    least = _least_history(windows, plan.scaling)
    held_out = _held_out(windows, least, horizon, np.random.default_rng(plan.settings.seed))
    trials = int(held_out is not None)
    watch.total = (trials + plan.members) * plan.settings.steps
    histories, widths = [], np.ones(len(plan.quantiles))
    if held_out is not None:
        examples = _draw_examples(windows, plan, least, horizon)
        validation = make_examples(windows, held_out, plan.scaling, 0)
        network, history = _train(windows, plan, 0, examples, validation, watch)
        trial = Model(plan.scaling, [network], plan.trust, widths)
        widths = _measure_widths(trial, windows, held_out, plan)
        plan = replace(plan, settings=_as_long_as(history, plan.settings))
        watch.total = watch.done + plan.members * plan.settings.steps
        histories.append(history)
    examples = _draw_examples(windows, plan, least, 0)
    networks = []
    for member in range(plan.members):
        network, history = _train(windows, plan, trials + member, examples, None, watch)
        networks.append(network)
        histories.append(history)
    for number in range(len(histories)):
        if (file := watch.files(number)) is not None:
            file.unlink(missing_ok=True)
    return Model(plan.scaling, networks, plan.trust, widths), histories


def _least_history(windows: Windows, scaling: Scaling) -> int:
    """How many steps a series must have had before it is forecast in training."""
    longest, horizon = int(windows.lengths.max()), scaling.horizon
    wish = scaling.season_length + _MORE_THAN_A_SEASON
    least = wish if longest >= wish + 2 * horizon else _LEAST_HISTORY
    if longest < least + horizon:
        raise InputError(
            f"the longest series has {longest} values, too few to learn a horizon of {horizon} "
            f"from: {least + horizon} are needed"
        )
    return least


def _held_out(
    windows: Windows, least: int, horizon: int, rng: np.random.Generator
) -> Origins | None:
    """Origins at the end of each series to try on; None if that leaves too little to learn from."""
    if windows.lengths.max() < least + 2 * horizon:
        return None
    origins = windows.ends(horizon)
    origins = origins.where(windows.known_before(origins, least))
    known = np.isfinite(windows.future(origins, horizon)).any(1)
    some = np.sort(rng.permutation(np.flatnonzero(known))[:_TRIED])
    return origins.where(some) if len(some) else None


def _draw_examples(windows: Windows, plan: Plan, least: int, held_back: int) -> Examples:
    most = max(_MEMORY // plan.scaling.context, 1024)
    origins = windows.draw(least, held_back, most, np.random.default_rng(plan.settings.seed))
    origins = origins.where(windows.known_before(origins, 2))
    examples = make_examples(windows, origins, plan.scaling, held_back)
    if not len(examples):
        raise InputError("the series have too few values that are not missing to learn from")
    return examples


def _train(
    windows: Windows,
    plan: Plan,
    number: int,
    examples: Examples,
    validation: Examples | None,
    watch: Watch,
) -> tuple[Network, History]:
    settings = replace(plan.settings, seed=plan.settings.seed + number)
    quantiles = torch.tensor(plan.quantiles, dtype=torch.float32)
    generator = np.random.default_rng(settings.seed)
    shape = (settings.steps, plan.batch_size)
    order = torch.from_numpy(generator.integers(len(examples), size=shape))
    heaviest = float(np.quantile(examples.weight.numpy(), _HEAVIEST))
    with torch.random.fork_rng([]):
        torch.manual_seed(settings.seed)
        network = Network(plan.shape)

    def cost(some: Examples) -> Tensor:
        known = torch.isfinite(some.truth)
        truth = torch.where(known, some.truth, 0.0)
        loss = pinball(network(some.inputs, some.facts, some.season), truth, quantiles)
        weight = some.weight.clamp(max=heaviest)[:, None] * known
        return (loss * weight).sum() / weight.sum()

    history = train(
        network,
        lambda k: cost(examples.rows(order[k])),
        settings,
        validate=None if validation is None else lambda: cost(validation).item(),
        progress=watch.tell(number),
        checkpoint=watch.files(number),
        resume=watch.resume,
        data=_fingerprint(windows, plan),
    )
    watch.done += len(history.losses)
    return network, history


def _as_long_as(trial: History, settings: Settings) -> Settings:
    """Settings for as many steps as the trial took to its best."""
    best = settings.steps if trial.best is None else trial.best[0]
    steps = max(best, round(settings.steps * _EARLIEST))
    return replace(settings, steps=steps)


def _measure_widths(trial: Model, windows: Windows, held_out: Origins, plan: Plan) -> np.ndarray:
    horizon = plan.scaling.horizon
    parts = [
        (answer, scale_future(windows.future(chunk, horizon), scaled))
        for chunk, scaled, answer in trial.answers(windows, held_out)
    ]
    answer, truth = (np.concatenate(column) for column in zip(*parts, strict=True))
    return measure_widths(answer, truth, np.array(plan.quantiles))


def _fingerprint(windows: Windows, plan: Plan) -> str:
    """What a checkpoint must agree in before training goes on from it."""
    digest = hashlib.blake2b(windows.values.data, digest_size=16)
    digest.update(windows.lengths.data)
    digest.update(repr((plan.scaling, plan.shape, plan.quantiles, plan.batch_size)).encode())
    return digest.hexdigest()
