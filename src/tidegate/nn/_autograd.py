"""The kernels under autograd: the layer, its backward as a function of its own, and beyond that
torch operations.

`forward -> backward -> double backward`: the second arrow is `LayerBackward`, itself
differentiable, so that asking for a graph of the gradients costs nothing until a second derivative
is taken; only that one is computed step by step in torch operations (`_functional.py`).

Arguments are flat, as autograd counts them: plan, the seven tensors of a `Layer`, then its weights.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor  # of `is_grads_batched`
from torch.autograd import Function

from tidegate.nn import _device, _functional, _kernel, _vmap
from tidegate.nn._layer import Cotangents, Gradients, Layer, Plan, Wanted
from tidegate.nn._packing import pack

FIXED = 7  # tensors of a layer before its weights


def saved_tensors(ctx) -> tuple:
    """What was saved for a backward pass, or a sentence on what became of it."""
    try:
        return ctx.saved_tensors
    except RuntimeError as error:
        if "inplace" not in str(error):
            raise
        raise RuntimeError(f"{_MODIFIED}: modify a copy, as in output = output * 2") from error


def saved_or_modified(ctx) -> tuple:
    """As `saved_tensors`, but the first, the output, is None where it was modified in place.

    torch's GRU keeps copies of its states, and allows that; ours computes them again.
    """
    try:
        return ctx.saved_tensors
    except RuntimeError as error:
        if "inplace" not in str(error):
            raise
        try:
            return None, *(saved.unpack() for saved in ctx._raw_saved_tensors[1:])
        except (RuntimeError, AttributeError):  # one of the others; or a torch that tells only all
            raise RuntimeError(f"{_MODIFIED}: modify a copy, as in x = x * 2") from error


_MODIFIED = (
    "A GRU's gradients are computed from its input, weights and output, but one of them "
    "was modified in place after the call"
)


def as_layer(tensors: tuple[Tensor | None, ...]) -> Layer:
    """Undo the flattening of a layer's tensors."""
    return Layer._make((*tensors[:FIXED], tensors[FIXED:]))


class EagerLayer(Function):
    """A layer outside every transform; it keeps the gates and the packed weights, or neither."""

    @staticmethod
    def forward(ctx, plan: Plan, save: bool, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the kernel."""
        layer = as_layer(tensors)
        ctx.packed = pack(layer, plan, backward=True) if save else None
        saved = _kernel.saved_buffer(layer, plan, ctx.packed) if ctx.packed else None
        outputs = _kernel.forward(layer, plan, ctx.packed, saved)
        ctx.plan = plan
        ctx.save_for_backward(outputs.output, saved, *tensors)
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    def backward(ctx, *d_outputs: Tensor | None):
        """Run the backward kernel, or, where a graph of it is wanted, `LayerBackward`."""
        output, saved, *tensors = saved_or_modified(ctx)
        if output is None:
            plan = ctx.plan._replace(gates=False)
            output = _kernel.forward(as_layer(tuple(tensors)), plan, ctx.packed).output
        needs = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            return None, None, *backward_graph(ctx.plan, needs, output, d_outputs, tensors)
        layer, wanted = as_layer(tuple(tensors)), wanted_of(needs)
        if any(d is not None and is_legacy_batchedtensor(d) for d in d_outputs):
            gradients = _functional.backward(layer, ctx.plan, Cotangents._make(d_outputs), wanted)
        else:
            args = (output, Cotangents._make(d_outputs), wanted, ctx.packed, saved)
            gradients = _kernel.backward(layer, ctx.plan, *args)
        return None, None, *_flat(gradients, needs)


class TransformedLayer(Function):
    """A layer under `torch.func`'s transforms."""

    @staticmethod
    def forward(plan: Plan, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the kernel."""
        return tuple(_device.forward(as_layer(tensors), plan))

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        """Keep what backward needs: the inputs and the states."""
        ctx.plan = inputs[0]
        ctx.save_for_backward(output[0], *inputs[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, *d_outputs: Tensor | None):
        """Run `LayerBackward`."""
        output, *tensors = saved_tensors(ctx)
        return None, *backward_graph(ctx.plan, ctx.needs_input_grad[1:], output, d_outputs, tensors)

    @staticmethod
    def vmap(info, in_dims, *args):
        """Fold the mapped axis into the batch, or loop over it where weights are mapped."""
        plan, *tensors = args
        return _vmap.forward(TransformedLayer.apply, info.batch_size, in_dims[1:], plan, tensors)


class LayerBackward(Function):
    """The gradients of a layer, as a function that can be differentiated again."""

    @staticmethod
    def forward(plan: Plan, wanted: Wanted, output: Tensor, *rest: Tensor | None):
        """Run the backward kernel; `rest` is the gradients of the outputs, then the layer."""
        layer = as_layer(rest[3:])
        gradients = _device.backward(layer, plan, output, Cotangents._make(rest[:3]), wanted)
        return gradients.x, gradients.h_0, gradients.keep, *gradients.weights

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        """Keep the gradients of the outputs and the layer; `output` is a function of the layer."""
        ctx.plan, ctx.wanted = inputs[:2]
        ctx.save_for_backward(*inputs[3:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, *cotangents: Tensor | None):
        """Differentiate the layer twice in torch operations."""
        found = differentiate_backward(ctx.plan, ctx.saved_tensors, cotangents)
        return None, None, None, *found

    @staticmethod
    def vmap(info, in_dims, *args):
        """As `TransformedLayer.vmap`."""
        plan, wanted, *tensors = args
        apply, size = LayerBackward.apply, info.batch_size
        return _vmap.backward(apply, size, in_dims[2:], plan, wanted, tensors)


def wanted_of(needs: tuple[bool, ...]) -> Wanted:
    return Wanted(needs[0], needs[1], needs[2], any(needs[FIXED:]))


def _flat(gradients: Gradients, needs: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    """Gradients as autograd wants them: one place for each tensor of the layer."""
    weights = gradients.weights or [None] * (len(needs) - FIXED)
    return gradients.x, gradients.h_0, gradients.keep, None, None, None, None, *weights


def backward_graph(
    plan: Plan, needs, output: Tensor, d_outputs, tensors
) -> tuple[Tensor | None, ...]:
    """The gradients of a layer, one for each of its tensors, as a function of all of them."""
    if all(d is None for d in d_outputs):
        return (None,) * len(needs)
    d_x, d_h_0, d_keep, *d_weights = LayerBackward.apply(
        plan, wanted_of(needs), output, *d_outputs, *tensors
    )
    return _flat(Gradients(d_x, d_h_0, d_keep, d_weights), needs)


def differentiate_backward(
    plan: Plan, tensors: tuple[Tensor | None, ...], cotangents: tuple[Tensor | None, ...]
) -> list[Tensor | None]:
    """Pull cotangents of (d_x, d_h_0, d_keep, *d_weights) back to what they were computed from.

    `tensors` are d_output, d_h_n, d_gates and those of the layer; so is what comes back.
    """
    differentiable = [i for i, t in enumerate(tensors) if t is not None and t.is_floating_point()]
    targets = [3, 4, 5, *range(3 + FIXED, len(tensors))]
    asked = [(i, c) for i, c in zip(targets, cotangents, strict=False) if c is not None]
    if not asked:
        return [None] * len(tensors)

    def first_gradients(*values: Tensor) -> tuple[Tensor, ...]:
        given = list(tensors)
        for i, value in zip(differentiable, values, strict=True):
            given[i] = value

        def outputs(*wanted: Tensor) -> list[Tensor | None]:
            layer = list(given)
            for (i, _), value in zip(asked, wanted, strict=True):
                layer[i] = value
            results = _functional.gru_layer(as_layer(tuple(layer[3:])), plan)
            pairs = zip(results, given[:3], strict=True)
            return [result for result, d_result in pairs if d_result is not None]

        pull = torch.func.vjp(outputs, *(given[i] for i, _ in asked))[1]
        return pull([d for d in given[:3] if d is not None])

    pull = torch.func.vjp(first_gradients, *(tensors[i] for i in differentiable))[1]
    found = dict(zip(differentiable, pull(tuple(c for _, c in asked)), strict=True))
    return [found.get(i) for i in range(len(tensors))]
