"""One direction of one layer, step by step in float64, so that any state can be reached.

A strand's steps are in its own order of reading: the reverse direction's first step is the last of
the sequence. Shorter rows are moved to the end, so that every row ends at the last step; the steps
before its beginning leave its state as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..nn._functional import Step, advance
from ..nn._layer import GATES, Direction

# Causal measures are taken on so many rows at most.
_ROWS = 16
# sigmoid of it is exactly one in float64, and of its negative exactly zero.
FAR = 1e6


class Run(NamedTuple):
    """What came of a strand, in its own order."""

    states: Tensor  # (time + 1, batch, hidden): the initial state, then one after each step
    outputs: Tensor  # (time, batch, hidden): as states, zero where a row has no step
    gates: Tensor  # (gates, time, batch, hidden)


@dataclass(frozen=True)
class Strand:
    """The steps of one direction of one layer.

    Attributes:
        name: such as "encoder.l0_reverse".
        reset: where its reset gate acts, as in `GRU`.
        weights: its parameters.
        steps: what each step needs besides the state.
        start: (batch, hidden) the initial state.
        lengths: (batch,) own steps of each row.
        reverse: whether it reads from the end.
        after: changes the state after a step; None changes nothing.
    """

    name: str
    reset: str
    weights: Direction
    steps: Step
    start: Tensor
    lengths: Tensor
    reverse: bool
    after: Callable[[Tensor], Tensor] | None = None

    @property
    def time(self) -> int:
        """How many steps."""
        return self.steps.gates.size(0)

    @property
    def gates(self) -> tuple[str, ...]:
        """Its gates by letter, in the order of `Run.gates`."""
        return GATES[self.reset]

    def step(self, h: Tensor, t: int, copies: int = 1) -> Tensor:
        """The state after step `t`; with `copies`, of as many batches one after the other."""
        return self._advance(h, t, copies)[0]

    def _advance(self, h: Tensor, t: int, copies: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        step = each_of(self.steps, lambda every: _repeat(every[t], copies))
        new, output, gates = self.cell(h, step)
        if self.after is None:
            return new, output, gates
        changed = self.after(new)
        if step.valid is None:
            return changed, changed, gates
        return (
            torch.where(step.valid, changed, new),
            torch.where(step.valid, changed, output),
            gates,
        )

    def cell(self, h: Tensor, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        """The next state, the output and the gates."""
        return advance(self.reset, self.weights, None, h, step)

    def run(self) -> Run:
        """Every step from the start."""
        h, states, outputs, gates = self.start, [self.start], [], []
        for t in range(self.time):
            h, output, gate = self._advance(h, t)
            states.append(h)
            outputs.append(output)
            gates.append(gate)
        if not outputs:
            nothing = self.start.new_zeros(0, *self.start.shape)
            return Run(self.start[None], nothing, nothing.expand(len(self.gates), *nothing.shape))
        return Run(torch.stack(states), torch.stack(outputs), torch.stack(gates, 1))

    def rows(self, which: Tensor | slice) -> Strand:
        """The strand of some rows."""
        steps = each_of(self.steps, lambda every: every[:, which])
        return replace(self, steps=steps, start=self.start[which], lengths=self.lengths[which])

    def holding(self, gate: str, value: float) -> Strand:
        """The strand with a gate, "r" or "z", held at 0 or 1, whatever it reads.

        Its row of every product is made zero, and its bias far.
        """
        index, hidden = self.gates.index(gate), self.start.size(-1)
        mine = slice(index * hidden, (index + 1) * hidden)
        gates = self.steps.gates.clone()
        gates[..., mine] = FAR if value else -FAR
        w = self.weights
        # A normalised product keeps its weights: the others are normalised together with it.
        through = "weight_hh" if w.norm_hh is None else "norm_hh"
        changed = {
            name: _without(getattr(w, name), mine)
            for name in (through, "bias_hh")
            if getattr(w, name) is not None
        }
        return replace(self, steps=self.steps._replace(gates=gates), weights=w._replace(**changed))

    def with_state_held(self, units: Sequence[int] | Tensor, at: Tensor) -> Strand:
        """The strand with the state of some units at `at`, (units,), after every step."""
        units = torch.as_tensor(units)

        def after(h: Tensor) -> Tensor:
            return h.index_copy(-1, units, at.expand(*h.shape[:-1], -1))

        return replace(self, after=after)


def each_of(steps: Step, change: Callable[[Tensor], Tensor]) -> Step:
    """A change of everything that the steps have."""
    optional = (None if every is None else change(every) for every in steps[2:])
    return Step(change(steps.gates), change(steps.candidate), *optional)


def _repeat(step: Tensor, copies: int) -> Tensor:
    return step if copies == 1 else step.repeat(copies, *(1,) * (step.dim() - 1))


def _without(tensor: Tensor, rows: slice) -> Tensor:
    tensor = tensor.clone()
    tensor[rows] = 0.0
    return tensor


def own_order(sequence: Tensor, reverse: bool, lengths: Tensor) -> Tensor:
    """(time, batch, ...) as a strand reads it, rows moved to the end."""
    if reverse:
        return sequence.flip(0)
    return _rolled(sequence, sequence.size(0) - lengths)


def natural_order(sequence: Tensor, reverse: bool, lengths: Tensor) -> Tensor:
    """What `own_order` brought into a strand's order, back in that of the sequence."""
    return sequence.flip(0) if reverse else _rolled(sequence, lengths - sequence.size(0))


def _rolled(sequence: Tensor, by: Tensor) -> Tensor:
    """Each row of (time, batch, ...) moved to later steps, what leaves at the end coming first."""
    time = sequence.size(0)
    if not time or not by.any():
        return sequence
    source = (torch.arange(time)[:, None] - by) % time
    return sequence[source, torch.arange(sequence.size(1))]


def some_rows(batch: int) -> Tensor:
    """Numbers of the rows for measures that cost much, evenly chosen if there are many."""
    return evenly(batch, _ROWS)


def evenly(count: int, most: int) -> Tensor:
    """Numbers from 0 on, all or so many of them."""
    if count <= most:
        return torch.arange(count)
    return torch.linspace(0, count - 1, most).long()


def inside_rows(strand: Strand) -> Tensor:
    """(time, batch, 1) whether a step is one of the row's own, in the strand's order."""
    first = strand.time - strand.lengths
    return (torch.arange(strand.time)[:, None] >= first)[..., None]


def mean_of_units(values: Tensor, inside: Tensor) -> np.ndarray:
    """Mean over the steps of all rows, (hidden,); NaN where there is none."""
    total = torch.where(inside, values, 0.0).sum((0, 1))
    return (total / inside.sum()).numpy()
