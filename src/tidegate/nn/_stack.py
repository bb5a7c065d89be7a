"""Layers upon layers: what each reads, the names and shapes of its parameters, and the run."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tidegate.nn._draw import draw
from tidegate.nn._layer import GATES, Layer, Outputs, Plan, valid_steps
from tidegate.nn._road import gru_layer

STACKS = ("plain", "residual", "dense")


class Sizes(NamedTuple):
    """Features that a layer reads, units of its state, and numbers by which it is seen."""

    input: int
    hidden: int
    seen: int


def layer_sizes(
    input_size: int, hidden_sizes: tuple[int, ...], proj_size: int, directions: int, stack: str
) -> list[Sizes]:
    """Sizes of every layer; in a dense stack a layer reads the input and all layers below."""
    sizes, width = [], input_size
    for hidden in hidden_sizes:
        sizes.append(Sizes(width, hidden, proj_size or hidden))
        given = directions * (proj_size or hidden)
        width = width + given if stack == "dense" else given
    return sizes


def parameter_kinds(bias: bool, proj_size: int, layer_norm: bool) -> list[str]:
    """Kinds of parameters of one direction, in torch's order, ours last."""
    kinds = ["weight_ih", "weight_hh"]
    kinds += ["bias_ih", "bias_hh"] if bias else []
    kinds += ["weight_hr"] if proj_size else []
    return kinds + (["norm_ih", "norm_hh"] if layer_norm else [])


def parameter_shape(kind: str, sizes: Sizes, reset: str) -> tuple[int, ...]:
    """Shape of one kind of parameter."""
    gates = len(GATES[reset]) * sizes.hidden
    matrices = {
        "weight_ih": (gates, sizes.input),
        "weight_hh": (gates, sizes.seen),
        "weight_hr": (sizes.seen, sizes.hidden),
    }
    return matrices.get(kind, (gates,))


class Regularisers(NamedTuple):
    """Probabilities, and whether the module is training."""

    dropout: float
    recurrent_dropout: float
    zoneout: float
    weight_dropout: float
    training: bool


class Inputs(NamedTuple):
    """What a stack is given: as `Layer`, with one initial state, or None, for each layer."""

    x: Tensor
    states: list[Tensor | None]  # never None for packed input
    keep: Tensor | None
    lengths: Tensor | None
    batch_sizes: Tensor | None


class StackOutputs(NamedTuple):
    """The top layer's output, and every layer's last states and gates."""

    output: Tensor
    states: list[Tensor]
    gates: list[Tensor | None]


def run(
    inputs: Inputs,
    weights: list[list[Tensor]],
    kinds: list[str],
    plan: Plan,
    stack: str,
    chances: Regularisers,
    save: bool,
) -> StackOutputs:
    """Run every layer; `weights` are those of each layer, of every kind, direction by direction."""
    below, states, gates = inputs.x, [], []
    if stack == "residual" and inputs.lengths is not None:  # past its length a row adds nothing
        below = torch.where(valid_steps(below, inputs.lengths), below, 0)
    for index, of_layer in enumerate(weights):
        top = index == len(weights) - 1
        # Only the top layer's results are seen; those below are time first, as torch's, so that
        # dropout draws the same numbers in the same places.
        own = plan if top else plan._replace(batch_first=False)
        output, h_n, seen = _run_layer(inputs, index, below, of_layer, kinds, own, chances, save)
        if chances.dropout and not top:
            output = F.dropout(output, chances.dropout, chances.training)
        if stack == "residual" and output.size(-1) == below.size(-1):
            output = output + below
        below = torch.cat((below, output), -1) if stack == "dense" and not top else output
        states.append(h_n)
        gates.append(seen)
    return StackOutputs(below, states, gates)


def _run_layer(
    inputs: Inputs,
    index: int,
    x: Tensor,
    weights: list[Tensor],
    kinds: list[str],
    plan: Plan,
    chances: Regularisers,
    save: bool,
) -> Outputs:
    weights, projections = _effective(weights, kinds, chances)
    hidden = weights[1].size(1)
    state = inputs.states[index]
    packed = inputs.batch_sizes is not None
    batch = state.size(1) if packed and state is not None else x.size(1)
    layer = Layer(
        x,
        state,
        inputs.keep,
        _mask(x, (plan.directions, batch, hidden), chances),
        _zone(inputs, x, (batch, plan.directions * hidden), chances),
        inputs.lengths,
        inputs.batch_sizes,
        weights,
    )
    outputs = gru_layer(layer, plan, save)
    if not projections:
        return outputs
    return outputs._replace(output=_project(outputs.output, projections, plan.batch_first))


def _effective(
    weights: list[Tensor], kinds: list[str], chances: Regularisers
) -> tuple[list[Tensor], list[Tensor]]:
    """The weights as the layer uses them, dropped and projected; and the projections."""
    dropped = chances.weight_dropout and chances.training
    if not (dropped or "weight_hr" in kinds):
        return weights, []
    used, projections = [], []
    for start in range(0, len(weights), len(kinds)):
        given = dict(zip(kinds, weights[start : start + len(kinds)], strict=True))
        if dropped:
            given["weight_hh"] = F.dropout(given["weight_hh"], chances.weight_dropout)
        if "weight_hr" in given:  # the recurrence through a projection is one of lower rank
            projections.append(given.pop("weight_hr"))
            given["weight_hh"] = given["weight_hh"] @ projections[-1]
        used.extend(given.values())
    return used, projections


def _project(output: Tensor, projections: list[Tensor], batch_first: bool = False) -> Tensor:
    """Each direction's states through its projection, in the order in which they lie in memory."""
    if batch_first and output.dim() == 3:
        return _project(output.transpose(0, 1), projections).transpose(0, 1)
    states = output.chunk(len(projections), -1)
    return torch.cat([F.linear(h, p) for h, p in zip(states, projections, strict=True)], -1)


def _mask(x: Tensor, shape: tuple[int, ...], chances: Regularisers) -> Tensor | None:
    """One dropout mask for all steps, on the state where it meets the recurrent weights."""
    if not (chances.recurrent_dropout and chances.training):
        return None
    return F.dropout(x.new_ones(shape), chances.recurrent_dropout)


def _zone(
    inputs: Inputs, x: Tensor, shape: tuple[int, int], chances: Regularisers
) -> Tensor | None:
    """The share of the old state that stays: all or nothing in training, its mean afterwards."""
    if not chances.zoneout:
        return None
    time = x.size(0) if inputs.batch_sizes is None else inputs.batch_sizes.numel()
    if chances.training:
        return draw((time, *shape), chances.zoneout, x)
    return x.new_full((1, 1, 1), chances.zoneout).expand(time, *shape)
