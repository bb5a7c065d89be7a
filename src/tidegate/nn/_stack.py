"""Layers upon layers: what each reads, the names and shapes of its parameters, and the run."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tidegate.nn._layer import GATES, Layer, Plan
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
    weights: list[list[dict[str, Tensor]]],
    plan: Plan,
    stack: str,
    chances: Regularisers,
    save: bool,
) -> StackOutputs:
    """Run every layer; `weights` are by layer, direction and name."""
    below, states, gates = inputs.x, [], []
    for index, of_layer in enumerate(weights):
        top = index == len(weights) - 1
        # Only the top layer's results are seen; those below are time first, as torch's, so that
        # dropout draws the same numbers in the same places.
        own = plan if top else plan._replace(batch_first=False)
        output, h_n, seen = _run_layer(inputs, index, below, of_layer, own, chances, save)
        if not top and chances.dropout:
            output = F.dropout(output, chances.dropout, chances.training)
        if stack == "residual" and output.size(-1) == below.size(-1):
            output = output + below
        below = torch.cat((below, output), -1) if stack == "dense" and not top else output
        states.append(h_n)
        gates.append(seen)
    return StackOutputs(below, states, gates)


def _run_layer(inputs, index, x, weights, plan, chances, save):
    flat = [tensor for direction in weights for tensor in _flat(direction, chances)]
    layer = Layer(
        x=x,
        h_0=inputs.states[index],
        keep=inputs.keep,
        mask=_mask(inputs, x, weights, chances),
        zone=_zone(inputs, x, weights, chances),
        lengths=inputs.lengths,
        batch_sizes=inputs.batch_sizes,
        weights=flat,
    )
    output, h_n, gates = gru_layer(layer, plan, save)
    if "weight_hr" in weights[0]:
        hidden = h_n.size(-1)
        halves = [
            F.linear(output[..., d * hidden : (d + 1) * hidden], direction["weight_hr"])
            for d, direction in enumerate(weights)
        ]
        output = torch.cat(halves, -1) if len(halves) > 1 else halves[0]
    return output, h_n, gates


def _flat(direction: dict[str, Tensor], chances: Regularisers) -> list[Tensor]:
    """Parameters of one direction in the order of `Plan`, dropped and projected."""
    given = dict(direction)
    if chances.weight_dropout and chances.training:
        given["weight_hh"] = F.dropout(given["weight_hh"], chances.weight_dropout)
    if "weight_hr" in given:  # the recurrence through a projection is one of lower rank
        given["weight_hh"] = given["weight_hh"] @ given.pop("weight_hr")
    return list(given.values())


def _mask(inputs: Inputs, x: Tensor, weights, chances: Regularisers) -> Tensor | None:
    """One dropout mask for all steps, on the state where it meets the recurrent weights."""
    if not (chances.recurrent_dropout and chances.training):
        return None
    shape = len(weights), _batch(inputs, x), _hidden(weights)
    return F.dropout(x.new_ones(shape), chances.recurrent_dropout)


def _zone(inputs: Inputs, x: Tensor, weights, chances: Regularisers) -> Tensor | None:
    """The share of the old state that stays: all or nothing in training, its mean afterwards."""
    if not chances.zoneout:
        return None
    time = x.size(0) if inputs.batch_sizes is None else inputs.batch_sizes.numel()
    shape = time, _batch(inputs, x), len(weights) * _hidden(weights)
    if chances.training:
        return torch.bernoulli(x.new_full(shape, chances.zoneout))
    return x.new_full((1, 1, 1), chances.zoneout).expand(shape)


def _batch(inputs: Inputs, x: Tensor) -> int:
    return x.size(1) if inputs.batch_sizes is None else inputs.states[0].size(1)


def _hidden(weights: list[dict[str, Tensor]]) -> int:
    last = weights[0].get("weight_hr", weights[0]["weight_hh"])
    return last.size(1)
