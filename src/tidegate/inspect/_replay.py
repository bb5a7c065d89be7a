"""A call of a GRU, replayed strand by strand, with every state in reach and in hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from ..nn import Gates, GRUResult, GRUResultWithGates, _call
from ..nn._functional import prepare
from ..nn._layer import Layer, Plan, directions, valid_steps
from ..nn._stack import Inputs, Regularisers, StackOutputs, _effective, _project, parameter_kinds
from ._capture import Call, as_ours
from ._strand import Run, Strand, each_of, natural_order, own_order

# Units, steps and rows of one run together: a few hundred MB of gates and states in float64.
_NUMBERS = 2**22
# Beyond so many, gates and states of every step together would be some 10 GB.
MOST = 2**27
# What is done to a strand before it runs: the strand to run in its place.
Edit = Callable[[Strand], Strand]


@dataclass(frozen=True)
class Replay:
    """A GRU and its call, ready to run as often as wanted. Built by `Replay.of`."""

    name: str
    gru: Any
    form: Any
    inputs: Inputs

    @classmethod
    def of(cls, call: Call) -> Replay:
        """The replay of a call, in float64."""
        gru, arguments = as_ours(call)
        return cls(call.name, gru, *_call.read(gru, *arguments))

    def rows(self, which: Tensor) -> Replay:
        """The replay of some rows."""
        inputs = self.inputs
        return replace(
            self,
            inputs=inputs._replace(
                x=inputs.x[:, which],
                states=[None if h is None else h[:, which] for h in inputs.states],
                keep=None if inputs.keep is None else inputs.keep[:, which],
                lengths=self.lengths[which],
            ),
        )

    def tail(self, steps: int, states: list[Tensor]) -> Replay:
        """The replay of the last steps, from the states of all strands that a run had there.

        The replay itself where a row ends before, or a direction begins at the end.
        """
        begin = self.time - steps
        if begin <= 0 or self.gru.bidirectional or (self.lengths != self.time).any():
            return self
        inputs = self.inputs
        return replace(
            self,
            inputs=inputs._replace(
                x=inputs.x[begin:],
                states=[each[begin][None] for each in states],
                keep=None if inputs.keep is None else inputs.keep[begin:],
                lengths=None,
            ),
        )

    def affordable(self) -> int:
        """How many rows can be run together: gates and states of every step take memory."""
        return max(_NUMBERS // max(self.units * self.time, 1), 1)

    def checked(self) -> Replay:
        """The replay, if all of its rows can be held in memory.

        Raises:
            ValueError: they cannot.
        """
        if self.units * self.time * self.batch > MOST:
            steps, rows = MOST // (self.units * self.batch), f"{self.batch} row"
            rows = rows if self.batch == 1 else f"{rows}s"
            raise ValueError(
                f"x has {self.time:,} steps of {rows}, too many to hold the gates of "
                f"{self.units:,} units: give a part of it, such as its last {max(steps, 1):,} steps"
            )
        return self

    @property
    def units(self) -> int:
        """Units of all layers and directions."""
        return sum(self.gru.hidden_sizes) * (1 + self.gru.bidirectional)

    @property
    def time(self) -> int:
        """Steps of the call."""
        return self.inputs.x.size(0)

    @property
    def batch(self) -> int:
        """Rows of the call."""
        return self.inputs.x.size(1)

    @property
    def lengths(self) -> Tensor:
        """(batch,) steps of each row."""
        given = self.inputs.lengths
        return torch.full((self.batch,), self.time) if given is None else given

    def run(self, edit: Edit | None = None, x: Tensor | None = None) -> Traces:
        """Run every layer, each strand as `edit` makes it.

        Args:
            edit: changes strands.
            x: other input, (time, copies * batch, features): batches one after the other.
        """
        gru, inputs = self.gru, self.inputs
        copies = 1 if x is None else x.size(1) // self.batch
        below = inputs.x if x is None else x
        lengths = self.lengths.repeat(copies)
        keep = None if inputs.keep is None else inputs.keep.repeat(1, copies, 1)
        kinds = parameter_kinds(gru.bias, gru.proj_size, gru.layer_norm)
        plan = Plan(gru.reset, 1 + gru.bidirectional, gru.bias, gru.layer_norm)
        stack = gru.stack
        if stack == "residual":
            below = torch.where(valid_steps(below, lengths), below, 0)
        traces, states = [], []
        for index, given in enumerate(gru._weights(torch.float64)):
            weights, projections = _effective(given, kinds, _AT_REST)
            h_0 = inputs.states[index]
            h_0 = None if h_0 is None else h_0.repeat(1, copies, 1)
            zone = self._zone(below, weights[1].size(1) * plan.directions)
            layer = Layer(below, h_0, keep, None, zone, lengths, None, weights)
            mine = [
                _traced(self._strand(layer, plan, d, index, lengths), edit)
                for d in range(plan.directions)
            ]
            output = torch.cat([trace.output for trace in mine], -1)
            output = _project(output, projections) if projections else output
            if stack == "residual" and output.size(-1) == below.size(-1):
                output = output + below
            top = index == gru.num_layers - 1
            below = torch.cat((below, output), -1) if stack == "dense" and not top else output
            traces += mine
            states.append(torch.stack([trace.run.states[-1] for trace in mine]))
        return Traces(traces, StackOutputs(below, states, []))

    def _zone(self, x: Tensor, units: int) -> Tensor | None:
        zoneout = self.gru.zoneout
        return x.new_full((1, 1, 1), zoneout).expand(*x.shape[:2], units) if zoneout else None

    def _strand(
        self, layer: Layer, plan: Plan, direction: int, index: int, lengths: Tensor
    ) -> Strand:
        weights = directions(layer.weights, plan)[direction]
        reverse = bool(direction)
        steps = each_of(
            prepare(layer, direction, weights), lambda every: own_order(every, reverse, lengths)
        )
        if (lengths == layer.x.size(0)).all():
            steps = steps._replace(valid=None)
        hidden = weights.weight_hh.size(1)
        h = (
            layer.x.new_zeros(layer.x.size(1), hidden)
            if layer.h_0 is None
            else layer.h_0[direction]
        )
        suffix = "_reverse" if reverse else ""
        name = ".".join(filter(None, [self.name, f"l{index}{suffix}"]))
        return Strand(name, plan.reset, weights, steps, h, lengths, reverse)

    def answer(self, edit: Edit | None, call: Call, return_gates: bool = False) -> Any:
        """What the module would return with edited strands, as its input's dtype and device."""
        parts = []
        for which in torch.arange(self.batch).split(self.affordable()):
            traces = self.rows(which).run(edit)
            gates = self._gates(traces) if return_gates else []
            parts.append((traces.outputs.output, traces.outputs.states, gates))
        output, states, gates = zip(*parts, strict=True)
        outputs = StackOutputs(
            torch.cat(output, 1),
            [torch.cat(each, 1) for each in zip(*states, strict=True)],
            [torch.cat(each, 2) for each in zip(*gates, strict=True)],
        )
        result = _call.write(self.gru, self.form, outputs, return_gates)
        output, *others = like(result, call.input)
        if isinstance(call.input, PackedSequence):
            output = as_packed(output, self)
        if not return_gates:
            return GRUResult(output, *others)
        return GRUResultWithGates(output, others[0], Gates(*others[1]))

    def _gates(self, traces: Traces) -> list[Tensor]:
        """The gates of each layer, (gates, time, batch, hidden), directions side by side."""
        step = 1 + self.gru.bidirectional
        layers = [traces.each[i : i + step] for i in range(0, len(traces.each), step)]
        return [torch.cat([trace.gates() for trace in layer], -1) for layer in layers]


@dataclass(frozen=True)
class Trace:
    """A strand and what came of it."""

    strand: Strand
    run: Run

    @property
    def output(self) -> Tensor:
        """(time, batch, hidden) in the order of the sequence; zero past a row's end."""
        return self.natural(self.run.outputs)

    def natural(self, sequence: Tensor) -> Tensor:
        """(time, batch, ...) from the strand's order into that of the sequence."""
        return natural_order(sequence, self.strand.reverse, self.strand.lengths)

    def gates(self) -> Tensor:
        """(gates, time, batch, hidden) in the order of the sequence."""
        return torch.stack([self.natural(gate) for gate in self.run.gates])


@dataclass(frozen=True)
class Traces:
    """All strands of a GRU, layer by layer, forward before reverse; and what the GRU returns."""

    each: list[Trace]
    outputs: StackOutputs


_AT_REST = Regularisers(0.0, 0.0, 0.0, 0.0, training=False)


def _traced(strand: Strand, edit: Edit | None) -> Trace:
    strand = strand if edit is None else edit(strand)
    return Trace(strand, strand.run())


def as_packed(output: Tensor, replay: Replay) -> PackedSequence:
    """A padded output as the module gives it where its input was packed."""
    first = bool(replay.gru.batch_first)
    return pack_padded_sequence(output, replay.lengths, first, enforce_sorted=False)


def like(value: Any, given: Tensor | PackedSequence) -> Any:
    """Tensors with the dtype and the device of what was given."""
    given = given.data if isinstance(given, PackedSequence) else given
    if isinstance(value, Tensor):
        return value.to(given.device, given.dtype if given.is_floating_point() else torch.float32)
    return tuple(like(each, given) for each in value)
