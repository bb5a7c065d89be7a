"""Which way a layer is computed: kernels, torch operations, or the registered operator."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

from tidegate.nn import _device, _functional, _kernel, _onnx, _op, _torchs
from tidegate.nn._autograd import EagerLayer, TransformedLayer
from tidegate.nn._layer import Layer, Outputs, Plan


def gru_layer(layer: Layer, plan: Plan, save: bool = False) -> Outputs:
    """Run a layer; `save` keeps its gates for the backward pass instead of recomputing them."""
    if torch.compiler.is_compiling():
        road = _onnx if torch.onnx.is_in_onnx_export() else _op
        return road.gru_layer(layer, plan)
    if not _in_plain_sight(layer):
        return _op.gru_layer(layer, plan)
    training = torch.is_grad_enabled() and _needs_gradient(layer)
    if forward_ad._current_level >= 0:
        return _functional.gru_layer(layer, plan)
    transformed = torch._C._are_functorch_transforms_active()
    if not _device.runs(layer, plan, training):
        torchs = not transformed and _torchs.runs(layer, plan)
        return (_torchs if torchs else _functional).gru_layer(layer, plan)
    if transformed:
        return Outputs(*TransformedLayer.apply(plan, *layer[:-1], *layer.weights))
    if not training:
        return _device.forward(layer, plan)
    if not _kernel.runs(layer):  # on a GPU only the outputs are kept
        return Outputs(*TransformedLayer.apply(plan, *layer[:-1], *layer.weights))
    return Outputs(*EagerLayer.apply(plan, save, *layer[:-1], *layer.weights))


def _in_plain_sight(layer: Layer) -> bool:
    """Whether the tensors have addresses: no tracing, no tensor subclass, no meta device."""
    if torch._C._len_torch_dispatch_stack() or layer.x.is_meta or torch.jit.is_tracing():
        return False
    return _PLAIN.issuperset(map(type, layer[:-1])) and _PLAIN.issuperset(map(type, layer.weights))


_PLAIN = frozenset((torch.Tensor, torch.nn.Parameter, type(None)))


def _needs_gradient(layer: Layer) -> bool:
    return any(t is not None and t.requires_grad for t in (*layer[:3], *layer.weights))
