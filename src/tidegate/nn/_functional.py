"""One layer in torch operations: differentiable to any order, in both modes, under every transform.

    r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
    z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
    n = tanh(W_in x + b_in + r * (W_hn h + b_hn))     reset="after" the product
    n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)     reset="before" the product
    n = tanh(W_in x + b_in + W_hn h + b_hn)           reset="none"
    h_t = (1 - z) * n + z * h

`h` is `keep_t * h_{t-1}`; where it meets the recurrent weights it is `mask * h`. With zones,
`h_t` becomes `zone_t * h + (1 - zone_t) * h_t`. With layer normalisation each product is
normalised before its bias is added, the gates r and z together, the candidate by itself
(Ba, Kiros & Hinton 2016, equations 22 to 25).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tidegate.nn._layer import (
    GATES,
    Cotangents,
    Direction,
    Gradients,
    Layer,
    Outputs,
    Plan,
    Wanted,
    check_lengths,
    directions,
    hidden_size,
    valid_steps,
)

AUTOGRAD = torch._C.DispatchKey.AutogradFunctionality


def gru_layer(layer: Layer, plan: Plan) -> Outputs:
    """Run a layer step by step, at about ten torch operations a step."""
    with torch.autocast(layer.x.device.type, enabled=False):
        if layer.batch_sizes is not None:
            return _packed(layer, layer.batch_sizes, plan)
        if not torch._C._are_functorch_transforms_active():  # a mapped length cannot be read
            check_lengths(layer)
        return _padded(layer, plan)


def backward(
    layer: Layer,
    plan: Plan,
    d_outputs: Cotangents,
    wanted: Wanted,
    road: Callable[[Layer, Plan], Outputs] | None = None,
) -> Gradients:
    """Gradients of a layer, from those of its results, which may be mapped.

    `road` runs the layer in a way that torch can differentiate; step by step if there is none.
    """
    fixed = [
        t.detach().requires_grad_() if t is not None and w else t
        for t, w in zip(layer[:3], wanted[:3], strict=True)
    ]
    weights = [w.detach().requires_grad_(wanted.weights) for w in layer.weights]
    # Inside an operator autograd is shut out twice over.
    with torch._C._SetExcludeDispatchKeyGuard(AUTOGRAD, False), torch.enable_grad():
        results = (road or gru_layer)(Layer._make((*fixed, *layer[3:-1], weights)), plan)
        pairs = zip(results, d_outputs, strict=True)
        shown, d_shown = zip(*((r, d) for r, d in pairs if d is not None), strict=True)
        asked = [t for t in (*fixed, *weights) if t is not None and t.requires_grad]
        found = iter(torch.autograd.grad(shown, asked, d_shown, materialize_grads=True))
    d_fixed = [next(found) if w else None for w in wanted[:3]]
    return Gradients._make((*d_fixed, list(found)))


def _packed(layer: Layer, batch_sizes: Tensor, plan: Plan) -> Outputs:
    """Lay the packed rows out by time and batch, run, and take them out again."""
    sizes = batch_sizes.tolist()
    valid = torch.arange(sizes[0])[None] < batch_sizes[:, None]
    time, batch = (index.to(layer.x.device) for index in valid.nonzero(as_tuple=True))
    blank = layer.x.new_zeros(len(sizes), sizes[0], layer.x.size(-1))
    padded = layer._replace(
        x=blank.index_put((time, batch), layer.x),
        lengths=valid.sum(0).to(layer.x.device),
        batch_sizes=None,
    )
    output, h_n, gates = _padded(padded, plan)
    return Outputs(output[time, batch], h_n, None if gates is None else gates[:, time, batch])


def _padded(layer: Layer, plan: Plan) -> Outputs:
    results = [
        _direction(layer, plan, d, weights)
        for d, weights in enumerate(directions(layer.weights, plan))
    ]
    outputs, states, gates = zip(*results, strict=True)
    return Outputs(
        by_batch(torch.cat(outputs, -1), plan),
        torch.stack(states),
        by_batch(torch.cat(gates, -1), plan) if plan.gates else None,
    )


def by_batch(result: Tensor, plan: Plan) -> Tensor:
    """Lay a result (..., time, batch, units) out in memory as the plan says."""
    if not plan.batch_first:
        return result
    return result.transpose(-3, -2).contiguous().transpose(-3, -2)


def _direction(
    layer: Layer, plan: Plan, direction: int, weights: Direction
) -> tuple[Tensor, Tensor, Tensor | None]:
    time = layer.x.size(0)
    steps = prepare(layer, direction, weights)
    h, mask = start(layer, direction)
    outputs, history = [h] * time, [h] * time
    for t in reversed(range(time)) if direction else range(time):
        step = Step._make(None if every is None else every[t] for every in steps)
        h, outputs[t], history[t] = advance(plan.reset, weights, mask, h, step)
    if not time:  # nothing, and the state as it came; of the graph, as after any other call
        nothing = steps.candidate
        return nothing, h + nothing.sum(0), nothing.expand(len(GATES[plan.reset]), -1, -1, -1)
    return torch.stack(outputs), h, torch.stack(history, 1) if plan.gates else None


class Step(NamedTuple):
    """What a step, or every step, needs besides the state and the weights."""

    gates: Tensor  # W_i x + b_i for r and z
    candidate: Tensor  # for n
    keep: Tensor | None
    zone: Tensor | None
    valid: Tensor | None  # (batch, 1): before the row's end


def prepare(layer: Layer, direction: int, weights: Direction) -> Step:
    """All steps of one direction at once."""
    x, hidden, lengths = layer.x, hidden_size(layer), layer.lengths
    valid = None if lengths is None else valid_steps(x, lengths)
    if valid is not None:
        x = torch.where(valid, x, 0)
    gates, candidate = _project(x, weights.weight_ih, weights.bias_ih, weights.norm_ih, hidden)
    units = slice(direction * hidden, (direction + 1) * hidden)
    zone = None if layer.zone is None else layer.zone[..., units]
    keep = layer.keep
    if keep is not None and valid is not None:
        keep = torch.where(valid, keep, 1)
    return Step(gates, candidate, keep, zone, valid)


def start(layer: Layer, direction: int) -> tuple[Tensor, Tensor | None]:
    """The initial state of one direction, and its mask."""
    if layer.h_0 is None:
        h = layer.x.new_zeros(layer.x.size(1), hidden_size(layer))
    else:
        h = layer.h_0[direction]
    return h, None if layer.mask is None else layer.mask[direction]


def advance(
    reset: str, weights: Direction, mask: Tensor | None, h: Tensor, step: Step
) -> tuple[Tensor, Tensor, Tensor]:
    """One step: the next state, the output and the gates."""
    kept = h if step.keep is None else step.keep * h
    new, gates = STEPS[reset](step.gates, step.candidate, kept, mask, weights)
    if step.zone is not None:
        new = step.zone * kept + (1 - step.zone) * new
    if step.valid is None:
        return new, new, gates
    output, gates = torch.where(step.valid, new, 0), torch.where(step.valid, gates, 0)
    return torch.where(step.valid, new, h), output, gates


def step(reset: str, weights: Direction, x: Tensor, h: Tensor) -> Tensor:
    """The state (batch, hidden) after one step on `x` (batch, input)."""
    gates, candidate = _project(x, weights.weight_ih, weights.bias_ih, weights.norm_ih, h.size(-1))
    return STEPS[reset](gates, candidate, h, None, weights)[0]


def _project(
    h: Tensor, weight: Tensor, bias: Tensor | None, gain: Tensor | None, hidden: int
) -> tuple[Tensor, Tensor]:
    """The product with stacked weights, split into gates and candidate, each normalised."""
    product = F.linear(h, weight, bias if gain is None else None)
    parts = [product[..., :-hidden], product[..., -hidden:]]
    if gain is not None:
        gains = gain[:-hidden], gain[-hidden:]
        biases = (None, None) if bias is None else (bias[:-hidden], bias[-hidden:])
        parts = [
            F.layer_norm(part, part.shape[-1:], g, b)
            for part, g, b in zip(parts, gains, biases, strict=True)
        ]
    return parts[0], parts[1]


def _after(x_gates: Tensor, x_n: Tensor, h: Tensor, mask: Tensor | None, w: Direction):
    seen = h if mask is None else mask * h
    h_gates, h_n = _project(seen, w.weight_hh, w.bias_hh, w.norm_hh, h.size(-1))
    r, z = torch.sigmoid(x_gates + h_gates).chunk(2, -1)
    n = torch.tanh(x_n + r * h_n)
    return (1 - z) * n + z * h, torch.stack((r, z, n))


def _before(x_gates: Tensor, x_n: Tensor, h: Tensor, mask: Tensor | None, w: Direction):
    seen = h if mask is None else mask * h
    gates, candidate = _halves(w, h.size(-1))
    r, z = torch.sigmoid(x_gates + _product(seen, *gates)).chunk(2, -1)
    n = torch.tanh(x_n + _product(r * seen, *candidate))
    return (1 - z) * n + z * h, torch.stack((r, z, n))


def _none(x_gates: Tensor, x_n: Tensor, h: Tensor, mask: Tensor | None, w: Direction):
    seen = h if mask is None else mask * h
    h_gates, h_n = _project(seen, w.weight_hh, w.bias_hh, w.norm_hh, h.size(-1))
    z = torch.sigmoid(x_gates + h_gates)
    n = torch.tanh(x_n + h_n)
    return (1 - z) * n + z * h, torch.stack((z, n))


def _halves(w: Direction, hidden: int):
    """The recurrent parameters of the gates, and those of the candidate."""
    return _rows(w, slice(-hidden)), _rows(w, slice(-hidden, None))


def _rows(w: Direction, rows: slice) -> tuple[Tensor, Tensor | None, Tensor | None]:
    bias, gain = (None if t is None else t[rows] for t in (w.bias_hh, w.norm_hh))
    return w.weight_hh[rows], bias, gain


def _product(h: Tensor, weight: Tensor, bias: Tensor | None, gain: Tensor | None) -> Tensor:
    if gain is None:
        return F.linear(h, weight, bias)
    return F.layer_norm(F.linear(h, weight), weight.shape[:1], gain, bias)


STEPS = {"after": _after, "before": _before, "none": _none}
