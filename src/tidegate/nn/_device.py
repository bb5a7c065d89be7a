"""A layer through the kernels of the device it lies on: the CPU's, or those for a GPU.

What a GPU turns out not to run is computed in torch operations, and is torch's from then on.
"""

from __future__ import annotations

from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor  # of `is_grads_batched`

from tidegate.nn import _functional, _kernel, gpu
from tidegate.nn._layer import Cotangents, Gradients, Layer, Outputs, Plan, Wanted


def runs(layer: Layer, plan: Plan, training: bool) -> bool:
    """Whether there are kernels for this layer."""
    return _kernel.runs(layer) or gpu.runs(layer, plan, training)


def forward(layer: Layer, plan: Plan) -> Outputs:
    """Run a layer that there are kernels for."""
    if _kernel.runs(layer):
        return _kernel.forward(layer, plan)
    try:
        return gpu.forward(layer, plan)
    except gpu.Unusable as reason:
        gpu.give_up(layer.x.device, gpu.build_of(layer, plan), reason)
        return _functional.gru_layer(layer, plan)


def backward(
    layer: Layer, plan: Plan, output: Tensor, d_outputs: Cotangents, wanted: Wanted
) -> Gradients:
    """Gradients of a layer that there are kernels for."""
    if _kernel.runs(layer):
        return _kernel.backward(layer, plan, output, d_outputs, wanted)
    batched = any(d is not None and is_legacy_batchedtensor(d) for d in d_outputs)
    if d_outputs.gates is not None or batched:
        return _functional.backward(layer, plan, d_outputs, wanted)
    try:
        return gpu.backward(layer, plan, output, d_outputs, wanted)
    except gpu.Unusable as reason:
        gpu.give_up(layer.x.device, gpu.build_of(layer, plan), reason)
        return _functional.backward(layer, plan, d_outputs, wanted)
