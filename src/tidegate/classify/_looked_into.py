"""A fitted classifier or regressor as `tidegate.inspect` sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from .._inspectable import Choices, Inspectable, Numbers
from .._sequences import NumberReader, from_scaled
from ._network import EACH_STEP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..train import History
    from ._inputs import Inputs
    from ._model import Model

Array = np.ndarray

_LIKELIEST = 5


def look_into(
    model: Model,
    title: str,
    inputs: Inputs,
    classes: Array | None,
    truth: Any,
    history: Sequence[History],
) -> Inspectable:
    """The first network, reading sequences.

    Args:
        model: fitted.
        title: the model in one line.
        inputs: what it reads.
        classes: its labels; None of a regressor.
        truth: what the network learns to answer for each sequence, or each of its steps, where that
            is known: the class by its number, or the number as the network has it.
        history: of each training.
    """
    network, count = model.networks[0], len(model.networks)
    batch = model.reader.read(inputs.sequences)
    lengths = torch.from_numpy(batch.lengths)
    notes = [] if count == 1 else [f"This is the first of {count} networks, whose mean it is."]
    names = None if inputs.frame is None else inputs.frame.ids
    outcomes: Any = _numbers(model, inputs, truth) if classes is None else None
    score = None
    loss = None if truth is None else _squared(truth, lengths)
    if classes is not None:
        outcomes = _outcomes(model, inputs, classes, truth)
        score = _score(network.shape.pooling, lengths)
        loss = None if truth is None else _loss(truth, lengths)
    return Inspectable(
        module=network,
        inputs=(torch.from_numpy(batch.x), lengths),
        title=title,
        labels=_labels(model, inputs, batch.x.shape[1]),
        names=names,
        tokens=inputs.is_text,
        values=_values(model, inputs, batch.x.shape[1]),
        outcomes=outcomes,
        score=score,
        score_words="the logit of the likeliest class" if score else "the output",
        loss=loss,
        history={f"training {i + 1}": h for i, h in enumerate(history)} or None,
        notes=notes,
    )


def _labels(model: Model, inputs: Inputs, reads: int) -> list[list[str]]:
    """Of the steps that the network reads; "" for padding."""
    rows = []
    for sequence in inputs.sequences:
        if isinstance(sequence, str):
            named = list(sequence)
        else:
            stride = model.reader.stride if isinstance(model.reader, NumberReader) else 1
            named = [str(step) for step in range(0, len(sequence), stride)]
        rows.append(named + [""] * (reads - len(named)))
    return rows


def _values(model: Model, inputs: Inputs, reads: int) -> Array | None:
    """The one feature of each sequence where it is read; None where there are several."""
    if inputs.is_text or inputs.features != 1 or not isinstance(model.reader, NumberReader):
        return None
    values = np.full((len(inputs), reads), np.nan)
    for row, sequence in enumerate(inputs.sequences):
        taken = np.asarray(sequence)[:: model.reader.stride, 0]
        values[row, : len(taken)] = taken
    return values


def _outcomes(
    model: Model, inputs: Inputs, classes: Array, truth: list[Any] | None
) -> list[list[Choices]]:
    outcomes = []
    for row, found in enumerate(model.probabilities(inputs.sequences)):
        right = [None] * len(np.atleast_2d(found)) if truth is None else np.atleast_1d(truth[row])
        steps = range(len(found)) if model.per_step else [-1]
        outcomes.append(
            [
                _choices(chances, step, classes, label)
                for chances, step, label in zip(np.atleast_2d(found), steps, right, strict=True)
            ]
        )
    return outcomes


def _numbers(model: Model, inputs: Inputs, truth: Any) -> list[Numbers]:
    known = [None] * len(inputs)
    if truth is not None:
        known = [from_scaled(np.atleast_1d(t), model.center, model.spread) for t in truth]
    found = model.numbers(inputs.sequences)
    return [Numbers(np.atleast_1d(f), t) for f, t in zip(found, known, strict=True)]


def _choices(chances: Array, step: int, classes: Array, truth: int | None) -> Choices:
    order = np.argsort(-chances)[:_LIKELIEST]
    return Choices(
        names=[str(classes[i]) for i in order],
        chances=chances[order].tolist(),
        step=step,
        truth=None if truth is None else str(classes[truth]),
    )


def _score(pooling: str, lengths: Tensor):
    """The logit of the likeliest class, of the step asked about where each has one."""

    def score(answer: Tensor, step: int) -> Tensor:
        if pooling != EACH_STEP:
            return answer.max(1).values
        at = lengths - 1 if step < 0 else torch.full_like(lengths, step)
        return answer[torch.arange(len(answer)), at.clamp(max=answer.size(1) - 1)].max(1).values

    return score


def _squared(truth: list[Any], lengths: Tensor):
    """The mean squared error, of numbers as the network gives them."""
    right = torch.from_numpy(np.concatenate([np.atleast_1d(number) for number in truth]))

    def loss(answer: Tensor) -> Tensor:
        if answer.dim() == 3:
            answer = answer[torch.arange(answer.size(1)) < lengths[:, None]]
        return (answer[:, 0] - right).square().mean()

    return loss


def _loss(truth: list[Any], lengths: Tensor):
    right = torch.from_numpy(np.concatenate([np.atleast_1d(t) for t in truth])).long()

    def loss(answer: Tensor) -> Tensor:
        if answer.dim() == 3:
            answer = answer[torch.arange(answer.size(1)) < lengths[:, None]]
        return cross_entropy(answer, right)

    return loss
