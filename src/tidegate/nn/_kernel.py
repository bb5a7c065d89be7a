"""One layer through the compiled kernels: tensors on the CPU, float32 or float64, no autograd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor

from tidegate import _kernels
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
)
from tidegate.nn._packing import Packed, pack


def runs(layer: Layer) -> bool:
    """Whether the kernels compute this layer."""
    return (
        layer.x.device.type == "cpu"
        and layer.x.dtype in (torch.float32, torch.float64)
        and all(weight.dtype == layer.x.dtype for weight in layer.weights)
    )


def forward(
    layer: Layer, plan: Plan, packed: Packed | None = None, saved: Tensor | None = None
) -> Outputs:
    """Run a layer; `saved`, where given, receives the gates for `backward`."""
    packed = packed or pack(layer, plan, backward=False)
    read = _Read(layer)
    hidden = hidden_size(layer)
    units = plan.directions * hidden
    output = empty_results(layer, plan, (), units)
    gates = empty_results(layer, plan, (len(GATES[plan.reset]),), units) if plan.gates else None
    h_n = layer.x.new_empty(plan.directions, read.batch, hidden)
    _kernels.gru_forward(
        *packed,
        torch.get_num_threads(),
        *read.addresses,
        output.data_ptr(),
        *steps(output),
        h_n.data_ptr(),
        address(saved),
        address(gates),
        0 if gates is None else gates.stride(0),
        *read.zone,
    )
    return Outputs(output, h_n, gates)


def backward(
    layer: Layer,
    plan: Plan,
    output: Tensor,
    d_outputs: Cotangents,
    wanted: Wanted,
    packed: Packed | None = None,
    saved: Tensor | None = None,
) -> Gradients:
    """Gradients of a layer whose `output` is known, from those of its results."""
    packed = packed or pack(layer, plan, backward=True)
    read = _Read(layer)
    output, d_output, d_gates = dense(output), dense(d_outputs.output), dense(d_outputs.gates)
    d_h_n = _contiguous(d_outputs.h_n)
    like = layer.x.new_empty
    state = (plan.directions, read.batch, hidden_size(layer))
    d_x = _like_input(layer, plan) if wanted.x else None
    d_h_0 = like(state) if wanted.h_0 else None
    d_keep = like(state[0], read.time, *state[1:]) if wanted.keep else None
    d_weights = _like_weights(layer, plan) if wanted.weights else Direction._make([None] * 6)
    _kernels.gru_backward(
        *packed,
        torch.get_num_threads(),
        *read.addresses,
        output.data_ptr(),
        *steps(output),
        address(saved),
        address(d_output),
        *steps(d_output),
        address(d_h_n),
        address(d_gates),
        0 if d_gates is None else d_gates.stride(0),
        *steps(d_gates),
        address(d_x),
        *steps(d_x),
        address(d_h_0),
        address(d_keep),
        address(d_weights.weight_ih),
        address(d_weights.weight_hh),
        address(d_weights.bias_ih),
        address(d_weights.bias_hh),
        *read.zone,
        d_norm_ih=address(d_weights.norm_ih),
        d_norm_hh=address(d_weights.norm_hh),
    )
    return Gradients(
        d_x, d_h_0, sum_keep(d_keep, layer.keep), _by_direction(d_weights, plan.directions)
    )


def saved_buffer(layer: Layer, plan: Plan, packed: Packed) -> Tensor:
    """Room for the gates of every valid cell, which `backward` then need not recompute."""
    check_lengths(layer)
    rows = layer.x.numel() // max(1, layer.x.size(-1))
    if layer.batch_sizes is None and layer.lengths is not None:
        rows = int(layer.lengths.sum())
    return gates_buffer(layer.x, plan.directions, _kernels.saved_size(packed[0], rows))


# Elements; what is smaller, the allocator keeps by itself.
_LARGE = 4 << 20


def gates_buffer(like: Tensor, directions: int, size: int) -> Tensor:
    """(directions, size), not filled. New pages of a large one would cost as much as its gates."""
    if directions * size < _LARGE:
        return like.new_empty(directions, size)
    return _kernels.block_tensor(like.dtype == torch.float64, directions, size)


class _Read:
    """A layer's inputs as the kernels read them, each row's numbers side by side.

    It holds what it had to copy for as long as its addresses are in use.
    """

    def __init__(self, layer: Layer) -> None:
        x, h_0, keep, mask, zone, lengths, batch_sizes, _ = layer
        x = dense(x)
        offsets = None
        if batch_sizes is None:
            check_lengths(layer)
            self.time, self.batch = x.size(0), x.size(1)
        else:
            self.time, self.batch = batch_sizes.numel(), int(batch_sizes[0])
            offsets = batch_sizes.cumsum(0) - batch_sizes
            lengths = (batch_sizes[:, None] > torch.arange(self.batch)).sum(0)
        if keep is not None and keep.size(-1) > 1:
            keep = dense(keep)
        hidden = hidden_size(layer)
        for name, units, sizes in (("hx", h_0, (hidden,)), ("keep", keep, (1, hidden))):
            if units is not None and units.size(-1) not in sizes:
                raise RuntimeError(
                    f"weight_hh must have a column for each of the {units.size(-1)} units "
                    f"of {name}, but it has {hidden}"
                )
        h_0, mask, lengths = _contiguous(h_0), _contiguous(mask), _contiguous(lengths)
        by_unit = keep is not None and keep.size(-1) > 1
        self.held = (x, offsets, lengths, keep, mask, h_0, zone)
        self.zone = (address(zone), *_zone_steps(zone))
        self.addresses = (
            self.time,
            self.batch,
            x.data_ptr(),
            *steps(x),
            address(offsets),
            address(lengths),
            address(keep),
            *_keep_steps(keep),
            int(by_unit),
            address(mask),
            address(h_0),
        )


@overload
def dense(tensor: Tensor) -> Tensor: ...
@overload
def dense(tensor: Tensor | None) -> Tensor | None: ...
def dense(tensor):
    return tensor if tensor is None or tensor.stride(-1) == 1 else tensor.contiguous()


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def steps(tensor: Tensor | None) -> tuple[int, int]:
    """Strides of a step and of a row; packed rows have the second alone."""
    if tensor is None:
        return 0, 0
    strides = tensor.stride()
    return (strides[-3] if len(strides) > 2 else 0), strides[-2]


def _keep_steps(keep: Tensor | None) -> tuple[int, int]:
    return (0, 0) if keep is None else (keep.stride(0), keep.stride(1))


def _zone_steps(zone: Tensor | None) -> tuple[int, int, int]:
    return (0, 0, 0) if zone is None else (zone.stride(0), zone.stride(1), zone.stride(2))


def empty_results(layer: Layer, plan: Plan, gates: tuple[int, ...], units: int) -> Tensor:
    """An empty result (gates..., time, batch, units), or (gates..., rows, units) if packed."""
    *lead, _ = layer.x.shape
    if layer.batch_sizes is not None or not plan.batch_first:
        return layer.x.new_empty(*gates, *lead, units)
    # Not a view of a tensor laid out so: autograd allows no writing to a view that a function gave.
    time, batch = lead
    strides = [time * batch * units] * len(gates) + [units, time * units, 1]
    return layer.x.new_empty_strided((*gates, time, batch, units), strides)


def _like_input(layer: Layer, plan: Plan) -> Tensor:
    """Room for the gradient of x; zero where the kernels leave it, past each row's length."""
    blank = empty_results(layer, plan, (), layer.x.size(-1))
    return blank.zero_() if layer.lengths is not None else blank


def _like_weights(layer: Layer, plan: Plan) -> Direction:
    """Room for the gradients of each kind of weights, both directions together."""
    kinds = directions(layer.weights, plan)[0]
    both = () if plan.directions == 1 else (plan.directions,)
    return Direction._make(
        None if kind is None else layer.x.new_empty(*both, *kind.shape) for kind in kinds
    )


def _by_direction(d_weights: Sequence[Tensor | None], directions: int) -> list[Tensor | None]:
    """Gradients in the order of `Layer.weights`."""
    kinds = [kind for kind in d_weights if kind is not None]
    if directions == 1:
        return [*kinds]
    return [
        weight for pair in zip(*(kind.unbind() for kind in kinds), strict=True) for weight in pair
    ]


def sum_keep(d_keep: Tensor | None, keep: Tensor | None) -> Tensor | None:
    """Add up the gradient, one a unit and direction, over what `keep` was shared by."""
    if d_keep is None or keep is None:
        return None
    total = d_keep.sum(0) if d_keep.size(0) > 1 else d_keep[0]
    return total.sum(-1, keepdim=True) if keep.size(-1) == 1 else total
