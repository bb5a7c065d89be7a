"""From a panel to a model: try on all but the end of each series, then learn from everything."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .._series.bands import measure_widths, stretch
from .._series.inputs import Inputs
from .._series.model import Model, Source
from .._series.paths import learn_correlation, random_walk_correlation
from .._series.scale import Scaling, scale_future
from .._series.windows import Origins, Windows
from ..errors import InputError
from ..train import History, Progress, Settings, train
from ._examples import Examples, as_tensors, make_examples
from ._network import Network, pinball
from ._plan import Plan
from ._team import Alone
from ._trust import TRUST, beats_the_last_value, choose_reach, choose_trust
from ._widths import Missed, choose_widths

# Numbers that all scaled histories may take together; beyond it, windows are drawn at random.
_MEMORY = 2**25
# No more windows are drawn than the network would see this often each; but so many at least.
_TIMES_SEEN, _FEWEST = 3, 4096
# A history has a season and a little more before it is learnt from, if the series are that long.
_MORE_THAN_A_SEASON, _LEAST_HISTORY = 2, 3
# Origins that are tried on: enough to tell networks and widths apart. Where the last horizon of all
# series is fewer values than this, so many horizons at most are held back, one after the other.
_TRIED, _TRIED_VALUES, _HORIZONS = 4096, 1000, 8
# Windows all over the series on which widths are measured.
_LOOKED = 1024
# Windows heavier than this share of all others count as this: no series rules the loss.
_HEAVIEST = 0.99
# The trial stops after so many validations without a better one, but its best step counts as no
# less than this share of all: one lucky validation early on shall not end the learning.
_PATIENCE, _EARLIEST = 8, 1 / 3


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
        progress = self.progress
        if progress is None:
            return None

        def tell(p: Progress) -> None:
            progress(number, replace(p, step=self.done + p.step, steps=self.total))

        return tell


@dataclass(frozen=True, eq=False)
class Lessons:
    """What a fit learns from, and what it tries itself on.

    Args:
        source: the series to try on, the same ones in every process of a team.
        examples: the windows to learn from; of a team, each process has its own.
        hidden: which of their futures the trial holds back, (windows, horizon).
        held_out: origins in `source` to try on; None if there are none.
        data: what tells these data from others.
    """

    source: Source
    examples: Examples
    hidden: np.ndarray
    held_out: Origins | None
    data: str


def fit_model(
    source: Source, plan: Plan, watch: Watch
) -> tuple[Model, list[Network], list[History]]:
    """Learn from all series, as `learn` does.

    Raises:
        InputError: the series are too short, or too little of them is known.
    """
    windows = source.windows
    frame = Frame.of(windows, plan)
    origins = _draw_origins(windows, plan, frame.least)
    lessons = Lessons(
        source,
        make_examples(source, origins, plan.scaling),
        frame.hides(windows, origins),
        frame.held_out(windows, plan),
        _fingerprint(source, plan),
    )
    return learn(lessons, plan, watch, Alone())


def learn(
    lessons: Lessons, plan: Plan, watch: Watch, team: Alone
) -> tuple[Model, list[Network], list[History]]:
    """Learn from the lessons.

    A trial on all but the last horizon (or horizons) of each series says after how many batches to
    stop, how far to trust the network, and how errors go together; then the networks are trained
    for so long on everything. Where the series are too short for a trial, it is left out. How wide
    the bands must be, the errors of the trial and of the smoothing say.

    Returns:
        The model; its networks; and the histories of the trial, if there was one, and of the
        networks.
    """
    source, held_out, examples = lessons.source, lessons.held_out, lessons.examples
    everywhere = _everywhere(source, plan)
    model = Model(
        plan.scaling,
        plan.layout,
        [],
        plan.quantiles,
        plan.trust if plan.trust is not None else TRUST if plan.layout.columns else 0.0,
        choose_reach(source, everywhere, plan.scaling) if plan.trust is None else 1.0,
        np.ones(len(plan.quantiles)),
        random_walk_correlation(plan.scaling.horizon),
        _least_history(source.windows, plan.scaling),
    )
    trials = int(held_out is not None)
    watch.total = (trials + plan.members) * plan.settings.steps
    work = _Work(plan, watch, team, lessons.data)
    histories, missed = [], None
    if held_out is not None:
        validation = make_examples(source, held_out, plan.scaling)
        network, history = work.train(0, examples.without(lessons.hidden), validation)
        model.networks = [AsFunction(network)]
        missed = _learn_from_trial(model, source, held_out, plan, validation)
        work.plan = replace(plan, settings=_as_long_as(history, plan.settings))
        watch.total = watch.done + plan.members * work.plan.settings.steps
        histories.append(history)
    networks = []
    for member in range(plan.members):
        network, history = work.train(trials + member, examples, None)
        networks.append(network)
        histories.append(history)
    model.networks = [AsFunction(network) for network in networks]
    some = np.random.default_rng(plan.settings.seed).permutation(len(everywhere.series))[:_LOOKED]
    model.widths = choose_widths(model, source, everywhere.where(np.sort(some)), missed)
    return model, networks, histories


@dataclass(frozen=True, eq=False)
class AsFunction:
    """A network in torch as a function of arrays."""

    network: Network

    @torch.no_grad()
    def __call__(self, inputs: Inputs) -> np.ndarray:
        """Quantiles of the residual, (rows, horizon, quantiles)."""
        return self.network(*as_tensors(inputs)).numpy()


@dataclass(frozen=True)
class Frame:
    """Where learning ends and trying begins.

    Args:
        least: steps that a series must have had before it is forecast in training.
        folds: how many horizons at its end are held back, of a series that is long enough; 0 if
            that leaves too little.
        horizon: steps of one.
    """

    least: int
    folds: int
    horizon: int

    @classmethod
    def of(cls, windows: Windows, plan: Plan) -> Frame:
        """The one that fits these series.

        Raises:
            InputError: they are too short.
        """
        least = _least_history(windows, plan.scaling)
        return cls(least, _folds(windows, least, plan.scaling.horizon), plan.scaling.horizon)

    def held_out(self, windows: Windows, plan: Plan) -> Origins | None:
        """Origins in the last horizons of each series to try on; None if there are none."""
        if not self.folds:
            return None
        ends = [windows.ends(self.horizon * fold) for fold in range(1, self.folds + 1)]
        origins = Origins(*(np.concatenate(column) for column in zip(*ends, strict=True)))
        origins = origins.where(origins.step >= self._learnt(windows)[origins.series])
        origins = origins.where(windows.known_before(origins, self.least))
        origins = teaching(windows, origins, plan)
        rng = np.random.default_rng(plan.settings.seed)
        some = np.sort(rng.permutation(len(origins.series))[:_TRIED])
        return origins.where(some) if len(some) else None

    def hides(self, windows: Windows, origins: Origins) -> np.ndarray:
        """Which of the `horizon` steps after each origin are held back."""
        step = origins.step[:, None] + np.arange(self.horizon)
        return step >= self._learnt(windows)[origins.series][:, None]

    def _learnt(self, windows: Windows) -> np.ndarray:
        """How many steps of each series the trial learns from."""
        folds = np.minimum(_half(windows, self.least, self.horizon), self.folds)
        return windows.lengths - folds * self.horizon


def require_values(longest: int, horizon: int) -> None:
    """See that the longest series has values enough to learn a horizon from.

    Raises:
        InputError: it has not.
    """
    needed = _LEAST_HISTORY + horizon
    if longest < needed:
        raise InputError(
            f"the longest series has {longest} values, too few to learn a horizon of {horizon} "
            f"from: {needed} are needed"
        )


def _least_history(windows: Windows, scaling: Scaling) -> int:
    """How many steps a series must have had before it is forecast in training."""
    longest, horizon = int(windows.lengths.max()), scaling.horizon
    wish = scaling.season_length + _MORE_THAN_A_SEASON
    require_values(longest, horizon)
    return wish if longest >= wish + 2 * horizon else _LEAST_HISTORY


def _folds(windows: Windows, least: int, horizon: int) -> int:
    """How many horizons to hold back; 0 if that leaves too little to learn from."""
    values = len(windows.lengths) * horizon
    wish = min(-(-_TRIED_VALUES // values), _HORIZONS)
    if windows.lengths.max() < least + 2 * horizon:
        return 0
    return min(wish, int(_half(windows, least, horizon).max()))


def _half(windows: Windows, least: int, horizon: int) -> np.ndarray:
    """How many horizons are half of what each series has after the least history; one at least.

    The more is held back, the less of the latest is learnt from in the trial.
    """
    return np.maximum(((windows.lengths - least) // horizon - 1) // 2, 1)


def _draw_origins(windows: Windows, plan: Plan, least: int) -> Origins:
    most = most_windows(plan)
    origins = windows.draw(least, most, np.random.default_rng(plan.settings.seed))
    origins = teaching(windows, origins, plan)
    if not len(origins.series):
        raise InputError("the series have too few values that are not missing to learn from")
    return origins


def most_windows(plan: Plan) -> int:
    """How many windows to draw: as many as memory holds and the steps can look at."""
    enough = max(plan.settings.steps * plan.batch_size // _TIMES_SEEN, _FEWEST)
    return min(max(_MEMORY // plan.scaling.context, 1024), enough)


def teaching(windows: Windows, origins: Origins, plan: Plan) -> Origins:
    """The origins before and after which something is known of what is read and foretold."""
    origins = origins.where(windows.known_before(origins, 2, plan.scaling.context))
    return origins.where(np.isfinite(windows.future(origins, plan.scaling.horizon)).any(1))


@dataclass
class _Work:
    """The trainings of one fit, one after the other."""

    plan: Plan
    watch: Watch
    team: Alone
    data: str

    def train(
        self, number: int, examples: Examples, validation: Examples | None
    ) -> tuple[Network, History]:
        """The network with this number, from all rows that the team has."""
        plan, watch, team = self.plan, self.watch, self.team
        settings = replace(plan.settings, seed=plan.settings.seed + number)
        counts = team.gather(len(examples))
        first = sum(counts[: team.rank])
        generator = np.random.default_rng(settings.seed)
        shape = (settings.steps, plan.batch_size)
        order = torch.from_numpy(generator.integers(sum(counts), size=shape)) - first
        weights = np.concatenate(team.gather(examples.weight.numpy()))
        cost = _Cost(plan, float(np.quantile(weights, _HEAVIEST)), team.device)
        with torch.random.fork_rng([]):
            torch.manual_seed(settings.seed)
            network = Network(plan.shape).to(team.device)
        answering = team.wrap(network)
        mine = slice(team.rank, None, team.size)
        there = None if validation is None else validation.rows(mine).to(team.device)

        def loss(step: int) -> Tensor:
            some = order[step][(order[step] >= 0) & (order[step] < len(examples))]
            return team.mean(*cost(answering, examples.rows(some).to(team.device)))

        def validate(held_out: Examples) -> float:
            return team.first(team.mean(*cost(network, held_out)).item())

        history = train(
            network,
            loss,
            settings,
            validate=None if there is None else lambda: validate(there),
            progress=watch.tell(number),
            checkpoint=watch.files(number),
            resume=watch.resume,
            data=self.data,
            writes=not team.rank,
        )
        watch.done += len(history.losses)
        return network.cpu(), history


class _Cost:
    """What answers to some windows cost: the weighted sum over all values, and their weight."""

    def __init__(self, plan: Plan, heaviest: float, device: str):
        self.quantiles = torch.tensor(plan.quantiles, dtype=torch.float32).to(device)
        self.heaviest = heaviest

    def __call__(self, network: nn.Module, some: Examples) -> tuple[Tensor, Tensor]:
        known = torch.isfinite(some.truth)
        truth = torch.where(known, some.truth, 0.0)
        loss = pinball(network(*some.inputs), truth, self.quantiles)
        weight = some.weight.clamp(max=self.heaviest)[:, None] * known
        return (loss * weight).sum(), weight.sum()


def _as_long_as(trial: History, settings: Settings) -> Settings:
    """Settings for as many steps as the trial took to its best."""
    best = settings.steps if trial.best is None else trial.best[0]
    steps = max(best, round(settings.steps * _EARLIEST))
    return replace(settings, steps=steps)


def _everywhere(source: Source, plan: Plan) -> Origins:
    """Windows all over the series; smoothing has learnt nothing, so each tells how it does."""
    windows = source.windows
    rng = np.random.default_rng(plan.settings.seed)
    origins = windows.draw(_least_history(windows, plan.scaling), _TRIED, rng)
    return teaching(windows, origins, plan)


def _learn_from_trial(
    model: Model, source: Source, held_out: Origins, plan: Plan, validation: Examples
) -> Missed:
    """Trust, reach and correlation, from how the trial did on what was held back; and how it did.

    `validation` is what `held_out` looks like to the network.
    """
    horizon, middle = plan.scaling.horizon, len(plan.quantiles) // 2
    reach, model.trust, model.reach = model.reach, 1.0, 1.0
    parts = [
        (
            answer.quantiles,
            scale_future(source.windows.future(answer.origins, horizon), answer.scaled),
            answer.scaled.weight,
            answer.scaled.last,
        )
        for answer in model.answers(source, held_out)
    ]
    answer, truth, weight, last = (np.concatenate(column) for column in zip(*parts, strict=True))
    median = answer[..., middle]
    if plan.trust is None:
        model.trust = choose_trust(median, truth, weight, plan.layout.columns > 0)
        better = beats_the_last_value(model.trust * median, last, truth, weight)
        model.reach = 1.0 if better else reach
    else:
        model.trust = plan.trust
    forecast = model.median(median, last)
    answer = answer + (forecast - median)[..., None]
    widths = measure_widths(answer, truth - forecast, np.array(plan.quantiles))
    model.correlation = learn_correlation(stretch(answer, widths), truth, plan.quantiles)
    return Missed(
        Inputs(*(tensor.numpy() for tensor in validation.inputs)),
        truth - forecast,
        truth - (1 - model.reach) * last,
        len(np.unique(source.windows.lengths[held_out.series] - held_out.step)),
    )


def _fingerprint(source: Source, plan: Plan) -> str:
    """What a checkpoint must agree in before training goes on from it."""
    digest = hashlib.blake2b(source.windows.values.data, digest_size=16)
    digest.update(source.windows.lengths.data)
    facts = (plan.scaling, plan.layout, plan.shape, plan.quantiles, plan.batch_size)
    digest.update(repr(facts).encode())
    return digest.hexdigest()
