"""`carry`: which steps of the input an output came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from .._inspectable import Inspectable
from ._capture import Call, as_numbers, capture
from ._frame import frame
from ._gates import seen, step_labels
from ._input import Labels, at_rest, read_input
from ._min_replay import replay_of
from ._replay import Replay

if TYPE_CHECKING:
    import pandas as pd

Score = Callable[[Any], Tensor]


@dataclass(frozen=True, eq=False)
class Carry:
    """Where a number that came out of a row came from.

    Attributes:
        labels: of the row's steps.
        row: the row's name; "" where rows have none.
        words: what the number is.
        score: the number.
        baseline: the number for an input of nothing but `baseline` values.
        gradient: (time,) gradient times input, summed over the features of a step.
        integrated: (time,) integrated gradients: they add up to `score - baseline`.
        gap: by how much they miss it, which the finite number of points leaves.
    """

    labels: tuple[str, ...]
    row: str
    words: str
    score: float
    baseline: float
    gradient: np.ndarray
    integrated: np.ndarray
    gap: float

    def share(self) -> np.ndarray:
        """(time,) the size of each step's part in the sum of all sizes."""
        sizes = np.abs(self.integrated)
        return sizes / sizes.sum() if sizes.sum() else sizes

    def to_frame(self) -> pd.DataFrame:
        """A row for each step."""
        return frame(
            {
                "step": np.arange(len(self.labels)),
                "label": list(self.labels),
                "gradient": self.gradient,
                "integrated": self.integrated,
                "share": self.share(),
            }
        )

    def __repr__(self) -> str:
        share = self.share()
        best = np.argsort(-share)[:3]
        most = ", ".join(f"{self.labels[t]!r} {share[t]:.0%}" for t in best)
        return f"Carry({self.words} = {self.score:.4g}; from {most})"


@torch.inference_mode(False)  # gradients are needed
def carry(
    model: Any,
    x: Any = None,
    t: int | None = None,
    labels: Labels | None = None,
    *,
    row: int = 0,
    score: Score | None = None,
    points: int = 32,
) -> Carry:
    """Which earlier steps the output at step `t` came from.

    Both measures ask about the input of the (first) GRU: the features of a series, the embedding of
    a token. Gradient times input is what a first-order change says; integrated gradients
    (Sundararajan et al. 2017) add it up along the way from an input of zeros, and their sum is all
    that the input did.

    Args:
        model: as for `gates`.
        x: as for `gates`.
        t: the step whose output is explained; when not given the row's last, and of a language
            model the one before it, after which came what the text ends with.
        labels: as for `gates`.
        row: which row.
        score: from the module's result to the number to explain, one a row. By default an
            estimator's own (the forecast, the likeliest next token); for a module how far the
            output goes in the direction in which it points.
        points: of the integral.

    Raises:
        TypeError: `model` or `x` is of the wrong type.
        ValueError: the module's result has no rows and no `score` says what to explain; or there is
            no such row or step.

    Example:
        >>> gru = torch.nn.GRU(1, 8, batch_first=True)
        >>> found = carry(gru, torch.randn(1, 6, 1))
        >>> bool(abs(found.integrated.sum() - (found.score - found.baseline)) < 1e-4)
        True
    """
    item = read_input(model, x, labels)
    return carry_of(item, t, row=row, score=score, points=points)


def carry_of(
    item: Inspectable,
    t: int | None = None,
    *,
    row: int = 0,
    score: Score | None = None,
    points: int = 32,
) -> Carry:
    """As `carry`, of what was read already."""
    result, calls = capture(item.module, item.inputs)
    call, replay = calls[0], replay_of(calls[0])
    t = item.score_step if t is None else t
    lengths = replay.lengths.numpy()
    if not -replay.batch <= row < replay.batch:
        raise ValueError(f"row must be one of {replay.batch}, but it is {row}")
    if not -lengths[row] <= t < lengths[row]:
        raise ValueError(f"t must be one of {lengths[row]} steps, but it is {t}")
    if points < 1:
        raise ValueError(f"points must be at least 1, but it is {points}")
    measure = _measure(item, call, replay, result, t, row, score)
    data = call.input.data if isinstance(call.input, PackedSequence) else call.input
    data = as_numbers(data, call.module).detach()
    value, slope = _slope(item, call.module, data, measure)
    baseline, _ = _slope(item, call.module, torch.zeros_like(data), measure)
    nodes, weights = np.polynomial.legendre.leggauss(points)
    total = torch.zeros_like(slope)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        total += weight * _slope(item, call.module, float(node) * data, measure)[1]
    gradient, integrated = (_by_step(part * data.double(), call, row) for part in (slope, total))
    gradient, integrated = gradient[: lengths[row]], integrated[: lengths[row]]
    labels = step_labels(item, replay.time, lengths)[row][: lengths[row]]
    words = item.score_words if score is None else "the score"
    return Carry(
        labels=labels,
        row="" if item.names is None else item.names[row],
        words=f"{words} after {seen(labels[t], bare=True)!r}" if item.foresees else words,
        score=value,
        baseline=baseline,
        gradient=gradient,
        integrated=integrated,
        gap=float(value - baseline - integrated.sum()),
    )


def _slope(item: Inspectable, gru: nn.Module, data: Tensor, measure: Score) -> tuple[float, Tensor]:
    """The number for this input of a GRU, and its gradient there, in float64."""
    leaf = data.clone().requires_grad_()

    def replace(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        given = kwargs["input"] if "input" in kwargs else args[0]
        handle.remove()  # the first call only
        other = PackedSequence(leaf, *given[1:]) if isinstance(given, PackedSequence) else leaf
        if "input" in kwargs:
            return args, kwargs | {"input": other}
        return (other, *args[1:]), kwargs

    handle = gru.register_forward_pre_hook(replace, with_kwargs=True)
    try:
        with at_rest(item.module), torch.enable_grad():
            number = measure(item.module(*item.inputs))
            (slope,) = torch.autograd.grad(number, leaf, allow_unused=True)
    finally:
        handle.remove()
    slope = torch.zeros_like(leaf) if slope is None else slope
    return number.item(), slope.double()


def _by_step(parts: Tensor, call: Call, row: int) -> np.ndarray:
    """Sums over the features, of the steps of one row."""
    if isinstance(call.input, PackedSequence):
        parts = pad_packed_sequence(PackedSequence(parts, *call.input[1:]))[0][:, row]
    elif parts.dim() == 3:
        parts = parts[row] if call.module.batch_first else parts[:, row]
    return parts.sum(-1).cpu().numpy()


def _measure(
    item: Inspectable,
    call: Call,
    replay: Replay,
    result: Any,
    t: int,
    row: int,
    score: Score | None,
) -> Score:
    """From the module's result to the number to explain."""
    if score is not None:
        return lambda result: _one(score(result), row)
    if item.score is not None:
        return lambda result: _one(item.score(result, t), row)
    t = t % int(replay.lengths[row])

    def output(result: Any) -> Tensor:
        return _output(result, call, replay, item.module is call.module, t, row)

    direction = output(result).detach()
    direction = direction / direction.norm().clamp_min(1e-12)
    return lambda result: (output(result) * direction).sum()


def _one(scores: Tensor, row: int) -> Tensor:
    return scores if scores.dim() == 0 else scores[row]


def _output(result: Any, call: Call, replay: Replay, bare: bool, t: int, row: int) -> Tensor:
    """The numbers that a row's step gave."""
    lead = replay.batch, replay.time
    output = result[0] if isinstance(result, tuple) else result
    if isinstance(output, PackedSequence):
        return pad_packed_sequence(output)[0][t, row]
    if not isinstance(output, Tensor):
        raise ValueError(
            f"the module returns a {type(output).__name__}: give score, from it to one number a row"
        )
    shape = tuple(output.shape)
    if output.dim() == 3 and shape[:2] in (lead, lead[::-1]):
        rows_first = shape[:2] == lead and (lead != lead[::-1] or call.module.batch_first)
        return output[row, t] if rows_first else output[t, row]
    if output.dim() == 2 and bare:  # one sequence without a batch
        return output[t]
    if output.dim() == 3 or (output.dim() and len(output) != lead[0]):
        raise ValueError(
            f"the module gives {shape}, of which none are {lead[0]} rows of {lead[1]} steps: give "
            "score, from it to one number a row"
        )
    return output[row].flatten() if output.dim() else output[None]
