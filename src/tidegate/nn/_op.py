"""The layer as an operator of torch: what compilers and exporters see in place of a loop.

`torch.ops.tidegate.gru_layer` is opaque, so that a graph holds for any number of steps and rows.
It runs the kernels of the device, torch's own GRU on a GPU without them, and torch operations for
what neither has.
Absent results are empty tensors here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.library import Library

from tidegate.nn import _device, _functional, _kernel, _torchs, _vmap
from tidegate.nn._autograd import FIXED, as_layer, differentiate_backward, saved_tensors
from tidegate.nn._layer import GATES, Cotangents, Layer, Outputs, Plan, Wanted, hidden_size

_TENSORS = (
    "Tensor x, Tensor? h_0, Tensor? keep, Tensor? mask, Tensor? zone, Tensor? lengths, "
    "Tensor? batch_sizes, Tensor[] weights"
)
_PLAN = "str reset, int directions, bool bias, bool norm, bool batch_first, bool gates"
_FIELDS = len(Layer._fields)

library = Library("tidegate", "DEF")
library.define(
    f"gru_layer({_TENSORS}, {_PLAN}) -> (Tensor output, Tensor h_n, Tensor gates)",
    tags=torch.Tag.pt2_compliant_tag,
)
library.define(
    "gru_layer_backward(Tensor output, Tensor? d_output, Tensor? d_h_n, Tensor? d_gates, "
    f"bool[] wanted, {_TENSORS}, {_PLAN}) "
    "-> (Tensor d_x, Tensor d_h_0, Tensor d_keep, Tensor[] d_weights)",
    tags=torch.Tag.pt2_compliant_tag,
)


def gru_layer(layer: Layer, plan: Plan) -> Outputs:
    """Call the operator."""
    output, h_n, gates = torch.ops.tidegate.gru_layer.default(*layer, *plan)
    return Outputs(output, h_n, gates if plan.gates else None)


def _split(args: tuple) -> tuple[Layer, Plan]:
    return Layer(*args[:_FIELDS]), Plan(*args[_FIELDS:])


def _forward(*args) -> tuple[Tensor, Tensor, Tensor]:
    layer, plan = _split(args)
    if _device.runs(layer, plan, training=False):
        output, h_n, gates = _device.forward(layer, plan)
    else:
        output, h_n, gates = _without_kernels(layer, plan)(layer, plan)
    return output, h_n, layer.x.new_empty(0) if gates is None else gates


def _without_kernels(layer: Layer, plan: Plan) -> Callable[[Layer, Plan], Outputs]:
    return (_torchs if _torchs.runs(layer, plan) else _functional).gru_layer


def _forward_fake(*args) -> tuple[Tensor, Tensor, Tensor]:
    layer, plan = _split(args)
    hidden = hidden_size(layer)
    units = plan.directions * hidden
    output = _kernel.empty_results(layer, plan, (), units)
    h_0, packed = layer.h_0, layer.batch_sizes is not None
    batch = h_0.size(1) if packed and h_0 is not None else layer.x.size(1)
    h_n = layer.x.new_empty(plan.directions, batch, hidden)
    if not plan.gates:
        return output, h_n, layer.x.new_empty(0)
    return output, h_n, _kernel.empty_results(layer, plan, (len(GATES[plan.reset]),), units)


def _backward(output, d_output, d_h_n, d_gates, wanted, *args):
    layer, plan = _split(args)
    d_outputs, wanted = Cotangents(d_output, d_h_n, d_gates), Wanted(*wanted)
    if _kernel.runs(layer):
        d_x, *fixed, weights = _kernel.backward(layer, plan, output, d_outputs, wanted)
        if plan.directions > 1:  # written into one tensor; but results may not overlap
            weights = [None if d is None else d.clone() for d in weights]
    else:
        if _device.runs(layer, plan, training=True):
            d_x, *fixed, weights = _device.backward(layer, plan, output, d_outputs, wanted)
        else:
            road = _without_kernels(layer, plan)
            d_x, *fixed, weights = _functional.backward(layer, plan, d_outputs, wanted, road)
        if d_x is not None:
            d_x = _kernel.empty_results(layer, plan, (), d_x.size(-1)).copy_(d_x)
    fixed = [layer.x.new_empty(0) if d is None else d.contiguous() for d in fixed]
    return layer.x.new_empty(0) if d_x is None else d_x, *fixed, weights


def _backward_fake(output, d_output, d_h_n, d_gates, wanted, *args):
    layer, plan = _split(args)
    wanted, none = Wanted(*wanted), layer.x.new_empty(0)
    return (
        _kernel.empty_results(layer, plan, (), layer.x.size(-1)) if wanted.x else none,
        none if layer.h_0 is None or not wanted.h_0 else layer.h_0.new_empty(layer.h_0.shape),
        none if layer.keep is None or not wanted.keep else layer.keep.new_empty(layer.keep.shape),
        [w.new_empty(w.shape) for w in layer.weights] if wanted.weights else [],
    )


def _setup_context(ctx, inputs, output) -> None:
    layer, plan = _split(inputs)
    ctx.plan = plan
    ctx.save_for_backward(output[0], *layer[:FIXED], *layer.weights)
    ctx.set_materialize_grads(False)


def _differentiate(ctx, d_output, d_h_n, d_gates):
    output, *tensors = saved_tensors(ctx)
    layer, plan = as_layer(tuple(tensors)), ctx.plan
    needs = ctx.needs_input_grad
    wanted = Wanted._make((*needs[:3], any(needs[FIXED])))
    d_gates = d_gates if plan.gates else None
    if d_output is d_h_n is d_gates is None:  # only an absent result had a gradient
        return (*(None,) * FIXED, [None] * len(layer.weights), *(None,) * len(plan))
    d_x, d_h_0, d_keep, d_weights = torch.ops.tidegate.gru_layer_backward.default(
        output, d_output, d_h_n, d_gates, wanted, *layer[:FIXED], list(layer.weights), *plan
    )
    return (
        d_x if wanted.x else None,
        d_h_0 if wanted.h_0 else None,
        d_keep if wanted.keep else None,
        *(None,) * 4,
        d_weights if wanted.weights else [None] * len(layer.weights),
        *(None,) * len(plan),
    )


def _setup_context_of_backward(ctx, inputs, output) -> None:
    _, d_output, d_h_n, d_gates, ctx.wanted, *args = inputs
    layer, ctx.plan = _split(tuple(args))
    ctx.save_for_backward(d_output, d_h_n, d_gates, *layer[:FIXED], *layer.weights)
    ctx.set_materialize_grads(False)


def _differentiate_backward(ctx, d_x, d_h_0, d_keep, d_weights):
    fixed = [c if w else None for c, w in zip((d_x, d_h_0, d_keep), ctx.wanted, strict=False)]
    cotangents = (*fixed, *(d_weights if ctx.wanted[3] else ()))
    found = differentiate_backward(ctx.plan, ctx.saved_tensors, cotangents)
    ends = 3 + FIXED
    return None, *found[:3], None, *found[3:ends], found[ends:], *(None,) * len(ctx.plan)


def _vmap_forward(info, in_dims, *args):
    dims, tensors = _flatten(in_dims, args)
    plan = Plan(*args[_FIELDS:])
    return _vmap.forward(_call, info.batch_size, dims, plan, tensors)


def _call(plan: Plan, *tensors: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    layer = as_layer(tensors)
    return gru_layer(layer._replace(weights=list(layer.weights)), plan)


def _flatten(dims, args) -> tuple[list[int | None], list[Tensor | None]]:
    """Put the list of weights, and their mapped axes, after the tensors before it."""
    weights = args[FIXED]
    mapped = dims[FIXED] if isinstance(dims[FIXED], (list, tuple)) else [None] * len(weights)
    return [*dims[:FIXED], *mapped], [*args[:FIXED], *weights]


library.impl("gru_layer", _forward, "CompositeExplicitAutograd")
library.impl("gru_layer_backward", _backward, "CompositeExplicitAutograd")
torch.library.register_fake("tidegate::gru_layer", _forward_fake, lib=library)
torch.library.register_fake("tidegate::gru_layer_backward", _backward_fake, lib=library)
torch.library.register_autograd(
    "tidegate::gru_layer", _differentiate, setup_context=_setup_context, lib=library
)
torch.library.register_autograd(
    "tidegate::gru_layer_backward",
    _differentiate_backward,
    setup_context=_setup_context_of_backward,
    lib=library,
)
torch.library.register_vmap("tidegate::gru_layer", _vmap_forward, lib=library)
