"""One layer as ONNX has it: the node `GRU` where it can say what we do, else a `Scan`.

`torch.onnx.export(..., dynamo=True)` takes the operator apart with this; batch and time stay free.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._higher_order_ops import scan

from tidegate.nn import _functional
from tidegate.nn._layer import Direction, Layer, Outputs, Plan, directions, hidden_size, valid_steps

OPSET = 14
SHUT_OPEN = 100.0  # its sigmoid is one: the reset gate of a GRU that has none


def gru_layer(layer: Layer, plan: Plan) -> Outputs:
    """A layer in operations that the exporter knows."""
    if layer.batch_sizes is not None:
        raise NotImplementedError("ONNX has no packed sequences: give lengths= instead")
    # Detached: an exported graph has no gradients, and torch's scan stumbles over their sizes.
    layer = Layer._make((*(t if t is None else t.detach() for t in layer[:-1]), layer.weights))
    weights = directions([w.detach() for w in layer.weights], plan)
    if layer.keep is None and layer.mask is None and layer.zone is None and not plan.norm:
        output, h_n = _node(layer, plan, weights)
    else:
        output, h_n = _scans(layer, plan, weights)
    gates = _gates(layer, plan, weights, output) if plan.gates else None
    return Outputs(output, h_n, gates)


def _node(layer: Layer, plan: Plan, weights: list[Direction]) -> tuple[Tensor, Tensor]:
    time, batch, _ = layer.x.shape
    hidden, count = hidden_size(layer), plan.directions
    # ONNX Runtime refuses a length of zero: such rows run one step, which is then taken back.
    lengths = None if layer.lengths is None else layer.lengths.clamp(min=1).to(torch.int32)
    output, h_n = torch.onnx.ops.symbolic_multi_out(
        "GRU",
        (
            layer.x,
            torch.stack([_matrix(w.weight_ih, plan, hidden) for w in weights]),
            torch.stack([_matrix(w.weight_hh, plan, hidden) for w in weights]),
            torch.stack([_biases(w, plan, hidden) for w in weights]),
            lengths,
            layer.h_0,
        ),
        {
            "hidden_size": hidden,
            "direction": "bidirectional" if count == 2 else "forward",
            "linear_before_reset": 0 if plan.reset == "before" else 1,
        },
        dtypes=(layer.x.dtype, layer.x.dtype),
        shapes=((time, count, batch, hidden), (count, batch, hidden)),
        version=OPSET,
    )
    output = output.transpose(1, 2).reshape(time, batch, count * hidden)
    if layer.lengths is None:
        return output, h_n
    valid = valid_steps(layer.x, layer.lengths)
    h_0 = torch.zeros_like(h_n) if layer.h_0 is None else layer.h_0
    return torch.where(valid, output, 0), torch.where((layer.lengths > 0)[:, None], h_n, h_0)


def _matrix(weight: Tensor, plan: Plan, hidden: int) -> Tensor:
    """Gates in the order of ONNX: z, r, n."""
    if plan.reset == "none":
        z, n = weight.split(hidden)
        r = torch.zeros_like(z)
    else:
        r, z, n = weight.split(hidden)
    return torch.cat((z, r, n))


def _biases(weights: Direction, plan: Plan, hidden: int) -> Tensor:
    gates = weights.weight_ih.new_zeros(3 * hidden)
    both = (weights.bias_ih, weights.bias_hh)
    input, recurrent = (gates if b is None else _matrix(b, plan, hidden) for b in both)
    if plan.reset == "none":
        opened = torch.full_like(gates[:hidden], SHUT_OPEN)
        input = torch.cat((input[:hidden], opened, input[2 * hidden :]))
    return torch.cat((input, recurrent))


def _scans(layer: Layer, plan: Plan, weights: list[Direction]) -> tuple[Tensor, Tensor]:
    results = [_scan(layer, plan, d, w) for d, w in enumerate(weights)]
    outputs, states = zip(*results, strict=True)
    return torch.cat(outputs, -1), torch.stack(states)


def _scan(layer: Layer, plan: Plan, direction: int, weights: Direction) -> tuple[Tensor, Tensor]:
    steps = _functional.prepare(layer, direction, weights)
    h_0, mask = _functional.start(layer, direction)
    present = [field for field, every in steps._asdict().items() if every is not None]

    def advance(h: Tensor, each: list[Tensor]) -> tuple[Tensor, Tensor]:
        given = dict(zip(present, each, strict=True))
        step = _functional.Step._make(given.get(field) for field in steps._fields)
        h, output, _ = _functional.advance(plan.reset, weights, mask, h, step)
        return h, output.clone()

    every = [getattr(steps, field) for field in present]
    # A copy: torch's scan loses its way in a view that begins at a symbolic place.
    h_n, output = scan(advance, h_0.clone(), every, reverse=bool(direction))
    return output, h_n


def _gates(layer: Layer, plan: Plan, weights: list[Direction], output: Tensor) -> Tensor:
    """The gates of every step from the states around it, all at once."""
    seen = [
        _gates_of(layer, plan, d, w, output.chunk(plan.directions, -1)[d])
        for d, w in enumerate(weights)
    ]
    return torch.cat(seen, -1)


def _gates_of(
    layer: Layer, plan: Plan, direction: int, weights: Direction, output: Tensor
) -> Tensor:
    steps = _functional.prepare(layer, direction, weights)
    h_0, mask = _functional.start(layer, direction)
    if direction:
        before = torch.cat((output[1:], h_0[None]))
        if layer.lengths is not None:
            time = torch.arange(output.size(0), device=output.device)
            before = torch.where((time[:, None] == layer.lengths - 1)[..., None], h_0, before)
    else:
        before = torch.cat((h_0[None], output[:-1]))
    return _functional.advance(plan.reset, weights, mask, before, steps)[2]
