"""From sequences to a model: try on a part that was held back, then learn from everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from .._sequences import Reader
from ..train import History, Progress, Settings, train
from ._calibrate import temperature_of
from ._model import Model
from ._network import EACH_STEP, Network, Shape

Array = np.ndarray

# The trial's best step counts as no less than this share of all: one lucky validation early on
# shall not end the learning.
_EARLIEST = 0.6
# Multiplications of a forward pass: some milliseconds on one thread.
_WORTH_SHARING = 2e8


@dataclass(frozen=True)
class Plan:
    """How to learn.

    Args:
        shape: of the networks.
        settings: of their training.
        batch_size: sequences in a batch.
        members: networks to train and average.
        dropout: between layers, and before the answer.
        held_out: share of the sequences that the trial holds back; 0 for no trial.
        calibrate: find a temperature on them.
    """

    shape: Shape
    settings: Settings
    batch_size: int
    members: int
    dropout: float
    held_out: float
    calibrate: bool


class HeldOut(NamedTuple):
    """How the trial did on the sequences that it held back, and by which it stopped.

    Args:
        score: share of right labels, or of the variance explained.
        plain: the same of whoever always gives the most frequent label, or the mean.
        sequences: how many were held back.
    """

    score: float
    plain: float
    sequences: int


class Examples:
    """Sequences as the network reads them, and the right answers.

    Args:
        reader: how to read.
        sequences: what to read.
        truth: classes or scaled numbers of each sequence: one, or one a step.
        weights: of each class; None for numbers.
    """

    def __init__(self, reader: Reader, sequences: Sequence, truth: Sequence, weights: Array | None):
        self.read = [torch.from_numpy(reader.read([sequence]).x[0]) for sequence in sequences]
        kind = np.float32 if weights is None else np.int64
        self.truth = [torch.from_numpy(np.atleast_1d(np.asarray(t, kind))) for t in truth]
        self.weights = None if weights is None else torch.from_numpy(weights.astype(np.float32))

    def __len__(self) -> int:
        return len(self.read)

    def cost(self, network: Network, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Weighted loss over all answers of some rows, and the sum of the weights."""
        lengths = torch.tensor([len(self.read[row]) for row in rows])
        answers = network(pad_sequence([self.read[row] for row in rows], True), lengths)
        if network.shape.pooling == EACH_STEP:
            answers = answers[torch.arange(answers.size(1)) < lengths[:, None]]
        truth = torch.cat([self.truth[row] for row in rows])
        if self.weights is None:
            return (answers[:, 0] - truth).square().sum(), torch.tensor(float(len(truth)))
        costs = cross_entropy(answers, truth, reduction="none")
        weight = self.weights[truth]
        return (costs * weight).sum(), weight.sum()

    def mean_cost(self, network: Network, rows: Sequence[int], at_once: int) -> float:
        """As `cost`, over many rows and without gradients."""
        total = weights = 0.0
        for start in range(0, len(rows), at_once):
            cost, weight = self.cost(network, rows[start : start + at_once])
            total, weights = total + cost.item(), weights + weight.item()
        return total / weights


def fit_model(
    reader: Reader,
    sequences: Sequence,
    truth: Sequence,
    weights: Array | None,
    plan: Plan,
    progress: Callable[[int, Progress], None] | None = None,
) -> tuple[Model, list[History], HeldOut | None]:
    """Learn from all sequences.

    A trial on all but a held-out part says after how many batches to stop, and by what the logits
    are too large; then the networks are trained for so long on everything.

    Returns:
        The model; the histories of the trial, if there was one, and of the networks; and how well
        the trial did on what was held back.
    """
    examples = Examples(reader, sequences, truth, weights)
    learnt, held_out = split(truth, weights is not None, plan)
    everything = np.arange(len(examples))
    model, histories, found = Model(reader, []), [], None
    tell = _Teller(progress, plan.settings.steps * (plan.members + bool(len(held_out))))
    if len(held_out):
        network, history = _train(examples, learnt, held_out, plan, 0, tell)
        histories.append(history)
        answers = Model(reader, [network]).answers([sequences[row] for row in held_out])
        answers = np.concatenate([np.atleast_2d(answer) for (answer,) in answers])
        right = np.concatenate([np.atleast_1d(truth[row]) for row in held_out])
        found = _judge(answers, right, len(held_out), weights is not None)
        if plan.calibrate and weights is not None:
            model.temperature = temperature_of(answers, right)
        plan = replace(plan, settings=_as_long_as(history, plan.settings))
        tell.expect(plan.settings.steps * plan.members)
    for member in range(plan.members):
        number = member + len(histories)
        network, history = _train(examples, everything, everything[:0], plan, number, tell)
        model.networks.append(network)
        histories.append(history)
    return model, histories, found


class _Teller:
    """Counts the steps of all trainings for whoever watches."""

    def __init__(self, progress: Callable[[int, Progress], None] | None, total: int):
        self.progress, self.total, self.done = progress, total, 0

    def expect(self, more: int) -> None:
        self.total = self.done + more

    def of(self, number: int) -> Callable[[Progress], None] | None:
        if self.progress is None:
            return None
        before = self.done
        return lambda p: self.progress(
            number, replace(p, step=before + p.step, steps=max(self.total, before + p.step))
        )


def split(truth: Sequence, labelled: bool, plan: Plan) -> tuple[Array, Array]:
    """Rows to learn from and rows to hold back, with some of each class in both if it has two.

    However large a share is held back, one of each class is learnt from, and one row of numbers.
    """
    rng = np.random.default_rng(plan.settings.seed)
    count = len(truth)
    order = rng.permutation(count)
    labels = labelled and plan.shape.pooling != EACH_STEP
    wanted = min(round(plan.held_out * count), count - (plan.shape.outputs if labels else 1))
    if wanted < 2:
        return order, order[:0]
    if labels:
        classes = np.array([int(label) for label in truth])[order]
        # Rows of each class spread evenly over 0 to 1: the first of all are the same share of each.
        place = np.empty(count)
        for label in np.unique(classes):
            mine = np.flatnonzero(classes == label)
            place[mine] = (np.arange(len(mine)) + rng.random()) / len(mine)
            place[mine[-1]] = 2.0  # one of each class is always learnt from
        order = order[np.argsort(place, kind="stable")]
    return order[wanted:], order[:wanted]


def _train(
    examples: Examples, rows: Array, held_out: Array, plan: Plan, number: int, tell: _Teller
) -> tuple[Network, History]:
    settings = replace(plan.settings, seed=plan.settings.seed + number)
    with torch.random.fork_rng([]):
        torch.manual_seed(settings.seed)
        network = Network(plan.shape, plan.dropout)
    reads = float(np.mean([len(examples.read[row]) for row in rows]))
    order = _batches(rows, plan.batch_size, settings)

    def loss(step: int) -> Tensor:
        cost, weight = examples.cost(network, order[step].tolist())
        return cost / weight

    def validate() -> float:
        return examples.mean_cost(network, held_out.tolist(), 4 * plan.batch_size)

    with enough_threads(plan.batch_size * reads * network.products):
        history = train(
            network,
            loss,
            settings,
            validate=validate if len(held_out) else None,
            progress=tell.of(number),
        )
    tell.done += len(history.losses)
    return network, history


@contextmanager
def enough_threads(work: float) -> Iterator[None]:
    """One thread where a batch takes so few multiplications that sharing them gains nothing.

    On a machine that is busy, threads then spend twenty times the work on waiting for each other.
    """
    before = torch.get_num_threads()
    if work < _WORTH_SHARING:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _batches(rows: Array, size: int, settings: Settings) -> Array:
    """The rows of each step: every row once before any comes again."""
    rng = np.random.default_rng(settings.seed)
    size = min(size, len(rows))
    passes = -(-settings.steps * size // len(rows))
    order = np.concatenate([rng.permutation(rows) for _ in range(passes)])
    return order[: settings.steps * size].reshape(settings.steps, size)


def _as_long_as(trial: History, settings: Settings) -> Settings:
    """Settings for as many steps as the trial took to its best."""
    best = settings.steps if trial.best is None else trial.best[0]
    return replace(settings, steps=max(best, round(settings.steps * _EARLIEST), 1))


def _judge(answers: Array, right: Array, sequences: int, labelled: bool) -> HeldOut:
    if labelled:
        score = float((answers.argmax(1) == right).mean())
        return HeldOut(score, float(np.bincount(right).max() / len(right)), sequences)
    spread = np.square(right - right.mean()).sum()
    missed = np.square(right - answers[:, 0]).sum()
    return HeldOut(float(1 - missed / spread) if spread else 0.0, 0.0, sequences)
