"""A call of a minGRU, replayed as a GRU's is: its gate is read as the share of the past kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from ..nn import Gates, GRUResult, GRUResultWithGates, MinGRU
from ..nn._functional import Step
from ..nn._layer import Direction, valid_steps
from ..nn._min_gru_op import gates as gates_of
from ..nn._stack import Inputs, StackOutputs
from ._capture import Call, as_double, padded
from ._replay import Edit, Replay, Trace, Traces, as_packed, like
from ._strand import FAR, Strand, each_of, own_order

_NO_WEIGHTS = Direction(torch.zeros(0), torch.zeros(0))


def replay_of(call: Call) -> Replay:
    """The replay of a call of a GRU or a minGRU, in float64."""
    return MinReplay.of(call) if isinstance(call.module, MinGRU) else Replay.of(call)


@dataclass(frozen=True)
class MinStrand(Strand):
    """A strand whose gate and candidate do not see the state: `h = z h + (1 - z) n`.

    `steps.gates` has what the sigmoid of is z, the share kept: the paper's with its sign turned.
    """

    def cell(self, h: Tensor, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        """The next state, the output and the gates."""
        kept = h if step.keep is None else step.keep * h
        z, n = torch.sigmoid(step.gates), step.candidate
        new, gates = torch.lerp(n, kept, z), torch.stack((z, n))
        if step.valid is None:
            return new, new, gates
        output, gates = torch.where(step.valid, new, 0), torch.where(step.valid, gates, 0)
        return torch.where(step.valid, new, h), output, gates

    def holding(self, gate: str, value: float) -> MinStrand:
        """The strand with its gate held at 0 or 1."""
        held = torch.full_like(self.steps.gates, FAR if value else -FAR)
        return replace(self, steps=self.steps._replace(gates=held))


@dataclass(frozen=True)
class MinReplay(Replay):
    """A minGRU and its call, ready to run as often as wanted."""

    @classmethod
    def of(cls, call: Call) -> MinReplay:
        """The replay of a call, in float64."""
        module, (given, lengths) = call.module, padded(call)
        alone = given.dim() == 2
        first = module.batch_first and not alone

        def time_first(sequence: Any) -> Tensor:
            sequence = as_double(sequence)
            return sequence[:, None] if alone else sequence.transpose(0, 1) if first else sequence

        keep, states = call.keep, [None] * module.num_layers
        if keep is not None:
            keep = time_first(keep if keep.dim() == given.dim() else keep[..., None])
        if call.hx is not None:
            h = as_double(call.hx[:, None] if alone else call.hx)
            states = list(h.unflatten(0, (module.num_layers, 1 + module.bidirectional)))
        return cls(call.name, module, None, Inputs(time_first(given), states, keep, lengths, None))

    @property
    def units(self) -> int:
        """Units of all layers and directions."""
        module = self.gru
        return module.hidden_size * module.num_layers * (1 + module.bidirectional)

    def run(self, edit: Edit | None = None, x: Tensor | None = None) -> Traces:
        """As `Replay.run`."""
        inputs = self.inputs
        copies = 1 if x is None else x.size(1) // self.batch
        below = inputs.x if x is None else x
        lengths = self.lengths.repeat(copies)
        keep = None if inputs.keep is None else inputs.keep.repeat(1, copies, 1)
        traces, states = [], []
        for layer, given in enumerate(inputs.states):
            mine = []
            for direction in range(1 + self.gru.bidirectional):
                h = (
                    below.new_zeros(below.size(1), self.gru.hidden_size)
                    if given is None
                    else given[direction].repeat(copies, 1)
                )
                strand = self._min_strand(layer, direction, below, keep, lengths, h)
                strand = strand if edit is None else edit(strand)
                mine.append(Trace(strand, strand.run()))
            below = torch.cat([trace.output for trace in mine], -1)
            states.append(torch.stack([trace.run.states[-1] for trace in mine]))
            traces += mine
        return Traces(traces, StackOutputs(below, states, []))

    def _min_strand(
        self,
        layer: int,
        direction: int,
        x: Tensor,
        keep: Tensor | None,
        lengths: Tensor,
        h: Tensor,
    ) -> MinStrand:
        name, module = f"l{layer}{'_reverse' if direction else ''}", self.gru
        bias = as_double(module.get_parameter(f"bias_ih_{name}")) if module.bias else None
        valid = valid_steps(x, lengths)
        product = F.linear(
            torch.where(valid, x, 0), as_double(module.get_parameter(f"weight_ih_{name}")), bias
        )
        candidate = gates_of(product, module.candidate == "positive")[1]
        keep = None if keep is None else torch.where(valid, keep, 1)
        whole = bool((lengths == x.size(0)).all())
        steps = Step(
            -product[..., : module.hidden_size], candidate, keep, None, None if whole else valid
        )
        steps = each_of(steps, lambda every: own_order(every, bool(direction), lengths))
        full = ".".join(filter(None, [self.name, name]))
        return MinStrand(full, "none", _NO_WEIGHTS, steps, h, lengths, bool(direction))

    def answer(self, edit: Edit | None, call: Call, return_gates: bool = False) -> Any:
        """What the module would return with edited strands, as its input's dtype and device."""
        traces = self.run(edit)
        packed = isinstance(call.input, PackedSequence)
        alone = not packed and cast(Tensor, call.input).dim() == 2
        first = self.gru.batch_first and not alone

        def given(sequence: Tensor) -> Tensor:
            return sequence[:, 0] if alone else sequence.transpose(0, 1) if first else sequence

        h_n = torch.cat(traces.outputs.states)
        result = given(traces.outputs.output), h_n[:, 0] if alone else h_n
        output, h_n = like(result, call.input)
        output = as_packed(output, self) if packed else output
        if not return_gates:
            return GRUResult(output, h_n)
        layers = [tuple(map(given, layer)) for layer in self._gates(traces)]
        update, new = (tuple(like(layer[i], call.input) for layer in layers) for i in range(2))
        return GRUResultWithGates(output, h_n, Gates((), update, new))
