"""Which units hold a label: probes on each, on groups, and on what is left without a group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ._probe import Target
from ._replay import Replay, Trace
from ._strand import Strand, inside_rows, mean_of_units


@dataclass(frozen=True, eq=False)
class Group:
    """Units that were tried together.

    Attributes:
        units: their numbers.
        alone: score of a probe that sees these units only.
        without: score of a probe on all units, learnt anew, of a run in which these are held at
            their mean: what the others know.
    """

    units: tuple[int, ...]
    alone: float
    without: float


@dataclass(frozen=True, eq=False)
class Probing:
    """What probes found in a layer.

    Attributes:
        scores: (units,) of a probe on each unit alone.
        ranked: (units,) the units, best first.
        groups: the best 1, 2, 4, ... of them.
        target: what was read.
    """

    scores: np.ndarray
    ranked: np.ndarray
    groups: tuple[Group, ...]
    target: Target


def probed(replay: Replay, index: int, trace: Trace, labels: np.ndarray) -> Probing:
    """Probe the last states of a strand, number `index` of its replay, for labels of the rows."""
    pick = _labelled(labels, trace.strand)
    target = Target(pick.labels, pick.rows)
    states = pick.states(trace)
    scores = target.read_each(states)
    ranked = np.argsort(-scores, kind="stable")
    hidden = len(ranked)
    sizes = [*(2**i for i in range(hidden.bit_length()) if 2**i < hidden), hidden]
    groups = []
    for size in sizes:
        units = ranked[:size]
        groups.append(
            Group(
                tuple(units.tolist()),
                target.read(states[:, units]),
                target.read(_without(replay, index, trace, units, pick)),
            )
        )
    return Probing(scores, ranked, tuple(groups), target)


def _without(
    replay: Replay, index: int, trace: Trace, units: np.ndarray, pick: _Pick
) -> np.ndarray:
    """The states that a probe sees when some units are held at their mean."""
    mean = torch.as_tensor(mean_of_units(trace.run.states[1:], inside_rows(trace.strand)))[units]
    name = trace.strand.name

    def hold(strand: Strand) -> Strand:
        return strand.with_state_held(units.tolist(), mean) if strand.name == name else strand

    return pick.states(replay.run(hold).each[index])


@dataclass(frozen=True)
class _Pick:
    """Which states have a label: the last of each row, or all."""

    labels: np.ndarray
    rows: np.ndarray
    steps: np.ndarray | None

    def states(self, trace: Trace) -> np.ndarray:
        if self.steps is None:
            return trace.run.states[-1][self.rows].numpy()
        return trace.natural(trace.run.states[1:])[self.steps, self.rows].numpy()


def _labelled(labels: np.ndarray, strand: Strand) -> _Pick:
    lengths = strand.lengths.numpy()
    batch, time = len(lengths), strand.time
    if labels.shape == (batch,):
        return _Pick(labels, np.arange(batch), None)
    if labels.shape != (batch, time):
        raise ValueError(
            f"target must be ({batch},), one for each row, or ({batch}, {time}), one for each "
            f"step, but it is {labels.shape}"
        )
    rows, steps = np.nonzero(np.arange(time) < lengths[:, None])
    return _Pick(labels[rows, steps], rows, steps)
